"""Tables and figures of *How fast it is*: what `make bench` measured, beside the machine's own limit."""

import json
import time
from typing import NamedTuple

import numpy as np
import pandas as pd

from .. import measures
from ..config import load_profile
from ..costs.rates import TRAININGS, rates
from ..flows.work import epoch, training
from ..machine.limits import Limits
from ..methods.registry import registered, settings
from .chapter import RESULTS
from .plots import INK, RIGHT, legend_above, shown

FRAMES, SAMPLES = 500, 60_000  # of the searches and trainings at the paper's size
MEASURES = {"psa": "PSA", "average_precision": "average precision"}


class Bench(NamedTuple):
    """What a machine has measured."""

    device: str
    versions: dict[str, str]
    rows: pd.DataFrame  # iterations and training steps, by what and size
    peers: pd.DataFrame  # pairs of ours and another library, by work and library
    limit: Limits
    usual: Limits | None  # with the products that torch does by itself, where they were measured
    rates: dict[str, float]  # at the paper's size


def read(path):
    """The measurements of a file that `make bench` wrote."""
    found = json.loads(path.read_text())
    products, copies, usual = found["limits"].values()
    return Bench(
        found["device"],
        found["versions"],
        pd.DataFrame(found["rows"]).rename(columns={"name": "what"}).set_index(["what", "size"]),
        pd.DataFrame(found["peers"]).rename(columns={"peer": "library"}).set_index(["work", "library"]),
        Limits(products, copies),
        Limits(usual, copies) if usual else None,
        rates(found, "paper"),
    )


whole = "{:.0f}".format


def three_digits(number):
    return f"{number:.3g}" if number < 1000 else whole(number)


def two_digits(fraction):
    return f"{fraction:.2f}" if fraction >= 0.1 else f"{fraction:.3f}"


def duration(seconds):
    """In milliseconds, seconds or hours."""
    if seconds < 1:
        return f"{three_digits(1000 * seconds)} ms"
    return f"{three_digits(seconds)} s" if seconds < 600 else f"{three_digits(seconds / 3600)} h"


def answer(cpu, gpu):
    """The time and the fraction of the limit of each iteration and training step, at two sizes."""
    columns = {}
    for machine, size, bench in (("CPU", "laptop", cpu), ("GPU", "paper", gpu)):
        rows = bench.rows.xs(size, level="size")
        columns[f"{size}, {machine}"] = (rows.ms / 1000).map(duration)
        columns[f"of the {machine}'s limit"] = rows.fraction.map(two_digits)
    return pd.DataFrame(columns)


def machines(*benches):
    """A column for each machine: versions, and its rates."""
    columns = {
        bench.device: {
            "ddslib": bench.versions["ddslib"],
            "torch": bench.versions["torch"],
            "products, 10⁹ operations a second": whole(bench.limit.gflops),
            "torch's own products": whole(bench.usual.gflops) if bench.usual else "",
            "copies, 10⁹ bytes a second": whole(bench.limit.gbytes),
        }
        for bench in benches
    }
    return pd.DataFrame(columns)


def against_the_limit(bench):
    """A row for each iteration and training step."""
    rows, usual = bench.rows, bench.usual
    columns = {
        "ms": rows.ms.map(three_digits),
        "10⁹ operations": (rows.operations / 1e9).map(three_digits),
        "MB": (rows.bytes / 1e6).map(whole),
        "fraction of the limit": rows.fraction.map(two_digits),
    }
    if usual:
        least = rows.apply(lambda row: usual.seconds(row.operations, row.bytes), axis=1)
        columns["of torch's own"] = (1000 * least / rows.ms).map("{:.2f}".format)
    if rows.products_ms.notna().all():
        columns["products alone, ms"] = rows.products_ms.map(three_digits)
    return pd.DataFrame(columns | {"more memory, MiB": (rows.peak_bytes.clip(lower=0) / 2**20).map(whole)})


def copies_beside(bench):
    """The rates of copies, in 10⁹ bytes a second, that were measured beside the rows whose limit is memory."""
    rows = bench.rows.query("bytes / @bench.limit.gbytes > operations / @bench.limit.gflops")
    return rows.bytes / rows.fraction / rows.ms / 1e6


def rooflines(*benches):
    """What was reached on each machine, under what can be reached."""
    intensity = np.logspace(-0.5, 3.5, 200)
    with shown(10, 3.6, columns=len(benches)) as axes:
        for ax, bench in zip(axes, benches, strict=True):
            limit, rows = bench.limit, bench.rows.drop("smoke", level="size")
            ax.loglog(intensity, np.minimum(limit.gflops, limit.gbytes * intensity), color=INK, label="limit")
            if bench.usual:
                ax.axhline(bench.usual.gflops, color=INK, lw=0.8, ls=":", label="torch's own")
            points = pd.DataFrame({"x": rows.operations / rows.bytes, "y": rows.operations / rows.ms / 1e6})
            for what, marker in zip(rows.index.unique("what"), "osD^v*<>pPX", strict=False):
                smaller, larger = points.loc[what].values
                ax.plot(*smaller, marker, color=RIGHT, label=what)
                ax.plot(*larger, marker, color=RIGHT, mfc="white")
            ax.set(xlabel="operations per byte", ylabel="10⁹ operations a second")
        legend_above(axes[0], ncols=4)


def against_peers(bench):
    """A row for each pair of ours and another library."""
    ours, its, ratios = bench.peers.ours_ms, bench.peers.peer_ms, bench.peers.apply(_ratio, axis=1)
    return pd.DataFrame({"ours, ms": ours.map(whole), "its ms": its.map(whole), "ratio": ratios})


