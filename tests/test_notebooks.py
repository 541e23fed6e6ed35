"""What a chapter's source must keep to for its page to be read without scrolling sideways."""

import tomllib
from pathlib import Path

import jupytext
import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
WIDTH = tomllib.loads((NOTEBOOKS / "ruff.toml").read_text())["line-length"]


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.py")), ids=lambda path: path.stem)
def test_no_line_of_code_is_cut_off(path):
    cells = jupytext.read(path).cells
    lines = [line for cell in cells if cell.cell_type == "code" for line in cell.source.splitlines()]
    assert lines
    assert not [line for line in lines if len(line) > WIDTH]
