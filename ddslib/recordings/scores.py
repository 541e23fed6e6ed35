"""What the rendered corpus plays: the score of every recording that a profile asks for."""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from ..artefacts import digest
from .maps import Recording
from .notes import Note
from .pianos import PIANOS
from .sampler import SAMPLE_RATE

ONSET = 0.5  # s, with the pedal up; with the pedal down everything but the pedal is PEDAL_LEAD later
PEDAL_LEAD = 0.2  # s between pedal and key, at the start and at the end
TAIL = 1.62  # s of recording after the last key is released
LENGTHS = {"NO": 2.0, "LG": 4.0, "ST": 0.15, "RAND": 0.65}  # s that a key is held
VELOCITIES = {"P": 40, "M": 64, "F": 96}


@dataclass(frozen=True)
class Score:
    """What is played in one recording: its notes, and when the pedal is down and up (s)."""

    recording: Recording
    notes: tuple[Note, ...]
    pedal: tuple[float, float] | None

    @property
    def end(self):
        """When the last damper falls, in seconds."""
        return self.pedal[1] if self.pedal else max(note.offset for note in self.notes)

    @property
    def samples(self):
        """How long the recording is, in samples."""
        return round((self.end + TAIL) * SAMPLE_RATE)


def generator_of(*key):
    """Random numbers that depend on what is drawn and on nothing else, such as the order of rendering."""
    return np.random.default_rng(int(digest(*key), 16))


def scores(root, rendering, pitches):
    """Every recording that `rendering` asks for, as a score with its place below `root`: ISOL, then RAND."""
    isolated = product(rendering.isol_instruments, rendering.styles, rendering.loudness, pitches.numbers)
    for code, style, loudness, pitch in isolated:
        generator = generator_of(PIANOS[code].preset, style, loudness, pitch)
        recording = Recording(
            root / code / "ISOL" / style, "ISOL", code,
            style=style, loudness=loudness, sustain=int(generator.integers(2)), pitch=pitch,
        )  # fmt: skip
        yield _score(recording, [(pitch, VELOCITIES[loudness])], LENGTHS[style])
    chords = product(rendering.rand_instruments, rendering.intensities, rendering.polyphonies)
    for code, intensity, polyphony in chords:
        folder = root / code / "RAND" / f"M{pitches.lowest}-{pitches.highest}" / intensity / f"P{polyphony}"
        softest, loudest = map(int, intensity[1:].split("-"))
        for number in range(1, rendering.chords + 1):
            generator = generator_of(PIANOS[code].preset, intensity, polyphony, number, *pitches.numbers)
            keys = sorted(generator.choice(pitches.numbers, polyphony, replace=False).tolist())
            velocities = generator.integers(softest, loudest, polyphony, endpoint=True).tolist()
            recording = Recording(
                folder, "RAND", code, polyphony=polyphony, lowest=pitches.lowest,
                highest=pitches.highest, intensity=intensity, sustain=int(generator.integers(2)), number=number,
            )  # fmt: skip
            yield _score(recording, zip(keys, velocities, strict=True), LENGTHS["RAND"])


def _score(recording, keys, length):
    """`keys` (pitch, velocity) held for `length` seconds; the recording's path is still its folder."""
    recording = replace(recording, path=recording.path / f"{recording.name}.wav")
    onset = ONSET + PEDAL_LEAD * recording.sustain
    release = onset + length
    pedal = (ONSET, release + PEDAL_LEAD) if recording.sustain else None
    return Score(recording, tuple(Note(onset, release, *key) for key in keys), pedal)
