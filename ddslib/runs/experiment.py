"""The unit of every table: one configuration, from which one row is made."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from ..config import ChordCount, Intensity, Polyphony


@dataclass(frozen=True, kw_only=True)
class Chords:
    """Random chords of one kind that are joined to a mixture, the first by number."""

    instrument: str
    polyphony: Polyphony
    intensity: Intensity
    chords: ChordCount
    root: str = ""  # a tree in MAPS's layout; empty for the workspace's own


@dataclass(frozen=True, kw_only=True)
class Experiment(Chords):
    """A method, and the chords that it decomposes."""

    method: str
    seed: Annotated[int, Field(ge=0)] | None = None  # of the flow's training and the start of H, if any is drawn
