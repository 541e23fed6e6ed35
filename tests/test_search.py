import math
from copy import deepcopy
from dataclasses import replace
from functools import partial

import pytest
import torch
from memory import needs_linux, printed_by
from sklearn.decomposition import non_negative_factorization

from ddslib.config import InputError
from ddslib.flows.glow import ConditionalGlow
from ddslib.flows.realnvp import RealNVP
from ddslib.machine.device import policy
from ddslib.methods.dds1 import FrameDictionary
from ddslib.search import search
from ddslib.search.decoded import SharedDictionary
from ddslib.search.dictionary import Dictionary, Penalty
from ddslib.search.long import decompose_long
from ddslib.search.objective import Cost
from ddslib.search.schedule import Schedule
from ddslib.search.search import Search, decompose
from ddslib.search.settings import CodeFit, Fit
from ddslib.search.stored import SampleDictionary

FIT = Fit(iterations=400, step_size=0.01, positivity="projection", likelihood_weight=0.0, sparsity_weight=0.0)


def random(generator, *shape):
    return torch.rand(*shape, dtype=torch.float64, generator=generator)


def identity_sources(entries):
    return torch.arange(entries)


def test_activations_of_an_exact_mixture_are_recovered(generator):
    W = torch.eye(12, 8, dtype=torch.float64) + 0.2 * random(generator, 12, 8)
    H = random(generator, 8, 20) * (random(generator, 8, 20) > 0.5)
    dictionary = SampleDictionary(W.T, identity_sources(8), 8)
    result = decompose(W @ H, dictionary, replace(FIT, iterations=3000))
    assert torch.allclose(result.H, H, atol=2e-3)
    assert torch.allclose(result.A, H * W.norm(dim=0)[:, None], atol=4e-3)
    assert result.cost[-1] < 0.01 * result.cost[0]


def test_the_error_is_that_of_scikit_learn_within_one_per_cent(generator):
    W, X = random(generator, 40, 100) ** 3, random(generator, 40, 15)
    result = decompose(X, SampleDictionary(W.T, identity_sources(100), 100), replace(FIT, iterations=2000))
    H, _, _ = non_negative_factorization(
        X.T.numpy(), W=None, H=W.T.numpy(), n_components=100, init="random", update_H=False,
        solver="cd", tol=1e-10, max_iter=20000, random_state=0,
    )  # fmt: skip
    reference = float((X - W @ torch.from_numpy(H.T)).norm())
    assert float(result.cost[-1]) == pytest.approx(reference, rel=0.01)


def test_the_history_ends_with_the_cost_of_what_is_returned(generator):
    X = random(generator, 8, 6)
    dictionary = SampleDictionary(random(generator, 30, 8), identity_sources(30), 30)
    result = decompose(X, dictionary, replace(FIT, iterations=30))
    assert result.iterations == 30
    assert float(result.cost[-1]) == pytest.approx(float((X - result.X_hat).norm()))
    assert torch.allclose(result.X_hat, dictionary.mix(result.H))
    assert torch.equal(result.cost, result.distance)
    assert (result.H >= 0).all()


def test_a_silent_mixture_needs_no_activity(generator):
    dictionary = SampleDictionary(random(generator, 30, 8), identity_sources(30), 30)
    result = decompose(torch.zeros(8, 4, dtype=torch.float64), dictionary, replace(FIT, iterations=300))
    assert torch.isfinite(result.H).all()
    assert float(result.cost[-1]) < 0.05


class LinearlyDecoded(Dictionary):
    """The smallest dictionary with codes: W = max(0, B z), likely where z is near zero."""

    def __init__(self, basis, entries, generator):
        self._basis = basis  # (K, D)
        self.codes = torch.randn(basis.shape[1], entries, dtype=basis.dtype, generator=generator)
        self.refreshed = 0

    def refresh(self):
        self.refreshed += 1
        self._leaf = self.codes.detach().requires_grad_()
        self._graph = (self._basis @ self._leaf).clamp(min=0)
        self._W = self._graph.detach()

    def start(self, X, generator=None):
        return torch.rand(self.codes.shape[1], X.shape[1], dtype=X.dtype, generator=generator)

    def mix(self, H):
        return self._W @ H

    def correlate(self, G):
        return self._W.T @ G

    def pull_back(self, G, H, likelihood_weight):
        through_W = torch.autograd.grad(self._graph, self._leaf, G @ H.T)[0]
        return (through_W + likelihood_weight * H.sum(dim=1) * self.codes,)

    def penalty(self, H):
        weights = H.sum(dim=1)
        energy = self.codes.pow(2).sum(dim=0) / 2
        return Penalty((weights * energy).sum(), energy[:, None].expand_as(H))

    def attribute(self, H):
        return self._W.norm(dim=0)[:, None] * H

    def entries(self, source):
        return self._W[:, source : source + 1]

    def part(self, H, source):
        return self.entries(source) @ H[source : source + 1]

    def spread(self, values):
        return values

    def parameters(self):
        return self._basis.numel()


