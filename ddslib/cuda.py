"""What makes an NVIDIA GPU fast.  On a CPU none of this does anything."""

from collections.abc import Callable

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
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self) -> None:
        if self._stream is None:
            self._work()
            return
        self._calls += 1
        if self._calls <= WARM_UP:
            self._warm_up()
            return
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=self._stream):  # records, and does nothing
                self._work()
        self._graph.replay()

    def _warm_up(self) -> None:
        """On the stream of the recording."""
        usual = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(usual)
        with torch.cuda.stream(self._stream):
            self._work()
        usual.wait_stream(self._stream)


def fits(size: int, device: torch.device) -> bool:
    """Whether so many bytes should move to the device whole: to a GPU, if they take at most half of what is free."""
    return device.type == "cuda" and size < torch.cuda.mem_get_info(device)[0] / 2
