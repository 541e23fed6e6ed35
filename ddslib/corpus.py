"""A corpus in MAPS's layout, rendered from sampled pianos.

MAPS is not ours to pass on, so the book's default data are rendered with FluidSynth from free
SoundFonts.  The files have MAPS's names, formats and folders; nothing downstream can tell.  Each note
of a chord is rendered by itself, so the exact sources of every mixture are known: the stems.
"""

import ctypes
import json
import logging
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import product
from pathlib import Path

import mido
import numpy as np
import scipy
import soundfile

from .artefacts import digest, write_text, writing
from .config import InputError, Pitches, Rendering
from .maps import Note, Recording
from .processes import in_processes, progress

log = logging.getLogger(__name__)

REVISION = 1  # raise when the same score comes to sound different
SAMPLE_RATE = 44100  # Hz, MAPS's own
BLOCK = 64  # samples: FluidSynth starts and ends notes on multiples of its internal block
GAIN = 0.7  # FluidSynth's master gain: seven loud notes at once stay below full scale
ONSET = 0.5  # s, with the pedal up; with the pedal down everything but the pedal is PEDAL_LEAD later
PEDAL_LEAD = 0.2  # s between pedal and key, at the start and at the end
TAIL = 1.62  # s of recording after the last key is released
LENGTHS = {"NO": 2.0, "LG": 4.0, "ST": 0.15, "RAND": 0.65}  # s that a key is held
VELOCITIES = {"P": 40, "M": 64, "F": 96}
CHUNK = 16  # recordings of one piano that a worker renders in a row, at most

FONTS = {  # file name: the Debian package that holds it
    "FluidR3_GM.sf2": "fluid-soundfont-gm",
    "FluidR3Mono_GM.sf3": "fluidr3mono-gm-soundfont",
    "sf_GMbank.sf2": "csound-soundfont",
    "MuseScore_General_Full.sf3": "musescore-general-soundfont",
}
FONT_SETTING = "DDSLIB_SOUNDFONTS"  # environment variable: folders searched before the usual ones
FONT_FOLDERS = ("/usr/share/sounds/sf2", "/usr/share/sounds/sf3", "/usr/share/soundfonts")


@dataclass(frozen=True)
class Room:
    """A shoebox room with two microphones 30 cm apart."""

    size: tuple[float, float, float]  # m
    reverberation: float  # s until the sound has decayed by 60 dB
    distance: float  # m from the source to the microphones


@dataclass(frozen=True)
class Piano:
    """A SoundFont preset, how it is played and where it is recorded."""

    font: str
    bank: int
    program: int
    room: Room
    brightness: float | None = None  # Hz: cut-off at velocity 64, where the samples lack soft timbres
    detune: float = 0.0  # cents: spread of a fixed mistuning of each key
    jitter: tuple[float, float] = (0.0, 0.0)  # s: how late the sound is after its MIDI onset
    noise: float | None = None  # dBFS of the pink noise floor

    @property
    def preset(self) -> str:
        """What is played, whatever the room: two recordings of one preset share their performances."""
        return f"{self.font}/{self.bank}/{self.program}"


