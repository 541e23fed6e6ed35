"""What the speed comparison counts is what is computed."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from memory import needs_linux
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import methods
from ddslib import counts, machine, training
from ddslib.config import load_profile
from ddslib.counts import FlowShape, Work
from ddslib.decomposition import decompose
from ddslib.frames import Frames
from ddslib.fused import STRIP
from ddslib.precision import fast_products

CPU = torch.device("cpu")


@pytest.fixture
def size():
    profile = load_profile("smoke", {"note_flows.steps": 3, "conditional_flow.steps": 3})
    return methods.Size("tiny", profile, frames=9, samples=50)


def counted(work) -> int:
    # The first search of a process tries a product; not in here.
    with fast_products(), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


@pytest.mark.parametrize("kind", methods.KINDS)
def test_operations_of_decoding_and_pulling_back_are_those_of_the_products(kind, size):
    flow = methods.flow_of(kind, size, CPU).freeze()
    codes = torch.zeros(size.sources, 7, flow.code_dimensions, requires_grad=True)
    expected = FlowShape.of(size.profile, kind).pass_over(size.sources * 7)
    assert counted(lambda: flow.decode(codes)) == expected
    assert counted(lambda: flow.decode(codes).sum().backward()) == 2 * expected


def test_operations_of_a_training_step_of_a_stack_are_those_of_its_products(size):
    flow = methods.flow_of("note_flows", size, CPU)
    x = torch.rand(size.sources, 5, size.bins, requires_grad=True)
    recipe, shape = replace(size.profile.note_flows, batch=5), FlowShape.of(size.profile, "note_flows")
    expected = counts.training_step(recipe, shape, size.sources).operations
    assert counted(lambda: flow.log_prob(x).sum().backward()) == expected


def zeros_of_triangles(size: methods.Size) -> int:
    """Operations of a vector that are spent on the zeros beside both diagonals, in the strips of both triangles."""
    return 2 * size.profile.conditional_flow.steps * size.bins * STRIP


def test_the_two_triangles_of_a_mixing_count_as_one_dense_product(size):
    shape, flow = FlowShape.of(size.profile, "conditional_flow"), methods.flow_of("conditional_flow", size, CPU)
    x = torch.rand(5, size.bins, requires_grad=True)
    found = counted(lambda: flow.log_prob(x, torch.arange(5)).sum().backward())
    recipe = replace(size.profile.conditional_flow, batch=5, nuisance_weight=0.0)
    assert found == counts.training_step(recipe, shape, size.sources).operations + 3 * 5 * zeros_of_triangles(size)


@pytest.mark.parametrize("classifier_steps", [1, 3])
def test_operations_of_the_nuisance_classifier_are_those_of_its_products(classifier_steps, size):
    recipe = replace(size.profile.conditional_flow, batch=64, classifier_steps=classifier_steps)
    shape = FlowShape.of(size.profile, "conditional_flow")
    values, sources = torch.rand(80, size.bins).numpy(), np.arange(80) % size.sources
    frames = Frames(values, sources, np.zeros(80, np.int64), (), "")
    data = training._Data(recipe, frames, np.arange(80) >= 64, size.sources, CPU)
    run = training._Run(recipe, data, size.sources, 0, CPU)
    rows = torch.arange(64)[None]
    run._step(rows)
    # While the classifier learns, nobody needs the gradient for what goes into its first layer.
    into_nuisance = classifier_steps * 2 * 64 * (size.bins - size.sources) * (size.bins // 2)
    expected = counts.training_step(recipe, shape, size.sources).operations + 3 * 64 * zeros_of_triangles(size)
    expected -= into_nuisance
    assert counted(lambda: run._step(rows)) == expected


@pytest.mark.parametrize("mixed", [False, True], ids=["single", "mixed"])
@pytest.mark.parametrize("method", ["dds2", "dds3"])  # NMF pads its products
def test_operations_of_an_iteration_are_those_of_its_products(method, mixed, size):
    fit = getattr(size.profile, method)
    make = methods.MAKERS[method](size, fit, CPU, mixed)
    X = torch.rand(size.bins, size.frames)
    three, one = (counted(lambda n=n: decompose(X, make(), replace(fit, iterations=n))) for n in (3, 1))
    assert (three - one) / 2 == counts.iteration(size.profile, method, size.frames, size.samples).operations


def test_weights_are_those_of_the_flow_but_for_biases_and_scales(size):
    for kind in methods.KINDS:
        flow = methods.flow_of(kind, size, CPU)
        matrices = sum(p.numel() for name, p in flow.named_parameters() if "weights" in name or "factors" in name)
        assert FlowShape.of(size.profile, kind).weights == matrices


def test_the_limit_is_the_slower_of_computing_and_moving():
    limits = machine.Limits(gflops=100, gbytes=10)
    assert limits.seconds(1e9, 1e6) == pytest.approx(0.01)
    assert limits.seconds(1e6, 1e9) == pytest.approx(0.1)
    assert Work(1, 2) + 2 * Work(3, 4) == Work(7, 10)


def test_a_row_has_what_the_page_shows(size):
    case = next(methods.cases(size, CPU))
    row, limits = methods.measure(case, CPU)
    assert {"name", "size", "ms", "operations", "bytes", "fraction", "peak_bytes"} <= row.keys()
    assert row["fraction"] == pytest.approx(limits.seconds(row["operations"], row["bytes"]) * 1000 / row["ms"])
    json.dumps(row)


def test_products_alone_are_all_products_of_the_work(size):
    for case in methods.cases(size, CPU):
        repeat = case.begin()
        repeat(1)  # a search decodes for its first iteration, too
        alone = methods.products_alone(repeat)
        assert counted(lambda alone=alone: alone(1)) == counted(lambda repeat=repeat: repeat(1)) > 0


@needs_linux
def test_peak_memory_sees_what_is_gone_again():
    with machine.PeakMemory(CPU) as memory:
        torch.ones(2**24).sum()  # 64 MiB
    assert 60 * 2**20 < memory.bytes < 200 * 2**20


def test_every_training_step_can_be_measured(size):
    cases = {case.name: case for case in methods.cases(size, CPU)}
    shape = FlowShape.of(size.profile, "note_flows")
    expected = counts.training_step(size.profile.note_flows, shape, size.sources)
    assert cases["RealNVP training step"].work == expected
    for name in ("RealNVP training step", "Glow training step"):
        cases[name].begin()(1)


def test_an_epoch_is_steps_on_what_is_learnt_from_and_a_pass_over_the_rest():
    paper = load_profile("paper")
    weights, classifier = 32 * (512 * 2048 + 2 * 2048**2 + 2048 * 1024 + 1024**2), 964 * 512 + 512 * 512 + 512 * 60
    # The classifier makes five steps for each of the flow's.
    learnt = 48_000 * 2 * (3 * weights + (3 * 5 + 2) * classifier)
    epoch = counts.epoch(paper, "conditional_flow", 60_000)
    assert epoch.operations == pytest.approx(learnt + 12_000 * 2 * weights)


def test_a_rate_is_what_was_counted_over_the_time_that_it_took():
    rows = [
        {"name": "Glow training step", "size": "paper", "operations": 6e9, "ms": 20.0},
        {"name": "Glow training step", "size": "laptop", "operations": 1e9, "ms": 1.0},
    ]
    assert machine.rates({"rows": rows}, "paper") == {"Glow": pytest.approx(3e11)}
