"""X ≈ W H by gradient descent: the one algorithm that all four methods are (paper §III, §IV-C)."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .config import Fit, InputError
from .dictionaries import Dictionary, SharedDictionary
from .processes import progress

SMALLEST_CHANGE = 1e-15  # of the cost between iterations: below, the search has converged
PATIENCE_WORSE = 10  # iterations above the best cost before the steps are halved
PATIENCE_STUCK = 100  # iterations without a fall of the cost before the search stops


@dataclass(frozen=True)
class Decomposition:
    """The iterate of lowest cost, and the history of the search by iteration."""

    H: Tensor  # (entries, T), component activations
    A: Tensor  # (N, T), source activations
    X_hat: Tensor  # (K, T), the reconstruction
    codes: Tensor | None  # as the dictionary's; None where its entries are fixed
    cost: Tensor  # (iterations,): J
    distance: Tensor  # (iterations,): the part of J that is the distance between X and X̂
    step_size: Tensor  # (iterations,)
    seconds: float

    @property
    def iterations(self) -> int:
        return len(self.cost)


def decompose(
    X: Tensor,
    dictionary: Dictionary,
    fit: Fit,
    H: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Decomposition:
    """Minimise J = ‖X − W H‖_F + λ · penalty + μ · ΣH over H ≥ 0, and over the dictionary's codes.

    The norm is Frobenius's, not squared; λ is ``fit.likelihood_weight`` and μ ``fit.sparsity_weight``.  One
    iteration is one Adam step of H, then one of the codes.  The search starts from `H` (entries, T) or from the
    dictionary's own start, and ends after ``fit.iterations``, or when the cost no longer falls.  What is found is
    the iterate of lowest cost, and in that state the dictionary is left.  Raises `InputError` if the cost is not
    finite.

    With ``fit.positivity = "projection"`` H is clamped at zero after its step.  With ``"relu"`` a free
    variable is searched whose positive part is H, so no gradient reaches an activation below zero.
    """
    begun = time.perf_counter()
    free = dictionary.start(X, generator) if H is None else H.clone()
    codes = dictionary.codes
    optimisers = [torch.optim.Adam([variable], lr=fit.step_size, fused=True) for variable in _present(free, codes)]
    schedule, lowest = _Schedule(optimisers), _Lowest(free, codes)
    weight = fit.likelihood_weight
    history = []

    dictionary.refresh()
    H = free.clamp(min=0)
    X_hat = dictionary.mix(H)
    for _ in progress("decomposing", "it", fit.iterations, leave=False):
        gradient = dictionary.correlate(_distance_gradient(X, X_hat))
        if weight:
            gradient += weight * dictionary.penalty(H).gradient
        if fit.sparsity_weight:
            gradient += fit.sparsity_weight
        H = _step_activations(optimisers[0], free, gradient, fit)
        X_hat = dictionary.mix(H)
        distance = torch.linalg.vector_norm(X - X_hat)
        cost = distance + weight * dictionary.penalty(H).value
        if fit.sparsity_weight:
            cost += fit.sparsity_weight * H.sum()
        costs = torch.stack([cost, distance]).tolist()
        history.append((*_finite(costs, len(history)), schedule.step_size))
        if schedule.is_lowest(costs[0]):
            lowest.keep(H, codes)
        if codes is not None:
            codes.grad = dictionary.pull_back(_distance_gradient(X, X_hat), H, weight)
            optimisers[1].step()
            dictionary.refresh()
            X_hat = dictionary.mix(H)
        if schedule.is_over(history[-1][0]):
            break

    H, found = lowest.variables
    if codes is not None:
        codes.copy_(found)
        dictionary.refresh()
    cost, distance, step_size = torch.tensor(history, dtype=torch.float64).T
    seconds = time.perf_counter() - begun
    return Decomposition(H, dictionary.attribute(H), dictionary.mix(H), found, cost, distance, step_size, seconds)


def decompose_long(
    X: np.ndarray | Tensor,
    make: Callable[[int], Dictionary],
    fit: Fit,
    segment: int = 512,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, float]:
    """A (N, T) and the relative error of a recording of any length, `segment` frames at a time.

    X (K, T) may be memory-mapped and larger than memory; ``make(frames)`` gives a dictionary for so many
    frames.  Where entries are shared over time, so are the codes of all segments: they are found on frames that
    are spread evenly over X, and then fixed.  From then on it is NMF with few entries, so H is clamped as there.
    Raises `InputError` if X is silent.
    """
    frames = X.shape[1]

    def piece(columns: slice | np.ndarray) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(X[:, columns])).to(device)

    shared = None
    dictionary = make(min(segment, frames))
    if isinstance(dictionary, SharedDictionary):
        spread = np.linspace(0, frames - 1, min(segment, frames)).round().astype(int)
        decompose(piece(spread), dictionary, fit, generator=generator)
        shared, fit = dictionary.fixed(), replace(fit, positivity="projection")
    found, missed, energy = [], 0.0, 0.0
    for first in range(0, frames, segment):
        part = piece(slice(first, first + segment))
        result = decompose(part, shared or make(part.shape[1]), fit, generator=generator)
        found.append(result.A)
        missed += float((part - result.X_hat).square().sum())
        energy += float(part.square().sum())
    if not energy:
        raise InputError("X is silent throughout; expected something to decompose")
    return torch.cat(found, dim=1), math.sqrt(missed / energy)


def _finite(costs: list[float], iteration: int) -> list[float]:
    """The one place where the search waits for a GPU, and so the place to look."""
    if not math.isfinite(costs[0]):
        raise InputError(f"iteration {iteration + 1}: the cost is {costs[0]}; expected finite data and smaller steps")
    return costs


def _present(*variables: Tensor | None) -> list[Tensor]:
    return [variable for variable in variables if variable is not None]


def _distance_gradient(X: Tensor, X_hat: Tensor) -> Tensor:
    """The gradient of ‖X − X̂‖_F for X̂: the residual's direction, and zero where there is no residual."""
    residual = X_hat - X
    return residual / torch.linalg.vector_norm(residual).clamp(min=torch.finfo(X.dtype).tiny)


