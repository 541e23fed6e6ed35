"""Labelled frames of isolated notes: what NMF stores and what the flows learn from.

A frame set may be larger than memory, so it lives in a memory-mapped file, one frame to a row, sorted
by source.  It is named by the digest of all it depends on, so a stale one is never read.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..artefacts import content_digest, digest, signature, writing
from ..config import FrontEnd, InputError, Pitches, Training
from ..machine.processes import progress
from ..recordings.maps import Recording
from ..recordings.notes import warn_of_disagreements
from .labels import labelled_spectrogram

REVISION = 1  # raise when the same recordings come to yield other frames
RECORDINGS_AT_ONCE = 64  # in memory


@dataclass(frozen=True)
class Frames:
    """M frames of isolated notes; the arrays are memory-mapped."""

    values: np.ndarray  # (M, K) float32: a row is a column of X
    sources: np.ndarray  # (M,) int64: pitch minus the lowest pitch
    recordings: np.ndarray  # (M,) int64: index into names
    names: tuple[str, ...]
    content: str  # digest of the values and labels

    def of_piano(self, instrument: str) -> slice | np.ndarray:
        """Where the frames of one piano are, or of all where it is empty.  Raises `InputError` if there are none."""
        if not instrument:
            return slice(None)
        own = np.array([name.endswith(f"_{instrument}") for name in self.names])[self.recordings]
        if not own.any():
            raise InputError(f"no frames of the piano {instrument!r}; expected one that trains")
        return own.nonzero()[0]

    def validation(self, training: Training, seed: int) -> np.ndarray:
        """Which frames validate (M,) boolean: of every source, a random share of its recordings or frames.

        Splitting by frame leaves frames of one recording on both sides, so its validation
        likelihood is optimistic; it is here because the paper's protocol can be read so (§IV-A).
        Raises `InputError` if a source has nothing to split.
        """
        generator = np.random.default_rng(seed)
        units = self.recordings if training.split == "recording" else np.arange(len(self.values))
        chosen = np.zeros(units.max() + 1, dtype=bool)
        for source in np.unique(self.sources):
            own = np.unique(units[self.sources == source])
            if len(own) < 2:
                name = self.names[self.recordings[self.sources == source][0]]
                raise InputError(
                    f"{name} is the only {training.split} of its note; expected two, to train and to validate"
                )
            count = min(max(round(training.validation_share * len(own)), 1), len(own) - 1)
            chosen[generator.permutation(own)[:count]] = True
        return chosen[units]


def prepare(
    folder: Path,
    root: Path,
    recordings: Sequence[Recording],
    front_end: FrontEnd,
    training: Training,
    pitches: Pitches,
) -> Frames:
    """The active frames of isolated notes below `root`, sorted by pitch; from `folder` or made anew.

    Raises `InputError` where a recording is unusable.
    """
    recordings = sorted(recordings, key=lambda recording: recording.pitch)
    inputs = signature((path for r in recordings for path in (r.path, r.midi)), root)
    choice = (training.styles, training.thin)  # the split is made later and moves no frame
    store = folder / digest(REVISION, front_end, pitches, choice, inputs)
    if not store.is_dir():
        warn_of_disagreements(recordings)
        with writing(store) as target:
            target.mkdir()
            _write(target, recordings, front_end, training, pitches)
    return _read(store)


def _write(target, recordings, front_end, training, pitches):
    counts = []
    bar = progress("frames", "file", len(recordings))
    with ThreadPoolExecutor() as pool, (target / "values.f32").open("wb") as file, bar:
        for start in range(0, len(recordings), RECORDINGS_AT_ONCE):
            part = recordings[start : start + RECORDINGS_AT_ONCE]
            for block in pool.map(partial(_frames_of, front_end, training, pitches), part):
                block.tofile(file)
                counts.append(len(block))
                bar.update()
    if not sum(counts):
        raise InputError(f"no active frame in {len(recordings)} recordings, first {recordings[0].path}")
    np.save(target / "sources.npy", np.repeat([r.pitch - pitches.lowest for r in recordings], counts))
    np.save(target / "recordings.npy", np.repeat(np.arange(len(recordings)), counts))
    content = content_digest(target / part for part in ("values.f32", "sources.npy", "recordings.npy"))
    manifest = {"names": [r.name for r in recordings], "content": content, "bins": front_end.bins}
    (target / "manifest.json").write_text(json.dumps(manifest))


def _frames_of(front_end, training, pitches, recording):
    """The active frames of one isolated note, thinned: (frames, K)."""
    X, Y = labelled_spectrogram(recording, front_end, pitches)
    return X[:, Y[recording.pitch - pitches.lowest]][:, :: training.thin].T.contiguous().numpy()


def _read(store):
    manifest = json.loads((store / "manifest.json").read_text())
    sources = np.load(store / "sources.npy")
    return Frames(
        # Copy-on-write: torch wants writable memory, and the file must not change.
        values=np.memmap(store / "values.f32", np.float32, mode="c", shape=(len(sources), manifest["bins"])),
        sources=sources,
        recordings=np.load(store / "recordings.npy"),
        names=tuple(manifest["names"]),
        content=manifest["content"],
    )
