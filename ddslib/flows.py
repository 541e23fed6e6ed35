"""Normalizing flows: bijections between spectra x and latent codes z, with exact densities.

A flow is a chain of layers (`ddslib.layers`).  Forwards it maps data to latent codes, z = f(x), and back
codes to data, g = f⁻¹.  With a standard normal prior, the change of variables gives ::

    log p(x) = log N(z; 0, I) + log |det ∂f/∂x|

There are two: `RealNVP`, one flow per note (DDS-1, DDS-2), and `ConditionalGlow`, one flow for all notes
(DDS-3).  Both decode codes (N, entries, D) to spectra (N, entries, K), and that is all that a dictionary
needs of them.

Shapes: a batch is (..., B, K).  `RealNVP` is a *stack*: its parameters have a leading axis for the
notes, its batches are (N, B, K), and all notes are computed at once.

References:
    * Dinh, Sohl-Dickstein and Bengio, "Density estimation using Real NVP", ICLR 2017
    * Kingma and Dhariwal, "Glow: generative flow with invertible 1x1 convolutions", NeurIPS 2018
    * Jacobsen, Behrmann, Zemel and Bethge, "Excessive invariance causes adversarial vulnerability", ICLR 2019
"""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .artefacts import writing
from .config import InputError
from .fused import LEAKY_RELU, SELU
from .layers import ActNorm, AffineMap, Coupling, Layer, LUMixing, Permutation
from .precision import FACTORS

LOG_2PI = math.log(2 * math.pi)


def standard_normal_log_density(z: Tensor) -> Tensor:
    """log N(z; 0, I) of codes (..., D), in nats: (...)."""
    return -0.5 * (z.square().sum(dim=-1) + LOG_2PI * z.shape[-1])


