"""One flow for all notes: a conditional Glow (DDS-3).

References:
    * Kingma and Dhariwal, "Glow: generative flow with invertible 1x1 convolutions", NeurIPS 2018
    * Jacobsen, Behrmann, Zemel and Bethge, "Excessive invariance causes adversarial vulnerability", ICLR 2019
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..config import InputError
from ..machine.rounding import SINGLE
from .flow import LOG_2PI, Flow, standard_normal_log_density
from .fused import LEAKY_RELU
from .layers import ActNorm, AffineMap, Coupling, LUMixing


class ConditionalGlow(Flow):
    """One flow for all notes (paper §III-D, §IV-B2).

    A step is ActNorm, then an LU mixing, then an affine coupling, whose MLP has LeakyReLU activations.
    The latent vector splits into a semantic part z_s (N numbers), which for note n is expected at the
    n-th one-hot vector, and a nuisance part z_n (K - N numbers), which is standard normal and is the
    code.  Batches are x, z (B, K) with sources (B,).

    The paper's semantic loss, λ_s times the mean squared error, is up to a constant the negative
    log-density of a normal distribution around the one-hot vector with variance N / (2 λ_s).
    """

    units = 1

    def __init__(
        self,
        n_sources: int,
        dimensions: int,
        steps: int,
        hidden: Sequence[int],
        semantic_weight: float,
        generator: torch.Generator | None = None,
    ):
        if dimensions <= n_sources:
            raise InputError(f"{dimensions} dimensions cannot hold one for each of {n_sources} sources, and a code")
        super().__init__(n_sources, dimensions, steps, hidden, generator, semantic_weight=semantic_weight)
        self.code_dimensions = dimensions - n_sources
        self.semantic_variance = n_sources / (2 * semantic_weight)
        self.register_buffer("_one_hot", torch.eye(n_sources), persistent=False)  # a row for every source

    def _step(self, hidden, generator):
        coupling = Coupling(self.dimensions, hidden, LEAKY_RELU, generator)
        return [ActNorm(self.dimensions), LUMixing(self.dimensions, generator), coupling]

    def split(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The semantic part (..., N) and the nuisance part (..., K - N) of z (..., K)."""
        return z.split((self.n_sources, self.code_dimensions), -1)

    def decode(self, codes):
        semantics = self._one_hot[:, None].expand(-1, codes.shape[1], -1)
        return self._invert(torch.cat([semantics, codes], -1).flatten(0, 1)).unflatten(0, codes.shape[:2])

    def log_det(self, spectra):
        return self.transform(spectra.flatten(0, 1))[1].unflatten(0, spectra.shape[:2])

    def units_of(self, sources):
        return np.zeros_like(sources)

    def losses(self, x, sources):
        return -self.log_density(*self.transform(x[0]), sources[0])[None]

    def clip_gradients(self, largest):
        nn.utils.clip_grad_norm_(self.parameters(), largest)

    def log_prob(self, x: Tensor, sources: Tensor) -> Tensor:
        """log p(x | source) of frames (B, K) that are of sources (B,): (B,), in nats."""
        return self.log_density(*self(x), sources)

    def log_density(self, z: Tensor, log_det: Tensor, sources: Tensor) -> Tensor:
        """log p(x | source) (B,), in nats, from what `forward` gives for x."""
        semantic, nuisance = self.split(z)
        error = semantic - self._one_hot[sources]
        variance = self.semantic_variance
        log_semantic = -0.5 * (error.square().sum(-1) / variance + self.n_sources * (LOG_2PI + math.log(variance)))
        return log_semantic + standard_normal_log_density(nuisance) + log_det

    def sample(self, sources: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw one spectrum of each of sources (B,): (B, K)."""
        noise = self.like.new_empty(len(sources), self.dimensions).normal_(generator=generator)
        semantic, nuisance = self.split(noise)
        semantic = self._one_hot[sources] + math.sqrt(self.semantic_variance) * semantic
        return self.inverse(torch.cat([semantic, nuisance], -1))

    def freeze(self, rounding=SINGLE):
        super().freeze(rounding)
        if not self._frozen:
            back = self.layers[::-1]
            for coupling, mixing, norm in zip(back[::3], back[1::3], back[2::3], strict=True):
                self._frozen += [coupling, AffineMap(norm, mixing)]
        if rounding.others:
            for affine_map in self._frozen[1::2]:
                affine_map.matrix = affine_map.matrix.to(rounding.others)
        return self
