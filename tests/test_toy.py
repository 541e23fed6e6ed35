"""A method of another package, of one file, goes wherever those of the book go."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

TESTS = Path(__file__).parent
HASTY = {
    "pitches.highest": 62, "rendering.loudness": ["M"], "evaluation.chords": 2, "evaluation.draws": 20,
    "nmf.iterations": 5, "note_flows.epochs": 1, "note_flows.steps": 1, "note_flows.hidden": [8],
    "conditional_flow.epochs": 1, "conditional_flow.steps": 1, "conditional_flow.hidden": [8],
    "dds1.iterations": 2, "dds2.iterations": 2, "dds3.iterations": 2, "one_code.iterations": 2,
    "complexity.doublings": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The toy, installed as any package is, into a folder of its own; the environment that finds it."""
    folder = tmp_path_factory.mktemp("toy")
    shutil.copytree(TESTS / "toy", folder / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", folder / "site", folder / "source"], check=True, capture_output=True)
    paths = [str(folder / "site"), str(TESTS), str(TESTS.parent), *filter(None, sys.path)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "MPLBACKEND": "agg", "OMP_NUM_THREADS": "2"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


def run(environment, *command):
    found = subprocess.run([sys.executable, *map(str, command)], env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_it_is_one_short_file():
    assert len((TESTS / "toy" / "means.py").read_text().splitlines()) <= 60


SHOWN = """
import sys
from itertools import product

import matplotlib.pyplot as plt
import pandas as pd
import torch

from benchmarks import methods
from ddslib.config import load_profile
from ddslib.costs import growth
from ddslib.pages import comparison as pages
from ddslib.runs.sweeps import Run, evaluate_all
from ddslib.runs.workspace import Workspace
from method_checks import CHECKS
from ddslib.methods.registry import registered

if __name__ == "__main__":
    toy, folder = registered()["means"], sys.argv[1]
    for check in CHECKS:
        check(toy)
    workspace = Workspace(load_profile("smoke", json.loads(sys.argv[2])), folder, device="cpu")

    comparison = workspace.comparison()
    rows = pd.DataFrame(evaluate_all([Run(workspace, e) for e in comparison]))
    assert set(rows.method) == {"nmf", "dds1", "dds2", "dds3", "one_code", "means"}
    own = rows[rows.method == "means"]
    assert list(own.instrument) == list(workspace.instruments.test) and own.psa.between(0.2, 1).all()
    assert (own.parameters == 3 * 256).all() and (own.iterations == 50).all()

    estimates = {}
    for e in comparison:
        found = pages.bounds(workspace.bootstrap([e]))
        row = pd.Series(workspace.evaluate(e))
        estimates[e.method, e.instrument] = found.assign(mean=row[found.index].astype(float))
    shown = []
    plt.show = lambda: shown.append([label.get_text() for label in plt.gcf().axes[0].get_xticklabels()])
    pages.by_method(pd.concat(estimates), workspace.instruments.test)
    assert shown == [["NMF", "DDS-1", "DDS-2", "DDS-3", "one code", "Means"]]
    assert "Means" in pages.table(pd.concat(estimates), workspace.instruments.test[0]).index

    planned = {factor for method, factor, _, _ in growth.points(workspace.profile.complexity) if method is toy}
    assert planned == set("TKN")
    device, sizes = torch.device("cpu"), workspace.profile.complexity.smallest
    assert growth.measure(toy, sizes, device)["X_hat"].operations == 2 * sizes.K * sizes.N * sizes.T

    smoke = methods.Size("smoke", load_profile("smoke"), 120, 4000)
    (case,) = [case for case in methods.cases(smoke, device) if case.name == "Means iteration"]
    row, _ = methods.measure(case, device)
    assert row["ms"] > 0 and row["operations"] == 2 * (2 * 256 * 12 * 120)
    print("done")
"""


def test_it_is_checked_compared_drawn_and_measured_like_the_others(installed, folder, tmp_path):
    script = tmp_path / "shown.py"
    script.write_text("import json" + SHOWN)
    assert run(installed, script, folder, json.dumps(HASTY)) == "done\n"


def test_the_command_line_evaluates_and_sweeps_it(installed, folder, tmp_path):
    settings = [f"--set={key}={json.dumps(value)}" for key, value in HASTY.items()]
    common = ["--profile", "smoke", "--work", folder, "--device", "cpu", *settings]
    ddslib = ["-m", "ddslib.cli"]
    row = json.loads(run(installed, *ddslib, "evaluate", "--method", "means", *common))
    assert (row["method"], row["iterations"], row["seed"]) == ("means", 50, None)
    grid = tmp_path / "grid.csv"
    grid.write_text("method,means.iterations\nmeans,7\nmeans,\nnmf,\n")
    for stage in ("data", "flows", "searches", "rows"):
        run(installed, *ddslib, "sweep", grid, "--stage", stage, "--part", "1/1", *common)
    run(installed, *ddslib, "collect", grid, "--output", tmp_path / "table.csv", *common)
    table = pd.read_csv(tmp_path / "table.csv")
    assert list(zip(table.method, table.iterations, strict=True)) == [("means", 7), ("means", 50), ("nmf", 5)]
