"""Tables and figures of *What it costs*: measured growth beside the paper's Table I."""

from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from ..costs.growth import FIXED_WIDTHS, exponent, grown
from ..machine.work import NUMBER
from ..methods.registry import find, registered
from .plots import INK

PARTS = {"W": "W from Z", "X_hat": "X̂ from W and H"}
FACTORS = ("T", "K", FIXED_WIDTHS, "N", "C", "M")


def curves(table):
    """Method, part and factor, and the rows of the `table` of `ddslib.costs.growth` in which that factor grows.

    A part that is no work, as to build the W of stored frames, has none.
    """
    groups = dict(iter(table[table.operations > 0].groupby(["method", "part", "factor"])))
    for method, part, factor in product(registered().values(), PARTS, FACTORS):
        if (method.name, part, factor) in groups:
            yield method, part, factor, groups[method.name, part, factor]


def is_work(rows):
    """Where a time is more than overhead; the first of the rows is next to nothing."""
    return rows.seconds >= 4 * rows.seconds.iloc[0]


def growth_figure(table, part):
    """A panel for every factor, and in it a line of points for every method."""
    figure, axes = plt.subplots(2, 3, figsize=(9, 5.6), sharey=True)
    panels = dict(zip(FACTORS, axes.flat, strict=True))
    for method, _, factor, rows in curves(table[table.part == part]):
        sizes, ms, filled = rows["size"], 1e3 * rows.seconds, is_work(rows)
        panels[factor].loglog(sizes, ms, "o-", color=method.colour, linewidth=0.8, mfc="white")
        panels[factor].loglog(sizes[filled], ms[filled], "o", color=method.colour)
    low, high = axes[0, 0].get_ylim()
    for factor, ax in panels.items():
        ax.set(xlabel=factor, xscale="log", yscale="log")
        ax.xaxis.set_minor_formatter("")  # else labels overlap
        ends = np.array(ax.get_xlim())
        for slope in (1, 2):
            ax.plot(ends, low * (ends / ends[0]) ** slope, ":", color=INK, linewidth=0.7)
        ax.set(xlim=ends, ylim=(low, high))
    plt.setp(axes[:, 0], ylabel=f"{PARTS[part]} (ms)")
    for method in registered().values():
        axes[0, 0].plot([], [], "o-", color=method.colour, label=method.label)
    figure.legend(loc="outside upper center", ncols=len(registered()))
    plt.show()


def exponents(table):
    """A line for every method, part and factor; NaN where less than a factor of eight is more than overhead."""
    lines = []
    for method, part, factor, rows in curves(table):
        predicted = method.work.predicted[part].get(factor)
        rows = rows.iloc[1:] if predicted == 0 else rows[is_work(rows)]
        lines.append({"method": method.label, "part": part, "grows": factor})
        sizes = rows["size"]
        if len(sizes) < 4 or sizes.max() < 8 * sizes.min():
            continue
        counted, found = exponent(sizes, rows.operations), exponent(sizes, rows.seconds)
        predicted = counted.value if predicted is None else predicted
        lines[-1] |= {
            "sizes": f"{sizes.min()}–{sizes.max()}",
            "predicted": predicted,
            "counted": counted.value,
            "measured": found.value,
            "interval": f"[{found.low:.2f}, {found.high:.2f}]",
            "last": np.log2(rows.seconds.iloc[-1] / rows.seconds.iloc[-2]),  # the last doubling
            "off by": found.value - predicted,
        }
    return pd.DataFrame(lines)


def memory(table, smallest):
    """What was in use while W was built, at the largest size of each factor, beside the weights and W by themselves."""
    of_W, lines = table.query("part == 'W' and factor != @FIXED_WIDTHS"), {}
    for row in of_W.groupby(["method", "factor"]).tail(1).itertuples():
        method, sizes = find(row.method), grown(smallest, row.factor, row.size)
        lines[method.label, f"{row.factor} = {row.size}"] = {
            "weights and W, MiB": NUMBER * method.work.stored(sizes) / 2**20,
            "most in use, MiB": row.bytes / 2**20,
        }
    return pd.DataFrame(lines).T.rename_axis(["method", "largest"]).round(1)
