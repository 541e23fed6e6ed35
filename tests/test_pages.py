import base64
import io
import re
from types import SimpleNamespace

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from matplotlib.colors import to_rgb

from ddslib.config import Pitches
from ddslib.pages import comparison, figures, players, plots, reports
from ddslib.pages.chapter import Beside, open_chapter, open_study
from ddslib.pages.flows import NoteFrames
from ddslib.search.search import Decomposition

PITCHES = Pitches(60, 71)
N, K, T, C = 12, 256, 20, 3


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


@pytest.fixture
def study(smoke, generator):
    """What figures and reports look at: noise that is decomposed perfectly, but in which only the second note sounds.

    In what was found the first note is the loudest.
    """
    Y = torch.zeros(N, T, dtype=torch.bool)
    Y[1] = True
    X = torch.rand(K, T, generator=generator)
    H = torch.full((N * C, T), 0.01)
    H[:C] = 2.0
    H[C : 2 * C] = 1.0
    codes, history = torch.rand(N, C, K, generator=generator), torch.tensor([4.0, 2.0, 3.0])
    result = Decomposition(
        H=H, A=H.unflatten(0, (N, C)).sum(dim=1), E=torch.ones(N, T), X_hat=X, codes=codes, colour=None,
        cost=history + 1, distance=history, step_size=torch.tensor([0.1, 0.1, 0.05]), seconds=1.0,
        ended="iterations made",
    )  # fmt: skip
    return SimpleNamespace(
        profile=smoke, settings=SimpleNamespace(step_size=0.1), front_end=smoke.front_end, pitches=PITCHES,
        flow=SimpleNamespace(code_dimensions=9), X=X, Y=Y, result=result,
    )  # fmt: skip


def test_every_figure_labels_its_axes(ax, smoke):
    front_end = smoke.front_end
    X, A, Y = torch.rand(256, 20), torch.rand(12, 20), torch.rand(12, 20) < 0.2
    drawings = {
        "time (s) / amplitude": lambda ax: plots.waveform(ax, np.zeros(100), 16000),
        "time (s) / frequency (kHz)": lambda ax: plots.spectrogram(ax, X, front_end),
        "time (s) / pitch": lambda ax: plots.activations(ax, A, front_end, PITCHES),
        "time (s) / pitch ": lambda ax: plots.piano_roll(ax, Y, front_end, PITCHES),
        "time (s) / pitch  ": lambda ax: plots.attribution(ax, A, Y, front_end, PITCHES),
        "time (s) / entry, sorted by pitch": lambda ax: plots.components(ax, torch.rand(700, 20), front_end),
        "iteration / cost J": lambda ax: plots.cost_history(ax, torch.rand(9) + 1),
        "ε (activity) / share of cells ≤ ε": lambda ax: plots.sparsity(ax, {"A": A}, Y, 1e-2),
    }
    for labels, draw in drawings.items():
        ax.clear()
        draw(ax)
        assert f"{ax.get_xlabel()} / {ax.get_ylabel()}" == labels.rstrip()


def test_a_spectrogram_places_every_bin_and_frame_on_its_centre(ax, smoke):
    plots.spectrogram(ax, torch.rand(256, 20), smoke.front_end)
    left, right, bottom, top = ax.images[0].get_extent()
    frame, hertz = 512 / 16000, 16000 / 2048
    assert (left, right) == pytest.approx((-frame / 2, 19.5 * frame))
    assert (bottom, top) == pytest.approx((0.5 * hertz / 1000, 256.5 * hertz / 1000))


def test_attribution_tells_right_wrong_and_missed_apart(ax, smoke):
    A, Y = np.zeros((12, 4)), np.zeros((12, 4))
    A[0, 0] = A[1, 1] = 1.0
    Y[0, 0] = Y[2, 2] = 1
    plots.attribution(ax, A, Y, smoke.front_end, PITCHES)
    image = ax.images[0].get_array()
    assert np.allclose(image[0, 0], to_rgb(plots.RIGHT))
    assert np.allclose(image[1, 1], to_rgb(plots.WRONG))
    assert np.allclose(image[2, 2], to_rgb(plots.MISSED))
    assert np.allclose(image[5, 3], (1, 1, 1))


