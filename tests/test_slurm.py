"""A sweep on a real SLURM: one node, in namespaces of its own.  It says nothing of accounting or of several nodes."""

import csv
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parent.parent
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "unshare", "ip")
ISOLATED = ("unshare", "-n", "-u", "-m", "-p", "-f", "--kill-child", "--mount-proc")
ROWS = [("nmf", "10"), ("nmf", "20"), ("dds2", "2"), ("dds2", "3")]


def obstacle() -> str | None:
    """What keeps SLURM from running here."""
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        return f"not installed: {', '.join(missing)}"
    if os.geteuid() != 0:
        return "not root"
    if subprocess.run([*ISOLATED, "true"], capture_output=True).returncode:
        return "no namespaces here"
    return None


@pytest.fixture
def executor(tmp_path):
    """The repository's SLURM profile, copied and completed as a user does, for a cluster without a job database."""
    profile = yaml.safe_load((REPOSITORY / "workflow/executors/slurm/config.yaml").read_text())
    small = {"slurm_partition": "main", "slurm_account": "test", "mem_mb": 1500, "runtime": 5}
    profile["default-resources"] = [f"{key}={value}" for key, value in small.items()]
    profile["set-resources"] = {rule: {"gpu": 1} for rule in profile["set-resources"]}
    profile |= {
        "jobs": 2,
        "latency-wait": 5,
        "slurm-status-command": "squeue",
        "slurm-init-seconds-before-status-checks": 3,
        "seconds-between-status-checks": 1,
        "slurm-keep-successful-logs": True,
    }
    folder = tmp_path / "executor"
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(profile))
    return folder


@pytest.fixture
def hasty(tmp_path):
    path = tmp_path / "hasty.yaml"
    flows = {"epochs": 1, "steps": 1, "hidden": [8]}
    few = {"pitches": {"highest": 63}, "rendering": {"loudness": ["M"]}, "evaluation": {"chords": 2}}
    path.write_text(yaml.safe_dump({"extends": "smoke", "note_flows": flows} | few))
    return path


@pytest.fixture
def cluster():
    """A folder with a short name: SLURM's sockets lie in it, and their paths have at most 108 characters."""
    with tempfile.TemporaryDirectory(prefix="slurm", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.mark.skipif(obstacle() is not None, reason=f"SLURM: {obstacle()}")
def test_a_sweep_on_slurm_makes_every_row(tmp_path, executor, hasty, cluster):
    grid = tmp_path / "grid.csv"
    with grid.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "nmf.iterations", "dds2.iterations"])
        writer.writerows((m, n if m == "nmf" else "", n if m == "dds2" else "") for m, n in ROWS)
    work = tmp_path / "work"
    command = ["make", "sweep", f"GRID={grid}", f"EXECUTOR={executor}", "PARTS=2", f"PROFILE={hasty}", f"WORK={work}"]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    script = REPOSITORY / "tests/slurm/cluster.sh"
    done = subprocess.run(
        [*ISOLATED, "sh", script, cluster, *command],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    with (work / "grid.csv").open(newline="") as file:
        rows = [(row["method"], row["iterations"]) for row in csv.DictReader(file)]
    assert rows == ROWS
    jobs = (cluster / "log/jobcomp.log").read_text().splitlines()
    assert len(jobs) == 7  # the data, and two parts of each stage
    assert all("JobState=COMPLETED" in job for job in jobs)
