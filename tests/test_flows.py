import math
import statistics
from copy import deepcopy

import pytest
import torch
import zuko
from safetensors.torch import save_file
from torch import nn
from zuko import transforms

from ddslib.config import InputError
from ddslib.flows import files
from ddslib.flows.fused import LEAKY_RELU, SELU
from ddslib.flows.glow import ConditionalGlow
from ddslib.flows.layers import FLOOR, ActNorm, Coupling, LUMixing, Permutation
from ddslib.flows.realnvp import RealNVP
from ddslib.machine.rounding import Rounding

N, B = 3, 5
MIXED = Rounding(networks=torch.bfloat16, others=torch.bfloat16)
BUILDERS = {
    "permutation": Permutation,
    "ActNorm": lambda dimensions, generator: ActNorm(dimensions),
    "LU mixing": LUMixing,
    "coupling": lambda dimensions, generator: Coupling(dimensions, [8, 8], LEAKY_RELU, generator),
    "stacked coupling": lambda dimensions, generator: Coupling(dimensions, [8, 8], SELU, generator, stack=(N,)),
    "RealNVP": lambda dimensions, generator: RealNVP(N, dimensions, 3, [8, 8], generator),
    "Glow": lambda dimensions, generator: ConditionalGlow(2, dimensions, 3, [8, 8], 10.0, generator),
}
STACKED = ("stacked coupling", "RealNVP")


def normal(generator, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def trained(module, generator, x, size=0.3):
    """Double precision, ActNorm initialised with x, and weights far from their start, which is nearly linear."""
    module.double()(x)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += size * normal(generator, *parameter.shape)
    return module


def note_flows(generator, dimensions=6, steps=3):
    return trained(RealNVP(N, dimensions, steps, [8, 8], generator), generator, normal(generator, N, B, dimensions))


def glow(generator, n_sources=2, dimensions=6, semantic_weight=10.0):
    flow = ConditionalGlow(n_sources, dimensions, 3, [8, 8], semantic_weight, generator)
    return trained(flow, generator, 2 * normal(generator, 50, dimensions) + 1)


FLOWS = {"RealNVP": note_flows, "Glow": glow}
each_flow = pytest.mark.parametrize("build", FLOWS.values(), ids=FLOWS)


def batch(flow, generator, count=B):
    return normal(generator, *([flow.n_sources] if isinstance(flow, RealNVP) else []), count, flow.dimensions)


def negative_log_likelihood(flow, x):
    if isinstance(flow, RealNVP):
        return -flow.log_prob(x).mean(dim=1)
    return -flow.log_prob(x, torch.arange(len(x)) % flow.n_sources).mean()[None]


@pytest.fixture(params=[f"{name}, {dimensions}" for name in BUILDERS for dimensions in (5, 6)])
def bijection(request, generator):
    """A layer or flow, and a batch for it."""
    name, dimensions = request.param.rsplit(", ", 1)
    x = normal(generator, *([N] if name in STACKED else []), B, int(dimensions))
    return trained(BUILDERS[name](int(dimensions), generator), generator, 2 * x + 1), x


def jacobians(function, x):
    """(vectors, K, K): the Jacobian at every vector of x, none of which may depend on another."""
    shape = (x[..., 0].numel(), x.shape[-1])
    full = torch.autograd.functional.jacobian(function, x).reshape(*shape, *shape)
    own = full.diagonal(dim1=0, dim2=2).movedim(-1, 0)
    assert full.count_nonzero() == own.count_nonzero()
    return own


def test_an_image_has_the_shape_of_what_it_is_of_and_each_vector_a_log_determinant(bijection):
    layer, x = bijection
    z, log_det = layer(x)
    assert z.shape == layer.inverse(z).shape == x.shape
    assert log_det.expand(x.shape[:-1]).shape == x.shape[:-1]


def test_each_direction_undoes_the_other(bijection):
    layer, x = bijection
    assert not torch.allclose(layer(x)[0], x, atol=0.1)
    assert torch.allclose(layer.inverse(layer(x)[0]), x, atol=1e-10)
    assert torch.allclose(layer(layer.inverse(x))[0], x, atol=1e-10)


def test_the_log_determinant_is_that_of_the_jacobian(bijection):
    layer, x = bijection
    expected = jacobians(lambda x: layer(x)[0], x).slogdet().logabsdet
    assert torch.allclose(layer(x)[1].expand(x.shape[:-1]).flatten(), expected, atol=1e-10)


def test_the_jacobian_of_the_inverse_has_minus_the_log_determinant(bijection):
    layer, z = bijection
    _, log_det = layer(layer.inverse(z))
    expected = -jacobians(layer.inverse, z).slogdet().logabsdet
    assert torch.allclose(log_det.expand(z.shape[:-1]).flatten(), expected, atol=1e-10)


def test_a_stack_computes_what_its_flows_compute_one_by_one(generator):
    stack = note_flows(generator)
    x = batch(stack, generator)
    stack.log_prob(x).sum().backward()
    for n in range(N):
        one, own = stack.select([n]), x[n : n + 1]
        assert one.n_sources == 1
        assert torch.allclose(one(own)[0], stack(x)[0][n], atol=1e-12)
        assert torch.allclose(one(own)[1], stack(x)[1][n], atol=1e-12)
        assert torch.allclose(one.log_prob(own), stack.log_prob(x)[n], atol=1e-12)
        assert torch.allclose(one.inverse(own), stack.inverse(x)[n], atol=1e-12)
        one.log_prob(own).sum().backward()
        for ours, whole in zip(one.parameters(), stack.parameters(), strict=True):
            assert torch.allclose(ours.grad[0], whole.grad[n], atol=1e-10)


def test_flows_are_selected_from_a_stack_in_the_order_asked_for_and_with_weights_of_their_own(generator):
    stack = note_flows(generator)
    x, before = batch(stack, generator), deepcopy(stack.state_dict())
    selected = stack.select(torch.tensor([2, 0]))
    assert torch.allclose(selected.log_prob(x[[2, 0]]), stack.log_prob(x)[[2, 0]], atol=1e-12)
    with torch.no_grad():
        for parameter in selected.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[name]) for name, value in stack.state_dict().items())


