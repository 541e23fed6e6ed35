"""Grids: CSV files in which each line asks for a row, and the tables that are collected from their rows."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ..config import InputError, parse_value
from .sweeps import Run
from .workspace import Workspace

OF_EXPERIMENT = {
    "method": str, "instrument": str, "polyphony": int, "intensity": str, "chords": int, "seed": int, "root": str
}  # fmt: skip


class GridLine(NamedTuple):
    """A line of a grid: what it says, and the run that it asks for."""

    number: int  # in the file, from 1
    cells: dict[str, Any]
    run: Run | None  # None where the line asks for what cannot be
    error: InputError | None = None


def read_grid(path: Path, workspace: Callable[[Mapping[str, Any]], Workspace]) -> list[GridLine]:
    """Read a CSV file of which every line is a run.

    Columns are `OF_EXPERIMENT`, of which ``method`` has to be there, and keys of the profile such as
    ``dds3.components``; an empty cell leaves it to the profile.  ``workspace(settings)`` gives the workspace
    whose profile has those keys changed.  A line that asks for what cannot be has an error; the others are read.
    Raises `InputError` naming the file if it is no grid.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a grid, a CSV file with a column 'method'")
    try:
        reader = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines())
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not readable as UTF-8 ({error.reason} at byte {error.start})") from error
    if "method" not in (reader.fieldnames or []):
        raise InputError(f"{path}: no column 'method'; expected {', '.join(OF_EXPERIMENT)}, and keys of the profile")
    return [_grid_line(reader.line_num, texts, workspace) for texts in reader]


def _grid_line(number, texts, workspace):
    try:
        cells = dict(_cells(texts))
        space = workspace({key: value for key, value in cells.items() if key not in OF_EXPERIMENT})
        experiment = space.experiment(**{"method": ""} | {key: cells[key] for key in OF_EXPERIMENT if key in cells})
    except InputError as error:
        return GridLine(number, texts, None, error)
    return GridLine(number, cells, Run(space, experiment))


def _cells(texts):
    if None in texts or None in texts.values():
        raise InputError("expected as many cells as there are columns")
    for key, text in texts.items():
        if text:
            yield key, _cell(key, text)


def _cell(key, text):
    if OF_EXPERIMENT.get(key) is int and not text.isdecimal():
        raise InputError(f"{key} is {text!r}, expected a whole number")
    return OF_EXPERIMENT.get(key, parse_value)(text)


def collect(lines: Sequence[GridLine]) -> tuple[pd.DataFrame, list[GridLine]]:
    """The rows that are there, each once and beside the cells that asked for it; and the lines without one.

    A key of the profile that is also a column of rows, such as ``precision``, becomes ``profile.precision``.
    """
    found, missing = {}, []
    for line in lines:
        path = line.run and _row_path(line.run)
        if path is not None and path.exists():
            row = json.loads(path.read_text())
            found.setdefault(path, _told_apart(line.cells, row) | row)
        else:
            missing.append(line)
    return pd.DataFrame(found.values()), missing


def _told_apart(cells, row):
    """The cells of a line, under names that are not those of a row's measures."""
    clashing = row.keys() - OF_EXPERIMENT.keys()
    return {f"profile.{key}" if key in clashing else key: cell for key, cell in cells.items()}


def _row_path(run):
    try:
        return run.workspace.row_path(run.experiment)
    except (InputError, OSError):  # there are no such chords, so there is no row
        return None
