"""MAPS on disk: names, recordings, audio and notes.

MAPS (Emiya, Badeau and David 2010) stores each recording as three files of one base name: ``.wav``,
``.mid`` and ``.txt``.  The base name says everything about the recording, so that is what is parsed;
the folders above it vary between copies of the data set and are ignored.
"""

import csv
import logging
import re
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr

from .config import InputError, LabelRule

with redirect_stdout(None):  # its fluidsynth prints where it was found, if there is a variable CI
    import pretty_midi

log = logging.getLogger(__name__)

TOLERANCE = 0.05  # s: a .txt and a .mid whose onsets differ by more do not describe one performance

_FIELDS = {
    "style": "NO|LG|ST|RE|TR1|TR2",
    "step": r"\d+(?:\.\d+)?",
    "loudness": "[PMF]",
    "sustain": "[01]",
    "pitch": r"\d+",
    "polyphony": r"\d+",
    "lowest": r"\d+",
    "highest": r"\d+",
    "intensity": r"I\d+-\d+",
    "chord": r"\d+(?:-\d+)*",
    "number": r"\d+",
    "piece": ".+",
    "instrument": "[^_]+",
}
_NUMBERS = {"sustain", "pitch", "polyphony", "lowest", "highest", "number"}

# One template both writes and reads a kind of name, so the two cannot disagree.
_TEMPLATES = {
    "ISOL": "MAPS_ISOL_{style}_{loudness}_S{sustain}_M{pitch}_{instrument}",
    "ISOL/CH": "MAPS_ISOL_CH{step}_{loudness}_{instrument}",
    "RAND": "MAPS_RAND_P{polyphony}_M{lowest}-{highest}_{intensity}_S{sustain}_n{number}_{instrument}",
    "UCHO": "MAPS_UCHO_C{chord}_{intensity}_S{sustain}_n{number}_{instrument}",
    "MUS": "MAPS_MUS-{piece}_{instrument}",
}
_PATTERNS = {
    kind: re.compile(re.sub(r"\{(\w+)\}", lambda m: f"(?P<{m[1]}>{_FIELDS[m[1]]})", template))
    for kind, template in _TEMPLATES.items()
}


@dataclass(frozen=True)
class Recording:
    """One recording; the fields that its kind of name lacks are None.

    `set` is ISOL, RAND, UCHO or MUS; a chromatic scale is ISOL with `style` CH and has a `step` (s).
    `sustain` is 1 where the pedal is down, `number` the n of a chord, `path` the ``.wav``.
    """

    path: Path
    set: str
    instrument: str
    style: str | None = None
    step: str | None = None
    loudness: str | None = None
    sustain: int | None = None
    pitch: int | None = None
    polyphony: int | None = None
    lowest: int | None = None
    highest: int | None = None
    intensity: str | None = None
    chord: str | None = None
    number: int | None = None
    piece: str | None = None

    @property
    def name(self) -> str:
        """The base name, written from the fields."""
        kind = "ISOL/CH" if self.style == "CH" else self.set
        return _TEMPLATES[kind].format(**vars(self))

    @property
    def midi(self) -> Path:
        return self.path.with_suffix(".mid")

    @property
    def text(self) -> Path:
        return self.path.with_suffix(".txt")


class Note(NamedTuple):
    """One note: times in seconds, MIDI pitch and velocity (0 where unknown)."""

    onset: float
    offset: float
    pitch: int
    velocity: int


def parse(path: str | Path) -> Recording | None:
    """The recording that a ``.wav`` path names, or None if its base name is not of MAPS's grammar."""
    path = Path(path)
    for kind, pattern in _PATTERNS.items():
        if match := pattern.fullmatch(path.stem):
            values = {k: int(v) if k in _NUMBERS else v for k, v in match.groupdict().items()}
            if kind == "ISOL/CH":
                values["style"] = "CH"
            return Recording(path=path, set=kind.split("/")[0], **values)
    return None


def all_recordings(root: str | Path) -> list[Recording]:
    """Every recording below `root`, in a stable order: set, instrument, then field by field.

    Raises `InputError` if `root` is not a folder or holds no recording.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"MAPS root {root}: no such folder")
    paths = [path for path in root.rglob("MAPS_*") if path.suffix.lower() == ".wav" and not _is_hidden(path, root)]
    parsed = [parse(path) for path in paths]
    strange = sorted(path.name for path, recording in zip(paths, parsed, strict=True) if recording is None)
    if strange:
        _warn(f"{root}: skipped {len(strange)} file(s) not named as in MAPS, first {strange[0]}")
    recordings = [recording for recording in parsed if recording]
    if not recordings:
        raise InputError(f"MAPS root {root}: no MAPS_*.wav below it; expected ISOL, RAND, UCHO or MUS recordings")
    return sorted(recordings, key=_order)


@cache
def _warn(message: str) -> None:
    """Log a warning, once however often its cause is met again."""
    log.warning(message)


def _is_hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def find_recordings(root: str | Path, **criteria: Any) -> list[Recording]:
    """The recordings below `root` whose fields match all `criteria`, in a stable order.

    A criterion is a field's value or a tuple, list or range of allowed values, for example
    ``find_recordings(root, set="RAND", polyphony=2, intensity="I32-96", instrument="ENSTDkCl")``.
    Raises `InputError` for an unknown field or where nothing matches; of a tuple or list, values that
    match nothing are named in a warning.
    """
    unknown = criteria.keys() - {field.name for field in fields(Recording)}
    if unknown:
        raise InputError(f"recordings have no field {', '.join(sorted(unknown))}")
    recordings = all_recordings(root)
    for name, allowed in criteria.items():
        values = allowed if isinstance(allowed, tuple | list | range) else (allowed,)
        present = {getattr(r, name) for r in recordings}
        recordings = [r for r in recordings if getattr(r, name) in values]
        if not recordings:
            there = ", ".join(sorted(map(str, present)))
            raise InputError(f"{root}: no recording with {name} = {allowed}; it holds {there}")
        absent = set(values) - present
        if absent and not isinstance(values, range):
            _warn(f"{root}: no recording with {name} = {', '.join(sorted(map(str, absent)))}; going on without")
    return recordings


def _order(recording: Recording) -> tuple:
    values = (getattr(recording, field.name) for field in fields(Recording) if field.name != "path")
    return (*((value is not None, value if value is not None else 0) for value in values), str(recording.path))


def read_audio(path: Path, sample_rate: int) -> np.ndarray:
    """The file mixed to mono and resampled: float32, shape (samples,).

    Any sample rate and number of channels is accepted.  Raises `InputError` naming the file if it is
    missing, empty, truncated or not audio.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a WAV recording")
    if _is_truncated(path):
        raise InputError(f"{path}: truncated; its header promises more samples than the file holds")
    try:
        audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise InputError(f"{path}: not readable as audio ({error.error_string}); expected a WAV file") from error
    if len(audio) == 0:
        raise InputError(f"{path}: empty; expected at least one sample")
    if not np.isfinite(audio).all():
        raise InputError(f"{path}: holds samples that are not finite numbers")
    return soxr.resample(audio.mean(axis=1), rate, sample_rate)


