from itertools import pairwise

import pytest
import torch
from compiling import needs_compiler
from torch.nn import functional

from ddslib.flows import fused
from ddslib.flows.fused import LEAKY_RELU, SELU, couple, lu_product, permute, uncouple

ACTIVATIONS = {"SELU": (SELU, torch.selu), "LeakyReLU": (LEAKY_RELU, functional.leaky_relu)}
PLACES = {"one flow": ((), 1024), "a stack": ((3,), 1024), "a stack in parts": ((3,), 4)}
HALF, REST = 3, 4


@pytest.fixture(params=ACTIVATIONS.values(), ids=ACTIVATIONS)
def activation(request):
    """Ours, and torch's."""
    return request.param


@pytest.fixture(params=PLACES.values(), ids=PLACES)
def coupling(request, generator, policy_with):
    """x, a, b, and weights and biases, in double precision."""
    stack, at_a_time = request.param
    policy_with(fused, stack_batch=at_a_time)

    def normal(*shape):
        return torch.randn(*stack, *shape, dtype=torch.float64, generator=generator).requires_grad_()

    widths = [HALF, 5, 6, 2 * REST]
    weights = [normal(inputs, outputs) for inputs, outputs in pairwise(widths)]
    biases = [normal(1, outputs) for outputs in widths[1:]]
    return normal(2, HALF + REST), normal(1, 1), normal(1, 1), [*weights, *biases]


def by_formula(x, a, b, layers, activation):
    weights, biases = layers[: len(layers) // 2], layers[len(layers) // 2 :]
    x1, x2 = x.split([HALF, REST], dim=-1)
    signal = x1
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        signal = activation(signal @ weight + bias)
    raw, t = (signal @ weights[-1] + biases[-1]).chunk(2, dim=-1)
    s = a * raw.tanh() + b
    return torch.cat([x1, x2 * s.exp() + t], dim=-1), s.sum(dim=-1)


def test_a_coupling_is_its_formula(coupling, activation):
    ours, reference = activation
    for found, expected in zip(couple(*coupling, ours), by_formula(*coupling, reference), strict=True):
        assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_every_gradient_of_a_coupling_is_that_of_its_formula(coupling, activation, generator):
    ours, reference = activation
    x, a, b, layers = coupling
    variables = [x, a, b, *layers]
    outputs = couple(*coupling, ours)
    into = [torch.randn(output.shape, dtype=torch.float64, generator=generator) for output in outputs]
    for which in ([0], [1], [0, 1]):  # of the image alone, of the log-determinant alone, of both
        found, expected = (
            torch.autograd.grad([results[i] for i in which], variables, [into[i] for i in which], allow_unused=True)
            for results in (couple(*coupling, ours), by_formula(*coupling, reference))
        )
        for mine, true in zip(found, expected, strict=True):
            assert torch.allclose(mine, torch.zeros_like(mine) if true is None else true, rtol=1e-10, atol=1e-10)


def test_uncoupling_undoes_coupling(coupling, activation):
    ours, _ = activation
    x, *rest = coupling
    assert torch.allclose(uncouple(couple(x, *rest, ours)[0], *rest, ours), x, rtol=1e-10, atol=1e-10)


def test_the_gradient_of_uncoupling_is_that_of_the_inverse_function(coupling, activation):
    ours, _ = activation
    x, *rest = coupling
    y = couple(x, *rest, ours)[0].detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: uncouple(v, *rest, ours), y)
    back = torch.autograd.functional.jacobian(lambda v: uncouple(v, *rest, ours), y).reshape(y.numel(), -1)
    forth = torch.autograd.functional.jacobian(lambda v: couple(v, *rest, ours)[0], x).reshape(x.numel(), -1)
    assert torch.allclose(back @ forth, torch.eye(x.numel(), dtype=torch.float64), rtol=0, atol=1e-8)


