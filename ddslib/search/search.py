"""X ≈ W H by gradient descent: the one algorithm that all methods are (paper §III, §IV-C)."""

import time
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from ..machine.device import policy
from ..machine.processes import progress
from ..machine.recording import Recorder
from ..machine.rounding import fast_products
from .dictionary import Dictionary
from .evidence import evidence
from .schedule import Lowest, Schedule
from .settings import CodeFit, Fit

ITERATIONS_BETWEEN = 10  # two looks for entries that are silent for good
FITTING = Fit(iterations=100, step_size=0.01)  # to the modes of codes: enough to settle which notes sound
LEAST_FITTED = 0.1  # of their mean: an activation of zero might get no gradient


@dataclass(frozen=True)
class Decomposition:
    """The iterate of lowest cost, and the history of the search by iteration."""

    H: Tensor  # (entries, T), component activations
    A: Tensor  # (N, T), source activations
    E: Tensor  # (N, T), the evidence of sources, see `ddslib.search.evidence`
    X_hat: Tensor  # (K, T), the reconstruction, log-compressed as X
    codes: Tensor | None  # as the dictionary's; None where its entries are fixed
    colour: Tensor | None  # the same
    cost: Tensor  # (iterations,): J
    distance: Tensor  # (iterations,): the part of J that is the distance between X and X̂
    step_size: Tensor  # (iterations,)
    seconds: float
    ended: str  # why: the cost had stopped falling, or as many iterations were made as were asked for

    @property
    def iterations(self) -> int:
        return len(self.cost)

    def attribution(self, kind: Literal["activity", "evidence"]) -> Tensor:
        """A, or E: (N, T)."""
        return self.A if kind == "activity" else self.E


def decompose(
    X: Tensor, dictionary: Dictionary, fit: Fit, H: Tensor | None = None, generator: torch.Generator | None = None
) -> Decomposition:
    """Minimise the objective, J, over H ≥ 0 and over the dictionary's codes: see `ddslib.search.objective`.

    One iteration is one step of H (`ddslib.search.activations`), then one Adam step of the codes and of the colour, if
    there are any.  The search starts from `H` (entries, T) or from the objective's own start, and ends after
    ``fit.iterations``, or when the cost no longer falls (`ddslib.search.schedule`).  What is found is the iterate of
    lowest cost, and in that state the dictionary is left.  Raises `InputError` if the cost is not finite, or if the
    dictionary is none for the objective.

    With ``fit.start = "fitted"``, the dictionary's own start is first fitted to X with the codes at their modes, which
    are decoded once.
    """
    search = Search(X, dictionary, fit, H, generator)
    for _ in progress("decomposing", "it", fit.iterations, leave=False):
        if search.iterate():
            break
    return search.result()


def _start(X, dictionary, objective, fit, generator):
    """The activations that a search starts from; its codes are set."""
    if dictionary.codes is not None and isinstance(fit, CodeFit):
        if fit.code_deviation:
            dictionary.codes.normal_(0, fit.code_deviation, generator=generator)
        if fit.start == "fitted":
            fitted = decompose(X, dictionary.modes(), FITTING, dictionary.start(X, generator)).H
            return fitted.clamp(min=LEAST_FITTED * fitted.mean())
    return objective.start(dictionary, generator)


class Search:
    """What `decompose` does, one iteration at a time: X, the dictionary, the fit and H are as there."""

    def __init__(self, X, dictionary, fit, H=None, generator=None):
        self._begun = time.perf_counter()
        self._objective = fit.objective(X, dictionary.domain)
        start = _start(X, dictionary, self._objective, fit, generator) if H is None else H.clone()
        self._dictionary, self._fit = dictionary, fit
        self._policy = policy(X.device)
        self._activations = fit.activations(start)
        self._X_hat = torch.empty_like(X)
        self._adams = [self._policy.adam([variable], step) for variable, step in self._moved()]
        optimisers = [*filter(None, [self._activations.optimiser]), *self._adams]
        self._schedule = Schedule(optimisers, X, self._policy.between_looks)
        self._lowest = Lowest([self._activations.H, *dictionary.variables])
        self._recorders = defaultdict(lambda: Recorder(X.device))
        self._iterations, self._are_entries_new = 0, True

    def _moved(self):
        """The variables of the dictionary, each with its step size."""
        colour, fit = self._dictionary.colour, self._fit
        return [(v, fit.colour_step_size if v is colour else fit.step_size) for v in self._dictionary.variables]

    @fast_products()
    def iterate(self) -> bool:
        """Step H, then the codes; whether the search is over, which on a GPU shows a few iterations later.

        What comes after the end changes nothing that `result` gives.  Raises `InputError` as `decompose` does.
        """
        if self._iterations and self._iterations % ITERATIONS_BETWEEN == 0:
            self._leave_out_the_silent()
        moves = bool(self._adams) and self._fit.moves_entries(self._iterations)
        kind = self._are_entries_new, moves
        if self._dictionary.recordable:
            self._recorders[kind](partial(self._step, *kind))
        else:
            self._step(*kind)
        self._are_entries_new = moves
        self._iterations += 1
        return self._iterations % self._policy.between_looks == 0 and self._schedule.is_over(self._iterations)

    @fast_products()
    def result(self) -> Decomposition:
        """The iterate of lowest cost so far, after one at least; the dictionary is left in its state."""
        self._schedule.is_over(self._iterations)
        dictionary, (H, *kept) = self._dictionary, self._lowest.kept
        for variable, value in zip(dictionary.variables, kept, strict=True):
            variable.copy_(value)
        dictionary.leave_out(None)
        dictionary.refresh()
        X_hat = self._objective.mix(dictionary, H)
        cost, distance, step_size = torch.tensor(self._schedule.history, dtype=torch.float64).T
        return Decomposition(
            H=H, A=dictionary.attribute(H), E=evidence(self._objective, X_hat, H, dictionary),
            X_hat=self._objective.spectrogram(X_hat), codes=_copied(dictionary.codes),
            colour=_copied(dictionary.colour),
            cost=cost, distance=distance, step_size=step_size, seconds=time.perf_counter() - self._begun,
            ended=self._schedule.ended,
        )  # fmt: skip

    def _leave_out_the_silent(self):
        """What is recorded has to be the same every time, so nothing is left out there."""
        silent = self._activations.silent_for_good
        if silent is not None and not self._policy.records:
            self._dictionary.leave_out(silent)

    def _step(self, are_entries_new, moves):
        """All of an iteration.  It looks at no value, so that it can be recorded."""
        cost = self._descend(are_entries_new, moves)
        self._lowest.keep(self._schedule.is_lowest(cost))
        if moves:
            for adam in self._adams:
                adam.step()
        self._schedule.record(cost)

    def _descend(self, are_entries_new, moves):
        """Step H, then find the gradients of what else moves, and the cost."""
        if are_entries_new:
            self._dictionary.refresh()
            self._mix()
        self._activations.step(self._objective, self._X_hat, self._dictionary)
        self._mix()
        here = self._X_hat, self._activations.H, self._dictionary
        if moves:
            for variable, gradient in zip(self._dictionary.variables, self._objective.gradients(*here), strict=True):
                variable.grad = gradient
        return self._objective.cost(*here)

    def _mix(self):
        """X̂, where the next iteration finds it."""
        self._X_hat.copy_(self._objective.mix(self._dictionary, self._activations.H))


def _copied(variable):
    return None if variable is None else variable.clone()
