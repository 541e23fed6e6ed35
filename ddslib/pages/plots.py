"""What a reader sees: each function draws on the `ax` that it is given, and labels its axes with units.

Arrays may be tensors of any device.  `front_end` and `pitches` are a profile's; where there are `options`, they go to
the function of matplotlib that draws.
"""

from contextlib import contextmanager

import librosa
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap, to_rgba_array
from matplotlib.patches import Patch

from .. import measures
from ..measures.checks import as_array
from ..spectra.spectrogram import frequencies, times

INK, RIGHT, WRONG, MISSED = "#222831", "#00798c", "#d1495b", "#edae49"
BESIDE = {"loc": "upper left", "bbox_to_anchor": (1, 1)}  # where a legend hides nothing


@contextmanager
def shown(width, height, rows=1, columns=1, **options):
    """The axes of a figure of so many inches, as `subplots` makes them; at the end of the block it is shown.

    Where panels share an axis (`sharex` or `sharey`), each is labelled once: below, or at the left.
    """
    _, axes = plt.subplots(rows, columns, figsize=(width, height), **options)
    yield axes
    if options.keys() & {"sharex", "sharey"}:
        for ax in axes:
            ax.label_outer()
    plt.show()


def _image(ax, values, extent, label=None, extend=None, **options):
    """An image of values (rows, columns), the first row lowest; where they have a label, with a colour bar."""
    options = {"aspect": "auto"} | options
    image = ax.imshow(as_array(values), origin="lower", extent=extent, interpolation="nearest", **options)
    if label:
        ax.figure.colorbar(image, ax=ax, label=label, extend=extend)


def _over_time(ax, values, front_end, edges, **options):
    """An image of values (rows, frames) in which every cell is centred on its time."""
    half = front_end.hop / front_end.sample_rate / 2
    last = times(values.shape[1], front_end)[-1]
    _image(ax, values, (-half, last + half, *edges), **options)
    ax.set_xlabel("time (s)")


def _pitch_edges(pitches):
    return pitches.lowest - 0.5, pitches.highest + 0.5


def intervals(ax, x, value, low, high, color, fmt="o", **options):
    """Values over x as points or lines, and each one's interval from low to high, which need not hold it."""
    ax.errorbar(x, (low + high) / 2, (high - low) / 2, fmt="none", capsize=3, ecolor=color, elinewidth=1)
    ax.plot(x, value, fmt, color=color, **options)


def octaves(pitches, every=12):
    """The pitches that are marked on an axis, every C or `every` so many semitones, and their names."""
    marked = [pitch for pitch in pitches.numbers if pitch % every == 0]
    return marked, [librosa.midi_to_note(pitch) for pitch in marked]


def legend_above(ax, **options):
    """The legend of `ax` above all panels of its figure."""
    ax.figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", **options)


def waveform(ax, audio, sample_rate):
    """Amplitude of `audio` (samples,) over seconds."""
    ax.plot(np.arange(len(audio)) / sample_rate, as_array(audio), linewidth=0.5)
    ax.set(xlabel="time (s)", ylabel="amplitude")
    ax.margins(x=0)


def spectrogram(ax, X, front_end, label="X", **options):
    """X (K, T) over seconds and kilohertz, with a colour bar."""
    edges = np.array([0.5, front_end.bins + 0.5]) * front_end.sample_rate / front_end.n_fft / 1000
    _over_time(ax, X, front_end, edges, label=label, **options)
    ax.set_ylabel("frequency (kHz)")


def activations(ax, A, front_end, pitches, label="A", **options):
    """A (N, T) over seconds and pitches; where it has a label, with a colour bar."""
    _over_time(ax, A, front_end, _pitch_edges(pitches), label=label, **options)
    ax.set_yticks(*octaves(pitches))
    ax.set_ylabel("pitch")


def piano_roll(ax, Y, front_end, pitches):
    """Y (N, T) over seconds and pitches."""
    activations(ax, Y, front_end, pitches, None, cmap=ListedColormap(["white", INK]), vmin=0, vmax=1)


def attribution(ax, A, Y, front_end, pitches):
    """Where the activity of A (N, T) lands: on sounding notes, on silent ones, or nowhere.

    A cell's colour says right, wrong or missed by Y (N, T); its strength is the activity, or for a
    missed note the lack of it.  It is the square root of the activity relative to the strongest one
    per cent, so that weak but wrong activity shows.
    """
    A, sounds = as_array(A), as_array(Y)[..., None]
    strength = np.sqrt(np.clip(A / max(np.quantile(A, 0.99), np.finfo(float).tiny), 0, 1))[..., None]
    colours = {"right": RIGHT, "wrong": WRONG, "missed": MISSED}
    right, wrong, missed = to_rgba_array(colours.values())[:, :3]
    image = np.where(sounds, strength * right + (1 - strength) * missed, strength * wrong + (1 - strength))
    activations(ax, image, front_end, pitches, None)
    ax.legend(handles=[Patch(color=colour, label=name) for name, colour in colours.items()], **BESIDE)


