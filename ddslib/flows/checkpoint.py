"""The file that an interrupted training goes on from."""

import time

from safetensors.torch import load_file, save_file

from ..artefacts import writing

SECONDS = 60.0  # least time between two checkpoints
SHARE = 0.05  # of the time, at most, goes into writing them


class Checkpoint:
    """The state of a training in a file, written now and then; None is no file."""

    def __init__(self, path):
        self._path, self._due = path, time.monotonic() + SECONDS

    def load(self):
        """What was saved last, if anything was."""
        return load_file(self._path) if self._path and self._path.exists() else None

    def save_if_due(self, state):
        """Save what `state` gives about once a minute, less often where that takes seconds."""
        begun = time.monotonic()
        if not self._path or begun < self._due:
            return
        with writing(self._path) as target:
            save_file(state(), target)
        now = time.monotonic()
        self._due = now + max(SECONDS, (now - begun) / SHARE)
