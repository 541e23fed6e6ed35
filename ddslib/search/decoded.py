"""Entries that a flow decodes from latent codes: what DDS-1, DDS-2 and DDS-3 have in common."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..flows.flow import Flow, standard_normal_log_density
from .dictionary import SHARE_OFFSET, Dictionary, Penalty, shares
from .domains import KNOTS, CompressedMagnitude, LogMagnitude
from .stored import SampleDictionary


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
        decoded = self._flow.decode(self.codes.new_zeros(self._flow.n_sources, 1, self.codes.shape[-1])).clamp(min=0)
        return self._without_codes(decoded.expand(-1, self._rows, -1))

    def _without_codes(self, entries):
        """The dictionary of entries (N, count, K)."""
        n_sources, count, _ = entries.shape
        sources = torch.arange(n_sources).repeat_interleave(count)
        return SampleDictionary(entries.flatten(0, 1), sources, n_sources, self.codes.device, resident=True)

    def start(self, X, generator=None):
        entries = self._flow.n_sources * self._rows
        uniform = torch.rand(entries, X.shape[1], dtype=X.dtype, device=X.device, generator=generator)
        return uniform * (X.mean() / entries).sqrt()

    def _penalty(self, H, surprisal):
        """Surprisals (entries, 1) or (entries, T), weighted by the entries' shares."""
        frame_surprisal = (shares(H) * surprisal).sum(dim=0)
        return Penalty(
            frame_surprisal.sum(dtype=torch.float64), (surprisal - frame_surprisal) / (H.sum(dim=0) + SHARE_OFFSET)
        )


class Decoded:
    """Entries (n, count, K) and surprisals (n, count) of codes (n, count, D), and the way back to the codes.

    ``entries(spectra, *variables)`` makes entries of what the flow decodes; it may depend on more variables.
    """

    def __init__(self, flow: Flow, codes: Tensor, log_determinant: bool, entries: Callable[..., Tensor], *more: Tensor):
        self._inputs = [variable.detach().requires_grad_() for variable in (codes, *more)]
        spectra = flow.decode(self._inputs[0])
        self._outputs = [entries(spectra, *self._inputs[1:])]
        self.surprisal = -standard_normal_log_density(codes) / codes.shape[-1]
        if log_determinant:
            self._outputs.append(-flow.log_det(spectra) / codes.shape[-1])
            self.surprisal += self._outputs[1].detach()
        self.entries = self._outputs[0].detach()

    def pull_back(self, into_entries: Tensor, into_surprisal: Tensor) -> tuple[Tensor, ...]:
        """Gradients for the codes and for what else there is, from those for entries and surprisals; called once."""
        gradients = (into_entries, into_surprisal)[: len(self._outputs)]
        through_flow, *more = torch.autograd.grad(self._outputs, self._inputs, gradients)
        codes = self._inputs[0].detach()
        of_prior = codes / codes.shape[-1]
        return torch.addcmul(through_flow.contiguous(), into_surprisal[..., None], of_prior), *more


class SharedDictionary(DecodedDictionary):
    """C entries per source, shared over time: DDS-2 with a stack of note flows, DDS-3 with one conditional flow.

    Entries are sorted by source (paper §III-C, §III-D).  Where the recording is `coloured`, its colour is searched too,
    in a domain that knows colours.
    """

    def __init__(
        self,
        flow: Flow,
        components: int,
        log_determinant: bool = False,
        domain: LogMagnitude | CompressedMagnitude = DecodedDictionary.domain,
        coloured: bool = False,
    ):
        super().__init__(flow, components, log_determinant, rows=components)
        self.domain = domain
        if coloured:
            self.colour = flow.like.new_zeros(KNOTS)

    def refresh(self):
        more = () if self.colour is None else (self.colour,)
        self._decoded = Decoded(self._flow, self._codes_by_source(), self._log_determinant, self.domain.entries, *more)
        self._entries = self._decoded.entries.flatten(0, 1)

    def _codes_by_source(self):
        """(N, C, D)"""
        return self.codes

    def mix(self, H):
        return self._entries.T @ H

    def correlate(self, G):
        return self._entries @ G

    def penalty(self, H):
        return self._penalty(H, self._decoded.surprisal.flatten()[:, None])

    def pull_back(self, G, H, likelihood_weight):
        into_surprisal = likelihood_weight * shares(H).sum(dim=1)
        return self._decoded.pull_back(
            (H @ G.T).view_as(self._decoded.entries), into_surprisal.view_as(self._decoded.surprisal)
        )

    def attribute(self, H):
        weighted = self._entries.norm(dim=1, keepdim=True) * H
        return weighted.unflatten(0, (-1, self._rows)).sum(dim=1)

    def entries(self, source):
        return self._decoded.entries[source].T

    def part(self, H, source):
        return self.entries(source) @ H.unflatten(0, (-1, self._rows))[source]

    def spread(self, values):
        return values.repeat_interleave(self._rows, dim=0)

    def fixed(self) -> SampleDictionary:
        """The entries as they are now, without codes to search."""
        dictionary = self._without_codes(self._decoded.entries)
        dictionary.domain = self.domain
        return dictionary