def _step_activations(optimiser: torch.optim.Optimizer, free: Tensor, gradient: Tensor, fit: Fit) -> Tensor:
    """One Adam step of the free variable; its non-negative H."""
    if fit.positivity == "relu":
        gradient.mul_(free > 0)
    free.grad = gradient.contiguous()  # the fused Adam takes it for granted
    optimiser.step()
    if fit.positivity == "projection":
        return free.clamp_(min=0)
    return free.clamp(min=0)


class _Lowest:
    """Copies of H and of the codes at the lowest cost.

    Where a flow is steep one step of the codes may lead far off, the very last step too.
    """

    def __init__(self, H: Tensor, codes: Tensor | None):
        self.variables = torch.empty_like(H), None if codes is None else torch.empty_like(codes)

    def keep(self, H: Tensor, codes: Tensor | None) -> None:
        """In place of those that were kept."""
        for kept, now in zip(self.variables, (H, codes), strict=True):
            if kept is not None:
                kept.copy_(now)


class _Schedule:
    """When to halve the steps and when to stop (paper §IV-C, after its reference [1])."""

    def __init__(self, optimisers: list[torch.optim.Optimizer]):
        self._groups = [group for optimiser in optimisers for group in optimiser.param_groups]
        self._best = self._previous = float("inf")
        self._worse = self._stuck = 0

    @property
    def step_size(self) -> float:
        return self._groups[0]["lr"]

    def is_lowest(self, cost: float) -> bool:
        """Whether no cost that was taken note of is as low."""
        return cost < self._best

    def is_over(self, cost: float) -> bool:
        """Take note of an iteration's cost; say whether it was the last."""
        self._worse = self._worse + 1 if cost > self._best else 0
        self._stuck = self._stuck + 1 if cost >= self._previous else 0
        converged = abs(cost - self._previous) < SMALLEST_CHANGE
        self._best, self._previous = min(self._best, cost), cost
        if self._worse > PATIENCE_WORSE:
            self._worse = 0
            for group in self._groups:
                group["lr"] /= 2
        return converged or self._stuck > PATIENCE_STUCK
