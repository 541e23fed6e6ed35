"""A SoundFont preset played by FluidSynth, one note at a time."""

import ctypes

import numpy as np

from ..config import InputError

SAMPLE_RATE = 44100  # Hz, MAPS's own
SYNTHESIS_BLOCK = 64  # samples: FluidSynth starts and ends notes on multiples of its internal block
SETTINGS = {"synth.reverb.active": 0, "synth.chorus.active": 0, "synth.dynamic-sample-loading": 1}
MASTER_GAIN = 0.7  # FluidSynth's: seven loud notes at once stay below full scale


class Sampler:
    """One SoundFont preset, played note by note without reverberation or chorus.

    Float output is read directly, since the 16-bit output carries dither that depends on its history.
    """

    def __init__(self, font, bank, program):
        try:
            import fluidsynth  # here, since the import fails where the system library is missing
        except ImportError as error:
            raise InputError(f"libfluidsynth not found ({error}); install the Debian package libfluidsynth3") from error
        self._write = fluidsynth._fl.fluid_synth_write_float
        self._synth = fluidsynth.Synth(MASTER_GAIN, SAMPLE_RATE, **SETTINGS)
        handle = self._synth.sfload(str(font))
        if handle < 0 or self._synth.program_select(0, handle, bank, program) < 0:
            raise InputError(f"{font}: no preset {bank}/{program} in it; expected the SoundFont named in the data page")
        # The first note after loading may differ from all later ones.
        self.note(60, 64, 0.1, None, SYNTHESIS_BLOCK, 0.0)

    def note(self, pitch, velocity, length, pedal_up, samples, cents):
        """The sound of one key held for `length` seconds, mixed to mono: shape (samples,).

        `pedal_up` is when the sustain pedal is lifted, in seconds after the onset; None leaves it up.
        """
        synth = self._synth
        synth.all_sounds_off(0)
        while synth.get_active_voice_count():
            self._read(SYNTHESIS_BLOCK)
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

    def _read(self, samples):
        """At least `samples` mono samples, in whole blocks."""
        count = SYNTHESIS_BLOCK * int(np.ceil(samples / SYNTHESIS_BLOCK))
        channels = np.empty((2, count), np.float32)
        left, right = (ctypes.c_void_p(channel.ctypes.data) for channel in channels)
        self._write(ctypes.c_void_p(self._synth.synth), count, left, 0, 1, right, 0, 1)
        return channels.mean(axis=0)
