"""What a device is good at: whatever a GPU does differently stands in its `Policy`; nobody else asks what it is."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from ..config import InputError
from .rounding import SINGLE, Rounding

BFLOAT16 = torch.bfloat16


@dataclass(frozen=True)
class Policy:
    """What is done on one device.

    A CPU is fastest on pieces of work that fit its caches.  A GPU wants much work at a time, and has to be waited for
    whenever a value is looked at; so what it repeats is recorded once, and is the same every time.

    What a field is set to here is right for a CPU.
    """

    device: torch.device
    records: bool = False  # whether repeated work is recorded, see `ddslib.machine.recording.Recorder`
    side_by_side: bool = True  # whether tasks gain by running beside each other
    between_looks: int = 1  # iterations of a search between two looks at its costs
    codes_at_a_time: int = 1280  # that a flow decodes where each frame has codes of its own
    samples_at_a_time: int = 2048  # stored entries that are not on the device whole
    gradient_bytes: int = 2 * 2**30  # kept from decoding for the way back, at most; else it is decoded once more
    validation_batch: int = 256  # frames of a unit at a time
    strip: int = 128  # rows of a triangle that are multiplied at a time
    stack_batch: int = 2048  # vectors of a stack of flows at a time
    product_side: int = 2048  # of the matrices whose product sets the pace
    product_dtype: torch.dtype = torch.float32  # what they are made of
    copied: int = 2**26  # numbers in the array whose copy sets the pace

    def fits(self, size: int) -> bool:
        """Whether so many bytes should move to the device: to a GPU, if they take at most half of what is free."""
        return self.records and size < torch.cuda.mem_get_info(self.device)[0] / 2

    def moved(self, chosen: Tensor) -> Tensor:
        """On the device; to a GPU from memory that it reads by itself, so that nothing has to wait for the copy."""
        if chosen.device.type == self.device.type:
            return chosen
        return chosen.pin_memory().to(self.device, non_blocking=True)

    def adam(self, variables: Iterable[Tensor], step_size: float) -> torch.optim.Adam:
        """Adam whose step size is a tensor on the device, so that it can be changed there."""
        dtype = torch.float32 if self.records else torch.float64
        step = torch.tensor(step_size, dtype=dtype, device=self.device)
        return torch.optim.Adam(list(variables), lr=step, fused=True, capturable=self.records)

    def synchronise(self):
        """Wait until all work is done."""
        if self.records:
            torch.cuda.synchronize(self.device)

    def rounding(self, precision: Literal["single", "mixed"], training: bool = False) -> Rounding:
        """How a profile's `precision` rounds the factors of products here, in searches or in trainings.

        A GPU multiplies numbers of 10 bits (TF32) several times as fast as those of 23, and numbers of 7 bits
        (bfloat16) twice as fast again.  A CPU has no TF32, and gains by bfloat16 where it has instructions for it; in
        trainings rounded mixings would make the loss worse there, and MLPs gain little.
        """
        if precision == "single":
            return SINGLE
        if self.records:
            return Rounding(networks=BFLOAT16, tensor_cores=True)
        if training or not torch.cpu._is_avx512_bf16_supported():
            return SINGLE
        return Rounding(networks=BFLOAT16, others=BFLOAT16)

    def arithmetic(self, rounding: Rounding) -> str:
        """Results are the same, up to their last digits, where this is."""
        return self.device.type + rounding.suffix

    def label(self, rounding: Rounding) -> str:
        """The arithmetic in words, with the name of a GPU."""
        kind = torch.cuda.get_device_name(self.device) if self.records else self.device.type
        return kind + rounding.suffix


@cache
def policy(device: torch.device) -> Policy:
    """What is done on `device`.  Raises `InputError` where it is neither a CPU nor a GPU of NVIDIA."""
    if device.type == "cpu":
        return Policy(device)
    if device.type == "cuda":
        whole = 2**62
        return Policy(
            device, records=True, side_by_side=False, between_looks=10, codes_at_a_time=2**15,
            gradient_bytes=16 * 2**30, validation_batch=4096, strip=whole, stack_batch=whole, product_side=8192,
            product_dtype=BFLOAT16, copied=2**29,
        )  # fmt: skip
    raise InputError(f"device {device}: expected cpu or cuda")


def devices() -> list[torch.device]:
    """All kinds that this machine has."""
    return [torch.device(name) for name in ("cpu", "cuda") if name == "cpu" or torch.cuda.is_available()]


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads for torch, and afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def resolve_device(name: str) -> torch.device:
    """``"auto"`` is CUDA where there is one, else the CPU; other names are torch's.

    Raises `InputError` for what cannot be had here.
    """
    here = devices()
    if name == "auto":
        return here[-1]
    if name.partition(":")[0] not in map(str, here):
        raise InputError(f"device {name!r} cannot be had here; expected auto or one of {', '.join(map(str, here))}")
    return torch.device(name)
