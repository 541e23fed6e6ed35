"""What an installed ddslib brings along and needs."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from zipfile import ZipFile

import pytest

REPOSITORY = Path(__file__).parent.parent
LIBRARY = REPOSITORY / "ddslib"


def imported(path: Path) -> set[str]:
    """The packages that a module imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module)
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names


def test_what_the_library_imports_is_declared_and_the_other_way_round():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    declared = {requirement.partition(">")[0].lower() for requirement in project["dependencies"]}
    modules = set().union(*map(imported, LIBRARY.rglob("*.py")))
    packages = packages_distributions()
    assert {packages[module][0].lower() for module in modules} == declared


def test_a_wheel_holds_every_file_of_the_library(tmp_path):
    source = tmp_path / "source"  # a copy, since what an earlier build has left beside it would go into the wheel
    shutil.copytree(LIBRARY, source / "ddslib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", tmp_path, source], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("ddslib-*.whl")
    held = {name for name in ZipFile(wheel).namelist() if name.startswith("ddslib/")}
    files = {path for path in LIBRARY.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert held == {str(path.relative_to(REPOSITORY)) for path in files}
    assert "ddslib/profiles/smoke.yaml" in held


def test_threads_that_wait_do_not_spin():
    """What the library of torch's threads says of itself, wherever a search may run."""
    search = "from ddslib.search.search import decompose; import torch; torch.ones(9)"
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    told = subprocess.run(
        [sys.executable, "-c", search], env=environment | {"OMP_DISPLAY_ENV": "true"},
        capture_output=True, text=True, check=True, cwd=REPOSITORY,
    )  # fmt: skip
    policies = re.findall(r"OMP_WAIT_POLICY = '(\w+)'", told.stderr)
    assert policies and set(policies) == {"PASSIVE"}


@pytest.mark.parametrize("chapter", sorted((REPOSITORY / "notebooks").glob("*.py")), ids=lambda path: path.stem)
def test_chapters_import_the_library_before_torch(chapter):
    imports = [line for line in chapter.read_text().splitlines() if re.match(r"(import|from) (torch|ddslib)\b", line)]
    assert imports[0].split()[1].startswith("ddslib")