def test_the_notes_of_a_stack_start_with_weights_that_differ(generator):
    x = normal(generator, 1, B, 6).expand(N, -1, -1)
    z, _ = RealNVP(N, 6, 3, [8, 8], generator).double()(x)
    assert not any(torch.allclose(z[n], z[m], atol=1e-4) for n, m in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize(
    "flow", [RealNVP(N, 6, 3, [8, 8]), ConditionalGlow(2, 6, 3, [8, 8], 10.0)], ids=["RealNVP", "Glow"]
)
def test_gradient_reaches_every_weight_of_an_untrained_flow(flow, generator):
    flow.double()
    negative_log_likelihood(flow, 2 * batch(flow, generator, 50) + 1).sum().backward()
    for name, parameter in flow.named_parameters():
        assert flow.by_unit(parameter.grad).abs().amax(dim=1).min() > 1e-8, name


@each_flow
def test_a_size_is_the_number_of_weights(build, generator):
    flow = build(generator)
    mlp = (3 * 8 + 8) + (8 * 8 + 8) + (8 * 6 + 6)
    coupling = mlp + 2
    assert flow.size() == (N * 3 * coupling if isinstance(flow, RealNVP) else 3 * (6 + 6 + 6 * 6 + coupling))


@each_flow
def test_freezing_changes_no_entry(build, generator):
    flow = build(generator)
    codes = normal(generator, flow.n_sources, 4, flow.code_dimensions)
    frozen = deepcopy(flow).freeze()
    assert torch.allclose(frozen.decode(codes), flow.decode(codes), rtol=1e-10, atol=1e-10)
    assert torch.equal(frozen.log_det(flow.decode(codes)), flow.log_det(flow.decode(codes)))


@each_flow
def test_gradients_reach_the_codes_of_a_frozen_flow_but_not_its_weights(build, generator):
    flow = build(generator)
    codes = normal(generator, flow.n_sources, 4, flow.code_dimensions).requires_grad_()
    frozen = deepcopy(flow).freeze()
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    (ours,), (expected,) = (torch.autograd.grad(f.decode(codes).square().sum(), codes) for f in (frozen, flow))
    assert expected.abs().min() > 0
    assert torch.allclose(ours, expected, rtol=1e-9, atol=1e-9)


@each_flow
def test_a_frozen_flow_in_single_precision_decodes_as_well_as_one_that_is_not_frozen(build, generator):
    flow = build(generator)
    codes = normal(generator, flow.n_sources, 50, flow.code_dimensions)
    exact = flow.decode(codes)
    single = deepcopy(flow).float()
    unfrozen = (single.decode(codes.float()) - exact).abs().max()
    frozen = (single.freeze().decode(codes.float()) - exact).abs().max()
    assert frozen < 1e-4 * exact.abs().max()
    assert frozen < 2 * unfrozen


@each_flow
def test_a_flow_in_mixed_precision_computes_nearly_the_same_with_codes_and_spectra_in_single_precision(
    build, generator
):
    flow = build(generator).float().freeze()
    codes = normal(generator, flow.n_sources, 50, flow.code_dimensions).float().requires_grad_()
    mixed = deepcopy(flow).freeze(MIXED)

    def outcomes(flow):
        spectra = flow.decode(codes)
        (gradient,) = torch.autograd.grad(spectra.square().sum(), codes)
        return spectra, gradient, flow.log_det(spectra.detach())

    for exact, found in zip(outcomes(flow), outcomes(mixed), strict=True):
        assert found.dtype == torch.float32
        assert 1e-5 < ((found - exact).abs() / exact.abs()).median() < 0.02  # 8 bits are exact to 0.004
    assert mixed.like.dtype == torch.float32


@each_flow
def test_rounded_factors_change_what_weights_learn_by_little_and_leave_the_weights_alone(build, generator):
    flow = build(generator).float()
    x = batch(flow, generator).float()
    rounded = deepcopy(flow).round_factors(MIXED)

    def gradients(flow):
        return torch.autograd.grad(negative_log_likelihood(flow, x).sum(), list(flow.parameters()))

    errors = []
    for exact, found in zip(gradients(flow), gradients(rounded), strict=True):
        assert found.dtype == torch.float32
        errors.append(float((found - exact).norm() / exact.norm()))
    assert 1e-5 < statistics.median(errors) < 0.02  # 8 bits are exact to 0.004
    assert max(errors) < 0.1
    for before, after in zip(flow.parameters(), rounded.parameters(), strict=True):
        assert torch.equal(before, after)


def test_a_frozen_glow_still_maps_forwards(generator):
    flow = glow(generator)
    x = batch(flow, generator)
    z, log_det = flow(x)
    frozen = flow.freeze()
    assert torch.equal(frozen(x)[0], z)
    assert torch.equal(frozen(x)[1], log_det)


def test_the_first_batch_comes_out_of_actnorm_with_mean_zero_and_deviation_one(generator):
    x = normal(generator, 100, 4) * torch.tensor([0.1, 1.0, 5.0, 30.0]) + torch.tensor([-2.0, 0.0, 1.0, 9.0])
    y, log_det = ActNorm(4).double()(x)
    assert torch.allclose(y.mean(dim=0), torch.zeros(4).double(), atol=1e-10)
    assert torch.allclose(y.std(dim=0, correction=0), torch.ones(4).double(), atol=1e-10)
    assert log_det.item() == pytest.approx(-x.std(dim=0, correction=0).log().sum().item())


def test_a_dimension_that_does_not_vary_is_divided_by_the_floor(generator):
    x = normal(generator, 100, 2)
    x[:, 1] = 7
    norm = ActNorm(2).double()
    y, _ = norm(x)
    assert torch.allclose(y[:, 1], torch.zeros(100).double(), atol=1e-10)
    assert norm.log_scale[1].exp().item() == pytest.approx(1 / FLOOR)
    assert norm.inverse(y)[:, 1].mean().item() == pytest.approx(7)


def test_a_second_batch_does_not_initialise_actnorm_again(generator):
    norm, x = ActNorm(4).double(), normal(generator, 100, 4)
    first, _ = norm(x)
    second, _ = norm(3 * x + 1)
    scale = norm.log_scale.exp()
    assert torch.allclose(second, 3 * first + scale * (1 + 2 * x.mean(dim=0)), atol=1e-10)


def test_actnorm_has_no_inverse_before_its_first_batch(generator):
    with pytest.raises(RuntimeError, match="a forward pass of data before an inverse one"):
        ActNorm(4).inverse(torch.zeros(1, 4))
    with pytest.raises(RuntimeError, match="a forward pass"):
        ConditionalGlow(2, 6, 3, [8, 8], 10.0, generator).decode(torch.zeros(2, 1, 4))


def test_a_mixing_starts_as_a_rotation_or_reflection_which_changes_no_volume(generator):
    mixing = LUMixing(7, generator).double()
    rows, log_det = mixing(torch.eye(7, dtype=torch.float64))
    assert torch.allclose(rows @ rows.T, torch.eye(7, dtype=torch.float64), atol=1e-6)
    assert log_det.item() == pytest.approx(0, abs=1e-6)
    assert (rows.abs() > 0.05).sum() > 25


def test_a_mixing_is_the_product_of_its_factors(generator):
    x = normal(generator, B, 6)
    mixing = trained(LUMixing(6, generator), generator, x)
    P = torch.eye(6, dtype=torch.float64)[mixing.order]
    L = torch.tril(mixing.factors, -1) + torch.eye(6)
    U = torch.triu(mixing.factors, 1) + torch.diag(mixing.sign * torch.diagonal(mixing.factors).exp())
    assert not torch.equal(P, torch.eye(6))
    assert set(mixing.sign.tolist()) == {-1, 1}
    assert torch.allclose(mixing(x)[0], torch.einsum("ij,bj->bi", P @ L @ U, x), atol=1e-12)


@each_flow
def test_a_saved_flow_is_read_back_with_its_history_and_provenance(build, generator, tmp_path):
    flow = build(generator).float()
    x = batch(flow, generator).float()
    history = {"training": torch.rand(4, 2, generator=generator), "validation": torch.full((4, 2), torch.nan)}
    provenance = {"frames": "0123456789ab", "recipe": {"steps": 3}}
    files.save(flow, tmp_path / "flow.safetensors", history, provenance)
    loaded, curves, origin = files.load(tmp_path / "flow.safetensors")
    assert type(loaded) is type(flow)
    assert torch.equal(loaded(x)[0], flow(x)[0])
    assert torch.equal(negative_log_likelihood(loaded, x), negative_log_likelihood(flow, x))
    assert torch.equal(loaded.inverse(x), flow.inverse(x))
    assert curves.keys() == history.keys()
    assert torch.equal(curves["training"], history["training"])
    assert curves["validation"].isnan().all()
    assert origin == provenance


def test_actnorm_stays_initialised_when_its_flow_is_saved_and_loaded(generator, tmp_path):
    untouched = ConditionalGlow(2, 6, 3, [8, 8], 10.0, generator)
    for flow, initialised in ((untouched, False), (glow(generator), True)):
        files.save(flow, tmp_path / "flow.safetensors", {}, {})
        loaded, _, _ = files.load(tmp_path / "flow.safetensors")
        assert [bool(layer.initialised) for layer in loaded.layers[::3]] == [initialised] * 3


def test_a_text_file_is_no_flow(tmp_path):
    path = tmp_path / "flow.safetensors"
    path.write_text("These are not the weights you are looking for.")
    with pytest.raises(InputError, match=rf"{path}: expected a flow written by ddslib"):
        files.load(path)


@pytest.mark.parametrize("metadata", [None, {"description": '{"flow": "Planar", "arguments": {}}'}])
def test_other_tensors_are_no_flow(metadata, tmp_path):
    path = tmp_path / "flow.safetensors"
    save_file({"flow.weight": torch.zeros(3)}, path, metadata)
    with pytest.raises(InputError, match=rf"{path}: expected a flow written by ddslib"):
        files.load(path)


def test_half_a_file_is_no_flow(generator, tmp_path):
    path = tmp_path / "flow.safetensors"
    files.save(glow(generator), path, {}, {})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=rf"{path}: expected a flow written by ddslib"):
        files.load(path)


