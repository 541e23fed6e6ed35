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

from . import counts
from .artefacts import digest, write_text
from .config import FlowTraining, Growth, Profile, Sizes
from .counts import FlowShape, Work
from .dictionaries import Dictionary, FrameDictionary, SampleDictionary, SharedDictionary
from .flows import ConditionalGlow, Flow, RealNVP
from .frames import Frames
from .machine import PeakMemory, seconds, threads
from .precision import fast_products
from .processes import progress
from .training import train

REVISION = 3  # raise when what is measured changes
FACTORS = {"nmf": "TKNM", "dds1": "TKN", "dds2": "TKNC", "dds3": "TKNC"}  # what each method's cost depends on
TRAINED = {"dds2": "note_flows", "dds3": "conditional_flow"}  # DDS-1 has the flows of DDS-2
FIXED_WIDTHS = "K, fixed widths"
NEXT_TO_NOTHING = {"T": 1, "K": 16, "N": 1, "C": 1, "M": 1}  # a flow needs some bins
FEWEST_SECONDS = 0.01  # of what is timed at once: as many repetitions as this takes
REPEATS = 5  # measurements of a part, of which the shortest counts; the first is of one call


class Cost(NamedTuple):
    """Of one part of an iteration, or of an epoch of training."""

    seconds: float  # the shortest of several
    bytes: int | None  # most memory that was in use beyond what was before; for W, that of the weights too
    operations: float  # counted, see `ddslib.counts`


@threads(torch.get_num_threads())  # of the process, whatever is being timed
def build(method: str, sizes: Sizes, device: torch.device) -> Dictionary:
    """The method's dictionary of that size, with untrained flows, or with random samples; made with all threads."""
    if method == "nmf":
        samples, sources = torch.rand(sizes.M, sizes.K), torch.arange(sizes.M) % sizes.N
        return SampleDictionary(samples, sources, sizes.N, device, resident=device.type == "cuda")
    flow = _flow(method, sizes).to(device)
    if method == "dds1":
        return FrameDictionary(flow, sizes.T)
    return SharedDictionary(flow, sizes.C)


def _flow(method: str, sizes: Sizes) -> Flow:
    generator = torch.Generator().manual_seed(0)
    if method != "dds3":
        return RealNVP(sizes.N, sizes.K, sizes.F, sizes.hidden, generator)
    flow = ConditionalGlow(sizes.N, sizes.K, sizes.F, sizes.hidden, 1.0, generator)
    flow(torch.rand(64, sizes.K, generator=generator))  # where ActNorm learns how to start
    return flow


def work(method: str, sizes: Sizes) -> dict[str, Work]:
    """What the parts have to do at least.  NMF has its W."""
    if method == "nmf":
        return {"W": Work(0, 0), "X_hat": counts.mixing(sizes.K, sizes.M, sizes.T)}
    shape = _shape(method, sizes)
    if method == "dds1":
        return {"W": counts.decoding(shape, sizes.N * sizes.T), "X_hat": counts.frame_mixing(sizes.K, sizes.N, sizes.T)}
    entries = sizes.N * sizes.C
    return {"W": counts.decoding(shape, entries), "X_hat": counts.mixing(sizes.K, entries, sizes.T)}


def measure(method: str, sizes: Sizes, device: torch.device) -> dict[str, Cost]:
    """The costs of both parts."""
    with PeakMemory(device) as of_dictionary:
        dictionary = build(method, sizes, device)
        dictionary.refresh()
    H = dictionary.start(torch.rand(sizes.K, sizes.T, device=device), torch.Generator(device).manual_seed(0))
    with PeakMemory(device) as of_mixing:
        dictionary.mix(H)
    needed = work(method, sizes)
    return {
        "W": Cost(_shortest(dictionary.refresh, device), of_dictionary.bytes, needed["W"].operations),
        "X_hat": Cost(_shortest(lambda: dictionary.mix(H), device), of_mixing.bytes, needed["X_hat"].operations),
    }


def measure_training(recipe: FlowTraining, method: str, sizes: Sizes, device: torch.device) -> Cost:
    """The cost of an epoch on M random frames of N sources.  A frame of each source validates."""
    recipe = replace(recipe, epochs=1, steps=sizes.F, hidden=sizes.hidden)
    values = torch.rand(sizes.N + sizes.M, sizes.K, generator=torch.Generator().manual_seed(0)).numpy()
    number = np.arange(len(values))
    frames = Frames(values, number % sizes.N, np.zeros_like(number), (), "")

    def epoch() -> float:
        return train(recipe, frames, number < sizes.N, sizes.N, 0, device).seconds

    with PeakMemory(device) as memory:
        first = epoch()
    shape = _shape(method, sizes)
    steps = math.ceil(sizes.M / (recipe.batch * shape.stack))
    operations = steps * counts.training_step(recipe, shape, sizes.N).operations
    return Cost(min(first, epoch()), memory.bytes, operations)


