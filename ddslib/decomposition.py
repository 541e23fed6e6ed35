"""X ≈ W H by gradient descent: the one algorithm that all four methods are (paper §III, §IV-C)."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .config import CodeFit, Fit, InputError
from .cuda import Recorder, adam
from .dictionaries import Dictionary, SharedDictionary
from .precision import fast_products
from .processes import progress

SMALLEST_CHANGE = 1e-15  # of the cost between iterations: below, the search has converged
PATIENCE_WORSE = 10  # iterations above the best cost before the steps are halved
PATIENCE_STUCK = 100  # iterations without a fall of the cost before the search stops
ITERATIONS_BETWEEN = 10  # two looks, on a CPU for entries that have died, and on a GPU at the costs
# Of the activations that a search starts from to the modes of its codes: enough to settle which notes sound.
FITTING = Fit(iterations=100, step_size=0.01, positivity="projection", likelihood_weight=0.0, sparsity_weight=0.0)
LEAST_FITTED = 0.1  # of their mean: an activation of zero might get no gradient


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

    With ``fit.start = "fitted"``, the dictionary's own start is first fitted to X with the codes at their modes, which
    are decoded once.
    """
    search = Search(X, dictionary, fit, H, generator)
    for _ in progress("decomposing", "it", fit.iterations, leave=False):
        if search.iterate():
            break
    return search.result()


def _start(X: Tensor, dictionary: Dictionary, fit: Fit, generator: torch.Generator | None) -> Tensor:
    """The activations that a search starts from."""
    H = dictionary.start(X, generator)
    if not isinstance(fit, CodeFit) or fit.start == "random":
        return H
    fitted = decompose(X, dictionary.modes(), FITTING, H).H
    return fitted.clamp(min=LEAST_FITTED * fitted.mean())


class Search:
    """What `decompose` does, one iteration at a time: X, the dictionary, the fit and H are as there."""

    def __init__(
        self,
        X: Tensor,
        dictionary: Dictionary,
        fit: Fit,
        H: Tensor | None = None,
        generator: torch.Generator | None = None,
    ):
        self._begun = time.perf_counter()
        free = _start(X, dictionary, fit, generator) if H is None else H.clone()
        self._X, self._dictionary, self._fit = X, dictionary, fit
        self._free, self._codes = free, dictionary.codes
        self._H = free.clamp_(min=0) if fit.positivity == "projection" else free.clamp(min=0)
        self._X_hat = torch.empty_like(X)
        variables = [free] if self._codes is None else [free, self._codes]
        self._optimisers = [adam([variable], fit.step_size) for variable in variables]
        self._between = ITERATIONS_BETWEEN if X.device.type == "cuda" else 1  # a GPU has to be waited for
        self._schedule = _Schedule(self._optimisers, X, self._between)
        self._lowest = _Lowest(self._H, self._codes)
        self._recorder = Recorder(X.device)
        self._iterations = 0

    @fast_products()
    def iterate(self) -> bool:
        """Step H, then the codes; whether the search is over, which on a GPU shows a few iterations later.

        What comes after the end changes nothing that `result` gives.  Raises `InputError` as `decompose` does.
        """
        if self._iterations and self._iterations % ITERATIONS_BETWEEN == 0:
            self._leave_out_the_dead()
        if self._dictionary.recordable:
            self._recorder(self._step)
        else:
            self._step()
        self._iterations += 1
        return self._iterations % self._between == 0 and self._schedule.is_over(self._iterations)

    @fast_products()
    def result(self) -> Decomposition:
        """The iterate of lowest cost so far, after one at least; the dictionary is left in its state."""
        self._schedule.is_over(self._iterations)
        H, codes = self._lowest.variables
        if codes is not None:
            self._dictionary.codes.copy_(codes)
            self._dictionary.leave_out(None)
            self._dictionary.refresh()
        A, X_hat = self._dictionary.attribute(H), self._dictionary.mix(H)
        cost, distance, step_size = torch.tensor(self._schedule.history, dtype=torch.float64).T
        return Decomposition(H, A, X_hat, codes, cost, distance, step_size, time.perf_counter() - self._begun)

    def _leave_out_the_dead(self) -> None:
        """With ``"relu"``, an activation that is not positive gets no gradient any more, and never comes back.

        On a GPU the iteration is recorded, and so has to be the same every time.
        """
        if self._fit.positivity == "relu" and self._X.device.type == "cpu":
            self._dictionary.leave_out(self._free <= 0)

    def _step(self) -> None:
        """All of an iteration.  It looks at no value, so that it can be recorded."""
        cost, distance = self._descend()
        self._lowest.keep(self._H, self._codes, self._schedule.is_lowest(cost))
        for optimiser in self._optimisers[1:]:
            optimiser.step()
        self._schedule.note(cost, distance)

    def _descend(self) -> tuple[Tensor, Tensor]:
        """Step H, then find the codes' gradient where there are any, and J, and the part of it that is the distance."""
        searched = self._codes is not None
        if searched or not self._iterations:
            self._dictionary.refresh()
            self._mix()
        self._step_activations()
        self._mix()
        if searched:
            towards = _distance_gradient(self._X, self._X_hat)
            self._codes.grad = self._dictionary.pull_back(towards, self._H, self._fit.likelihood_weight)
        return self._cost_and_distance()

    def _mix(self) -> None:
        """X̂, where the next iteration finds it."""
        self._X_hat.copy_(self._dictionary.mix(self._H))

    def _step_activations(self) -> None:
        gradient = self._dictionary.correlate(_distance_gradient(self._X, self._X_hat))
        if self._fit.likelihood_weight:
            gradient += self._fit.likelihood_weight * self._dictionary.penalty(self._H).gradient
        if self._fit.sparsity_weight:
            gradient += self._fit.sparsity_weight
        if self._fit.positivity == "relu":
            gradient.mul_(self._free > 0)
        self._free.grad = gradient.contiguous()  # the fused Adam takes it for granted
        self._optimisers[0].step()
        torch.clamp(self._free, min=0, out=self._H)

    def _cost_and_distance(self) -> tuple[Tensor, Tensor]:
        distance = torch.linalg.vector_norm(self._X - self._X_hat)
        cost = distance + self._fit.likelihood_weight * self._dictionary.penalty(self._H).value
        if self._fit.sparsity_weight:
            cost += self._fit.sparsity_weight * self._H.sum()
        return cost, distance


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


