"""From waveforms to log-magnitude spectrograms and back.

X is (K, T), frequency bins by frames, from the lowest kept bin up, without the constant (DC) bin.
Frame t is centred on sample ``t * hop``.  Window, hop and the rest are the profile's `front_end`; where it changes,
frames, flows, searches and rows are made anew, whose names are digests of it, but not the recordings.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..config import FrontEnd

PHASE_ITERATIONS, PHASE_MOMENTUM = 32, 0.99  # of the search for phases


def magnitude(audio: Tensor, front_end: FrontEnd) -> Tensor:
    """``S = 2 |STFT| / sum(window)``: a sinusoid's peak is its amplitude (Hann window).

    `audio` is (samples,); the result is (K, T) with T = 1 + samples // hop.  The ends are padded
    with silence.
    """
    window = _window(front_end, audio)
    return 2 * _stft(audio, front_end, window)[1 : 1 + front_end.bins].abs() / window.sum()


def _window(front_end, like):
    return torch.hann_window(front_end.n_fft, dtype=like.dtype, device=like.device)


def _stft(audio, front_end, window):
    """The whole complex spectrum: (1 + n_fft / 2, T)."""
    return torch.stft(audio, front_end.n_fft, front_end.hop, window=window, pad_mode="constant", return_complex=True)


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
    magnitudes = functional.pad(S * window.sum() / 2, (0, 0, 1, front_end.n_fft // 2 - front_end.bins))
    angles = torch.rand(magnitudes.shape, generator=torch.Generator(X.device).manual_seed(seed), device=X.device)
    phases, before = torch.exp(2j * torch.pi * angles), 0.0
    for _ in range(PHASE_ITERATIONS):
        spectrum = _stft(_istft(magnitudes * phases, front_end, window), front_end, window)
        phases, before = torch.sgn(spectrum - PHASE_MOMENTUM / (1 + PHASE_MOMENTUM) * before), spectrum
    audio = _istft(magnitudes * phases, front_end, window)
    return audio / audio.abs().max().clamp(min=1)


def _istft(spectrum, front_end, window):
    """The sound (samples,) whose transform comes nearest to `spectrum`."""
    return torch.istft(spectrum, front_end.n_fft, front_end.hop, window=window)


def frequencies(front_end: FrontEnd) -> np.ndarray:
    """Centre of each kept bin in Hz: (K,)."""
    return np.arange(1, front_end.bins + 1) * front_end.sample_rate / front_end.n_fft


def times(frames: int, front_end: FrontEnd) -> np.ndarray:
    """Centre of each frame in seconds: (T,)."""
    return np.arange(frames) * front_end.hop / front_end.sample_rate