# Five training pianos in two sample families (Fl, Cs), and the held-out Steinway, close and ambient.
PIANOS = {
    "FlR3P200": Piano("FluidR3_GM.sf2", 0, 0, Room((5.0, 4.0, 2.8), 0.25, 1.0), brightness=3000),
    "FlR3ElGr": Piano("FluidR3_GM.sf2", 0, 2, Room((4.0, 3.0, 2.5), 0.20, 0.7), brightness=4000),
    "FlMoMell": Piano("FluidR3Mono_GM.sf3", 8, 0, Room((9.0, 7.0, 4.0), 0.60, 1.5), brightness=2000),
    "CsGMGrnd": Piano("sf_GMbank.sf2", 0, 0, Room((6.5, 5.0, 3.2), 0.35, 1.2), brightness=3500),
    "CsGMCP70": Piano("sf_GMbank.sf2", 0, 2, Room((7.5, 6.0, 3.0), 0.45, 0.8), brightness=2500),
    "MsGnStCl": Piano(
        "MuseScore_General_Full.sf3", 0, 0, Room((6.0, 5.0, 3.0), 0.4, 0.5),
        detune=4.0, jitter=(0.001, 0.005), noise=-70.0,
    ),
    "MsGnStAm": Piano(
        "MuseScore_General_Full.sf3", 0, 0, Room((8.0, 6.0, 3.5), 0.8, 3.0),
        detune=4.0, jitter=(0.001, 0.005), noise=-56.0,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Score:
    """What is played in one recording: keys as MIDI notes, and when the pedal is down and up (s)."""

    recording: Recording
    notes: tuple[Note, ...]
    pedal: tuple[float, float] | None

    @property
    def end(self) -> float:
        """When the last damper falls, in seconds."""
        return self.pedal[1] if self.pedal else max(note.offset for note in self.notes)

    @property
    def samples(self) -> int:
        return round((self.end + TAIL) * SAMPLE_RATE)


def scores(root: Path, rendering: Rendering, pitches: Pitches) -> Iterator[Score]:
    """Every recording that `rendering` asks for, as a score with its place below `root`."""
    isolated = product(rendering.isol_instruments, rendering.styles, rendering.loudness, pitches.numbers)
    for code, style, loudness, pitch in isolated:
        draw = _generator(PIANOS[code].preset, style, loudness, pitch)
        recording = Recording(
            root / code / "ISOL" / style, "ISOL", code,
            style=style, loudness=loudness, sustain=int(draw.integers(2)), pitch=pitch,
        )  # fmt: skip
        yield _score(recording, [(pitch, VELOCITIES[loudness])], LENGTHS[style])
    chords = product(rendering.rand_instruments, rendering.intensities, rendering.polyphonies)
    for code, intensity, polyphony in chords:
        folder = root / code / "RAND" / f"M{pitches.lowest}-{pitches.highest}" / intensity / f"P{polyphony}"
        softest, loudest = map(int, intensity[1:].split("-"))
        for number in range(1, rendering.chords + 1):
            draw = _generator(PIANOS[code].preset, intensity, polyphony, number, *pitches.numbers)
            keys = sorted(draw.choice(pitches.numbers, polyphony, replace=False).tolist())
            velocities = draw.integers(softest, loudest, polyphony, endpoint=True).tolist()
            recording = Recording(
                folder, "RAND", code, polyphony=polyphony, lowest=pitches.lowest,
                highest=pitches.highest, intensity=intensity, sustain=int(draw.integers(2)), number=number,
            )  # fmt: skip
            yield _score(recording, list(zip(keys, velocities, strict=True)), LENGTHS["RAND"])


def _score(recording: Recording, keys: list[tuple[int, int]], length: float) -> Score:
    recording = replace(recording, path=recording.path / f"{recording.name}.wav")
    onset = ONSET + PEDAL_LEAD * recording.sustain
    release = onset + length
    pedal = (ONSET, release + PEDAL_LEAD) if recording.sustain else None
    return Score(recording, tuple(Note(onset, release, *key) for key in keys), pedal)


def _generator(*key: str | int) -> np.random.Generator:
    """Random numbers that depend on what is drawn and on nothing else, such as the order of rendering."""
    return np.random.default_rng(int(digest(*key), 16))


def render(root: Path, rendering: Rendering, pitches: Pitches, workers: int | None = None) -> None:
    """Write the corpus below `root`; what is there already is kept.

    The result is bit-identical from run to run.  An interrupted run is completed by the next.  Raises
    `InputError` for an unknown instrument, a missing SoundFont, or a `root` that holds other files.
    """
    codes = {*rendering.isol_instruments, *rendering.rand_instruments}
    if unknown := codes - PIANOS.keys():
        raise InputError(f"no piano {', '.join(sorted(unknown))} to render; known are {', '.join(PIANOS)}")
    for font in {PIANOS[code].font for code in codes}:
        find_font(font)
    _claim(root)
    wanted = list(scores(root, rendering, pitches))
    missing = [score for score in wanted if not score.recording.path.exists()]
    there = len(wanted) - len(missing)
    with progress("rendering", "file", len(wanted), there) as bar:
        for done in _in_parallel(missing, workers or os.cpu_count() or 1):
            bar.update(done)


def _claim(root: Path) -> None:
    """Make sure that `root` is the renderer's to write to, and empty of what an older renderer made."""
    stamp = root / "rendering.json"
    current = {"revision": REVISION, "pianos": digest(PIANOS)}
    if stamp.exists():
        if json.loads(stamp.read_text()) == current:
            return
        log.warning("%s: rendered by another version; rendering it anew", root)
        for path in root.rglob("*.*"):
            if path.suffix in {".wav", ".mid", ".txt", ".flac"}:
                path.unlink()
    elif root.is_dir() and any(root.iterdir()):
        raise InputError(f"{root}: holds files that are not a rendered corpus; expected an empty or new folder")
    write_text(stamp, json.dumps(current))


def _in_parallel(missing: list[Score], workers: int) -> Iterator[int]:
    """Render chunks of one piano in worker processes; yield the number of files done."""
    size = max(1, min(CHUNK, math.ceil(len(missing) / workers)))
    chunks = [part for code in PIANOS for part in _chunks([s for s in missing if s.recording.instrument == code], size)]
    for _, future in in_processes([partial(_render_chunk, chunk) for chunk in chunks], workers):
        yield future.result()


def _chunks(items: list[Score], size: int) -> Iterable[list[Score]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _render_chunk(chunk: list[Score]) -> int:
    for score in chunk:
        render_score(score)
    return len(chunk)


def render_score(score: Score) -> None:
    """Write one recording: stems, ``.txt``, ``.mid``, and last the ``.wav``, which marks it as complete."""
    recording = score.recording
    piano = PIANOS[recording.instrument]
    draw = _generator(recording.name)
    sounds = {note.pitch: _render_note(recording.instrument, score, note, draw) for note in score.notes}
    mixture = sum(sounds.values())
    if piano.noise is not None:
        mixture = mixture + 10 ** (piano.noise / 20) * _pink_noise(draw, score.samples)
    peak = np.abs(mixture).max()
    if peak >= 1:
        raise InputError(f"{recording.name}: clips (peak {peak:.2f}); expected softer notes or fewer at once")
    if recording.set == "RAND":
        for pitch, path in _stem_paths(recording, sounds).items():
            _write_audio(path, sounds[pitch], "PCM_24")
    write_text(recording.text, _table(score))
    with writing(recording.midi) as target:
        _midi(score).save(target)
    _write_audio(recording.path, mixture, "PCM_16")


def _write_audio(path: Path, audio: np.ndarray, subtype: str) -> None:
    """Write (channels, samples), whole or not at all; a failed write is an OSError that names the file."""
    with writing(path) as target:
        try:
            soundfile.write(target, audio.T, SAMPLE_RATE, subtype=subtype)
        except soundfile.LibsndfileError as error:
            raise OSError(f"{path}: could not be written ({error.error_string}); is the disk full?") from error


def stems(recording: Recording) -> dict[int, Path]:
    """The sources of a rendered chord: MIDI pitch to a FLAC file; empty where there are none."""
    folder = _stem_folder(recording)
    return {int(path.stem[1:]): path for path in sorted(folder.glob("M*.flac"))}


def _stem_paths(recording: Recording, pitches: Iterable[int]) -> dict[int, Path]:
    return {pitch: _stem_folder(recording) / f"M{pitch:03d}.flac" for pitch in pitches}


def _stem_folder(recording: Recording) -> Path:
    return recording.path.parent / "stems" / recording.name


def _table(score: Score) -> str:
    """MAPS's ``.txt``: offsets include the pedal."""
    lines = ["OnsetTime\tOffsetTime\tMidiPitch"]
    lines += [f"{note.onset:.6f}\t{max(note.offset, score.end):.6f}\t{note.pitch}" for note in score.notes]
    return "\n".join(lines) + "\n"


def _midi(score: Score) -> mido.MidiFile:
    """MAPS's ``.mid``: type 0, here with ticks of 0.1 ms."""
    events = [(note.onset, 2, "note_on", {"note": note.pitch, "velocity": note.velocity}) for note in score.notes]
    events += [(note.offset, 1, "note_off", {"note": note.pitch, "velocity": 0}) for note in score.notes]
    if score.pedal:
        down, up = score.pedal
        events += [(time, 0, "control_change", {"control": 64, "value": v}) for time, v in ((down, 127), (up, 0))]
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=1_000_000)])
    now = 0
    for time, _, kind, values in sorted(events, key=lambda event: event[:2]):
        ticks = round(time * 10_000)
        track.append(mido.Message(kind, time=ticks - now, **values))
        now = ticks
    return mido.MidiFile(type=0, ticks_per_beat=10_000, tracks=[track])


