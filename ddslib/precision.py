"""Products of rounded numbers: what ``precision: mixed`` in a profile means on each device.

A GPU multiplies numbers of 10 bits (TF32) several times as fast as those of 23, and numbers of 7 bits (bfloat16) twice
as fast again.  There the MLPs of searched flows are in bfloat16, and all other products in TF32, in training too.

A CPU has no TF32.  Where it has instructions for bfloat16, it multiplies that twice as fast; so searches use it for
MLPs, mixings and stored samples.  Trainings do without: rounded mixings make the loss worse, and MLPs gain little.

Codes, activations, spectra and sums stay in single precision everywhere.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

FACTORS = {"cpu": torch.bfloat16, "cuda": torch.float32}  # of a search's products outside MLPs


def pays(device: torch.device) -> bool:
    """Whether the device multiplies rounded numbers faster."""
    return device.type == "cuda" or (device.type == "cpu" and torch.cpu._is_avx512_bf16_supported())


@contextmanager
def tensor_cores(used: bool) -> Iterator[None]:
    """Whether a GPU may round the factors of products in single precision to TF32; on a CPU it makes no difference."""
    products = torch.backends.cuda.matmul
    before = products.fp32_precision
    products.fp32_precision = "tf32" if used else "ieee"
    try:
        yield
    finally:
        products.fp32_precision = before
