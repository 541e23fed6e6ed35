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
# # When the task changes
#
# **The question.** Beside its table, the paper reports *trends*: what happens with another resolution, other dynamics, more
# notes at once, more entries. Do they show here?
#
# **You need:** {doc}`08_comparison`. **You will see:** a figure for each trend, always with both measures, PSA and
# average precision, and a verdict: confirmed, contradicted, or undecided.

# %% tags=["parameters"]
profile = "laptop"  # a name in profiles/ or the path of a .yaml file
settings = {}  # single keys of the profile, such as {"dds3.iterations": 400}
work_dir = "../work/laptop"  # where everything computed is kept
maps_root = ""  # real MAPS in place of the rendered corpus
device = "auto"  # CUDA where there is one, else the CPU
chords = 5  # in every mixture: about 100 frames

# %%
from itertools import pairwise, product
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from ddslib import metrics, plots
from ddslib.config import PROFILES, load_profile
from ddslib.experiment import METHODS, Workspace
from ddslib.sweeps import Run, evaluate_all

plots.use_style()
NAMES, COLOURS = plots.METHOD_NAMES, plots.METHOD_COLOURS
common = {"evaluation.rehearse": False, **settings}  # no F, so no threshold to look for


def workspace_with(changes):
    return Workspace(load_profile(profile, common | changes), work_dir, maps_root, device)


plain = workspace_with({})
close, ambient = plain.instruments.test
front_end = plain.profile.front_end
chords = min(chords, plain.profile.evaluation.chords)
print(f"{close}, {chords} chords, P{plain.profile.evaluation.polyphony}, ", end="")
print(f"{plain.profile.evaluation.intensity}, unless something else is said")

# %% [markdown]
# ## The grid
#
# A trend is a set of rows in which one thing changes. A row is an experiment, as in the chapters before: a method,
# what it decomposes, and keys of the profile. DDS-1 is slow, so it is not in all of them. For other
# training pianos, only NMF and DDS-3 are compared.

