"""One blend: stored entries that are tied as the codes of `ddslib.methods.one_code` are, without generation.

Stored frames of a note are told apart by their piano, by how loudly the key was struck, and by their age.  An entry is
a weighted mean of them, with weights that all notes share.
"""

from typing import Self

import numpy as np
import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from ..config import frozen
from ..machine.work import NUMBER, Work
from ..recordings.maps import parse
from ..search.settings import SharedCodeFit
from ..search.work import CountedWork
from ..spectra.frames import Frames
from .method import Method
from .one_code import TiedDictionary

AGES = 6  # classes of frames by their place in the recording, each about twice as long as the one before


@frozen
class OneBlendFit(SharedCodeFit):
    """A profile need not have a section for it."""

    iterations: PositiveInt = 130
    step_size: PositiveFloat = 0.1


class Blend:
    """Decodes codes (N, C, G) to spectra (N, C, K) as a flow does: means of spectra (N, G, K) that softmax weighs."""

    def __init__(self, spectra: Tensor):
        self._spectra = spectra
        self.n_sources, self.code_dimensions, self.dimensions = spectra.shape
        self.like = spectra

    def freeze(self) -> Self:
        """Itself, since nothing is to be fixed."""
        return self

    def decode(self, codes: Tensor) -> Tensor:
        """Spectra (N, C, K)."""
        return codes.softmax(dim=-1) @ self._spectra


def mean_spectra(frames: Frames, n_sources: int) -> Tensor:
    """The mean spectrum of each note and group (N, G, K).

    Of a group that a note lacks it is that of all its frames, and of a note without any it is silence.
    """
    first = np.searchsorted(frames.recordings, frames.recordings)  # frames of a recording are neighbours, in order
    age = np.minimum(np.log2(np.arange(len(first)) - first + 1).astype(int), AGES - 1)
    kinds = [(recording.instrument, recording.loudness) for recording in map(parse, frames.names)]
    classes = {kind: index for index, kind in enumerate(sorted(set(kinds)))}
    group = np.array([classes[kind] for kind in kinds])[frames.recordings] * AGES + age
    spectra = np.zeros((n_sources, len(classes) * AGES, frames.values.shape[1]), frames.values.dtype)
    for source in range(n_sources):
        own, values = group[frames.sources == source], frames.values[frames.sources == source]
        if len(values):
            spectra[source] = values.mean(axis=0)
        for number in np.unique(own):
            spectra[source, number] = values[own == number].mean(axis=0)
    return torch.from_numpy(spectra)


def _dictionary(materials, settings):
    domain, coloured = settings.domain(materials.gamma), settings.colour_step_size > 0
    blend = Blend(mean_spectra(materials.stored(), materials.n_sources).to(materials.policy.device))
    return TiedDictionary(blend, settings.components, settings.log_determinant, domain, coloured)


class BlendedWork(CountedWork):
    """At least: there may be more pianos and loudnesses than one."""

    def building(self, sizes):
        return Work(2 * sizes.K * AGES * self.entries(sizes), NUMBER * sizes.K * AGES * sizes.N)


METHOD = Method(
    name="one_blend", label="one blend", colour="#8a5a44", settings=OneBlendFit, dictionary=_dictionary,
    work=BlendedWork(
        lambda sizes: sizes.N * sizes.C, "TKNC",
        {"W": {"T": 0, "K": 1, "N": 1, "C": 1}, "X_hat": {"T": 1, "K": 1, "N": 1, "C": 1}},
    ),
    compared=False,
)  # fmt: skip