def spoil(flow, name="layers.1.mlp.weights.0", value=math.nan):
    with torch.no_grad():
        dict(flow.named_parameters())[name].flatten()[3] = value
    return flow


def test_a_saved_weight_that_is_not_finite_is_named(generator, tmp_path):
    files.save(spoil(note_flows(generator)), tmp_path / "flow.safetensors", {}, {})
    with pytest.raises(InputError, match=r"RealNVP: weights layers\.1\.mlp\.weights\.0 are not finite"):
        files.load(tmp_path / "flow.safetensors")


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("build", "name"), [(note_flows, "layers.1.mlp.weights.0"), (glow, "layers.4.factors")], ids=FLOWS
)
def test_a_weight_that_is_not_finite_is_named_by_whatever_meets_it(build, name, value, generator):
    flow = build(generator)
    x = batch(flow, generator)
    spoil(flow, name, value)
    for use in (lambda: flow(x), lambda: flow.inverse(x), lambda: negative_log_likelihood(flow, x), flow.freeze):
        with pytest.raises(InputError, match=rf"weights {name} are not finite"):
            use()


@each_flow
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e308])
def test_input_without_a_finite_image_is_an_error(build, value, generator):
    flow = build(generator)
    x = batch(flow, generator)
    x[..., 2, :] = value
    for direction in (flow, flow.inverse, flow.freeze().inverse):
        with pytest.raises(InputError, match="the result is not finite; expected finite input of moderate size"):
            direction(x)


