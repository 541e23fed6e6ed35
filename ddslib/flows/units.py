"""The frames that each unit learns from and is validated with, and in which order they come."""

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from ..config import InputError
from ..machine.device import policy


class UnitFrames:
    """The frames of each of a flow's units, on both sides of the split that `validation` (M,) marks.

    They may be larger than memory: they move to the device whole if the device's policy says so, else as they are read.
    Raises `InputError` if a unit has no frames on either side.
    """

    def __init__(self, flow, frames, validation):
        self._policy = policy(flow.like.device)
        self._values, self._sources = torch.as_tensor(frames.values), torch.as_tensor(frames.sources)
        if self._policy.fits(frames.values.nbytes):
            self._values, self._sources = (part.to(self._policy.device) for part in (self._values, self._sources))
        units = flow.units_of(frames.sources) == np.arange(flow.units)[:, None]
        self.training = _rows(units & ~validation, "train on")
        self.validation = _rows(units & validation, "validate with")

    def batches(self, active, size, generator):
        """Rows (steps, active units, size) of an epoch: every unit goes round its own frames, the longest once."""
        own = [self.training[unit] for unit in active]
        steps = -(-max(map(len, own)) // size)
        orders = [_round(rows, steps * size, generator) for rows in own]
        return torch.stack(orders).to(self._values.device).unflatten(1, (steps, size)).transpose(0, 1)

    def held_out(self, active):
        """Validation rows (active units, longest), and which of them are real and not padding, as 1 or 0."""
        chosen = [self.validation[unit] for unit in active]
        rows = pad_sequence(chosen, batch_first=True).to(self._values.device)
        real = pad_sequence([torch.ones(len(own)) for own in chosen], batch_first=True)
        return rows, real.to(self._policy.device)

    def read(self, rows):
        """Frames (units, B, K) and sources (units, B) of rows (units, B), on the device."""
        return self._policy.moved(self._values[rows]), self._policy.moved(self._sources[rows])


def _rows(chosen, purpose):
    """Where each row of `chosen` (units, M) is true."""
    rows = [torch.from_numpy(np.flatnonzero(own)) for own in chosen]
    if not all(map(len, rows)):
        raise InputError(f"source {chosen.any(axis=1).argmin()} has no frames to {purpose}")
    return rows


def _round(rows, count, generator):
    """So many of the rows, all of them in another order before one comes again."""
    rounds = [rows[torch.randperm(len(rows), generator=generator)] for _ in range(-(-count // len(rows)))]
    return torch.cat(rounds)[:count]
