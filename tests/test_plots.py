import base64
import io
import re

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
import soundfile
import torch
from matplotlib.colors import to_rgb

from ddslib import plots
from ddslib.config import Pitches

PITCHES = Pitches(60, 71)


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


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
        "ε (activity) / share of cells ≤ ε": lambda ax: plots.sparsity_curve(ax, [1e-3, 1e-2], [0.1, 0.2]),
    }
    for labels, draw in drawings.items():
        ax.clear()
        draw(ax)
        assert f"{ax.get_xlabel()} / {ax.get_ylabel()}" == labels.rstrip()


def test_a_spectrogram_places_every_bin_and_frame_on_its_centre(ax, smoke):
    left, right, bottom, top = plots.spectrogram(ax, torch.rand(256, 20), smoke.front_end).get_extent()
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


def test_players_keep_the_sound_and_its_loudness():
    sound = 0.1 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    page = plots.players({"soft & low": sound, "loud": 5 * sound}, 16000).data
    assert page.count("<audio") == 2
    assert "soft &amp; low" in page
    levels = []
    for data in re.findall(r"base64,([^\"]+)", page):
        decoded, rate = soundfile.read(io.BytesIO(base64.b64decode(data)))
        assert rate == 16000
        assert np.abs(np.fft.rfft(decoded[:16000])).argmax() == pytest.approx(440, abs=2)
        levels.append(np.abs(decoded[4000:12000]).max())
    assert levels[1] / levels[0] == pytest.approx(5, rel=0.05)
