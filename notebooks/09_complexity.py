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
# # What it costs
#
# **The question.** The paper's Table I says how the cost of an iteration grows: with the recording, the resolution, the
# number of notes, the number of entries, and the training data. Is it so when one measures?
#
# **You need:** the four methods, from {doc}`02_nmf` to {doc}`07_dds3`. **You will see:** Table I; the time of each part
# as one size after the other is doubled, with fitted exponents beside the predicted ones; memory; the
# amount of training data at which NMF gets slower than DDS-3; and what the training costs.

# %% tags=["parameters"]
profile = "laptop"  # a name in profiles/ or the path of a .yaml file
settings = {}  # single keys of the profile, such as {"complexity.doublings": 5}
work_dir = "../work/laptop"  # where everything computed is kept
maps_root = ""  # real MAPS in place of the rendered corpus
device = "auto"  # CUDA where there is one, else the CPU

# %%
from dataclasses import replace
from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from ddslib import complexity, machine, plots
from ddslib.config import load_profile
from ddslib.decomposition import Search
from ddslib.dictionaries import SharedDictionary
from ddslib.experiment import Workspace

plots.use_style()
profile = load_profile(profile, settings)
workspace = Workspace(profile, work_dir, maps_root, device)
growth = profile.complexity
NAMES, COLOURS = plots.METHOD_NAMES, plots.METHOD_COLOURS
PARTS = {"W": "W from Z", "X_hat": "X̂ from W and H"}
print(growth.smallest)
print(f"each doubled {growth.doublings} times, one at a time")

# %% [markdown]
# ## Table I
#
# An iteration has two parts. It builds $\mathbf{W}$ from the codes $\mathbf{Z}$, and $\hat{\mathbf{X}}$ from
# $\mathbf{W}$ and $\mathbf{H}$. The letters: $T$ frames, $K$ bins, $N$ notes, $C$ entries of a note, $M$ stored frames, $F$ steps of
# a flow, each with a network of $m$ layers.
#
# | | part | NMF | DDS-1 | DDS-2 | DDS-3 |
# |---|---|---|---|---|---|
# | time | X̂ from W and H | $KMT$ | $KNT$ | $KNCT$ | $KNCT$ |
# | | W from Z | none | $NTFmK^2$ | $NCFmK^2$ | $NCFmK^2$ |
# | space | W | $KM$ | $KNT$ | $KNC$ | $KNC$ |
# | | weights | none | $NFmK^2$ | $NFmK^2$ | $FmK^2$ |
#
# The prose of the paper fixes most of the table; its printed formulas could not be read, so the table is restored from
# that prose. $K^2$ stands for one layer of a network whose hidden layers grow with $K$. If they have a fixed width
# $w$, a layer costs $wK$ instead, and only the dense mixing of the conditional flow still costs $K^2$.
#
# What a part has to do can be counted. A layer is a product, and a product of an $(a, b)$ by a $(b, c)$ matrix takes $2abc$ operations:

# %%
for method in NAMES:
    for part, work in complexity.work(method, growth.smallest).items():
        print(
            f"{NAMES[method]}, {PARTS[part]}: {work.operations / 1e6:.1f} · 10⁶ operations"
        )

# %% [markdown]
# ## Measured
#
# Each size is doubled again and again while the others stay. All is done on one thread, so that a time is work and nothing
# else. A time is the shortest of several: whatever disturbs can only make it longer. Before it is doubled, each size is
# made next to nothing. The time that is left is *overhead*: what the other sizes cost by themselves, and the calls. Where a
# time is less than four overheads, overhead has a large share in it. Such points are drawn open, and left
# out of the fits, unless the time is predicted not to grow at all.

# %%
table = complexity.table(profile, Path(work_dir) / "complexity", workspace.device)
table.to_csv(Path(work_dir) / "complexity.csv", index=False)
print(f"complexity.csv: {len(table)} rows, columns {', '.join(table.columns)}")
counted = table[table.operations > 0]  # NMF has no W to build


def rows_of(method, part, factor):
    chosen = (
        (counted.method == method) & (counted.part == part) & (counted.factor == factor)
    )
    return counted[chosen]