def decoded(generator, entries=4):
    return LinearlyDecoded(random(generator, 10, 3), entries, generator)


@pytest.mark.parametrize("positivity", ["projection", "relu"])
def test_codes_are_searched_along_with_the_activations(generator, positivity):
    dictionary = decoded(generator)
    X, before = random(generator, 10, 12), dictionary.codes.clone()
    fit = replace(FIT, positivity=positivity, likelihood_weight=1e-3)
    result = decompose(X, dictionary, fit, generator=generator)
    assert result.cost[-1] < 0.6 * result.cost[0]
    assert not torch.equal(dictionary.codes, before)
    assert (result.H >= 0).all()
    assert (result.cost > result.distance).all()
    assert dictionary.refreshed == result.iterations + 1  # once in each, and for the iterate of lowest cost


def test_one_iteration_is_one_adam_step_of_each_variable_along_the_gradient_of_j(generator):
    dictionary = decoded(generator)
    X, H = random(generator, 10, 6), random(generator, 4, 6)
    weight, step = 0.3, 0.01
    codes = dictionary.codes.clone().requires_grad_()

    def cost(H, codes):
        W = (dictionary._basis @ codes).clamp(min=0)
        return (X - W @ H).norm() + weight * (H.sum(dim=1) * codes.pow(2).sum(dim=0) / 2).sum()

    leaf = H.clone().requires_grad_()
    expected_H = leaf.detach() - step * torch.autograd.grad(cost(leaf, codes), leaf)[0].sign()
    moved = expected_H.clamp(min=0)  # the first Adam step has the size of the step and the sign of the gradient
    expected_codes = codes.detach() - step * torch.autograd.grad(cost(moved, codes), codes)[0].sign()

    once = Fit(iterations=1, step_size=step, positivity="projection", likelihood_weight=weight, sparsity_weight=0.0)
    result = decompose(X, dictionary, once, H=H)
    assert torch.allclose(result.H, moved, atol=1e-6)
    assert torch.equal(dictionary.codes, codes)  # the cost was not looked at after their step
    assert float(result.cost[0]) == pytest.approx(float(cost(moved, codes).detach()), rel=1e-6)
    result = decompose(X, dictionary, replace(once, iterations=2), H=H)
    assert result.cost[1] < result.cost[0]
    assert torch.allclose(dictionary.codes, expected_codes, atol=1e-6)


@pytest.mark.parametrize("positivity", ["projection", "relu"])
def test_what_is_found_is_the_iterate_of_lowest_cost(method, mixture, positivity, generator):
    fit = Fit(iterations=30, step_size=0.3, positivity=positivity, likelihood_weight=0.0, sparsity_weight=0.0)
    result = decompose(mixture, method, fit, generator=generator)
    assert (result.cost.diff() > 0).any()  # with steps so large
    assert float((mixture - result.X_hat).norm()) == pytest.approx(float(result.cost.min()))
    assert torch.equal(method.codes, result.codes)
    assert torch.equal(method.mix(result.H), result.X_hat)


def test_with_fixed_codes_and_no_penalty_the_search_is_that_of_nmf(generator):
    dictionary = decoded(generator)
    X, H = random(generator, 10, 6), random(generator, 4, 6)
    dictionary.refresh()
    dictionary.codes, dictionary.refresh = None, lambda: None
    dictionary.penalty = partial(Dictionary.penalty, dictionary)
    fixed = SampleDictionary(dictionary._W.T, identity_sources(4), 4)
    ours, nmf = (decompose(X, d, FIT, H=H) for d in (dictionary, fixed))
    assert torch.allclose(ours.H, nmf.H)
    assert torch.allclose(ours.cost, nmf.cost)