def _ratio(row):
    if not row.reached:
        return f"> {int(row.ratio)} (not reached)"
    low, high = row.ratio_spread
    return f"{row.ratio:.1f}" + (f" [{low:.1f}, {high:.1f}]" if low < high else "")


def what_rounding_changes(twice):
    """Rows of the same searches with and without rounding, compared: a line for each method."""
    rows = twice.fillna({"seed": 0}).rename(columns=MEASURES).set_index(["method", "instrument", "seed"])
    is_mixed = rows.device.str.endswith("mixed precision")
    pairs = rows[~is_mixed].join(rows[is_mixed], rsuffix=", rounded")
    return pd.DataFrame({method: _effects(own) for method, own in pairs.groupby("method", sort=False)}).T


def _effects(pairs):
    found = {}
    for measure in MEASURES.values():
        single = pairs[measure]
        change, between = pairs[f"{measure}, rounded"] - single, single.groupby("instrument").agg(np.ptp).mean()
        found[measure, "single"] = f"{single.mean():.3f}"
        found[measure, "rounding"] = f"{change.abs().mean():.3f}"
        found[measure, "other seed"] = f"{between:.3f}" if between else ""
        found[measure, "lower"] = f"{(change < 0).sum()} of {len(change)}"
    faster = (pairs["seconds"] / pairs["seconds, rounded"]).median()
    return found | {("seconds", "single / rounded"): f"{faster:.1f}"}


class Watched:
    """A dictionary that is decoded at every `times`-th iteration only, and notes seconds and measures of each.

    Y (N, T) is what the measures go by.
    """

    recordable = False  # on a GPU: what it notes would be noted once

    def __init__(self, dictionary, Y, times):
        self._dictionary, self._Y, self._times, self._diary = dictionary, Y, times, []
        self._begun = time.perf_counter()

    def __getattr__(self, name):
        return getattr(self._dictionary, name)

    @property
    def _is_due(self):
        return len(self._diary) % self._times == 0

    def pull_back(self, G, H, likelihood_weight):
        now = time.perf_counter()
        A = self._dictionary.attribute(H).cpu()
        attributed = measures.precision_of_source_attribution(A, self._Y)
        self._diary.append((now - self._begun, attributed, measures.average_precision(A, self._Y)))
        self._begun += time.perf_counter() - now  # the clock stands while measures are taken
        # Adam leaves alone what has no gradient.
        return self._dictionary.pull_back(G, H, likelihood_weight) if self._is_due else (None,)

    def refresh(self):
        if self._is_due:
            self._dictionary.refresh()

    def curves(self, cost):
        """Seconds and measures of as many iterations beside their cost J, and decodings so far."""
        noted = pd.DataFrame(self._diary[: len(cost)], columns=["seconds", *MEASURES.values()])
        return noted.assign(**{"cost J": cost}, decodings=noted.index // self._times + 1)


def against_time(curves):
    """Cost and measures of searches over seconds: by their names, what `Watched.curves` gives."""
    lines = ("C3-", "C1-", "C3:", "C0:", "C0-")  # colours of the style by their numbers
    with shown(11, 3, columns=3) as axes:
        for ax, name in zip(axes, ("cost J", *MEASURES.values()), strict=True):
            for (search, curve), line in zip(curves.items(), lines, strict=True):
                ax.plot(curve.seconds, curve[name], line, label=search)
            ax.set(xlabel="time (s)", ylabel=name)
        axes[0].set_yscale("log")
        legend_above(axes[0], ncols=len(curves), fontsize="small")


def at_paper_size(cpu, gpu):
    """Counted operations of whole searches and trainings, and seconds: at least on the CPU, about on the GPU."""
    paper, works = load_profile("paper"), {}
    for name, method in registered().items():
        if method.label in gpu.rates:
            job = f"{method.label}, {settings(paper, name).iterations} iterations"
            works[job] = method.search_work(paper, settings(paper, name), FRAMES, SAMPLES)
    for kind, name in TRAININGS.items():
        works[f"{name}, an epoch"] = epoch(paper, kind, SAMPLES)
        works[f"{name}, {getattr(paper, kind).epochs} epochs"] = training(paper, kind, SAMPLES)
    costs = {
        job: {
            "operations": work.operations,
            "CPU": cpu.limit.seconds(work.operations, work.bytes),
            "GPU": work.operations / gpu.rates[job.partition(",")[0]],
        }
        for job, work in works.items()
    }
    return pd.DataFrame(costs).T


def fastest(bench, work):
    """The pair of the fastest other library, which is its name."""
    pairs = bench.peers.xs(work, level="work")
    return pairs[~pairs.index.str.startswith("ours")].nsmallest(1, "ratio").iloc[0]


def aims(cpu, jobs):
    """What was aimed at, in which measure, what was reached, and whether that is enough."""
    table = pd.read_csv(RESULTS / "aims.csv", index_col="what")
    reached = {", ".join(row): fraction for row, fraction in cpu.rows.fraction.items()}
    reached |= jobs.GPU.add_suffix(", GPU").to_dict()
    for work in table.index[table.measure == "ratio"]:
        pair = fastest(cpu, work)
        reached[work], table.loc[work, "measure"] = pair.ratio, f"{pair.name} / ours"
    values, below = table.index.map(reached), table.measure == "seconds"
    met = np.where(below, values < table.aim, values >= table.aim)
    table["aim"] = np.where(below, "<", "≥") + table.aim.map("{:g}".format)
    return table.assign(reached=values.map(three_digits), met=np.where(met, "yes", "no"))
