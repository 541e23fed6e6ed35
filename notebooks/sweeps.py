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
profile = "laptop"  # the name of a profile or the path of a .yaml file
settings = {}  # single keys of the profile, such as {"evaluation.chords": 6}
work_dir = "../work/laptop"  # where everything computed is kept
maps_root = ""  # real MAPS in place of the rendered corpus
device = "auto"  # CUDA where there is one, else the CPU

# %% tags=["hide-input"]
import tempfile
from itertools import product
from pathlib import Path

from ddslib.config import load_profile
from ddslib.costs.growth import flow_users
from ddslib.flows.work import training
from ddslib.methods import registry
from ddslib.pages import plots, speed
from ddslib.pages.chapter import open_chapter
from ddslib.runs.grids import collect, read_grid
from ddslib.runs.sweeps import attempt

import numpy as np
import pandas as pd

workspace = open_chapter(globals())
profile = workspace.profile
STORED = next(name for name, method in registry.registered().items() if not method.flow)
DECODED = flow_users()["conditional_flow"].name

# %% tags=["hide-input"]
GRID = f"""\
method,chords,polyphony,{STORED}.iterations,{DECODED}.components
{STORED},2,2,50,
{STORED},2,3,50,
{DECODED},2,2,,4
{DECODED},2,2,,2
"""
print(GRID)

# %%
path = Path(tempfile.mkdtemp()) / "grid.csv"
path.write_text(GRID)
# This page is soon made.
FEW = {"evaluation.rehearse": False, f"{DECODED}.iterations": 20}
lines = read_grid(path, lambda keys: workspace.changed(FEW | keys))
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
shown = table[["method", "polyphony", "components", "psa", "average_precision"]]
shown.round(3).astype({"components": "Int64"})

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
METHODS = [method for method in registry.registered().values() if method.published]
SIZES, INTENSITIES = ("paper", "paper-512"), ("I32-96", "I60-68")
cells = [
    (size, method, C)
    for size, polyphony, intensity, method in product(
        SIZES, range(2, 8), INTENSITIES, METHODS
    )
    for C in (COMPONENTS if method.has_components else [None])
]
print(f"{len(cells)} rows")

# %% [markdown]
# They have not been run. So what follows are **estimates**: operations are counted, as in {doc}`speed`, and are done at
# the rate that was measured there, on one GPU at the paper's size, for an iteration of the method or a training step of the flow. How many frames 50 chords have,
# and how much training data there is, is taken from this profile's, in proportion.

# %%
one = workspace.experiment(STORED)
T = round(50 * workspace.mixture(one).X.shape[1] / one.chords)
M = profile.training.thin * len(workspace.frames(without=one.instrument).values)
print(f"50 chords: about {T} frames; at least {M} frames of training data")
measured = speed.read(speed.RESULTS / "bench-cuda.json")
print(f"{measured.device}, 10¹² operations a second:")
print({name: round(rate / 1e12) for name, rate in measured.rates.items()})


# %%
def search_seconds(size, method, C):
    """Of a whole search."""
    paper = load_profile(size, {f"{method.name}.components": C} if C else {})
    work = method.search_work(paper, registry.settings(paper, method.name), T, M)
    return work.operations / measured.rates[method.label]


searches = pd.DataFrame(
    {"method": cell[1].label, "seconds": search_seconds(*cell)} for cell in cells
)
# Each flow is trained with all pianos, and without the validation piano's family.
trainings = 2 * [
    training(load_profile(size), kind, M).operations / measured.rates[name]
    for size in SIZES
    for kind, name in speed.TRAININGS.items()
]
print(
    f"training the flows: {sum(trainings) / 3600:.1f} h, "
    f"the longest {max(trainings) / 3600:.1f} h; the searches:"
)
searches.groupby("method", sort=False).seconds.agg(["count", "mean", "sum"]).round(1)

# %%
gpus = np.array([1, 8, 64])
# A row for F needs a search on the validation piano, too.
train = np.maximum(sum(trainings) / gpus, max(trainings))
search = np.maximum(2 * searches.seconds.sum() / gpus, searches.seconds.max())
estimates = pd.DataFrame({"training, h": train, "searches, h": search}, gpus) / 3600
estimates["all, h"] = estimates.sum(axis=1)
estimates.index.name = "GPUs"
estimates.round(1)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Estimated hours for the paper's whole grid against the number of GPUs.", "name": "fig-sweep-cost"}, "image": {"alt": "A stacked bar for 1, 8 and 64 GPUs: with one GPU training takes most of the time, with 64 the longest training is what is left."}}
style = {"color": [plots.RIGHT, plots.INK], "width": 0.8, "rot": 0}
with plots.shown(5, 3) as ax:
    stages = estimates.drop(columns="all, h").rename(columns=lambda name: name[:-3])
    stages.plot.bar(stacked=True, ylabel="estimated time (h)", ax=ax, **style)

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