def _distance_gradient(X: Tensor, X_hat: Tensor) -> Tensor:
    """The gradient of ‖X − X̂‖_F for X̂: the residual's direction, and zero where there is no residual."""
    residual = X_hat - X
    return residual / torch.linalg.vector_norm(residual).clamp(min=torch.finfo(X.dtype).tiny)


class _Lowest:
    """Copies of H and of the codes at the lowest cost.

    Where a flow is steep one step of the codes may lead far off, the very last step too.
    """

    def __init__(self, H: Tensor, codes: Tensor | None):
        self.variables = torch.zeros_like(H), None if codes is None else torch.zeros_like(codes)

    def keep(self, H: Tensor, codes: Tensor | None, lowest: Tensor) -> None:
        """In place of those that were kept, where `lowest` () is true; to ask it would be to wait for a GPU."""
        for kept, now in zip(self.variables, (H, codes), strict=True):
            if kept is not None:
                kept.lerp_(now, lowest.to(now.dtype))  # exact at both ends


class _Schedule:
    """When to halve the steps and when to stop (paper §IV-C, after its reference [1]).

    What it goes by stays on the device of X: a GPU would have to be waited for.  At least every `between` iterations it
    must be asked whether the search is over.
    """

    def __init__(self, optimisers: list[torch.optim.Optimizer], X: Tensor, between: int):
        self._step_sizes = [group["lr"] for optimiser in optimisers for group in optimiser.param_groups]
        self._lowest, self._previous = X.new_full((), math.inf), X.new_full((), math.inf)
        self._worse, self._stuck = X.new_zeros(()), X.new_zeros(())
        self._over = torch.zeros((), dtype=torch.bool, device=X.device)
        self._noted = torch.zeros(between, 4, dtype=torch.float64, device=X.device)  # the newest last
        self.history: list[list[float]] = []  # cost, distance and step size, up to the last look
        self._ended = False

    def is_lowest(self, cost: Tensor) -> Tensor:
        """Whether no cost that was noted before the end is as low: ()."""
        return (cost < self._lowest) & ~self._over

    def note(self, cost: Tensor, distance: Tensor) -> None:
        """Halve the steps if it is time, and see whether the search is over."""
        self._worse.add_(1).mul_(cost > self._lowest)
        self._stuck.add_(1).mul_(cost >= self._previous)
        converged = (cost - self._previous).abs() < SMALLEST_CHANGE
        self._over |= converged | (self._stuck > PATIENCE_STUCK)
        torch.minimum(self._lowest, cost, out=self._lowest)
        self._previous.copy_(cost)
        newest = [cost, distance, self._step_sizes[0], self._over]
        self._noted.copy_(torch.cat([self._noted[1:], torch.stack([part.double() for part in newest])[None]]))
        halved = self._worse > PATIENCE_WORSE
        self._worse.mul_(~halved)
        for step_size in self._step_sizes:  # in place, so that a recorded step sees it
            step_size.mul_(1 - halved / 2)

    def is_over(self, iterations: int) -> bool:
        """Whether the last of so many iterations was the search's last, or an earlier one was; looks at what was noted.

        Raises `InputError` if a cost was not finite.
        """
        unseen = 0 if self._ended else iterations - len(self.history)
        for *values, over in self._noted.tolist()[len(self._noted) - unseen :]:
            self.history.append(values)
            if not math.isfinite(values[0]):
                raise InputError(
                    f"iteration {len(self.history)}: the cost is {values[0]}; expected finite data and smaller steps"
                )
            if over:
                self._ended = True
                break
        return self._ended
