"""What a reader sees and hears: figures and audio players.

Every figure function draws on the `ax` that it is given and labels its axes with units.
"""

import base64
import html
import io
from collections.abc import Mapping, Sequence

import librosa
import matplotlib.pyplot as plt
import numpy as np
import soundfile
from IPython.display import HTML
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from .config import FrontEnd, Pitches
from .metrics import as_array
from .spectrogram import frequencies, times

INK, RIGHT, WRONG, MISSED = "#222831", "#00798c", "#d1495b", "#edae49"
METHOD_NAMES = {"nmf": "NMF", "dds1": "DDS-1", "dds2": "DDS-2", "dds3": "DDS-3"}
METHOD_COLOURS = {"nmf": INK, "dds1": MISSED, "dds2": WRONG, "dds3": RIGHT}
STYLE = {
    "figure.constrained_layout.use": True,
    "figure.dpi": 110,
    "figure.figsize": (8, 3),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": "medium",
    "axes.prop_cycle": plt.cycler(color=[RIGHT, WRONG, MISSED, INK]),
    "font.size": 10,
    "image.cmap": "magma",
}


def use_style() -> None:
    """Make all figures of a chapter look alike."""
    plt.rcParams.update(STYLE)


def waveform(ax: Axes, audio: ArrayLike, sample_rate: int) -> None:
    """Amplitude of `audio` (samples,) over seconds."""
    ax.plot(np.arange(len(audio)) / sample_rate, as_array(audio), linewidth=0.5)
    ax.set(xlabel="time (s)", ylabel="amplitude")
    ax.margins(x=0)


def spectrogram(ax: Axes, X: ArrayLike, front_end: FrontEnd, label: str = "X", **options) -> AxesImage:
    """X (K, T) over seconds and kilohertz, with a colour bar; `options` go to imshow."""
    edges = np.array([0.5, front_end.bins + 0.5]) * front_end.sample_rate / front_end.n_fft / 1000
    X = as_array(X)
    image = ax.imshow(X, **_raster(X, front_end, edges), **options)
    ax.set(xlabel="time (s)", ylabel="frequency (kHz)")
    ax.figure.colorbar(image, ax=ax, label=label)
    return image


def _raster(values: ArrayLike, front_end: FrontEnd, edges: Sequence[float]) -> dict:
    """How imshow places (rows, frames) so that every cell is centred on its time."""
    half = front_end.hop / front_end.sample_rate / 2
    last = times(np.shape(values)[1], front_end)[-1]
    extent = (-half, last + half, *edges)
    return {"extent": extent, "origin": "lower", "aspect": "auto", "interpolation": "nearest"}


def activations(ax: Axes, A: ArrayLike, front_end: FrontEnd, pitches: Pitches, label: str = "A", **options) -> None:
    """A (N, T) over seconds and pitches, with a colour bar; `options` go to imshow."""
    A = as_array(A)
    image = ax.imshow(A, **_raster(A, front_end, _pitch_edges(pitches)), **options)
    _label_pitches(ax, pitches)
    ax.figure.colorbar(image, ax=ax, label=label)


def piano_roll(ax: Axes, Y: ArrayLike, front_end: FrontEnd, pitches: Pitches) -> None:
    """Y (N, T) over seconds and pitches."""
    Y = as_array(Y)
    ax.imshow(Y, **_raster(Y, front_end, _pitch_edges(pitches)), cmap=ListedColormap(["white", INK]), vmin=0, vmax=1)
    _label_pitches(ax, pitches)


def _pitch_edges(pitches: Pitches) -> tuple[float, float]:
    return pitches.lowest - 0.5, pitches.highest + 0.5


def _label_pitches(ax: Axes, pitches: Pitches) -> None:
    octaves = [pitch for pitch in pitches.numbers if pitch % 12 == 0]
    ax.set_yticks(octaves, [librosa.midi_to_note(pitch) for pitch in octaves])
    ax.set(xlabel="time (s)", ylabel="pitch")


def attribution(ax: Axes, A: ArrayLike, Y: ArrayLike, front_end: FrontEnd, pitches: Pitches) -> None:
    """Where the activity of A (N, T) lands: on sounding notes, on silent ones, or nowhere.

    A cell's colour says right, wrong or missed by Y (N, T); its strength is the activity, or for a
    missed note the lack of it.  It is the square root of the activity relative to the strongest one
    per cent, so that weak but wrong activity shows.
    """
    A, Y = as_array(A), as_array(Y).astype(bool)[..., None]
    strength = np.sqrt(np.clip(A / max(np.quantile(A, 0.99), np.finfo(float).tiny), 0, 1))[..., None]
    right, wrong, missed = (np.array(to_rgb(colour)) for colour in (RIGHT, WRONG, MISSED))
    image = np.where(Y, strength * right + (1 - strength) * missed, strength * wrong + (1 - strength))
    ax.imshow(image, **_raster(A, front_end, _pitch_edges(pitches)))
    _label_pitches(ax, pitches)
    handles = [Patch(color=c, label=n) for c, n in ((RIGHT, "right"), (WRONG, "wrong"), (MISSED, "missed"))]
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def sounding_notes(ax: Axes, Y: ArrayLike, front_end: FrontEnd, pitches: Pitches) -> None:
    """Mark on a spectrogram in kilohertz the fundamental of every note of Y (N, T) while it sounds."""
    for row, pitch in zip(as_array(Y), pitches.numbers, strict=True):
        if row.any():
            height = np.where(row, librosa.midi_to_hz(pitch) / 1000, np.nan)
            ax.plot(times(len(row), front_end), height, color="cyan", linewidth=1.5, linestyle="--")


