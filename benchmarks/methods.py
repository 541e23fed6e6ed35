"""Every method's iteration and every flow's training step, at three sizes, against the machine's limit."""

import statistics
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ddslib.config import Profile, load_profile
from ddslib.costs.growth import seconds_each
from ddslib.costs.rates import TRAININGS
from ddslib.flows.training import Trainer
from ddslib.flows.untrained import untrained
from ddslib.flows.work import FlowShape, training_step
from ddslib.machine import limits
from ddslib.machine.device import policy
from ddslib.machine.rounding import fast_products
from ddslib.machine.work import Work
from ddslib.methods.examples import materials, random_frames
from ddslib.methods.registry import registered, settings
from ddslib.search.search import Search

REPEATS = 5


class Size(NamedTuple):
    """What is decomposed and what is learnt from."""

    name: str
    profile: Profile
    frames: int  # T
    samples: int  # M

    @property
    def sources(self):
        return self.profile.sizes().N

    @property
    def bins(self):
        return self.profile.sizes().K

    def settings(self, method):
        """What the profile says of the method, or those of a short search where it says nothing."""
        return settings(self.profile, method.name) if method.name in self.profile.methods else method.brief()

    def of(self, method):
        """What the cost of an iteration of the method depends on."""
        return method.sizes(self.profile, self.settings(method), self.frames, self.samples)

    def shape(self, kind):
        """Of one of the profile's flows."""
        return FlowShape.of(kind, self.profile.sizes(kind))


def sizes(device):
    """The profiles'; on a CPU the paper's widths with a quarter of its steps, codes and frames, and smaller batches."""
    paper = load_profile("paper")
    whole = Size("paper", paper, 500, 60_000)
    if not policy(device).records:
        fewer = {f"{name}.components": 5 for name, section in paper.methods.items() if "components" in section}
        for kind, share in {"note_flows": 8, "conditional_flow": 2}.items():  # all of a batch takes more than 16 GB
            recipe = getattr(paper, kind)
            fewer |= {f"{kind}.steps": recipe.steps // 4, f"{kind}.batch": recipe.batch // share}
        whole = Size("paper widths", paper.changed(fewer), 125, 60_000)
    return [Size("smoke", load_profile("smoke"), 120, 4000), Size("laptop", load_profile("laptop"), 245, 18_800), whole]


def usual_rounding(device):
    """That of the rows: none on a CPU, whose limit is that of products in single precision."""
    return policy(device).rounding("mixed", training=True)


class Case(NamedTuple):
    """Something that is done over and over."""

    name: str
    size: str
    work: Work
    begin: Callable  # prepares it, and returns what does it once
    times: int  # how often between two looks at the clock


def cases(size, device):
    """In the order of the book; in the precision of the machine's limits."""
    often = 5 if policy(device).records else 1
    for method in registered().values():
        begin = iterations(method, size, device, usual_rounding(device))
        times = 10 if method.affordable else 1  # of the slowest so few that it leaves nothing out yet
        name, work = f"{method.label} iteration", method.work.iteration(size.of(method))
        yield Case(name, size.name, work, begin, times * often)
    for kind, name in TRAININGS.items():
        work = training_step(getattr(size.profile, kind), size.shape(kind), size.sources)
        begin = partial(_training, kind, size, device)
        yield Case(f"{name} training step", size.name, work, begin, 4 * often)


def iterations(method, size, device, rounding):
    """What begins a search, again and again with the same flow or samples, and returns its iteration."""
    draws = torch.Generator(device).manual_seed(0)
    X = torch.rand(size.bins, size.frames, generator=draws, device=device)
    own, fit = materials(method, size.of(method), policy(device), rounding), size.settings(method)
    made = method.dictionary(own, fit)  # so flow or samples are there, and no part of what a search takes

    def begin():
        dictionary = method.dictionary(own, fit) if method.flow else made
        return Search(X, dictionary, fit, generator=draws).iterate

    return begin


def flow_of(kind, size, device):
    """A flow as it starts out, with ActNorm's state."""
    return untrained(kind, size.profile.sizes(kind)).to(device)


def _training(kind, size, device):
    """A step on the same batch again and again; a frame of each note is held out."""
    recipe, held_out = getattr(size.profile, kind), size.sources
    frames = random_frames(held_out + recipe.batch * size.shape(kind).stack, size.profile.sizes())
    validation = np.arange(len(frames.values)) < held_out
    trainer = Trainer(recipe, frames, validation, size.sources, 0, device, usual_rounding(device))
    (rows,) = trainer.batches()
    return partial(trainer.step, rows)


aten = torch.ops.aten
PRODUCTS = (aten.mm, aten.bmm, aten.addmm, aten.baddbmm)


class _Products(TorchDispatchMode):
    """Records all matrix products that are done, to do them again."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        call = partial(operation, *args, **(kwargs or {}))
        if operation.overloadpacket in PRODUCTS:
            self.calls.append(call)
        return call()


def products_alone(step):
    """The matrix products of a step, and nothing between them."""
    with _Products() as products:
        step()

    @torch.no_grad()
    def again():
        for call in products.calls:
            call()

    return again


@fast_products()
def measure(case, device):
    """A row, and the limits that were measured in turn with it, since a machine may have slow moments."""

    def ms(step):
        return 1000 * seconds_each(step, device, case.times)

    def begun():
        step = case.begin()
        ms(step)
        return step

    memory, step = limits.peak_bytes(begun, device)
    in_turn = [(limits.measure_limits(device, repeats=1), ms(step)) for _ in range(REPEATS)]
    reached, times = zip(*in_turn, strict=True)
    # On a GPU a step is a recording, which can't be looked into.
    alone = None if policy(device).records else products_alone(step)
    median, limit = statistics.median(times), limits.median_limits(reached)
    row = {
        "name": case.name,
        "size": case.size,
        "ms": median,
        "ms_spread": [min(times), max(times)],
        **asdict(case.work),
        "products_ms": alone and statistics.median([ms(alone) for _ in range(1 + REPEATS)][1:]),
        "fraction": 1000 * limit.seconds(case.work.operations, case.work.bytes) / median,
        "peak_bytes": memory,
    }
    return row, limit
