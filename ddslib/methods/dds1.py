"""DDS-1: an entry for every note and frame (paper §III-B)."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..config import frozen
from ..flows.realnvp import RealNVP
from ..machine.device import policy
from ..machine.gradients import saved_bytes
from ..search.decoded import Decoded, DecodedDictionary
from ..search.dictionary import shares
from ..search.settings import CodeFit
from ..search.work import DecodedWork
from .method import Method


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
        self._surprisal = self.codes.new_empty(flow.n_sources, frames)
        usual = policy(self.codes.device)
        self._block = block or usual.codes_at_a_time
        self._blocks = self._split()
        self._keeps = self._bytes_to_keep() <= (usual.gradient_bytes if keep is None else keep)

    def _split(self):
        """All codes, in blocks."""
        n_sources, frames = self.codes.shape[:2]
        height, width = max(1, self._block // frames), min(self._block, frames)
        blocks = []
        for note in range(0, n_sources, height):
            notes = slice(note, note + height)
            flow = self._flow.select(notes)
            blocks += [_Block(flow, notes, slice(frame, frame + width)) for frame in range(0, frames, width)]
        return blocks

    def leave_out(self, silent):
        self._blocks = self._split() if silent is None else self._split_without(silent)

    def _split_without(self, silent):
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
            flow = self._flow.select(notes)
            blocks += [_Block(flow, notes[:, None], part) for part in frames[notes, :most].split(self._block, dim=1)]
        return blocks

    def _bytes_to_keep(self):
        return len(self._blocks) * saved_bytes(lambda: self._decode(self._blocks[0]))

    def _decode(self, block):
        codes = self.codes[block.notes, block.frames]
        return Decoded(block.flow, codes, self._log_determinant, self.domain.entries)

    def refresh(self):
        self._kept = []
        for block in self._blocks:
            with torch.set_grad_enabled(self._keeps):
                decoded = self._decode(block)
            where = block.notes, block.frames
            self._entries[where], self._surprisal[where] = decoded.entries, decoded.surprisal
            if self._keeps:
                self._kept.append(decoded)

    def mix(self, H):
        # Source by source: a product for every frame would be a thousand calls for next to nothing each.
        X_hat = H.new_zeros(self._entries.shape[1:])
        for entries, activations in zip(self._entries, H, strict=True):
            X_hat.addcmul_(entries, activations[:, None])
        return X_hat.T

    def correlate(self, G):
        frames = G.T.contiguous()
        return torch.stack([torch.linalg.vecdot(entries, frames) for entries in self._entries])

    def penalty(self, H):
        return self._penalty(H, self._surprisal)

    def pull_back(self, G, H, likelihood_weight):
        gradient = torch.zeros_like(self.codes)
        weights, by_frame = likelihood_weight * shares(H), G.T.contiguous()
        for index, block in enumerate(self._blocks):
            decoded = self._kept[index] if self._keeps else self._decode(block)
            where = block.notes, block.frames
            into_entries = H[where][..., None] * by_frame[block.frames]
            (gradient[where],) = decoded.pull_back(into_entries, weights[where])
        return (gradient,)

    def attribute(self, H):
        return self._entries.norm(dim=2) * H

    def entries(self, source):
        return self._entries[source].T

    def part(self, H, source):
        return self._entries[source].T * H[source]

    def spread(self, values):
        return values


class _Block(NamedTuple):
    """Some of the flows, and the codes that they decode."""

    flow: RealNVP
    notes: slice | Tensor  # indices are (notes, 1)
    frames: slice | Tensor  # indices are (notes, count)


@frozen
class FrameCodeFit(CodeFit):
    """A decomposition whose entries are for one frame each."""

    mixing: Literal["log magnitude"] = "log magnitude"  # an entry that fits one frame alone would explain it alone


def _dictionary(materials, settings):
    own = materials.policy
    flow, frames, determinant = materials.flow(), materials.frames, settings.log_determinant
    return FrameDictionary(flow, frames, determinant, own.codes_at_a_time, own.gradient_bytes)


WORK = DecodedWork(
    lambda sizes: sizes.N * sizes.T,
    "TKN",
    {"W": {"T": 1, "K": 2, "N": 1}, "X_hat": {"T": 1, "K": 1, "N": 1, "K, fixed widths": 1}},
    "note_flows",
    by_frame=True,
)
METHOD = Method(
    name="dds1", label="DDS-1", colour="#edae49", settings=FrameCodeFit, dictionary=_dictionary, work=WORK,
    flow="note_flows", published={"psa": 0.2760, "sparsity": 0.7039}, affordable=False,
)  # fmt: skip
