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
# **You need:** the four methods of the paper, from {doc}`02_nmf` to {doc}`07_dds3`. **You will see:** Table I; the time of each part
# as one size after the other is doubled, with fitted exponents beside the predicted ones; memory; the
# amount of training data at which NMF gets slower than DDS-3; and what the training costs.

# %% tags=["parameters"]
profile = "laptop"  # the name of a profile or the path of a .yaml file
settings = {}  # single keys of the profile, such as {"complexity.doublings": 5}
work_dir = "../work/laptop"  # where everything computed is kept
maps_root = ""  # real MAPS in place of the rendered corpus
device = "auto"  # CUDA where there is one, else the CPU

# %% tags=["hide-input"]
from pathlib import Path

from ddslib.costs import growth
from ddslib.machine import limits
from ddslib.methods.registry import registered
from ddslib.pages import complexity, plots
from ddslib.pages.chapter import open_chapter
from ddslib.search.decoded import SharedDictionary
from ddslib.search.search import Search

import numpy as np

workspace = open_chapter(globals())
profile, device = workspace.profile, workspace.device
smallest, doublings = profile.complexity.smallest, profile.complexity.doublings
print(f"{smallest}\neach doubled {doublings} times, one at a time")

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
# Two methods below are not the paper's. *One code* ({doc}`08_comparison`) decodes as much as DDS-3 does. *One blend* has no flow: its
# entries are means of stored spectra, so W from Z costs next to nothing.
#
# What a part has to do can be counted. A layer is a product, and a product of an $(a, b)$ by a $(b, c)$ matrix takes $2abc$ operations:

# %%
for method in registered().values():
    for part, work in method.work.parts(smallest).items():
        millions, what = work.operations / 1e6, complexity.PARTS[part]
        print(f"{method.label}, {what}: {millions:.1f} · 10⁶ operations")

# %% [markdown]
# ## Measured
#
# Each size is doubled again and again while the others stay. All is done on one thread, so that a time is work and nothing
# else. A time is the shortest of several: whatever disturbs can only make it longer. Before it is doubled, each size is
# made next to nothing. The time that is left is *overhead*: what the other sizes cost by themselves, and the calls. Where a
# time is less than four overheads, overhead has a large share in it. Such points are drawn open, and left
# out of the fits, unless the time is predicted not to grow at all.

# %%
table = growth.table(profile, Path(work_dir) / "complexity", device)
table.to_csv(Path(work_dir) / "complexity.csv", index=False)
print(f"complexity.csv: {len(table)} rows, columns {', '.join(table.columns)}")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Time to build W from Z as one size grows. Filled points are fitted; open ones are mostly overhead. Where Table I predicts no growth, all points but the first are fitted. Dotted: slopes of 1 and 2. M is no concern of this part, nor is the part of NMF.", "name": "fig-complexity-w"}, "image": {"alt": "Six panels on logarithmic axes, a line of points for each method but NMF: level in T but for DDS-1, rising with a slope of about one in N and C, and of about two in K where there is a flow, less with fixed widths; that of one blend lies far below."}}
complexity.growth_figure(table, "W")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Time to build X̂ from W and H as one size grows, in the same way.", "name": "fig-complexity-mix"}, "image": {"alt": "Six panels on logarithmic axes, a line of points for each method: rising with a slope of about one; NMF is level in N and alone in M."}}
complexity.growth_figure(table, "X_hat")

# %% [markdown]
# ## Exponents
#
# A power law $t = a\, s^{p}$ is a straight line on logarithmic paper, and $p$ is its slope. Here it is for each part and
# size, with its 95 % interval. Beside it is what Table I predicts, and the slope of the operations that were counted. With fixed widths
# the counted slope is the prediction, since the products with $K$ and without it add up. What is not a product, such as the
# passes of a coupling between them, grows more slowly, and holds the slope down while sizes are moderate. Where data outgrow a cache, the slope is too steep
# for a while. So the table also has the slope of the *last doubling* alone, where the leading term weighs most.

# %% tags=["nbval-ignore-output", "hide-input"]
lines = complexity.exponents(table)
shown = lines.dropna().replace({"part": {"X_hat": "X̂"}}).drop(columns="off by")
shown.set_index(["method", "part", "grows"]).round(2)

# %% tags=["nbval-ignore-output", "hide-input"]
lines = lines.replace({"part": complexity.PARTS})
fitted = lines.dropna()
near = fitted["off by"].abs() <= 0.15
print(f"within 0.15 of the prediction: {near.sum()} of {len(fitted)}")
for line in fitted[~near].itertuples():
    print(
        f"  not {line.method}, {line.part}, {line.grows}: {line.measured:.2f}\n"
        f"    predicted {line.predicted:.2f}; in the last doubling {line.last:.2f}"
    )
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
complexity.memory(table, smallest)

