"""The unit of every table: one configuration, from which one row is made."""

from dataclasses import dataclass

from ..methods.registry import find


@dataclass(frozen=True, kw_only=True)
class Chords:
    """Random chords of one kind that are joined to a mixture, the first by number."""

    instrument: str
    polyphony: int
    intensity: str
    chords: int
    root: str = ""  # a tree in MAPS's layout; empty for the workspace's own


@dataclass(frozen=True, kw_only=True)
class Experiment(Chords):
    """A method, and the chords that it decomposes.  Raises `InputError` where there is no such method."""

    method: str
    seed: int | None = None  # of the flow's training and of the start of H; None where nothing is drawn

    def __post_init__(self):
        find(self.method)