def grid(samples, points=801):
    """Points (points², 2) around the samples with room to spare, and the area that each stands for."""
    centre, reach = samples.mean(dim=0), 1.5 * (samples - samples.mean(dim=0)).abs().amax(dim=0)
    axes = [torch.linspace(-1, 1, points, dtype=torch.float64) * r + c for c, r in zip(centre, reach, strict=True)]
    return torch.cartesian_prod(*axes), float((2 * reach / (points - 1)).prod())


def check_density(log_prob, samples):
    with torch.no_grad():
        points, area = grid(samples)
        on_grid, of_samples = log_prob(points), log_prob(samples)
    density = on_grid.exp()
    assert float(density.sum() * area) == pytest.approx(1, abs=1e-3)
    negative_entropy = float((density * on_grid).sum() * area)
    error = float(of_samples.std() / math.sqrt(len(samples)))
    assert float(of_samples.mean()) == pytest.approx(negative_entropy, abs=4 * error)


@pytest.mark.parametrize("n", [0, 1])
def test_the_density_of_every_note_flow_integrates_to_one_and_samples_follow_it(n, generator):
    stack = trained(RealNVP(2, 2, 4, [8, 8], generator), generator, normal(generator, 2, B, 2), size=0.15)
    samples = stack.sample(4000, generator).detach()
    note = stack.select([n])
    check_density(lambda x: note.log_prob(x[None])[0], samples[n])


