"""What DDS-2 and DDS-3 share: they differ in their flow, and in nothing else."""

from ..search.decoded import SharedDictionary
from ..search.settings import SharedCodeFit
from .method import Materials


def shared_dictionary(materials: Materials, settings: SharedCodeFit) -> SharedDictionary:
    """C entries of each source."""
    return SharedDictionary(materials.flow(), settings.components, settings.log_determinant)
