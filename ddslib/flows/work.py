"""What decoding and training have to do at least, in the unit of `ddslib.machine.work`."""

from dataclasses import dataclass
from itertools import pairwise

from ..config import ConditionalFlowTraining, FlowTraining, Profile, Sizes
from ..machine.work import NUMBER, SEARCHED, Work


@dataclass(frozen=True)
class FlowShape:
    """How large a flow is, and of how many it is a stack."""

    dimensions: int  # K
    steps: int  # F
    hidden: tuple[int, ...]
    stack: int  # flows of weights of their own
    mixing: bool  # whether a step has a dense mixing

    @classmethod
    def of(cls, flow: str, sizes: Sizes) -> "FlowShape":
        """Of ``"note_flows"``, as many as there are sources, or of one ``"conditional_flow"``."""
        stacked = flow == "note_flows"
        return cls(sizes.K, sizes.F, sizes.hidden, sizes.N if stacked else 1, mixing=not stacked)

    def code_dimensions(self, sources: int) -> int:
        """How many numbers a code has: what a conditional flow has beside its semantic part."""
        return self.dimensions - (sources if self.mixing else 0)

    @property
    def weights(self) -> int:
        """Of the whole stack."""
        half = self.dimensions // 2
        step = _dense(half, *self.hidden, 2 * (self.dimensions - half)) + self.mixing * self.dimensions**2
        return self.stack * self.steps * step

    def pass_over(self, vectors: int) -> float:
        """Operations of mapping so many vectors, once forwards or once back."""
        return 2 * vectors * (self.weights // self.stack)


def _dense(*widths):
    """The weights of dense layers of these widths."""
    return sum(inputs * outputs for inputs, outputs in pairwise(widths))


def decoding(shape: FlowShape, vectors: int) -> Work:
    """W from its codes."""
    return Work(shape.pass_over(vectors), NUMBER * (shape.weights + 2 * vectors * shape.dimensions))


def training_step(recipe: FlowTraining, shape: FlowShape, sources: int) -> Work:
    """Forwards, gradients for what goes in and for the weights, and Adam; and where there is one, the classifier."""
    vectors = recipe.batch * shape.stack
    work = Work(3 * shape.pass_over(vectors), NUMBER * (SEARCHED * shape.weights + vectors * shape.dimensions))
    if isinstance(recipe, ConditionalFlowTraining) and recipe.nuisance_weight:
        width, steps = shape.dimensions // 2, recipe.classifier_steps
        weights = _dense(shape.code_dimensions(sources), width, width, sources)
        # Its own steps, and the flow's gradient through it.
        work += Work((3 * steps + 2) * 2 * vectors * weights, NUMBER * SEARCHED * weights * steps)
    return work


def training(profile: Profile, kind: str, samples: int) -> Work:
    """Of all epochs, if none is saved by stopping early."""
    return getattr(profile, kind).epochs * epoch(profile, kind, samples)


def epoch(profile: Profile, kind: str, samples: int) -> Work:
    """Of a training that has so many frames: steps on most of them, and a pass over the share that validates."""
    recipe, sizes = getattr(profile, kind), profile.sizes(kind)
    shape = FlowShape.of(kind, sizes)
    held_out = profile.training.validation_share * samples
    steps = (samples - held_out) / (recipe.batch * shape.stack)
    validation = Work(shape.pass_over(held_out), NUMBER * (shape.weights + held_out * shape.dimensions))
    return steps * training_step(recipe, shape, sizes.N) + validation
