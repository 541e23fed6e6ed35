"""Many rows: independent experiments side by side, each made once, whatever was interrupted or went wrong.

A `Run` is an experiment in a workspace.  What its row needs is made in three stages, flows, then searches, then
rows, so that no two processes make the same thing.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from . import counts
from .config import InputError, parse_value
from .experiment import Experiment, Workspace
from .processes import in_processes, progress

STAGES = ("flows", "searches", "rows")
CHORD = 20  # frames, about; enough to tell which searches are long
OF_EXPERIMENT = {
    "method": str, "instrument": str, "polyphony": int, "intensity": str, "chords": int, "seed": int, "root": str
}  # fmt: skip


class Run(NamedTuple):
    """One row to be made."""

    workspace: Workspace
    experiment: Experiment


@dataclass(frozen=True)
class Task:
    """One file, and how it is made."""

    path: Path
    make: partial
    effort: float = 0.0  # to compare with others of its stage

    def __call__(self) -> None:
        """Make the file where it is missing."""
        if not self.path.exists():
            self.make()


def evaluate_all(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The row of every run, in order; flows and searches that are missing are made on all cores.

    Rows themselves are made by this process: that takes less time than to start others.  Raises the first error, once
    all the others have been tried.
    """
    failures = attempt(runs, ("flows", "searches"))
    for error in failures.values():
        raise error
    return [workspace.evaluate(experiment) for workspace, experiment in runs]


def attempt(runs: Sequence[Run], stages: Sequence[str] = STAGES, part: slice = slice(None)) -> dict[Run, Exception]:
    """Make what is missing for the rows of all runs, on all cores; the runs that failed, and why.

    Only `stages` are made, and of every stage only the `part` of what there is to make: other parts may be made
    elsewhere at the same time.  The data, that is recordings and frames, are made in any case, by this process.
    """
    failures, errors = {}, {}
    possible = []
    for run in runs:
        try:
            possible.append((run, _tasks(run)))
        except (InputError, OSError) as error:
            failures[run] = error
    for stage in stages:
        wanted = [(run, _due(tasks, stage, stages)) for run, tasks in possible]
        unique = {task.path: task for _, tasks in wanted for task in tasks}
        hopeful = {task.path for run, tasks in wanted if run not in failures for task in tasks}
        mine = [task for task in list(unique.values())[part] if task.path in hopeful]
        errors |= _make(mine, stage)
        for run, tasks in wanted:
            wrong = [errors[task.path] for task in tasks if task.path in errors]
            if wrong:
                failures.setdefault(run, wrong[0])
    return failures


def _due(tasks: dict[str, list[Task]], stage: str, stages: Sequence[str]) -> list[Task]:
    """A run's tasks of a stage; while others wait for their flows, a run that has its own may search."""
    ready = all(task.path.exists() for task in tasks["flows"])
    return tasks["searches"] if ready and stage == "flows" and "searches" in stages else tasks[stage]


def _tasks(run: Run) -> dict[str, list[Task]]:
    """What the run's row is made of, by stage; renders the chords and prepares the frames on the way."""
    space, experiment = run
    return {
        "flows": [
            Task(path, partial(space.flow, *needed), _training_effort(space, *needed))
            for path, needed in flows(run).items()
        ],
        "searches": [
            Task(space.fit_path(e), partial(space.decomposition, e), _search_effort(space, e)) for e in _searches(run)
        ],
        "rows": [Task(space.row_path(experiment), partial(space.evaluate, experiment))],
    }


def flows(run: Run) -> dict[Path, tuple]:
    """The flows that the run's row needs: where each is kept, and the arguments of `Workspace.flow`."""
    space = run.workspace
    needed = [arguments for e in _searches(run) for arguments in space.flows_of(e)]
    return {space.flow_path(*arguments): arguments for arguments in needed}


def _training_effort(space: Workspace, kind: str, without: str | None, seed: int) -> float:
    """Operations of a training; those of a stack take longer, but only by a factor that all stacks have."""
    epochs = getattr(space.profile, kind).epochs
    return epochs * counts.epoch(space.profile, kind, len(space.frames(without).values)).operations


def _search_effort(space: Workspace, experiment: Experiment) -> float:
    """Operations of a search."""
    samples = len(space.frames(experiment.instrument).values)
    iteration = counts.iteration(space.profile, experiment.method, CHORD * experiment.chords, samples)
    return space.fit(experiment).iterations * iteration.operations