def test_single_precision_is_exact_to_rounding_where_the_scale_saturates(generator):
    """tanh and exp go by way of the logistic function and a power of two."""
    for size in (1e-4, 1.0, 100.0):
        x, bias = torch.randn(1, 200, HALF + REST, generator=generator), torch.zeros(1, 1, 2 * REST)
        weights = size * torch.randn(1, HALF, 2 * REST, generator=generator)
        a, b = torch.full((1, 1, 1), 0.9), torch.full((1, 1, 1), -0.2)
        y, log_det = couple(x, a, b, [weights, bias], SELU)
        double = [value.double() for value in (x, a, b, weights, bias)]
        expected, expected_log_det = by_formula(*double[:3], double[3:], torch.selu)
        assert torch.allclose(y.double(), expected, rtol=1e-5, atol=1e-5 * max(1, size))
        assert torch.allclose(log_det.double(), expected_log_det, rtol=1e-5, atol=2e-5)


def test_a_permutation_and_its_gradient(generator):
    order = torch.randperm(7, generator=generator)
    x = torch.randn(2, 3, 7, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.equal(permute(x, order, order.argsort()), x[..., order])
    assert torch.autograd.gradcheck(lambda v: permute(v, order, order.argsort()), x)


@needs_compiler
@pytest.mark.parametrize("stack", [(), (3,)])
def test_what_is_compiled_is_the_same_with_all_gradients(stack, generator, caplog):
    def normal(*shape):
        return torch.randn(*stack, *shape, dtype=torch.float64, generator=generator).requires_grad_()

    x, a, b = normal(2, HALF + REST), normal(1, 1), normal(1, 1)
    layers = [normal(HALF, 5), normal(5, 2 * REST), normal(1, 5), normal(1, 2 * REST)]
    variables = [x, a, b, *layers]
    found, expected = (either(x, a, b, layers, SELU) for either in (fused.compiled(couple), couple))
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-12)
    losses = (y.square().sum() + log_det.sum() for y, log_det in (found, expected))
    for ours, theirs in zip(*(torch.autograd.grad(loss, variables) for loss in losses), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-11)
    assert fused.__name__ not in {record.name for record in caplog.records}  # nothing went on without


def test_where_nothing_can_be_compiled_all_goes_on_without_and_says_so_once(monkeypatch, caplog):
    def fails(function):
        def raising(*arguments):
            raise RuntimeError("no compiler\nand more")

        return raising

    monkeypatch.setattr(torch, "compile", fails)
    doubled = fused.compiled(lambda x: 2 * x)
    assert [doubled(3), doubled(4)] == [6, 8]
    assert [record.getMessage() for record in caplog.records] == ["going on without torch.compile: no compiler"]


@pytest.mark.parametrize("strip", [2, 3, 128])
def test_a_product_of_packed_triangles_and_its_gradients(generator, strip, policy_with):
    policy_with(fused, strip=strip)
    factors = torch.randn(5, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    x = torch.randn(2, 3, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    sign = torch.tensor([1.0, -1, 1, 1, -1], dtype=torch.float64)
    lower = factors.tril(-1) + torch.eye(5)
    upper = factors.triu(1) + (sign * factors.diagonal().exp()).diag()
    assert torch.allclose(lu_product(x, factors, sign), x @ upper.T @ lower.T, atol=1e-12)
    assert torch.autograd.gradcheck(lambda v, packed: lu_product(v, packed, sign), (x, factors))


@pytest.mark.parametrize(("at_a_time", "count"), [(4, 3), (8, 2), (100, 1)])
def test_a_stack_goes_in_parts_that_cover_it(at_a_time, count, policy_with):
    policy_with(fused, stack_batch=at_a_time)
    x = torch.arange(3)[:, None, None].expand(3, 4, 7)
    parts = [part for (part,) in fused._pieces(x)]
    assert len(parts) == count
    assert torch.equal(torch.cat(parts), x)
    ((whole,),) = fused._pieces(x[0])
    assert torch.equal(whole, x[0])
