"""Repeated work for the price of one launch: what makes an NVIDIA GPU fast.  On a CPU it does nothing."""

import torch

from .device import policy

WARM_UP = 3  # calls before the recording: in the first ones libraries allocate what they need


class Recorder:
    """Does work of many small kernels for the price of one launch: records it once as a CUDA graph, then replays that.

    The kernels of a small flow take longer to launch than to run.  The work has to be the same at every call, and to
    use the same tensors.  It must not look at a value on the way, and must not fetch anything from the CPU.  Its
    arguments may be other tensors of the same shapes; its result is overwritten by the next call.  It may draw from
    `generators`.
    """

    def __init__(self, device, generators=()):
        self._device, self._generators = device, generators
        self._calls, self._graph = 0, None
        self._stream = torch.cuda.Stream(device) if policy(device).records else None

    def __call__(self, work, *arguments):
        if self._stream is None:
            return work(*arguments)
        self._calls += 1
        if self._calls <= WARM_UP:
            return self._warm_up(work, *arguments)
        if self._graph is None:
            self._record(work, *arguments)
        for own, given in zip(self._arguments, arguments, strict=True):
            own.copy_(given)
        self._graph.replay()
        return self._result

    def _warm_up(self, work, *arguments):
        """On the stream of the recording."""
        usual = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(usual)
        with torch.cuda.stream(self._stream):
            result = work(*arguments)
        usual.wait_stream(self._stream)
        return result

    def _record(self, work, *arguments):
        self._arguments = [argument.clone() for argument in arguments]
        self._graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            self._graph.register_generator_state(generator)
        with torch.cuda.graph(self._graph, stream=self._stream):  # records, and does nothing
            self._result = work(*self._arguments)
