"""NMF: every stored frame is an entry, and only the activations are searched (paper §III-A)."""

from ..search.settings import Fit
from ..search.stored import SampleDictionary
from ..search.work import CountedWork
from .method import Method


def _dictionary(materials, settings):
    frames, own = materials.stored(), materials.policy
    return SampleDictionary(
        frames.values, frames.sources, materials.n_sources, own.device, own.fits(frames.values.nbytes),
        materials.rounding.others, own.samples_at_a_time,
    )  # fmt: skip


METHOD = Method(
    name="nmf", label="NMF", colour="#222831", settings=Fit, dictionary=_dictionary,
    work=CountedWork(lambda sizes: sizes.M, "TKNM", {"X_hat": {"T": 1, "K": 1, "N": 0, "M": 1}}),
    published={"psa": 0.3568, "sparsity": 0.6824},
)  # fmt: skip
