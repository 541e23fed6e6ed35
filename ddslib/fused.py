"""The operations that flows are made of, with gradients that are worked out by hand.

In a small flow it is not the products that take the time, but all that lies between them: copies, gathers,
exponentials, and what automatic differentiation keeps and adds up.  Here halves are updated in place, no more is
kept than the gradient needs, and two identities replace slow functions by fast ones:
tanh(x) = 2 σ(2x) - 1, where σ is the logistic function, and exp(x) = 2^(x log₂ e).

What is `compiled` gets plain operations instead, which torch.compile fuses by itself.

The weights of an MLP may be in bfloat16.  Then its products and activations are, and all the rest is as it was.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

logger = logging.getLogger(__name__)

LOG2_E = 1 / math.log(2)
SELU_ALPHA, SELU_SCALE, LEAK = 1.6732632423543772, 1.0507009873554805, 0.01


@dataclass(frozen=True)
class Activation:
    """A function that is applied in place, and its gradient, told from its result."""

    apply_: Callable[[Tensor], Tensor]
    pull_back: Callable[[Tensor, Tensor], Tensor]  # gradient for the result, and the result, to that for the argument
    gain: float  # what keeps the variance of signals constant from layer to layer


SELU = Activation(
    torch.selu_,
    lambda gradient, y: torch.ops.aten.elu_backward(gradient, SELU_ALPHA, SELU_SCALE, 1.0, True, y),
    gain=1.0,
)
LEAKY_RELU = Activation(
    lambda x: functional.leaky_relu_(x, LEAK),
    lambda gradient, y: torch.ops.aten.leaky_relu_backward(gradient, y, LEAK, True),
    gain=math.sqrt(2 / (1 + LEAK**2)),
)


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x (..., B, inputs) times weight (..., inputs, outputs), plus bias (..., 1, outputs)."""
    # A GPU adds a bias on the way out of the product if it is a vector.
    return torch.addmm(bias.squeeze(0), x, weight) if x.ndim == 2 else torch.baddbmm(bias, x, weight)


class Compiled:
    """A function, fused by torch.compile; as it is, which is logged, where that fails: it needs a compiler."""

    def __init__(self, function: Callable):
        self._function, self._fused = function, torch.compile(function)

    def __call__(self, *arguments: Any) -> Any:
        try:
            return self._fused(*map(_as_view, arguments))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            logger.warning("going on without torch.compile: %s", str(error).partition("\n")[0])
            self._fused = self._function
            return self._function(*arguments)


def _as_view(argument: Any) -> Any:
    """Not the parameter itself, whose shape torch.compile takes for constant, although stacks shrink."""
    if isinstance(argument, list):
        return [_as_view(part) for part in argument]
    return argument.view_as(argument) if isinstance(argument, nn.Parameter) else argument


compiled = cache(Compiled)  # once for all who ask, since it takes seconds


def permute(x: Tensor, order: Tensor, inverse_order: Tensor) -> Tensor:
    """x[..., order], where `inverse_order` undoes `order`."""
    return _Permute.apply(x, order, inverse_order)


class _Permute(torch.autograd.Function):
    """The gradient is the inverse permutation: torch, which cannot know that, would add up by index."""

    @staticmethod
    def forward(ctx, x: Tensor, order: Tensor, inverse_order: Tensor) -> Tensor:
        ctx.save_for_backward(order, inverse_order)
        return x.reshape(-1, len(order)).index_select(1, order).view_as(x)  # in two dimensions it is ten times as fast

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        order, inverse_order = ctx.saved_tensors
        return _Permute.apply(gradient, inverse_order, order), None, None


STRIP = 128  # rows of a triangle that a CPU multiplies at a time


def lu_product(x: Tensor, factors: Tensor, sign: Tensor) -> Tensor:
    """L U x for every vector x (..., K), of triangles that are packed in one matrix (K, K).

    L is what lies below the diagonal, with ones on it; U is what lies above it, with sign · exp(diagonal) on it.
    """
    return _LUProduct.apply(x.flatten(0, -2), factors, sign).view_as(x)