def _searches(run: Run) -> list[Experiment]:
    """The rehearsal, where there is one, and the experiment itself."""
    space, experiment = run
    return [space.rehearsal(experiment), experiment] if space.profile.evaluation.rehearse else [experiment]


def _threads(stage: str, tasks: int) -> int:
    """How many threads each task of a stage has.

    Cores are used better by tasks side by side than by the threads of one task.  A search always has one thread, so
    that times can be compared; trainings share the cores among them.  A GPU does one thing after the other.
    """
    cores = torch.get_num_threads()
    if torch.cuda.is_available():
        return cores
    return max(1, cores // max(1, tasks)) if stage == "flows" else 1


def _make(tasks: Sequence[Task], stage: str) -> dict[Path, Exception]:
    """Make what is missing, those of most effort first; the errors, by file."""
    missing = sorted((task for task in tasks if not task.path.exists()), key=lambda task: -task.effort)
    errors = {}
    with progress(stage, "file", len(tasks), len(tasks) - len(missing)) as bar:
        for index, error in _outcomes(missing, _threads(stage, len(missing))):
            if error is not None:
                errors[missing[index].path] = error
            bar.update()
    return errors


def _outcomes(tasks: Sequence[Task], threads: int) -> Iterator[tuple[int, Exception | None]]:
    """The index and the error of each task as it ends."""
    if threads < torch.get_num_threads():
        for index, future in in_processes(tasks, torch.get_num_threads() // threads, threads):
            yield index, future.exception()
        return
    for index, task in enumerate(tasks):
        try:
            task()
        except Exception as error:  # whatever it is, the others go on
            yield index, error
        else:
            yield index, None


class GridLine(NamedTuple):
    """A line of a grid: what it says, and the run that it asks for."""

    number: int  # in the file, from 1
    cells: dict[str, Any]
    run: Run


def read_grid(path: Path, workspace: Callable[[Mapping[str, Any]], Workspace]) -> list[GridLine]:
    """Read a CSV file of which every line is a run.

    Columns are `OF_EXPERIMENT`, of which ``method`` has to be there, and keys of the profile such as
    ``dds3.components``; an empty cell leaves it to the profile.  ``workspace(settings)`` gives the workspace
    whose profile has those keys changed.  Raises `InputError` naming the file and the line.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a grid, a CSV file with a column 'method'")
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if "method" not in (reader.fieldnames or []):
            raise InputError(
                f"{path}: no column 'method'; expected {', '.join(OF_EXPERIMENT)}, and keys of the profile"
            )
        return [_grid_line(path, reader.line_num, cells, workspace) for cells in reader]


def _grid_line(path: Path, number: int, texts: dict[str, str], workspace: Callable) -> GridLine:
    try:
        cells = dict(_cells(texts))
        space = workspace({key: value for key, value in cells.items() if key not in OF_EXPERIMENT})
        experiment = space.experiment(**{"method": ""} | {key: cells[key] for key in OF_EXPERIMENT if key in cells})
    except InputError as error:
        raise InputError(f"{path}, line {number}: {error}") from error
    return GridLine(number, cells, Run(space, experiment))


def _cells(texts: dict[str, str]) -> Iterator[tuple[str, Any]]:
    if None in texts or None in texts.values():
        raise InputError("expected as many cells as there are columns")
    for key, text in texts.items():
        if text:
            yield key, _cell(key, text)


def _cell(key: str, text: str) -> Any:
    if OF_EXPERIMENT.get(key) is int and not text.isdecimal():
        raise InputError(f"{key} is {text!r}, expected a whole number")
    return OF_EXPERIMENT.get(key, parse_value)(text)


def collect(lines: Sequence[GridLine]) -> tuple[pd.DataFrame, list[GridLine]]:
    """The rows that are there, each once and beside the cells that asked for it; and the lines without one.

    A key of the profile that is also a column of rows, such as ``precision``, becomes ``profile.precision``.
    """
    found, missing = {}, []
    for line in lines:
        path = _row_path(line.run)
        if path is not None and path.exists():
            row = json.loads(path.read_text())
            found.setdefault(path, _told_apart(line.cells, row) | row)
        else:
            missing.append(line)
    return pd.DataFrame(found.values()), missing


def _told_apart(cells: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """The cells of a line, under names that are not those of a row's measures."""
    clashing = row.keys() - OF_EXPERIMENT.keys()
    return {f"profile.{key}" if key in clashing else key: cell for key, cell in cells.items()}


def _row_path(run: Run) -> Path | None:
    try:
        return run.workspace.row_path(run.experiment)
    except (InputError, OSError):  # there are no such chords, so there is no row
        return None