def _render_note(code: str, score: Score, note: Note, draw: np.random.Generator) -> np.ndarray:
    """One note as it arrives at the two microphones: shape (2, samples)."""
    piano = PIANOS[code]
    start = round((note.onset + draw.uniform(*piano.jitter)) * SAMPLE_RATE)
    dry = _sampler(piano.preset).note(
        note.pitch, note.velocity, note.offset - note.onset,
        pedal_up=score.end - note.onset if score.pedal else None,
        samples=score.samples - start, cents=_mistuning(piano, note.pitch),
    )  # fmt: skip
    if piano.brightness:
        dry = _soften(dry, piano.brightness, note.velocity)
    wet = scipy.signal.fftconvolve(dry[None], _room_response(piano.room), axes=1)[:, : len(dry)]
    return np.pad(wet, ((0, 0), (start, 0)))


def _mistuning(piano: Piano, pitch: int) -> float:
    return piano.detune * float(_generator("tuning", piano.preset, pitch).uniform(-1, 1))


def _soften(audio: np.ndarray, brightness: float, velocity: int) -> np.ndarray:
    """A first-order low-pass that opens with velocity, as a hammer's felt hardens under force."""
    cutoff = min(brightness * 2 ** ((velocity - 64) / 24), 0.45 * SAMPLE_RATE)
    return scipy.signal.lfilter(*scipy.signal.butter(1, cutoff, fs=SAMPLE_RATE), audio)