def test_every_figure_of_several_panels_is_one_figure_with_labelled_axes(study):
    before, after = torch.rand(N, K, 1), torch.rand(N, K, C)
    values, bars = study.result.codes[:, :, 0], torch.rand(N)
    drawings = [
        lambda: figures.mixture(study),
        lambda: figures.activations(study, brightest=1),
        lambda: figures.components(study),
        lambda: figures.attribution(study),
        lambda: figures.fit(study),
        lambda: figures.cost(study, silence=5),
        lambda: figures.sparsity(study),
        lambda: figures.dictionaries(study, before, after),
        lambda: figures.entry(study, 1, 0, before[1, :, 0], after[1, :, 0]),
        lambda: figures.most_active_note(study, before, after),
        lambda: figures.codes(study, Beside(values, bars), Beside(values, bars)),
    ]
    for draw in drawings:
        plt.close("all")
        assert draw() is None  # a notebook would show what comes back
        assert len(plt.get_fignums()) == 1
        plt.gcf().canvas.draw()
        axes = plt.gcf().axes
        assert axes[0].get_ylabel()
        assert any(ax.get_xlabel() for ax in axes)
    plt.close("all")


def test_the_most_active_note_is_the_one_with_the_most_right_activity(study):
    figures.most_active_note(study, torch.rand(N, K, 1), torch.ones(N, K, C))
    spectra, strengths = plt.gcf().axes
    assert spectra.get_title() == "C♯4"  # the first note is louder, and wrong
    lines = spectra.get_legend_handles_labels()[1]
    assert lines == ["frame of X", "mode", "entry 1", "entry 2", "entry 3"]
    assert np.allclose([line.get_ydata() for line in strengths.lines], K**0.5)  # norm times activation
    plt.close("all")


def test_dictionaries_are_shown_source_by_source_and_scaled_to_norm_1(study):
    after = torch.arange(1.0, N + 1)[:, None, None] * torch.ones(N, K, C)
    after[2, 0] = 0
    figures.dictionaries(study, torch.ones(N, K, 1), after)
    image = plt.gcf().axes[1].images[0].get_array()
    assert image.shape == (K, N * C)
    assert np.allclose(np.linalg.norm(image, axis=0), 1)
    assert (image[0] == 0).nonzero()[0].tolist() == [6, 7, 8]
    plt.close("all")


def test_reports_tell_what_was_found(study, capsys):
    def lines(report, *arguments):
        report(*arguments)
        return capsys.readouterr().out.splitlines()

    assert lines(reports.search, study) == [
        "3 iterations of step size 0.1; ended: iterations made",
        "distance after the first iteration 4, the smallest 2",
        "largest rise from one iteration to the next: by a factor of 1.5",
        "halvings of the step size: 1",
    ]
    assert "relative error 0.000" in lines(reports.measured, study)
    found = study.X, study.Y, study.result.X_hat, study.result.A
    assert reports.quality(*found)["PSA"] == pytest.approx(1 / 3.1)
    assert reports.in_short(*found) == "PSA 0.323, average precision 0.500, relative error 0.000"
    values, bars = torch.arange(float(N))[:, None], torch.full((N,), 7.0)
    lengths, nats, root = lines(reports.codes, study, Beside(values, bars), Beside(-values, bars))
    assert lengths == "‖z‖: entries of sounding notes 1, of notes that never sound 6, validation frames 7"
    assert nats.startswith("log p, nats per dimension: entries of sounding notes -1, ")
    assert root == "√D: 3"
    apart = torch.eye(K)[:, :2].expand(N, K, 2)  # entries without a common partial
    assert lines(reports.cosines, study, apart)[1:] == [
        "  notes that sound somewhere 0.000",
        "  notes that never sound 0.000",
    ]
    study.Y = torch.ones(N, T, dtype=torch.bool)
    assert "never sound" not in "".join(lines(reports.cosines, study, apart))
    assert not lines(reports.cosines, study, apart[:, :, :1])
    assert reports.pace({"seconds": 3.0, "iterations": 100, "device": "cpu"}) == "30 ms an iteration on cpu"


