"""Dictionaries: linear operators whose entries may depend on codes.

NMF and every variant of DDS minimise the same cost over the activations H, and over the codes where
there are any.  They differ in where the dictionary W comes from, and in nothing else.  So a method is
a `Dictionary`, and `ddslib.decomposition.decompose` is the one algorithm.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .flows import Flow, RealNVP, standard_normal_log_density


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
    recordable = True  # whether its work can be recorded, see `ddslib.cuda.Recorder`

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

    def refresh(self) -> None:  # noqa: B027  a fixed dictionary has nothing to do
        """Decode the codes; called whenever they have changed."""

    def leave_out(self, silent: Tensor | None) -> None:  # noqa: B027  to leave out nothing is always right
        """From the next `refresh` on, leave alone what will not be used again, for whoever gains by it.

        `silent` (entries, T) marks activations that stay at zero.  None takes all entries in again.
        """

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
    ``resident=True`` the samples are moved to `device` whole, once.  Factors of products are rounded to `factors`, if
    given.
    """

    BLOCK = 2048  # rows at a time: what is made of them fits the caches

    def __init__(
        self,
        samples: np.ndarray | Tensor,
        sources: np.ndarray | Tensor,
        n_sources: int,
        device: torch.device | str = "cpu",
        resident: bool = False,
        factors: torch.dtype | None = None,
    ):
        self._samples = torch.as_tensor(samples)
        if len(self._samples) != len(sources):
            raise ValueError(f"{len(self._samples)} samples but {len(sources)} sources; expected one source a sample")
        self._device = torch.device(device)
        if resident:
            self._samples = self._samples.to(self._device)
        self._resident, self._factors = resident, factors or self._samples.dtype
        self.recordable = resident  # else samples may have to come from the CPU
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
        X_hat = _aligned(H.new_zeros(self._samples.shape[1], H.shape[1]))
        for rows, block in self._blocks():
            X_hat += self._product(block.T, _aligned(H[rows]))
        return X_hat[:, : H.shape[1]].contiguous()

    def correlate(self, G: Tensor) -> Tensor:
        gradient, aligned = G.new_empty(len(self._samples), G.shape[1]), _aligned(G)
        for rows, block in self._blocks():
            gradient[rows] = self._product(block, aligned)[:, : G.shape[1]]
        return gradient

    def _product(self, A: Tensor, B: Tensor) -> Tensor:
        return (A.to(self._factors) @ B.to(self._factors)).to(B.dtype)

    def attribute(self, H: Tensor) -> Tensor:
        A = H.new_zeros(self._n_sources, H.shape[1])
        for rows, block in self._blocks():
            A.index_add_(0, self._sources[rows], block.norm(dim=1, keepdim=True) * H[rows])
        return A

    def entries(self, source: int) -> Tensor:
        chosen = (self._sources == source).nonzero().squeeze(1)
        return self._samples[chosen.to(self._samples.device)].T


def _aligned(matrix: Tensor) -> Tensor:
    """With columns of zeros up to a multiple of 16: a product whose rows start anywhere may take half as long again."""
    return functional.pad(matrix, (0, -matrix.shape[1] % 16))


SHARE_OFFSET = 1e-3  # keeps the shares of a silent frame finite


def shares(H: Tensor) -> Tensor:
    """What each entry contributes to each frame, H / (sum over entries + 10⁻³): as H (entries, T)."""
    return H / (H.sum(dim=0) + SHARE_OFFSET)


