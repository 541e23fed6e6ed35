"""What is done for a GPU.  Where there is none, what can be known without one."""

from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ddslib.config import ConditionalFlowTraining, FlowTraining
from ddslib.flows import fused, steps, training
from ddslib.flows.glow import ConditionalGlow
from ddslib.flows.layers import AffineMap
from ddslib.flows.realnvp import RealNVP
from ddslib.machine import recording
from ddslib.machine.device import Policy, policy
from ddslib.machine.recording import WARM_UP, Recorder
from ddslib.machine.rounding import SINGLE
from ddslib.methods import dds1
from ddslib.methods.dds1 import FrameDictionary
from ddslib.methods.one_code import TiedDictionary
from ddslib.search import activations, search
from ddslib.search.decoded import SharedDictionary
from ddslib.search.domains import CompressedMagnitude
from ddslib.search.search import Search, decompose
from ddslib.search.settings import CodeFit
from ddslib.search.stored import SampleDictionary
from ddslib.spectra.frames import Frames

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
GPU = torch.device("cuda")
MIXED = policy(GPU).rounding("mixed")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU")


def note_flows():
    return RealNVP(N, K, 2, (8,))


def conditional_flow():
    flow = ConditionalGlow(N, K, 2, (8,), 1.0)
    flow(torch.rand(64, K, generator=torch.Generator().manual_seed(0)))  # where ActNorm learns how to start
    return flow


def samples():
    return torch.rand(12, K, generator=torch.Generator().manual_seed(0))


METHODS = {
    "NMF": (samples, lambda rows: SampleDictionary(rows, torch.arange(12) % N, N, rows.device, resident=True)),
    "DDS-1": (note_flows, lambda flow: FrameDictionary(flow, T, True, block=8, keep=2**30)),
    "DDS-1, decoded twice": (note_flows, lambda flow: FrameDictionary(flow, T, True, block=8, keep=0)),
    "DDS-2": (note_flows, lambda flow: SharedDictionary(flow, 2, log_determinant=True)),
    "DDS-3": (conditional_flow, lambda flow: SharedDictionary(flow, 2, log_determinant=True)),
}


