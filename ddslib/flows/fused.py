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

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.utils._pytree import tree_map_only

from ..machine.device import policy

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


@cache  # once for all who ask, since it takes seconds
def compiled(function: Callable) -> Callable:
    """`function`, fused by torch.compile; as it is, which is logged, where that fails: it needs a compiler."""
    fused = torch.compile(function)

    def call(*arguments):
        nonlocal fused
        try:
            # Not the parameters themselves, whose shapes torch.compile takes for constant, although stacks shrink.
            return fused(*tree_map_only(nn.Parameter, lambda weight: weight.view_as(weight), arguments))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            logger.warning("going on without torch.compile: %s", str(error).partition("\n")[0])
            fused = function
            return function(*arguments)

    return call


def permute(x: Tensor, order: Tensor, inverse_order: Tensor) -> Tensor:
    """x[..., order], where `inverse_order` undoes `order`."""
    return _Permute.apply(x, order, inverse_order)


class _Permute(torch.autograd.Function):
    """The gradient is the inverse permutation: torch, which cannot know that, would add up by index."""

    @staticmethod
    def forward(ctx, x, order, inverse_order):
        ctx.save_for_backward(order, inverse_order)
        return x.reshape(-1, len(order)).index_select(1, order).view_as(x)  # in two dimensions it is ten times as fast

    @staticmethod
    def backward(ctx, gradient):
        order, inverse_order = ctx.saved_tensors
        return _Permute.apply(gradient, inverse_order, order), None, None


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
    def forward(ctx, x, factors, sign):
        diagonal = sign * factors.diagonal().exp()
        lower, upper = factors.clone(), factors.clone()
        for own in _strips(factors):
            lower[own, own].tril_(-1)
            upper[own, own].triu_()
        lower.diagonal().fill_(1)
        upper.diagonal().copy_(diagonal)
        middle = _times(x, upper, upper=True)
        ctx.save_for_backward(x, middle, lower, upper, diagonal)
        return _times(middle, lower, upper=False)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        x, middle, lower, upper, diagonal = ctx.saved_tensors
        into_middle = _times(gradient, lower.T, upper=True)
        into_x = _times(into_middle, upper.T, upper=False)
        if not ctx.needs_input_grad[1]:
            return into_x, None, None
        into_factors = torch.empty_like(lower)
        for own in _strips(lower):
            of_lower, of_upper = gradient[:, own].T, into_middle[:, own].T
            torch.mm(of_lower, middle[:, : own.start], out=into_factors[own, : own.start])
            torch.mm(of_upper, x[:, own.start :], out=into_factors[own, own.start :])
            into_factors[own, own].triu_().add_((of_lower @ middle[:, own]).tril_(-1))
        into_factors.diagonal().mul_(diagonal)
        return into_x, into_factors, None


def _times(x, triangle, upper):
    """The products of a triangle, upper or lower, and vectors in rows."""
    product = torch.empty_like(x)
    for own in _strips(triangle):
        used = slice(own.start, None) if upper else slice(own.stop)
        torch.mm(x[:, used], triangle[own, used].T, out=product[:, own])
    return product


def _strips(triangle):
    """Its rows, as many at a time as the device likes."""
    size, height = len(triangle), policy(triangle.device).strip
    return [slice(first, min(first + height, size)) for first in range(0, size, height)]


def couple(x: Tensor, a: Tensor, b: Tensor, layers: Sequence[Tensor], activation: Activation) -> tuple[Tensor, Tensor]:
    """(x₁, x₂ · exp(s) + t) and the sum of s, with (s̃, t) = MLP(x₁) and s = a · tanh(s̃) + b.

    x is (..., B, K), and x₁ are as many of its last axis as the first weight has inputs.  Layers are their weights
    (..., inputs, outputs), and then as many biases (..., 1, outputs); a and b are (..., 1, 1).
    """
    if not torch.compiler.is_compiling():
        return _Couple.apply(activation, x, a, b, *layers)
    x1, x2 = _halves(x, layers)
    _, sigmoid, t = _mlp(x1, layers, activation)
    s = a * (2 * sigmoid - 1) + b
    return torch.cat([x1, x2 * s.exp() + t], -1), s.sum(-1)


def uncouple(y: Tensor, a: Tensor, b: Tensor, layers: Sequence[Tensor], activation: Activation) -> Tensor:
    """The x that `couple` maps to y.  Its gradient is for y alone: whoever goes back searches codes, not weights."""
    return _Uncouple.apply(activation, y, a, b, *layers)


def _halves(x, layers):
    """x₁ and x₂."""
    return x.tensor_split([layers[0].shape[-2]], -1)


