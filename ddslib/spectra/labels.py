"""From notes to the piano roll Y (N, T), sources by frames, and to labelled spectrograms."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from ..config import FrontEnd, InputError, Pitches
from ..recordings.audio import read_audio
from ..recordings.maps import Recording
from ..recordings.notes import Note, read_notes
from .spectrogram import spectrogram


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


def _first_frame(position):
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
