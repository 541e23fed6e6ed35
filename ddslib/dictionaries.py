"""Dictionaries: linear operators whose entries may depend on codes.

NMF and every variant of DDS minimise the same cost over the activations H, and over the codes where
there are any.  They differ in where the dictionary W comes from, and in nothing else.  So a method is
a `Dictionary`, and `ddslib.decomposition.decompose` is the one algorithm.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Penalty(NamedTuple):
    """How unlikely the codes are, weighted by how much their entries are used."""

    value: Tensor  # scalar
    activations_gradient: Tensor | float  # as H
    codes_gradient: Tensor | None  # as the codes


class Dictionary(ABC):
    """W (K, entries), seen only through what a decomposition needs of it.

    A subclass never has to hold W whole: it blocks its own work.  `codes` is the free variable that
    the entries depend on, or None where they are fixed.
    """

    codes: Tensor | None = None

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
    def parameters(self) -> int:
        """How many numbers the dictionary is made of."""

    def refresh(self) -> None:  # noqa: B027  a fixed dictionary has nothing to do
        """Decode the codes; called whenever they have changed."""

    def pull_back(self, G: Tensor, H: Tensor) -> Tensor:
        """The codes' gradient, where G (K, T) is the gradient for X̂."""
        raise TypeError(f"{type(self).__name__} has no codes to pull a gradient back to")

    def penalty(self, H: Tensor) -> Penalty:
        """The weighted negative log-likelihood of the codes and its gradients; nothing where there are no codes."""
        return Penalty(H.new_zeros(()), 0.0, None)


class SampleDictionary(Dictionary):
    """NMF's dictionary: every stored frame is an entry (paper §III-A).

    `samples` (M, K) holds one entry to a row and may be memory-mapped and larger than memory; it is
    then read block by block.  `sources` (M,) says which of the `n_sources` an entry belongs to.  With
    ``resident=True`` the samples are moved to `device` whole, once.
    """

    BLOCK = 16384  # rows at a time: 32 MiB of frames at K = 512

    def __init__(
        self,
        samples: np.ndarray | Tensor,
        sources: np.ndarray | Tensor,
        n_sources: int,
        device: torch.device | str = "cpu",
        resident: bool = False,
    ):
        self._samples = torch.as_tensor(samples)
        if len(self._samples) != len(sources):
            raise ValueError(f"{len(self._samples)} samples but {len(sources)} sources; expected one source a sample")
        self._device = torch.device(device)
        if resident:
            self._samples = self._samples.to(self._device)
        self._resident = resident
        self._sources = torch.as_tensor(sources).to(self._device)
        self._n_sources = n_sources

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        size = len(self._samples) if self._resident else self.BLOCK
        for first in range(0, len(self._samples), size):
            rows = slice(first, first + size)
            yield rows, self._samples[rows].to(self._device)

    def start(self, X: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return X.new_full((len(self._samples), X.shape[1]), 1 / len(self._samples))

    def mix(self, H: Tensor) -> Tensor:
        X_hat = H.new_zeros(self._samples.shape[1], H.shape[1])
        for rows, block in self._blocks():
            X_hat.addmm_(block.T, H[rows])
        return X_hat

    def correlate(self, G: Tensor) -> Tensor:
        gradient = G.new_empty(len(self._samples), G.shape[1])
        for rows, block in self._blocks():
            torch.mm(block, G, out=gradient[rows])
        return gradient

    def attribute(self, H: Tensor) -> Tensor:
        A = H.new_zeros(self._n_sources, H.shape[1])
        for rows, block in self._blocks():
            A.index_add_(0, self._sources[rows], block.norm(dim=1, keepdim=True) * H[rows])
        return A

    def entries(self, source: int) -> Tensor:
        chosen = (self._sources == source).nonzero().squeeze(1)
        return self._samples[chosen.to(self._samples.device)].T

    def parameters(self) -> int:
        return self._samples.numel()