class _LUProduct(torch.autograd.Function):
    """Strip by strip, so that on a CPU most of a triangle's zeros are not multiplied.

    What is stored of L beyond a strip's diagonal block, and of U before it, is never looked at.
    """

    @staticmethod
    def forward(ctx, x: Tensor, factors: Tensor, sign: Tensor) -> Tensor:
        strips = _strips(factors)
        diagonal = sign * factors.diagonal().exp()
        lower, upper = factors.clone(), factors.clone()
        for own in strips:
            lower[own, own].tril_(-1)
            upper[own, own].triu_()
        lower.diagonal().fill_(1)
        upper.diagonal().copy_(diagonal)
        middle, y = torch.empty_like(x), torch.empty_like(x)
        for own in strips:
            torch.mm(x[:, own.start :], upper[own, own.start :].T, out=middle[:, own])
        for own in strips:
            torch.mm(middle[:, : own.stop], lower[own, : own.stop].T, out=y[:, own])
        ctx.save_for_backward(x, middle, lower, upper, diagonal)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, middle, lower, upper, diagonal = ctx.saved_tensors
        strips = _strips(lower)
        into_middle, into_x = torch.empty_like(x), torch.empty_like(x)
        for own in strips:
            torch.mm(gradient[:, own.start :], lower[own.start :, own], out=into_middle[:, own])
        for own in strips:
            torch.mm(into_middle[:, : own.stop], upper[: own.stop, own], out=into_x[:, own])
        if not ctx.needs_input_grad[1]:
            return into_x, None, None
        into_factors = torch.empty_like(lower)
        for own in strips:
            into_lower, into_upper = into_factors[own, : own.start], into_factors[own, own.start :]
            torch.mm(gradient[:, own].T, middle[:, : own.start], out=into_lower)
            torch.mm(into_middle[:, own].T, x[:, own.start :], out=into_upper)
            into_factors[own, own].triu_().add_((gradient[:, own].T @ middle[:, own]).tril_(-1))
        into_factors.diagonal().mul_(diagonal)
        return into_x, into_factors, None


def _strips(triangle: Tensor) -> list[slice]:
    """Its rows, a few at a time; all of them on a GPU, which would rather have few products than small ones."""
    size = len(triangle)
    height = STRIP if triangle.device.type == "cpu" else size
    return [slice(first, min(first + height, size)) for first in range(0, size, height)]


def couple(
    x: Tensor, a: Tensor, b: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: Activation
) -> tuple[Tensor, Tensor]:
    """(x₁, x₂ · exp(s) + t) and the sum of s, with (s̃, t) = MLP(x₁) and s = a · tanh(s̃) + b.

    x is (..., B, K), and x₁ are as many of its last axis as the first weight has inputs.  Weights are
    (..., inputs, outputs) and biases (..., 1, outputs); a and b are (..., 1, 1).
    """
    if torch.compiler.is_compiling():
        return _plain_couple(x, a, b, weights, biases, activation)
    return _Couple.apply(activation, x, a, b, *weights, *biases)


def _plain_couple(
    x: Tensor, a: Tensor, b: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: Activation
) -> tuple[Tensor, Tensor]:
    x1, x2 = x.tensor_split([weights[0].shape[-2]], dim=-1)
    _, sigmoid, t = _mlp(x1, [*weights, *biases], activation)
    s = a * (2 * sigmoid - 1) + b
    return torch.cat([x1, x2 * s.exp() + t], dim=-1), s.sum(dim=-1)


def uncouple(
    y: Tensor, a: Tensor, b: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: Activation
) -> Tensor:
    """The x that `couple` maps to y.  Its gradient is for y alone: whoever goes back searches codes, not weights."""
    return _Uncouple.apply(activation, y, a, b, *weights, *biases)


AT_A_TIME = 2048  # vectors of a stack: so few that on a CPU what is computed of them stays in the caches


def _parts(x: Tensor) -> list[slice | EllipsisType]:
    """A stack in pieces of some flows; all of it on a GPU, and where there is no stack."""
    if x.ndim == 2 or x.device.type != "cpu":
        return [...]
    flows = max(1, AT_A_TIME // x.shape[1])
    return [slice(first, first + flows) for first in range(0, len(x), flows)]


class _Couple(torch.autograd.Function):
    @staticmethod
    def forward(ctx, activation: Activation, x: Tensor, a: Tensor, b: Tensor, *layers: Tensor):
        half = layers[0].shape[-2]
        y, log_det = torch.empty_like(x), x.new_empty(x.shape[:-1])
        y[..., :half] = x[..., :half]
        kept = []
        for part in _parts(x):
            own_x, own_a, own_b = x[part], a[part], b[part]
            signals, sigmoid, t = _mlp(own_x[..., :half], [layer[part] for layer in layers], activation)
            scale = torch.mul(sigmoid, 2 * LOG2_E * own_a).add_(LOG2_E * (own_b - own_a)).exp2_()  # exp(s)
            torch.addcmul(t, own_x[..., half:], scale, out=y[part][..., half:])
            offset = sigmoid.shape[-1] * (own_b - own_a).squeeze(-1)  # of the sum of s = a (2 σ - 1) + b
            torch.addcmul(offset, 2 * own_a.squeeze(-1), sigmoid.sum(dim=-1), out=log_det[part])
            kept += [sigmoid, scale, *signals[1:]]
        ctx.save_for_backward(x, a, *layers, *kept)
        ctx.activation, ctx.depth = activation, len(layers) // 2
        return y, log_det

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor, of_log_det: Tensor):
        x, a, *rest = ctx.saved_tensors
        weights, kept = rest[: ctx.depth], iter(rest[2 * ctx.depth :])
        trained = ctx.needs_input_grad[4]
        half = weights[0].shape[-2]
        into_x = torch.empty_like(x)
        into_a, into_b = torch.empty_like(a), torch.empty_like(a)
        into_layers = [torch.empty_like(layer) if trained else None for layer in rest[: 2 * ctx.depth]]
        for part in _parts(x):
            sigmoid, scale, *hidden = (next(kept) for _ in range(ctx.depth + 1))
            own_x, own_a, own_gradient, own_into_x = x[part], a[part], gradient[part], into_x[part]
            into_mlp = x.new_empty(*own_x.shape[:-1], weights[-1].shape[-1])
            into_s, into_t = into_mlp.tensor_split(2, dim=-1)
            into_x2 = torch.mul(own_gradient[..., half:], scale, out=own_into_x[..., half:])
            into_t.copy_(own_gradient[..., half:])
            torch.mul(into_x2, own_x[..., half:], out=into_s).add_(of_log_det[part][..., None])
            if trained:
                into_b[part] = into_s.sum_to_size(own_a.shape)
                into_a[part] = 2 * (into_s * sigmoid).sum_to_size(own_a.shape) - into_b[part]
            into_s.mul_(_slope(own_a, sigmoid))
            into_x1 = _mlp_backward(
                into_mlp, [own_x[..., :half], *hidden], [weight[part] for weight in weights], ctx.activation,
                [layer[part] for layer in into_layers] if trained else None,
            )  # fmt: skip
            torch.add(own_gradient[..., :half], into_x1, out=own_into_x[..., :half])
        if not trained:
            into_a = into_b = None
        return None, into_x, into_a, into_b, *into_layers


