"""How the activations H move, and how they are kept from being negative."""

import torch
from torch import Tensor

from ..machine.device import policy
from .dictionary import Dictionary
from .objective import CompressedMagnitudes, LogMagnitudes


class AdamActivations:
    """H (entries, T) ≥ 0 that moves by steps of Adam.

    With the positivity ``"projection"`` H is clamped at zero after its step.  With ``"relu"`` a free variable is
    searched whose positive part is H, so no gradient reaches an activation below zero, and it never comes back.
    """

    def __init__(self, start: Tensor, positivity: str, step_size: float):
        self._rectified = positivity == "relu"
        self._free = start
        self.H = start.clamp(min=0) if self._rectified else start.clamp_(min=0)
        self.optimiser = policy(start.device).adam([start], step_size)

    @property
    def silent_for_good(self) -> Tensor | None:
        """Which activations (entries, T) stay at zero; None where any may rise again."""
        return self._free <= 0 if self._rectified else None

    def step(self, objective: LogMagnitudes, X_hat: Tensor, dictionary: Dictionary):
        """One step down the objective, from the reconstruction X̂ (K, T) that H gives now."""
        gradient = objective.activations_gradient(X_hat, self.H, dictionary)
        if self._rectified:
            gradient.mul_(self._free > 0)
        self._free.grad = gradient.contiguous()  # the fused Adam takes it for granted
        self.optimiser.step()
        torch.clamp(self._free, min=0, out=self.H)


class MultiplicativeActivations:
    """H (entries, T) ≥ 0 that is multiplied by what an objective says.

    There is no step size, no activation becomes negative, and one of zero stays so.
    """

    silent_for_good = None  # to leave out what is zero would gain little: it is no code that is decoded
    optimiser = None

    def __init__(self, start: Tensor):
        self.H = start

    def step(self, objective: CompressedMagnitudes, X_hat: Tensor, dictionary: Dictionary):
        """One step down the objective, from the reconstruction X̂ (K, T) that H gives now."""
        self.H *= objective.descent(X_hat, self.H, dictionary)