def sounding_notes(ax, Y, front_end, pitches):
    """Mark on a spectrogram in kilohertz the fundamental of every note of Y (N, T) while it sounds."""
    fundamentals = librosa.midi_to_hz(pitches.numbers) / 1000
    heights = np.where(as_array(Y).T, fundamentals, np.nan)
    ax.plot(times(len(heights), front_end), heights, "--", color="cyan")


def dictionary(ax, W, sources, front_end, pitches):
    """W (K, entries), entries sorted by source (entries,), over pitches and kilohertz, with a colour bar."""
    _image(ax, W, (0, W.shape[1], 0, frequencies(front_end)[-1] / 1000), "W")
    marked, names = octaves(pitches)
    ax.set_xticks(np.searchsorted(sources, np.subtract(marked, pitches.lowest)), names)
    ax.set(xlabel="dictionary entries, sorted by pitch", ylabel="frequency (kHz)")


def by_source(ax, values, sounds, pitches, label):
    """Dots for the values (N, count) of every source, coloured by whether its note `sounds` (N,) at all."""
    values, sounds = as_array(values), as_array(sounds)
    places = np.array(pitches.numbers)[:, None] + np.linspace(-0.4, 0.4, values.shape[1] + 2)[1:-1]
    for chosen, colour, name in ((sounds, RIGHT, "sounds"), (~sounds, WRONG, "never sounds")):
        ax.plot(places[chosen].ravel(), values[chosen].ravel(), ".", color=colour, markersize=4, label=name)
    ax.set_xticks(*octaves(pitches))
    ax.set(xlabel="pitch", ylabel=label)


def components(ax, H, front_end):
    """H (entries, T) over seconds, the strongest of neighbouring entries where they outnumber 300 rows."""
    groups = np.array_split(as_array(H), min(300, len(H)))
    strongest = np.stack([group.max(axis=0) for group in groups])
    _over_time(ax, strongest, front_end, (0, len(H)), label="H", vmax=np.quantile(strongest, 0.999), extend="max")
    ax.set_ylabel("entry, sorted by pitch")


def cost_history(ax, cost, label=None):
    """The cost J by iteration, on logarithmic axes."""
    ax.loglog(np.arange(1, len(cost) + 1), as_array(cost), label=label)
    ax.set(xlabel="iteration", ylabel="cost J")


def sparsity(ax, activations, Y, epsilon):
    """The share of cells that are at most ε, over ε, for every A (N, T) of `activations`, by label.

    The upright line is `epsilon`, that of the tables; the dotted one is the share for the piano roll Y (N, T).
    """
    epsilons = np.logspace(-4, -1, 40)
    for label, A in activations.items():
        ax.semilogx(epsilons, [measures.sparsity(A, value) for value in epsilons], label=label)
    ax.axvline(epsilon, color=INK, linewidth=0.8)
    ax.axhline(1 - as_array(Y).mean(), color=INK, linestyle=":")
    ax.set(xlabel="ε (activity)", ylabel="share of cells ≤ ε", ylim=(0, 1))


def spectrum(ax, x, front_end, label=None, **options):
    """One spectrum x (K,) over kilohertz."""
    ax.plot(frequencies(front_end) / 1000, as_array(x), label=label, **{"linewidth": 1} | options)
    ax.set(xlabel="frequency (kHz)", ylabel="compressed magnitude")
    ax.margins(x=0)


def partials(ax, pitch):
    """Mark on an axis in kilohertz, as far as it goes, the multiples of a pitch's fundamental."""
    fundamental = librosa.midi_to_hz(pitch) / 1000
    for partial in np.arange(fundamental, ax.get_xlim()[1], fundamental):
        ax.axvline(partial, color=INK, linestyle=":", linewidth=0.6, zorder=0)


def pitch_matrix(ax, values, pitches, label, **options):
    """values (N, N), rows and columns by pitch, with a colour bar."""
    edges = _pitch_edges(pitches)
    _image(ax, values, edges * 2, label, aspect="equal", **options)
    ticks = octaves(pitches, every=12 if len(pitches.numbers) > 12 else 1)
    ax.set_xticks(*ticks)
    ax.set_yticks(*ticks)


def training_history(ax, history):
    """Training and validation losses (epochs, units), or (epochs,) of one unit: thin for a unit, thick for the mean."""
    for name, colour in (("training", RIGHT), ("validation", WRONG)):
        losses = np.c_[as_array(history[name])]
        epochs = np.arange(1, len(losses) + 1)
        ax.plot(epochs, losses, color=colour, linewidth=0.4, alpha=0.4)
        ax.plot(epochs, np.nanmean(losses, axis=1), color=colour, linewidth=2, label=name)
    ax.set(xlabel="epoch", ylabel="loss (nats a frame)")
    ax.locator_params("x", integer=True)
    ax.legend()
