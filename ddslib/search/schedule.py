"""When a search halves its steps, when it ends, and what it keeps (paper §IV-C, after its reference [1])."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..config import InputError
from .objective import Cost

PATIENCE_WORSE = 10  # iterations above the best cost before the steps are halved
PATIENCE_STUCK = 100  # iterations without a fall of the cost before the search stops; one that repeats is no fall


class Lowest:
    """Copies of the variables at the lowest cost.

    Where a flow is steep one step of the codes may lead far off, the very last step too.
    """

    def __init__(self, variables: Sequence[Tensor]):
        self._variables = variables
        self.kept = [torch.zeros_like(variable) for variable in variables]

    def keep(self, lowest: Tensor):
        """The variables as they are now, where `lowest` () is true; to ask it would be to wait for a GPU."""
        for kept, now in zip(self.kept, self._variables, strict=True):
            kept.lerp_(now, lowest.to(now.dtype))  # exact at both ends


class Schedule:
    """What it goes by stays on the device of X: a GPU would have to be waited for.

    At least every `between` iterations it must be asked whether the search is over.
    """

    def __init__(self, optimisers: Sequence[torch.optim.Optimizer], X: Tensor, between: int):
        self._step_sizes = [group["lr"] for optimiser in optimisers for group in optimiser.param_groups]
        self._step_size = [*self._step_sizes, X.new_zeros(())][0]  # that is recorded
        self._lowest, self._previous = X.new_full((2,), math.inf, dtype=torch.float64)
        self._worse, self._stuck = X.new_zeros(()), X.new_zeros(())
        self._over = torch.zeros((), dtype=torch.bool, device=X.device)
        self._recorded = torch.zeros(between, 4, dtype=torch.float64, device=X.device)  # the newest last
        self.history: list[list[float]] = []  # cost, distance and step size, up to the last look
        self._ended = False

    @property
    def ended(self) -> str:
        """Why the search ended, as far as it has been looked at."""
        return "cost stopped falling" if self._ended else "iterations made"

    def is_lowest(self, cost: Cost) -> Tensor:
        """Whether no cost that was recorded before the end is as low: ()."""
        return (cost.total < self._lowest) & ~self._over

    def record(self, cost: Cost):
        """Halve the steps if it is time, and see whether the search is over."""
        total = cost.total
        self._worse.add_(1).mul_(total > self._lowest)
        self._stuck.add_(1).mul_(total >= self._previous)
        self._over |= self._stuck > PATIENCE_STUCK
        torch.minimum(self._lowest, total, out=self._lowest)
        self._previous.copy_(total)
        newest = torch.stack([part.double() for part in (*cost, self._step_size, self._over)])
        self._recorded.copy_(torch.cat([self._recorded[1:], newest[None]]))
        halved = self._worse > PATIENCE_WORSE
        self._worse.mul_(~halved)
        for step_size in self._step_sizes:  # in place, so that a recorded step sees it
            step_size.mul_(1 - halved / 2)

    def is_over(self, iterations: int) -> bool:
        """Whether the search ended with the last of so many iterations or before; looks at what was recorded.

        Raises `InputError` if a cost was not finite.
        """
        unseen = 0 if self._ended else iterations - len(self.history)
        for *values, over in self._recorded.tolist()[len(self._recorded) - unseen :]:
            self.history.append(values)
            if not math.isfinite(values[0]):
                raise InputError(
                    f"iteration {len(self.history)}: the cost is {values[0]}; expected finite data and smaller steps"
                )
            if over:
                self._ended = True
                break
        return self._ended
