"""Products of rounded numbers: what ``precision: mixed`` in a profile means.

Codes, activations, spectra and sums stay in single precision everywhere, and so do weights while they are learnt; only
the factors of products are rounded.  Which ones, and to what, is for the device to say: `ddslib.machine.device.Policy`.

Apart from all rounding, a CPU has two libraries for its products in single precision, see `fast_products`.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache

import torch


@dataclass(frozen=True)
class Rounding:
    """What the factors of products are rounded to; None leaves them as they are."""

    networks: torch.dtype | None = None  # of the MLPs of flows
    others: torch.dtype | None = None  # of frozen mixings and of stored samples
    tensor_cores: bool = False  # whether a GPU may round the factors of all other products to TF32

    @property
    def suffix(self) -> str:
        """What it adds to the name of a device."""
        return "" if self == SINGLE else ", mixed precision"

    def applied(self) -> AbstractContextManager[None]:
        """Let a GPU round within the block as this says; on a CPU it makes no difference."""
        return _may_round(torch.backends.cuda.matmul, "tf32" if self.tensor_cores else "ieee")


SINGLE = Rounding()


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
def _onednn_keeps_digits():
    """Whether oneDNN does not round although it may; it does where the CPU has matrix units (AMX) for bfloat16."""
    if not torch.cpu._is_avx512_supported():
        return False
    nearly_one = torch.full((256, 256), 1 + 2.0**-20)
    with _may_round(torch.backends.mkldnn.matmul, "bf16"):
        return torch.equal(nearly_one @ torch.eye(256), nearly_one)


@contextmanager
def _may_round(products, precision):
    """The precision to which a library of torch's may round the factors of products in single precision."""
    before = products.fp32_precision
    products.fp32_precision = precision
    try:
        yield
    finally:
        products.fp32_precision = before
