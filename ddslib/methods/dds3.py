"""DDS-3: a few entries a note, shared over time, that one conditional flow decodes (paper §III-D)."""

from ..search.settings import SharedCodeFit
from .method import Method
from .shared import shared_dictionary, shared_work

METHOD = Method(
    name="dds3", label="DDS-3", colour="#00798c", settings=SharedCodeFit, dictionary=shared_dictionary,
    work=shared_work("conditional_flow"), flow="conditional_flow", published={"psa": 0.6475, "sparsity": 0.9367},
)  # fmt: skip