class Flow(nn.Module, ABC):
    """A chain of layers, and what a decomposition asks of it.

    ``n_sources`` is N, ``dimensions`` is K.
    """

    def __init__(self, layers: Sequence[Layer], **arguments: Any):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.arguments = arguments  # what the flow is built from, for its file
        self.n_sources: int = arguments["n_sources"]
        self.dimensions: int = arguments["dimensions"]

    @property
    @abstractmethod
    def code_dimensions(self) -> int:
        """D, how many numbers a code has."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Spectra (N, entries, K) of codes (N, entries, D), source by source."""

    @abstractmethod
    def log_det(self, spectra: Tensor) -> Tensor:
        """Log-determinant of f (N, entries) at spectra (N, entries, K), source by source."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z = f(x) and its log-determinant in nats: (B, K) to (B, K) and (B,), with the notes first in a stack.

        Raises `InputError` where something is not finite, as `inverse` does.
        """
        z, log_det = self.ahead(x)
        return self._finite(z), self._finite(log_det)

    def ahead(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`forward` without a look at the result, for which a GPU would have to be waited for."""
        total = x.new_zeros(x.shape[:-1])
        for layer in self.layers:
            x, log_det = layer(x)
            total = total + log_det
        return x, total

    def inverse(self, z: Tensor) -> Tensor:
        """x = g(z), of the shape of z."""
        return self._finite(self._back(z))

    def _back(self, z: Tensor) -> Tensor:
        """`inverse` without a look at the result."""
        for layer in self._inverse_chain():
            z = layer.inverse(z)
        return z

    def _inverse_chain(self) -> Sequence[Layer | AffineMap]:
        return self.layers[::-1]

    def _finite(self, result: Tensor) -> Tensor:
        if torch.isfinite(result).all():
            return result
        self.check_weights()
        raise InputError(f"{type(self).__name__}: the result is not finite; expected finite input of moderate size")

    def check_weights(self) -> None:
        """Raise `InputError` naming the first weight that is not finite."""
        for name, value in self.state_dict().items():
            if not torch.isfinite(value).all():
                raise InputError(f"{type(self).__name__}: weights {name} are not finite")

    def freeze(self) -> Self:
        """Fix the weights, and compute once what fixed weights allow; gradients still reach the codes."""
        self.check_weights()
        return self.requires_grad_(False)

    def fuse(self) -> Self:
        """Leave the fusing of the couplings, forwards, to torch.compile; the first call then takes some seconds."""
        for coupling in self._couplings():
            coupling.fuse()
        return self

    def round_factors(self) -> Self:
        """Train MLPs whose products have rounded factors, see `ddslib.precision`."""
        for coupling in self._couplings():
            coupling.round_factors()
        return self

    def to_mixed_precision(self) -> Self:
        """Freeze the flow and round the factors of its products, see `ddslib.precision`."""
        self.freeze()
        for coupling in self._couplings():
            coupling.mlp.to(torch.bfloat16)
        return self

    def _couplings(self) -> list[Coupling]:
        return [layer for layer in self.layers if isinstance(layer, Coupling)]

    @property
    def like(self) -> Tensor:
        """A weight on the device and in the precision of codes and spectra."""
        return self._couplings()[0].a

    def size(self) -> int:
        """How many numbers were learnt."""
        return sum(parameter.numel() for parameter in self.parameters())


class RealNVP(Flow):
    """N independent flows, one per note, computed as one stack (paper §IV-B2).

    A step is a fixed random permutation, then an affine coupling, whose MLP has SELU activations.  All
    batches have the notes as their first axis: x and z are (N, B, K).
    """

    def __init__(
        self,
        n_sources: int,
        dimensions: int,
        steps: int,
        hidden: Sequence[int],
        generator: torch.Generator | None = None,
    ):
        generator = generator or torch.Generator().manual_seed(0)
        layers = []
        for _ in range(steps):
            coupling = Coupling(dimensions, hidden, SELU, generator, stack=(n_sources,))
            layers += [Permutation(dimensions, generator), coupling]
        super().__init__(layers, n_sources=n_sources, dimensions=dimensions, steps=steps, hidden=list(hidden))

    @property
    def code_dimensions(self) -> int:
        return self.dimensions

    def decode(self, codes: Tensor) -> Tensor:
        return self._back(codes)

    def log_det(self, spectra: Tensor) -> Tensor:
        return self.ahead(spectra)[1]

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) of every note for its own frames: (N, B, K) to (N, B), in nats."""
        return self.log_density(*self(x))

    def log_density(self, z: Tensor, log_det: Tensor) -> Tensor:
        """log p(x) (N, B), in nats, from what `forward` gives for x."""
        return standard_normal_log_density(z) + log_det

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw spectra of every note: (N, count, K)."""
        shape, like = (self.n_sources, count, self.dimensions), self.like
        return self.inverse(torch.randn(shape, dtype=like.dtype, device=like.device, generator=generator))

    def take(self, notes: Sequence[int] | slice | Tensor) -> "RealNVP":
        """A stack of some of the flows, with weights of its own; where `notes` is a slice, with the same weights."""
        chosen = notes if isinstance(notes, slice) else torch.as_tensor(notes)
        weights = {id(p): nn.Parameter(p.detach()[chosen], p.requires_grad) for p in self.parameters()}
        smaller = deepcopy(self, weights | {id(buffer): buffer for buffer in self.buffers()})
        smaller.n_sources = len(smaller.layers[-1].a)
        smaller.arguments = self.arguments | {"n_sources": smaller.n_sources}
        return smaller


class ConditionalGlow(Flow):
    """One flow for all notes (paper §III-D, §IV-B2).

    A step is ActNorm, then an LU mixing, then an affine coupling, whose MLP has LeakyReLU activations.
    The latent vector splits into a semantic part z_s (N numbers), which for note n is expected at the
    n-th one-hot vector, and a nuisance part z_n (K - N numbers), which is standard normal and is the
    code.  Batches are x, z (B, K) with sources (B,).

    The paper's semantic loss, λ_s times the mean squared error, is up to a constant the negative
    log-density of a normal distribution around the one-hot vector with variance N / (2 λ_s).
    """

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
        generator = generator or torch.Generator().manual_seed(0)
        layers = []
        for _ in range(steps):
            coupling = Coupling(dimensions, hidden, LEAKY_RELU, generator)
            layers += [ActNorm(dimensions), LUMixing(dimensions, generator), coupling]
        super().__init__(
            layers, n_sources=n_sources, dimensions=dimensions, steps=steps, hidden=list(hidden),
            semantic_weight=semantic_weight,
        )  # fmt: skip
        self.semantic_variance = n_sources / (2 * semantic_weight)
        self._frozen: list[
            Coupling | AffineMap
        ] = []  # no submodules: what is derived from weights is not saved with them

    @property
    def code_dimensions(self) -> int:
        return self.dimensions - self.n_sources

    def split(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The semantic part (..., N) and the nuisance part (..., K - N) of z (..., K)."""
        return z.split((self.n_sources, self.code_dimensions), dim=-1)

    def decode(self, codes: Tensor) -> Tensor:
        semantics = self._one_hot(codes)[:, None].expand(-1, codes.shape[1], -1)
        return self._back(torch.cat([semantics, codes], dim=-1).flatten(0, 1)).unflatten(0, codes.shape[:2])

    def _one_hot(self, like: Tensor) -> Tensor:
        """A row for every source (N, N); torch's own function may look at a value, and so cannot be recorded."""
        return torch.eye(self.n_sources, dtype=like.dtype, device=like.device)

    def log_det(self, spectra: Tensor) -> Tensor:
        return self.ahead(spectra.flatten(0, 1))[1].unflatten(0, spectra.shape[:2])

    def log_prob(self, x: Tensor, sources: Tensor) -> Tensor:
        """log p(x | source) of frames (B, K) that are of sources (B,): (B,), in nats."""
        return self.log_density(*self(x), sources)

    def log_density(self, z: Tensor, log_det: Tensor, sources: Tensor) -> Tensor:
        """log p(x | source) (B,), in nats, from what `forward` gives for x."""
        semantic, nuisance = self.split(z)
        error = semantic - self._one_hot(z)[sources]
        variance = self.semantic_variance
        log_semantic = -0.5 * (error.square().sum(dim=-1) / variance + self.n_sources * (LOG_2PI + math.log(variance)))
        return log_semantic + standard_normal_log_density(nuisance) + log_det

    def sample(self, sources: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw one spectrum of each of sources (B,): (B, K)."""
        like = self.like
        noise = torch.randn(len(sources), self.dimensions, dtype=like.dtype, device=like.device, generator=generator)
        semantic, nuisance = self.split(noise)
        centre = self._one_hot(like)[sources]
        return self.inverse(torch.cat([centre + math.sqrt(self.semantic_variance) * semantic, nuisance], dim=-1))

    def freeze(self) -> Self:
        super().freeze()
        if not self._frozen:
            steps = [self.layers[first : first + 3] for first in range(0, len(self.layers), 3)]
            for norm, mixing, coupling in reversed(steps):
                self._frozen += [coupling, AffineMap(norm, mixing)]
        return self

    def to_mixed_precision(self) -> Self:
        super().to_mixed_precision()
        for affine_map in self._frozen[1::2]:
            affine_map.matrix = affine_map.matrix.to(FACTORS[self.like.device.type])
        return self

    def _inverse_chain(self) -> Sequence[Layer | AffineMap]:
        return self._frozen or super()._inverse_chain()


FLOWS = {flow.__name__: flow for flow in (RealNVP, ConditionalGlow)}


def save(flow: Flow, path: Path, history: dict[str, Tensor], provenance: dict[str, Any]) -> None:
    """Write weights, ActNorm's state, the curves of the training and where all that came from, in one step."""
    tensors = {f"flow.{name}": value for name, value in flow.state_dict().items()}
    tensors |= {f"history.{name}": value for name, value in history.items()}
    description = {"flow": type(flow).__name__, "arguments": flow.arguments, "provenance": provenance}
    with writing(path) as target:
        save_file(
            {name: value.detach().cpu() for name, value in tensors.items()},
            target, metadata={"description": json.dumps(description)},
        )  # fmt: skip


def load(path: Path, device: torch.device | str = "cpu") -> tuple[Flow, dict[str, Tensor], dict[str, Any]]:
    """The flow, its history and its provenance.  Raises `InputError` if the file holds no usable flow."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
            description = json.loads(file.metadata()["description"])
        flow = FLOWS[description["flow"]](**description["arguments"])
        flow.load_state_dict(below("flow.", tensors))
        flow.check_weights()
    except (SafetensorError, KeyError, TypeError, RuntimeError, ValueError) as error:
        raise InputError(f"{path}: expected a flow written by ddslib: {error}") from error
    return flow.to(device), below("history.", tensors), description["provenance"]


def below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
