"""What the complexity chapter plans, counts and fits."""

from collections import defaultdict
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ddslib import complexity
from ddslib.config import Growth, Sizes, load_profile

CPU = torch.device("cpu")
SMALL = Sizes(T=6, K=32, N=3, C=2, M=20, F=2, hidden=(8,))
GROWTH = Growth(smallest=SMALL, doublings=3)
METHODS = ("nmf", "dds1", "dds2", "dds3")


def test_one_size_grows_at_a_time_and_hidden_layers_with_the_bins_if_at_all():
    planned = defaultdict(list)
    for method, factor, size, sizes in complexity.points(GROWTH):
        planned[method, factor].append(size)
        letter = factor[0]
        assert getattr(sizes, letter) == size
        others = {name for name in asdict(SMALL) if name not in (letter, "hidden")}
        assert all(getattr(sizes, name) == getattr(SMALL, name) for name in others)
        assert sizes.hidden == ((8 * size // 32,) if factor == "K" else (8,))
    assert planned["dds2", "C"] == [1, 2, 4, 8, 16]
    assert planned["dds1", complexity.FIXED_WIDTHS] == [16, 32, 64, 128, 256]
    assert {factor for method, factor in planned if method == "nmf"} == set("TKNM")


@pytest.mark.parametrize("method", METHODS)
def test_counted_operations_are_those_of_the_products(method):
    work = complexity.work(method, SMALL)
    dictionary = complexity.build(method, SMALL, CPU)
    with FlopCounterMode(display=False) as counter:
        dictionary.refresh()
    assert counter.get_total_flops() == work["W"].operations
    if method in ("nmf", "dds1"):  # mix in ways that the counter does not see
        assert work["X_hat"].operations == 2 * 32 * {"nmf": 20, "dds1": 3}[method] * 6
        return
    H = dictionary.start(torch.rand(32, 6))
    with FlopCounterMode(display=False) as counter:
        dictionary.mix(H)
    assert counter.get_total_flops() == work["X_hat"].operations


@pytest.mark.parametrize("method", METHODS)
def test_space_is_that_of_weights_and_entries(method):
    dictionary = complexity.build(method, SMALL, CPU)
    dictionary.refresh()
    entries = sum(dictionary.entries(source).numel() for source in range(3))
    if method == "nmf":
        assert complexity.stored_bytes(method, SMALL) == 4 * entries
        return
    weights = complexity.stored_bytes(method, SMALL) / 4 - entries
    matrices = [p for name, p in dictionary._flow.named_parameters() if "weight" in name]
    mixing = 2 * 32 * 32 if method == "dds3" else 0  # one matrix for each step
    assert weights == sum(matrix.numel() for matrix in matrices) + mixing


def test_the_table_has_its_columns_and_is_measured_once(tmp_path):
    profile = replace(load_profile("smoke"), complexity=GROWTH)
    table = complexity.table(profile, tmp_path, CPU)
    assert list(table) == ["method", "part", "factor", "size", "seconds", "bytes", "operations"]
    assert (table.seconds > 0).all()
    training = table[table.part == "training"]
    assert len(table) - len(training) == 2 * len(list(complexity.points(GROWTH)))
    assert complexity.table(profile, tmp_path, CPU).equals(table)
    for method in complexity.TRAINED:
        rows = training[training.method == method]
        assert list(rows["size"]) == [20, 40, 80, 160]


@pytest.mark.parametrize("method", complexity.TRAINED)
def test_operations_of_training_are_those_of_whole_steps(method):
    recipe = getattr(load_profile("smoke"), complexity.TRAINED[method])
    few, more = (
        complexity.measure_training(recipe, method, replace(SMALL, M=frames), CPU)
        for frames in (recipe.batch * SMALL.N, recipe.batch * SMALL.N + 1)
    )
    steps = {"dds2": (1, 2), "dds3": (SMALL.N, SMALL.N + 1)}[method]
    assert more.operations / few.operations == pytest.approx(steps[1] / steps[0])


def test_an_exponent_is_that_of_the_power_law_and_its_interval_holds_it():
    sizes = 2.0 ** np.arange(5)
    exact = complexity.exponent(sizes, 3e-3 * sizes**1.7)
    assert exact.value == pytest.approx(1.7)
    assert exact.high - exact.low == pytest.approx(0, abs=1e-6)
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        noisy = complexity.exponent(sizes, sizes**2 * np.exp(0.1 * generator.normal(size=5)))
        held += noisy.low <= 2 <= noisy.high
    assert held / 400 == pytest.approx(0.95, abs=0.03)
