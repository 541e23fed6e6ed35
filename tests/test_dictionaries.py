from copy import deepcopy

import numpy as np
import pytest
import torch
from memory import needs_linux, printed_by, sparse_file

from ddslib.flows.glow import ConditionalGlow
from ddslib.flows.realnvp import RealNVP
from ddslib.methods.dds1 import FrameDictionary
from ddslib.search.decoded import SharedDictionary
from ddslib.search.search import decompose
from ddslib.search.settings import Fit
from ddslib.search.stored import SampleDictionary


@pytest.fixture
def samples(generator):
    return torch.rand(50, 8, dtype=torch.float64, generator=generator)


@pytest.fixture
def sources():
    return torch.arange(50) // 10


@pytest.fixture(params=[50, 7], ids=["whole", "in blocks"])
def dictionary(request, samples, sources):
    return SampleDictionary(samples, sources, 5, block=request.param)


def test_factors_may_be_rounded(samples, sources, generator):
    H, G = (torch.rand(rows, 3, generator=generator) for rows in (50, 8))
    exact = SampleDictionary(samples.float(), sources, 5)
    rounded = SampleDictionary(samples.float(), sources, 5, factors=torch.bfloat16)
    for name, argument in (("mix", H), ("correlate", G)):
        expected, found = (getattr(dictionary, name)(argument) for dictionary in (exact, rounded))
        assert found.dtype == torch.float32
        assert 0 < ((found - expected) / expected).abs().max() < 0.02  # 8 bits are exact to 0.004
    assert torch.equal(rounded.attribute(H), exact.attribute(H))


def test_operators_are_those_of_the_dense_matrix(dictionary, samples, generator):
    W = samples.T
    H = torch.rand(50, 3, dtype=torch.float64, generator=generator)
    G = torch.rand(8, 3, dtype=torch.float64, generator=generator)
    assert torch.allclose(dictionary.mix(H), W @ H)
    assert torch.allclose(dictionary.correlate(G), W.T @ G)
    # The two are adjoint: <W H, G> = <H, Wᵀ G>.
    assert torch.allclose((dictionary.mix(H) * G).sum(), (H * dictionary.correlate(G)).sum())


def test_attribution_weighs_by_norm_and_sums_by_source(dictionary, samples, generator):
    H = torch.rand(50, 3, dtype=torch.float64, generator=generator)
    expected = (samples.norm(dim=1)[:, None] * H).reshape(5, 10, 3).sum(dim=1)
    assert torch.allclose(dictionary.attribute(H), expected)


def test_the_search_starts_even(dictionary):
    H = dictionary.start(torch.rand(8, 3))
    assert H.shape == (50, 3)
    assert torch.equal(H, torch.full((50, 3), 1 / 50))


def test_entries_of_a_source_are_its_samples(dictionary, samples):
    assert torch.equal(dictionary.entries(2), samples[20:30].T)


def test_a_fixed_dictionary_has_no_codes(dictionary):
    assert dictionary.codes is None
    assert dictionary.penalty(torch.ones(50, 3)).value == 0
    with pytest.raises(TypeError, match="SampleDictionary has no codes"):
        dictionary.pull_back(torch.ones(8, 3), torch.ones(50, 3), 0.1)
    with pytest.raises(TypeError, match="SampleDictionary has no codes"):
        dictionary.modes()


def test_every_sample_needs_a_source(samples):
    with pytest.raises(ValueError, match="50 samples but 3 sources"):
        SampleDictionary(samples, [0, 1, 2], 5)


STREAMED = """
    import sys
    import numpy as np, torch
    from ddslib.search.search import decompose
    from ddslib.search.settings import Fit
    from ddslib.search.stored import SampleDictionary
    from memory import mebibytes

    M, K, T = 600_000, 256, 4
    samples = np.memmap(sys.argv[1], np.float32, mode="c", shape=(M, K))
    fit = Fit(2, 0.01, "projection", 0.0, 0.0)
    decompose(torch.rand(K, T), SampleDictionary(samples[:1000], np.zeros(1000, int), 1), fit)
    before, peak = mebibytes("RssAnon"), 0.0
    correlate = SampleDictionary.correlate

    def watched(self, G):
        global peak
        gradient = correlate(self, G)
        peak = max(peak, mebibytes("RssAnon"))
        return gradient

    SampleDictionary.correlate = watched
    decompose(torch.rand(K, T), SampleDictionary(samples, np.arange(M) % 60, 60), fit)
    print(peak - before, samples.nbytes / 2**20, 4 * M * T / 2**20)
"""


@needs_linux
def test_six_hundred_thousand_entries_are_streamed_in_bounded_memory(tmp_path):
    path = sparse_file(tmp_path / "samples.f32", 600_000 * 256 * 4)
    used, dictionary, activations = printed_by(STREAMED, path)
    # H, its gradient and Adam's two moments are needed; the dictionary is not.
    assert used < 5 * activations + 32
    assert used < dictionary / 6


