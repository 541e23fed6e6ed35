"""What chapters 8 and 10 show of methods beside each other: measures with intervals, in tables and figures."""

import pandas as pd

from .. import measures
from ..methods.registry import registered
from ..search.domains import LogMagnitude
from . import plots
from .chapter import RESULTS

METHODS = {name: method for name, method in registered().items() if method.compared}
NAMES = {name: method.label for name, method in METHODS.items()}
PAPER = pd.DataFrame({name: method.published for name, method in METHODS.items() if method.published}).T  # Table II
MEASURE_LABELS = {
    "psa": "PSA",
    "average_precision": "average precision",
    "average_precision_per_frame": "the same per frame",
    "sparsity": "sparsity",
    "f_measure": "F",
    "relative_error": "relative error",
}
ATTRIBUTION = ["psa", "average_precision"]  # never one without the other


def under_the_papers_cost(workspace):
    """The methods, by name, for which log magnitudes add."""
    return {name: method for name, method in METHODS.items() if workspace.settings(name).mixing == LogMagnitude.name}


def kept(name):
    """A table of a long run that the project keeps; methods are called as on the page."""
    return pd.read_csv(RESULTS / name).fillna({"start": ""}).replace({"method": NAMES})


def signed(values):
    """Differences by measure, as text."""
    return ", ".join(f"{MEASURE_LABELS[measure]} {value:+.3f}" for measure, value in values.items())


def between(low, high):
    """An interval of signed values, as text."""
    return f"[{low:+.3f}, {high:+.3f}]"


def bounds(drawn):
    """The intervals of the results (draws,) of every measure, low and high."""
    return pd.DataFrame({name: measures.interval(draws) for name, draws in drawn.items()}, index=["low", "high"]).T


def table(estimates, instrument):
    """All measures of every method on a piano, with their intervals, as text.

    `estimates` has columns mean, low and high, and an index of method, piano and measure.
    """
    lines = estimates.xs(instrument, level=1)
    text = lines.apply(lambda line: "{mean:.3f} [{low:.3f}, {high:.3f}]".format(**line), axis=1)
    return text.unstack(sort=False).rename(index=NAMES, columns=MEASURE_LABELS)


def tables(estimates, instruments):
    """The same for several pianos, or for none."""
    return pd.concat([table(estimates, piano).assign(piano=piano) for piano in instruments] or [pd.DataFrame()])


def by_method(estimates, instruments):
    """PSA, beside the paper's, and average precision of every method: the first piano filled, others open."""
    places = pd.Series(range(len(NAMES)), NAMES)
    with plots.shown(9, 3.4, columns=2) as axes:
        for ax, measure in zip(axes, ATTRIBUTION, strict=True):
            for number, instrument in enumerate(instruments):
                found = estimates.xs((instrument, measure), level=(1, 2))
                x, face = places + 0.24 * (number - (len(instruments) - 1) / 2), "white" if number else plots.RIGHT
                own = found["mean"], found["low"], found["high"], plots.RIGHT
                plots.intervals(ax, x, *own, mfc=face, label=instrument)
            ax.set_xticks(places, NAMES.values())
            ax.set(ylabel=MEASURE_LABELS[measure], ylim=(0, 1.04))
        axes[0].plot(places, PAPER["psa"].reindex(NAMES), "_", color=plots.WRONG, markersize=26, label="paper")
        plots.legend_above(axes[0], ncols=1 + len(instruments))


def one_against_the_other(rows, filled):
    """Average precision of every row over its PSA: one piano filled, others open."""
    with plots.shown(5, 4) as ax:
        for (name, instrument), own in rows.groupby(["method", "instrument"], sort=False):
            colour = METHODS[name].colour
            face, label = (colour, NAMES[name]) if instrument == filled else ("white", None)
            ax.plot(own.psa, own.average_precision, "o", color=colour, mfc=face, label=label)
        ax.set(xlabel="PSA", ylabel="average precision", xlim=(0, 1), ylim=(0, 1.03))
        ax.legend(loc="lower right")


def losses(curves):
    """Training and validation losses over epochs, a panel for every flow."""
    flows = curves.groupby("flow", sort=False)
    with plots.shown(9, 3, columns=len(flows)) as axes:
        for ax, (flow, curve) in zip(axes, flows, strict=True):
            plots.training_history(ax, curve)
            lowest = curve.validation.min()
            ax.set(title=flow.replace("_", " "), ylim=(1.05 * lowest, -0.2 * lowest))