def _shortest(part: Callable[[], object], device: torch.device) -> float:
    """Its time, without what else the machine was busy with: that can only make it longer."""
    once = seconds(part, device)
    times = max(1, round(FEWEST_SECONDS / max(once, 1e-7)))

    def repeated() -> None:
        for _ in range(times):
            part()

    return min(once, *(seconds(repeated, device) / times for _ in range(REPEATS - 1)))


def points(growth: Growth) -> Iterator[tuple[str, str, int, Sizes]]:
    """Method, factor, size of the factor, and all sizes: one factor at a time is doubled, again and again.

    Before that, the factor is next to nothing: what the rest takes by itself is its overhead.
    """
    for method, factors in FACTORS.items():
        for factor in (*factors, *([FIXED_WIDTHS] if method != "nmf" else [])):
            letter = factor[0]
            for size in (NEXT_TO_NOTHING[letter], *_doubled(growth, letter)):
                yield method, factor, size, grown(growth.smallest, letter, size, factor != FIXED_WIDTHS)


def _doubled(growth: Growth, letter: str) -> list[int]:
    return [getattr(growth.smallest, letter) << doubling for doubling in range(growth.doublings + 1)]


def grown(sizes: Sizes, letter: str, size: int, proportional: bool) -> Sizes:
    """With another size of one factor; hidden layers are to K what they were, if they are `proportional`."""
    hidden = sizes.hidden
    if letter == "K" and proportional:
        hidden = tuple(width * size // sizes.K for width in hidden)
    return replace(sizes, **{letter: size}, hidden=hidden)


def table(profile: Profile, folder: Path, device: torch.device) -> pd.DataFrame:
    """A row for every point and part, in order: ``method, part, factor, size, seconds, bytes, operations``.

    Then a row for every amount of training data.  Measured on one thread, so that a time is work and nothing else,
    and kept in `folder`.
    """
    recipes = {method: getattr(profile, kind) for method, kind in TRAINED.items()}
    path = folder / f"{digest(REVISION, profile.complexity, list(recipes.values()), device.type)}.csv"
    if not path.exists():
        with _undisturbed():
            rows = [*_rows(profile.complexity, device), *_training_rows(profile.complexity, recipes, device)]
        write_text(path, pd.DataFrame(rows).to_csv(index=False))
    return pd.read_csv(path)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """One thread, and no looking for garbage among the thousands of objects that libraries hold for good."""
    gc.collect()
    gc.freeze()
    try:
        with threads(1), fast_products():
            yield
    finally:
        gc.unfreeze()


def _rows(growth: Growth, device: torch.device) -> Iterator[dict]:
    planned = list(points(growth))
    with progress("complexity", "size", len(planned)) as bar:
        for method, factor, size, sizes in planned:
            for part, cost in measure(method, sizes, device).items():
                yield {"method": method, "part": part, "factor": factor, "size": size, **cost._asdict()}
            bar.update()


def _training_rows(growth: Growth, recipes: dict[str, FlowTraining], device: torch.device) -> Iterator[dict]:
    for method, recipe in recipes.items():
        measure_training(recipe, method, growth.smallest, device)  # in the first of all, libraries take what they need
        for size in _doubled(growth, "M"):
            cost = measure_training(recipe, method, replace(growth.smallest, M=size), device)
            yield {"method": method, "part": "training", "factor": "M", "size": size, **cost._asdict()}


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


def stored_bytes(method: str, sizes: Sizes) -> int:
    """What Table I calls space: the weights of the flows, and W, in single precision."""
    if method == "nmf":
        return counts.NUMBER * sizes.M * sizes.K
    entries = sizes.N * (sizes.T if method == "dds1" else sizes.C)
    return counts.NUMBER * (_shape(method, sizes).weights + entries * sizes.K)


def _shape(method: str, sizes: Sizes) -> FlowShape:
    stacked = method != "dds3"
    return FlowShape(sizes.K, sizes.F, sizes.hidden, sizes.N if stacked else 1, mixing=not stacked)
