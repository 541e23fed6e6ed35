# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Sweeps, here and on a cluster
#
# **The question.** How do you run hundreds of configurations of your own, and what would the whole grid of the paper cost?
#
# A sweep is a *grid*: a CSV file in which each line asks for one row. Columns are the fields of an experiment,
# `method`, `instrument`, `polyphony`, `intensity`, `chords`, `seed` and `root`, and keys of the profile, such as
# `dds3.components`. An empty cell leaves it to the profile. This is a grid:

# %% tags=["parameters"]
profile = "laptop"  # a name in profiles/ or the path of a .yaml file
settings = {}  # single keys of the profile, such as {"evaluation.chords": 6}
work_dir = "../work/laptop"  # where everything computed is kept
maps_root = ""  # real MAPS in place of the rendered corpus
device = "auto"  # CUDA where there is one, else the CPU

# %%
import json
import tempfile
from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from ddslib import counts, machine, plots
from ddslib.config import PROFILES, load_profile
from ddslib.experiment import METHODS, Workspace
from ddslib.sweeps import attempt, collect, read_grid

plots.use_style()
GRID = """\
method,chords,polyphony,nmf.iterations,dds3.components
nmf,2,2,50,
nmf,2,3,50,
dds3,2,2,,4
dds3,2,2,,2
"""
folder = Path(tempfile.mkdtemp())
(folder / "grid.csv").write_text(GRID)


def workspace_with(changes):
    """What `ddslib sweep` makes of a line's keys."""
    few = {
        "evaluation.rehearse": False,
        "dds3.iterations": 20,
    }  # so that this page is soon made
    return Workspace(
        load_profile(profile, settings | few | changes), work_dir, maps_root, device
    )


lines = read_grid(folder / "grid.csv", workspace_with)
for line in lines:
    print(line.number, line.run.experiment.method, line.cells)

# %% [markdown]
# ## Here
#
# ```sh
# make sweep GRID=grid.csv
# ```
#
# The work has stages, since rows share what they are made from. First the data, which is recordings and training frames. Then
# the *flows* that are missing, then the *searches*, also those on the validation piano for the thresholds of F, and at last the *rows*. In each stage,
# as much is done side by side as there are cores. One process makes many rows, so that it has to load its libraries only once. The same in Python:

# %%
failures = attempt([line.run for line in lines])
table, missing = collect(lines)
assert not failures and not missing
columns = ["method", "polyphony", "components", "psa", "average_precision"]
table[columns].round(3).astype({"components": "Int64"})

# %% [markdown]
# * **Nothing is made twice.** A row lies under the digest of all that it depends on. A run that was killed is run again, and makes
#   what is missing. A file is whole or not there.
# * **A row that fails does not stop the others.** It is named, with its line in the grid and the reason. `make sweep` then
#   ends with an error, and the table has all other rows.
# * **The table** is `work/<profile>/<name of the grid>.csv`: what the grid said, and the columns of every row. `ddslib collect`
#   makes it at any time from what is there. A key of the profile that has the name of a measure, `precision`, becomes `profile.precision`.
# * If the engine was killed, it may say that its folder is locked. `make unlock GRID=grid.csv` clears that.
#
# ## On a SLURM cluster
#
# The same sweep, as jobs:
#
# ```sh
# cp -r workflow/executors/slurm my-cluster     # once: put in your partition, account, memory and time
# make sweep GRID=grid.csv PROFILE=paper EXECUTOR=my-cluster PARTS=32
# ```
#
# Each stage is cut into `PARTS` jobs. A job takes every `PARTS`-th of the flows or rows, and asks for what the
# folder's `config.yaml` says: a GPU, memory, and time. The engine is [Snakemake](https://snakemake.readthedocs.io) with its
# SLURM plugin; it waits for one stage before it begins the next. All jobs have to see this folder. Where there is no job
# database (`sacct`), add `slurm-status-command: squeue` to the file.
#
# The tests start a real SLURM with a single node, and run a sweep of four rows on it. A cluster with several nodes, with GPUs and accounting, has not been tried.
#
# ## What the paper's grid would cost
#
# Two resolutions, six polyphonies, two ranges of velocities, four methods, and several numbers of entries for the two that have
# them, on 50 chords each:

