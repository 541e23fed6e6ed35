"""The sound of a score: each note as its piano plays it and its room returns it, and the noise floor."""

from functools import lru_cache

import numpy as np
import scipy

from .pianos import PIANOS, SALAMANDER, find_font
from .salamander import Salamander
from .sampler import SAMPLE_RATE, Sampler
from .scores import generator_of


@lru_cache
def _sampler(piano):
    """What plays a piano."""
    if piano.font == SALAMANDER:
        return Salamander(find_font)
    return Sampler(find_font(piano.font), piano.bank, piano.program)


def render_note(code, score, note, generator):
    """One note as it arrives at the two microphones: shape (2, samples)."""
    piano = PIANOS[code]
    start = round((note.onset + generator.uniform(*piano.jitter)) * SAMPLE_RATE)
    mistuning = piano.detune * float(generator_of("tuning", piano.preset, note.pitch).uniform(-1, 1))
    dry = _sampler(piano).note(
        note.pitch, note.velocity, note.offset - note.onset,
        pedal_up=score.end - note.onset if score.pedal else None,
        samples=score.samples - start, cents=mistuning,
    )  # fmt: skip
    if piano.brightness:
        dry = _soften(dry, piano.brightness, note.velocity)
    wet = scipy.signal.fftconvolve(dry[None], _room_response(piano.room), axes=1)[:, : len(dry)]
    return np.pad(wet, ((0, 0), (start, 0)))


def _soften(audio, brightness, velocity):
    """A first-order low-pass that opens with velocity, as a hammer's felt hardens under force."""
    cutoff = min(brightness * 2 ** ((velocity - 64) / 24), 0.45 * SAMPLE_RATE)
    return scipy.signal.lfilter(*scipy.signal.butter(1, cutoff, fs=SAMPLE_RATE), audio)


@lru_cache
def _room_response(room):
    """Stereo impulse response of mean energy one per channel: shape (2, taps)."""
    import pyroomacoustics  # here, since it takes a second that only rendering needs

    absorption, order = pyroomacoustics.inverse_sabine(room.reverberation, room.size)
    shoebox = pyroomacoustics.ShoeBox(
        room.size, fs=SAMPLE_RATE, materials=pyroomacoustics.Material(absorption), max_order=order
    )
    source = np.array(room.size) / 2 + (0.3, -0.2, -0.3)  # off centre, where fewer modes coincide
    microphones = [np.add(source, (-room.distance, side, 0.2)) for side in (-0.15, 0.15)]
    shoebox.add_source(source)
    shoebox.add_microphone_array(np.stack(microphones, axis=1))
    shoebox.compute_rir()
    taps = round(room.reverberation * SAMPLE_RATE)
    response = np.stack([channel[0][:taps] for channel in shoebox.rir])
    return response / np.sqrt((response**2).sum() / 2)


def pink_noise(generator, samples):
    """Noise of equal power per octave and unit mean square: shape (2, samples)."""
    spectrum = np.fft.rfft(generator.standard_normal((2, samples)))
    spectrum /= np.sqrt(np.maximum(np.arange(spectrum.shape[1]), 1))
    noise = np.fft.irfft(spectrum, samples)
    return noise / np.sqrt(np.mean(noise**2))
