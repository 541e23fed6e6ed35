"""Mixtures to decompose: the active frames of chords, one after the other.

In what domain the spectra of their notes add is for the objective to say: `ddslib.search.objective`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import FrontEnd, InputError, Pitches
from ..recordings.maps import Recording
from ..recordings.notes import warn_of_disagreements
from .labels import labelled_spectrogram


@dataclass(frozen=True)
class Mixture:
    """A mixture to decompose: recordings joined, silent frames dropped (paper §V-A)."""

    X: Tensor  # (K, T)
    Y: Tensor  # (N, T), boolean
    chord: Tensor  # (T,): index of the recording that a frame is from
    recordings: tuple[Recording, ...]


def mixture(recordings: Iterable[Recording], front_end: FrontEnd, pitches: Pitches) -> Mixture:
    """Join the active frames of `recordings`.

    Raises `InputError` naming the recordings if no frame of theirs has an active note.
    """
    recordings = tuple(recordings)
    warn_of_disagreements(recordings)
    pairs = [labelled_spectrogram(recording, front_end, pitches) for recording in recordings]
    if not any(Y.any() for _, Y in pairs):
        names = ", ".join(recording.name for recording in recordings) or "no recordings"
        raise InputError(f"no frame with an active note in {names}; expected notes longer than a frame")
    chord = torch.cat([torch.full(Y.shape[1:], index) for index, (_, Y) in enumerate(pairs)])
    X, Y = (torch.cat(parts, dim=1) for parts in zip(*pairs, strict=True))
    active = Y.any(dim=0)
    return Mixture(X[:, active], Y[:, active], chord[active], recordings)