def test_a_chapter_opens_a_profile_with_keys_changed(tmp_path):
    parameters = {"profile": "smoke", "settings": {"nmf.iterations": 7}, "work_dir": tmp_path, "maps_root": ""}
    workspace = open_chapter(parameters | {"device": "cpu", "seed": 5})
    assert workspace.settings("nmf").iterations == 7
    assert workspace.profile.seed == 5
    assert plt.rcParams["image.cmap"] == "magma"
    assert plt.rcParams["axes.prop_cycle"].by_key()["color"] == [plots.RIGHT, plots.WRONG, plots.MISSED, plots.INK]


def test_a_study_opens_with_what_a_notebook_sets(tmp_path):
    parameters = {"profile": "smoke", "settings": {"dds2.components": 3}, "work_dir": tmp_path, "maps_root": ""}
    chords = {"test_root": "", "instrument": None, "polyphony": 2, "intensity": None, "chords": 1, "seed": 5}
    study = open_study("dds2", parameters | {"device": "cpu"} | chords)
    assert study.settings.components == 3
    assert (study.experiment.polyphony, study.experiment.chords, study.experiment.seed) == (2, 1, 5)


def test_some_frames_are_spread_evenly_and_never_too_many():
    held_out = np.arange(10) != 1
    stored = SimpleNamespace(values=np.arange(10.0)[:, None], sources=np.arange(10))
    stored.validation = lambda training, seed: held_out
    profile = SimpleNamespace(training=None)
    workspace = SimpleNamespace(frames=lambda without: stored, profile=profile, device="cpu")
    frames = NoteFrames(workspace, "a piano", seed=0)
    values, sources = frames.some(frames.held_out, 4)
    assert sources.tolist() == [0, 4, 7] == values[:, 0].tolist()
    assert len(frames.some(frames.held_out, 9)[0]) == 9


def test_players_keep_the_sound_and_its_loudness():
    sound = 0.1 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    page = players.players({"soft & low": sound, "loud": 5 * sound}, 16000)._repr_html_()
    assert page.count("<audio") == 2
    assert "soft &amp; low" in page
    levels = []
    for data in re.findall(r"base64,([^\"]+)", page):
        decoded, rate = soundfile.read(io.BytesIO(base64.b64decode(data)))
        assert rate == 16000
        assert np.abs(np.fft.rfft(decoded[:16000])).argmax() == pytest.approx(440, abs=2)
        levels.append(np.abs(decoded[4000:12000]).max())
    assert levels[1] / levels[0] == pytest.approx(5, rel=0.05)


@pytest.mark.parametrize("pianos", [["NEAR"], ["NEAR", "FAR"], ["NEAR", "FAR", "OTHER"]], ids=len)
def test_methods_are_compared_on_any_number_of_pianos(pianos):
    measured = ("psa", "average_precision", "relative_error")
    lines = pd.MultiIndex.from_product([comparison.METHODS, pianos, measured])
    estimates = pd.DataFrame({"low": 0.6, "high": 0.8, "mean": 0.5}, index=lines)  # outside of its interval
    comparison.by_method(estimates, pianos)
    ax = plt.gcf().axes[0]
    assert len(ax.containers) == len(pianos)
    bars = ax.containers[0].lines[2][0].get_segments()
    assert all(bar[:, 1] == pytest.approx([0.6, 0.8]) for bar in bars)
    assert [text.get_text() for text in ax.get_xticklabels()] == list(comparison.NAMES.values())
    others = comparison.tables(estimates, pianos[1:])
    assert len(others) == len(comparison.METHODS) * (len(pianos) - 1)
    plt.close("all")
