"""What chapter 10 does with its grid: rows in which one thing changes, their figures, and verdicts on claims."""

from itertools import product

import numpy as np
import pandas as pd

from .. import measures
from ..artefacts import write_text
from ..runs.grids import read_grid
from ..runs.sweeps import evaluate_all
from . import plots
from .chapter import RESULTS
from .comparison import ATTRIBUTION, MEASURE_LABELS, METHODS, NAMES, between, bounds

CLAIM = ["claim", "method", "measure"]  # what a verdict is on, within a trend
STYLES = {"longer": {"fmt": "s", "mfc": "white", "alpha": 0.7}, "this": {"fmt": "o-", "linewidth": 0.8}}


class Trends:
    """Rows of a grid, what was found in them, and verdicts.

    `grid` holds the lines of every trend: the value of what changes, and cells.  With those that all lines have in
    `common` they become a sweep's grid, the file ``trends-grid.csv`` in the workspace's folder.
    """

    def __init__(self, workspace, grid, common):
        self._lines = [(trend, *line) for trend, lines in grid.items() for line in lines]
        cells = pd.DataFrame([common | cells for *_, cells in self._lines], dtype=object)
        path = workspace.folder / "trends-grid.csv"
        write_text(path, cells.to_csv(index=False))
        self.runs = [line.run for line in read_grid(path, workspace.changed)]
        self.different = len({space.row_path(experiment) for space, experiment in self.runs})
        self.found = {}  # by trend, method, value and measure: what it is, and how it would be with other chords
        self._verdicts = []

    def evaluate(self):
        """The row of every line, with the intervals of its measures; what is missing is computed on all cores."""
        rows = []
        for (trend, value, _), run, row in zip(self._lines, self.runs, evaluate_all(self.runs), strict=True):
            drawn = run.workspace.bootstrap([run.experiment])
            for measure, draws in drawn.items():
                self.found[trend, row["method"], value, measure] = np.array([row[measure], *draws])
            sides = {f"{measure}_{side}": bound for (side, measure), bound in bounds(drawn).unstack().items()}
            rows.append({"trend": trend, "value": value} | row | sides)
        return pd.DataFrame(rows)

    def gain(self, trend, worse, better, measure):
        """How much more of a measure one row has than another, each given by its method and value (1 + draws,)."""
        return self.found[trend, *better, measure] - self.found[trend, *worse, measure]

    def judge(self, trend, claim, method, measure, gain):
        """Keep the verdict on the claim that `gain` (1 + draws,), what it is and what it would be, is positive."""
        verdict = *measures.interval(gain[1:]), measures.verdict(gain[1:])
        self._verdicts.append((trend, claim, NAMES[method], MEASURE_LABELS[measure], gain[0], *verdict))

    def compare(self, trend, claim, methods, worse, better, of=ATTRIBUTION):
        """Judge for every method and measure whether one value of what changes has more of it than another."""
        for method, measure in product(methods, of):
            self.judge(trend, claim, method, measure, self.gain(trend, (method, worse), (method, better), measure))

    def verdicts(self):
        """All verdicts so far."""
        return pd.DataFrame(self._verdicts, columns=["trend", *CLAIM, "difference", "low", "high", "verdict"])

    def told(self, trend):
        """The verdicts of one trend, for reading."""
        table = self.verdicts().query("trend == @trend").set_index(CLAIM)
        table["difference"] = table["difference"].map("{:+.3f}".format)
        table["interval"] = list(map(between, table["low"], table["high"]))
        return table[["difference", "interval", "verdict"]]


def longer(workspace, kind):
    """The table of a longer run of the same profile, if one is kept with the project, else an empty one."""
    path = RESULTS / f"{kind}-{workspace.profile.name}.csv"
    return pd.read_csv(path) if path.exists() and workspace.is_rendered else pd.DataFrame()


def figure(points, trend, label, *more):
    """PSA, average precision and `more` measures with intervals, a panel each, over the values of what changes.

    `points` has an index level ``"run"``: rows of this one, and of a longer one in the back.
    """
    own, shown = points[points.trend == trend].astype({"value": str}), [*ATTRIBUTION, *more]
    places = {value: place for place, value in enumerate(own.loc["this"]["value"].unique())}
    with plots.shown(4.6 * len(shown), 3.4, columns=len(shown)) as axes:
        for ax, measure in zip(axes, shown, strict=True):
            for (run, name), rows in own.groupby(["run", "method"], sort=False):
                beside = 0.06 * (list(METHODS).index(name) - (len(METHODS) - 1) / 2)
                x = rows["value"].map(places) + beside + (0.03 if run == "longer" else 0)
                found = rows[measure], rows[f"{measure}_low"], rows[f"{measure}_high"], METHODS[name].colour
                plots.intervals(ax, x, *found, label=NAMES[name] if run == "this" else None, **STYLES[run])
            ax.set_xticks(range(len(places)), places)
            ax.set(xlabel=label, ylabel=MEASURE_LABELS[measure])
        plots.legend_above(axes[0], ncols=len(METHODS))
