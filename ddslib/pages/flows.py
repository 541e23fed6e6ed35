"""What the chapters of the flows share: frames of isolated notes, and figures of spectra."""

import numpy as np
import torch

from . import plots


class NoteFrames:
    """The M frames of isolated notes that a piano's flows learn from, none by its family, and which of them validate.

    ``frames[rows]`` are spectra (rows, K) on the workspace's device, where `rows` are indices or a mask (M,); `seed`
    is that of the training.
    """

    def __init__(self, workspace, piano, seed):
        self.stored = workspace.frames(without=piano)
        self.sources = self.stored.sources  # (M,)
        self.held_out = self.stored.validation(workspace.profile.training, seed)  # (M,)
        self.device = workspace.device

    def __getitem__(self, rows):
        return torch.as_tensor(self.stored.values[rows], device=self.device)

    def labelled(self, rows):
        """The spectra (rows, K) and their sources (rows,)."""
        return self[rows], torch.as_tensor(self.sources[rows], device=self.device)

    def some(self, chosen, count):
        """At most `count` of the `chosen` (M,) frames, evenly spread: their values (count, K) and sources (count,)."""
        rows = np.flatnonzero(chosen)
        return self.labelled(rows[:: -(-len(rows) // count)])

    def of_each_note(self, count, chosen=True):
        """`count` of the `chosen` (M,) frames of every note, its first and its last among them: (N, count, K)."""
        spectra = []
        for n in np.unique(self.sources):
            rows = np.flatnonzero((self.sources == n) & chosen)
            spectra.append(self[rows[np.linspace(0, len(rows) - 1, count).astype(int)]])
        return torch.stack(spectra)


def share_of_wild(spectra):
    """The share of spectra (..., K) that exceed 2 somewhere, as no compressed magnitude does."""
    return (spectra.abs().amax(dim=-1) > 2).float().mean()


def show_by_note(spectra, profile):
    """Images of spectra (N, count, K) one above the other, each under its title, cut off below 0 and above 0.8."""
    with plots.shown(9, 0.8 + 2.4 * len(spectra), len(spectra), sharex=True) as axes:
        for ax, (title, values) in zip(axes, spectra.items(), strict=True):
            sources = np.arange(len(values)).repeat(values.shape[1])
            W = values.clamp(0, 0.8).flatten(0, 1).T
            plots.dictionary(ax, W, sources, profile.front_end, profile.pitches)
            ax.set_title(title)


def show_by_noise(table, limits, **options):
    """A line for each column of a table, a deviation of noise, and dotted its limit where there is noise.

    `options` go to `DataFrame.plot`.
    """
    with plots.shown(7, 3) as ax:
        table.rename(columns="σ = {:g}".format).plot(ax=ax, **options)
        for line, sigma, limit in zip(ax.get_lines(), table, limits, strict=True):
            if sigma:
                ax.axhline(limit, color=line.get_color(), linestyle=":")
