"""Stored entries: the dictionary of NMF, and of all whose entries are fixed."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .dictionary import Dictionary
from .domains import KNOTS, CompressedMagnitude, LogMagnitude


class SampleDictionary(Dictionary):
    """NMF's dictionary: every stored frame is an entry (paper §III-A).

    `samples` (M, K) holds one entry to a row and may be memory-mapped and larger than memory; it is
    then read `block` rows at a time.  `sources` (M,) says which of the `n_sources` an entry belongs to.  With
    ``resident=True`` the samples are moved to `device` whole, once.  Factors of products are rounded to `factors`, if
    given.  In a domain other than the paper's the entries are made once, and kept; and where the recording is
    `coloured`, its colour is searched.
    """

    def __init__(
        self,
        samples: np.ndarray | Tensor,
        sources: np.ndarray | Tensor,
        n_sources: int,
        device: torch.device | str = "cpu",
        resident: bool = False,
        factors: torch.dtype | None = None,
        block: int = 2048,
        domain: LogMagnitude | CompressedMagnitude = Dictionary.domain,
        coloured: bool = False,
    ):
        self.domain = domain
        self._samples = torch.as_tensor(samples)
        if len(self._samples) != len(sources):
            raise ValueError(f"{len(self._samples)} samples but {len(sources)} sources; expected one source a sample")
        self._device = torch.device(device)
        if resident or coloured:
            self._samples = self._samples.to(self._device)
        if domain != Dictionary.domain:
            self._samples = domain.entries(self._samples)
        if coloured:
            self._plain, self.colour = self._samples, self._samples.new_zeros(KNOTS)
        self._factors = factors or self._samples.dtype
        self._block = len(self._samples) if resident else block
        self.recordable = resident  # else samples may have to come from the CPU
        self._sources = torch.as_tensor(sources).to(self._device)
        self._n_sources = n_sources

    def refresh(self):
        if self.colour is not None:
            self._samples = self.domain.coloured(self._plain, self.colour)

    def pull_back(self, G, H, likelihood_weight):
        if self.colour is None:
            return super().pull_back(G, H, likelihood_weight)
        colour = self.colour.detach().requires_grad_()
        return torch.autograd.grad(self.domain.coloured(self._plain, colour), colour, H @ G.T)

    def _blocks(self):
        for first in range(0, len(self._samples), self._block):
            rows = slice(first, first + self._block)
            yield rows, self._samples[rows].to(self._device)

    def start(self, X, generator=None):
        return X.new_full((len(self._samples), X.shape[1]), 1 / len(self._samples))

    def mix(self, H):
        X_hat = _aligned(H.new_zeros(self._samples.shape[1], H.shape[1]))
        for rows, block in self._blocks():
            X_hat += self._product(block.T, _aligned(H[rows]))
        return X_hat[:, : H.shape[1]].contiguous()

    def correlate(self, G):
        gradient, aligned = G.new_empty(len(self._samples), G.shape[1]), _aligned(G)
        for rows, block in self._blocks():
            gradient[rows] = self._product(block, aligned)[:, : G.shape[1]]
        return gradient

    def _product(self, A, B):
        return (A.to(self._factors) @ B.to(self._factors)).to(B.dtype)

    def attribute(self, H):
        A = H.new_zeros(self._n_sources, H.shape[1])
        for rows, block in self._blocks():
            A.index_add_(0, self._sources[rows], block.norm(dim=1, keepdim=True) * H[rows])
        return A

    def entries(self, source):
        return self._samples[self._rows_of(source).to(self._samples.device)].T

    def part(self, H, source):
        return self.entries(source).to(H.device) @ H[self._rows_of(source)]

    def spread(self, values):
        return values[self._sources]

    def _rows_of(self, source):
        return (self._sources == source).nonzero().squeeze(1)


def _aligned(matrix):
    """With columns of zeros up to a multiple of 16: a product whose rows start anywhere may take half as long again."""
    return functional.pad(matrix, (0, -matrix.shape[1] % 16))
