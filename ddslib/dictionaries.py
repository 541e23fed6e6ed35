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

from .flows import Flow, standard_normal_log_density


class Penalty(NamedTuple):
    """How unlikely the codes are, weighted by how much their entries are used."""

    value: Tensor  # scalar
    gradient: Tensor | float  # for H, of its shape


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

    def pull_back(self, G: Tensor, H: Tensor, likelihood_weight: float) -> Tensor:
        """The codes' gradient of J, where G (K, T) is the gradient for X̂: through W, and of the weighted penalty."""
        raise TypeError(f"{type(self).__name__} has no codes to pull a gradient back to")

    def penalty(self, H: Tensor) -> Penalty:
        """The weighted negative log-likelihood of the codes, and its gradient for H; nothing without codes."""
        return Penalty(H.new_zeros(()), 0.0)


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


SHARE_OFFSET = 1e-3  # keeps the shares of a silent frame finite


def shares(H: Tensor) -> Tensor:
    """What each entry contributes to each frame, H / (sum over entries + 10⁻³): as H (entries, T)."""
    return H / (H.sum(dim=0) + SHARE_OFFSET)


class DecodedDictionary(Dictionary):
    """Entries that a flow decodes from latent codes (N, count, D): what DDS-1, DDS-2 and DDS-3 share.

    The entries are the positive parts of what the flow decodes.  The search starts from its modes, codes of zero.
    Each code costs its negative log-density per latent dimension: that of the prior alone, or with
    ``log_determinant=True`` that of the spectrum.
    """

    codes: Tensor

    def __init__(self, flow: Flow, count: int, log_determinant: bool):
        self._flow = flow.freeze()
        like = next(flow.parameters())
        self._log_determinant = log_determinant
        self.codes = like.new_zeros(flow.n_sources, count, flow.code_dimensions)

    def _decode(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Entries (N, count, K) and the energy of their codes (N, count): negative log-densities per dimension."""
        spectra = self._flow.decode(codes)
        energy = -standard_normal_log_density(codes)
        if self._log_determinant:
            energy = energy - self._flow.log_det(spectra)
        return spectra.clamp(min=0), energy / codes.shape[-1]

    def _start(self, X: Tensor, entries: int, generator: torch.Generator | None) -> Tensor:
        uniform = torch.rand(entries, X.shape[1], dtype=X.dtype, device=X.device, generator=generator)
        return uniform * (X.mean() / entries).sqrt()

    def _penalty(self, H: Tensor, energy: Tensor) -> Penalty:
        """Energies (entries, 1) or (entries, T), weighted by the entries' shares."""
        frame_energy = (shares(H) * energy).sum(dim=0)
        return Penalty(frame_energy.sum(), (energy - frame_energy) / (H.sum(dim=0) + SHARE_OFFSET))

    def parameters(self) -> int:
        return self._flow.size()


class SharedDictionary(DecodedDictionary):
    """C entries per source, shared over time: DDS-2 with a stack of note flows, DDS-3 with one conditional flow.

    Entries are sorted by source (paper §III-C, §III-D).
    """

    def __init__(self, flow: Flow, components: int, log_determinant: bool = False):
        super().__init__(flow, components, log_determinant)

    def refresh(self) -> None:
        self._leaf = self.codes.detach().requires_grad_()
        self._graph = self._decode(self._leaf)
        spectra, energy = (value.detach() for value in self._graph)
        self._entries, self._energy = spectra.flatten(0, 1), energy.flatten()[:, None]

    def start(self, X: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self._start(X, self.codes.shape[0] * self.codes.shape[1], generator)

    def mix(self, H: Tensor) -> Tensor:
        return self._entries.T @ H

    def correlate(self, G: Tensor) -> Tensor:
        return self._entries @ G

    def penalty(self, H: Tensor) -> Penalty:
        return self._penalty(H, self._energy)

    def pull_back(self, G: Tensor, H: Tensor, likelihood_weight: float) -> Tensor:
        spectra, energy = self._graph
        gradients = (H @ G.T).view_as(spectra), likelihood_weight * shares(H).sum(dim=1).view_as(energy)
        return torch.autograd.grad(self._graph, self._leaf, gradients)[0]

    def attribute(self, H: Tensor) -> Tensor:
        weighted = self._entries.norm(dim=1, keepdim=True) * H
        return weighted.unflatten(0, self.codes.shape[:2]).sum(dim=1)

    def entries(self, source: int) -> Tensor:
        return self._entries.unflatten(0, self.codes.shape[:2])[source].T


class FrameDictionary(DecodedDictionary):
    """One entry per source and frame: DDS-1 (paper §III-B).

    Decoding goes through the frames in chunks, so what a gradient needs is kept for one chunk at a time.
    """

    CHUNK = 64  # frames: about 4000 codes of 60 notes

    def __init__(self, flow: Flow, frames: int, log_determinant: bool = False):
        super().__init__(flow, frames, log_determinant)
        self._entries = self.codes.new_empty(flow.n_sources, frames, flow.dimensions)
        self._energy = self.codes.new_empty(flow.n_sources, frames)

    def _chunks(self) -> Iterator[slice]:
        for first in range(0, self.codes.shape[1], self.CHUNK):
            yield slice(first, first + self.CHUNK)

    @torch.no_grad()
    def refresh(self) -> None:
        for frames in self._chunks():
            self._entries[:, frames], self._energy[:, frames] = self._decode(self.codes[:, frames])

    def start(self, X: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self._start(X, self.codes.shape[0], generator)

    def mix(self, H: Tensor) -> Tensor:
        return torch.einsum("ntk,nt->kt", self._entries, H)

    def correlate(self, G: Tensor) -> Tensor:
        return torch.einsum("ntk,kt->nt", self._entries, G)

    def penalty(self, H: Tensor) -> Penalty:
        return self._penalty(H, self._energy)

    def pull_back(self, G: Tensor, H: Tensor, likelihood_weight: float) -> Tensor:
        gradient = torch.empty_like(self.codes)
        weights = likelihood_weight * shares(H)
        for frames in self._chunks():
            leaf = self.codes[:, frames].detach().requires_grad_()
            graph = self._decode(leaf)
            into_spectra = H[:, frames, None] * G[:, frames].T
            (gradient[:, frames],) = torch.autograd.grad(graph, leaf, (into_spectra, weights[:, frames]))
        return gradient

    def attribute(self, H: Tensor) -> Tensor:
        return self._entries.norm(dim=2) * H

    def entries(self, source: int) -> Tensor:
        return self._entries[source].T
