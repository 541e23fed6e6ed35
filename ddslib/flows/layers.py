"""What flows are chains of: bijections of one axis, with exact Jacobian determinants.

A layer maps forwards (data to latent) and back, and knows the logarithm of its Jacobian determinant.  Shapes: a batch
is (..., B, K).  The layers of a stack of flows have parameters with a leading axis for the flows.

References:
    * Dinh, Sohl-Dickstein and Bengio, "Density estimation using Real NVP", ICLR 2017
    * Kingma and Dhariwal, "Glow: generative flow with invertible 1x1 convolutions", NeurIPS 2018
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise

import torch
from torch import Tensor, nn

from .fused import Activation, couple, lu_product, permute, uncouple

SMALL = 0.01  # the last layer of a coupling starts small, but not at zero: no gradient would reach the others
FLOOR = 0.01  # least deviation that ActNorm divides by: some bins hardly vary


class Layer(nn.Module, ABC):
    """One bijection of the last axis."""

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y (..., B, K) and the log-determinant, which broadcasts to (..., B)."""

    @abstractmethod
    def inverse(self, y: Tensor) -> Tensor:
        """The x whose image is y."""


class Permutation(Layer):
    """A fixed random order of the dimensions, the same for all flows of a stack."""

    def __init__(self, dimensions: int, generator: torch.Generator):
        super().__init__()
        order = torch.randperm(dimensions, generator=generator)
        self.register_buffer("order", order)
        self.register_buffer("inverse_order", order.argsort())

    def forward(self, x):
        return permute(x, self.order, self.inverse_order), x.new_zeros(())

    def inverse(self, y):
        return permute(y, self.inverse_order, self.order)


class ActNorm(Layer):
    """y = x · exp(log_scale) + shift, dimension by dimension; the first batch comes out standardised."""

    def __init__(self, dimensions: int):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(dimensions))
        self.shift = nn.Parameter(torch.zeros(dimensions))
        self.register_buffer("initialised", torch.tensor(False))
        self._is_initialised = False  # the same, known without a look at the device

    @torch.no_grad()
    def initialise(self, x: Tensor):
        """Choose scale and shift so that the batch x (B, K) gets mean 0 and deviation 1."""
        deviation, mean = torch.std_mean(x, dim=0, correction=0)
        self.log_scale.copy_(-deviation.clamp(min=FLOOR).log())
        self.shift.copy_(-mean * self.log_scale.exp())
        self.initialised.fill_(True)

    def forward(self, x):
        if not self._is_initialised:
            if not self.initialised:
                self.initialise(x)
            self._is_initialised = True
        return torch.addcmul(self.shift, x, self.log_scale.exp()), self.log_scale.sum()

    def inverse(self, y):
        if not self.initialised:
            raise RuntimeError("ActNorm has no state yet; expected a forward pass of data before an inverse one")
        return (y - self.shift) * (-self.log_scale).exp()


class LUMixing(Layer):
    """y = P L U x: an invertible matrix, learnt through its factors; P is fixed.

    One K × K parameter holds both triangles: L below the diagonal, whose own is 1; U above it; and on it the
    logarithms of U's magnitudes there, whose sum is the log-determinant.  It starts as a random rotation.
    """

    def __init__(self, dimensions: int, generator: torch.Generator):
        super().__init__()
        normal = torch.randn(dimensions, dimensions, dtype=torch.float64, generator=generator)
        P, L, U = torch.linalg.lu(torch.linalg.qr(normal).Q)
        diagonal = U.diagonal()
        self.factors = nn.Parameter((L + U).diagonal_scatter(diagonal.abs().log()).float())
        self.register_buffer("sign", diagonal.sign().float())
        self.register_buffer("order", P.argmax(dim=1))
        self.register_buffer("inverse_order", P.argmax(dim=0))

    def forward(self, x):
        y = lu_product(x, self.factors, self.sign)
        return permute(y, self.order, self.inverse_order), self.factors.diagonal().sum()

    def inverse(self, y):
        # Each of the two looks at its own triangle only.
        y = permute(y, self.inverse_order, self.order)
        y = torch.linalg.solve_triangular(self.factors.T, y, upper=True, left=False, unitriangular=True)
        upper = self.factors.diagonal_scatter(self.sign * self.factors.diagonal().exp())
        return torch.linalg.solve_triangular(upper.T, y, upper=False, left=False)


class MLP(nn.Module):
    """The weights and biases of dense layers; with `stack`, of one network per flow of the stack."""

    def __init__(self, widths: Sequence[int], gain: float, stack: tuple[int, ...], generator: torch.Generator):
        super().__init__()
        gains = [gain] * (len(widths) - 2) + [SMALL]
        self.weights = nn.ParameterList(
            torch.randn(*stack, inputs, outputs, generator=generator) * (gain / math.sqrt(inputs))
            for gain, (inputs, outputs) in zip(gains, pairwise(widths), strict=True)
        )
        self.biases = nn.ParameterList(torch.zeros(*stack, 1, outputs) for outputs in widths[1:])


class Coupling(Layer):
    """(x₁, x₂) to (x₁, x₂ · exp(s) + t), where s and t are functions of x₁.

    The scale is bounded, s = a · tanh(s̃) + b with one learned a and b per flow: an unbounded one would
    soon overflow.  Its log-determinant is the sum of s.

    Its formula is ``couple``, which may be compiled.  Factors of the MLP's products are rounded to ``factors``, if they
    are to be; what is learnt is not.
    """

    def __init__(
        self,
        dimensions: int,
        hidden: Sequence[int],
        activation: Activation,
        generator: torch.Generator,
        stack: tuple[int, ...] = (),
    ):
        super().__init__()
        half = dimensions // 2
        self.mlp = MLP([half, *hidden, 2 * (dimensions - half)], activation.gain, stack, generator)
        self.a = nn.Parameter(torch.ones(*stack, 1, 1))
        self.b = nn.Parameter(torch.zeros(*stack, 1, 1))
        self.activation, self.couple, self.factors = activation, couple, None

    def forward(self, x):
        return self.couple(x, *self._network())

    def inverse(self, y):
        return uncouple(y, *self._network())

    def _network(self):
        layers = [p.to(self.factors or p.dtype) for p in (*self.mlp.weights, *self.mlp.biases)]
        return self.a, self.b, layers, self.activation


class AffineMap:
    """x = y M + c: what the inverse of a mixing and of the ActNorm before it amounts to while they are fixed.

    M may be rounded; then y is rounded as M is, and so is their product.
    """

    def __init__(self, norm: ActNorm, mixing: LUMixing):
        dtype = mixing.factors.dtype
        norm, mixing = deepcopy(norm).double(), deepcopy(mixing).double()
        origin = torch.zeros_like(norm.shift)
        offset = norm.inverse(origin)
        matrix = norm.inverse(mixing.inverse(torch.eye(len(origin)).to(origin))) - offset
        self.matrix, self.offset = matrix.detach().to(dtype), offset.detach().to(dtype)

    def inverse(self, y: Tensor) -> Tensor:
        if self.matrix.dtype == y.dtype:
            return torch.addmm(self.offset, y, self.matrix)
        return (y.to(self.matrix.dtype) @ self.matrix).to(y.dtype) + self.offset