class DecodedDictionary(Dictionary):
    """Entries that a flow decodes from latent codes (N, count, D): what DDS-1, DDS-2 and DDS-3 share.

    The entries are the positive parts of what the flow decodes.  The search starts from its modes, codes of zero.
    Each code costs its negative log-density per latent dimension: that of the prior alone, or with
    ``log_determinant=True`` that of the spectrum.  A source has `count` codes, and as many `rows` of H as entries in
    each frame.
    """

    codes: Tensor

    def __init__(self, flow: Flow, count: int, log_determinant: bool, rows: int):
        self._flow, self._rows = flow.freeze(), rows
        self._log_determinant = log_determinant
        self.codes = flow.like.new_zeros(flow.n_sources, count, flow.code_dimensions)

    def modes(self) -> SampleDictionary:
        """What the search starts from, without codes: as many entries of each source as it has rows of H."""
        n_sources, _, dimensions = self.codes.shape
        decoded = self._flow.decode(self.codes.new_zeros(n_sources, 1, dimensions)).clamp(min=0)
        return self._without_codes(decoded.expand(-1, self._rows, -1))

    def _without_codes(self, entries: Tensor) -> SampleDictionary:
        """The dictionary of entries (N, count, K)."""
        n_sources, count, _ = entries.shape
        sources = torch.arange(n_sources).repeat_interleave(count)
        return SampleDictionary(entries.flatten(0, 1), sources, n_sources, self.codes.device, resident=True)

    def start(self, X: Tensor, generator: torch.Generator | None = None) -> Tensor:
        entries = self.codes.shape[0] * self._rows
        uniform = torch.rand(entries, X.shape[1], dtype=X.dtype, device=X.device, generator=generator)
        return uniform * (X.mean() / entries).sqrt()

    def _penalty(self, H: Tensor, energy: Tensor) -> Penalty:
        """Energies (entries, 1) or (entries, T), weighted by the entries' shares."""
        frame_energy = (shares(H) * energy).sum(dim=0)
        return Penalty(frame_energy.sum(), (energy - frame_energy) / (H.sum(dim=0) + SHARE_OFFSET))


class _Decoded:
    """Entries (n, count, K) and energies (n, count) of codes (n, count, D), and the way back to the codes."""

    def __init__(self, flow: Flow, codes: Tensor, log_determinant: bool):
        self._codes = codes.detach().requires_grad_()
        spectra = flow.decode(self._codes)
        self._outputs = [spectra.clamp(min=0)]
        self.energy = -standard_normal_log_density(codes) / codes.shape[-1]
        if log_determinant:
            self._outputs.append(-flow.log_det(spectra) / codes.shape[-1])
            self.energy += self._outputs[1].detach()
        self.entries = self._outputs[0].detach()

    def pull_back(self, into_entries: Tensor, into_energy: Tensor) -> Tensor:
        """The gradient for the codes, from those for the entries and for the energies; to be called once."""
        gradients = (into_entries, into_energy)[: len(self._outputs)]
        (through_flow,) = torch.autograd.grad(self._outputs, self._codes, gradients)
        codes = self._codes.detach()
        of_prior = codes / codes.shape[-1]
        return torch.addcmul(through_flow.contiguous(), into_energy[..., None], of_prior)


class SharedDictionary(DecodedDictionary):
    """C entries per source, shared over time: DDS-2 with a stack of note flows, DDS-3 with one conditional flow.

    Entries are sorted by source (paper §III-C, §III-D).
    """

    def __init__(self, flow: Flow, components: int, log_determinant: bool = False):
        super().__init__(flow, components, log_determinant, rows=components)

    def refresh(self) -> None:
        self._decoded = _Decoded(self._flow, self.codes, self._log_determinant)
        self._entries = self._decoded.entries.flatten(0, 1)

    def mix(self, H: Tensor) -> Tensor:
        return self._entries.T @ H

    def correlate(self, G: Tensor) -> Tensor:
        return self._entries @ G

    def penalty(self, H: Tensor) -> Penalty:
        return self._penalty(H, self._decoded.energy.flatten()[:, None])

    def pull_back(self, G: Tensor, H: Tensor, likelihood_weight: float) -> Tensor:
        into_energy = likelihood_weight * shares(H).sum(dim=1)
        return self._decoded.pull_back(
            (H @ G.T).view_as(self._decoded.entries), into_energy.view_as(self._decoded.energy)
        )

    def attribute(self, H: Tensor) -> Tensor:
        weighted = self._entries.norm(dim=1, keepdim=True) * H
        return weighted.unflatten(0, self.codes.shape[:2]).sum(dim=1)

    def entries(self, source: int) -> Tensor:
        return self._decoded.entries[source].T

    def fixed(self) -> SampleDictionary:
        """The entries as they are now, without codes to search."""
        return self._without_codes(self._decoded.entries)


BLOCKS = {"cpu": 1280, "cuda": 2**15}  # codes that DDS-1 decodes at a time
KEEP = {"cpu": 2 * 2**30, "cuda": 16 * 2**30}  # bytes that it keeps for gradients, at most


