"""One code: DDS-3 whose codes all notes share, since a recording has one piano, one touch and one room.

The conditional flow's code is what is not the note.  In DDS-3 each note of a recording has codes of its own; here the
same few serve all notes, so a note cannot borrow the partials of another.
"""

from typing import Any

from ..search.decoded import SharedDictionary
from ..search.settings import SharedCodeFit
from .method import Method
from .shared import shared_work


class TiedDictionary(SharedDictionary):
    """C entries per source, decoded from C codes (1, C, D) that are the same for all sources.

    It is made of what a `SharedDictionary` is made of.
    """

    def __init__(self, *given: Any, **named: Any):
        super().__init__(*given, **named)
        self.codes = self.codes[:1].clone()

    def _codes_by_source(self):
        return self.codes.expand(self._flow.n_sources, -1, -1)

    def pull_back(self, G, H, likelihood_weight):
        of_codes, *more = super().pull_back(G, H, likelihood_weight)
        return of_codes.sum(dim=0, keepdim=True), *more


def _dictionary(materials, settings):
    domain, coloured = settings.domain(materials.gamma), settings.colour_step_size > 0
    return TiedDictionary(materials.flow(), settings.components, settings.log_determinant, domain, coloured)


METHOD = Method(
    name="one_code", label="one code", colour="#6a4c93", settings=SharedCodeFit, dictionary=_dictionary,
    work=shared_work("conditional_flow"), flow="conditional_flow",
)  # fmt: skip