@lru_cache
def _room_response(room: Room) -> np.ndarray:
    """Stereo impulse response of mean energy one per channel: shape (2, taps)."""
    import pyroomacoustics  # here, since it takes a second that only rendering needs

    absorption, order = pyroomacoustics.inverse_sabine(room.reverberation, room.size)
    shoebox = pyroomacoustics.ShoeBox(
        room.size, fs=SAMPLE_RATE, materials=pyroomacoustics.Material(absorption), max_order=order
    )
    source = np.array(room.size) / 2 + (0.3, -0.2, -0.3)  # off centre, where fewer modes coincide
    offsets = np.array([[-room.distance, side, 0.2] for side in (-0.15, 0.15)])
    shoebox.add_source(source)
    shoebox.add_microphone_array(np.stack([source + offset for offset in offsets], axis=1))
    shoebox.compute_rir()
    taps = round(room.reverberation * SAMPLE_RATE)
    response = np.stack([channel[0][:taps] for channel in shoebox.rir])
    return response / np.sqrt((response**2).sum() / 2)


def _pink_noise(draw: np.random.Generator, samples: int) -> np.ndarray:
    """Noise of equal power per octave and unit mean square: shape (2, samples)."""
    spectrum = np.fft.rfft(draw.standard_normal((2, samples)))
    spectrum /= np.sqrt(np.maximum(np.arange(spectrum.shape[1]), 1))
    noise = np.fft.irfft(spectrum, samples)
    return noise / np.sqrt(np.mean(noise**2))


def find_font(name: str) -> Path:
    """Where a SoundFont lies.  Raises `InputError` naming its Debian package and the setting."""
    folders = [*filter(None, os.environ.get(FONT_SETTING, "").split(os.pathsep)), *FONT_FOLDERS]
    for folder in map(Path, folders):
        if (folder / name).is_file():
            return folder / name
    raise InputError(
        f"SoundFont {name} not found in {', '.join(folders)}; install the Debian package {FONTS[name]} "
        f"or name the folder that holds it in {FONT_SETTING}"
    )


@lru_cache
def _sampler(preset: str) -> "Sampler":
    font, bank, program = preset.split("/")
    return Sampler(find_font(font), int(bank), int(program))


class Sampler:
    """One SoundFont preset, played note by note without reverberation or chorus.

    Float output is read directly, since the 16-bit output carries dither that depends on its history.
    """

    def __init__(self, font: Path, bank: int, program: int):
        try:
            import fluidsynth  # here, since the import fails where the system library is missing
        except ImportError as error:
            raise InputError(f"libfluidsynth not found ({error}); install the Debian package libfluidsynth3") from error
        settings = {"synth.reverb.active": 0, "synth.chorus.active": 0, "synth.dynamic-sample-loading": 1}
        self._write = fluidsynth._fl.fluid_synth_write_float
        self._synth = fluidsynth.Synth(gain=GAIN, samplerate=SAMPLE_RATE, **settings)
        handle = self._synth.sfload(str(font))
        if handle < 0 or self._synth.program_select(0, handle, bank, program) < 0:
            raise InputError(f"{font}: no preset {bank}/{program} in it; expected the SoundFont named in the data page")
        self.note(60, 64, 0.1, None, BLOCK, 0.0)  # the first note after loading may differ from all later ones

    def note(
        self, pitch: int, velocity: int, length: float, pedal_up: float | None, samples: int, cents: float
    ) -> np.ndarray:
        """The sound of one key held for `length` seconds, mixed to mono: shape (samples,).

        `pedal_up` is when the sustain pedal is lifted, in seconds after the onset; None leaves it up.
        """
        synth = self._synth
        synth.all_sounds_off(0)
        while synth.get_active_voice_count():
            self._read(BLOCK)
        synth.pitch_bend(0, round(cents / 200 * 8192))
        synth.cc(0, 64, 0 if pedal_up is None else 127)
        synth.noteon(0, pitch, velocity)
        parts = [self._read(length * SAMPLE_RATE)]
        synth.noteoff(0, pitch)
        if pedal_up is not None:
            parts.append(self._read((pedal_up - length) * SAMPLE_RATE))
        synth.cc(0, 64, 0)
        parts.append(self._read(max(samples - sum(map(len, parts)), 0)))
        return np.concatenate(parts)[:samples]

    def _read(self, samples: float) -> np.ndarray:
        """At least `samples` mono samples, in whole blocks."""
        count = BLOCK * int(np.ceil(samples / BLOCK))
        left, right = np.empty((2, count), np.float32)
        first, second = (ctypes.c_void_p(channel.ctypes.data) for channel in (left, right))
        self._write(ctypes.c_void_p(self._synth.synth), count, first, 0, 1, second, 0, 1)
        return (left + right) / 2
