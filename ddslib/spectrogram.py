"""From waveforms to log-magnitude spectrograms, from notes to piano rolls, and both cut to mixtures.

Conventions: X is (K, T), frequency bins by frames, from the lowest kept bin up, without the constant
(DC) bin.  Y is (N, T), sources by frames.  Frame t is centred on sample ``t * hop``.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .config import FrontEnd, InputError, Pitches
from .maps import Note, Recording, read_audio, read_notes, warn_of_disagreements

ROUNDS, MOMENTUM = 32, 0.99  # of the search for phases


def magnitude(audio: Tensor, front_end: FrontEnd) -> Tensor:
    """``S = 2 |STFT| / sum(window)``: a sinusoid's peak is its amplitude (Hann window).

    `audio` is (samples,); the result is (K, T) with T = 1 + samples // hop.  The ends are padded
    with silence.
    """
    window = _window(front_end, audio)
    return 2 * _stft(audio, front_end, window)[1 : 1 + front_end.bins].abs() / window.sum()


def _window(front_end: FrontEnd, like: Tensor) -> Tensor:
    return torch.hann_window(front_end.n_fft, dtype=like.dtype, device=like.device)


def _stft(audio: Tensor, front_end: FrontEnd, window: Tensor) -> Tensor:
    """The whole complex spectrum: (1 + n_fft / 2, T)."""
    return torch.stft(
        audio, front_end.n_fft, front_end.hop, window=window, center=True, pad_mode="constant", return_complex=True
    )


def compress(magnitudes: Tensor, gamma: float) -> Tensor:
    """``X = log(1 + gamma S) / log(1 + gamma)``: nominally in [0, 1], more where S exceeds 1."""
    return torch.log1p(gamma * magnitudes) / np.log1p(gamma)


def expand(X: Tensor, gamma: float) -> Tensor:
    """The magnitudes S whose compression is X."""
    return torch.expm1(X * np.log1p(gamma)) / gamma


def spectrogram(audio: Tensor, front_end: FrontEnd) -> Tensor:
    """Log-magnitude spectrogram X of `audio` (samples,) at the front end's rate: (K, T)."""
    return compress(magnitude(audio, front_end), front_end.gamma)


def synthesise(X: Tensor, front_end: FrontEnd, seed: int = 0) -> Tensor:
    """A sound (samples,) whose spectrogram is about X (K, T), with phases that are found from random ones.

    Values of X outside [0, 1] are cut off, bins that are not kept are silent, and a sound that would exceed full
    scale is made softer.  Phases are searched as by Griffin and Lim (1984), with the momentum of Perraudin, Balazs and
    Søndergaard (2013): librosa has the same, but what it compiles on the way takes longer than all the rest.
    """
    S = expand(X.clamp(0, 1), front_end.gamma)
    window = _window(front_end, X)
    above = front_end.n_fft // 2 - front_end.bins
    magnitudes = functional.pad(S * window.sum() / 2, (0, 0, 1, above))
    angles = torch.rand(magnitudes.shape, generator=torch.Generator(X.device).manual_seed(seed), device=X.device)
    phases, before = torch.exp(2j * torch.pi * angles), 0.0
    for _ in range(ROUNDS):
        spectrum = _stft(_istft(magnitudes * phases, front_end, window), front_end, window)
        phases, before = torch.sgn(spectrum - MOMENTUM / (1 + MOMENTUM) * before), spectrum
    audio = _istft(magnitudes * phases, front_end, window)
    return audio / audio.abs().max().clamp(min=1)


def _istft(spectrum: Tensor, front_end: FrontEnd, window: Tensor) -> Tensor:
    """The sound (samples,) whose transform comes nearest to `spectrum`."""
    return torch.istft(spectrum, front_end.n_fft, front_end.hop, window=window, center=True)


def frequencies(front_end: FrontEnd) -> np.ndarray:
    """Centre of each kept bin in Hz: (K,)."""
    return np.arange(1, front_end.bins + 1) * front_end.sample_rate / front_end.n_fft


def times(frames: int, front_end: FrontEnd) -> np.ndarray:
    """Centre of each frame in seconds: (T,)."""
    return np.arange(frames) * front_end.hop / front_end.sample_rate


def piano_roll(notes: Iterable[Note], frames: int, front_end: FrontEnd, pitches: Pitches) -> Tensor:
    """Y (N, T), boolean: a note is active in the frames whose centre lies in [onset, offset).

    Times go to frames by the exact rate, sample_rate / hop, so labels do not drift.
    Raises `InputError` for a note outside `pitches`.
    """
    rate = front_end.sample_rate / front_end.hop
    roll = torch.zeros(len(pitches.numbers), frames, dtype=torch.bool)
    for note in notes:
        if note.pitch not in pitches.numbers:
            raise InputError(f"note {note.pitch} is outside the sources {pitches.lowest}..{pitches.highest}")
        roll[note.pitch - pitches.lowest, _first_frame(note.onset * rate) : _first_frame(note.offset * rate)] = True
    return roll


def _first_frame(position: float) -> int:
    """The first frame at or after `position`, forgiving the rounding of times that mean a frame's centre."""
    return int(np.ceil(position - 1e-6))


def labelled_spectrogram(recording: Recording, front_end: FrontEnd, pitches: Pitches) -> tuple[Tensor, Tensor]:
    """X (K, T) and Y (N, T) of one recording, silent frames included."""
    X = spectrogram(torch.from_numpy(read_audio(recording.path, front_end.sample_rate)), front_end)
    try:
        Y = piano_roll(read_notes(recording, front_end.label_rule), X.shape[1], front_end, pitches)
    except InputError as error:
        raise InputError(f"{recording.midi}: {error}") from error
    return X, Y


@dataclass(frozen=True)
class Snippet:
    """A mixture to decompose: recordings joined, silent frames dropped (paper §V-A)."""

    X: Tensor  # (K, T)
    Y: Tensor  # (N, T), boolean
    chord: Tensor  # (T,): index of the recording that a frame is from
    recordings: tuple[Recording, ...]


def snippet(recordings: Iterable[Recording], front_end: FrontEnd, pitches: Pitches) -> Snippet:
    """Join the active frames of `recordings`.

    Raises `InputError` naming the recordings if no frame of theirs has an active note.
    """
    recordings = tuple(recordings)
    warn_of_disagreements(recordings)
    pairs = [labelled_spectrogram(recording, front_end, pitches) for recording in recordings]
    active = [Y.any(dim=0) for _, Y in pairs]
    if not any(a.any() for a in active):
        names = ", ".join(recording.name for recording in recordings) or "no recordings"
        raise InputError(f"no frame with an active note in {names}; expected notes longer than a frame")
    return Snippet(
        X=torch.cat([X[:, a] for (X, _), a in zip(pairs, active, strict=True)], dim=1),
        Y=torch.cat([Y[:, a] for (_, Y), a in zip(pairs, active, strict=True)], dim=1),
        chord=torch.cat([torch.full((int(a.sum()),), index) for index, a in enumerate(active)]),
        recordings=recordings,
    )
