"""What a search can vary: a method's section of a profile (paper §IV-C)."""

from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from ..config import InputError, frozen
from .activations import AdamActivations, MultiplicativeActivations
from .domains import CompressedMagnitude, LogMagnitude
from .objective import CompressedMagnitudes, LogMagnitudes, Objective


@frozen
class Fit:
    """One decomposition.

    What adds, as `mixing` says, decides on the objective and on how activations move: see `ddslib.search.objective` and
    `ddslib.search.activations`.
    """

    iterations: PositiveInt
    step_size: PositiveFloat  # of what Adam moves
    positivity: Literal["relu", "projection"] = "projection"  # of activations that Adam moves
    likelihood_weight: NonNegativeFloat = 0.0  # lambda
    sparsity_weight: NonNegativeFloat = 0.0  # mu; the paper has no such term
    mixing: Literal["log magnitude", "compressed magnitude"] = "log magnitude"
    exponent: PositiveFloat = 0.5  # p of compressed magnitudes
    colour_step_size: NonNegativeFloat = 0.0  # of the recording's colour, in nepers; 0 leaves entries as they are
    warm_up: NonNegativeInt = 0  # iterations at the start in which only activations move
    settling: NonNegativeInt = 0  # iterations at the end in which only activations move
    attribution: Literal["activity", "evidence"] = "activity"  # what rows measure

    def __post_init__(self):
        if self.colour_step_size and self.mixing == LogMagnitude.name:
            raise ValueError(f"colour_step_size: spectra that add as {self.mixing} know no colour, expected 0")

    def domain(self, gamma: float) -> LogMagnitude | CompressedMagnitude:
        """That in which spectra add, where `gamma` is that of the log compression."""
        return LogMagnitude() if self.mixing == LogMagnitude.name else CompressedMagnitude(gamma, self.exponent)

    def objective(self, X: Tensor, domain: LogMagnitude | CompressedMagnitude) -> Objective:
        """What is minimised for X (K, T) and a dictionary of that domain.  Raises `InputError` for another domain."""
        if domain.name != self.mixing:
            raise InputError(f"the dictionary's entries add as {domain.name}; expected {self.mixing}")
        weights = self.likelihood_weight, self.sparsity_weight
        return LogMagnitudes(X, *weights) if domain == LogMagnitude() else CompressedMagnitudes(X, domain, *weights)

    def activations(self, start: Tensor) -> AdamActivations | MultiplicativeActivations:
        """What moves H, from `start` (entries, T) on."""
        if self.mixing == LogMagnitude.name:
            return AdamActivations(start, self.positivity, self.step_size)
        return MultiplicativeActivations(start)

    def moves_entries(self, iteration: int) -> bool:
        """Whether in that iteration, from 0, more than activations move."""
        return self.warm_up <= iteration < self.iterations - self.settling


@frozen
class CodeFit(Fit):
    """A decomposition that searches codes too."""

    log_determinant: bool = False  # whether the penalty is that of the spectrum, or of its code alone
    start: Literal["random", "fitted"] = "random"  # of the activations, see `ddslib.search.search`
    code_deviation: NonNegativeFloat = 0.0  # of the random codes that a search starts from; 0 is their mode

    def __post_init__(self):
        super().__post_init__()
        if self.start == "fitted" and self.mixing != LogMagnitude.name:
            raise ValueError(f"start: what adds as {self.mixing} starts even, expected random")


@frozen
class SharedCodeFit(CodeFit):
    """A decomposition whose entries are shared over time."""

    components: PositiveInt = 20  # C, entries per source
