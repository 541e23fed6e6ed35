"""Dictionaries: linear operators whose entries may depend on codes.

NMF and every variant of DDS minimise the same cost over the activations H, and over the codes where
there are any.  They differ in where the dictionary W comes from, and in nothing else.  So what a method
brings is a `Dictionary`, and `ddslib.search.search.decompose` is the one algorithm.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from .domains import CompressedMagnitude, LogMagnitude


class Penalty(NamedTuple):
    """How unlikely the codes are, weighted by how much their entries are used."""

    value: Tensor  # scalar, in double precision
    gradient: Tensor | float  # for H, of its shape


class Dictionary(ABC):
    """W (K, entries), seen only through what a decomposition needs of it.

    A subclass never has to hold W whole: it blocks its own work.  Entries may depend on free variables: on `codes`, and
    on the `colour` of the recording; None where they do not.
    """

    domain: LogMagnitude | CompressedMagnitude = LogMagnitude()  # in which its entries add
    codes: Tensor | None = None
    colour: Tensor | None = None  # log c at its knots, see `ddslib.search.domains`
    recordable = True  # whether its work can be recorded, see `ddslib.machine.recording.Recorder`

    @abstractmethod
    def start(self, X: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The activations H (entries, T) that the search for X (K, T) starts from (paper §IV-C)."""

    @abstractmethod
    def mix(self, H: Tensor) -> Tensor:
        """X̂ = W H: (entries, T) to (K, T)."""

    @abstractmethod
    def correlate(self, G: Tensor) -> Tensor:
        """Wᵀ G, the gradient for H where G is the gradient for X̂: (K, T) to (entries, T)."""

    @abstractmethod
    def attribute(self, H: Tensor) -> Tensor:
        """A (N, T): H times the norms of the entries, summed per source (paper §IV-D)."""

    @abstractmethod
    def entries(self, source: int) -> Tensor:
        """Some of the entries of one source, to look at: (K, count)."""

    @abstractmethod
    def part(self, H: Tensor, source: int) -> Tensor:
        """What one source adds to W H: (K, T)."""

    @abstractmethod
    def spread(self, values: Tensor) -> Tensor:
        """Values of sources (N, T), for each entry that of its source: (entries, T)."""

    @property
    def variables(self) -> tuple[Tensor, ...]:
        """What the entries depend on and a search moves."""
        return tuple(variable for variable in (self.codes, self.colour) if variable is not None)

    def refresh(self):  # noqa: B027  a fixed dictionary has nothing to do
        """Decode the codes; called whenever they have changed."""

    def leave_out(self, silent: Tensor | None):  # noqa: B027  to leave out nothing is always right
        """From the next `refresh` on, leave alone what will not be used again, for whoever gains by it.

        `silent` (entries, T) marks activations that stay at zero.  None takes all entries in again.
        """

    def modes(self) -> "Dictionary":
        """What a fitted start is fitted to: the entries of the likeliest codes, without codes to search."""
        raise TypeError(f"{type(self).__name__} has no codes whose modes a start could be fitted to")

    def pull_back(self, G: Tensor, H: Tensor, likelihood_weight: float) -> tuple[Tensor, ...]:
        """Gradients of J for the `variables`, where G (K, T) is that for X̂: through W, and of the weighted penalty."""
        raise TypeError(f"{type(self).__name__} has no codes to pull a gradient back to")

    def penalty(self, H: Tensor) -> Penalty:
        """The weighted negative log-likelihood of the codes, and its gradient for H; nothing without codes."""
        return Penalty(H.new_zeros((), dtype=torch.float64), 0.0)


SHARE_OFFSET = 1e-3  # keeps the shares of a silent frame finite


def shares(H: Tensor) -> Tensor:
    """What each entry contributes to each frame, H / (sum over entries + 10⁻³): as H (entries, T)."""
    return H / (H.sum(dim=0) + SHARE_OFFSET)
