"""In what domain spectra add: how log-compressed spectra, X and entries alike, get there.

The paper adds them as they are.  Compressed magnitudes add far better: chapter 11 measures how well.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..spectra.spectrogram import compress, expand

KNOTS = 24  # of a colour, evenly spaced in log frequency
SMALLEST = 1e-7  # magnitude of an entry: a root has no finite slope at zero
LARGEST = 2.0  # that an entry is cut off at, compressed: far from what it knows, a flow decodes what no recording holds


@dataclass(frozen=True)
class LogMagnitude:
    """Spectra add as they are, log-compressed (paper §IV-C)."""

    name = "log magnitude"

    def entries(self, x: Tensor) -> Tensor:
        """Entries of spectra x (..., K): their positive parts."""
        return x.clamp(min=0)


@dataclass(frozen=True)
class CompressedMagnitude:
    """Magnitudes to the power p add, and an entry has norm 1: it has no loudness of its own.

    `gamma` is that of the log compression that is taken back.
    """

    gamma: float
    exponent: float = 0.5  # p

    name = "compressed magnitude"

    def mixture(self, X: Tensor, floor: Tensor) -> Tensor:
        """Xᵖ = (S + ε)ᵖ of a log-compressed spectrogram, where ε () is the `floor`."""
        return (expand(X, self.gamma) + floor) ** self.exponent

    def spectrogram(self, X_hat: Tensor, floor: Tensor) -> Tensor:
        """The way back: the log-compressed spectrogram whose `mixture` is X̂."""
        return compress((X_hat ** (1 / self.exponent) - floor).clamp(min=0), self.gamma)

    def entries(self, x: Tensor, colour: Tensor | None = None) -> Tensor:
        """w = cᵖ sᵖ / ‖cᵖ sᵖ‖ of log-compressed spectra x (..., K); `colour` is log c at its knots."""
        return self.coloured((expand(x.clamp(0, LARGEST), self.gamma) + SMALLEST) ** self.exponent, colour)

    def coloured(self, w: Tensor, colour: Tensor | None) -> Tensor:
        """Entries w (..., K) as a recording of that colour has them, of norm 1."""
        if colour is not None:
            w = w * (self.exponent * log_gains(colour, w.shape[-1])).exp()
        return functional.normalize(w, dim=-1)


def log_gains(colour: Tensor, bins: int) -> Tensor:
    """log c (K,) of a colour, of which log c at the knots is given: linear between them, and of mean zero."""
    return _hats(bins, colour.dtype, colour.device) @ colour


@lru_cache
def _hats(bins, dtype, device):
    """A hat function for each knot (K, knots), less its mean; on its device once, since recorded work may not copy."""
    places = np.log(np.arange(1, bins + 1)) / np.log(max(bins, 2)) * (KNOTS - 1)
    hats = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(KNOTS)))
    return torch.from_numpy(hats - hats.mean(axis=0)).to(device, dtype)
