"""What every normalizing flow is: a bijection between spectra x and latent codes z, with an exact density.

A flow is a chain of layers (`ddslib.flows.layers`).  Forwards it maps data to latent codes, z = f(x), and back
codes to data, g = f⁻¹.  With a standard normal prior, the change of variables gives ::

    log p(x) = log N(z; 0, I) + log |det ∂f/∂x|

There are two: `RealNVP`, one flow per note (DDS-1, DDS-2), and `ConditionalGlow`, one flow for all notes
(DDS-3).  Both decode codes (N, entries, D) to spectra (N, entries, K), and that is all that a dictionary
needs of them.

A *unit* is what learns by itself, with a loss of its own: each flow of a stack, or the one conditional flow.

Shapes: a batch is (..., B, K).

References:
    * Dinh, Sohl-Dickstein and Bengio, "Density estimation using Real NVP", ICLR 2017
    * Kingma and Dhariwal, "Glow: generative flow with invertible 1x1 convolutions", NeurIPS 2018
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from ..config import InputError
from ..machine.rounding import SINGLE, Rounding
from .fused import compiled, couple
from .layers import Coupling

LOG_2PI = math.log(2 * math.pi)


def standard_normal_log_density(z: Tensor) -> Tensor:
    """log N(z; 0, I) of codes (..., D), in nats: (...)."""
    return -0.5 * (z.square().sum(-1) + LOG_2PI * z.shape[-1])


class Flow(nn.Module, ABC):
    """A chain of layers, and what a decomposition asks of it.

    ``n_sources`` is N, ``dimensions`` is K, ``code_dimensions`` is D, how many numbers a code has, and ``units`` is how
    many units there are; `hidden` are the widths of a coupling's hidden layers.
    """

    code_dimensions: int
    units: int

    def __init__(
        self,
        n_sources: int,
        dimensions: int,
        steps: int,
        hidden: Sequence[int],
        generator: torch.Generator | None = None,
        **more: float,
    ):
        super().__init__()
        self.n_sources, self.dimensions = n_sources, dimensions
        # What the flow is built from, for its file.
        self.arguments = {"n_sources": n_sources, "dimensions": dimensions, "steps": steps, "hidden": [*hidden], **more}
        # What goes back in place of the layers once weights are fixed; no submodules, for it is not saved with them.
        self._frozen = []
        generator = generator or torch.Generator().manual_seed(0)
        self.layers = nn.ModuleList(layer for _ in range(steps) for layer in self._step(hidden, generator))

    @abstractmethod
    def _step(self, hidden, generator):
        """The layers of one step, the coupling last, with weights that are drawn."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Spectra (N, entries, K) of codes (N, entries, D), source by source."""

    @abstractmethod
    def log_det(self, spectra: Tensor) -> Tensor:
        """Log-determinant of f (N, entries) at spectra (N, entries, K), source by source."""

    @abstractmethod
    def units_of(self, sources: np.ndarray) -> np.ndarray:
        """Which unit learns from frames of sources (M,): (M,)."""

    def by_unit(self, parameter: Tensor) -> Tensor:
        """The numbers of a parameter of the flow, or of its gradient, (units, numbers) in the same memory."""
        return parameter.detach().view(self.units, -1)

    @abstractmethod
    def losses(self, x: Tensor, sources: Tensor) -> Tensor:
        """Negative log-likelihoods (units, B), in nats, of frames (units, B, K) of sources (units, B).

        They may be not finite: as in `transform`, nobody looks.
        """

    @abstractmethod
    def clip_gradients(self, largest: float):
        """Scale down the gradient of every unit whose norm is larger."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z = f(x) and its log-determinant in nats: (B, K) to (B, K) and (B,), with the notes first in a stack.

        Raises `InputError` where something is not finite, as `inverse` does.
        """
        z, log_det = self.transform(x)
        return self._finite(z), self._finite(log_det)

    def transform(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`forward` without a look at the result, for which a GPU would have to be waited for."""
        total = x.new_zeros(x.shape[:-1])
        for layer in self.layers:
            x, log_det = layer(x)
            total = total + log_det
        return x, total

    def inverse(self, z: Tensor) -> Tensor:
        """x = g(z), of the shape of z."""
        return self._finite(self._invert(z))

    def _invert(self, z):
        """`inverse` without a look at the result."""
        for layer in self._frozen or self.layers[::-1]:
            z = layer.inverse(z)
        return z

    def _finite(self, result):
        if torch.isfinite(result).all():
            return result
        self.check_weights()
        raise InputError(f"{type(self).__name__}: the result is not finite; expected finite input of moderate size")

    def check_weights(self):
        """Raise `InputError` naming the first weight that is not finite."""
        for name, value in self.state_dict().items():
            if not torch.isfinite(value).all():
                raise InputError(f"{type(self).__name__}: weights {name} are not finite")

    def freeze(self, rounding: Rounding = SINGLE) -> Self:
        """Fix the weights, rounded, and compute once what fixed weights allow; gradients still reach the codes."""
        self.check_weights()
        if rounding.networks:
            for coupling in self._couplings():
                coupling.mlp.to(rounding.networks)
        return self.requires_grad_(False)

    def fuse(self) -> Self:
        """Leave the fusing of the couplings, forwards, to torch.compile; the first call then takes some seconds."""
        for coupling in self._couplings():
            coupling.couple = compiled(couple)
        return self

    def round_factors(self, rounding: Rounding) -> Self:
        """Round the factors of the MLPs' products from now on, and leave the weights, which are learnt, as they are."""
        for coupling in self._couplings():
            coupling.factors = rounding.networks
        return self

    def _couplings(self):
        return [layer for layer in self.layers if isinstance(layer, Coupling)]

    @property
    def like(self) -> Tensor:
        """A weight on the device and in the precision of codes and spectra."""
        return self._couplings()[0].a

    def size(self) -> int:
        """How many numbers were learnt."""
        return sum(parameter.numel() for parameter in self.parameters())