class _Uncouple(torch.autograd.Function):
    @staticmethod
    def forward(ctx, activation: Activation, y: Tensor, a: Tensor, b: Tensor, *layers: Tensor):
        half = layers[0].shape[-2]
        signals, sigmoid, t = _mlp(y[..., :half], layers, activation)
        scale = torch.mul(sigmoid, -2 * LOG2_E * a).add_(LOG2_E * (a - b)).exp2_()  # exp(-s)
        x = torch.empty_like(y)
        x[..., :half] = y[..., :half]
        x2 = torch.sub(y[..., half:], t, out=x[..., half:]).mul_(scale)
        if ctx.needs_input_grad[1]:
            slope = _slope(-a, sigmoid).mul_(x2)
            ctx.save_for_backward(slope, scale, *signals[1:], *layers[: len(signals)])
            ctx.activation = activation
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        slope, scale, *rest = ctx.saved_tensors
        hidden, weights = rest[: len(rest) // 2], rest[len(rest) // 2 :]
        half = weights[0].shape[-2]
        into_y, into_mlp = torch.empty_like(gradient), gradient.new_empty(*gradient.shape[:-1], weights[-1].shape[-1])
        into_s, into_t = into_mlp.tensor_split(2, dim=-1)

        into_y2 = torch.mul(gradient[..., half:], scale, out=into_y[..., half:])
        torch.neg(into_y2, out=into_t)
        torch.mul(gradient[..., half:], slope, out=into_s)
        into_y1 = _mlp_backward(into_mlp, [None, *hidden], weights, ctx.activation)
        torch.add(gradient[..., :half], into_y1, out=into_y[..., :half])
        return None, into_y, None, None, *[None] * (2 * len(weights))


def _mlp(x1: Tensor, layers: Sequence[Tensor], activation: Activation) -> tuple[list[Tensor], Tensor, Tensor]:
    """What goes into each layer, and σ(2 s̃) and t, which come out of the last."""
    depth = len(layers) // 2
    *hidden, (last, last_bias) = zip(layers[:depth], layers[depth:], strict=True)
    signals = [x1.to(last.dtype)]
    for weight, bias in hidden:
        signals.append(activation.apply_(affine(signals[-1], weight, bias)))
    raw, t = affine(signals[-1], last, last_bias).to(x1.dtype).tensor_split(2, dim=-1)
    return signals, torch.mul(raw, 2).sigmoid_(), t


def _slope(a: Tensor, sigmoid: Tensor) -> Tensor:
    """ds/ds̃ = 4 a σ (1 - σ)."""
    return torch.addcmul(sigmoid, sigmoid, sigmoid, value=-1).mul_(4 * a)


def _mlp_backward(
    flowing: Tensor,
    signals: Sequence[Tensor | None],
    weights: Sequence[Tensor],
    activation: Activation,
    into_layers: Sequence[Tensor] | None = None,
) -> Tensor:
    """The gradient for x₁ from that for (s̃, t); those for weights and biases are written to `into_layers`."""
    flowing = flowing.to(weights[-1].dtype)
    for depth in reversed(range(len(weights))):
        if into_layers is not None:
            torch.matmul(signals[depth].to(flowing.dtype).mT, flowing, out=into_layers[depth])
            torch.sum(flowing, dim=-2, keepdim=True, out=into_layers[depth + len(weights)])
        flowing = flowing @ weights[depth].mT
        if depth:
            flowing = activation.pull_back(flowing, signals[depth])
    return flowing