def is_work(rows):
    """Where a time is more than overhead; the first of the rows is next to nothing."""
    return rows.seconds >= 4 * rows.seconds.iloc[0]


LETTERS = ["T", "K", "K, fixed widths", "N", "C", "M"]
EIGHTFOLD = 8


def growth_figure(part):
    """A panel for every size, and in it a line of points for every method."""
    figure, axes = plt.subplots(2, 3, figsize=(9, 5.6), sharey=True)
    for ax, letter in zip(axes.flat, LETTERS, strict=True):
        for method, colour in COLOURS.items():
            rows = rows_of(method, part, letter)
            if rows.empty:
                continue
            ms, filled = 1e3 * rows.seconds, is_work(rows)
            ax.loglog(rows["size"], ms, "o-", color=colour, linewidth=0.8, mfc="white")
            ax.loglog(rows["size"][filled], ms[filled], "o", color=colour)
        ax.set(xlabel=letter, xscale="log", yscale="log")
        ax.xaxis.set_minor_formatter(plt.NullFormatter())  # else labels overlap
    low, high = axes[0, 0].get_ylim()
    for ax in axes.flat:
        left, right = ax.get_xlim()
        for slope in (1, 2):
            rising = low * (np.array([left, right]) / left) ** slope
            ax.plot([left, right], rising, ":", color=plots.INK, linewidth=0.7)
        ax.set(xlim=(left, right), ylim=(low, high))
    for ax in axes[:, 0]:
        ax.set_ylabel(f"{PARTS[part]} (ms)")
    handles = [
        plt.Line2D([], [], color=colour, marker="o", label=NAMES[method])
        for method, colour in COLOURS.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False)
    plt.show()


# %% tags=["hide-input"] mystnb={"figure": {"caption": "Time to build W from Z as one size grows. Filled points are fitted; open ones are mostly overhead. Where Table I predicts no growth, all points but the first are fitted. Dotted: slopes of 1 and 2. M is no concern of this part, nor is the part of NMF.", "name": "fig-complexity-w"}, "image": {"alt": "Six panels on logarithmic axes, a line of points for each DDS: level in T but for DDS-1, rising with a slope of one in N and C, and of about two in K, less with fixed widths."}}
growth_figure("W")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Time to build X̂ from W and H as one size grows, in the same way.", "name": "fig-complexity-mix"}, "image": {"alt": "Six panels on logarithmic axes, a line of points for each method: rising with a slope of about one; NMF is level in N and alone in M."}}
growth_figure("X_hat")

# %% [markdown]
# ## Exponents
#
# A power law $t = a\, s^{p}$ is a straight line on logarithmic paper, and $p$ is its slope. Here it is for each part and
# size, with its 95 % interval. Beside it is what Table I predicts, and the slope of the operations that were counted. With fixed widths
# the counted slope is the prediction, since the products with $K$ and without it add up. What is not a product, such as the
# passes of a coupling between them, grows more slowly, and holds the slope down while sizes are moderate. Where data outgrow a cache, the slope is too steep
# for a while. So the table also has the slope of the *last doubling* alone, where the leading term weighs most.

# %%
PREDICTED = {
    ("nmf", "X_hat"): {"T": 1, "K": 1, "N": 0, "M": 1},
    ("dds1", "W"): {"T": 1, "K": 2, "N": 1},
    ("dds1", "X_hat"): {"T": 1, "K": 1, "N": 1, "K, fixed widths": 1},
    ("dds2", "W"): {"T": 0, "K": 2, "N": 1, "C": 1},
    ("dds2", "X_hat"): {"T": 1, "K": 1, "N": 1, "C": 1, "K, fixed widths": 1},
}
PREDICTED |= {("dds3", part): PREDICTED["dds2", part] for part in PARTS}


def last_slope(sizes, values):
    return np.diff(np.log(values))[-1] / np.diff(np.log(sizes))[-1]


