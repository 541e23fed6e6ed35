"""MAPS on disk: the names of its recordings, and finding them by what their names say.

MAPS (Emiya, Badeau and David 2010) stores each recording as three files of one base name: ``.wav``,
``.mid`` and ``.txt``.  The base name says everything about the recording, so that is what is parsed;
the folders above it vary between copies of the data set and are ignored.
"""

import logging
import re
from collections import defaultdict
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import soundfile

from ..config import InputError

log = logging.getLogger(__name__)
_TEXTS = {
    "style": "NO|LG|ST|RE|TR1|TR2",
    "step": r"\d+(?:\.\d+)?",
    "loudness": "[PMF]",
    "intensity": r"I\d+-\d+",
    "chord": r"\d+(?:-\d+)*",
    "piece": ".+",
    "instrument": "[^_]+",
}
_NUMBERS = dict.fromkeys(("pitch", "polyphony", "lowest", "highest", "number"), r"\d+") | {"sustain": "[01]"}
_FIELDS = _TEXTS | _NUMBERS
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


def parse(path: str | Path) -> Recording | None:
    """The recording that a ``.wav`` path names, or None if its base name is not of MAPS's grammar."""
    path = Path(path)
    for kind, pattern in _PATTERNS.items():
        if match := pattern.fullmatch(path.stem):
            values = {k: int(v) if k in _NUMBERS else v for k, v in match.groupdict().items()}
            if kind == "ISOL/CH":
                values["style"] = "CH"
            return Recording(path, kind.split("/")[0], **values)
    return None


def all_recordings(root: str | Path) -> list[Recording]:
    """Every recording below `root`, in a stable order: set, instrument, then field by field.

    Raises `InputError` if `root` is not a folder or holds no recording.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"MAPS root {root}: no such folder")
    paths = [path for path in root.rglob("MAPS_*") if path.suffix.lower() == ".wav" and not _is_hidden(path, root)]
    parsed = {path: parse(path) for path in paths}
    if unparsed := sorted(path.name for path in paths if not parsed[path]):
        warn_once(f"{root}: skipped {len(unparsed)} file(s) not named as in MAPS, first {unparsed[0]}")
    recordings = sorted(filter(None, parsed.values()), key=sort_key)
    if not recordings:
        raise InputError(f"MAPS root {root}: no MAPS_*.wav below it; expected ISOL, RAND, UCHO or MUS recordings")
    return recordings


@cache
def warn_once(message: str):
    """Log a warning, once however often its cause is met again."""
    log.warning(message)


def _is_hidden(path, root):
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def find_recordings(root: str | Path, **criteria: Any) -> list[Recording]:
    """The recordings below `root` whose fields match all `criteria`, in a stable order.

    A criterion is a field's value or a tuple, list or range of allowed values, for example
    ``find_recordings(root, set="RAND", polyphony=2, intensity="I32-96", instrument="ENSTDkCl")``.
    Raises `InputError` for an unknown field or where nothing matches; of a tuple or list, values that
    match nothing are named in a warning.
    """
    if unknown := criteria.keys() - {field.name for field in fields(Recording)}:
        raise InputError(f"recordings have no field {_listed(unknown)}")
    recordings = all_recordings(root)
    for name, allowed in criteria.items():
        values = allowed if isinstance(allowed, tuple | list | range) else (allowed,)
        present = {getattr(r, name) for r in recordings}
        recordings = [r for r in recordings if getattr(r, name) in values]
        if not recordings:
            raise InputError(f"{root}: no recording with {name} = {allowed}; it holds {_listed(present)}")
        absent = set(values) - present
        if absent and not isinstance(values, range):
            warn_once(f"{root}: no recording with {name} = {_listed(absent)}; going on without")
    return recordings


def _listed(values):
    return ", ".join(sorted(map(str, values)))


def sort_key(recording: Recording) -> tuple:
    """What recordings are sorted by: set, instrument, then field by field."""
    values = (getattr(recording, field.name) for field in fields(Recording) if field.name != "path")
    return (*((value is not None, value if value is not None else 0) for value in values), str(recording.path))


class InventoryRow(NamedTuple):
    """What a tree holds of one instrument and set."""

    instrument: str
    set: str
    recordings: int
    hours: float
    missing: int  # .mid and .txt partners that are not there


def inventory(root: str | Path) -> list[InventoryRow]:
    """Instrument x set: recordings, hours and missing partners below `root`."""
    groups = defaultdict(list)
    for recording in all_recordings(root):
        groups[recording.instrument, recording.set].append(recording)
    rows = []
    for key, group in sorted(groups.items()):
        missing = sum(not path.is_file() for recording in group for path in (recording.midi, recording.text))
        rows.append(InventoryRow(*key, len(group), sum(map(_duration, group)) / 3600, missing))
    return rows


def _duration(recording):
    try:
        return soundfile.info(recording.path).duration
    except soundfile.LibsndfileError:
        return 0.0
