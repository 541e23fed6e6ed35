"""NMF: every stored frame is an entry, and only the activations are searched (paper §III-A)."""

from pydantic import PositiveInt

from ..config import frozen
from ..search.settings import Fit
from ..search.stored import SampleDictionary
from ..search.work import CountedWork
from .method import Method


@frozen
class StoredFit(Fit):
    """A decomposition with stored entries."""

    thin: PositiveInt = 1  # every thin-th frame is an entry
    piano: str = ""  # whose frames are entries; empty for those of all training pianos


def _dictionary(materials, settings):
    frames, own = materials.stored(), materials.policy
    of_piano = frames.of_piano(settings.piano)
    values, sources = (part[of_piano][:: settings.thin] for part in (frames.values, frames.sources))
    return SampleDictionary(
        values, sources, materials.n_sources, own.device, own.fits(values.nbytes), materials.rounding.others,
        own.samples_at_a_time, settings.domain(materials.gamma), settings.colour_step_size > 0,
    )  # fmt: skip


METHOD = Method(
    name="nmf", label="NMF", colour="#222831", settings=StoredFit, dictionary=_dictionary,
    work=CountedWork(lambda sizes: sizes.M, "TKNM", {"X_hat": {"T": 1, "K": 1, "N": 0, "M": 1}}),
    published={"psa": 0.3568, "sparsity": 0.6824},
)  # fmt: skip
