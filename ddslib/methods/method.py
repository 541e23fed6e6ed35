"""What a method is: a fact sheet, and what its dictionary may be made from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..config import Profile, Sizes
from ..flows.flow import Flow
from ..machine.device import Policy
from ..machine.rounding import SINGLE, Rounding
from ..machine.work import Work
from ..search.dictionary import Dictionary
from ..search.settings import Fit
from ..search.work import CountedWork
from ..spectra.frames import Frames


@dataclass(frozen=True)
class Materials:
    """What a dictionary may be made from.  Stored frames and the flow are fetched when they are asked for."""

    n_sources: int  # N
    frames: int  # T, of the mixture
    stored: Callable[[], Frames]  # labelled frames of isolated notes
    flow: Callable[[], Flow]  # trained on them, frozen and rounded
    policy: Policy  # of the device that it is for
    rounding: Rounding = SINGLE
    gamma: float = 1e4  # of the log compression of spectra


@dataclass(frozen=True)
class Method:
    """All that is known of a method.

    Its section of a profile has its name and holds its `settings`, which may have any keys beside those of
    `ddslib.search.settings`, with defaults.  Methods of other packages are found by the entry point group
    ``ddslib.methods``: see `ddslib.methods.registry`.
    """

    name: str
    label: str  # in tables and figures
    colour: str
    settings: type[Fit]
    dictionary: Callable[[Materials, Any], Dictionary]
    work: CountedWork
    flow: str | None = None  # the profile's recipe of the flow that it decodes with
    published: Mapping[str, float] | None = None  # its line in the paper's Table II
    compared: bool = True  # whether the book's comparison has rows of it
    affordable: bool = True  # whether its searches are fast enough to be repeated with several seeds and settings

    @property
    def has_components(self) -> bool:
        """Whether a profile says how many entries a source has."""
        return hasattr(self.settings, "components")

    def brief(self, components: int = 2) -> Fit:
        """Settings of a short search, for whoever measures or checks."""
        return self.settings(iterations=6, step_size=0.01, **{"components": components} if self.has_components else {})

    def sizes(self, profile: Profile, settings: Fit, T: int, M: int) -> Sizes:
        """What the cost of its searches depends on, for T frames of a mixture and M stored ones."""
        return profile.sizes(self.flow, T=T, C=getattr(settings, "components", 1), M=M)

    def search_work(self, profile: Profile, settings: Fit, T: int, M: int) -> Work:
        """What a whole search has to do."""
        return settings.iterations * self.work.iteration(self.sizes(profile, settings, T, M))
