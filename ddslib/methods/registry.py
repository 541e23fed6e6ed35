"""Which methods there are.  A new one is a file and a line here, or an entry point of another package."""

from functools import cache
from importlib.metadata import entry_points

from ..config import InputError, Profile, validated
from ..search.settings import Fit
from . import dds1, dds2, dds3, nmf, one_blend, one_code
from .method import Method

OWN = (nmf, dds1, dds2, dds3, one_code, one_blend)  # in the book's order
ENTRY_POINTS = "ddslib.methods"


@cache
def registered() -> dict[str, Method]:
    """All methods by name: those of the book, in its order, then those of other packages."""
    others = [entry.load() for entry in sorted(entry_points(group=ENTRY_POINTS))]
    return {method.name: method for method in (*(module.METHOD for module in OWN), *others)}


def find(name: str, trouble: str = "no method") -> Method:
    """The method of that name.  Raises `InputError` listing those that there are."""
    if name not in registered():
        raise InputError(f"{trouble} {name!r}; expected one of {', '.join(registered())}")
    return registered()[name]


def settings(profile: Profile, name: str) -> Fit:
    """What the profile says of a method.  Raises `InputError` naming the file and the key."""
    return validated(
        find(name, f"{profile.file}: no section or method").settings, profile.methods.get(name, {}), profile.file, name
    )
