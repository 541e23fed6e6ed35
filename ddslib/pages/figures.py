"""Figures that the chapters of several methods show, drawn whole from a study and what it found.

Entries are (N, K, count), on the CPU.
Each figure shows itself, since a notebook draws twice what is left open at the end of a cell.
"""

import librosa
import numpy as np
from matplotlib import colormaps

from ..spectra.spectrogram import times
from . import plots
from .plots import shown


def mixture(study):
    """The spectrogram over the piano roll."""
    with shown(9, 5, 2, sharex=True) as (above, below):
        plots.spectrogram(above, study.X, study.front_end, vmin=0)
        plots.piano_roll(below, study.Y, study.front_end, study.pitches)


def activations(study, brightest=None):
    """A over the piano roll; the colours end at the `brightest` activity."""
    with shown(9, 5, 2, sharex=True) as (above, below):
        plots.activations(above, study.result.A, study.front_end, study.pitches, vmax=brightest)
        plots.piano_roll(below, study.Y, study.front_end, study.pitches)


def components(study):
    """H over A: a row for every entry, and a row for every note."""
    with shown(9, 6, 2, sharex=True) as (above, below):
        plots.components(above, study.result.H, study.front_end)
        plots.activations(below, study.result.A, study.front_end, study.pitches)


def attribution(study):
    """A against the piano roll."""
    with shown(9, 3.6) as ax:
        plots.attribution(ax, study.result.A, study.Y, study.front_end, study.pitches)


def fit(study, label="WH"):
    """The mixture, its reconstruction, and their difference."""
    X, X_hat, front_end = study.X, study.result.X_hat, study.front_end
    with shown(9, 7, 3, sharex=True) as (above, middle, below):
        plots.spectrogram(above, X, front_end, vmin=0, vmax=0.8)
        plots.spectrogram(middle, X_hat, front_end, label, vmin=0, vmax=0.8)
        plots.spectrogram(below, X - X_hat, front_end, f"X − {label}", cmap="RdBu", vmin=-0.4, vmax=0.4)


def cost(study, silence=None):
    """The cost by iteration; where there are codes the distance within it, and perhaps that of an empty X̂."""
    result = study.result
    with shown(6, 2.8) as ax:
        plots.cost_history(ax, result.cost, "cost J")
        if result.codes is not None:
            plots.cost_history(ax, result.distance, "distance ‖X − X̂‖")
            ax.lines[1].set_linestyle("--")
            if silence:
                ax.axhline(silence, color=plots.INK, linestyle=":", label="‖X‖")
            ax.legend()


def sparsity(study):
    """The share of cells of A up to ε over ε, with that of the piano roll and the ε of the tables."""
    with shown(6, 2.8) as ax:
        plots.sparsity(ax, {"A": study.result.A}, study.Y, study.profile.evaluation.epsilon)


def dictionaries(study, before, after):
    """The entries before and after a search, scaled to norm 1 and sorted by pitch."""
    with shown(10, 3.4, 1, 2, sharey=True) as axes:
        for ax, entries, name in zip(axes, (before, after), ("before", "after"), strict=True):
            scaled = entries / entries.norm(dim=1, keepdim=True).clamp(min=1e-9)
            sources = np.arange(len(entries)).repeat(entries.shape[2])
            plots.dictionary(ax, scaled.transpose(0, 1).flatten(1), sources, study.front_end, study.pitches)
            ax.set_title(name)


def entry(study, note, frame, mode, found):
    """A note's mode (K,), the entry (K,) that was found for it in one frame, and that frame."""
    with shown(9, 3) as ax:
        _spectra(ax, study, note, frame, mode, [("entry found", found, plots.RIGHT, 1)])


def most_active_note(study, before, after):
    """The entries of the note with the most right activity, and how active each is, on grey where the note sounds."""
    result = study.result
    right = result.A * study.Y
    note = int(right.sum(dim=1).argmax())
    entries = after[note].T
    colours = colormaps["viridis"](np.linspace(0, 0.9, len(entries)))
    found = [(f"entry {c + 1}", entries[c], colour, 0.8) for c, colour in enumerate(colours)]
    with shown(9, 6, 2) as (above, below):
        _spectra(above, study, note, int(right[note].argmax()), before[note, :, 0], found)
        strengths = entries.norm(dim=1)[:, None] * result.H.unflatten(0, (-1, len(entries)))[note]
        seconds, whole_height = times(strengths.shape[1], study.front_end), below.get_xaxis_transform()
        below.set_prop_cycle(color=colours)
        below.plot(seconds, strengths.T)
        below.fill_between(seconds, 0, 1, study.Y[note], step="mid", transform=whole_height, color="0.9", zorder=0)
        below.set(xlabel="time (s)", ylabel="activity ‖w‖ H")
        below.margins(x=0)


def _spectra(ax, study, note, frame, mode, found):
    """A frame, a note's mode (K,) and what was `found`, each scaled to 1, over the note's partials.

    An entry of `found` is a name, a spectrum (K,), and its line's colour and width.
    """
    beside = [("frame of X", study.X[:, frame], plots.INK, 1), ("mode", mode, plots.WRONG, 1)]
    for name, x, colour, width in beside + found:
        plots.spectrum(ax, x / x.max().clamp(min=1e-9), study.front_end, name, color=colour, linewidth=width)
    pitch = study.pitches.numbers[note]
    plots.partials(ax, pitch)
    ax.set(ylabel="relative to the maximum", title=librosa.midi_to_note(pitch))
    ax.legend(**plots.BESIDE)


def codes(study, lengths, nats):
    """How far the codes are from the mode, and how likely their spectra, by note; bars for the frames."""
    panels = {"distance from the mode ‖z‖": lengths, "log p (nats per dimension)": nats}
    with shown(10, 3.2, 1, 2) as axes:
        for ax, (label, beside) in zip(axes, panels.items(), strict=True):
            plots.by_source(ax, beside.found, study.Y.any(dim=1), study.pitches, label)
            ax.plot(study.pitches.numbers, beside.frames, "_", color=plots.INK, label="validation frames")
        axes[0].axhline(study.flow.code_dimensions**0.5, color=plots.INK, linestyle="--", linewidth=0.8)
        axes[1].legend(**plots.BESIDE)