# %% [markdown]
# DDS-1 keeps a spectrum for every note and frame. DDS-2 has the weights of all its flows, DDS-3 and *one code* those of one. NMF
# has all its training data, *one blend* only means of them.
#
# ## From which amount of training data on is NMF slower?
#
# The cost of NMF grows with $M$, that of DDS-3 does not. So there is an $M$ where they cross. Whole iterations, at the size
# of this profile's experiment; the samples of NMF are random, since their values do not matter. Both are in single precision, as all that
# this chapter measures. From here on all cores work; in {doc}`08_comparison` each row has one core, and may round its factors.

# %%
shared = growth.flow_users()["conditional_flow"]  # DDS-3
by_samples = next(method for method in registered().values() if not method.flow)
experiment = workspace.experiment(shared.name)
X = workspace.mixture(experiment).X.to(device)


def iteration_ms(method, dictionary):
    """The fastest of a few iterations, after some that pay for what is done once."""
    search = Search(X, dictionary, workspace.settings(method.name))
    for _ in range(4):
        search.iterate()
    return 1e3 * min(limits.seconds(search.iterate, device) for _ in range(8))


stored, nmf_ms = [1000 << doubling for doubling in range(doublings + 1)], []
for M in stored:
    sizes = profile.sizes(T=X.shape[1], M=M)
    samples = growth.build(by_samples, sizes, workspace.policy)
    nmf_ms.append(iteration_ms(by_samples, samples))
trained = workspace.flow(*workspace.flow_of(experiment))
fit = workspace.settings(shared.name)
entries = SharedDictionary(trained.flow.freeze(), fit.components)
dds3_ms = iteration_ms(shared, entries)

# %% tags=["nbval-ignore-output"]
law = np.polyfit(np.log(stored), np.log(nmf_ms), 1)
crossing = np.exp((np.log(dds3_ms) - law[1]) / law[0])
here = len(workspace.frames(without=experiment.instrument).values)
for M, ms in zip(stored, nmf_ms, strict=True):
    print(f"NMF, M = {M}: {ms:.1f} ms")
print(
    f"DDS-3, whatever M is: {dds3_ms:.1f} ms\n"
    f"the exponent of NMF in M: {law[0]:.2f}\n"
    f"the lines, extended, cross at about M = {crossing:.0f}; "
    f"this profile has {here} frames"
)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Time of an iteration against the amount of stored training data. Upright: the frames that this profile has. Extended, the two lines cross.", "name": "fig-crossing"}, "image": {"alt": "A rising line of points for NMF and a level line for DDS-3, on logarithmic axes."}}
with plots.shown(6, 3.2) as ax:
    ax.loglog(stored, nmf_ms, "o-", color=plots.INK, label="NMF")
    ax.axhline(dds3_ms, color=plots.RIGHT, label="DDS-3")
    ax.axvline(here, color=plots.INK, linestyle=":", linewidth=0.8)
    ax.set(xlabel="stored frames M", ylabel="an iteration (ms)")
    ax.legend()

# %% [markdown]
# ## What training costs
#
# That DDS does not depend on $M$ is true of the search. Its flows have to learn from the $M$ frames first, epoch for epoch. By
# count, an epoch is linear in $M$, and NMF has none. Epochs on random frames, at the sizes from which everything above is
# doubled, again on one thread; the rows are in the same file:

# %% tags=["nbval-ignore-output"]
for flow, method in growth.flow_users().items():
    rows = table.query(f"part == 'training' and method == '{method.name}'")
    amounts = ", ".join(map(str, rows["size"]))
    times = ", ".join(f"{1e3 * s:.0f}" for s in rows.seconds)
    slope = growth.exponent(rows["size"], rows.seconds)
    print(
        f"{flow.replace('_', ' ')}: an epoch at M = {amounts}: {times} ms\n"
        f"  exponent {slope.value:.2f} [{slope.low:.2f}, {slope.high:.2f}], predicted 1"
    )

# %% [markdown]
# And in this profile:

# %% tags=["nbval-ignore-output"]
saved = np.exp(np.polyval(law, np.log(here))) - dds3_ms  # by the line above
print(
    f"training the conditional flow took {trained.seconds:.0f} s, once\n"
    f"against NMF with all {here} frames an iteration of DDS-3 is "
    f"{abs(saved):.1f} ms {'shorter' if saved > 0 else 'longer'}"
)
if saved > 0:
    searches = 1e3 * trained.seconds / saved / fit.iterations
    print(f"so that training is paid back after {searches:.0f} searches")

# %% [markdown]
# ## What was learnt
#
# * Where sizes are large, most exponents are near Table I's; the lines above name those that are not. Where sizes are small, overhead
#   hides them.
# * $K^2$ is true only of networks that grow with $K$. With fixed widths only the dense mixing of the conditional flow costs $K^2$.
# * What the gradient needs on its way back takes memory that Table I leaves out; with many codes it is most of it.
# * NMF pays for its training data in every iteration. DDS pays once, in training.
#
# **Next:** what happens when the task changes, {doc}`10_trends`.
