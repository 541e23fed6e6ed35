"""What makes an NVIDIA GPU fast.  On a CPU none of this does anything."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

WARM_UP = 3  # calls before the recording: in the first ones libraries allocate what they need


class Replayed:
    """`work` of many small kernels for the price of one launch: it is recorded once as a CUDA graph, then replayed.

    The kernels of a small flow take longer to launch than to run.  `work` has to use the same tensors at every call,
    must not look at a value on the way, and must not fetch anything from the CPU.
    """

    def __init__(self, work: Callable[[], None], device: torch.device):
        self._work, self._device = work, device
        self._calls, self._graph = 0, None

    def __call__(self) -> None:
        if self._device.type != "cuda":
            self._work()
            return
        self._calls += 1
        if self._calls <= WARM_UP:
            self._warm_up()
            return
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):  # records, and does nothing
                self._work()
        self._graph.replay()

    def _warm_up(self) -> None:
        """On another stream than the usual one, as recording will be."""
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            self._work()
        torch.cuda.current_stream(self._device).wait_stream(stream)


@contextmanager
def tensor_cores() -> Iterator[None]:
    """Products whose factors are rounded to 10 bits of mantissa (TF32), and whose sums are in single precision.

    For flows, which are trained with noise that is coarser than the rounding.  What is measured of a decomposition
    stays in single precision.
    """
    products = torch.backends.cuda.matmul
    before, products.allow_tf32 = products.allow_tf32, True
    try:
        yield
    finally:
        products.allow_tf32 = before


def fits(size: int, device: torch.device) -> bool:
    """Whether so many bytes should move to the device whole: to a GPU, if they take at most half of what is free."""
    return device.type == "cuda" and size < torch.cuda.mem_get_info(device)[0] / 2
