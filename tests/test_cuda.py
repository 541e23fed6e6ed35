"""What is done for a GPU.  Where there is none, what can be known without one."""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ddslib import decomposition
from ddslib.config import CodeFit
from ddslib.cuda import WARM_UP, Replayed, fits
from ddslib.dictionaries import FrameDictionary, SharedDictionary
from ddslib.flows import AffineMap, ConditionalGlow, RealNVP

CPU = torch.device("cpu")
FIT = CodeFit(
    iterations=12,
    step_size=0.01,
    positivity="relu",
    likelihood_weight=0.01,
    sparsity_weight=0.001,
    log_determinant=True,
    start="random",
)
N, K, T = 3, 16, 7
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU")


def note_flows():
    return RealNVP(N, K, 2, (8,))


def conditional_flow():
    flow = ConditionalGlow(N, K, 2, (8,), 1.0)
    flow(torch.rand(64, K, generator=torch.Generator().manual_seed(0)))  # where ActNorm learns how to start
    return flow


METHODS = {
    "DDS-1": (note_flows, lambda flow: FrameDictionary(flow, T, log_determinant=True, block=8)),
    "DDS-1, decoded twice": (note_flows, lambda flow: FrameDictionary(flow, T, True, block=8, keep=0)),
    "DDS-2": (note_flows, lambda flow: SharedDictionary(flow, 2, log_determinant=True)),
    "DDS-3": (conditional_flow, lambda flow: SharedDictionary(flow, 2, log_determinant=True)),
}


@pytest.fixture
def mixture():
    return torch.rand(K, T, generator=torch.Generator().manual_seed(1))


class Recordable(TorchDispatchMode):
    """Fails where a value is looked at, and where a tensor is on another device: neither can be in a CUDA graph."""

    LOOKS = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal", "unique")

    def __init__(self, device):
        super().__init__()
        self._device = device

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        assert name not in self.LOOKS, f"{name} looks at a value"
        if name in ("index", "index_put_"):
            assert all(index is None or index.dtype != torch.bool for index in args[1]), f"{name} looks at a mask"
        found = function(*args, **(kwargs or {}))
        tensors = [part for part in tree_leaves((args, kwargs, found)) if isinstance(part, torch.Tensor)]
        assert all(tensor.device.type == self._device for tensor in tensors), f"{name} leaves the {self._device} device"
        return found


def elsewhere(flow):
    """The frozen flow on the device `meta`, whose tensors have no values: whoever needs one fails."""
    flow.freeze()
    for part in getattr(flow, "_frozen", []):
        if isinstance(part, AffineMap):
            part.matrix, part.offset = part.matrix.to("meta"), part.offset.to("meta")
    flow.to("meta").freeze = lambda: flow
    return flow


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_an_iteration_can_be_recorded(method, device, mixture, monkeypatch):
    build, dictionary_of = METHODS[method]
    flow, X = build(), mixture.to(device)
    adam = SimpleNamespace(step=lambda: None)  # its own steps are PyTorch's concern
    monkeypatch.setattr(decomposition, "_adam", lambda variable, step_size: adam)
    dictionary = dictionary_of(elsewhere(flow) if device == "meta" else flow)
    search = decomposition._Search(X, dictionary, FIT, dictionary.start(X))
    search.iterate()  # what is done but once
    with Recordable(device):
        search.iterate()


def test_what_cannot_be_recorded_is_seen():
    for name, work in {
        "_local_scalar_dense looks at a value": lambda: torch.ones(1).item(),
        "index looks at a mask": lambda: torch.ones(3)[torch.ones(3, dtype=torch.bool)],
    }.items():
        with pytest.raises(AssertionError, match=name), Recordable("cpu"):
            work()
    with pytest.raises(AssertionError, match="eye leaves the meta device"), Recordable("meta"):
        torch.eye(3).to("meta")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("positivity", ["relu", "projection"])
def test_an_iteration_begins_with_the_tensors_that_the_last_one_left(method, positivity, mixture):
    """A recorded graph reads and writes the same memory every time."""
    build, dictionary_of = METHODS[method]
    dictionary = dictionary_of(build())
    fit = CodeFit(**vars(FIT) | {"positivity": positivity})
    search = decomposition._Search(mixture, dictionary, fit, dictionary.start(mixture))

    def addresses():
        state = search.optimisers[0].state[search._free]
        return [t.data_ptr() for t in (search.H, search._free, search.codes, state["exp_avg"], state["exp_avg_sq"])]

    search.iterate()
    search.step_codes()
    before = addresses()
    search.iterate()
    search.step_codes()
    assert addresses() == before


def test_on_a_cpu_work_is_done_at_every_call():
    calls = []
    work = Replayed(lambda: calls.append(1), CPU)
    for _ in range(WARM_UP + 3):
        work()
    assert len(calls) == WARM_UP + 3


def test_on_a_gpu_work_is_recorded_once_after_a_warm_up_and_then_replayed(monkeypatch):
    log = []
    recorded = SimpleNamespace(replay=lambda: log.append("replay"))

    @contextmanager
    def recording(graph, stream):
        assert graph is recorded
        assert stream is own
        log.append("record")
        yield
        log.append("end")

    own, usual = (SimpleNamespace(wait_stream=lambda other: log.append("wait")) for _ in range(2))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: recorded)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: own)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: usual)
    monkeypatch.setattr(torch.cuda, "stream", lambda chosen: nullcontext())
    work = Replayed(lambda: log.append("work"), torch.device("cuda"))
    for _ in range(WARM_UP + 2):
        work()
    assert log == ["wait", "work", "wait"] * WARM_UP + ["record", "work", "end", "replay", "replay"]


def test_nothing_moves_to_a_cpu_whole(monkeypatch):
    assert not fits(1, CPU)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
    assert fits(499, torch.device("cuda"))
    assert not fits(500, torch.device("cuda"))


@needs_cuda
@pytest.mark.parametrize("method", METHODS)
def test_a_recorded_search_is_the_search_that_is_recorded(method, mixture, monkeypatch):
    build, dictionary_of = METHODS[method]
    X, found = mixture.cuda(), []
    for replayed in (Replayed, lambda work, device: work):
        monkeypatch.setattr(decomposition, "Replayed", replayed)
        dictionary = dictionary_of(build().cuda())
        draws = torch.Generator("cuda").manual_seed(2)
        found.append(decomposition.decompose(X, dictionary, FIT, generator=draws))
    assert found[0].cost.numpy() == pytest.approx(found[1].cost.numpy(), rel=1e-4)
    assert torch.allclose(found[0].A, found[1].A, rtol=1e-3, atol=1e-5)
