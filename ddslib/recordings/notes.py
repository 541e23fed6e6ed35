"""The notes of a recording, from its ``.mid``; its ``.txt`` is read only to see whether the two agree."""

from collections import defaultdict
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple

with redirect_stdout(None):  # its fluidsynth prints where it was found, if there is a variable CI
    import pretty_midi
from ..config import InputError, LabelRule
from .maps import Recording, warn_once

ONSET_TOLERANCE = 0.05  # s: a .txt and a .mid whose onsets differ by more do not describe one performance


class Note(NamedTuple):
    """One note: times in seconds, MIDI pitch and velocity (0 where unknown)."""

    onset: float
    offset: float
    pitch: int
    velocity: int


def read_notes(recording: Recording, rule: LabelRule = "key") -> list[Note]:
    """The recording's notes from its MIDI file, sorted by onset and pitch.

    With ``rule="key"`` a note ends when its key is released; with ``"pedal"`` it sounds on until the
    sustain pedal is lifted or the same pitch is struck again, as in MAPS's ``.txt`` files.
    Raises `InputError` naming a MIDI file that is missing, corrupt or without notes.
    """
    path = recording.midi
    if not path.is_file():
        raise InputError(f"{path}: no such file; every recording needs its MIDI file")
    try:
        midi = pretty_midi.PrettyMIDI(str(path))
    except Exception as error:  # the parser raises whatever its first unexpected byte leads to
        raise InputError(f"{path}: not readable as MIDI ({error})") from error
    notes = sorted(
        Note(n.start, n.end, n.pitch, n.velocity) for instrument in midi.instruments for n in instrument.notes
    )
    if not notes:
        raise InputError(f"{path}: holds no notes")
    if rule == "key":
        return notes
    pedal = [(c.time, c.value >= 64) for i in midi.instruments for c in i.control_changes if c.number == 64]
    return _sustained(notes, sorted(pedal), midi.get_end_time())


def _sustained(notes, pedal, end):
    """Prolong each note to the pedal's release or to the next stroke of its key."""
    next_onset, sustained = {}, []
    for note in reversed(notes):
        offset = min(_release(pedal, note.offset, end), next_onset.get(note.pitch, end))
        next_onset[note.pitch] = note.onset
        sustained.append(note._replace(offset=max(offset, note.offset)))
    return sustained[::-1]


def _release(pedal, time, end):
    """When the dampers fall for a key released at `time`: at once, or when the pedal is next lifted."""
    down = [is_down for change, is_down in pedal if change <= time]
    if not down or not down[-1]:
        return time
    return next((change for change, is_down in pedal if change > time and not is_down), end)


def read_text(path: Path) -> list[Note]:
    """The notes of a MAPS ``.txt`` file (its offsets include the pedal), sorted by onset and pitch.

    Raises `InputError` naming a file that is missing or not of MAPS's three columns.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected MAPS's table of notes")
    try:
        header, *rows = (line.split("\t") for line in path.read_text("ascii").splitlines() if line)
        if header != ["OnsetTime", "OffsetTime", "MidiPitch"]:
            raise ValueError(f"header {header}")
        return sorted(Note(float(on), float(off), int(pitch), 0) for on, off, pitch in rows)
    except ValueError as error:
        raise InputError(f"{path}: expected OnsetTime, OffsetTime, MidiPitch in tabs ({error})") from error


def disagreements(recording: Recording) -> int:
    """How many notes of the recording's ``.mid`` and ``.txt`` have no partner in the other.

    Partners have the same pitch and, in their order, onsets within ONSET_TOLERANCE.
    """
    pitches = defaultdict(lambda: ([], []))  # the onsets of each, in the .mid and in the .txt
    for side, notes in enumerate((read_notes(recording), read_text(recording.text))):
        for note in notes:
            pitches[note.pitch][side].append(note.onset)
    count = 0
    for midi, text in pitches.values():
        partners = sum(abs(a - b) <= ONSET_TOLERANCE for a, b in zip(midi, text, strict=False))
        count += max(len(midi), len(text)) - partners
    return count


def warn_of_disagreements(recordings: Iterable[Recording]) -> int:
    """Log one warning that counts the recordings whose ``.mid`` and ``.txt`` disagree; return the count."""
    counts = {recording: disagreements(recording) for recording in recordings}
    wrong = [recording for recording, count in counts.items() if count]
    if wrong:
        warn_once(
            f"{len(wrong)} of {len(counts)} recordings ({sum(counts.values())} notes): .mid and .txt onsets differ by "
            f"more than {1000 * ONSET_TOLERANCE:g} ms, first {wrong[0].path}"
        )
    return len(wrong)