def test_a_memory_mapped_dictionary_gives_what_one_in_memory_gives(tmp_path, generator):
    samples = torch.rand(5000, 32, generator=generator).numpy()
    samples.tofile(tmp_path / "samples.f32")
    mapped = np.memmap(tmp_path / "samples.f32", np.float32, mode="c", shape=samples.shape)
    sources = np.arange(5000) // 500
    X = torch.rand(32, 6, generator=generator)
    fit = Fit(50, 0.01, "projection", 0.0, 0.0)
    whole = decompose(X, SampleDictionary(samples, sources, 10, resident=True), fit)
    streamed = decompose(X, SampleDictionary(mapped, sources, 10, block=617), fit)
    assert torch.allclose(streamed.cost, whole.cost, rtol=1e-4)
    assert torch.allclose(streamed.A, whole.A, atol=1e-3 * float(whole.A.max()))


N, K, C, T = 3, 7, 2, 8


def random(generator, *shape):
    return torch.rand(*shape, dtype=torch.float64, generator=generator)


def normal(generator, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def trained_flow(kind, generator):
    """A flow in double precision whose weights are far from their start."""
    if kind == "notes":
        flow = RealNVP(N, K, 3, [8, 8], generator).double()
    else:
        flow = ConditionalGlow(N, K, 3, [8, 8], 10.0, generator).double()
        flow(normal(generator, 50, K) + 0.5)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.2 * normal(generator, *parameter.shape)
    return flow


class Definition:
    """What W, its codes' energies and J are by the paper, from the flow alone, with a column of W for every frame."""

    def __init__(self, flow, log_determinant, shared):
        self.flow, self.log_determinant, self.shared = flow, log_determinant, shared

    def spectra(self, codes):
        if isinstance(self.flow, RealNVP):
            return self.flow.inverse(codes)
        one_hot = torch.eye(N, dtype=torch.float64).repeat_interleave(codes.shape[1], dim=0)
        return self.flow.inverse(torch.cat([one_hot, codes.flatten(0, 1)], dim=1)).reshape(N, -1, K)

    def of_every_frame(self, values):
        """(N, count, ...) to (T, entries, ...)."""
        if self.shared:
            return values.flatten(0, 1).expand(T, N * C, *values.shape[2:])
        return values.transpose(0, 1)

    def matrices(self, codes):
        spectra = self.of_every_frame(self.spectra(codes))
        return torch.where(spectra > 0, spectra, 0)

    def energy(self, codes):
        log_density = torch.distributions.Normal(0.0, 1.0).log_prob(codes).sum(dim=-1)
        if self.log_determinant:
            spectra = self.spectra(codes)
            batch = spectra if isinstance(self.flow, RealNVP) else spectra.flatten(0, 1)
            log_density = log_density + self.flow(batch)[1].reshape(log_density.shape)
        return self.of_every_frame(-log_density / self.flow.code_dimensions)

    def mixture(self, H, codes):
        return torch.stack([W.T @ h for W, h in zip(self.matrices(codes), H.T, strict=True)], dim=1)

    def penalty(self, H, codes):
        return sum((h / (h.sum() + 1e-3) * energy).sum() for h, energy in zip(H.T, self.energy(codes), strict=True))

    def cost(self, X, H, codes, weight):
        return (X - self.mixture(H, codes)).square().sum().sqrt() + weight * self.penalty(H, codes)


@pytest.fixture(params=["notes", "one for all notes"])
def flow(request, generator):
    return trained_flow(request.param, generator)


KINDS = {"DDS-1": ("notes", False), "DDS-2": ("notes", True), "DDS-3": ("one for all notes", True)}


@pytest.fixture(params=[False, True], ids=["prior", "log-determinant"])
def log_determinant(request):
    return request.param


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def kind(request, generator):
    """A flow, and whether its entries are shared over time."""
    name, shared = request.param
    return trained_flow(name, generator), shared


@pytest.fixture
def pair(kind, log_determinant, generator):
    """A dictionary with codes away from zero, and what it should be."""
    flow, shared = kind
    definition = Definition(deepcopy(flow), log_determinant, shared)
    dictionary = SharedDictionary(flow, C, log_determinant) if shared else FrameDictionary(flow, T, log_determinant)
    dictionary.codes.copy_(normal(generator, *dictionary.codes.shape))
    dictionary.refresh()
    return dictionary, definition


def activations(definition, generator):
    H = random(generator, N * C if definition.shared else N, T)
    H[1], H[:, 2] = 0, 0  # an entry and a frame that are silent
    return H


def test_decoded_entries_are_the_positive_parts_of_what_the_flow_decodes(pair):
    dictionary, definition = pair
    W = definition.matrices(dictionary.codes)
    assert 0.1 < (W == 0).double().mean() < 0.9
    for source in range(N):
        expected = W[0, C * source : C * (source + 1)] if definition.shared else W[:, source]
        assert torch.allclose(dictionary.entries(source), expected.T)


def test_operators_of_a_decoded_dictionary_are_those_of_the_dense_matrices(pair, generator):
    dictionary, definition = pair
    H, G = activations(definition, generator), normal(generator, K, T)
    W = definition.matrices(dictionary.codes)
    assert torch.allclose(dictionary.mix(H), definition.mixture(H, dictionary.codes))
    assert torch.allclose(dictionary.correlate(G), torch.stack([W[t] @ G[:, t] for t in range(T)], dim=1))
    assert torch.allclose((dictionary.mix(H) * G).sum(), (H * dictionary.correlate(G)).sum())


def test_attribution_of_a_decoded_dictionary_weighs_by_norm_and_sums_by_source(pair, generator):
    dictionary, definition = pair
    H = activations(definition, generator)
    norms = definition.matrices(dictionary.codes).square().sum(dim=2).sqrt().T
    sources = torch.arange(len(H)) // (C if definition.shared else 1)
    expected = torch.stack([(norms * H)[sources == source].sum(dim=0) for source in range(N)])
    assert torch.allclose(dictionary.attribute(H), expected)


def test_the_penalty_is_the_mean_energy_of_the_codes_weighted_by_their_shares(pair, generator):
    dictionary, definition = pair
    H = activations(definition, generator).requires_grad_()
    expected = definition.penalty(H, dictionary.codes)
    value, gradient = dictionary.penalty(H.detach())
    assert torch.allclose(value, expected)
    assert gradient.shape == H.shape
    assert torch.allclose(gradient, torch.autograd.grad(expected, H)[0])


def test_the_penalty_of_shared_entries_is_the_papers_sum_over_entries(flow, log_determinant, generator):
    definition = Definition(deepcopy(flow), log_determinant, shared=True)
    dictionary = SharedDictionary(flow, C, log_determinant)
    dictionary.codes.copy_(normal(generator, *dictionary.codes.shape))
    dictionary.refresh()
    H = activations(definition, generator)
    weights = [sum(H[k, t] / (sum(H[j, t] for j in range(N * C)) + 1e-3) for t in range(T)) for k in range(N * C)]
    energies = definition.energy(dictionary.codes)[0]
    assert torch.allclose(dictionary.penalty(H).value, sum(w * e for w, e in zip(weights, energies, strict=True)))


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_gradients_of_the_cost_are_those_of_autograd(pair, weight, generator):
    dictionary, definition = pair
    X = random(generator, K, T)
    H = activations(definition, generator).requires_grad_()
    codes = dictionary.codes.clone().requires_grad_()
    for_H, for_codes = torch.autograd.grad(definition.cost(X, H, codes, weight), (H, codes))
    H = H.detach()
    residual = dictionary.mix(H) - X
    G = residual / residual.norm()
    assert for_codes.abs().max() > 0.01
    assert torch.allclose(dictionary.correlate(G) + weight * dictionary.penalty(H).gradient, for_H)
    assert torch.allclose(dictionary.pull_back(G, H, weight)[0], for_codes)


def test_an_entry_that_is_not_used_gets_no_gradient(pair, generator):
    dictionary, definition = pair
    H = activations(definition, generator)
    (gradient,) = dictionary.pull_back(normal(generator, K, T), H, 0.3)
    by_entry = gradient.flatten(0, 1) if definition.shared else gradient
    assert by_entry[1].abs().max() == 0
    assert by_entry[0].abs().max() > 0
    if not definition.shared:
        assert gradient[:, 2].abs().max() == 0


def test_entries_change_with_the_codes_only_when_refreshed(pair, generator):
    dictionary, definition = pair
    H = activations(definition, generator)
    before, penalty = dictionary.mix(H), dictionary.penalty(H).value
    dictionary.codes.add_(0.5)
    assert torch.equal(dictionary.mix(H), before)
    dictionary.refresh()
    assert not torch.allclose(dictionary.mix(H), before)
    assert not torch.allclose(dictionary.penalty(H).value, penalty)
    assert torch.allclose(dictionary.mix(H), definition.mixture(H, dictionary.codes))


@pytest.mark.parametrize("keeps", [True, False], ids=["kept", "decoded once more"])
@pytest.mark.parametrize(("block", "count"), [(2 * T, 2), (T, 3), (3, 9)])
def test_decoding_block_by_block_changes_nothing(block, count, keeps, log_determinant, generator):
    X, codes, H = normal(generator, K, T), normal(generator, N, T, K), random(generator, N, T)
    flow = trained_flow("notes", generator)
    results = []
    for size in (N * T, block):
        dictionary = FrameDictionary(deepcopy(flow), T, log_determinant, size, keep=2**30 if keeps else 0)
        assert len(dictionary._blocks) == (1 if size == N * T else count)
        dictionary.codes.copy_(codes)
        dictionary.refresh()
        entries = [dictionary.entries(source) for source in range(N)]
        operators = [dictionary.mix(H), dictionary.correlate(X), dictionary.attribute(H)]
        results.append([*entries, *operators, *dictionary.penalty(H), *dictionary.pull_back(X, H, 0.3)])
    for whole, by_block in zip(*results, strict=True):
        assert torch.allclose(by_block, whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("keeps", [True, False], ids=["kept", "decoded once more"])
@pytest.mark.parametrize("block", [N * T, T, 3])
def test_what_is_left_out_is_not_decoded_and_all_else_is_as_before(
    block, keeps, log_determinant, generator, monkeypatch
):
    X, codes, H = normal(generator, K, T), normal(generator, N, T, K), random(generator, N, T)
    silent = torch.zeros(N, T, dtype=bool)
    silent[0], silent[1, ::2], silent[2, 3:] = True, True, True
    H[silent] = 0
    dictionary = FrameDictionary(trained_flow("notes", generator), T, log_determinant, block, keep=2**30 * keeps)
    dictionary.codes.copy_(codes)

    def found():
        operators = dictionary.mix(H), dictionary.correlate(X)[~silent], dictionary.attribute(H)
        return *operators, dictionary.penalty(H).value, *dictionary.pull_back(X, H, 0.3)

    dictionary.refresh()
    whole = found()
    decoded, decode = [], type(dictionary._flow).decode
    monkeypatch.setattr(RealNVP, "decode", lambda flow, z: decoded.append(z[..., 0].numel()) or decode(flow, z))
    dictionary.leave_out(silent)
    dictionary.refresh()
    width = -(-T // 2)  # of the note that sounds most, and so of its block
    assert sum(decoded) == ((2 * width) if block >= 2 * width else (~silent).sum())
    for before, after in zip(whole, found(), strict=True):
        assert torch.allclose(after, before, rtol=1e-12, atol=1e-12)
    dictionary.codes.zero_()
    dictionary.leave_out(None)
    dictionary.refresh()
    for source in range(N):
        entries = dictionary.entries(source)
        assert torch.allclose(entries, entries[:, :1])


def test_what_is_kept_for_the_gradient_grows_with_the_codes(generator):
    flow = trained_flow("notes", generator)
    few, many = (FrameDictionary(deepcopy(flow), frames, block=N * frames)._bytes_to_keep() for frames in (50, 500))
    steps, hidden, number = 3, 2 * 8, 8  # the last of them the bytes of a number
    assert many - few >= 450 * N * steps * (K + hidden) * number
    assert 9.5 * few < many < 10.5 * few  # weights, which both have, do not count


def test_the_search_for_codes_starts_at_zero_and_for_activations_at_random(kind, generator):
    flow, shared = kind
    dictionary = SharedDictionary(flow, C) if shared else FrameDictionary(flow, T)
    entries = N * C if shared else N
    X = 4 * random(generator, K, 500) if shared else 4 * random(generator, K, T)
    assert dictionary.codes.shape == (N, C if shared else T, flow.code_dimensions)
    assert dictionary.codes.count_nonzero() == 0
    H, same, other = (dictionary.start(X, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    highest = (X.mean() / entries).sqrt()
    assert H.shape == (entries, X.shape[1])
    assert H.dtype == X.dtype
    assert (H >= 0).all()
    assert 0.9 * highest < H.max() <= highest
    assert float(H.mean() / highest) == pytest.approx(0.5, abs=0.15)
    assert torch.equal(H, same)
    assert not torch.equal(H, other)


def test_entries_of_a_source_start_alike_and_differ_from_those_of_others(flow):
    reference = deepcopy(flow)
    dictionary = SharedDictionary(flow, C)
    dictionary.refresh()
    modes = reference.decode(torch.zeros(N, 1, reference.code_dimensions, dtype=torch.float64)).clamp(min=0)
    for source in range(N):
        assert torch.allclose(dictionary.entries(source), modes[source].T.expand(K, C))
    assert not torch.allclose(dictionary.entries(0), dictionary.entries(1), atol=0.01)


def test_shapes_of_decoded_dictionaries(kind):
    flow, shared = kind
    dictionary, count = (SharedDictionary(flow, C), C) if shared else (FrameDictionary(flow, T), T)
    dictionary.refresh()
    assert dictionary.entries(1).shape == (K, count)
