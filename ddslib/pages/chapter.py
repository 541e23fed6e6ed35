"""The set-up that chapters share: a workspace to work in, and a method's study of one mixture."""

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from ..config import load_profile
from ..runs.data import given
from ..runs.workspace import Workspace
from .flows import NoteFrames

RESULTS = Path(__file__).resolve().parents[2] / "results"  # of long runs, kept with the project


def open_chapter(parameters):
    """The workspace of the chapter whose first cell sets `parameters`, by name: a notebook's `globals()`.

    They are profile, settings, which change single keys of it, work_dir, maps_root and device; a seed that is not None
    takes the place of the profile's.  Figures get the book's style.  Raises `InputError` as `load_profile` does.
    """
    plt.style.use("ddslib.pages.book")
    changes = parameters["settings"] | given({"seed": parameters.get("seed")})
    profile = load_profile(parameters["profile"], changes)
    return Workspace(profile, *(parameters[name] for name in ("work_dir", "maps_root", "device")))


def open_study(method, parameters):
    """The study of a method in the chapter whose first cell sets `parameters`.

    They are those of `open_chapter`, and test_root, instrument, polyphony, intensity, chords and, where flows are
    trained, seed: what `Workspace.experiment` changes.
    """
    workspace = open_chapter(parameters | {"seed": None})
    changes = {name: parameters.get(name) for name in ("instrument", "polyphony", "intensity", "chords", "seed")}
    return Study(workspace, method, root=parameters["test_root"], **changes)


class Beside(NamedTuple):
    """Something of what was found for each note, and its median over frames of the note."""

    found: Tensor  # (N, count)
    frames: Tensor  # (N,)


def own_latents(flow, n, x):
    """The latents (count, K) of spectra x (count, K) under note n's own flow of a stack, and log p(x), in nats."""
    z, log_det = flow.select([n])(x[None])
    return z[0], flow.log_density(z, log_det)[0]


class Study:
    """A method and the mixture that it decomposes: what the chapter of a method is about.

    `changes` are those of `Workspace.experiment`: root, instrument, polyphony, intensity, chords and seed, each left as
    the profile has it where it is None.  X (K, T) and Y (N, T) are the mixture's; `settings` is the method's section
    of the profile.
    """

    def __init__(self, workspace, method, **changes):
        self.workspace, self.profile = workspace, workspace.profile
        self.front_end, self.pitches = self.profile.front_end, self.profile.pitches
        self.experiment = workspace.experiment(method, **changes)
        self.settings = workspace.settings(method)
        self.mixture = workspace.mixture(self.experiment)
        self.X, self.Y = self.mixture.X, self.mixture.Y

    @property
    def title(self):
        """The chords in words."""
        e = self.experiment
        return f"{e.chords} chords of {e.instrument}, P{e.polyphony}, {e.intensity}"

    @cached_property
    def flow(self):
        """The flow that the method decodes with, read from the workspace or trained, with its weights fixed."""
        return self.workspace.flow(*self.workspace.flow_of(self.experiment)).flow.freeze()

    @cached_property
    def result(self):
        """The mixture's decomposition, read from the workspace or searched; on the CPU but for its codes."""
        found = self.workspace.decomposition(self.experiment)
        return replace(found, H=found.H.cpu(), A=found.A.cpu(), X_hat=found.X_hat.cpu())

    def entries_before(self):
        """The dictionary's entries (N, K, count) from which the search starts, on the CPU."""
        return self._entries(self.workspace.dictionary(self.experiment))

    def entries_after(self):
        """The entries (N, K, count) that the search found, on the CPU."""
        return self._entries(self.workspace.found_dictionary(self.experiment))

    def _entries(self, dictionary):
        dictionary.refresh()
        return torch.stack([dictionary.entries(n) for n in range(len(self.Y))]).cpu()

    def first_chord(self):
        """The frames (K, frames) of the first chord, on the workspace's device."""
        return self.X[:, self.mixture.chord == 0].to(self.workspace.device)

    def draws(self, seed=0):
        """The random numbers that a search by hand starts from, for a seed the same at every call."""
        return torch.Generator(self.workspace.device).manual_seed(seed)

    def beside_frames(self, codes, latents=own_latents):
        """Codes (N, count, D), on the workspace's device, beside up to 40 frames of each note that no flow learnt from.

        What is compared is how far they are from the mode of zero, and their spectra's log-likelihood per dimension.

        latents(flow, n, x) says of spectra x (count, K) of note n what codes they have (count, D), and how likely they
        are (count,), in nats.
        """
        frames = NoteFrames(self.workspace, self.experiment.instrument, self.experiment.seed)
        nats, of_frames = [], []
        for n, found in enumerate(self.flow.decode(codes)):
            nats.append(latents(self.flow, n, found)[1])
            z, log_p = latents(self.flow, n, frames.some(frames.held_out & (frames.sources == n), 40)[0])
            of_frames.append([z.norm(dim=1).median(), log_p.median()])
        lengths_of_frames, nats_of_frames = torch.tensor(of_frames).T
        lengths, nats, K = codes.norm(dim=2).cpu(), torch.stack(nats).cpu(), len(self.X)
        return Beside(lengths, lengths_of_frames), Beside(nats / K, nats_of_frames / K)


def evenly(count, size):
    """At most `count` of `size` places, evenly spread, the first and the last among them."""
    return torch.linspace(0, size - 1, min(count, size)).long()
