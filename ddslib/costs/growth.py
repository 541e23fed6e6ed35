"""What building W, building X̂ and training cost as one size grows, measured and counted (paper §III-E, Table I)."""

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import stats

from ..artefacts import digest, write_text
from ..config import FlowTraining, Growth, Profile, Sizes
from ..flows.training import train
from ..flows.work import FlowShape, training_step
from ..machine.device import policy, threads
from ..machine.limits import peak_bytes, seconds
from ..machine.processes import progress
from ..machine.rounding import fast_products
from ..methods.examples import example, random_frames
from ..methods.method import Method
from ..methods.registry import registered

REVISION = 3  # raise when what is measured changes
FIXED_WIDTHS = "K, fixed widths"
FEWEST_BINS = 16  # a flow needs some; of all else, 1 is next to nothing
FEWEST_SECONDS = 0.01  # of what is timed at once: as many repetitions as this takes
REPEATS = 5  # measurements of a part, of which the shortest counts; the first is of one call


class Cost(NamedTuple):
    """Of one part of an iteration, or of an epoch of training."""

    seconds: float  # the shortest of several
    bytes: int | None  # most memory that was in use beyond what was before; for W, that of the weights too
    operations: float  # counted, see `ddslib.machine.work`


def flow_users() -> dict[str, Method]:
    """Every flow that methods decode with, and the first method that can afford many searches with it."""
    found = {}
    for method in registered().values():
        if method.flow and method.affordable:
            found.setdefault(method.flow, method)
    return found


build = threads(torch.get_num_threads())(example)  # with all threads of the process, whatever is being timed


def measure(method: Method, sizes: Sizes, device: torch.device) -> dict[str, Cost]:
    """The costs of both parts."""

    def built():
        dictionary = build(method, sizes, policy(device))
        dictionary.refresh()
        return dictionary

    of_W, dictionary = peak_bytes(built, device)
    H = dictionary.start(torch.rand(sizes.K, sizes.T, device=device), torch.Generator(device).manual_seed(0))
    of_X_hat, _ = peak_bytes(lambda: dictionary.mix(H), device)
    needed = method.work.parts(sizes)
    return {
        "W": Cost(_shortest(dictionary.refresh, device), of_W, needed["W"].operations),
        "X_hat": Cost(_shortest(lambda: dictionary.mix(H), device), of_X_hat, needed["X_hat"].operations),
    }


def measure_training(recipe: FlowTraining, flow: str, sizes: Sizes, device: torch.device) -> Cost:
    """The cost of an epoch on M random frames of N sources.  A frame of each source validates."""
    recipe = replace(recipe, epochs=1, steps=sizes.F, hidden=sizes.hidden)
    frames = random_frames(sizes.N + sizes.M, sizes)
    validation = np.arange(len(frames.values)) < sizes.N

    def epoch():
        return train(recipe, frames, validation, sizes.N, 0, device).seconds

    memory, first = peak_bytes(epoch, device)
    shape = FlowShape.of(flow, sizes)
    steps = math.ceil(sizes.M / (recipe.batch * shape.stack))
    operations = steps * training_step(recipe, shape, sizes.N).operations
    return Cost(min(first, epoch()), memory, operations)


def _shortest(part, device):
    """Its time, without what else the machine was busy with: that can only make it longer."""
    once = seconds(part, device)
    times = max(1, round(FEWEST_SECONDS / max(once, 1e-7)))
    return min(once, *(seconds_each(part, device, times) for _ in range(REPEATS - 1)))


def seconds_each(part: Callable[[], object], device: torch.device, times: int) -> float:
    """How long `part` takes, of so many times in a row."""

    def repeated():
        for _ in range(times):
            part()

    return seconds(repeated, device) / times


def points(growth: Growth) -> Iterator[tuple[Method, str, int, Sizes]]:
    """Method, factor, size of the factor, and all sizes: one factor at a time is doubled, again and again.

    Before that, the factor is next to nothing: what the rest takes by itself is its overhead.
    """
    for method in registered().values():
        for factor in (*method.work.factors, *([FIXED_WIDTHS] if method.flow else [])):
            letter = factor[0]
            for size in (FEWEST_BINS if letter == "K" else 1, *_doubled(growth, letter)):
                yield method, factor, size, grown(growth.smallest, factor, size)


def _doubled(growth, letter):
    return [getattr(growth.smallest, letter) << doubling for doubling in range(growth.doublings + 1)]


def grown(sizes: Sizes, factor: str, size: int) -> Sizes:
    """With another size of one factor; hidden layers are to K what they were, unless their widths are fixed."""
    hidden = sizes.hidden
    if factor == "K":
        hidden = tuple(width * size // sizes.K for width in hidden)
    return replace(sizes, **{factor[0]: size}, hidden=hidden)


def table(profile: Profile, folder: Path, device: torch.device) -> pd.DataFrame:
    """A row for every point and part, in order: ``method, part, factor, size, seconds, bytes, operations``.

    Then a row for every amount of training data.  Measured on one thread, so that a time is work and nothing else,
    and kept in `folder`.
    """
    recipes = [getattr(profile, flow) for flow in flow_users()]
    path = folder / f"{digest(REVISION, profile.complexity, [*registered()], recipes, str(device))}.csv"
    if not path.exists():
        with _undisturbed():
            rows = [*_rows(profile, device), *_training_rows(profile, device)]
        columns = ["method", "part", "factor", "size", *Cost._fields]
        write_text(path, pd.DataFrame(rows, columns=columns).to_csv(index=False))
    return pd.read_csv(path)


@contextmanager
def _undisturbed():
    """One thread, and no looking for garbage among the thousands of objects that libraries hold for good."""
    gc.collect()
    gc.freeze()
    try:
        with threads(1), fast_products():
            yield
    finally:
        gc.unfreeze()


def _rows(profile, device):
    planned = list(points(profile.complexity))
    with progress("complexity", "size", len(planned)) as bar:
        for method, factor, size, sizes in planned:
            for part, cost in measure(method, sizes, device).items():
                yield method.name, part, factor, size, *cost
            bar.update()


def _training_rows(profile, device):
    smallest = profile.complexity.smallest
    for flow, method in flow_users().items():
        recipe = getattr(profile, flow)
        measure_training(recipe, flow, smallest, device)  # in the first of all, libraries take what they need
        for size in _doubled(profile.complexity, "M"):
            cost = measure_training(recipe, flow, replace(smallest, M=size), device)
            yield method.name, "training", "M", size, *cost


class Exponent(NamedTuple):
    """Of a power law, with its 95 % interval."""

    value: float
    low: float
    high: float


def exponent(sizes: Sequence[float], values: Sequence[float]) -> Exponent:
    """The slope of a straight line through the points on log-log paper; at least three points."""
    line = stats.linregress(np.log(sizes), np.log(values))
    margin = stats.t.ppf(0.975, len(sizes) - 2) * line.stderr
    return Exponent(line.slope, line.slope - margin, line.slope + margin)
