"""A flow for each note: a stack of RealNVPs (DDS-1, DDS-2).

Parameters have a leading axis for the notes, batches are (N, B, K), and all notes are computed at once.

Reference: Dinh, Sohl-Dickstein and Bengio, "Density estimation using Real NVP", ICLR 2017.
"""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from .flow import Flow, standard_normal_log_density
from .fused import SELU
from .layers import Coupling, Permutation


class RealNVP(Flow):
    """N independent flows, one per note, computed as one stack (paper §IV-B2).

    A step is a fixed random permutation, then an affine coupling, whose MLP has SELU activations.  All
    batches have the notes as their first axis: x and z are (N, B, K).
    """

    def _step(self, hidden, generator):
        coupling = Coupling(self.dimensions, hidden, SELU, generator, stack=(self.n_sources,))
        return [Permutation(self.dimensions, generator), coupling]

    @property
    def code_dimensions(self):
        return self.dimensions

    def decode(self, codes):
        return self._invert(codes)

    def log_det(self, spectra):
        return self.transform(spectra)[1]

    @property
    def units(self):
        return self.n_sources

    def units_of(self, sources):
        return sources

    def losses(self, x, sources):
        return -self.log_density(*self.transform(x))

    def clip_gradients(self, largest):
        gradients = [self.by_unit(parameter.grad) for parameter in self.parameters()]
        norms = torch.stack([torch.linalg.vector_norm(gradient, dim=1) for gradient in gradients])
        scale = (largest / torch.linalg.vector_norm(norms, dim=0).clamp(min=1e-12)).clamp(max=1)
        for gradient in gradients:
            gradient.mul_(scale[:, None])

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) of every note for its own frames: (N, B, K) to (N, B), in nats."""
        return self.log_density(*self(x))

    def log_density(self, z: Tensor, log_det: Tensor) -> Tensor:
        """log p(x) (N, B), in nats, from what `forward` gives for x."""
        return standard_normal_log_density(z) + log_det

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw spectra of every note: (N, count, K)."""
        codes = self.like.new_empty(self.n_sources, count, self.dimensions)
        return self.inverse(codes.normal_(generator=generator))

    def select(self, notes: Sequence[int] | slice | Tensor) -> "RealNVP":
        """A stack of some of the flows, with weights of its own; where `notes` is a slice, with the same weights."""
        chosen = notes if isinstance(notes, slice) else torch.as_tensor(notes)
        weights = {id(p): nn.Parameter(p.detach()[chosen], p.requires_grad) for p in self.parameters()}
        smaller = deepcopy(self, weights | {id(buffer): buffer for buffer in self.buffers()})
        smaller.n_sources = len(smaller.layers[-1].a)
        smaller.arguments = self.arguments | {"n_sources": smaller.n_sources}
        return smaller