def dictionary(ax: Axes, W: ArrayLike, sources: ArrayLike, front_end: FrontEnd, pitches: Pitches) -> None:
    """W (K, entries), entries sorted by source (entries,), over pitches and kilohertz, with a colour bar."""
    top = frequencies(front_end)[-1] / 1000
    extent = (0, np.shape(W)[1], 0, top)
    image = ax.imshow(as_array(W), extent=extent, origin="lower", aspect="auto", interpolation="nearest")
    octaves = [pitch for pitch in pitches.numbers if pitch % 12 == 0]
    first = np.searchsorted(sources, [pitch - pitches.lowest for pitch in octaves])
    ax.set_xticks(first, [librosa.midi_to_note(pitch) for pitch in octaves])
    ax.set(xlabel="dictionary entries, sorted by pitch", ylabel="frequency (kHz)")
    ax.figure.colorbar(image, ax=ax, label="W")


def by_source(ax: Axes, values: ArrayLike, sounds: ArrayLike, pitches: Pitches, label: str) -> None:
    """Dots for the values (N, count) of every source, coloured by whether its note `sounds` (N,) at all."""
    values, sounds = as_array(values), as_array(sounds).astype(bool)
    spread = np.linspace(-0.3, 0.3, values.shape[1]) if values.shape[1] > 1 else np.zeros(1)
    places = np.array(pitches.numbers)[:, None] + spread
    for chosen, colour, name in ((sounds, RIGHT, "sounds"), (~sounds, WRONG, "never sounds")):
        ax.plot(places[chosen].ravel(), values[chosen].ravel(), ".", color=colour, markersize=4, label=name)
    octaves = [pitch for pitch in pitches.numbers if pitch % 12 == 0]
    ax.set_xticks(octaves, [librosa.midi_to_note(pitch) for pitch in octaves])
    ax.set(xlabel="pitch", ylabel=label)


def components(ax: Axes, H: ArrayLike, front_end: FrontEnd, rows: int = 300) -> None:
    """H (entries, T) over seconds, the strongest of neighbouring entries where they outnumber `rows`."""
    H = as_array(H)
    groups = np.array_split(np.arange(len(H)), min(rows, len(H)))
    strongest = np.stack([H[group].max(axis=0) for group in groups])
    raster = _raster(strongest, front_end, (0, len(H)))
    image = ax.imshow(strongest, **raster, vmax=np.quantile(strongest, 0.999))
    ax.set(xlabel="time (s)", ylabel="entry, sorted by pitch")
    ax.figure.colorbar(image, ax=ax, label="H", extend="max")


def cost_history(ax: Axes, cost: ArrayLike, label: str | None = None) -> None:
    """The cost J by iteration, on logarithmic axes."""
    ax.loglog(np.arange(1, len(cost) + 1), as_array(cost), label=label)
    ax.set(xlabel="iteration", ylabel="cost J")


def sparsity_curve(ax: Axes, epsilons: ArrayLike, values: ArrayLike, label: str | None = None) -> None:
    """The share of cells of A that are at most epsilon, over epsilon."""
    ax.semilogx(epsilons, values, label=label)
    ax.set(xlabel="ε (activity)", ylabel="share of cells ≤ ε", ylim=(0, 1))


def spectrum(ax: Axes, x: ArrayLike, front_end: FrontEnd, label: str | None = None, **options) -> None:
    """One spectrum x (K,) over kilohertz; `options` go to plot."""
    ax.plot(frequencies(front_end) / 1000, as_array(x), label=label, **{"linewidth": 1} | options)
    ax.set(xlabel="frequency (kHz)", ylabel="compressed magnitude")
    ax.margins(x=0)


def pitch_matrix(ax: Axes, values: ArrayLike, pitches: Pitches, label: str, **options) -> None:
    """values (N, N), rows and columns by pitch, with a colour bar; `options` go to imshow."""
    lowest, highest = _pitch_edges(pitches)
    extent = (lowest, highest, lowest, highest)
    image = ax.imshow(as_array(values), extent=extent, origin="lower", interpolation="nearest", **options)
    ticks = [pitch for pitch in pitches.numbers if len(pitches.numbers) <= 12 or pitch % 12 == 0]
    names = [librosa.midi_to_note(pitch) for pitch in ticks]
    ax.set_xticks(ticks, names)
    ax.set_yticks(ticks, names)
    ax.figure.colorbar(image, ax=ax, label=label)


def training_history(ax: Axes, history: Mapping[str, ArrayLike]) -> None:
    """Training and validation losses (epochs, units) by epoch: thin for a unit, thick for the units' mean."""
    for name, colour in (("training", RIGHT), ("validation", WRONG)):
        losses = as_array(history[name])
        epochs = np.arange(1, len(losses) + 1)
        if losses.shape[1] > 1:
            ax.plot(epochs, losses, color=colour, linewidth=0.4, alpha=0.4)
        ax.plot(epochs, np.nanmean(losses, axis=1), color=colour, linewidth=2, label=name)
    ax.set(xlabel="epoch", ylabel="loss (nats a frame)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False)


def players(sounds: Mapping[str, ArrayLike], sample_rate: int) -> HTML:
    """A row of audio players, each (samples,) under its caption, as MP3 in the page.

    Sounds keep their own loudness, so those of one row can be compared.
    """
    return HTML(f'<div class="players">{"".join(_player(*item, sample_rate) for item in sounds.items())}</div>')


def _player(caption: str, audio: ArrayLike, sample_rate: int) -> str:
    buffer = io.BytesIO()
    soundfile.write(buffer, as_array(audio), sample_rate, format="MP3")
    source = f"data:audio/mpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    label = html.escape(caption)
    return (
        f"<figure><figcaption>{label}</figcaption>"
        f'<audio controls preload="metadata" aria-label="{label}" src="{source}"></audio></figure>'
    )
