from dataclasses import replace
from fractions import Fraction

import librosa
import numpy as np
import pytest
import torch
from helpers import write_recording

from ddslib.config import InputError, Pitches
from ddslib.recordings import maps
from ddslib.recordings.notes import Note
from ddslib.spectra import labels, spectrogram
from ddslib.spectra.mixture import mixture


@pytest.fixture
def front_end(smoke):
    return replace(smoke.front_end, bins=1024)


def sine(hertz, amplitude, seconds=1.0, rate=16000):
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    return amplitude * torch.sin(2 * torch.pi * hertz * time)


@pytest.mark.parametrize(("index", "amplitude"), [(0, 0.3), (40, 0.5), (511, 1.0), (1000, 0.01)])
def test_a_sinusoid_shows_its_amplitude_in_its_bin(front_end, index, amplitude):
    hertz = (index + 1) * 16000 / 2048
    assert spectrogram.frequencies(front_end)[index] == hertz
    column = spectrogram.magnitude(sine(hertz, amplitude), front_end)[:, 15]
    assert column.argmax() == index
    if index:  # in the lowest bin the mirror image of the negative frequency adds to the peak
        assert column[index] == pytest.approx(amplitude, rel=1e-4)


def test_magnitude_is_librosa_s_scaled_and_without_its_constant_bin(front_end):
    audio = torch.randn(5000, dtype=torch.float64)
    reference = np.abs(librosa.stft(audio.numpy(), n_fft=2048, hop_length=512, pad_mode="constant"))
    S = spectrogram.magnitude(audio, front_end)
    assert S.shape == (1024, 1 + 5000 // 512)
    assert np.allclose(S, 2 * reference[1:] / (2048 / 2), atol=1e-9)
    lower = spectrogram.magnitude(audio, replace(front_end, bins=100))
    assert torch.equal(lower, S[:100])


def test_a_click_shows_in_the_frame_that_is_centred_on_it(front_end):
    audio = torch.zeros(16000)
    audio[10 * 512] = 1
    assert spectrogram.magnitude(audio, front_end).sum(dim=0).argmax() == 10


def test_compression_maps_one_to_one_and_is_undone():
    S = torch.cat([torch.zeros(1, dtype=torch.float64), torch.logspace(-6, 0.3, 50, dtype=torch.float64)])
    X = spectrogram.compress(S, 1e4)
    assert X[0] == 0
    assert spectrogram.compress(torch.ones(1, dtype=torch.float64), 1e4).item() == pytest.approx(1)
    assert X[-1] > 1  # louder than full scale is not clipped
    assert torch.allclose(spectrogram.expand(X, 1e4), S, rtol=1e-10)


def test_a_note_is_active_from_its_onset_to_just_before_its_offset(front_end):
    pitches = Pitches(60, 62)
    roll = labels.piano_roll([Note(3 * 0.032, 5 * 0.032, 61, 64)], 10, front_end, pitches)
    assert roll.nonzero().tolist() == [[1, 3], [1, 4]]
    roll = labels.piano_roll([Note(2.5 * 0.032, 5.01 * 0.032, 60, 64)], 10, front_end, pitches)
    assert roll.nonzero().tolist() == [[0, 3], [0, 4], [0, 5]]
    with pytest.raises(InputError, match=r"note 63 is outside the sources 60\.\.62"):
        labels.piano_roll([Note(0, 1, 63, 64)], 10, front_end, pitches)


def test_labels_do_not_drift_over_ten_minutes(front_end):
    onsets = [Fraction(k, 7) for k in range(0, 7 * 600, 3)]
    length = Fraction(1, 5)
    notes = [Note(float(on), float(on + length), 60, 64) for on in onsets]
    rate = Fraction(16000, 512)
    frames = int(601 * rate)
    expected = torch.zeros(frames, dtype=torch.bool)
    for on in onsets:
        first, last = -(-on * rate // 1), -(-(on + length) * rate // 1)
        expected[int(first) : int(last)] = True
    roll = labels.piano_roll(notes, frames, front_end, Pitches(60, 60))
    assert torch.equal(roll[0], expected)


def test_a_mixture_joins_active_frames_and_remembers_their_chord(tmp_path, smoke):
    keys = ([(0.2, 0.7, 60), (0.2, 0.7, 64)], [(0.32, 0.64, 67)])
    recordings = [
        maps.parse(write_recording(tmp_path, f"MAPS_RAND_P2_M60-71_I32-96_S0_n{n}_CODE1234", k))
        for n, k in enumerate(keys)
    ]
    joined = mixture(recordings, smoke.front_end, smoke.pitches)
    assert joined.chord.tolist() == [0] * 15 + [1] * 10
    assert joined.X.shape == (256, 25)
    assert joined.Y.sum(dim=0).tolist() == [2] * 15 + [1] * 10
    assert joined.Y[:, 20].nonzero().item() == 67 - 60
    whole, _ = labels.labelled_spectrogram(recordings[1], smoke.front_end, smoke.pitches)
    assert torch.equal(joined.X[:, 15:], whole[:, 10:20])


def test_a_mixture_without_an_active_frame_is_an_error(tmp_path, smoke):
    path = write_recording(tmp_path, "MAPS_RAND_P2_M60-71_I32-96_S0_n1_CODE1234", [(0.201, 0.21, 60)])
    with pytest.raises(InputError, match="no frame with an active note in MAPS_RAND_P2_M60-71_I32-96_S0_n1_CODE1234"):
        mixture([maps.parse(path)], smoke.front_end, smoke.pitches)
    with pytest.raises(InputError, match="no frame with an active note in no recordings"):
        mixture([], smoke.front_end, smoke.pitches)


def test_a_note_outside_the_sources_names_its_file(tmp_path, smoke):
    path = write_recording(tmp_path, "MAPS_RAND_P2_M60-71_I32-96_S0_n1_CODE1234", [(0.2, 0.7, 72)])
    with pytest.raises(InputError, match=r"CODE1234\.mid: note 72 is outside"):
        labels.labelled_spectrogram(maps.parse(path), smoke.front_end, smoke.pitches)


def test_a_sound_of_given_magnitudes_is_about_as_near_as_librosa_s(smoke):
    front_end = smoke.front_end
    chord = sum(sine(hertz, 0.1) * torch.linspace(1, 0, 16000) for hertz in (261.6, 329.6, 392.0)).float()
    X = spectrogram.spectrogram(chord, front_end)
    S = spectrogram.expand(X, front_end.gamma).numpy() * front_end.n_fft / 4
    padded = np.pad(S, ((1, front_end.n_fft // 2 - front_end.bins), (0, 0)))
    reference = librosa.griffinlim(padded, hop_length=front_end.hop, n_fft=front_end.n_fft, random_state=0)

    def error(sound):
        return float((spectrogram.spectrogram(sound, front_end) - X).norm() / X.norm())

    ours, theirs = error(spectrogram.synthesise(X, front_end)), error(torch.from_numpy(reference))
    assert ours < 1.5 * theirs
    assert ours < 0.2


def test_a_sound_does_not_exceed_full_scale(front_end):
    assert spectrogram.synthesise(torch.ones(1024, 20), front_end).abs().max() <= 1
