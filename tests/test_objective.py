"""The objective in which compressed magnitudes add: its updates, its gradients, and what it does not depend on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.decomposition import non_negative_factorization

from ddslib.config import InputError
from ddslib.flows.glow import ConditionalGlow
from ddslib.methods.one_blend import AGES, Blend, mean_spectra
from ddslib.methods.one_code import TiedDictionary
from ddslib.search.decoded import SharedDictionary
from ddslib.search.domains import KNOTS, CompressedMagnitude, log_gains
from ddslib.search.objective import FLOOR, CompressedMagnitudes
from ddslib.search.search import decompose
from ddslib.search.settings import CodeFit, Fit
from ddslib.search.stored import SampleDictionary
from ddslib.spectra.frames import Frames
from ddslib.spectra.spectrogram import compress, expand

GAMMA = 1e4
HALF = CompressedMagnitude(GAMMA)
N, K, T = 4, 24, 9
FIT = Fit(iterations=60, step_size=0.01, mixing="compressed magnitude")


def random(generator, *shape):
    return torch.rand(*shape, dtype=torch.float64, generator=generator)


def stored(generator, entries=12, domain=HALF, coloured=False):
    samples = 0.8 * random(generator, entries, K)
    return SampleDictionary(samples, torch.arange(entries) * N // entries, N, domain=domain, coloured=coloured)


def flow_for(generator):
    flow = ConditionalGlow(N, K, 2, [8], 10.0, generator).double()
    flow(0.3 * torch.randn(50, K, dtype=torch.float64, generator=generator) + 0.5)
    return flow


def tied(generator, coloured=True):
    dictionary = TiedDictionary(flow_for(generator), 2, False, HALF, coloured)
    dictionary.codes.normal_(0, 0.3, generator=generator)
    dictionary.refresh()
    return dictionary


def level(magnitudes):
    return compress(magnitudes, GAMMA)


@pytest.mark.parametrize("mu", [0.0, 0.01, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_an_update_never_raises_the_cost(mu, exponent, generator):
    for _ in range(5):
        dictionary = stored(generator, domain=CompressedMagnitude(GAMMA, exponent))
        X = random(generator, K, T) ** 3
        fit = replace(FIT, sparsity_weight=mu, exponent=exponent)
        cost = decompose(X, dictionary, fit, H=random(generator, 12, T)).cost.numpy()
        assert (np.diff(cost) <= 1e-12 * np.abs(cost[1:])).all()
        assert cost[-1] < cost[0]


def test_a_known_h_is_recovered(generator):
    entries, H = random(generator, 6, K), random(generator, 6, T) + 0.1
    dictionary = SampleDictionary(level(entries), torch.arange(6) % N, N, domain=HALF)
    total, floor = dictionary.mix(H), 0.0
    for _ in range(100):  # epsilon depends on the largest magnitude, which depends on epsilon
        magnitudes = ((total + floor**0.5) ** 2 - floor).clamp(min=0)
        floor = FLOOR * float(magnitudes.max())
    found = decompose(level(magnitudes), dictionary, replace(FIT, iterations=5000))
    assert float((found.H - H).norm() / H.norm()) < 1e-3


def test_without_floor_power_and_sparsity_it_is_the_nmf_of_another_library(generator, monkeypatch):
    monkeypatch.setattr("ddslib.search.objective.FLOOR", 0.0)
    dictionary = stored(generator, domain=CompressedMagnitude(GAMMA, 1.0))
    X = random(generator, K, T)
    W = torch.cat([dictionary.entries(source) for source in range(N)], dim=1).numpy()
    found = decompose(X, dictionary, replace(FIT, exponent=1.0, iterations=500))
    S = expand(X, GAMMA).numpy()
    # It factors Sᵀ ≈ Hᵀ Wᵀ, with Wᵀ given.
    H, _, _ = non_negative_factorization(
        S.T, H=W.T, n_components=12, update_H=False, solver="mu", beta_loss="kullback-leibler", max_iter=2000, tol=0
    )
    V = W @ H.T
    theirs = (S * np.log(S / V) - S + V).sum()
    assert float(found.cost.min()) == pytest.approx(theirs, rel=0.01)


def test_gradients_of_tied_codes_and_of_the_colour_are_those_of_automatic_differentiation(generator):
    dictionary, X, H = tied(generator), random(generator, K, T), random(generator, 2 * N, T)
    dictionary.colour.copy_(0.1 * torch.randn(KNOTS, dtype=torch.float64, generator=generator))
    dictionary.refresh()
    objective = CompressedMagnitudes(X, HALF, likelihood_weight=0.3)
    gradients = objective.gradients(objective.mix(dictionary, H), H, dictionary)
    codes, colour = (variable.clone().requires_grad_() for variable in dictionary.variables)
    spectra = dictionary._flow.decode(codes.expand(N, -1, -1)).flatten(0, 1)
    s = (expand(spectra.clamp(min=0), GAMMA) + 1e-7).sqrt()
    w = s * (0.5 * log_gains(colour, K)).exp()
    w = w / w.norm(dim=1, keepdim=True)
    V, Xp = w.T @ H + objective._constant, (expand(X, GAMMA) + objective._floor).sqrt()
    relative = H / H.sum() * T
    share = (relative / (relative.sum(dim=0) + 1e-3)).sum(dim=1).view(N, 2).sum(dim=0) / T
    surprisal = codes[0].square().sum(dim=1) / (2 * codes.shape[2])
    J = (Xp * (Xp / V).log() - Xp + V).sum() / Xp.sum() + 0.3 * (share * surprisal).sum()
    expected = torch.autograd.grad(J, (codes, colour))
    for found, right in zip(gradients, expected, strict=True):
        assert torch.allclose(found, right, rtol=1e-9, atol=1e-12)
        assert right.abs().max() > 1e-4


def test_the_gradient_of_the_colour_of_stored_entries_is_that_of_differences(generator):
    dictionary, X, H = stored(generator, coloured=True), random(generator, K, T), random(generator, 12, T)
    objective = CompressedMagnitudes(X, HALF)

    def cost(step):
        dictionary.colour.copy_(step)
        dictionary.refresh()
        return float(objective.cost(objective.mix(dictionary, H), H, dictionary).distance / objective._X.sum())

    direction = torch.randn(KNOTS, dtype=torch.float64, generator=generator)
    slope = (cost(1e-5 * direction) - cost(-1e-5 * direction)) / 2e-5
    cost(0 * direction)
    (gradient,) = objective.gradients(objective.mix(dictionary, H), H, dictionary)
    assert float(gradient @ direction) == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("make", [tied, lambda generator: stored(generator, coloured=True)], ids=["codes", "stored"])
def test_a_colour_of_constant_gain_changes_nothing(make, generator):
    dictionary = make(generator)
    dictionary.refresh()
    before = dictionary.entries(1).clone()
    dictionary.colour.fill_(0.7)
    dictionary.refresh()
    assert torch.allclose(dictionary.entries(1), before)
    dictionary.colour[-1] = 0.0
    dictionary.refresh()
    assert not torch.allclose(dictionary.entries(1), before)


def test_the_colour_of_a_recording_is_found(generator):
    """Entries that are dull explain a bright recording, and the colour tells how bright."""
    samples, H = random(generator, 12, K) ** 2, random(generator, 12, 40)
    colour = torch.linspace(-1, 1, KNOTS, dtype=torch.float64)
    truth = SampleDictionary(level(samples), torch.arange(12) // 3, N, domain=HALF, coloured=True)
    truth.colour.copy_(colour)
    truth.refresh()
    X = level(truth.mix(H) ** 2)
    plain, coloured = (
        SampleDictionary(level(samples), torch.arange(12) // 3, N, domain=HALF, coloured=chosen)
        for chosen in (False, True)
    )
    without = decompose(X, plain, replace(FIT, iterations=400))
    found = decompose(X, coloured, replace(FIT, iterations=400, colour_step_size=0.02))
    assert found.distance.min() < 0.05 * without.distance.min()
    both = torch.stack([log_gains(found.colour, K), log_gains(colour, K)])
    assert torch.corrcoef(both)[0, 1] > 0.97


def test_permuted_entries_permute_h(generator):
    samples, sources, X = random(generator, 12, K), torch.arange(12) % N, random(generator, K, T)
    order = torch.randperm(12, generator=generator)
    fit = replace(FIT, sparsity_weight=0.1)
    one = decompose(X, SampleDictionary(samples, sources, N, domain=HALF), fit)
    other = decompose(X, SampleDictionary(samples[order], sources[order], N, domain=HALF), fit)
    assert torch.allclose(other.H, one.H[order])
    assert torch.allclose(other.A, one.A)


@pytest.mark.parametrize("make", [tied, stored], ids=["codes", "stored"])
def test_a_softer_recording_has_the_same_notes(make, generator):
    fit = CodeFit(
        iterations=60, step_size=0.02, mixing="compressed magnitude", sparsity_weight=0.1, warm_up=10, settling=10,
        colour_step_size=0.05 if make is tied else 0.0, likelihood_weight=0.03, code_deviation=0.3,
    )  # fmt: skip
    S = random(generator, K, T) ** 4
    loud, soft = (
        decompose(
            level(gain * S), make(torch.Generator().manual_seed(5)), fit, generator=torch.Generator().manual_seed(1)
        )
        for gain in (1, 0.01)
    )
    for kind in ("A", "E"):
        assert torch.allclose(getattr(soft, kind), 0.1 * getattr(loud, kind), rtol=1e-4, atol=1e-9)
        assert getattr(loud, kind).any()


@pytest.mark.parametrize("make", [tied, stored], ids=["codes", "stored"])
def test_silence_has_no_activity(make, generator):
    fit = CodeFit(
        iterations=12, step_size=0.02, mixing="compressed magnitude", sparsity_weight=0.1, likelihood_weight=0.1
    )
    partly = random(generator, K, T)
    partly[:, 2] = 0
    found = decompose(partly, make(generator), fit)
    assert not found.A[:, 2].any() and not found.E[:, 2].any()
    assert found.A[:, 3].any() and found.E[:, 3].any()
    dictionary = make(generator)
    before = [variable.clone() for variable in dictionary.variables]
    silent = decompose(0 * partly, dictionary, fit)
    for values in (silent.H, silent.A, silent.E, silent.X_hat):
        assert not values.any()
    assert torch.isfinite(silent.cost).all()
    assert all(map(torch.equal, dictionary.variables, before))


def test_what_is_reconstructed_is_log_compressed_again(generator):
    dictionary, H = stored(generator), random(generator, 12, T)
    X = level((dictionary.mix(H)) ** 2)
    found = decompose(X, dictionary, replace(FIT, iterations=3000))
    assert torch.allclose(found.X_hat, X, atol=0.01)


@pytest.mark.parametrize("mixing", ["log magnitude", "compressed magnitude"])
def test_evidence_is_what_the_distance_grows_by(mixing, generator):
    dictionary = stored(generator, domain=FIT.domain(GAMMA) if mixing == FIT.mixing else SampleDictionary.domain)
    X = random(generator, K, T)
    found = decompose(X, dictionary, replace(FIT, mixing=mixing, sparsity_weight=0.01))
    floor = FLOOR * expand(X, GAMMA).max()
    W = torch.cat([dictionary.entries(source) for source in range(N)], dim=1)

    def distances(H):
        if mixing == "log magnitude":
            return (X - W @ H).square().sum(dim=0)
        P, V = (expand(X, GAMMA) + floor).sqrt(), W @ H + floor.sqrt()
        return (P * (P / V).log() - P + V).sum(dim=0)

    for source in range(N):
        without = found.H * (dictionary._sources != source)[:, None]
        expected = (distances(without) - distances(found.H)).clamp(min=0)
        assert torch.allclose(found.E[source], expected, rtol=1e-6, atol=1e-9)


def test_evidence_of_a_note_that_only_shares_partials_is_small(generator):
    """Its octave explains all that is there; the note above is active a little, and would not be missed."""
    low = torch.zeros(K, dtype=torch.float64)
    low[1::2] = torch.linspace(1, 0.2, K // 2, dtype=torch.float64)
    high = torch.where(torch.arange(K) % 4 == 3, low, 0)
    samples = level(torch.stack([low, high]) + 1e-6)
    dictionary = SampleDictionary(samples, torch.arange(2), 2, domain=HALF)
    found = decompose(level(low[:, None].expand(K, T) + 1e-6), dictionary, replace(FIT, iterations=20))
    by_activity, by_evidence = (x[1].sum() / x[0].sum() for x in (found.A, found.E))
    assert by_evidence < 0.2 * by_activity


def test_a_pair_that_makes_no_sense_is_an_input_error(generator):
    X, paper = random(generator, K, T), stored(generator, domain=SampleDictionary.domain)
    with pytest.raises(InputError, match="add as log magnitude; expected compressed magnitude"):
        decompose(X, paper, FIT)
    with pytest.raises(ValueError, match="colour_step_size: spectra that add as log magnitude know no colour"):
        replace(FIT, mixing="log magnitude", colour_step_size=0.1)
    with pytest.raises(ValueError, match="start: what adds as compressed magnitude starts even"):
        CodeFit(iterations=1, step_size=0.1, mixing="compressed magnitude", start="fitted")


def test_only_activations_move_while_a_search_warms_up_and_settles(generator):
    X, moved = random(generator, K, T), []
    for warm_up, settling in ((0, 0), (6, 0), (5, 1), (0, 5)):
        dictionary = SharedDictionary(flow_for(torch.Generator().manual_seed(0)), 2, False, HALF)
        fit = CodeFit(6, 0.02, mixing="compressed magnitude", warm_up=warm_up, settling=settling)
        decompose(X, dictionary, fit, generator=generator)
        moved.append(bool(dictionary.codes.any()))
    assert moved == [True, False, False, True]


def test_a_blend_weighs_mean_spectra_of_pianos_loudness_and_age_alike_for_all_notes():
    """Two notes of two pianos, 40 frames each; the value of a frame says what it is of."""
    values, sources, recordings, names = [], [], [], []
    for source, (piano, level) in enumerate([("ONE", 1.0), ("TWO", 2.0)] * 2):
        values += [[10 * (source // 2) + level, age] for age in range(40)]
        sources += [source // 2] * 40
        recordings += [source] * 40
        names.append(f"MAPS_ISOL_NO_M_S0_M{60 + source // 2}_{piano}")
    frames = Frames(np.array(values, np.float32), np.array(sources), np.array(recordings), tuple(names), "")
    spectra = mean_spectra(frames, 2)
    assert spectra.shape == (2, 2 * AGES, 2)
    assert spectra[1, :AGES, 0].tolist() == [11.0] * AGES
    assert spectra[0, AGES:, 0].tolist() == [2.0] * AGES
    assert spectra[0, :AGES, 1].tolist() == pytest.approx([0.0, 1.5, 4.5, 10.5, 22.5, 35.0])
    lacking = mean_spectra(replace(frames, sources=np.array([0] * 120 + [1] * 40)), 2)
    assert lacking[1, :AGES, 1].tolist() == pytest.approx([19.5] * AGES)
    blend = Blend(spectra)
    codes = torch.full((2, 1, 2 * AGES), -torch.inf)
    codes[:, 0, [0, AGES]] = 0.0
    assert blend.decode(codes)[:, 0].tolist() == [[1.5, 0.0], [11.5, 0.0]]


def test_what_a_flow_decodes_far_from_what_it_knows_is_no_infinite_entry():
    x = torch.tensor([[0.5, 1e3, -1e3], [0.1, 0.2, 0.3]], requires_grad=True)
    entries = HALF.entries(x)
    assert torch.allclose(entries.norm(dim=1), torch.ones(2))
    entries[:, 0].sum().backward()
    assert torch.isfinite(x.grad).all()