# %%
COMPONENTS = (5, 10, 20)
cells = [
    (size, polyphony, intensity, method, C)
    for size, polyphony, intensity, method in product(
        ("paper", "paper-512"), range(2, 8), ("I32-96", "I60-68"), METHODS
    )
    for C in (COMPONENTS if method in ("dds2", "dds3") else [None])
]
print(f"{len(cells)} rows")

# %% [markdown]
# They have not been run. So what follows are **estimates**: operations are counted, as in {doc}`speed`, and are done at
# the rate that was measured there, on one GPU at the paper's size, for an iteration of the method or a training step of the flow. How many frames 50 chords have,
# and how much training data there is, is taken from this profile's, in proportion.

# %%
workspace = Workspace(load_profile(profile, settings), work_dir, maps_root, device)
one = workspace.experiment("nmf")
T = round(50 * workspace.snippet(one).X.shape[1] / one.chords)
thin = workspace.profile.training.thin
M = thin * len(workspace.frames(without=one.instrument).values)
print(f"50 chords: about {T} frames; at least {M} frames of training data")


def search_work(size, method, C):
    """What a whole search has to do."""
    setup = load_profile(size, {f"{method}.components": C} if C else {})
    return getattr(setup, method).iterations * counts.iteration(setup, method, T, M)


def training_work(size, kind):
    """What all epochs have to do, if none is saved by stopping early."""
    setup = load_profile(size)
    return getattr(setup, kind).epochs * counts.epoch(setup, kind, M)


measured = json.loads((PROFILES.parent / "results" / "bench-cuda.json").read_text())
rate = machine.rates(measured, "paper")
TRAININGS = {"note_flows": "RealNVP", "conditional_flow": "Glow"}
print(f"{measured['device']}, 10¹² operations a second:")
print({name: round(reached / 1e12) for name, reached in rate.items()})
rows = pd.DataFrame(
    [
        (
            method,
            search_work(size, method, C).operations / rate[plots.METHOD_NAMES[method]],
        )
        for size, _, _, method, C in cells
    ],
    columns=["method", "seconds"],
)
# A row for F needs a search on the validation piano too.
searching = 2 * rows.seconds.sum()
trainings = [
    training_work(size, kind).operations / rate[name]
    for size in ("paper", "paper-512")
    for kind, name in TRAININGS.items()
    for _ in range(2)  # with all pianos, and without the validation piano's family
]
print(
    rows.groupby("method", sort=False)
    .seconds.agg(["count", "mean", "sum"])
    .round(1)
    .to_string()
)
print(f"training the flows: {sum(trainings) / 3600:.1f} h, ", end="")
print(f"the longest {max(trainings) / 3600:.1f} h")

# %%
estimates = {}
for gpus in (1, 8, 64):
    train = max(sum(trainings) / gpus, max(trainings))
    search = max(searching / gpus, rows.seconds.max())
    estimates[gpus] = {"training, h": train / 3600, "searches, h": search / 3600}
estimates = pd.DataFrame(estimates).T.rename_axis("GPUs")
estimates["all, h"] = estimates.sum(axis=1)
estimates.round(1)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Estimated hours for the paper's whole grid against the number of GPUs.", "name": "fig-sweep-cost"}, "image": {"alt": "A stacked bar for 1, 8 and 64 GPUs: with one GPU training takes most of the time, with 64 the longest training is what is left."}}
figure, ax = plt.subplots(figsize=(5, 3))
places = range(len(estimates))
ax.bar(places, estimates["training, h"], color=plots.RIGHT, label="training")
ax.bar(
    places,
    estimates["searches, h"],
    bottom=estimates["training, h"],
    color=plots.INK,
    label="searches",
)
ax.set_xticks(places, [str(gpus) for gpus in estimates.index])
ax.set(xlabel="GPUs", ylabel="estimated time (h)")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# A flow is trained on one GPU, so the longest training sets a floor that more GPUs do not lower. The narrower flows of `paper-512`
# and searches with fewer entries will not reach the
# measured rate, and what is done once, such as recording, is not counted.
#
# What this machine has measured, for comparison: the seconds of the searches of {doc}`08_comparison`.

# %% tags=["nbval-ignore-output"]
seconds = pd.DataFrame(workspace.evaluate(e) for e in workspace.comparison())
seconds.groupby(["method", "device"], sort=False).seconds.mean().round(1).to_frame()

# %% [markdown]
# ## What was learnt
#
# * A sweep is a file. It is made here or on a cluster by the same command, and each row only once.
# * By these estimates most of the paper's grid is training, and the longest training is what many GPUs wait for.
