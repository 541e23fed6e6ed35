"""Recordings of any length, a segment at a time."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..config import InputError
from .decoded import SharedDictionary
from .dictionary import Dictionary
from .search import decompose
from .settings import Fit


def decompose_long(
    X: np.ndarray | Tensor,
    make: Callable[[int], Dictionary],
    fit: Fit,
    segment: int = 512,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, float]:
    """A (N, T) and the relative error of a recording of any length, `segment` frames at a time.

    X (K, T) may be memory-mapped and larger than memory; ``make(frames)`` gives a dictionary for so many
    frames.  Where entries are shared over time, so are the codes of all segments: they are found on frames that
    are spread evenly over X, and then fixed.  From then on it is NMF with few entries, so H is clamped as there.
    Raises `InputError` if X is silent.
    """
    frames = X.shape[1]

    def piece(columns):
        return torch.as_tensor(np.ascontiguousarray(X[:, columns])).to(device)

    shared = None
    dictionary = make(min(segment, frames))
    if isinstance(dictionary, SharedDictionary):
        spread = np.linspace(0, frames - 1, min(segment, frames)).round().astype(int)
        decompose(piece(spread), dictionary, fit, generator=generator)
        shared, fit = dictionary.fixed(), replace(fit, positivity="projection")
    found, missed, energy = [], 0.0, 0.0
    for first in range(0, frames, segment):
        part = piece(slice(first, first + segment))
        result = decompose(part, shared or make(part.shape[1]), fit, generator=generator)
        found.append(result.A)
        missed += float((part - result.X_hat).square().sum())
        energy += float(part.square().sum())
    if not energy:
        raise InputError("X is silent throughout; expected something to decompose")
    return torch.cat(found, dim=1), math.sqrt(missed / energy)