def note_flows(generator):
    flow = RealNVP(3, 10, 3, [8, 8], generator)
    return perturbed(flow, generator)


def conditional_flow(generator):
    flow = ConditionalGlow(3, 10, 3, [8, 8], 10.0, generator)
    flow(torch.randn(50, 10, generator=generator) + 0.5)
    return perturbed(flow, generator)


def perturbed(flow, generator):
    with torch.no_grad():
        for parameter in flow.double().parameters():
            parameter += 0.2 * torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
    return flow


METHODS = {
    "DDS-1": lambda generator: FrameDictionary(note_flows(generator), 12),
    "DDS-2": lambda generator: SharedDictionary(note_flows(generator), 2),
    "DDS-3": lambda generator: SharedDictionary(conditional_flow(generator), 2),
}


@pytest.fixture(params=METHODS)
def method(request, generator):
    return METHODS[request.param](generator)


@pytest.fixture
def mixture(method, generator):
    """What codes away from zero could explain exactly."""
    method.codes.normal_(generator=generator)
    method.refresh()
    X = method.mix(method.start(torch.full((10, 12), 4.0, dtype=torch.float64), generator))
    method.codes.zero_()
    return X


@pytest.mark.parametrize("positivity", ["projection", "relu"])
def test_every_method_searches_activations_that_are_not_negative_and_codes(method, mixture, positivity, generator):
    lowest, mix = [], method.mix

    def watched(H):
        lowest.append(float(H.min()))
        return mix(H)

    method.mix = watched
    fit = Fit(iterations=150, step_size=0.02, positivity=positivity, likelihood_weight=1e-3, sparsity_weight=0.0)
    result = decompose(mixture, method, fit, generator=generator)
    assert len(lowest) > result.iterations
    assert min(lowest) >= 0
    assert (result.H >= 0).all()
    assert result.cost[-1] < 0.9 * result.cost[0]
    assert torch.equal(result.codes, method.codes)
    assert result.codes is not method.codes  # another search would move them
    assert result.codes.abs().max() > 0.1
    assert torch.equal(result.X_hat, method.mix(result.H))
    assert torch.equal(result.A, method.attribute(result.H))


@pytest.mark.parametrize("log_determinant", [False, True])
def test_to_leave_out_what_has_died_changes_nothing(log_determinant, generator, monkeypatch):
    flow = note_flows(generator)
    X = torch.rand(10, 12, dtype=torch.float64, generator=generator)
    X[:, ::2] *= 0.05  # hardly anything sounds here
    fit = Fit(iterations=60, step_size=0.02, positivity="relu", likelihood_weight=1e-2, sparsity_weight=0.3)
    found, left_out = [], []
    for between in (1000, 7):
        monkeypatch.setattr(search, "ITERATIONS_BETWEEN", between)
        dictionary = FrameDictionary(deepcopy(flow), 12, log_determinant)
        leave_out = dictionary.leave_out
        dictionary.leave_out = lambda silent, leave_out=leave_out: left_out.append(silent) or leave_out(silent)
        found.append(decompose(X, dictionary, fit, generator=torch.Generator().manual_seed(0)))
    assert left_out[-1] is None
    assert left_out[-2].sum() > left_out[-8].sum() > 0
    for name in ("cost", "A", "X_hat", "codes"):
        usual, faster = (getattr(result, name) for result in found)
        assert torch.allclose(faster, usual, rtol=1e-9, atol=1e-9), name


@pytest.mark.parametrize("positivity", ["projection", "relu"])
def test_only_what_cannot_come_back_is_left_out(positivity, generator, monkeypatch):
    monkeypatch.setattr(search, "ITERATIONS_BETWEEN", 1)
    dictionary, left_out = METHODS["DDS-1"](generator), []
    dictionary.leave_out = left_out.append
    fit = Fit(iterations=9, step_size=0.02, positivity=positivity, likelihood_weight=0.0, sparsity_weight=0.0)
    decompose(torch.rand(10, 12, dtype=torch.float64, generator=generator), dictionary, fit, generator=generator)
    assert len(left_out) == (1 if positivity == "projection" else 9)  # the last takes all in again