def test_the_density_of_a_conditional_flow_integrates_to_one_and_samples_follow_it(generator):
    flow = ConditionalGlow(1, 2, 3, [8, 8], 2.0, generator)
    flow = trained(flow, generator, 2 * normal(generator, 50, 2) + 1, size=0.15)
    samples = flow.sample(torch.zeros(4000, dtype=torch.int64), generator).detach()
    check_density(lambda x: flow.log_prob(x, torch.zeros(len(x), dtype=torch.int64)), samples)


def test_samples_of_notes_have_standard_normal_codes(generator):
    flow = note_flows(generator)
    samples = flow.sample(3000, torch.Generator().manual_seed(1))
    assert samples.shape == (N, 3000, 6)
    assert torch.equal(samples, flow.sample(3000, torch.Generator().manual_seed(1)))
    assert not torch.equal(samples, flow.sample(3000, torch.Generator().manual_seed(2)))
    z, _ = flow(samples)
    assert z.mean(dim=1).abs().max() < 0.08
    assert (z.std(dim=1) - 1).abs().max() < 0.06


def test_samples_of_a_source_have_their_semantics_around_its_one_hot_vector(generator):
    flow = glow(generator)
    sources = torch.arange(6000) % 2
    samples = flow.sample(sources, torch.Generator().manual_seed(1))
    assert samples.shape == (6000, 6)
    assert torch.equal(samples, flow.sample(sources, torch.Generator().manual_seed(1)))
    assert not torch.equal(samples, flow.sample(sources, torch.Generator().manual_seed(2)))
    for n in range(2):
        semantic, nuisance = flow.split(flow(samples[sources == n])[0])
        assert torch.allclose(semantic.mean(dim=0), torch.eye(2, dtype=torch.float64)[n], atol=0.03)
        assert torch.allclose(semantic.var(dim=0), torch.full((2,), 2 / (2 * 10.0)).double(), rtol=0.1)
        assert nuisance.mean(dim=0).abs().max() < 0.08
        assert (nuisance.std(dim=0) - 1).abs().max() < 0.06