def _is_truncated(path: Path) -> bool:
    """Whether a RIFF chunk reaches beyond the end of the file, which libsndfile forgives silently."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(12)[:4] != b"RIFF":
            return False
        while len(header := file.read(8)) == 8:
            name, length = struct.unpack("<4sI", header)
            if name == b"data":
                unknown = length in (0, 0xFFFFFFFF)  # written to a pipe
                return not unknown and file.tell() + length > size
            file.seek(length + length % 2, 1)
    return True


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


def _sustained(notes: list[Note], pedal: list[tuple[float, bool]], end: float) -> list[Note]:
    """Prolong each note to the pedal's release or to the next stroke of its key."""
    next_onset: dict[int, float] = {}
    sustained = []
    for note in reversed(notes):
        offset = max(note.offset, _release(pedal, note.offset, end))
        offset = min(offset, next_onset.get(note.pitch, offset))
        next_onset[note.pitch] = note.onset
        sustained.append(note._replace(offset=max(offset, note.offset)))
    return sustained[::-1]


def _release(pedal: list[tuple[float, bool]], time: float, end: float) -> float:
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
        with path.open(newline="", encoding="ascii") as file:
            rows = [row for row in csv.reader(file, delimiter="\t") if row]
        if rows[0] != ["OnsetTime", "OffsetTime", "MidiPitch"]:
            raise ValueError(f"header {rows[0]}")
        return sorted(Note(float(on), float(off), int(pitch), 0) for on, off, pitch in rows[1:])
    except (ValueError, IndexError) as error:
        raise InputError(f"{path}: expected OnsetTime, OffsetTime, MidiPitch in tabs ({error})") from error


def disagreements(recording: Recording, tolerance: float = TOLERANCE) -> int:
    """How many notes of the recording's ``.mid`` and ``.txt`` have no partner in the other.

    Partners have the same pitch and, in their order, onsets within `tolerance` seconds.
    """
    pitches: dict[int, list[list[float]]] = defaultdict(lambda: [[], []])
    for side, notes in enumerate((read_notes(recording), read_text(recording.text))):
        for note in notes:
            pitches[note.pitch][side].append(note.onset)
    count = 0
    for midi, text in pitches.values():
        partners = sum(abs(a - b) <= tolerance for a, b in zip(midi, text, strict=False))
        count += max(len(midi), len(text)) - partners
    return count


def warn_of_disagreements(recordings: Iterable[Recording]) -> int:
    """Log one warning that counts the recordings whose ``.mid`` and ``.txt`` disagree; return the count."""
    recordings = list(recordings)
    counts = [disagreements(recording) for recording in recordings]
    wrong = [recording for recording, count in zip(recordings, counts, strict=True) if count]
    if wrong:
        _warn(
            f"{len(wrong)} of {len(recordings)} recordings ({sum(counts)} notes): .mid and .txt onsets differ by more "
            f"than {1000 * TOLERANCE:g} ms, first {wrong[0].path}"
        )
    return len(wrong)


@dataclass(frozen=True)
class Holding:
    """What a tree holds of one instrument and set."""

    instrument: str
    set: str
    recordings: int
    hours: float
    missing: int  # .mid and .txt partners that are not there


def inventory(root: str | Path) -> list[Holding]:
    """Instrument x set: recordings, hours and missing partners below `root`."""
    groups: dict[tuple[str, str], Counter] = defaultdict(Counter)
    for recording in all_recordings(root):
        group = groups[recording.instrument, recording.set]
        group["recordings"] += 1
        group["seconds"] += _duration(recording.path)
        group["missing"] += (not recording.midi.is_file()) + (not recording.text.is_file())
    return [
        Holding(instrument, set_, int(g["recordings"]), g["seconds"] / 3600, int(g["missing"]))
        for (instrument, set_), g in sorted(groups.items())
    ]


def _duration(path: Path) -> float:
    try:
        return soundfile.info(path).duration
    except soundfile.LibsndfileError:
        return 0.0
