"""DDS-2: a few entries a note, shared over time, that a flow for each note decodes (paper §III-C)."""

from ..search.settings import SharedCodeFit
from .method import Method
from .shared import shared_dictionary, shared_work

METHOD = Method(
    name="dds2", label="DDS-2", colour="#d1495b", settings=SharedCodeFit, dictionary=shared_dictionary,
    work=shared_work("note_flows"), flow="note_flows", published={"psa": 0.4323, "sparsity": 0.8121},
)  # fmt: skip
