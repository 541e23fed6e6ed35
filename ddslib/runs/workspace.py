"""A profile at work in a folder: all that can be asked of it, up to the experiments of the book's comparison."""

from collections.abc import Mapping
from typing import Any

from ..methods.registry import registered
from .experiment import Experiment
from .rows import Rows


class Workspace(Rows):
    """A profile, the folder that holds what is computed for it, and the data that it is computed from.

    It makes what is asked for, corpus, frames, flows, decompositions and rows, and keeps it under the digest of all
    that it depends on; asked again, it reads it back.  `maps_root` names a tree in MAPS's layout; left empty, the
    corpus is rendered below `folder`.
    """

    def changed(self, settings: Mapping[str, Any]) -> "Workspace":
        """The same with other values of single keys of the profile, by their dotted names."""
        maps_root = "" if self.is_rendered else self.root
        return Workspace(self.profile.changed(settings), self.folder, maps_root, str(self.device))

    def comparison(self) -> list[Experiment]:
        """The experiments of the book's comparison: all methods on all test pianos.

        What draws something has several seeds, if it can be afforded.
        """
        first = self.profile.seed
        seeds = range(first, first + self.profile.evaluation.seeds)
        return [
            self.experiment(method.name, instrument=instrument, seed=seed)
            for method in registered().values()
            if method.compared
            for instrument in self.instruments.test
            for seed in (seeds if method.flow and method.affordable else [first])
        ]
