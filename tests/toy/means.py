"""A method of another package: NMF with one entry a note, the mean of its stored frames."""

import numpy as np

from ddslib.config import frozen
from ddslib.methods.method import Materials, Method
from ddslib.search.settings import Fit
from ddslib.search.stored import SampleDictionary
from ddslib.search.work import CountedWork


@frozen
class MeansFit(Fit):
    """A profile need not have a section for it."""

    iterations: int = 50
    step_size: float = 0.01


def dictionary(materials: Materials, settings: MeansFit) -> SampleDictionary:
    frames, notes = materials.stored(), range(materials.n_sources)
    means = np.stack([frames.values[frames.sources == note].mean(axis=0) for note in notes])
    return SampleDictionary(means, np.array(notes), len(notes), materials.policy.device, resident=True)


METHOD = Method(
    name="means",
    label="Means",
    colour="#6a4c93",
    settings=MeansFit,
    dictionary=dictionary,
    work=CountedWork(lambda sizes: sizes.N, "TKN", {"X_hat": {"T": 1, "K": 1, "N": 1}}),
)
