"""What an iteration or a training step has to do at least: operations, and bytes that have to be moved.

An operation is an addition or a multiplication, so a product of (m, k) by (k, n) has 2 m k n.  Counted are the
products, which are the bulk; a frozen mixing and its ActNorm are one product.  Bytes are those of the weights, of
what comes in and of what goes out, each once.  Adam's two moments come in and go out.
"""

from dataclasses import dataclass
from itertools import pairwise

from .config import ConditionalFlowTraining, FlowTraining, Profile

NUMBER = 4  # bytes, in single precision
SEARCHED = 6  # a variable under Adam, and its two moments: each read and written


@dataclass(frozen=True)
class Work:
    """At least so much has to be done."""

    operations: float
    bytes: float

    def __add__(self, other: "Work") -> "Work":
        return Work(self.operations + other.operations, self.bytes + other.bytes)

    def __rmul__(self, times: float) -> "Work":
        return Work(times * self.operations, times * self.bytes)


@dataclass(frozen=True)
class FlowShape:
    """How large a flow is, and of how many it is a stack."""

    dimensions: int  # K
    steps: int  # F
    hidden: tuple[int, ...]
    stack: int  # flows of weights of their own
    mixing: bool  # whether a step has a dense mixing

    @classmethod
    def of(cls, profile: Profile, kind: str) -> "FlowShape":
        """Of the profile's ``"note_flows"``, as many as there are notes, or its one ``"conditional_flow"``."""
        recipe, stacked = getattr(profile, kind), kind == "note_flows"
        stack = len(profile.pitches.numbers) if stacked else 1
        return cls(profile.front_end.bins, recipe.steps, recipe.hidden, stack, mixing=not stacked)

    @property
    def weights(self) -> int:
        """Of the whole stack."""
        return self.stack * self._weights_of_one

    @property
    def _weights_of_one(self) -> int:
        half = self.dimensions // 2
        widths = (half, *self.hidden, 2 * (self.dimensions - half))
        mlp = sum(a * b for a, b in pairwise(widths))
        return self.steps * (mlp + (self.dimensions**2 if self.mixing else 0))

    def pass_over(self, vectors: int) -> float:
        """Operations of mapping so many vectors, once forwards or once back."""
        return 2 * vectors * self._weights_of_one


def decoding(shape: FlowShape, vectors: int) -> Work:
    """W from its codes."""
    return Work(shape.pass_over(vectors), NUMBER * (shape.weights + 2 * vectors * shape.dimensions))


def mixing(bins: int, entries: int, frames: int) -> Work:
    """X̂ from W and H."""
    return Work(2 * bins * entries * frames, NUMBER * (bins * entries + entries * frames + bins * frames))


def frame_mixing(bins: int, sources: int, frames: int) -> Work:
    """X̂ where every frame has entries of its own."""
    return Work(2 * bins * sources * frames, NUMBER * (bins * sources * frames + sources * frames + bins * frames))


def nmf_iteration(bins: int, entries: int, frames: int) -> Work:
    products = 2 * (2 * bins * entries * frames)  # W H, and Wᵀ G
    return Work(products, NUMBER * (bins * entries + bins * frames + SEARCHED * entries * frames))


def shared_iteration(shape: FlowShape, sources: int, components: int, code: int, frames: int) -> Work:
    """DDS-2 and DDS-3: decode, pull back, and the products W H (twice), Wᵀ G and G Hᵀ."""
    entries = sources * components
    operations = 2 * shape.pass_over(entries) + 4 * (2 * shape.dimensions * entries * frames)
    searched = SEARCHED * (entries * code + entries * frames)
    return Work(operations, NUMBER * (shape.weights + shape.dimensions * frames + searched))


def frame_iteration(shape: FlowShape, sources: int, frames: int) -> Work:
    """DDS-1: decode, pull back, and sums over the sources of every frame."""
    codes = sources * frames
    operations = 2 * shape.pass_over(codes) + 4 * (2 * shape.dimensions * codes)
    searched = SEARCHED * (codes * shape.dimensions + codes)
    return Work(operations, NUMBER * (shape.weights + shape.dimensions * frames + searched))


def training_step(recipe: FlowTraining, shape: FlowShape, sources: int) -> Work:
    """Forwards, gradients for what goes in and for the weights, and Adam; and where there is one, the classifier."""
    vectors = recipe.batch * shape.stack
    work = Work(3 * shape.pass_over(vectors), NUMBER * (SEARCHED * shape.weights + vectors * shape.dimensions))
    if isinstance(recipe, ConditionalFlowTraining) and recipe.nuisance_weight:
        work += _classifier_steps(sources, shape.dimensions, vectors, recipe.classifier_steps)
    return work


def _classifier_steps(sources: int, dimensions: int, vectors: int, steps: int) -> Work:
    """The nuisance classifier's own steps, and the flow's gradient through it."""
    widths = (dimensions - sources, dimensions // 2, dimensions // 2, sources)
    weights = sum(a * b for a, b in pairwise(widths))
    return Work((3 * steps + 2) * 2 * vectors * weights, NUMBER * SEARCHED * weights * steps)


def iteration(profile: Profile, method: str, frames: int, samples: int) -> Work:
    """Of a search in so many frames; NMF's dictionary has so many samples."""
    bins, sources = profile.front_end.bins, len(profile.pitches.numbers)
    if method == "nmf":
        return nmf_iteration(bins, samples, frames)
    if method == "dds1":
        return frame_iteration(FlowShape.of(profile, "note_flows"), sources, frames)
    if method == "dds2":
        return shared_iteration(FlowShape.of(profile, "note_flows"), sources, profile.dds2.components, bins, frames)
    code = bins - sources  # what is left beside the semantic part
    return shared_iteration(FlowShape.of(profile, "conditional_flow"), sources, profile.dds3.components, code, frames)


def epoch(profile: Profile, kind: str, samples: int) -> Work:
    """Of a training that has so many frames: steps on most of them, and a pass over the share that validates."""
    recipe, shape, sources = getattr(profile, kind), FlowShape.of(profile, kind), len(profile.pitches.numbers)
    held_out = profile.training.validation_share * samples
    steps = (samples - held_out) / (recipe.batch * shape.stack)
    validation = Work(shape.pass_over(held_out), NUMBER * (shape.weights + held_out * shape.dimensions))
    return steps * training_step(recipe, shape, sources) + validation
