import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from ddslib.dictionaries import SampleDictionary


@pytest.fixture
def samples(generator):
    return torch.rand(50, 8, dtype=torch.float64, generator=generator)


@pytest.fixture
def sources():
    return torch.arange(50) // 10


@pytest.fixture(params=[50, 7], ids=["whole", "in blocks"])
def dictionary(request, samples, sources, monkeypatch):
    monkeypatch.setattr(SampleDictionary, "BLOCK", request.param)
    return SampleDictionary(samples, sources, 5)


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
    assert dictionary.parameters() == 400


def test_a_fixed_dictionary_has_no_codes(dictionary):
    assert dictionary.codes is None
    assert dictionary.penalty(torch.ones(50, 3)).value == 0
    with pytest.raises(TypeError, match="SampleDictionary has no codes"):
        dictionary.pull_back(torch.ones(8, 3), torch.ones(50, 3))


def test_every_sample_needs_a_source(samples):
    with pytest.raises(ValueError, match="50 samples but 3 sources"):
        SampleDictionary(samples, [0, 1, 2], 5)


STREAMED = """
    import re, sys
    from pathlib import Path
    import numpy as np, torch
    from ddslib.config import Fit
    from ddslib.decomposition import decompose
    from ddslib.dictionaries import SampleDictionary

    def private():
        return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

    M, K, T = 600_000, 256, 4
    samples = np.memmap(sys.argv[1], np.float32, mode="c", shape=(M, K))
    fit = Fit(2, 0.01, "projection", 0.0)
    decompose(torch.rand(K, T), SampleDictionary(samples[:1000], np.zeros(1000, int), 1), fit)
    before, peak = private(), 0.0
    correlate = SampleDictionary.correlate

    def watched(self, G):
        global peak
        gradient = correlate(self, G)
        peak = max(peak, private())
        return gradient

    SampleDictionary.correlate = watched
    decompose(torch.rand(K, T), SampleDictionary(samples, np.arange(M) % 60, 60), fit)
    print(peak - before, samples.nbytes / 2**20, 4 * M * T / 2**20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_six_hundred_thousand_entries_are_streamed_in_bounded_memory(tmp_path):
    path = tmp_path / "samples.f32"
    with path.open("wb") as file:
        file.truncate(600_000 * 256 * 4)  # a sparse file: nothing to write, all of it to read
    script = [sys.executable, "-c", textwrap.dedent(STREAMED), str(path)]
    output = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    used, dictionary, activations = map(float, output.split())
    # H, its gradient and Adam's two moments are needed; the dictionary is not.
    assert used < 5 * activations + 32
    assert used < dictionary / 6


def test_a_memory_mapped_dictionary_gives_what_one_in_memory_gives(tmp_path, generator, monkeypatch):
    from ddslib.config import Fit
    from ddslib.decomposition import decompose

    samples = torch.rand(5000, 32, generator=generator).numpy()
    samples.tofile(tmp_path / "samples.f32")
    mapped = np.memmap(tmp_path / "samples.f32", np.float32, mode="c", shape=samples.shape)
    sources = np.arange(5000) // 500
    X = torch.rand(32, 6, generator=generator)
    fit = Fit(50, 0.01, "projection", 0.0)
    whole = decompose(X, SampleDictionary(samples, sources, 10, resident=True), fit)
    monkeypatch.setattr(SampleDictionary, "BLOCK", 617)
    streamed = decompose(X, SampleDictionary(mapped, sources, 10), fit)
    assert torch.allclose(streamed.cost, whole.cost, rtol=1e-4)
    assert torch.allclose(streamed.A, whole.A, atol=1e-3 * float(whole.A.max()))
