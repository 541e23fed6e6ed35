"""A miniature MAPS: recordings of sine tones, written with the standard tools rather than with ddslib."""

from collections.abc import Sequence
from pathlib import Path

import mido
import numpy as np
import soundfile

Key = tuple[float, float, int]  # onset (s), offset (s), pitch


def write_wav(path: Path, keys: Sequence[Key], seconds: float, rate: int = 44100, channels: int = 2) -> None:
    time = np.arange(round(seconds * rate)) / rate
    audio = np.zeros_like(time)
    for onset, offset, pitch in keys:
        held = (time >= onset) & (time < offset)
        audio += 0.2 * held * np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * time)
    soundfile.write(path, np.stack([audio] * channels, axis=1), rate, subtype="PCM_16")


def write_midi(path: Path, keys: Sequence[Key], pedal: Sequence[tuple[float, int]] = ()) -> None:
    events = [(on, mido.Message("note_on", note=p, velocity=64)) for on, _, p in keys]
    events += [(off, mido.Message("note_off", note=p)) for _, off, p in keys]
    events += [(time, mido.Message("control_change", control=64, value=value)) for time, value in pedal]
    track, now = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=1_000_000)]), 0
    for time, message in sorted(events, key=lambda event: event[0]):
        ticks = round(time * 10_000)
        track.append(message.copy(time=ticks - now))
        now = ticks
    mido.MidiFile(type=0, ticks_per_beat=10_000, tracks=[track]).save(path)


def write_text(path: Path, keys: Sequence[Key]) -> None:
    rows = [f"{on:.6f}\t{off:.6f}\t{pitch}" for on, off, pitch in keys]
    path.write_text("\n".join(["OnsetTime\tOffsetTime\tMidiPitch", *rows]) + "\n")


def write_recording(folder: Path, name: str, keys: Sequence[Key] = ((0.2, 0.7, 60),), seconds: float = 1.0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.wav"
    write_wav(path, keys, seconds)
    write_midi(path.with_suffix(".mid"), keys)
    write_text(path.with_suffix(".txt"), keys)
    return path
