"""What a search can vary: a method's section of a profile (paper §IV-C)."""

from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from ..config import frozen
from .activations import AdamActivations
from .objective import LogMagnitudes


@frozen
class Fit:
    """One decomposition."""

    iterations: PositiveInt
    step_size: PositiveFloat
    positivity: Literal["relu", "projection"] = "projection"  # see `ddslib.search.activations`
    likelihood_weight: NonNegativeFloat = 0.0  # lambda
    sparsity_weight: NonNegativeFloat = 0.0  # of the sum of H; the paper has no such term

    def objective(self) -> LogMagnitudes:
        """What is minimised."""
        return LogMagnitudes(self.likelihood_weight, self.sparsity_weight)

    def activations(self, start: Tensor) -> AdamActivations:
        """What moves H, from `start` (entries, T) on."""
        return AdamActivations(start, self.positivity, self.step_size)


@frozen
class CodeFit(Fit):
    """A decomposition that searches codes too."""

    log_determinant: bool = False  # whether the penalty is that of the spectrum, or of its code alone
    start: Literal["random", "fitted"] = "random"  # of the activations, see `ddslib.search.search`


@frozen
class SharedCodeFit(CodeFit):
    """A decomposition whose entries are shared over time."""

    components: PositiveInt = 20  # C, entries per source
