"""A corpus in MAPS's layout, rendered from sampled pianos.

MAPS is not ours to pass on, so the book's default data are rendered with FluidSynth from free
SoundFonts.  The files have MAPS's names, formats and folders; nothing downstream can tell.  Each note
of a chord is rendered by itself, so the exact sources of every mixture are known: the stems.
"""

import json
import logging
import math
import os
from functools import partial
from pathlib import Path

import mido
import numpy as np
import soundfile

from ..artefacts import digest, write_text, writing
from ..config import InputError, Pitches, Rendering
from ..machine.processes import in_processes, progress
from .maps import Recording, parse, sort_key
from .pianos import PIANOS, files, find_font
from .sampler import SAMPLE_RATE
from .scores import Score, generator_of, scores
from .sound import pink_noise, render_note

log = logging.getLogger(__name__)
REVISION = 1  # raise when the same score comes to sound different
RECORDINGS_PER_TASK = 16  # of one piano, which a worker renders in a row, at most


def render(root: Path, rendering: Rendering, pitches: Pitches, workers: int | None = None) -> list[Recording]:
    """The recordings that `rendering` asks for, in a stable order; those that are not below `root` yet are written.

    The result is bit-identical from run to run.  An interrupted run is completed by the next.  Raises
    `InputError` for an unknown instrument, a missing SoundFont, or a `root` that holds other files.
    """
    codes = {*rendering.isol_instruments, *rendering.rand_instruments}
    if unknown := codes - PIANOS.keys():
        raise InputError(f"no piano {', '.join(sorted(unknown))} to render; known are {', '.join(PIANOS)}")
    for name in {name for code in codes for name in files(code)}:
        find_font(name)
    _prepare_folder(root)
    wanted = list(scores(root, rendering, pitches))
    missing = [score for score in wanted if not score.recording.path.exists()]
    there = len(wanted) - len(missing)
    with progress("rendering", "file", len(wanted), there) as bar:
        for done in _render_all(missing, workers or os.cpu_count() or 1):
            bar.update(done)
    return sorted((score.recording for score in wanted), key=sort_key)


def _prepare_folder(root: Path):
    """Make sure that `root` is the renderer's to write to, and free of what an older renderer made.

    What anybody else has put there is never touched.
    """
    stamp = root / "rendering.json"
    current = json.dumps({"revision": REVISION, "pianos": digest(PIANOS)})
    in_the_way = [path.name for path in root.glob("[!.]*")]  # before the stamp is looked for, which others may write
    if not stamp.exists():
        if in_the_way:
            raise InputError(f"{root}: holds {in_the_way[0]}, which was not rendered; expected an empty or new folder")
    elif stamp.read_text() == current:
        return
    else:
        log.warning("%s: rendered by another version; rendering it anew", root)
        for path in root.rglob("*.*"):
            if _is_rendered(path, root):
                path.unlink()
    write_text(stamp, current)


def _is_rendered(path: Path, root: Path) -> bool:
    """Whether a file lies where the renderer puts its own, and is called as they are."""
    is_stem = path.suffix == ".flac" and path.parent.parent.name == "stems"
    recording = parse(path.parent.with_suffix(".wav") if is_stem else path)
    is_own = recording is not None and path.relative_to(root).parts[0] == recording.instrument in PIANOS
    return is_own and (is_stem or path.suffix in (".wav", ".mid", ".txt"))


def _render_all(missing, workers):
    """Render in worker processes, each task of one piano; yield the number of recordings done."""
    size = max(1, min(RECORDINGS_PER_TASK, math.ceil(len(missing) / workers)))
    tasks = []
    for code in PIANOS:
        own = [score for score in missing if score.recording.instrument == code]
        tasks += [partial(_render_scores, own[start : start + size]) for start in range(0, len(own), size)]
    for _, future in in_processes(tasks, workers):
        yield future.result()


def _render_scores(part):
    for score in part:
        render_score(score)
    return len(part)


def render_score(score: Score):
    """Write one recording: stems, ``.txt``, ``.mid``, and last the ``.wav``, which marks it as complete."""
    recording = score.recording
    piano = PIANOS[recording.instrument]
    generator = generator_of(recording.name)
    sounds = {note.pitch: render_note(recording.instrument, score, note, generator) for note in score.notes}
    mixture = sum(sounds.values())
    if piano.noise is not None:
        mixture = mixture + 10 ** (piano.noise / 20) * pink_noise(generator, score.samples)
    peak = np.abs(mixture).max()
    if peak >= 1:
        raise InputError(f"{recording.name}: clips (peak {peak:.2f}); expected softer notes or fewer at once")
    if recording.set == "RAND":
        for pitch, sound in sounds.items():
            _write_audio(_stem_folder(recording) / f"M{pitch:03d}.flac", sound, "PCM_24")
    write_text(recording.text, _table(score))
    with writing(recording.midi) as target:
        _midi(score).save(target)
    _write_audio(recording.path, mixture, "PCM_16")


def _write_audio(path, audio, subtype):
    """Write (channels, samples), whole or not at all; a failed write is an OSError that names the file."""
    with writing(path) as target:
        try:
            soundfile.write(target, audio.T, SAMPLE_RATE, subtype=subtype)
        except soundfile.LibsndfileError as error:
            raise OSError(f"{path}: could not be written ({error.error_string}); is the disk full?") from error


def stems(recording: Recording) -> dict[int, Path]:
    """The sources of a rendered chord: MIDI pitch to a FLAC file; empty where there are none."""
    return {int(path.stem[1:]): path for path in sorted(_stem_folder(recording).glob("M*.flac"))}


def _stem_folder(recording):
    return recording.path.parent / "stems" / recording.name


def _table(score):
    """MAPS's ``.txt``: offsets include the pedal."""
    rows = [f"{note.onset:.6f}\t{max(note.offset, score.end):.6f}\t{note.pitch}" for note in score.notes]
    return "\n".join(["OnsetTime\tOffsetTime\tMidiPitch", *rows, ""])


def _midi(score):
    """MAPS's ``.mid``: type 0, here with ticks of 0.1 ms."""
    events = []  # time, its place among those of one time, and what happens
    for note in score.notes:
        events.append((note.onset, 2, mido.Message("note_on", note=note.pitch, velocity=note.velocity)))
        events.append((note.offset, 1, mido.Message("note_off", note=note.pitch, velocity=0)))
    for time, value in zip(score.pedal or (), (127, 0), strict=False):
        events.append((time, 0, mido.Message("control_change", control=64, value=value)))
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=1_000_000)])
    now = 0
    for time, _, message in sorted(events, key=lambda event: event[:2]):
        ticks = round(time * 10_000)
        track.append(message.copy(time=ticks - now))
        now = ticks
    return mido.MidiFile(type=0, ticks_per_beat=10_000, tracks=[track])