def fits():
    """A line for every part and size whose points span at least a factor of eight."""
    for method, part, factor in product(NAMES, PARTS, LETTERS):
        rows = rows_of(method, part, factor)
        if rows.empty:
            continue
        predicted = PREDICTED[method, part].get(factor)
        rows = rows.iloc[1:] if predicted == 0 else rows[is_work(rows)]
        line = {"method": NAMES[method], "part": PARTS[part], "grows": factor}
        if len(rows) < 4 or rows["size"].max() < EIGHTFOLD * rows["size"].min():
            yield line
            continue
        by_count = complexity.exponent(rows["size"], rows.operations).value
        found = complexity.exponent(rows["size"], rows.seconds)
        predicted = by_count if predicted is None else predicted
        yield line | {
            "from": rows["size"].min(),
            "to": rows["size"].max(),
            "predicted": predicted,
            "counted": by_count,
            "measured": found.value,
            "interval": f"[{found.low:.2f}, {found.high:.2f}]",
            "last doubling": last_slope(rows["size"], rows.seconds),
            "off by": found.value - predicted,
        }


lines = pd.DataFrame(fits()).astype({"from": "Int64", "to": "Int64"})
exponents = lines.dropna()

# %% tags=["nbval-ignore-output", "hide-input"]
SHORT = dict(zip(PARTS.values(), ("W", "X̂"), strict=True))
narrow = exponents.replace({"part": SHORT}).rename(columns={"last doubling": "last"})
narrow["sizes"] = [f"{a}–{b}" for a, b in zip(narrow["from"], narrow["to"], strict=True)]
columns = ["sizes", "predicted", "counted", "measured", "interval", "last"]
narrow.set_index(["method", "part", "grows"])[columns].round(2)

# %% tags=["nbval-ignore-output"]
near = exponents["off by"].abs() <= 0.15
print(f"within 0.15 of the prediction: {near.sum()} of {len(exponents)}")
for line in exponents[~near].rename(columns={"last doubling": "last"}).itertuples():
    print(f"  not {line.method}, {line.part}, {line.grows}: {line.measured:.2f}")
    print(f"    predicted {line.predicted:.2f}; in the last doubling {line.last:.2f}")
print("mostly overhead, and so not fitted:")
for line in lines[lines.measured.isna()].itertuples():
    print(f"  {line.method}, {line.part}, {line.grows}")

# %% [markdown]
# ## Memory
#
# Building $\mathbf{W}$ needs room for the weights, for $\mathbf{W}$, and for what the gradient needs on its way back through the
# flow. The last is not in Table I: each of the $F$ steps keeps some of what it has computed. Here is the most that was in
# use, at the largest size of each factor, beside the weights and $\mathbf{W}$ by themselves:

# %% tags=["nbval-ignore-output", "hide-input"]
largest = table[(table.part == "W") & (table.factor.isin(["T", "K", "N", "C", "M"]))]
largest = largest.loc[largest.groupby(["method", "factor"], sort=False)["size"].idxmax()]


def stored_bytes(row):
    sizes = complexity.grown(growth.smallest, row.factor, row["size"], proportional=True)
    return complexity.stored_bytes(row.method, sizes)


pd.DataFrame(
    {
        "method": largest.method.map(NAMES),
        "largest": largest.factor + " = " + largest["size"].astype(str),
        "weights and W, MiB": (largest.apply(stored_bytes, axis=1) / 2**20).round(1),
        "most in use, MiB": (largest.bytes / 2**20).round(1),
    }
).set_index(["method", "largest"])

# %% [markdown]
# DDS-1 keeps a spectrum for every note and frame. DDS-2 has the weights of all its flows, and DDS-3 those of one. NMF has
# all its training data.
#
# ## From which amount of training data on is NMF slower?
#
# The cost of NMF grows with $M$, that of DDS-3 does not. So there is an $M$ where they cross. Whole iterations, at the size
# of this profile's experiment; the samples of NMF are random, since their values do not matter. Both are in single precision, as all that
# this chapter measures. From here on all cores work; in {doc}`08_comparison` each row has one core, and may round its factors.

# %%
experiment = workspace.experiment("dds3")
X = workspace.snippet(experiment).X.to(workspace.device)
own = replace(
    growth.smallest,
    T=X.shape[1],
    K=X.shape[0],
    N=len(profile.pitches.numbers),
)