def test_the_latent_vector_splits_into_n_semantic_numbers_and_the_rest(generator):
    flow = glow(generator)
    z = batch(flow, generator)
    semantic, nuisance = flow.split(z)
    assert torch.equal(semantic, z[:, :2])
    assert torch.equal(nuisance, z[:, 2:])
    assert flow.code_dimensions == 4


def test_a_decoded_code_is_encoded_as_itself_behind_the_one_hot_vector_of_its_source(generator):
    flow = glow(generator, n_sources=3, dimensions=8)
    codes = normal(generator, 3, 4, 5)
    spectra = flow.decode(codes)
    assert spectra.shape == (3, 4, 8)
    for n in range(3):
        z, log_det = flow(spectra[n])
        assert torch.allclose(z[:, :3], torch.eye(3, dtype=torch.float64)[n].expand(4, 3), atol=1e-10)
        assert torch.allclose(z[:, 3:], codes[n], atol=1e-10)
        assert torch.allclose(log_det, flow.log_det(spectra)[n], atol=1e-10)


def test_a_decoded_code_of_a_note_is_encoded_as_itself(generator):
    flow = note_flows(generator)
    codes = normal(generator, N, 4, 6)
    assert flow.code_dimensions == 6
    assert torch.allclose(flow(flow.decode(codes))[0], codes, atol=1e-10)
    assert torch.equal(flow.log_det(flow.decode(codes)), flow(flow.decode(codes))[1])


@pytest.mark.parametrize("semantic_weight", [0.3, 10_000.0])
def test_the_conditional_density_is_the_papers_loss_up_to_a_constant(semantic_weight, generator):
    flow = glow(generator, n_sources=3, dimensions=8, semantic_weight=semantic_weight)
    x, sources = normal(generator, 20, 8), torch.arange(20) % 3
    z, log_det = flow(x)
    prior = torch.distributions.Normal(torch.zeros(5, dtype=torch.float64), 1)
    likelihood_loss = -(prior.log_prob(z[:, 3:]).sum(dim=1) + log_det)
    one_hot = torch.eye(3, dtype=torch.float64)[sources]
    semantic_loss = semantic_weight * nn.functional.mse_loss(z[:, :3], one_hot, reduction="none").mean(dim=1)
    constant = 3 / 2 * math.log(2 * math.pi * 3 / (2 * semantic_weight))
    expected = likelihood_loss + semantic_loss + constant
    assert torch.allclose(-flow.log_prob(x, sources), expected, rtol=1e-12)
    assert torch.allclose(-flow.log_density(z, log_det, sources), expected, rtol=1e-12)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_conditional_flow_needs_more_dimensions_than_sources(dimensions):
    with pytest.raises(InputError, match=f"{dimensions} dimensions cannot hold one for each of 3 sources, and a code"):
        ConditionalGlow(3, dimensions, 2, [8], 10.0)
    assert ConditionalGlow(3, 4, 2, [8], 10.0).code_dimensions == 1


def independent_affine(shift, scale):
    return transforms.DependentTransform(transforms.AffineTransform(shift, scale), 1)


def independent_coupling(coupling, activation, n=()):
    """zuko's coupling with the weights of ours, or with those of the n-th of a stack."""
    weights, biases = ([value[n] for value in values] for values in (coupling.mlp.weights, coupling.mlp.biases))
    inputs, *hidden = (len(weight) for weight in weights)
    mlp = zuko.nn.MLP(inputs, weights[-1].shape[1], hidden, activation).double()
    linears = [layer for layer in mlp if isinstance(layer, zuko.nn.Linear)]
    for linear, weight, bias in zip(linears, weights, biases, strict=True):
        linear.load_state_dict({"weight": weight.T, "bias": bias[0]})

    def meta(x1):
        s, t = mlp(x1).chunk(2, dim=-1)
        return independent_affine(t, (coupling.a[n] * s.tanh() + coupling.b[n]).exp())

    dimensions = inputs + weights[-1].shape[1] // 2
    return transforms.CouplingTransform(meta, torch.arange(dimensions) < inputs)


def independent_mixing(mixing):
    """zuko's L has the diagonal and its U has ones, with us it is the other way round: L U = (L D) (D⁻¹ U)."""
    factors, diagonal = mixing.factors, mixing.sign * mixing.factors.diagonal().exp()
    lower = (factors.tril(-1) + torch.eye(len(factors))) * diagonal
    upper = (factors / diagonal[:, None]).triu(1)
    return transforms.LULinearTransform(lower + upper), transforms.PermutationTransform(mixing.order)


