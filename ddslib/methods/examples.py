"""Dictionaries of any size that have learnt nothing: what measurements, benchmarks and checks work with."""

from functools import cache
from typing import Any

import numpy as np
import torch

from ..config import Sizes
from ..flows.untrained import untrained
from ..machine.device import Policy
from ..machine.rounding import SINGLE, Rounding
from ..search.dictionary import Dictionary
from ..spectra.frames import Frames
from .method import Materials, Method


def materials(
    method: Method, sizes: Sizes, policy: Policy, rounding: Rounding = SINGLE, dtype: torch.dtype = torch.float32
) -> Materials:
    """What a dictionary of that size may be made from: an untrained flow, or random samples, each made once."""
    return Materials(
        n_sources=sizes.N,
        frames=sizes.T,
        stored=cache(lambda: random_frames(sizes.M, sizes, dtype)),
        flow=cache(lambda: untrained(method.flow, sizes).to(policy.device, dtype).freeze(rounding)),
        policy=policy,
        rounding=rounding,
    )


def example(method: Method, sizes: Sizes, policy: Policy, **more: Any) -> Dictionary:
    """The method's dictionary of that size; what it may be given is as in `materials`."""
    return method.dictionary(materials(method, sizes, policy, **more), method.brief(sizes.C))


def random_frames(count: int, sizes: Sizes, dtype: torch.dtype = torch.float32) -> Frames:
    """So many frames, of the sources in turn."""
    number = np.arange(count)
    values = torch.rand(count, sizes.K, dtype=dtype, generator=torch.Generator().manual_seed(0)).numpy()
    return Frames(values, number % sizes.N, np.zeros_like(number), ("MAPS_ISOL_NO_M_S0_M60_RANDOM",), "")