def _pieces(*stacks):
    """Some flows of stacks at a time, as many vectors of the first as the device likes; all at once without a stack."""
    x = stacks[0]
    flows = max(1, policy(x.device).stack_batch // x.shape[1])
    if x.ndim == 2 or len(x) <= flows:
        return [stacks]
    return zip(*(stack.split(flows) for stack in stacks), strict=True)


class _Couple(torch.autograd.Function):
    @staticmethod
    def forward(ctx, activation, x, *parameters):
        y, log_det = torch.empty_like(x), x.new_empty(x.shape[:-1])
        kept = []
        for own_x, own_y, own_log_det, a, b, *layers in _pieces(x, y, log_det, *parameters):
            (x1, x2), (y1, y2) = _halves(own_x, layers), _halves(own_y, layers)
            signals, sigmoid, t = _mlp(x1, layers, activation)
            scale = torch.mul(sigmoid, 2 * LOG2_E * a).add_(LOG2_E * (b - a)).exp2_()  # exp(s)
            y1.copy_(x1)
            torch.addcmul(t, x2, scale, out=y2)
            offset = sigmoid.shape[-1] * (b - a).squeeze(-1)  # of the sum of s = a (2 σ - 1) + b
            torch.addcmul(offset, 2 * a.squeeze(-1), sigmoid.sum(-1), out=own_log_det)
            kept += [sigmoid, scale, *signals[1:]]
        ctx.save_for_backward(x, *parameters, *kept)
        ctx.activation, ctx.parameters = activation, len(parameters)
        return y, log_det

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient, of_log_det):
        x, *rest = ctx.saved_tensors
        parameters, kept = rest[: ctx.parameters], iter(rest[ctx.parameters :])
        depth = ctx.parameters // 2 - 1
        into_x = torch.empty_like(x)
        into = [torch.empty_like(parameter) for parameter in parameters if ctx.needs_input_grad[2]]
        for own_x, own_gradient, own_into_x, own_of_log_det, a, _, *layers in _pieces(
            x, gradient, into_x, of_log_det, *parameters, *into
        ):
            sigmoid, scale, *hidden = (next(kept) for _ in range(depth + 1))
            weights, own_into = layers[:depth], layers[2 * depth :]
            (x1, x2), (of_y1, of_y2), (into_x1, into_x2) = (
                _halves(whole, weights) for whole in (own_x, own_gradient, own_into_x)
            )
            into_mlp, into_s, into_t = _empty(of_y2)
            into_t.copy_(of_y2)
            torch.mul(of_y2, scale, out=into_x2)
            torch.mul(into_x2, x2, out=into_s).add_(own_of_log_det[..., None])
            if into:
                into_a, into_b = own_into[:2]
                into_b.copy_(into_s.sum_to_size(a.shape))
                torch.sub(2 * (into_s * sigmoid).sum_to_size(a.shape), into_b, out=into_a)
            into_s.mul_(_slope(a, sigmoid))
            through_mlp = _mlp_backward(into_mlp, [x1, *hidden], weights, ctx.activation, own_into[2:])
            torch.add(of_y1, through_mlp, out=into_x1)
        return None, into_x, *(into or [None] * ctx.parameters)


class _Uncouple(torch.autograd.Function):
    @staticmethod
    def forward(ctx, activation, y, a, b, *layers):
        x = torch.empty_like(y)
        (y1, y2), (x1, x2) = _halves(y, layers), _halves(x, layers)
        signals, sigmoid, t = _mlp(y1, layers, activation)
        scale = torch.mul(sigmoid, -2 * LOG2_E * a).add_(LOG2_E * (a - b)).exp2_()  # exp(-s)
        x1.copy_(y1)
        torch.sub(y2, t, out=x2).mul_(scale)
        if ctx.needs_input_grad[1]:
            slope = _slope(-a, sigmoid).mul_(x2)
            ctx.save_for_backward(slope, scale, *signals[1:], *layers[: len(signals)])
            ctx.activation = activation
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        slope, scale, *rest = ctx.saved_tensors
        hidden, weights = rest[: len(rest) // 2], rest[len(rest) // 2 :]
        into_y = torch.empty_like(gradient)
        (of_x1, of_x2), (into_y1, into_y2) = _halves(gradient, weights), _halves(into_y, weights)
        into_mlp, into_s, into_t = _empty(of_x2)
        torch.mul(of_x2, scale, out=into_y2)
        torch.neg(into_y2, out=into_t)
        torch.mul(of_x2, slope, out=into_s)
        torch.add(of_x1, _mlp_backward(into_mlp, [None, *hidden], weights, ctx.activation), out=into_y1)
        return None, into_y, None, None, *[None] * (2 * len(weights))


def _empty(like):
    """Memory for the gradients for (s̃, t), and each of the two in it."""
    into_mlp = like.new_empty(*like.shape[:-1], 2 * like.shape[-1])
    return into_mlp, *into_mlp.tensor_split(2, -1)


def _mlp(x1, layers, activation):
    """What goes into each layer, and σ(2 s̃) and t, which come out of the last."""
    depth = len(layers) // 2
    *hidden, last = zip(layers[:depth], layers[depth:], strict=True)
    signals = [x1.to(layers[0].dtype)]
    for layer in hidden:
        signals.append(activation.apply_(affine(signals[-1], *layer)))
    raw, t = affine(signals[-1], *last).to(x1.dtype).tensor_split(2, -1)
    return signals, torch.mul(raw, 2).sigmoid_(), t


def _slope(a, sigmoid):
    """ds/ds̃ = 4 a σ (1 - σ)."""
    return torch.addcmul(sigmoid, sigmoid, sigmoid, value=-1).mul_(4 * a)


def _mlp_backward(flowing, signals, weights, activation, into_layers=()):
    """The gradient for x₁ from that for (s̃, t); those for weights and biases are written to `into_layers`, if given."""
    flowing = flowing.to(weights[-1].dtype)
    for depth in reversed(range(len(weights))):
        if into_layers:
            torch.matmul(signals[depth].to(flowing.dtype).mT, flowing, out=into_layers[depth])
            torch.sum(flowing, dim=-2, keepdim=True, out=into_layers[depth + len(weights)])
        flowing = flowing @ weights[depth].mT
        if depth:
            flowing = activation.pull_back(flowing, signals[depth])
    return flowing