def independent_glow(flow):
    steps = []
    for norm, mixing, coupling in zip(*(flow.layers[first::3] for first in range(3)), strict=True):
        steps += [independent_affine(norm.shift, norm.log_scale.exp()), *independent_mixing(mixing)]
        steps += [independent_coupling(coupling, nn.LeakyReLU)]
    return transforms.ComposedTransform(*steps)


def independent_realnvp(stack, n):
    steps = []
    for permutation, coupling in zip(stack.layers[::2], stack.layers[1::2], strict=True):
        steps += [transforms.PermutationTransform(permutation.order), independent_coupling(coupling, nn.SELU, n)]
    return transforms.ComposedTransform(*steps)


def normal_around(mean, variance=1.0):
    return zuko.distributions.DiagNormal(mean, torch.as_tensor(variance).double().sqrt().expand(mean.shape))


@pytest.mark.parametrize("dimensions", [5, 6])
def test_every_note_flow_is_the_one_that_zuko_makes_of_its_weights(dimensions, generator):
    stack = note_flows(generator, dimensions, steps=4)
    x = batch(stack, generator)
    (z, log_det), log_prob, decoded = stack(x), stack.log_prob(x), stack.decode(x)
    for n in range(N):
        theirs = independent_realnvp(stack, n)
        their_z, their_log_det = theirs.call_and_ladj(x[n])
        density = zuko.distributions.NormalizingFlow(theirs, normal_around(torch.zeros(dimensions).double()))
        assert torch.allclose(z[n], their_z, rtol=0, atol=1e-10)
        assert torch.allclose(log_det[n], their_log_det, rtol=0, atol=1e-10)
        assert torch.allclose(log_prob[n], density.log_prob(x[n]), rtol=0, atol=1e-10)
        assert torch.allclose(decoded[n], theirs.inv(x[n]), rtol=0, atol=1e-10)


@pytest.mark.parametrize("dimensions", [5, 6])
def test_the_conditional_flow_is_the_one_that_zuko_makes_of_its_weights(dimensions, generator):
    flow = glow(generator, dimensions=dimensions)
    x = batch(flow, generator)
    z, log_det = flow(x)
    theirs = independent_glow(flow)
    their_z, their_log_det = theirs.call_and_ladj(x)
    assert torch.allclose(z, their_z, rtol=0, atol=1e-10)
    assert torch.allclose(log_det, their_log_det, rtol=0, atol=1e-10)
    assert torch.allclose(flow.inverse(x), theirs.inv(x), rtol=0, atol=1e-10)
    assert torch.allclose(deepcopy(flow).freeze().inverse(x), theirs.inv(x), rtol=0, atol=1e-9)
    for n in range(2):
        mean, variance = torch.zeros(dimensions).double(), torch.ones(dimensions).double()
        mean[n], variance[:2] = 1, 2 / (2 * 10.0)
        density = zuko.distributions.NormalizingFlow(theirs, normal_around(mean, variance))
        ours = flow.log_prob(x, torch.full((B,), n))
        assert torch.allclose(ours, density.log_prob(x), rtol=0, atol=1e-10)


def test_a_frozen_flow_is_saved_and_loaded_like_any_other(tmp_path, generator):
    flow = ConditionalGlow(2, 6, 2, [8], 10.0, generator)
    flow(torch.randn(20, 6, generator=generator))
    files.save(flow.freeze(), tmp_path / "flow.safetensors", {}, {})
    loaded, _, _ = files.load(tmp_path / "flow.safetensors")
    z = torch.randn(3, 6, generator=generator)
    assert torch.allclose(loaded.inverse(z), flow.inverse(z), atol=1e-5)


def test_a_description_that_is_not_json_is_an_error_that_names_the_file(tmp_path):
    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors", metadata={"description": "hello"})
    with pytest.raises(InputError, match=r"other\.safetensors: expected a flow"):
        files.load(tmp_path / "other.safetensors")


def test_an_infinite_log_determinant_is_an_error():
    flow = RealNVP(2, 6, 2, [8])
    with torch.no_grad():
        flow.layers[1].b.fill_(-torch.inf)
    with pytest.raises(InputError, match=r"layers\.1\.b are not finite"):
        flow(torch.randn(2, 4, 6))