COMPRESSED = CompressedMagnitude(1e4)
NEW_FIT = CodeFit(
    iterations=12, step_size=0.01, mixing="compressed magnitude", likelihood_weight=0.01, sparsity_weight=0.1,
    colour_step_size=0.01,
)  # fmt: skip
NEW_METHODS = {
    "NMF": (
        samples,
        lambda rows: SampleDictionary(
            rows, torch.arange(12) % N, N, rows.device, resident=True, domain=COMPRESSED, coloured=True
        ),
    ),
    "one code": (conditional_flow, lambda flow: TiedDictionary(flow, 2, False, COMPRESSED, True)),
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
    """The frozen flow, or samples, on the device `meta`, whose tensors have no values: whoever needs one fails."""
    if isinstance(flow, torch.Tensor):
        return flow.to("meta")
    flow.freeze()
    for part in getattr(flow, "_frozen", []):
        if isinstance(part, AffineMap):
            part.matrix, part.offset = part.matrix.to("meta"), part.offset.to("meta")
    flow.to("meta").freeze = lambda: flow
    return flow


@pytest.fixture
def meta_is_a_gpu(monkeypatch):
    """But for CUDA itself."""
    meta = replace(policy(GPU), device=torch.device("meta"), records=False)
    for module in (activations, dds1, fused, recording, search):
        monkeypatch.setattr(module, "policy", lambda device: meta)


RECORDED = [(name, FIT, METHODS[name]) for name in METHODS]
RECORDED += [(f"{name}, compressed", NEW_FIT, NEW_METHODS[name]) for name in NEW_METHODS]


@pytest.mark.parametrize(("fit", "method"), [case[1:] for case in RECORDED], ids=[case[0] for case in RECORDED])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_an_iteration_can_be_recorded(fit, method, device, mixture, monkeypatch, request):
    build, dictionary_of = method
    flow, X = build(), mixture.to(device)
    group = {"lr": torch.tensor(fit.step_size, device=device)}
    adam = SimpleNamespace(step=lambda: None, param_groups=[group])  # its own steps are PyTorch's concern
    monkeypatch.setattr(Policy, "adam", lambda policy, variables, step_size: adam)
    if device == "meta":
        flow = elsewhere(flow)
        request.getfixturevalue("meta_is_a_gpu")
    running = Search(X, dictionary_of(flow), fit)
    moves = bool(running._adams)
    running._step(True, moves)  # what is done but once
    with Recordable(device):
        running._step(moves, moves)


TRAINING = FlowTraining(
    steps=2, hidden=(8,), batch=16, learning_rate=0.01, epochs=4, patience=50, gradient_clipping=5.0, noise=0.1,
    compiled=False,
)  # fmt: skip
TRAININGS = {
    "note flows": TRAINING,
    "conditional flow": ConditionalFlowTraining(
        **vars(TRAINING), semantic_weight=100.0, nuisance_weight=0.05, classifier_steps=2,
        classifier_learning_rate=0.003, nuisance_labels="shuffled",
    ),
}  # fmt: skip
each_training = pytest.mark.parametrize("recipe", TRAININGS.values(), ids=TRAININGS)


@pytest.fixture
def frames():
    values = np.random.default_rng(0).random((120, K), np.float32)
    return Frames(values, np.arange(120) % N, np.arange(120), (), "")


@each_training
def test_a_training_step_can_be_recorded(recipe, frames):
    validation = np.arange(120) < 12
    trainer = training.Trainer(recipe, frames, validation, N, 0)
    rows = trainer.batches()[0]
    trainer.step(rows)  # what is done but once
    x, sources = trainer._frames.read(rows)
    with Recordable("cpu"):
        trainer.steps.descend(x, sources, sources)


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
    running = Search(mixture, dictionary, replace(FIT, positivity=positivity))

    def addresses():
        own = running._activations
        state = own.optimiser.state[own._free]
        moments = state["exp_avg"], state["exp_avg_sq"]
        tensors = own.H, own._free, running._X_hat, running._dictionary.codes, *moments
        return [tensor.data_ptr() for tensor in tensors if tensor is not None]

    running.iterate()
    before = addresses()
    running.iterate()
    assert addresses() == before


def test_on_a_cpu_work_is_done_at_every_call():
    calls = []
    recorder = Recorder(CPU)
    assert [recorder(lambda *given: calls.append(given) or len(calls), call) for call in range(WARM_UP + 3)] == list(
        range(1, WARM_UP + 4)
    )
    assert calls == [(call,) for call in range(WARM_UP + 3)]


def test_on_a_gpu_work_is_recorded_once_after_a_warm_up_and_then_replayed(monkeypatch):
    log = []
    kept, drawn_from = torch.zeros(2), []
    recorded = SimpleNamespace(replay=lambda: log.append("replay"), register_generator_state=drawn_from.append)

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
    generator = torch.Generator()

    def doubled(x):
        log.append("work")
        return torch.mul(x, 2, out=kept)

    recorder = Recorder(GPU, [generator])
    for call in range(WARM_UP + 2):
        given = torch.full((2,), float(call))
        assert recorder(doubled, given) is kept
    assert log == ["wait", "work", "wait"] * WARM_UP + ["record", "work", "end", "replay", "replay"]
    assert drawn_from == [generator]
    assert torch.equal(recorder._arguments[0], given)  # what a replay reads; it is not what was given
    assert recorder._arguments[0] is not given


def test_nothing_moves_to_a_cpu_whole(monkeypatch):
    assert not policy(CPU).fits(1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
    assert policy(GPU).fits(499)
    assert not policy(GPU).fits(500)


@needs_cuda
@pytest.mark.parametrize("method", METHODS)
def test_a_recorded_search_is_the_search_that_is_recorded(method, mixture, monkeypatch):
    build, dictionary_of = METHODS[method]
    X, found = mixture.cuda(), []
    for recorder in (Recorder, lambda device: lambda work: work()):
        monkeypatch.setattr(search, "Recorder", recorder)
        dictionary = dictionary_of(build().cuda())
        draws = torch.Generator("cuda").manual_seed(2)
        found.append(decompose(X, dictionary, FIT, generator=draws))
    assert found[0].cost.numpy() == pytest.approx(found[1].cost.numpy(), rel=1e-4)
    assert torch.allclose(found[0].A, found[1].A, rtol=1e-3, atol=1e-5)


def many_note_flows():
    return RealNVP(20, 256, 4, (64, 64))


LARGE = {
    "DDS-1, large": (many_note_flows, lambda flow: FrameDictionary(flow, 40, block=100, keep=2**30)),
    "DDS-1, large, decoded twice": (many_note_flows, lambda flow: FrameDictionary(flow, 40, block=100, keep=0)),
}


@needs_cuda
@pytest.mark.parametrize("method", METHODS | LARGE)
def test_a_search_on_a_gpu_goes_where_one_on_a_cpu_goes(method):
    build, dictionary_of = (METHODS | LARGE)[method]
    bins, frames = (256, 40) if method in LARGE else (K, T)
    draws, found = torch.Generator().manual_seed(1), []
    first = dictionary_of(build())
    H = first.start(torch.rand(1, frames), draws)
    X = torch.rand(bins, frames, generator=draws)
    for device in ("cpu", "cuda"):
        dictionary = dictionary_of(build().to(device))
        found.append(decompose(X.to(device), dictionary, FIT, H.to(device)))
    on_cpu, on_gpu = found
    assert on_gpu.cost.numpy() == pytest.approx(on_cpu.cost.numpy(), rel=1e-3)
    assert torch.allclose(on_gpu.A.cpu(), on_cpu.A, rtol=1e-2, atol=1e-3)


@needs_cuda
@each_training
def test_a_recorded_training_is_the_training_that_is_recorded(recipe, frames, monkeypatch):
    validation, found = np.arange(120) < 12, []
    for recorder in (Recorder, lambda device, generators: lambda work, *arguments: work(*arguments)):
        monkeypatch.setattr(steps, "Recorder", recorder)
        found.append(training.train(recipe, frames, validation, N, 0, "cuda"))
    for name, values in found[0].history.items():
        assert torch.allclose(values.cpu(), found[1].history[name].cpu(), rtol=1e-4), name


@needs_cuda
@each_training
def test_an_interrupted_training_goes_on_as_if_nothing_had_been(recipe, frames, tmp_path, every_epoch_kept):
    validation, checkpoint = np.arange(120) < 12, tmp_path / "checkpoint"
    whole = training.train(recipe, frames, validation, N, 0, "cuda")
    training.train(replace(recipe, epochs=2), frames, validation, N, 0, "cuda", checkpoint)
    resumed = training.train(recipe, frames, validation, N, 0, "cuda", checkpoint)
    for name, values in whole.history.items():
        assert torch.allclose(values.cpu(), resumed.history[name].cpu(), rtol=1e-4), name


@needs_cuda
@each_training
def test_a_training_with_rounded_factors_goes_where_one_without_goes(recipe, frames):
    validation = np.arange(120) < 12
    exact, rounded = (
        training.train(recipe, frames, validation, N, 0, "cuda", rounding=rounding).history
        for rounding in (SINGLE, MIXED)
    )
    for name, values in exact.items():
        assert torch.allclose(values.cpu(), rounded[name].cpu(), rtol=0.05, atol=0.5), name


@needs_cuda
@pytest.mark.parametrize("method", METHODS)
def test_mixed_precision_finds_nearly_the_same(method, mixture):
    build, dictionary_of = METHODS[method]
    found = []
    for rounding in (SINGLE, MIXED):
        flow, draws = build().cuda(), torch.Generator("cuda").manual_seed(2)
        dictionary = dictionary_of(flow if method == "NMF" else flow.freeze(rounding))
        with rounding.applied():
            found.append(decompose(mixture.cuda(), dictionary, FIT, generator=draws))
    assert found[1].cost.numpy() == pytest.approx(found[0].cost.numpy(), rel=0.02)
