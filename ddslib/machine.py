"""The machine's own limits, and how time and memory are measured on it."""

import contextlib
import ctypes
import gc
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

Result = TypeVar("Result")

PRODUCT = {"cpu": 2048, "cuda": 8192}  # side of the matrices whose product sets the pace
FACTORS = {"cpu": torch.float32, "cuda": torch.bfloat16}  # what they are made of
COPIED = {"cpu": 2**26, "cuda": 2**29}  # numbers in the array whose copy sets the pace
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Limits:
    """What the machine does at best: in single precision, or on a GPU with factors in bfloat16."""

    gflops: float  # matrix products, 10⁹ operations a second
    gbytes: float  # copies, 10⁹ bytes read or written a second

    def seconds(self, operations: float, bytes_moved: float) -> float:
        """The least time for so much work: the larger of computing and moving."""
        return max(operations / self.gflops, bytes_moved / self.gbytes) / 1e9


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads for torch, and afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(work: Callable[[], Result], device: torch.device) -> tuple[float, Result]:
    """How long `work` takes in seconds, once, and what it returns."""
    synchronise(device)
    begun = time.perf_counter()
    result = work()
    synchronise(device)
    return time.perf_counter() - begun, result


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """How long `work` takes, once."""
    return timed(work, device)[0]


def measure_limits(device: torch.device, repeats: int = 5) -> Limits:
    """Median rates of a copy and of a matrix product, by the library that does it then (see `ddslib.precision`)."""
    size = PRODUCT[device.type]
    A, B = torch.randn(2, size, size, device=device, dtype=FACTORS[device.type])
    source = torch.randn(COPIED[device.type], device=device)
    target = torch.empty_like(source)
    product = median_seconds(lambda: A @ B, device, repeats)
    copy = median_seconds(lambda: target.copy_(source), device, repeats)
    return Limits(2 * size**3 / product / 1e9, 2 * source.nbytes / copy / 1e9)


def median_seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """How long `work` takes, after a first time that does not count."""
    work()
    return statistics.median(seconds(work, device) for _ in range(repeats))


def median_limits(measured: list[Limits]) -> Limits:
    return Limits(*(statistics.median(getattr(m, rate) for m in measured) for rate in ("gflops", "gbytes")))


def rates(measured: dict, size: str) -> dict[str, float]:
    """Operations a second of what `make bench` has measured at a size, by the first word of what was done."""
    return {
        row["name"].split()[0]: 1000 * row["operations"] / row["ms"] for row in measured["rows"] if row["size"] == size
    }


def name(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {torch.get_num_threads()} threads"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


class PeakMemory:
    """The most memory that was in use within a ``with`` block above what was in use before it, in bytes.

    On a CPU it is the process's resident memory, which needs Linux; elsewhere ``bytes`` stays None.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.bytes: int | None = None

    def __enter__(self) -> "PeakMemory":
        gc.collect()
        _give_back()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
        elif CLEAR_REFS.exists():
            CLEAR_REFS.write_text("5")  # forget the peak
            self._before = _resident("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self.device) - self._before
        elif CLEAR_REFS.exists():
            self.bytes = _resident("VmHWM") - self._before


def _give_back() -> None:
    """Return freed memory to the system, where the C library can: else it would be used again unseen."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _resident(field: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024
