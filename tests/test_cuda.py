"""What is done for a GPU.  Where there is none, what can be known without one."""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ddslib.config import CodeFit
from ddslib.cuda import WARM_UP, Replayed, fits, tensor_cores
from ddslib.decomposition import _Search, decompose
from ddslib.dictionaries import FrameDictionary, SharedDictionary
from ddslib.flows import ConditionalGlow, RealNVP

CPU = torch.device("cpu")
FIT = CodeFit(
    iterations=12,
    step_size=0.01,
    positivity="relu",
    likelihood_weight=0.01,
    sparsity_weight=0.001,
    log_determinant=True,
)
N, K, T = 3, 16, 7
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU")


def glow():
    flow = ConditionalGlow(N, K, 2, (8,), 1.0)
    flow(torch.rand(64, K, generator=torch.Generator().manual_seed(0)))  # where ActNorm learns how to start
    return flow


METHODS = {
    "DDS-1": lambda device: FrameDictionary(RealNVP(N, K, 2, (8,)).to(device), T, log_determinant=True),
    "DDS-1, decoded twice": lambda device: FrameDictionary(RealNVP(N, K, 2, (8,)).to(device), T, True, keep=0),
    "DDS-2": lambda device: SharedDictionary(RealNVP(N, K, 2, (8,)).to(device), 2, log_determinant=True),
    "DDS-3": lambda device: SharedDictionary(glow().to(device), 2, log_determinant=True),
}


@pytest.fixture
def mixture():
    return torch.rand(K, T, generator=torch.Generator().manual_seed(1))


class NoLook(TorchDispatchMode):
    """Fails where a value is looked at, which would stop the recording of a CUDA graph."""

    LOOKS = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal", "unique")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        assert name not in self.LOOKS, f"{name} looks at a value"
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("method", METHODS)
def test_an_iteration_does_not_look_at_a_value(method, mixture):
    dictionary = METHODS[method](CPU)
    search = _Search(mixture, dictionary, FIT, dictionary.start(mixture))
    search.iterate()  # what is done but once
    with NoLook():
        search.iterate()
    with pytest.raises(AssertionError, match="_local_scalar_dense looks at a value"), NoLook():
        search.costs.sum().item()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("positivity", ["relu", "projection"])
def test_an_iteration_begins_with_the_tensors_that_the_last_one_left(method, positivity, mixture):
    """A recorded graph reads and writes the same memory every time."""
    dictionary = METHODS[method](CPU)
    fit = CodeFit(**vars(FIT) | {"positivity": positivity})
    search = _Search(mixture, dictionary, fit, dictionary.start(mixture))

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
    def recording(graph):
        assert graph is recorded
        log.append("record")
        yield
        log.append("end")

    stream = SimpleNamespace(wait_stream=lambda other: log.append("wait"))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: recorded)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda chosen: nullcontext())
    work = Replayed(lambda: log.append("work"), torch.device("cuda"))
    for _ in range(WARM_UP + 2):
        work()
    assert log == ["wait", "work", "wait"] * WARM_UP + ["record", "work", "end", "replay", "replay"]


def test_tensor_cores_are_for_flows_alone():
    products = torch.backends.cuda.matmul
    assert not products.allow_tf32
    with tensor_cores():
        assert products.allow_tf32
    with pytest.raises(RuntimeError), tensor_cores():
        raise RuntimeError
    assert not products.allow_tf32


def test_nothing_moves_to_a_cpu_whole(monkeypatch):
    assert not fits(1, CPU)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
    assert fits(499, torch.device("cuda"))
    assert not fits(500, torch.device("cuda"))


@needs_cuda
@pytest.mark.parametrize("method", METHODS)
def test_a_recorded_search_finds_what_the_cpu_finds(method, mixture):
    found = {}
    for device in (CPU, torch.device("cuda")):
        dictionary = METHODS[method](device)
        H = dictionary.start(mixture, torch.Generator().manual_seed(2)).to(device)
        found[device.type] = decompose(mixture.to(device), dictionary, FIT, H=H)
    assert found["cuda"].cost.numpy() == pytest.approx(found["cpu"].cost.numpy(), rel=0.01)
    assert torch.allclose(found["cuda"].A.cpu(), found["cpu"].A, rtol=0.05, atol=1e-3)
