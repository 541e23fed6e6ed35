"""Every method's iteration and every flow's training step, at three sizes, against the machine's limit."""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ddslib import config, counts, machine, training
from ddslib.config import Fit, FlowTraining, Profile
from ddslib.counts import FlowShape, Work
from ddslib.decomposition import Search
from ddslib.dictionaries import Dictionary, FrameDictionary, SampleDictionary, SharedDictionary
from ddslib.frames import Frames
from ddslib.plots import METHOD_NAMES as NAMES
from ddslib.precision import FACTORS, fast_products

REPEATS = 5
SPEED = {"cpu": 1, "cuda": 5}  # how many times as often something is done between two looks at the clock


@dataclass(frozen=True)
class Size:
    """What is decomposed and what is learnt from."""

    name: str
    profile: Profile
    frames: int  # T
    samples: int  # M

    @property
    def sources(self) -> int:
        return len(self.profile.pitches.numbers)

    @property
    def bins(self) -> int:
        return self.profile.front_end.bins


def sizes(device: torch.device) -> list[Size]:
    """The profiles'; on a CPU the paper's widths with a quarter of its steps, codes and frames, and smaller batches."""
    paper = config.load_profile("paper")
    whole = Size("paper", paper, 500, 60_000)
    if device.type == "cpu":
        fewer = {kind: replace(getattr(paper, kind), steps=getattr(paper, kind).steps // 4) for kind in KINDS}
        shares = {"note_flows": 8, "conditional_flow": 2}  # of a batch; all of it would take more than 16 GB
        batches = {kind: replace(recipe, batch=recipe.batch // shares[kind]) for kind, recipe in fewer.items()}
        searches = {method: replace(getattr(paper, method), components=5) for method in ("dds2", "dds3")}
        whole = Size("paper widths", replace(paper, **batches, **searches), 125, 60_000)
    return [
        Size("smoke", config.load_profile("smoke"), 120, 4000),
        Size("laptop", config.load_profile("laptop"), 245, 18_800),
        whole,
    ]


KINDS = ("note_flows", "conditional_flow")


Repeat = Callable[[int], None]  # do it so many times


@dataclass(frozen=True)
class Case:
    """Something that is done over and over."""

    name: str
    size: str
    work: Work
    begin: Callable[[], Repeat]  # prepare it
    times: int  # how often between two looks at the clock


def cases(size: Size, device: torch.device) -> Iterator[Case]:
    """In the order of the book; in the precision of the machine's limits."""
    for method in MAKERS:
        yield _iteration(method, size, device)
    for kind in KINDS:
        yield _training(kind, size, device)


def _iteration(method: str, size: Size, device: torch.device) -> Case:
    begin_search = searches(method, size, device, mixed=device.type == "cuda")

    def begin() -> Repeat:
        return repeated(begin_search().iterate)

    work = counts.iteration(size.profile, method, size.frames, size.samples)
    times = (1 if method == "dds1" else 10) * SPEED[device.type]  # so few of DDS-1 that it leaves nothing out yet
    return Case(f"{NAMES[method]} iteration", size.name, work, begin, times)


def searches(method: str, size: Size, device: torch.device, mixed: bool) -> Callable[[], Search]:
    """What begins a search, again and again with the same dictionary or flow."""
    draws = torch.Generator(device).manual_seed(0)
    X = torch.rand(size.bins, size.frames, generator=draws, device=device)
    fit: Fit = getattr(size.profile, method)
    make = MAKERS[method](size, fit, device, mixed)
    return lambda: Search(X, make(), fit, generator=draws)


def repeated(work: Callable[[], object]) -> Repeat:
    def repeat(times: int) -> None:
        for _ in range(times):
            work()

    return repeat


Maker = Callable[[], Dictionary]


def _nmf(size: Size, fit: Fit, device: torch.device, mixed: bool) -> Maker:
    samples = torch.rand(size.samples, size.bins)
    sources = torch.arange(size.samples) % size.sources
    factors = FACTORS[device.type] if mixed else None
    dictionary = SampleDictionary(samples, sources, size.sources, device, device.type == "cuda", factors)
    return lambda: dictionary


def _dds1(size: Size, fit: Fit, device: torch.device, mixed: bool) -> Maker:
    flow = searched_flow("note_flows", size, device, mixed)
    return lambda: FrameDictionary(flow, size.frames)


def _shared(kind: str) -> Callable[[Size, Fit, torch.device, bool], Maker]:
    def maker(size: Size, fit: Fit, device: torch.device, mixed: bool) -> Maker:
        flow = searched_flow(kind, size, device, mixed)
        return lambda: SharedDictionary(flow, fit.components)

    return maker


MAKERS = {"nmf": _nmf, "dds1": _dds1, "dds2": _shared("note_flows"), "dds3": _shared("conditional_flow")}


def searched_flow(kind: str, size: Size, device: torch.device, mixed: bool) -> training.Flow:
    """Frozen."""
    flow = flow_of(kind, size, device)
    return flow.to_mixed_precision() if mixed else flow.freeze()


def flow_of(kind: str, size: Size, device: torch.device) -> training.Flow:
    """A flow as it starts out, with ActNorm's state."""
    generator = torch.Generator().manual_seed(0)
    flow = training.build(getattr(size.profile, kind), size.sources, size.bins, generator).to(device)
    if kind == "conditional_flow":
        flow(torch.rand(256, size.bins, generator=generator).to(device))
    return flow


def _training(kind: str, size: Size, device: torch.device) -> Case:
    """On the same batch again and again; one frame a note is held out."""
    recipe: FlowTraining = getattr(size.profile, kind)
    stacked = kind == "note_flows"
    held_out = 1 if stacked else size.sources
    count = recipe.batch + held_out
    sources = np.repeat(np.arange(size.sources), count) if stacked else np.arange(count) % size.sources
    values = torch.rand(len(sources), size.bins, generator=torch.Generator().manual_seed(0)).numpy()
    validation = np.arange(len(sources)) % count < held_out
    frames = Frames(values, sources, np.zeros(len(sources), np.int64), (), "")
    work = counts.training_step(recipe, FlowShape.of(size.profile, kind), size.sources)

    def begin() -> Repeat:
        data = training._Data(recipe, frames, validation, size.sources, device)
        run = training._Run(recipe, data, size.sources, 0, device, mixed=device.type == "cuda")
        (rows,) = data.epoch(run.active, recipe.batch, run.order)
        return repeated(lambda: run._step(rows))

    return Case(f"{TRAININGS[kind]} training step", size.name, work, begin, times=4 * SPEED[device.type])


TRAININGS = {"note_flows": "RealNVP", "conditional_flow": "Glow"}


aten = torch.ops.aten
PRODUCTS = (aten.mm, aten.bmm, aten.addmm, aten.baddbmm)


class _Products(TorchDispatchMode):
    """Notes all matrix products that are done, to do them again."""

    def __init__(self):
        super().__init__()
        self.calls: list[Callable[[], object]] = []

    def __torch_dispatch__(self, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        call = partial(operation, *args, **(kwargs or {}))
        if operation.overloadpacket in PRODUCTS:
            self.calls.append(call)
        return call()


def products_alone(repeat: Repeat) -> Repeat:
    """The matrix products of `repeat`, once, and nothing between them."""
    with _Products() as products:
        repeat(1)

    @torch.no_grad()
    def again(times: int) -> None:
        for _ in range(times):
            for call in products.calls:
                call()

    return again


@fast_products()
def measure(case: Case, device: torch.device) -> tuple[dict, machine.Limits]:
    """A row, and the limits that were measured in turn with it, since a machine may have slow moments."""
    with machine.PeakMemory(device) as memory:
        repeat = case.begin()
        repeat(case.times)
    limits, times = [], []
    for _ in range(REPEATS):
        limits.append(machine.measure_limits(device, repeats=1))
        times.append(machine.seconds(lambda: repeat(case.times), device) / case.times)
    taken, limit = statistics.median(times), machine.median_limits(limits)
    row = {
        "name": case.name,
        "size": case.size,
        "ms": 1000 * taken,
        "ms_spread": [1000 * min(times), 1000 * max(times)],
        "operations": case.work.operations,
        "bytes": case.work.bytes,
        "products_ms": _products_ms(repeat, case.times, device),
        "fraction": limit.seconds(case.work.operations, case.work.bytes) / taken,
        "peak_bytes": memory.bytes,
    }
    return row, limit


def _products_ms(repeat: Repeat, times: int, device: torch.device) -> float | None:
    """None on a GPU, where an iteration is a recording, which can't be looked into."""
    if device.type != "cpu":
        return None
    alone = products_alone(repeat)
    return 1000 * machine.median_seconds(lambda: alone(times), device, REPEATS) / times
