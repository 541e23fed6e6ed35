"""The audio of a recording: mono, at the rate of the front end."""

import struct
from pathlib import Path

import numpy as np
import soundfile
import soxr

from ..config import InputError


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


def _is_truncated(path):
    """Whether a RIFF chunk reaches beyond the end of the file, which libsndfile forgives silently."""
    with path.open("rb") as file:
        if file.read(12)[:4] != b"RIFF":
            return False
        while len(header := file.read(8)) == 8:
            name, length = struct.unpack("<4sI", header)
            if name == b"data":
                if length in (0, 0xFFFFFFFF):  # unknown, since it was written to a pipe
                    return False
                return file.tell() + length > path.stat().st_size
            file.seek(length + length % 2, 1)
    return True
