"""Flows that have learnt nothing yet, to measure and to check with."""

import torch

from .glow import ConditionalGlow
from .realnvp import RealNVP


def untrained(kind, sizes, seed=0):
    """A stack of ``"note_flows"`` or one ``"conditional_flow"`` of that size, with ActNorm's state."""
    generator = torch.Generator().manual_seed(seed)
    shape = sizes.N, sizes.K, sizes.F, sizes.hidden
    if kind == "note_flows":
        return RealNVP(*shape, generator)
    flow = ConditionalGlow(*shape, 1.0, generator)
    flow(torch.rand(64, sizes.K, generator=generator))  # where ActNorm learns how to start
    return flow
