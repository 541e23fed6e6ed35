"""What the complexity chapter plans, counts and fits."""

from collections import defaultdict
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ddslib.config import Growth, Sizes, load_profile
from ddslib.costs import growth
from ddslib.flows.untrained import untrained
from ddslib.machine.device import policy
from ddslib.methods.registry import find, registered
from ddslib.pages import complexity

CPU = torch.device("cpu")
SMALL = Sizes(T=6, K=32, N=3, C=2, M=20, F=2, hidden=(8,))
GROWTH = Growth(smallest=SMALL, doublings=3)
METHODS = tuple(registered())


def test_one_size_grows_at_a_time_and_hidden_layers_with_the_bins_if_at_all():
    planned = defaultdict(list)
    for method, factor, size, sizes in growth.points(GROWTH):
        planned[method.name, factor].append(size)
        letter = factor[0]
        assert getattr(sizes, letter) == size
        others = {name for name in asdict(SMALL) if name not in (letter, "hidden")}
        assert all(getattr(sizes, name) == getattr(SMALL, name) for name in others)
        assert sizes.hidden == ((8 * size // 32,) if factor == "K" else (8,))
    assert planned["dds2", "C"] == [1, 2, 4, 8, 16]
    assert planned["dds1", growth.FIXED_WIDTHS] == [16, 32, 64, 128, 256]
    assert {factor for method, factor in planned if method == "nmf"} == set("TKNM")


@pytest.mark.parametrize("method", METHODS)
def test_counted_operations_are_those_of_the_products(method):
    work = find(method).work.parts(SMALL)
    dictionary = growth.build(find(method), SMALL, policy(CPU))
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
    kind, sources = find(method).flow, range(SMALL.N)
    dictionary = growth.build(find(method), SMALL, policy(CPU))
    dictionary.refresh()
    entries = sum(dictionary.entries(source).numel() for source in sources)
    parameters = untrained(kind, SMALL).named_parameters() if kind else ()
    matrices = sum(p.numel() for name, p in parameters if "weights" in name or "factors" in name)
    assert find(method).work.stored(SMALL) == entries + matrices


def test_the_table_has_its_columns_and_is_measured_once(tmp_path):
    profile = replace(load_profile("smoke"), complexity=GROWTH)
    table = growth.table(profile, tmp_path, CPU)
    assert list(table) == ["method", "part", "factor", "size", "seconds", "bytes", "operations"]
    assert (table.seconds > 0).all()
    training = table[table.part == "training"]
    assert len(table) - len(training) == 2 * len(list(growth.points(GROWTH)))
    assert growth.table(profile, tmp_path, CPU).equals(table)
    for method in growth.flow_users().values():
        rows = training[training.method == method.name]
        assert list(rows["size"]) == [20, 40, 80, 160]


@pytest.mark.parametrize("kind", growth.flow_users())
def test_operations_of_training_are_those_of_whole_steps(kind):
    recipe = getattr(load_profile("smoke"), kind)
    few, more = (
        growth.measure_training(recipe, kind, replace(SMALL, M=frames), CPU)
        for frames in (recipe.batch * SMALL.N, recipe.batch * SMALL.N + 1)
    )
    steps = {"note_flows": (1, 2), "conditional_flow": (SMALL.N, SMALL.N + 1)}[kind]
    assert more.operations / few.operations == pytest.approx(steps[1] / steps[0])


def test_an_exponent_is_that_of_the_power_law_and_its_interval_holds_it():
    sizes = 2.0 ** np.arange(5)
    exact = growth.exponent(sizes, 3e-3 * sizes**1.7)
    assert exact.value == pytest.approx(1.7)
    assert exact.high - exact.low == pytest.approx(0, abs=1e-6)
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        noisy = growth.exponent(sizes, sizes**2 * np.exp(0.1 * generator.normal(size=5)))
        held += noisy.low <= 2 <= noisy.high
    assert held / 400 == pytest.approx(0.95, abs=0.03)


def test_fits_find_the_exponents_of_times_that_are_more_than_overhead():
    sizes = 2.0 ** np.arange(6)
    rows = [
        {"method": name, "part": "X_hat", "factor": "T", "size": int(size), "seconds": time, "operations": size}
        for name, times in {"dds1": sizes**1.2, "dds2": 1 + 0.01 * sizes}.items()
        for size, time in zip(sizes, times, strict=True)
    ]
    fitted, overhead = complexity.exponents(pd.DataFrame(rows)).to_dict("records")
    assert (fitted["method"], fitted["predicted"], fitted["counted"]) == ("DDS-1", 1, pytest.approx(1))
    assert fitted["measured"] == pytest.approx(1.2) == fitted["last"]
    assert overhead["method"] == "DDS-2" and np.isnan(overhead["measured"])