# %%
FAST = ("nmf", "dds2", "dds3")
SEARCHED = ("dds2", "dds3")
ENDS = ("nmf", "dds3")  # of the way from stored entries to one flow for all
INTENSITIES = ("I60-68", "I32-96")
POLYPHONIES = range(2, 8)
COMPONENTS = (1, 2, 4, 8, 16)
SPARSITY_WEIGHTS = (0.0, 0.003, 0.01)
half = {"front_end.n_fft": front_end.n_fft // 2, "front_end.bins": front_end.bins // 2}
families = plain.instruments.train
pianos = "rendered_instruments" if plain.is_rendered else "maps_instruments"


def without(family):
    """Training pianos without one family."""
    kept = {name: list(codes) for name, codes in families.items() if name != family}
    return {f"{pianos}.train": kept, f"{pianos}.validation": next(iter(kept.values()))[0]}


def lines(methods, changes):
    """A line of the grid for every method and for every value of what changes."""
    return [
        (value, {"method": m} | keys) for m in methods for value, keys in changes.items()
    ]


def own_key(methods, key, values):
    """The same for a key that every method has in its own section of the profile."""
    return [(v, {"method": m, f"{m}.{key}": v}) for m in methods for v in values]


grid = {
    "resolution": lines(METHODS, {front_end.n_fft // 2: half, front_end.n_fft: {}}),
    "dynamics": lines(METHODS, {name: {"intensity": name} for name in INTENSITIES}),
    "polyphony": lines(FAST, {p: {"polyphony": p} for p in POLYPHONIES}),
    "entries": own_key(SEARCHED, "components", COMPONENTS),
    "sparsity": lines(["dds1"], {0.0: {}})
    + own_key(FAST, "sparsity_weight", SPARSITY_WEIGHTS),
    "distance": lines(METHODS, {name: {"instrument": name} for name in (close, ambient)}),
    "families": lines(ENDS, {"none": {}} | {name: without(name) for name in families}),
}


def run_of(line):
    """The run that a line asks for."""
    changes = dict(line)
    method = changes.pop("method")
    chosen = {
        key: changes.pop(key)
        for key in ("polyphony", "intensity", "instrument")
        if key in changes
    }
    space = workspace_with(changes)
    return Run(space, space.experiment(method, chords=chords, **chosen))


rendered = {  # chords that the corpus may lack, in one go: each call starts workers anew
    "isol_instruments": [],
    "rand_instruments": [close],
    "polyphonies": list(POLYPHONIES),
    "intensities": [plain.profile.evaluation.intensity],
    "chords": chords,
}
workspace_with({f"rendering.{key}": value for key, value in rendered.items()}).render()
runs = {trend: [run_of(line) for _, line in asked] for trend, asked in grid.items()}
every = [run for asked in runs.values() for run in asked]
different = {run.workspace.row_path(run.experiment) for run in every}
print(f"{len(every)} lines, {len(different)} different rows")

# %% [markdown]
# As many rows as cores are computed side by side; flows that are missing are trained first. The grid is also written as a
# file, in which a line is a row, so that it can be run on a cluster ({doc}`../book/rerun`).

# %%
evaluate_all(every)

cells = [
    {"chords": chords} | common | line for asked in grid.values() for _, line in asked
]
grid_file = Path(work_dir) / "trends-grid.csv"
as_text = pd.DataFrame(cells).map(
    lambda cell: str(cell) if isinstance(cell, dict | list) else cell
)
as_text.drop_duplicates().to_csv(grid_file, index=False)

# %% [markdown]
# ## Numbers with intervals
#
# Intervals come from drawing chords with replacement. Rows on the same chords get the same draws, so that a difference between
# them is not blurred by hard chords. Other than in chapter 8, each row has one seed: the luck of training and of the start is *not* in the
# intervals. With a handful of chords they are rather too narrow, and of so many verdicts some are wrong by chance.

# %%
MEASURES = {
    "psa": "PSA",
    "average_precision": "average precision",
    "sparsity": "sparsity",
    "relative_error": "relative error",
}


drawn, points, rows = {}, {}, []
for trend, asked in grid.items():
    for (value, line), run in zip(asked, runs[trend], strict=True):
        row = run.workspace.evaluate(run.experiment)
        key = trend, line["method"], value
        points[key] = row
        drawn[key] = run.workspace.bootstrap([run.experiment])
        bounds = {name: metrics.interval(draws) for name, draws in drawn[key].items()}
        low = {f"{name}_low": bound.low for name, bound in bounds.items()}
        high = {f"{name}_high": bound.high for name, bound in bounds.items()}
        rows.append({"trend": trend, "value": value} | row | low | high)
rows = pd.DataFrame(rows)
rows.to_csv(Path(work_dir) / "trends.csv", index=False)
print(
    f"trends.csv: {len(rows)} rows of {rows.frames.min()} to {rows.frames.max()} frames"
)

# %% [markdown]
# A verdict compares two rows. The claim is *confirmed* if the whole interval of the difference has the claimed sign,
# *contradicted* if it has the other sign, and else *undecided*.

# %% tags=["hide-input"]
verdicts = []
COLUMNS = ["trend", "claim", "method", "measure", "difference", "low", "high", "verdict"]


def judge(trend, claim, method, measure, gain, draws):
    """Note whether `gain`, which the claim says is positive, is so."""
    low, high = metrics.interval(draws)
    row = trend, claim, NAMES[method], MEASURES[measure], gain, low, high
    verdicts.append((*row, metrics.verdict(draws)))


def judge_pair(claim, worse, better, measure, sign=1):
    """Whether the row `better` has more of the measure, or with sign -1 less of it."""
    gain = sign * (points[better][measure] - points[worse][measure])
    draws = sign * (drawn[better][measure] - drawn[worse][measure])
    judge(better[0], claim, better[1], measure, gain, draws)


ATTRIBUTION = ("psa", "average_precision")  # never one without the other


def judge_methods(claim, methods, trend, worse, better):
    """The claim that one value is better than another, for every method and both measures."""
    for method, measure in product(methods, ATTRIBUTION):
        judge_pair(claim, (trend, method, worse), (trend, method, better), measure)


def told(trend):
    """The verdicts of one trend, as a table."""
    table = pd.DataFrame(verdicts, columns=COLUMNS)
    table = table[table.trend == trend]
    table["interval"] = [f"[{v.low:+.3f}, {v.high:+.3f}]" for v in table.itertuples()]
    table["difference"] = table["difference"].map("{:+.3f}".format)
    columns = ["claim", "method", "measure", "difference", "interval", "verdict"]
    return table[columns].set_index(["claim", "method", "measure"])


# %% [markdown]
# Where a longer run of this chapter is kept with the project, with more chords and so with narrower intervals, its
# points are drawn too, as open squares.

# %% tags=["hide-input"]
kept = PROFILES.parent / "results" / f"trends-{plain.profile.name}.csv"
longer = pd.read_csv(kept) if kept.exists() and plain.is_rendered else rows.iloc[:0]
if len(longer):
    print(f"a longer run: {longer.chords.max()} chords, ddslib {longer.version.iloc[0]}")
else:
    print("no longer run is kept for this profile")


def draw(ax, trend, measure, table, places, shift, **style):
    """A line of points with intervals for every method, at the values' places."""
    for number, method in enumerate(NAMES):
        own = table[(table.trend == trend) & (table.method == method)]
        if own.empty:
            continue
        x = np.array([places.index(str(value)) for value in own.value])
        error = [
            own[measure] - own[f"{measure}_low"],
            own[f"{measure}_high"] - own[measure],
        ]
        ax.errorbar(
            x + shift + 0.06 * (number - 1.5),
            own[measure],
            np.clip(error, 0, None),
            color=COLOURS[method],
            capsize=2,
            **style,
        )


def trend_figure(trend, label, measures=ATTRIBUTION):
    """A panel for every measure."""
    places = list(dict.fromkeys(str(value) for value, _ in grid[trend]))
    figure, axes = plt.subplots(1, len(measures), figsize=(4.6 * len(measures), 3.4))
    for ax, measure in zip(axes, measures, strict=True):
        draw(ax, trend, measure, longer, places, 0.03, fmt="s", mfc="white", alpha=0.7)
        draw(ax, trend, measure, rows, places, 0, fmt="o-", linewidth=0.8)
        ax.set_xticks(range(len(places)), places)
        ax.set(xlabel=label, ylabel=MEASURES[measure])
    handles = [
        plt.Line2D([], [], color=COLOURS[m], marker="o", label=NAMES[m])
        for m in dict.fromkeys(line["method"] for _, line in grid[trend])
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False)
    plt.show()


# %% [markdown]
# ## 1. Spectral resolution
#
# The paper: every method does a little better at the larger window, and the differences between methods grow. Both
# windows are used up to the same frequency, so the larger has twice as many bins.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "PSA and average precision for a window of half and of full length.", "name": "fig-trend-resolution"}, "image": {"alt": "Two panels, each with a short line of two points with error bars for each of four methods."}}
trend_figure("resolution", "window (samples)")

# %%
short, long = front_end.n_fft // 2, front_end.n_fft
judge_methods("the larger window is better", METHODS, "resolution", short, long)
for measure in ATTRIBUTION:
    gains, draws = [], []
    for window in (short, long):
        dds3, nmf = (("resolution", method, window) for method in ("dds3", "nmf"))
        gains.append(points[dds3][measure] - points[nmf][measure])
        draws.append(drawn[dds3][measure] - drawn[nmf][measure])
    judge(
        "resolution",
        "the lead over NMF grows with it",
        "dds3",
        measure,
        gains[1] - gains[0],
        draws[1] - draws[0],
    )
told("resolution")

# %% [markdown]
# In the longer run of the `laptop` profile every method gains PSA by the larger window. Whether the lead of DDS-3 over NMF grows
# stays open. In average precision it is no lead: there DDS-3 is behind.
#
# ## 2. Dynamics
#
# The paper: chords of similar loudness (I60-68) are easier than those of very different loudness (I32-96), for every method.
# The two sets have different chords, so the interval of a difference is wider than on the same chords.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "PSA and average precision for a small and for a large range of velocities.", "name": "fig-trend-dynamics"}, "image": {"alt": "Two panels, each with a short line of two points with error bars for each of four methods."}}
trend_figure("dynamics", "range of velocities")

# %%
judge_methods("I60-68 is easier", METHODS, "dynamics", "I32-96", "I60-68")
told("dynamics")

# %% [markdown]
# In the longer run of the `laptop` profile all differences have the sign that the paper says, and most of them are sure.
#
# ## 3. Polyphony
#
# The paper: difficulty grows about linearly from two to seven notes at once.
#
# Both measures have a floor that moves. Activity that is spread evenly over all $N$ notes has a PSA of $P / N$, if $P$ of them
# sound, and so has the average precision of a guess. With more notes it is easier to be right by chance. So each measure $v$ is also
# taken *above chance*, $(v - P/N) / (1 - P/N)$, which is 0 for guessing and 1 for being right.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "PSA and average precision against the number of notes that sound at once.", "name": "fig-trend-polyphony"}, "image": {"alt": "Two panels with a line of points with error bars for NMF, DDS-2 and DDS-3 over two to seven notes."}}
trend_figure("polyphony", "notes at once")

# %% [markdown]
# Whether a measure moves along a line is seen from the share of its variance over polyphony that a straight line
# explains, $R^2$:

# %%
polyphonies = np.arange(2, 8)
chance = polyphonies / len(plain.profile.pitches.numbers)


def above_chance(values):
    """Values of the first axis are those of the polyphonies."""
    floor = chance.reshape(-1, *[1] * (values.ndim - 1))
    return (values - floor) / (1 - floor)


def as_it_is(values):
    return values


for method, measure in product(FAST, ATTRIBUTION):
    keys = [("polyphony", method, p) for p in polyphonies]
    values = np.array([points[key][measure] for key in keys])
    draws = np.stack([drawn[key][measure] for key in keys])
    for claim, scale in (
        ("each more note costs", as_it_is),
        ("each more note costs, above chance", above_chance),
    ):
        line = np.polyfit(polyphonies, scale(values), 1)
        slopes = np.polyfit(polyphonies, scale(draws), 1)[0]
        judge("polyphony", claim, method, measure, -line[0], -slopes)
        missed = scale(values) - np.polyval(line, polyphonies)
        explained = 1 - missed.var() / scale(values).var()
        print(f"{NAMES[method]}, {MEASURES[measure]}, {claim}: R² = {explained:.2f}")
told("polyphony")

# %% [markdown]
# In the longer run of the `laptop` profile average precision falls as notes are added, for every method. PSA does not: for NMF and DDS-2 it rises.
# Above chance only NMF's rise is left, and barely. PSA asks only whether the activity that is there is right, and the more notes
# sound, the more of it is.
#
# ## 4. Entries of a note
#
# The paper: with more entries, DDS-2 reconstructs better but does not attribute better. DDS-3 is as good or better in both. An interval
# can confirm that something is better or worse, but not that it is "not better". So the claims that are judged are a little stronger than
# the paper's. The verdicts compare the second number of entries with the last; each point is one search of a fixed number of iterations.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "PSA, average precision and relative error against the number C of entries of a note.", "name": "fig-trend-entries"}, "image": {"alt": "Three panels with lines of points with error bars for DDS-2 and DDS-3."}}
trend_figure("entries", "entries of a note, C", (*ATTRIBUTION, "relative_error"))

# %%
few, many = COMPONENTS[1], COMPONENTS[-1]
for method, sign, claim in (
    ("dds2", -1, "fewer entries attribute better"),
    ("dds3", 1, "more entries attribute better"),
):
    few_key, many_key = ("entries", method, few), ("entries", method, many)
    judge_pair("more entries reconstruct better", few_key, many_key, "relative_error", -1)
    for measure in ATTRIBUTION:
        judge_pair(claim, few_key, many_key, measure, sign)
print(f"C = {few} against C = {many}")
told("entries")

# %% [markdown]
# In the longer run of the `laptop` profile more entries put more of the activity on right notes, in DDS-2 as well. But at the last number of entries both
# reconstruct worse: the search has no more iterations for many more unknowns. And the average precision of DDS-3 falls by much.
#
# ## 5. Sparsity
#
# The paper: sparsity grows from NMF to DDS-3 without being asked for, and an explicit term can add to it. Here the
# term is $\mu \sum_{kt} H_{kt}$, added to the cost, `sparsity_weight` in the profile. At $\mu = 0$ nothing is asked for.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "PSA, average precision and sparsity against the weight of an explicit sparsity term.", "name": "fig-trend-sparsity"}, "image": {"alt": "Three panels with lines of points with error bars for NMF, DDS-2 and DDS-3, and a single point for DDS-1 at zero."}}
trend_figure("sparsity", "weight of the sparsity term, μ", (*ATTRIBUTION, "sparsity"))

# %%
for worse, better in pairwise(METHODS):
    judge_pair(
        f"sparser than {NAMES[worse]} without asking",
        ("sparsity", worse, 0.0),
        ("sparsity", better, 0.0),
        "sparsity",
    )
nothing, most = SPARSITY_WEIGHTS[0], SPARSITY_WEIGHTS[-1]
for method in FAST:
    plain_key, asked_key = (("sparsity", method, weight) for weight in (nothing, most))
    judge_pair("sparser when asked", plain_key, asked_key, "sparsity")
judge_methods("better when sparsity is asked for", FAST, "sparsity", nothing, most)
told("sparsity")

# %% [markdown]
# In the longer run of the `laptop` profile sparsity grows from DDS-1 to DDS-2 and to DDS-3; between NMF and DDS-1 it is undecided. When asked, every
# method is sparser. Its PSA rises then and its average precision falls: what is silenced is not only what is wrong.
#
# ## 6. Near and far
#
# The same piano, recorded from near and from far. The paper evaluates the close recordings only; the room makes the task harder,
# since no training piano was recorded in it.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "PSA and average precision close and ambient.", "name": "fig-trend-distance"}, "image": {"alt": "Two panels, each with a short line of two points with error bars for each of four methods."}}
trend_figure("distance", "recording")

# %%
judge_methods("close is easier", METHODS, "distance", ambient, close)
told("distance")

# %% [markdown]
# In the longer run of the `laptop` profile close is easier in PSA, for every method. Average precision hardly notices:
# none of its differences is sure.
#
# ## 7. One family less
#
# What does each family of training pianos add? One after the other is left out, the flows are trained anew, and NMF's
# dictionary is made without it.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "PSA and average precision when one family of training pianos is left out.", "name": "fig-trend-families"}, "image": {"alt": "Two panels with points with error bars for NMF and DDS-3, first with all families, then with one left out."}}
trend_figure("families", "left out")

# %%
for family in families:
    judge_methods(f"{family} helps", ENDS, "families", family, "none")
told("families")

# %% [markdown]
# In the longer run of the `laptop` profile the family *csound* helps NMF in both measures, and DDS-3 in average precision; its PSA is just undecided. The
# family *fluid*, which has most of the pianos, helps only the average precision of DDS-3; without it PSA of both is even higher.
#
# One more statement of the paper, that the cost of NMF grows with the training data and that of DDS does not, is about time. It
# is measured in {doc}`09_complexity`.
#
# ## The verdicts
#
# How often each claim was confirmed, contradicted, or left undecided, and in all:

# %%
verdicts = pd.DataFrame(verdicts, columns=COLUMNS)
verdicts.to_csv(Path(work_dir) / "trends-verdicts.csv", index=False)
counts = pd.crosstab([verdicts.trend, verdicts.claim], verdicts.verdict)
order = verdicts[["trend", "claim"]].drop_duplicates()
print(
    ", ".join(f"{n} {verdict}" for verdict, n in verdicts.verdict.value_counts().items())
)
counts.loc[list(order.itertuples(index=False, name=None))]

# %%
kept_verdicts = PROFILES.parent / "results" / f"trends-verdicts-{plain.profile.name}.csv"
if len(longer) and kept_verdicts.exists():
    of_longer = pd.read_csv(kept_verdicts)
    both = verdicts.merge(
        of_longer, on=["claim", "method", "measure"], suffixes=("", " longer")
    )
    table = pd.crosstab(both["verdict"], both["verdict longer"])
    print("verdicts of this chapter (down) and of the longer run (across):")
    print(table.to_string())

# %% [markdown]
# ## What was learnt
#
# * With few chords many claims are undecided; the intervals say so. The longer run decides about half of them.
# * In the longer run of the `laptop` profile these statements of the paper hold: chords of similar loudness are easier, and sparsity grows
#   from DDS-1 to DDS-3 without asking. These do not: PSA does not fall with each note, and more entries do not reconstruct better
#   in as many iterations. Whether the lead of DDS-3 grows with the window is open.
# * A claim may hold for PSA and not for average precision. Both have to be shown.
#
# **Next:** how fast it is against the machine's own limit, {doc}`speed`.
