import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import redirect_stderr
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from ddslib import cli
from ddslib.config import InputError, load_profile
from ddslib.flows import training
from ddslib.machine import processes
from ddslib.machine.device import policy
from ddslib.machine.device import threads as torch_threads
from ddslib.machine.processes import in_processes
from ddslib.methods.registry import registered
from ddslib.runs import grids, sweeps
from ddslib.runs.workspace import Workspace

REPOSITORY = Path(__file__).parent.parent
HASTY = {
    "pitches.highest": 63,
    "rendering.loudness": ["M"],
    "evaluation.chords": 2,
    "nmf.iterations": 20,
    "note_flows.epochs": 1,
    "note_flows.steps": 1,
    "note_flows.hidden": [8],
    "dds2.iterations": 3,
    "dds2.components": 2,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


@pytest.fixture
def make(folder):
    return lambda settings: Workspace(load_profile("smoke", HASTY | dict(settings)), folder, device="cpu")


def write_grid(path: Path, *lines: dict) -> Path:
    columns = list(dict.fromkeys(key for line in lines for key in line))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(lines)
    return path


@pytest.fixture
def grid(tmp_path):
    return write_grid(
        tmp_path / "grid.csv",
        {"method": "nmf", "polyphony": 2},
        {"method": "nmf", "polyphony": 3, "nmf.iterations": 10},
        {"method": "dds2", "dds2.components": 3, "seed": 1},
    )


def test_a_line_of_a_grid_is_an_experiment_in_a_workspace(grid, make):
    first, second, third = grids.read_grid(grid, make)
    assert first.run.experiment == make({}).experiment("nmf")
    assert (second.run.experiment.polyphony, second.run.workspace.settings("nmf").iterations) == (3, 10)
    assert (third.run.experiment.seed, third.run.workspace.settings("dds2").components) == (1, 3)
    assert [line.number for line in (first, second, third)] == [2, 3, 4]
    assert third.cells == {"method": "dds2", "dds2.components": 3, "seed": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"polyphony\n2\n", "bad.csv: no column 'method'"),
        ("method,instrument\nnmf,M\xfcller\n".encode("latin-1"), "bad.csv: not readable as UTF-8"),
        (b"", "bad.csv: no column 'method'"),
    ],
)
def test_what_is_no_grid_is_an_error(text, message, make, tmp_path):
    (tmp_path / "bad.csv").write_bytes(text)
    with pytest.raises(InputError, match=message):
        grids.read_grid(tmp_path / "bad.csv", make)
    with pytest.raises(InputError, match=r"nowhere\.csv: no such file"):
        grids.read_grid(tmp_path / "nowhere.csv", make)


BAD_LINES = {  # columns, cells, and what is said of them
    "key": ("tempo", "3", "tempo: .*[Uu]nexpected"),
    "method": ("method", "magic", "no method 'magic'"),
    "cells": (None, "nmf", "expected as many cells"),
    "value": ("nmf.iterations", "many", "nmf.iterations: "),
    "syntax": ("nmf.iterations", "[1", "'\\[1' is not readable"),
    "date": ("nmf.iterations", "2024-01-01", "expected numbers, texts"),
    "no method": ("method", "", "no method ''"),
    "text": ("polyphony", "two", "polyphony is 'two', expected a whole number"),
    "polyphony": ("polyphony", "9", "polyphony: .*7"),
    "chords": ("chords", "51", "chords: .*50"),
    "intensity": ("intensity", "loud", "intensity: "),
}


