"""The machine's own limits, and how time and memory are measured on it."""

import contextlib
import ctypes
import gc
import platform
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from .device import policy
from .rounding import SINGLE

Result = TypeVar("Result")
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Limits(NamedTuple):
    """What the machine does at best: in single precision, or on a GPU with factors in bfloat16."""

    gflops: float  # matrix products, 10⁹ operations a second
    gbytes: float  # copies, 10⁹ bytes read or written a second

    def seconds(self, operations: float, bytes_moved: float) -> float:
        """The least time for so much work: the larger of computing and moving."""
        return max(operations / self.gflops, bytes_moved / self.gbytes) / 1e9


def timed(work: Callable[[], Result], device: torch.device) -> tuple[float, Result]:
    """How long `work` takes in seconds, once, and what it returns."""
    synchronise = policy(device).synchronise
    synchronise()
    begun = time.perf_counter()
    result = work()
    synchronise()
    return time.perf_counter() - begun, result


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """How long `work` takes, once."""
    return timed(work, device)[0]


def measure_limits(device: torch.device, repeats: int = 5) -> Limits:
    """Median rates of a copy and of a matrix product, by the library that does it then (see `fast_products`)."""
    own = policy(device)
    size = own.product_side
    A, B = torch.randn(2, size, size, device=device, dtype=own.product_dtype)
    source = torch.randn(own.copied, device=device)
    target = torch.empty_like(source)
    product = median_seconds(lambda: A @ B, device, repeats)
    copy = median_seconds(lambda: target.copy_(source), device, repeats)
    return Limits(2 * size**3 / product / 1e9, 2 * source.nbytes / copy / 1e9)


def median_seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """The median of how long `work` takes, after a first time that does not count."""
    work()
    return statistics.median(seconds(work, device) for _ in range(repeats))


def median_limits(measured: list[Limits]) -> Limits:
    return Limits(*np.median(measured, axis=0).tolist())


def name(device: torch.device) -> str:
    """The device in words."""
    if policy(device).records:
        return policy(device).label(SINGLE)
    information = Path("/proc/cpuinfo")
    model = information.exists() and re.search(r"^model name\s*: (.+)", information.read_text(), re.MULTILINE)
    processor = model[1] if model else platform.processor() or platform.machine()
    return f"{processor}, {torch.get_num_threads()} threads"


def peak_bytes(work: Callable[[], Result], device: torch.device) -> tuple[int | None, Result]:
    """The most memory that was in use during `work` above what was in use before it, and what it returns.

    On a CPU it is the process's resident memory, which needs Linux; elsewhere it is None.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # else freed memory would be used again unseen
        ctypes.CDLL(None).malloc_trim(0)  # gives it back to the system, where the C library can
    if policy(device).records:
        torch.cuda.reset_peak_memory_stats(device)
        before, result = torch.cuda.memory_allocated(device), work()
        return torch.cuda.max_memory_allocated(device) - before, result
    if not CLEAR_REFS.exists():
        return None, work()
    CLEAR_REFS.write_text("5")  # forget the peak
    before, result = _resident("VmRSS"), work()
    return _resident("VmHWM") - before, result


def _resident(field):
    return int(re.search(rf"{field}:\s*(\d+) kB", STATUS.read_text())[1]) * 1024
