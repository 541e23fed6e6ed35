"""What experiments are made from: recordings, training frames and mixtures."""

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..artefacts import content_digest
from ..config import InputError, Instruments, Profile, validated
from ..recordings import corpus
from ..recordings.maps import Recording, find_recordings, warn_once
from ..recordings.pianos import can_be_had
from ..spectra.frames import Frames, prepare
from ..spectra.mixture import Mixture, mixture
from .experiment import Chords


class Data:
    """The recordings that a profile asks for, rendered or in a tree of MAPS's layout, and their frames."""

    def __init__(self, profile: Profile, folder: str | Path, maps_root: str | Path = ""):
        self.profile = profile
        self.folder = Path(folder)
        self.is_rendered = not str(maps_root)
        self.root = self.folder / "corpus" if self.is_rendered else Path(maps_root)

    @property
    def instruments(self) -> Instruments:
        """Who trains and who tests; a piano that cannot be had is left out, with a warning."""
        if not self.is_rendered:
            return self.profile.maps_instruments
        asked = self.profile.rendered_instruments
        here = asked.only(can_be_had)
        for code in {*asked.training()} - {*here.training()}:
            warn_once(f"made without the piano {code}, which cannot be had here; see `ddslib fetch`")
        return here

    @property
    def _rendering(self):
        return self.profile.rendering.only(can_be_had) if self.is_rendered else None

    def render(self):
        """Render all of the corpus that the profile asks for, as far as it can be had; nothing to do with real MAPS."""
        if self.is_rendered:
            corpus.render(self.root, self._rendering, self.profile.pitches)

    def notes(self, without: str | None = None) -> list[Recording]:
        """The isolated notes of all training pianos but the family of the piano `without`."""
        instruments = self.instruments.training(without)
        return _notes(self.root, self._rendering, instruments, self.profile.training, self.profile.pitches)

    def frames(self, without: str | None = None) -> Frames:
        """The training frames of those notes; a process looks for them once."""
        profile, instruments = self.profile, self.instruments.training(without)
        parts = (profile.front_end, profile.training, profile.pitches)
        return _frames(self.folder / "frames", self.root, self._rendering, instruments, *parts)

    def chords(self, **changes: Any) -> Chords:
        """The chords that the profile has decomposed; `changes` that are None leave them as they are.

        Raises `InputError` naming a value that cannot be.
        """
        return validated(Chords, self._usual_chords() | given(changes), "chords")

    def _usual_chords(self):
        evaluation = self.profile.evaluation
        own = {name: getattr(evaluation, name) for name in ("polyphony", "intensity", "chords")}
        return {"instrument": self.instruments.test[0], **own}

    def recordings(self, chords: Chords) -> list[Recording]:
        """The recordings of the chords; a process looks for them once.

        Raises `InputError` if the tree holds none of the kind, or fewer than asked for.
        """
        root, rendering = (Path(chords.root), None) if chords.root else (self.root, self._rendering)
        cell = chords.instrument, chords.polyphony, chords.intensity, chords.chords
        return list(_chords(root, rendering, *cell, self.profile.pitches))

    def mixture(self, chords: Chords) -> Mixture:
        """The mixture of the chords; a process prepares it once, and again if a file has changed."""
        recordings = self.recordings(chords)
        return _mixture(tuple(recordings), contents(recordings), self.profile.front_end, self.profile.pitches)


def given(changes: dict[str, Any]) -> dict[str, Any]:
    """The changes that are not None."""
    return {key: value for key, value in changes.items() if value is not None}


def contents(recordings: Iterable[Recording]) -> str:
    """Digest of what recordings hold."""
    return content_digest(path for recording in recordings for path in (recording.path, recording.midi))


def _notes(root, rendering, instruments, training, pitches):
    """Of a rendered corpus what the profile asks for, and nothing else, whatever lies beside it."""
    if rendering:
        wanted = replace(rendering, isol_instruments=instruments, rand_instruments=(), styles=training.styles)
        return corpus.render(root, wanted, pitches)
    own = {"set": "ISOL", "style": training.styles, "instrument": instruments, "pitch": pitches.numbers}
    return find_recordings(root, **own)


@lru_cache(maxsize=32)  # a grid asks for the same again and again, and to look for files takes its time
def _frames(folder, root, rendering, instruments, front_end, training, pitches):
    notes = _notes(root, rendering, instruments, training, pitches)
    return prepare(folder, root, notes, front_end, training, pitches)


@lru_cache(maxsize=256)
def _chords(root, rendering, instrument, polyphony, intensity, count, pitches):
    if rendering:
        wanted = replace(
            rendering, isol_instruments=(), rand_instruments=(instrument,), polyphonies=(polyphony,),
            intensities=(intensity,), chords=count,
        )  # fmt: skip
        found = corpus.render(root, wanted, pitches)
    else:
        found = find_recordings(root, set="RAND", instrument=instrument, polyphony=polyphony, intensity=intensity)
    inside = [r for r in found if pitches.lowest <= r.lowest and r.highest <= pitches.highest]
    chosen = sorted(inside, key=lambda recording: recording.number)[:count]
    if len(chosen) < count:
        raise InputError(
            f"{root}: {len(chosen)} chords of {instrument} P{polyphony} {intensity} "
            f"within M{pitches.lowest}-{pitches.highest}, expected {count}"
        )
    return tuple(chosen)


@lru_cache(maxsize=32)
def _mixture(recordings, contents, front_end, pitches):
    """`contents` only tells the cache whether a file has changed."""
    return mixture(recordings, front_end, pitches)
