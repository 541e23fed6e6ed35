"""What DDS-2 and DDS-3 share: they differ in their flow, and in nothing else."""

from ..search.decoded import SharedDictionary
from ..search.settings import SharedCodeFit
from ..search.work import DecodedWork
from .method import Materials


def shared_dictionary(materials: Materials, settings: SharedCodeFit) -> SharedDictionary:
    """C entries of each source."""
    domain, coloured = settings.domain(materials.gamma), settings.colour_step_size > 0
    return SharedDictionary(materials.flow(), settings.components, settings.log_determinant, domain, coloured)


def shared_work(flow: str) -> DecodedWork:
    """Of C entries of each source, which are used in every frame."""
    of_W, of_X_hat = {"T": 0, "K": 2, "N": 1, "C": 1}, {"T": 1, "K": 1, "N": 1, "C": 1, "K, fixed widths": 1}
    return DecodedWork(lambda sizes: sizes.N * sizes.C, "TKNC", {"W": of_W, "X_hat": of_X_hat}, flow)
