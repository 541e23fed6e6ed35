"""X ≈ W H by gradient descent: the one algorithm that all methods are (paper §III, §IV-C)."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from ..machine.device import policy
from ..machine.processes import progress
from ..machine.recording import Recorder
from ..machine.rounding import fast_products
from .dictionary import Dictionary
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
    X_hat: Tensor  # (K, T), the reconstruction
    codes: Tensor | None  # as the dictionary's; None where its entries are fixed
    cost: Tensor  # (iterations,): J
    distance: Tensor  # (iterations,): the part of J that is the distance between X and X̂
    step_size: Tensor  # (iterations,)
    seconds: float
    ended: str  # why: the cost had stopped falling, or as many iterations were made as were asked for

    @property
    def iterations(self) -> int:
        return len(self.cost)


def decompose(
    X: Tensor, dictionary: Dictionary, fit: Fit, H: Tensor | None = None, generator: torch.Generator | None = None
) -> Decomposition:
    """Minimise the objective, J, over H ≥ 0 and over the dictionary's codes: see `ddslib.search.objective`.

    One iteration is one step of H (`ddslib.search.activations`), then one Adam step of the codes.  The search starts
    from `H` (entries, T) or from the dictionary's own start, and ends after ``fit.iterations``, or when the cost no
    longer falls (`ddslib.search.schedule`).  What is found is the iterate of lowest cost, and in that state the
    dictionary is left.  Raises `InputError` if the cost is not finite.

    With ``fit.start = "fitted"``, the dictionary's own start is first fitted to X with the codes at their modes, which
    are decoded once.
    """
    search = Search(X, dictionary, fit, H, generator)
    for _ in progress("decomposing", "it", fit.iterations, leave=False):
        if search.iterate():
            break
    return search.result()


def _start(X, dictionary, fit, generator):
    """The activations that a search starts from."""
    H = dictionary.start(X, generator)
    if dictionary.codes is None or not isinstance(fit, CodeFit) or fit.start == "random":
        return H
    fitted = decompose(X, dictionary.modes(), FITTING, H).H
    return fitted.clamp(min=LEAST_FITTED * fitted.mean())


class Search:
    """What `decompose` does, one iteration at a time: X, the dictionary, the fit and H are as there."""

    def __init__(self, X, dictionary, fit, H=None, generator=None):
        self._begun = time.perf_counter()
        start = _start(X, dictionary, fit, generator) if H is None else H.clone()
        self._X, self._dictionary, self._codes = X, dictionary, dictionary.codes
        self._policy = policy(X.device)
        self._objective, self._activations = fit.objective(), fit.activations(start)
        self._X_hat = torch.empty_like(X)
        optimisers, variables = [self._activations.optimiser], [self._activations.H]
        if self._codes is not None:
            self._adam = self._policy.adam([self._codes], fit.step_size)
            optimisers.append(self._adam)
            variables.append(self._codes)
        self._schedule = Schedule(optimisers, X, self._policy.between_looks)
        self._lowest = Lowest(variables)
        self._recorder = Recorder(X.device)
        self._iterations = 0

    @fast_products()
    def iterate(self) -> bool:
        """Step H, then the codes; whether the search is over, which on a GPU shows a few iterations later.

        What comes after the end changes nothing that `result` gives.  Raises `InputError` as `decompose` does.
        """
        if self._iterations and self._iterations % ITERATIONS_BETWEEN == 0:
            self._leave_out_the_silent()
        if self._dictionary.recordable:
            self._recorder(self._step)
        else:
            self._step()
        self._iterations += 1
        return self._iterations % self._policy.between_looks == 0 and self._schedule.is_over(self._iterations)

    @fast_products()
    def result(self) -> Decomposition:
        """The iterate of lowest cost so far, after one at least; the dictionary is left in its state."""
        self._schedule.is_over(self._iterations)
        H, codes = [*self._lowest.kept, None][:2]
        if codes is not None:
            self._dictionary.codes.copy_(codes)
            self._dictionary.leave_out(None)
            self._dictionary.refresh()
        A, X_hat = self._dictionary.attribute(H), self._dictionary.mix(H)
        cost, distance, step_size = torch.tensor(self._schedule.history, dtype=torch.float64).T
        seconds = time.perf_counter() - self._begun
        return Decomposition(H, A, X_hat, codes, cost, distance, step_size, seconds, self._schedule.ended)

    def _leave_out_the_silent(self):
        """What is recorded has to be the same every time, so nothing is left out there."""
        silent = self._activations.silent_for_good
        if silent is not None and not self._policy.records:
            self._dictionary.leave_out(silent)

    def _step(self):
        """All of an iteration.  It looks at no value, so that it can be recorded."""
        cost = self._descend()
        self._lowest.keep(self._schedule.is_lowest(cost))
        if self._codes is not None:
            self._adam.step()
        self._schedule.record(cost)

    def _descend(self):
        """Step H, then find the codes' gradient where there are any, and the cost."""
        searched = self._codes is not None
        if searched or not self._iterations:
            self._dictionary.refresh()
            self._mix()
        self._activations.step(self._objective, self._X, self._X_hat, self._dictionary)
        self._mix()
        here = self._X, self._X_hat, self._activations.H, self._dictionary
        if searched:
            self._codes.grad = self._objective.codes_gradient(*here)
        return self._objective.cost(*here)

    def _mix(self):
        """X̂, where the next iteration finds it."""
        self._X_hat.copy_(self._dictionary.mix(self._activations.H))