@pytest.mark.parametrize(("key", "cell", "message"), BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_is_named_and_does_not_stop_the_others(key, cell, message, folder, tmp_path, capsys):
    grid, columns = (
        tmp_path / "grid.csv",
        list(dict.fromkeys(filter(None, ["method", key, "nmf.iterations", "polyphony"]))),
    )
    good = {"method": "nmf", "nmf.iterations": 6, "polyphony": 2}
    lines = [good, good | {key: cell}] if key else [good]
    rows = [",".join(str(line.get(column, "")) for column in columns) for line in lines] + ([] if key else [cell])
    grid.write_text("\ufeff" + "\n".join([",".join(columns), *rows]) + "\n")  # with a byte-order mark
    settings = [f"--set={name}={json.dumps(value)}" for name, value in HASTY.items() if "dds" not in name]
    arguments = [str(grid), "--profile", "smoke", "--work", str(folder), "--device", "cpu", *settings]
    assert cli.main(["sweep", *arguments]) == 1
    first, last = capsys.readouterr().err.splitlines()
    assert re.search(f"grid.csv, line 3: .*{message}", first)
    assert "1 of 2 rows failed" in last
    assert cli.main(["collect", *arguments, "--output", str(tmp_path / "table.csv")]) == 1
    assert "1 rows" in capsys.readouterr().out


def test_rows_side_by_side_are_the_rows_one_by_one(grid, make, folder, tmp_path):
    runs = [line.run for line in grids.read_grid(grid, make)]
    with torch_threads(2):
        rows = sweeps.evaluate_all(runs)
    elsewhere = [sweeps.Run(Workspace(run.workspace.profile, tmp_path), run.experiment) for run in runs]
    (tmp_path / "corpus").symlink_to(folder / "corpus")
    with torch_threads(1):
        alone = [space.evaluate(experiment) for space, experiment in elsewhere]
    for row, other in zip(rows, alone, strict=True):
        assert numbers(row) == pytest.approx(numbers(other), rel=1e-9)


def numbers(row: dict) -> dict:
    return {name: value for name, value in row.items() if isinstance(value, float) and name != "seconds"}


def test_what_fails_is_named_and_does_not_stop_the_others(make, tmp_path):
    grid = write_grid(
        tmp_path / "grid.csv",
        {"method": "dds2", "dds2.step_size": 1e39},
        {"method": "nmf", "instrument": "ENSTDkCl"},
        {"method": "nmf", "nmf.iterations": 7},
    )
    lines = grids.read_grid(grid, make)
    with torch_threads(2):  # so that errors come from other processes
        failures = sweeps.attempt([line.run for line in lines])
    assert set(failures) == {lines[0].run, lines[1].run}
    assert "the cost is" in str(failures[lines[0].run])
    assert "no piano ENSTDkCl" in str(failures[lines[1].run])
    table, missing = grids.collect(lines)
    assert list(table["iterations"]) == [7]
    assert missing == lines[:2]
    with pytest.raises(InputError):
        sweeps.evaluate_all([line.run for line in lines])


def test_parts_are_disjoint_and_together_the_whole(make, tmp_path):
    grid = write_grid(tmp_path / "grid.csv", *({"method": "nmf", "nmf.iterations": n} for n in (2, 3, 4, 5)))
    lines = grids.read_grid(grid, make)
    runs = [line.run for line in lines]
    for part, there in (("1/3", {2, 5}), ("2/3", {2, 3, 5}), ("3/3", {2, 3, 4, 5})):
        assert not sweeps.attempt(runs, ["rows"], cli._part(part))
        assert set(grids.collect(lines)[0]["iterations"]) == there


def test_the_table_of_a_grid_holds_each_row_once_beside_what_was_asked_for(make, tmp_path):
    lines = [{"method": "nmf", "nmf.step_size": step} for step in (0.01, 0.02, 0.01)]
    lines = grids.read_grid(write_grid(tmp_path / "grid.csv", *lines), make)
    assert not sweeps.attempt([line.run for line in lines])
    table, missing = grids.collect(lines)
    assert list(table["nmf.step_size"]) == [0.01, 0.02]
    assert table["psa"].between(0, 1).all()
    assert not missing


def _pid() -> int:
    return os.getpid()


def _forever() -> None:
    time.sleep(3600)


def _threads() -> int:
    return torch.get_num_threads()


@pytest.mark.parametrize("threads", [1, 2])
def test_workers_are_other_processes_with_so_many_threads(threads):
    found = dict(in_processes([_pid, _threads], workers=2, threads=threads))
    assert found[0].result() != os.getpid()
    assert found[1].result() == threads


CPU = policy(torch.device("cpu"))
GPU = replace(CPU, records=True, side_by_side=False)


def _tell_threads(path: Path) -> None:
    path.write_text(str(torch.get_num_threads()))


def task(path, own=CPU, **more) -> sweeps.Task:
    return sweeps.Task(path, partial(_tell_threads, path), own, **more)


@pytest.mark.parametrize(("trains", "own", "tasks", "expected"), [
    (True, CPU, 1, 4), (True, CPU, 2, 2), (True, CPU, 9, 1), (False, CPU, 1, 1), (False, CPU, 9, 1), (False, GPU, 9, 4)
])  # fmt: skip
def test_searches_have_one_thread_and_trainings_share_the_cores(trains, own, tasks, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # that there is a GPU makes no difference
    with torch_threads(4):
        assert task(tmp_path, own=own, shares_cores=trains).threads(tasks) == expected


@pytest.mark.parametrize("stage", sweeps.STAGES)
def test_a_search_has_one_thread_in_whatever_stage_and_process_it_runs(stage, tmp_path):
    search, training, alone = (tmp_path / name for name in ("search", "training", "alone"))
    with torch_threads(2):
        assert not sweeps._make([task(search)], stage)
        assert not sweeps._make([task(training, shares_cores=True)], stage)
        assert torch.get_num_threads() == 2
    with torch_threads(1):
        assert not sweeps._make([task(alone)], stage)
    assert [path.read_text() for path in (search, training, alone)] == ["1", "2", "1"]
    if stage == "searches":
        beside_gpu = tmp_path / "beside a GPU"
        with torch_threads(2):
            assert not sweeps._make([task(beside_gpu, own=GPU)], stage)
        assert beside_gpu.read_text() == "2"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _bar() -> tuple[int, bool]:
    with redirect_stderr(Terminal()), processes.progress("bar", "it", 1) as bar:
        return -bar.pos, bar.leave


def test_the_bars_of_workers_have_lines_of_their_own_and_vanish():
    assert {future.result() for _, future in in_processes([_bar] * 4, workers=2)} <= {(1, False), (2, False)}
    assert _bar() == (0, True)


def test_what_takes_longest_begins_first(tmp_path):
    begun = []
    efforts = {"short": 1.0, "long": 3.0, "there": 9.0, "middle": 2.0}
    (tmp_path / "there").touch()
    tasks = [sweeps.Task(tmp_path / name, partial(begun.append, name), CPU, effort) for name, effort in efforts.items()]
    with torch_threads(1):
        assert not sweeps._make(tasks, "rows")
    assert begun == ["long", "middle", "short"]


def test_a_search_does_not_wait_for_the_flows_of_others(make, monkeypatch):
    made = []
    monkeypatch.setattr(sweeps, "_make", lambda tasks, stage: made.append((stage, {t.path for t in tasks})) or {})
    waiting, ready = (make({"dds2.iterations": 4, "note_flows.epochs": 2, "seed": 5}) for _ in range(2))
    runs = [sweeps.Run(waiting, waiting.experiment("dds2")), sweeps.Run(ready, ready.experiment("nmf"))]
    dds2, nmf = (sweeps._tasks(run) for run in runs)
    paths = {stage: [{task.path for task in tasks[stage]} for tasks in (dds2, nmf)] for stage in sweeps.STAGES}
    assert not sweeps.attempt(runs)
    assert made[0] == ("flows", paths["flows"][0] | paths["searches"][1])
    assert made[1] == ("searches", paths["searches"][0] | paths["searches"][1])
    made.clear()
    assert not sweeps.attempt(runs, ["flows"])
    assert made == [("flows", paths["flows"][0])]


def test_all_searches_of_a_row_are_of_one_stage_and_longer_ones_are_known(make):
    rehearsed, plain = make({"evaluation.rehearse": True}), make({"evaluation.rehearse": False})
    efforts = {}
    for method in registered():
        experiment = rehearsed.experiment(method)
        own, rehearsal = rehearsed.fit_path(experiment), rehearsed.fit_path(rehearsed.rehearsal(experiment))
        searches = sweeps._tasks(sweeps.Run(rehearsed, experiment))["searches"]
        assert {task.path for task in searches} == {own, rehearsal}
        (alone,) = sweeps._tasks(sweeps.Run(plain, experiment))["searches"]
        assert alone.path == own
        efforts[method] = alone.effort
    assert efforts["dds1"] > efforts["dds2"]
    twice = make({"evaluation.rehearse": False, "dds1.iterations": 2 * plain.settings("dds1").iterations})
    (longer,) = sweeps._tasks(sweeps.Run(twice, twice.experiment("dds1")))["searches"]
    assert longer.effort == 2 * efforts["dds1"]


def test_the_flow_of_more_operations_is_the_longer_training(make):
    smaller, larger = (
        make({"note_flows.epochs": epochs, "pitches.highest": top}) for epochs, top in ((1, 62), (2, 63))
    )
    tasks = [sweeps._tasks(sweeps.Run(space, space.experiment("dds2")))["flows"] for space in (smaller, larger)]
    assert 0 < max(task.effort for task in tasks[0]) < min(task.effort for task in tasks[1])


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT], ids=["killed", "Ctrl-C"])
def test_workers_end_with_their_parent(kind, tmp_path):
    code = (
        "import signal, sys; sys.path.insert(0, 'tests')\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a job in the background of a shell ignores it
        "from ddslib.machine.processes import in_processes\n"
        "from test_sweeps import _forever\n"
        "if __name__ == '__main__':\n"
        "    next(in_processes([_forever], 1))\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, script], env=environment)
    deadline = time.monotonic() + 60
    while not (workers := _children(parent.pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(5)  # until the worker has begun
    workers = _children(parent.pid)
    assert workers
    parent.send_signal(kind)
    parent.wait(timeout=60)
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def arguments(folder):
    settings = [f"--set={key}={json.dumps(value)}" for key, value in HASTY.items()]
    return ["--profile", "smoke", "--work", str(folder), "--device", "cpu", *settings]


def test_the_command_line_sweeps_and_collects(grid, arguments, folder, capsys):
    assert cli.main(["collect", str(grid), *arguments, "--set=nmf.gamma=1"]) == 1  # no such key
    assert cli.main(["sweep", str(grid), *arguments]) == 0
    assert cli.main(["collect", str(grid), *arguments]) == 0
    assert capsys.readouterr().out.endswith(f"{folder / 'grid.csv'}: 3 rows\n")
    write_grid(grid, {"method": "nmf"}, {"method": "nmf", "instrument": "NOPIANO1"})
    assert cli.main(["sweep", str(grid), *arguments]) == 1
    assert "grid.csv, line 3: no piano NOPIANO1" in capsys.readouterr().err
    assert cli.main(["collect", str(grid), *arguments]) == 1
    assert "no row yet for line 3" in capsys.readouterr().err


def test_a_key_of_the_profile_is_told_from_a_measure_of_that_name(arguments, folder, tmp_path):
    grid = write_grid(tmp_path / "precision.csv", {"method": "nmf", "precision": "single"})
    assert cli.main(["sweep", str(grid), *arguments]) == 0
    assert cli.main(["collect", str(grid), *arguments]) == 0
    with (folder / "precision.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["profile.precision"] == "single"
    assert row["precision"] != "single"


def test_a_sweep_killed_again_and_again_ends_with_every_row_once(folder, tmp_path):
    """Five times at random moments, with all of its processes, as when a machine loses power."""
    profile = {"extends": "smoke", "evaluation": {"rehearse": False}}
    for key, value in HASTY.items():
        section, _, name = key.partition(".")
        profile.setdefault(section, {})[name] = value
    (tmp_path / "hasty.yaml").write_text(yaml.safe_dump(profile))
    cells = [{"method": method, "seed": 3, "chords": n} for method in ("nmf", "dds2") for n in range(1, 7)]
    grid = write_grid(tmp_path / "killed.csv", *cells)
    settings = [f"GRID={grid}", f"PROFILE={tmp_path / 'hasty.yaml'}", f"WORK={folder}"]
    draws = np.random.default_rng(0)
    for _ in range(5):
        sweep = subprocess.Popen(["make", "sweep", *settings], cwd=REPOSITORY, start_new_session=True)
        time.sleep(draws.uniform(3, 9))
        os.killpg(sweep.pid, signal.SIGKILL)
        sweep.wait()
        subprocess.run(["make", "unlock", *settings], cwd=REPOSITORY, check=True)
    subprocess.run(["make", "sweep", *settings], cwd=REPOSITORY, check=True)
    with (folder / "killed.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    asked = Counter((cell["method"], str(cell["chords"])) for cell in cells)
    assert Counter((row["method"], row["chords"]) for row in rows) == asked
    assert all(0 <= float(row["psa"]) <= 1 for row in rows)


def test_a_flow_that_failed_is_not_trained_again_for_its_rows(make, tmp_path, monkeypatch):
    calls = []

    def diverge(*arguments):
        calls.append(arguments)
        raise InputError("diverged")

    monkeypatch.setattr(training, "train", diverge)
    cells = [{"method": "dds2", "note_flows.epochs": 7, "dds2.iterations": n} for n in (2, 3)]
    lines = grids.read_grid(write_grid(tmp_path / "grid.csv", *cells), make)
    failures = sweeps.attempt([line.run for line in lines])
    assert [str(error) for error in failures.values()] == ["diverged"] * 2
    assert len(calls) == 2  # with all training pianos, and without the validation piano's family


def test_a_sweep_begins_anew_when_anything_that_its_rows_depend_on_has_changed(tmp_path):
    parent, profile, grid = (tmp_path / name for name in ("base.yaml", "mine.yaml", "grid.csv"))
    parent.write_text("extends: smoke\n")
    profile.write_text("extends: base.yaml\n")
    write_grid(grid, {"method": "nmf"})
    configuration = [f"grid={grid}", f"profile={profile}", f"work={tmp_path}", "maps_root=", "parts=1", "threads=1"]
    snakemake = [sys.executable, "-m", "snakemake", "--snakefile", "workflow/sweep.smk", "--cores", "1", "--dry-run"]
    command = [*snakemake, "--forceall", "--config", *configuration]
    planned = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    jobs = [job.partition("input: ")[2].splitlines()[0] for job in (planned.stdout + planned.stderr).split("rule ")[1:]]
    data, flows, searches, rows, _ = (job.split(", ") for job in jobs)
    shipped = [REPOSITORY / "ddslib" / "profiles" / name for name in ("smoke.yaml", "laptop.yaml")]
    assert {*map(str, [grid, profile, parent, *shipped]), "ddslib/runs/searches.py", "ddslib/search/search.py"} <= {
        *data
    }
    assert [Path(*stage).name for stage in (flows, searches, rows)] == ["data", "flows-1-of-1", "searches-1-of-1"]
