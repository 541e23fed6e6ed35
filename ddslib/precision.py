"""Products of rounded numbers: what ``precision: mixed`` in a profile means on each device.

A GPU multiplies numbers of 10 bits (TF32) several times as fast as those of 23, and numbers of 7 bits (bfloat16) twice
as fast again.  There the MLPs of flows are in bfloat16, and all other products in TF32, in searches and in trainings.

A CPU has no TF32.  Where it has instructions for bfloat16, it multiplies that twice as fast; so searches use it for
MLPs, mixings and stored samples.  Trainings do without: rounded mixings make the loss worse, and MLPs gain little.

Codes, activations, spectra and sums stay in single precision everywhere, and so do weights while they are learnt.

Apart from all rounding, a CPU has two libraries for its products in single precision, see `fast_products`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

FACTORS = {"cpu": torch.bfloat16, "cuda": torch.float32}  # of a search's products outside MLPs


def pays(device: torch.device) -> bool:
    """Whether the device multiplies rounded numbers faster."""
    return device.type == "cuda" or (device.type == "cpu" and torch.cpu._is_avx512_bf16_supported())


@contextmanager
def tensor_cores(used: bool) -> Iterator[None]:
    """Whether a GPU may round the factors of products in single precision to TF32; on a CPU it makes no difference."""
    with _may_round(torch.backends.cuda.matmul, "tf32" if used else "ieee"):
        yield


@contextmanager
def fast_products() -> Iterator[None]:
    """Products in single precision by oneDNN instead of MKL on a CPU, where it keeps their digits.

    MKL uses registers of 512 bits on Intel's CPUs only.  Torch hands such products to oneDNN, which uses them on any,
    if it is told that it may round their factors to bfloat16.
    """
    products = torch.backends.mkldnn.matmul
    with _may_round(products, "bf16" if _onednn_keeps_digits() else products.fp32_precision):
        yield


@cache
def _onednn_keeps_digits() -> bool:
    """Whether oneDNN does not round although it may; it does where the CPU has matrix units (AMX) for bfloat16."""
    if not torch.cpu._is_avx512_supported():
        return False
    nearly_one = torch.full((256, 256), 1 + 2.0**-20)
    with _may_round(torch.backends.mkldnn.matmul, "bf16"):
        return torch.equal(nearly_one @ torch.eye(256), nearly_one)


@contextmanager
def _may_round(products: Any, precision: str) -> Iterator[None]:
    """The precision to which a library of torch's may round the factors of products in single precision."""
    before = products.fp32_precision
    products.fp32_precision = precision
    try:
        yield
    finally:
        products.fp32_precision = before
