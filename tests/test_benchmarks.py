"""What the speed comparison counts is what is computed."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from memory import needs_linux
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import methods
from ddslib.config import load_profile
from ddslib.costs.rates import TRAININGS, rates
from ddslib.flows.training import Trainer
from ddslib.flows.work import epoch, training_step
from ddslib.machine import limits
from ddslib.machine.device import policy
from ddslib.machine.rounding import SINGLE, Rounding, fast_products
from ddslib.machine.work import Work
from ddslib.methods.examples import example, random_frames
from ddslib.methods.registry import find, registered, settings
from ddslib.pages import speed
from ddslib.search.search import decompose

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


@pytest.mark.parametrize("kind", TRAININGS)
def test_operations_of_decoding_and_pulling_back_are_those_of_the_products(kind, size):
    flow = methods.flow_of(kind, size, CPU).freeze()
    codes = torch.zeros(size.sources, 7, flow.code_dimensions, requires_grad=True)
    expected = size.shape(kind).pass_over(size.sources * 7)
    assert counted(lambda: flow.decode(codes)) == expected
    assert counted(lambda: flow.decode(codes).sum().backward()) == 2 * expected


def test_operations_of_a_training_step_of_a_stack_are_those_of_its_products(size):
    flow = methods.flow_of("note_flows", size, CPU)
    x = torch.rand(size.sources, 5, size.bins, requires_grad=True)
    recipe, shape = replace(size.profile.note_flows, batch=5), size.shape("note_flows")
    expected = training_step(recipe, shape, size.sources).operations
    assert counted(lambda: flow.log_prob(x).sum().backward()) == expected


def zeros_of_triangles(size: methods.Size) -> int:
    """Operations of a vector that are spent on the zeros beside both diagonals, in the strips of both triangles."""
    return 2 * size.profile.conditional_flow.steps * size.bins * policy(CPU).strip


def test_the_two_triangles_of_a_mixing_count_as_one_dense_product(size):
    shape, flow = size.shape("conditional_flow"), methods.flow_of("conditional_flow", size, CPU)
    x = torch.rand(5, size.bins, requires_grad=True)
    found = counted(lambda: flow.log_prob(x, torch.arange(5)).sum().backward())
    recipe = replace(size.profile.conditional_flow, batch=5, nuisance_weight=0.0)
    assert found == training_step(recipe, shape, size.sources).operations + 3 * 5 * zeros_of_triangles(size)


@pytest.mark.parametrize("classifier_steps", [1, 3])
def test_operations_of_the_nuisance_classifier_are_those_of_its_products(classifier_steps, size):
    recipe = replace(size.profile.conditional_flow, batch=64, classifier_steps=classifier_steps)
    shape = size.shape("conditional_flow")
    frames = random_frames(80, size.profile.sizes())
    trainer = Trainer(recipe, frames, np.arange(80) >= 64, size.sources, 0, CPU)
    rows = torch.arange(64)[None]
    trainer.step(rows)
    # While the classifier learns, nobody needs the gradient for what goes into its first layer.
    into_nuisance = classifier_steps * 2 * 64 * (size.bins - size.sources) * (size.bins // 2)
    expected = training_step(recipe, shape, size.sources).operations + 3 * 64 * zeros_of_triangles(size)
    expected -= into_nuisance
    assert counted(lambda: trainer.step(rows)) == expected


@pytest.mark.parametrize("rounding", [SINGLE, Rounding(torch.bfloat16, torch.bfloat16)], ids=["single", "rounded"])
@pytest.mark.parametrize("name", ["dds2", "dds3"])  # NMF pads its products
def test_operations_of_an_iteration_are_those_of_its_products(name, rounding, size):
    method, fit = find(name), settings(size.profile, name)
    X = torch.rand(size.bins, size.frames)

    def search(iterations):
        dictionary = example(method, size.of(method), policy(CPU), rounding=rounding)
        return counted(lambda: decompose(X, dictionary, replace(fit, iterations=iterations)))

    assert (search(3) - search(1)) / 2 == method.work.iteration(size.of(method)).operations


def test_weights_are_those_of_the_flow_but_for_biases_and_scales(size):
    for kind in TRAININGS:
        flow = methods.flow_of(kind, size, CPU)
        matrices = sum(p.numel() for name, p in flow.named_parameters() if "weights" in name or "factors" in name)
        assert size.shape(kind).weights == matrices


def test_the_limit_is_the_slower_of_computing_and_moving():
    machine = limits.Limits(gflops=100, gbytes=10)
    assert machine.seconds(1e9, 1e6) == pytest.approx(0.01)
    assert machine.seconds(1e6, 1e9) == pytest.approx(0.1)
    assert Work(1, 2) + 2 * Work(3, 4) == Work(7, 10)


def test_a_row_has_what_the_page_shows(size):
    case = next(methods.cases(size, CPU))
    row, limit = methods.measure(case, CPU)
    assert {"name", "size", "ms", "operations", "bytes", "fraction", "peak_bytes"} <= row.keys()
    assert row["fraction"] == pytest.approx(limit.seconds(row["operations"], row["bytes"]) * 1000 / row["ms"])
    json.dumps(row)


def test_every_method_and_every_training_has_a_row(size):
    names = [case.name.partition(" iteration")[0].split(" training")[0] for case in methods.cases(size, CPU)]
    assert names == [*(method.label for method in registered().values()), *TRAININGS.values()]


def test_products_alone_are_all_products_of_the_work(size):
    for case in methods.cases(size, CPU):
        step = case.begin()
        step()  # a search decodes for its first iteration, too
        alone = methods.products_alone(step)
        assert counted(alone) == counted(step) > 0


@needs_linux
def test_peak_memory_sees_what_is_gone_again():
    memory, total = limits.peak_bytes(lambda: torch.ones(2**24).sum(), CPU)  # 64 MiB
    assert total == 2**24
    assert 60 * 2**20 < memory < 200 * 2**20


def test_every_training_step_can_be_measured(size):
    cases = {case.name: case for case in methods.cases(size, CPU)}
    shape = size.shape("note_flows")
    expected = training_step(size.profile.note_flows, shape, size.sources)
    assert cases["RealNVP training step"].work == expected
    for name in ("RealNVP training step", "Glow training step"):
        cases[name].begin()()


def test_an_epoch_is_steps_on_what_is_learnt_from_and_a_pass_over_the_rest():
    paper = load_profile("paper")
    weights, classifier = 32 * (512 * 2048 + 2 * 2048**2 + 2048 * 1024 + 1024**2), 964 * 512 + 512 * 512 + 512 * 60
    # The classifier makes five steps for each of the flow's.
    learnt = 48_000 * 2 * (3 * weights + (3 * 5 + 2) * classifier)
    whole = epoch(paper, "conditional_flow", 60_000)
    assert whole.operations == pytest.approx(learnt + 12_000 * 2 * weights)


def test_a_rate_is_what_was_counted_over_the_time_that_it_took():
    rows = [
        {"name": "Glow training step", "size": "paper", "operations": 6e9, "ms": 20.0},
        {"name": "Glow training step", "size": "laptop", "operations": 1e9, "ms": 1.0},
    ]
    assert rates({"rows": rows}, "paper") == {"Glow": pytest.approx(3e11)}


@pytest.mark.parametrize("name", ["bench-cpu.json", "bench-cuda.json"])
def test_kept_measurements_fill_the_tables_of_the_page(name):
    bench = speed.read(speed.RESULTS / name)
    assert len(speed.machines(bench)) == 5
    assert list(speed.against_the_limit(bench).index) == list(bench.rows.index)
    assert len(speed.against_peers(bench)) == len(bench.peers)


def test_each_aim_is_compared_with_what_was_reached():
    cpu, gpu = (speed.read(speed.RESULTS / f"bench-{kind}.json") for kind in ("cpu", "cuda"))
    aims = speed.aims(cpu, speed.at_paper_size(cpu, gpu))
    assert aims.notna().all(axis=None)
    reached = aims.reached.astype(float)
    aim = aims.aim.str[1:].astype(float)
    assert ((aims.met == "yes") == np.where(aims.aim.str[0] == "<", reached < aim, reached >= aim)).all()