def iteration_seconds(method, dictionary):
    """Of one iteration: the fastest of a few, after some that pay for what is done once."""
    search = Search(X, dictionary, getattr(profile, method))
    for _ in range(4):
        search.iterate()
    return min(machine.seconds(search.iterate, workspace.device) for _ in range(8))


stored = [1000 << doubling for doubling in range(growth.doublings + 1)]
nmf_seconds = [
    iteration_seconds("nmf", complexity.build("nmf", replace(own, M=M), workspace.device))
    for M in stored
]
trained = workspace.flow("conditional_flow", experiment.instrument, experiment.seed)
entries = SharedDictionary(trained.flow, profile.dds3.components)
dds3_seconds = iteration_seconds("dds3", entries)

# %% tags=["nbval-ignore-output"]
law = np.polyfit(np.log(stored), np.log(nmf_seconds), 1)
crossing = float(np.exp((np.log(dds3_seconds) - law[1]) / law[0]))
here = len(workspace.frames(without=experiment.instrument).values)
for M, seconds in zip(stored, nmf_seconds, strict=True):
    print(f"NMF, M = {M}: {1e3 * seconds:.1f} ms")
print(f"DDS-3, whatever M is: {1e3 * dds3_seconds:.1f} ms")
print(f"the exponent of NMF in M: {law[0]:.2f}")
print(
    f"the lines, extended, cross at about M = {crossing:.0f}; this profile has {here} frames"
)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Time of an iteration against the amount of stored training data. Upright: the frames that this profile has.", "name": "fig-crossing"}, "image": {"alt": "A rising line of points for NMF and a level line for DDS-3 on logarithmic axes; they cross."}}
figure, ax = plt.subplots(figsize=(6, 3.2))
ax.loglog(stored, 1e3 * np.array(nmf_seconds), "o-", color=plots.INK, label="NMF")
ax.axhline(1e3 * dds3_seconds, color=plots.RIGHT, label="DDS-3")
ax.axvline(here, color=plots.INK, linestyle=":", linewidth=0.8)
ax.set(xlabel="stored frames M", ylabel="an iteration (ms)")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## What training costs
#
# That DDS does not depend on $M$ is true of the search. Its flows have to learn from the $M$ frames first, epoch for epoch. By
# count, an epoch is linear in $M$, and NMF has none. Epochs on random frames, at the sizes from which everything above is
# doubled, again on one thread; the rows are in the same file:

# %% tags=["nbval-ignore-output"]
FLOWS = {"dds2": "a stack of note flows", "dds3": "the conditional flow"}
for method, name in FLOWS.items():
    rows = table[(table.part == "training") & (table.method == method)]
    times = ", ".join(f"{1e3 * s:.0f}" for s in rows.seconds)
    slope = complexity.exponent(rows["size"], rows.seconds)
    print(f"{name}: an epoch at M = {', '.join(map(str, rows['size']))}: {times} ms")
    print(
        f"  exponent {slope.value:.2f} [{slope.low:.2f}, {slope.high:.2f}], predicted 1"
    )

# %% [markdown]
# And in this profile:

# %% tags=["nbval-ignore-output"]
saved = np.exp(np.polyval(law, np.log(here))) - dds3_seconds  # by the line above
print(f"training the conditional flow took {trained.seconds:.0f} s, once")
print(f"against NMF with all {here} frames an iteration of DDS-3 is ", end="")
print(f"{1e3 * abs(saved):.1f} ms {'shorter' if saved > 0 else 'longer'}")
if saved > 0:
    searches = trained.seconds / saved / profile.dds3.iterations
    print(f"so that training is paid back after {searches:.0f} searches")

# %% [markdown]
# ## What was learnt
#
# * Where sizes are large, most exponents are near Table I's; the lines above name those that are not. Where sizes are small, overhead
#   hides them.
# * $K^2$ is true only of networks that grow with $K$. With fixed widths only the dense mixing of DDS-3 costs $K^2$.
# * What the gradient needs on its way back takes memory that Table I leaves out; with many codes it is most of it.
# * NMF pays for its training data in every iteration. DDS pays once, in training.
#
# **Next:** what happens when the task changes, {doc}`10_trends`.