class FrameDictionary(DecodedDictionary):
    """One entry per source and frame: DDS-1 (paper §III-B).

    The flow decodes blocks of notes and frames, of about `block` codes each.  On a CPU a block is so small that
    what is computed stays in its caches.  What the gradient needs is kept from `refresh` to `pull_back` if all
    blocks together need no more than `keep` bytes; else each block is decoded once more.

    An entry that is left out keeps what was decoded last, and its code gets no gradient.
    """

    def __init__(
        self,
        flow: RealNVP,
        frames: int,
        log_determinant: bool = False,
        block: int | None = None,
        keep: int | None = None,
    ):
        super().__init__(flow, frames, log_determinant, rows=1)
        self._entries = self.codes.new_empty(flow.n_sources, frames, flow.dimensions)
        self._energy = self.codes.new_empty(flow.n_sources, frames)
        device = self.codes.device.type
        self._block = block or BLOCKS[device]
        self._blocks = self._split()
        self._keeps = self._bytes_to_keep() <= (KEEP[device] if keep is None else keep)

    def _split(self) -> list["_Block"]:
        """All codes, in blocks."""
        n_sources, frames = self.codes.shape[:2]
        height, width = max(1, self._block // frames), min(self._block, frames)
        blocks = []
        for note in range(0, n_sources, height):
            notes = slice(note, note + height)
            flow = self._flow.take(notes)
            blocks += [_Block(flow, notes, slice(frame, frame + width)) for frame in range(0, frames, width)]
        return blocks

    def leave_out(self, silent: Tensor | None) -> None:
        self._blocks = self._split() if silent is None else self._split_without(silent)

    def _split_without(self, silent: Tensor) -> list["_Block"]:
        """The codes of entries that sound, in blocks of notes that sound in about as many frames.

        A note that sounds in fewer than the first of its block gets some silent frames, too.
        """
        sounding = (~silent).sum(dim=1)
        ranked = sounding.argsort(descending=True)[: int(sounding.count_nonzero())]
        frames = silent.int().argsort(dim=1, stable=True)  # those that sound come first
        blocks = []
        while len(ranked):
            most = int(sounding[ranked[0]])
            notes, ranked = ranked.tensor_split([max(1, self._block // most)])
            flow = self._flow.take(notes)
            blocks += [_Block(flow, notes[:, None], part) for part in frames[notes, :most].split(self._block, dim=1)]
        return blocks

    def _bytes_to_keep(self) -> int:
        return len(self._blocks) * saved_bytes(lambda: self._decode(self._blocks[0]))

    def _decode(self, block: "_Block") -> _Decoded:
        return _Decoded(block.flow, self.codes[block.notes, block.frames], self._log_determinant)

    def refresh(self) -> None:
        self._kept = []
        for block in self._blocks:
            with torch.set_grad_enabled(self._keeps):
                decoded = self._decode(block)
            where = block.notes, block.frames
            self._entries[where], self._energy[where] = decoded.entries, decoded.energy
            if self._keeps:
                self._kept.append(decoded)

    def mix(self, H: Tensor) -> Tensor:
        # Source by source: a product for every frame would be a thousand calls for next to nothing each.
        X_hat = H.new_zeros(self._entries.shape[1:])
        for entries, activations in zip(self._entries, H, strict=True):
            X_hat.addcmul_(entries, activations[:, None])
        return X_hat.T

    def correlate(self, G: Tensor) -> Tensor:
        frames = G.T.contiguous()
        return torch.stack([torch.linalg.vecdot(entries, frames) for entries in self._entries])

    def penalty(self, H: Tensor) -> Penalty:
        return self._penalty(H, self._energy)

    def pull_back(self, G: Tensor, H: Tensor, likelihood_weight: float) -> Tensor:
        gradient = torch.zeros_like(self.codes)
        weights, by_frame = likelihood_weight * shares(H), G.T.contiguous()
        for index, block in enumerate(self._blocks):
            decoded = self._kept[index] if self._keeps else self._decode(block)
            where = block.notes, block.frames
            into_entries = H[where][..., None] * by_frame[block.frames]
            gradient[where] = decoded.pull_back(into_entries, weights[where])
        return gradient

    def attribute(self, H: Tensor) -> Tensor:
        return self._entries.norm(dim=2) * H

    def entries(self, source: int) -> Tensor:
        return self._entries[source].T


class _Block(NamedTuple):
    """Some of the flows, and the codes that they decode."""

    flow: RealNVP
    notes: slice | Tensor  # indices are (notes, 1)
    frames: slice | Tensor  # indices are (notes, count)


def saved_bytes(work: Callable[[], object]) -> int:
    """The bytes that automatic differentiation keeps of what `work` computes, weights aside."""
    sizes = {}

    def note(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        kept = work()  # alive until all is counted, so that no two storages have one address
    del kept
    return sum(sizes.values())