@pytest.mark.parametrize("name", METHODS)
def test_a_fitted_start_is_what_nmf_finds_with_the_modes(name, mixture, generator):
    dictionary = METHODS[name](generator)
    dictionary.refresh()
    H = dictionary.start(mixture, torch.Generator().manual_seed(5))
    rows, copies = len(H), len(H) // 3
    entries = torch.cat([dictionary.entries(source)[:, :copies] for source in range(3)], dim=1)
    nmf = SampleDictionary(entries.T, torch.arange(rows) // copies, 3)
    fitted = decompose(mixture, nmf, replace(FIT, iterations=100), H=H).H

    fit = CodeFit(**vars(FIT) | {"iterations": 1, "step_size": 1e-9}, log_determinant=False, start="fitted")
    found = decompose(mixture, dictionary, fit, generator=torch.Generator().manual_seed(5)).H
    assert torch.allclose(found, fitted.clamp(min=0.1 * fitted.mean()), atol=1e-6)
    assert found.min() > 0


@pytest.mark.parametrize("likelihood_weight", [0.0, 0.1])
def test_a_search_of_codes_does_better_than_one_with_the_codes_it_starts_from(
    method, mixture, likelihood_weight, generator
):
    fit = Fit(
        iterations=150,
        step_size=0.02,
        positivity="projection",
        likelihood_weight=likelihood_weight,
        sparsity_weight=0.0,
    )
    H = method.start(mixture, generator)
    pull_back, method.pull_back = method.pull_back, no_gradient(method)
    fixed = decompose(mixture, method, fit, H=H)
    assert method.codes.count_nonzero() == 0
    method.pull_back = pull_back
    free = decompose(mixture, method, fit, H=H)
    assert free.cost[-1] < fixed.cost[-1]


@pytest.mark.parametrize("positivity", ["projection", "relu"])
@pytest.mark.parametrize("name", METHODS)
def test_the_search_is_the_papers_with_nothing_but_formulas_autograd_and_adam(name, positivity, generator):
    dictionary = METHODS[name](torch.Generator().manual_seed(3))
    X = random(generator, 10, 12)
    fit = Fit(iterations=6, step_size=0.02, positivity=positivity, likelihood_weight=0.1, sparsity_weight=0.03)
    start = dictionary.start(X, generator)
    result = decompose(X, dictionary, fit, H=start)

    reference = METHODS[name](torch.Generator().manual_seed(3))
    flow, D = reference._flow, reference.codes.shape[-1]

    def cost(codes, H):
        entries = flow.decode(codes).clamp(min=0)
        energy = (codes.square().sum(dim=-1) / 2 + D * math.log(2 * math.pi) / 2) / D
        if name == "DDS-1":
            X_hat = torch.einsum("ntk,nt->kt", entries, H)
        else:
            X_hat, energy = entries.flatten(0, 1).T @ H, energy.flatten()[:, None]
        return (X - X_hat).norm() + 0.1 * (H / (H.sum(dim=0) + 1e-3) * energy).sum() + 0.03 * H.sum()

    free, codes = start.clone().requires_grad_(), reference.codes.clone().requires_grad_()
    adams = [torch.optim.Adam([variable], lr=fit.step_size) for variable in (free, codes)]
    costs, found = [], []
    for _ in range(fit.iterations):
        H = free.clamp(min=0) if positivity == "relu" else free
        (free.grad,) = torch.autograd.grad(cost(codes.detach(), H), free)
        free.grad *= free.detach() > 0 if positivity == "relu" else 1
        adams[0].step()
        if positivity == "projection":
            free.data.clamp_(min=0)
        J = cost(codes, free.detach().clamp(min=0))
        costs.append(float(J.detach()))
        found.append(codes.detach().clone())
        (codes.grad,) = torch.autograd.grad(J, codes)
        adams[1].step()
    assert result.cost.tolist() == pytest.approx(costs, rel=1e-9)
    assert torch.allclose(result.codes, found[costs.index(min(costs))], atol=1e-7)


def test_a_sparsity_term_silences_what_is_hardly_needed(generator):
    X, samples = random(generator, 10, 12), SampleDictionary(random(generator, 40, 10), torch.arange(40) // 10, 4)
    plain, sparse = (decompose(X, samples, replace(FIT, sparsity_weight=weight)) for weight in (0.0, 0.3))
    assert (sparse.H == 0).sum() > (plain.H == 0).sum()
    assert sparse.H.sum() < plain.H.sum()
    assert float(sparse.cost[-1]) == pytest.approx(float(sparse.distance[-1] + 0.3 * sparse.H.sum()))
    assert plain.distance[-1] < sparse.distance[-1]


def no_gradient(dictionary):
    """Adam leaves a variable alone whose gradient has always been zero."""
    return lambda G, H, likelihood_weight: (torch.zeros_like(dictionary.codes),)


@pytest.mark.parametrize("positivity", ["projection", "relu"])
@pytest.mark.parametrize("name", ["DDS-2", "DDS-3"])
def test_with_fixed_codes_and_no_penalty_dds_is_nmf_with_the_decoded_entries(name, positivity, generator):
    dictionary = METHODS[name](generator)
    dictionary.codes.normal_(generator=generator)
    dictionary.refresh()
    dictionary.pull_back = no_gradient(dictionary)
    entries = torch.cat([dictionary.entries(source) for source in range(3)], dim=1)
    samples = SampleDictionary(entries.T, torch.arange(6) // 2, 3)
    X = random(generator, 10, 12)
    H = dictionary.start(X, generator)
    fit = replace(FIT, iterations=150, positivity=positivity)
    ours, nmf = (decompose(X, d, fit, H=H) for d in (dictionary, samples))
    assert ours.iterations == nmf.iterations > 50
    for part in ("H", "A", "X_hat", "cost", "distance", "step_size"):
        assert torch.allclose(getattr(ours, part), getattr(nmf, part), atol=1e-9), part


def test_nmf_has_no_codes_to_return(generator):
    dictionary = SampleDictionary(random(generator, 30, 8), identity_sources(30), 30)
    assert decompose(random(generator, 8, 6), dictionary, replace(FIT, iterations=2)).codes is None


def test_a_search_from_its_own_start_is_reproducible_under_a_generator(method, mixture):
    fit = Fit(iterations=5, step_size=0.02, positivity="relu", likelihood_weight=1e-3, sparsity_weight=0.0)
    costs = []
    for seed in (1, 1, 2):
        method.codes.zero_()
        costs.append(decompose(mixture, method, fit, generator=torch.Generator().manual_seed(seed)).cost)
    assert torch.equal(costs[0], costs[1])
    assert not torch.equal(costs[0], costs[2])


def test_under_relu_an_activation_below_zero_gets_no_gradient_and_stays_silent(generator):
    W = random(generator, 10, 4) + 0.1
    X, H = W @ torch.ones(4, 6, dtype=torch.float64), torch.ones(4, 6, dtype=torch.float64)
    H[2] = -0.05
    dictionary = SampleDictionary(W.T, identity_sources(4), 4)
    assert (decompose(X, dictionary, replace(FIT, positivity="relu"), H=H).H[2] == 0).all()
    assert (decompose(X, dictionary, replace(FIT, positivity="projection"), H=H).H[2] > 0.5).all()


def schedule(costs):
    """Step sizes after each cost, and after how many costs the search ended."""
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=torch.tensor(1.0))
    rule, steps = Schedule([optimiser], torch.zeros(1), between=1), []
    for number, cost in enumerate((torch.as_tensor(cost, dtype=torch.float64) for cost in costs), start=1):
        rule.record(Cost(cost, cost))
        steps.append(float(optimiser.param_groups[0]["lr"]))
        if rule.is_over(number):
            return steps, number
    return steps, None


def test_steps_are_halved_after_more_than_ten_iterations_above_the_best():
    falling_but_worse = [1.0, *(3 - 0.01 * n for n in range(30))]
    steps, ended = schedule(falling_but_worse)
    assert steps[10] == 1.0
    assert steps[11] == 0.5
    assert steps[21] == 0.5
    assert steps[22] == 0.25
    assert ended is None


def test_a_better_cost_resets_the_count():
    steps, _ = schedule([1.0, *[2 - 0.01 * n for n in range(10)], 0.9, *[2 - 0.01 * n for n in range(10)]])
    assert steps[-1] == 1.0


def test_a_cost_that_repeats_does_not_fall():
    assert schedule([1.0, 0.5, *[0.5] * 100])[1] is None
    assert schedule([1.0, 0.5, *[0.5] * 101])[1] == 103


@pytest.mark.parametrize("kind", ["samples", "codes"])
def test_costs_are_summed_and_compared_in_double_precision(kind, generator):
    X = random(generator, 10, 6).float()
    if kind == "samples":
        dictionary = SampleDictionary(random(generator, 9, 10).float(), identity_sources(9), 9)
    else:
        dictionary = SharedDictionary(note_flows(generator).float(), 2)
        dictionary.refresh()
    fit = CodeFit(iterations=3, step_size=0.01, likelihood_weight=0.1, sparsity_weight=0.01)
    H = dictionary.start(X, generator)
    X_hat = dictionary.mix(H)
    cost = fit.objective(X, dictionary.domain).cost(X_hat, H, dictionary)
    distance = (X - X_hat).double().square().sum().sqrt()
    assert cost.total.dtype == cost.distance.dtype == torch.float64
    assert float(cost.distance) == pytest.approx(float(distance), rel=1e-14)
    expected = distance + 0.1 * dictionary.penalty(H).value + 0.01 * H.double().sum()
    assert float(cost.total) == pytest.approx(float(expected), rel=1e-14)


def test_a_fall_below_single_precision_is_a_fall():
    falling = [1.0 - 1e-10 * n for n in range(300)]
    assert len(set(map(float, torch.tensor(falling)))) < 10
    assert schedule([torch.tensor(cost, dtype=torch.float64) for cost in falling])[1] is None


def test_it_is_known_why_a_search_ended(generator):
    X, samples = torch.zeros(8, 4), SampleDictionary(torch.ones(3, 8), identity_sources(3), 3)
    stuck = decompose(X, samples, replace(FIT, iterations=300))
    assert (stuck.ended, stuck.iterations < 300) == ("cost stopped falling", True)
    brief = decompose(random(generator, 8, 4).float(), samples, replace(FIT, iterations=5))
    assert (brief.ended, brief.iterations) == ("iterations made", 5)


def test_the_search_ends_after_more_than_a_hundred_iterations_without_a_fall():
    rising = [1.0 + 0.001 * n for n in range(300)]
    assert schedule(rising)[1] == 102
    assert schedule([*rising[:100], 0.9, *rising[:100]])[1] is None


def test_to_look_at_the_costs_now_and_then_only_changes_nothing(monkeypatch):
    """As on a GPU, where a search goes on until the next look."""
    silence, found = torch.zeros(8, 4, dtype=torch.float64), []
    for between in (1, 8):
        samples = SampleDictionary(torch.ones(3, 8, dtype=torch.float64), identity_sources(3), 3)
        looks = replace(policy(silence.device), between_looks=between)
        monkeypatch.setattr(search, "policy", lambda device, looks=looks: looks)
        running = Search(silence, samples, replace(FIT, step_size=0.1))
        iterations = next(n for n in range(1, 200) if running.iterate())
        found.append((iterations, running.result()))
    (usual_end, usual), (late_end, late) = found
    assert usual.iterations == late.iterations == usual_end < late_end
    assert late_end % 8 == 0
    for part in ("H", "X_hat", "cost", "distance", "step_size"):
        assert torch.equal(getattr(usual, part), getattr(late, part)), part


def test_a_short_recording_is_decomposed_as_a_whole(generator):
    samples, X = SampleDictionary(random(generator, 30, 8), identity_sources(30), 30), random(generator, 8, 6)
    fit = replace(FIT, iterations=50)
    whole = decompose(X, samples, fit)
    A, error = decompose_long(X, lambda frames: samples, fit, segment=6)
    assert torch.equal(A, whole.A)
    assert error == pytest.approx(float((X - whole.X_hat).norm() / X.norm()))


def test_segments_of_a_long_recording_are_decomposed_by_themselves_by_frame(generator):
    flow, X = note_flows(generator), random(generator, 10, 8)
    fit = Fit(iterations=20, step_size=0.02, positivity="projection", likelihood_weight=1e-3, sparsity_weight=0.0)
    frames = []

    def make(count):
        frames.append(count)
        return FrameDictionary(flow, count)

    A, error = decompose_long(X, make, fit, segment=5, generator=torch.Generator().manual_seed(1))
    draws = torch.Generator().manual_seed(1)
    pieces = X[:, :5], X[:, 5:]
    parts = [decompose(piece, FrameDictionary(flow, piece.shape[1]), fit, generator=draws) for piece in pieces]
    assert frames[1:] == [5, 3]
    assert torch.allclose(A, torch.cat([part.A for part in parts], dim=1))
    missed = sum(float((part.X_hat - piece).square().sum()) for part, piece in zip(parts, pieces, strict=True))
    assert error == pytest.approx((missed / float(X.square().sum())) ** 0.5)


@pytest.mark.parametrize("name", ["DDS-2", "DDS-3"])
def test_all_segments_share_the_codes_that_were_found_on_a_sample_of_the_frames(name, generator):
    period = random(generator, 10, 6)
    X = period.repeat(1, 4)
    fit = Fit(iterations=60, step_size=0.02, positivity="projection", likelihood_weight=1e-3, sparsity_weight=0.0)
    made = []

    def make(frames):
        made.append(METHODS[name](torch.Generator().manual_seed(3)))
        return made[-1]

    A, error = decompose_long(X, make, fit, segment=6, generator=generator)
    assert len(made) == 1
    assert made[0].codes.abs().max() > 0.1
    assert A.shape == (3, 24)
    assert torch.allclose(A.unflatten(1, (4, 6)), A[:, None, :6].expand(3, 4, 6))
    assert 0 < error < 1


@pytest.mark.parametrize("name", ["DDS-1", "DDS-2", "DDS-3"])
def test_segments_may_start_from_fitted_activations(name, generator):
    X = random(generator, 10, 12)
    fit = CodeFit(iterations=5, step_size=0.02, positivity="relu", start="fitted")
    make = {"DDS-1": lambda frames: FrameDictionary(note_flows(torch.Generator().manual_seed(3)), frames)}
    shared = METHODS[name](torch.Generator().manual_seed(3)) if name != "DDS-1" else None
    A, error = decompose_long(X, make.get(name, lambda frames: shared), fit, segment=6, generator=generator)
    assert A.shape == (3, 12)
    assert 0 < error < 1


def test_segments_with_fixed_entries_are_decomposed_by_the_rule_of_nmf(generator):
    X = random(generator, 10, 12)
    fit = Fit(iterations=60, step_size=0.02, positivity="relu", likelihood_weight=1e-3, sparsity_weight=0.0)
    dictionary = METHODS["DDS-3"](torch.Generator().manual_seed(3))
    A, _ = decompose_long(X, lambda frames: dictionary, fit, segment=6, generator=generator)
    projected = replace(fit, positivity="projection")
    parts = [decompose(X[:, part], dictionary.fixed(), projected) for part in (slice(6), slice(6, None))]
    assert torch.allclose(A, torch.cat([part.A for part in parts], dim=1))


def test_a_silent_recording_cannot_be_decomposed(generator):
    samples = SampleDictionary(random(generator, 30, 8), identity_sources(30), 30)
    with pytest.raises(InputError, match="silent"):
        decompose_long(torch.zeros(8, 4, dtype=torch.float64), lambda frames: samples, replace(FIT, iterations=2))


LONG = """
    import numpy as np
    from ddslib.search.settings import Fit
    from ddslib.search.long import decompose_long
    from ddslib.methods.dds1 import FrameDictionary
    from ddslib.flows.realnvp import RealNVP
    from memory import mebibytes

    flow = RealNVP(60, 32, 2, [8, 8]).freeze()
    fit = Fit(1, 0.01, "relu", 1e-4, 0.0)
    X = np.random.default_rng(0).random((32, 18750), np.float32)
    decompose_long(X[:, :512], lambda frames: FrameDictionary(flow, frames), fit)
    before = mebibytes("VmHWM")
    decompose_long(X, lambda frames: FrameDictionary(flow, frames), fit)
    print(mebibytes("VmHWM") - before, 60 * 18750 * 32 * 4 / 2**20)
"""


@needs_linux
def test_ten_minutes_take_no_more_memory_by_frame_than_a_segment_does():
    more, codes = printed_by(LONG)
    assert codes > 130
    assert more < codes / 4
