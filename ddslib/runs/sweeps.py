"""Many rows: independent experiments side by side, each made once, whatever was interrupted or went wrong.

A `Run` is an experiment in a workspace.  What its row needs is made in three stages, flows, then searches, then
rows, so that no two processes make the same thing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..config import InputError
from ..flows.work import training
from ..machine.device import Policy, threads
from ..machine.processes import in_processes, progress
from ..methods.registry import find
from .experiment import Experiment
from .searches import NeededFlow
from .workspace import Workspace

STAGES = ("flows", "searches", "rows")
CHORD = 20  # frames, about; enough to tell which searches are long


class Run(NamedTuple):
    """One row to be made."""

    workspace: Workspace
    experiment: Experiment


@dataclass(frozen=True)
class Task:
    """One file, and how it is made."""

    path: Path
    make: partial
    policy: Policy  # of the device that it runs on
    effort: float = 0.0  # to compare with others of its stage
    shares_cores: bool = False  # whether it gains by more threads than one

    def __call__(self):
        """Make the file where it is missing."""
        with threads(self.threads(tasks=1)):
            if not self.path.exists():
                self.make()

    def threads(self, tasks: int) -> int:
        """How many it has beside others of so many in all.

        Cores are used better by tasks side by side than by the threads of one.  So trainings share the cores among
        them, and a search has one thread wherever it runs, so that times can be compared.  A GPU does one thing after
        the other.
        """
        cores = torch.get_num_threads()
        if not self.policy.side_by_side:
            return cores
        return max(1, cores // tasks) if self.shares_cores else 1


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


def _due(tasks, stage, stages):
    """A run's tasks of a stage; while others wait for their flows, a run that has its own may search."""
    ready = all(task.path.exists() for task in tasks["flows"])
    return tasks["searches"] if ready and stage == "flows" and "searches" in stages else tasks[stage]


def _tasks(run):
    """What the run's row is made of, by stage; renders the chords and prepares the frames on the way."""
    space, experiment = run
    return {
        "flows": [
            Task(path, partial(space.flow, *needed), space.policy, _training_effort(space, needed), shares_cores=True)
            for path, needed in flows(run).items()
        ],
        "searches": [
            Task(space.fit_path(e), partial(space.decomposition, e), space.policy, _search_effort(space, e))
            for e in _searches(run)
        ],
        "rows": [Task(space.row_path(experiment), partial(space.evaluate, experiment), space.policy)],
    }


def flows(run: Run) -> dict[Path, NeededFlow]:
    """The flows that the run's row needs: where each is kept, and the arguments of `Workspace.flow`."""
    space = run.workspace
    needed = filter(None, map(space.flow_of, _searches(run)))
    return {space.flow_path(*arguments): arguments for arguments in needed}


def _training_effort(space, needed):
    """Operations of a training; those of a stack take longer, but only by a factor that all stacks have."""
    return training(space.profile, needed.kind, len(space.frames(needed.without).values)).operations


def _search_effort(space, experiment):
    """Operations of a search."""
    method, samples = find(experiment.method), len(space.frames(experiment.instrument).values)
    frames, settings = CHORD * experiment.chords, space.settings(method.name)
    return method.search_work(space.profile, settings, T=frames, M=samples).operations


def _searches(run):
    """The rehearsal, where there is one, and the experiment itself."""
    space, experiment = run
    return [space.rehearsal(experiment), experiment] if space.profile.evaluation.rehearse else [experiment]


def _make(tasks, stage):
    """Make what is missing, those of most effort first; the errors, by file."""
    missing = sorted((task for task in tasks if not task.path.exists()), key=lambda task: -task.effort)
    errors = {}
    with progress(stage, "file", len(tasks), len(tasks) - len(missing)) as bar:
        for index, error in _outcomes(missing):
            if error is not None:
                errors[missing[index].path] = error
            bar.update()
    return errors


def _outcomes(tasks):
    """The index and the error of each task as it ends."""
    cores, most = torch.get_num_threads(), max((task.threads(len(tasks)) for task in tasks), default=1)
    if most < cores:
        for index, future in in_processes(tasks, cores // most, most):
            yield index, future.exception()
        return
    for index, task in enumerate(tasks):
        try:
            task()
        except Exception as error:  # whatever it is, the others go on
            yield index, error
        else:
            yield index, None
