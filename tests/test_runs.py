import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from ddslib import cli, measures
from ddslib.config import InputError, load_profile
from ddslib.flows import training
from ddslib.machine.device import policy, resolve_device
from ddslib.machine.rounding import SINGLE
from ddslib.methods.registry import registered
from ddslib.runs.workspace import Workspace

COLUMNS = """
profile method instrument polyphony intensity chords frames bins components iterations likelihood_weight positivity
mixing sparsity_weight start seed psa frame_psa sparsity average_precision average_precision_per_frame precision recall
f_measure relative_error cost seconds parameters device version ended attribution psa_of_squares exponent
colour_step_size
""".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, smoke):
    return Workspace(smoke, tmp_path_factory.mktemp("work"), device="cpu")


@pytest.fixture(scope="module")
def row(workspace):
    return workspace.evaluate(workspace.experiment("nmf"))


def test_a_row_has_its_columns_and_the_expected_numbers(row):
    assert list(row) == COLUMNS
    measures = {name: value for name, value in row.items() if isinstance(value, float)}
    assert all(math.isfinite(value) for value in measures.values())
    # Golden numbers of the smoke profile; they move when the corpus, the front end or the search moves.
    golden = {"psa": 0.795, "sparsity": 0.234, "average_precision": 1.0, "f_measure": 0.988, "relative_error": 0.211}
    assert {name: row[name] for name in golden} == pytest.approx(golden, abs=0.01)
    assert (row["frames"], row["iterations"], row["parameters"]) == (123, 100, 2880 * 256)
    assert row["ended"] == "iterations made"


@pytest.mark.parametrize(
    ("device", "flows", "named"), [("cuda", 2, "A GPU, mixed precision"), ("cpu", 1, "cpu, mixed precision")]
)
def test_flows_and_decompositions_know_their_precision(device, flows, named, smoke, workspace, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A GPU")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    mixed, single = (
        Workspace(replace(smoke, precision=precision), workspace.folder, device=device)
        for precision in ("mixed", "single")
    )
    experiment = workspace.experiment("dds3")
    assert len({space.flow_path("note_flows", None, 0) for space in (mixed, single)}) == flows
    assert mixed.fit_path(experiment) != single.fit_path(experiment)
    assert mixed.policy.label(mixed._rounding) == named
    assert single.policy.label(single._rounding) == named.removesuffix(", mixed precision")


def test_numbers_are_not_rounded_where_that_does_not_pay(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert policy(torch.device("cpu")).rounding("mixed") == SINGLE


def test_a_second_asking_reads_the_row_back(workspace, row):
    path = workspace.row_path(workspace.experiment("nmf"))
    written = path.stat().st_mtime_ns
    assert workspace.evaluate(workspace.experiment("nmf")) == row
    assert path.stat().st_mtime_ns == written


def test_another_configuration_is_another_row(workspace, row):
    other = workspace.changed({"nmf.iterations": 5})
    assert other.evaluate(other.experiment("nmf"))["iterations"] == 5
    assert workspace.evaluate(workspace.experiment("nmf")) == row


def test_a_row_of_other_columns_is_made_anew(workspace, row, monkeypatch):
    monkeypatch.setattr("ddslib.runs.rows.COLUMNS", [*COLUMNS, "a new measure"])
    assert list(workspace.evaluate(workspace.experiment("nmf"))) == [*COLUMNS, "a new measure"]


@pytest.fixture(scope="module")
def quick(workspace):
    """A workspace whose flows are trained, and whose searches run, for just long enough."""
    hasty = {"epochs": 2, "steps": 2, "hidden": (16,)}
    flows = {f"{flow}.{key}": value for flow in ("note_flows", "conditional_flow") for key, value in hasty.items()}
    brief = {f"{method}.iterations": 3 for method in ("dds1", "dds2", "dds3", "one_code")}
    few = {f"{method}.components": 2 for method in ("dds2", "dds3", "one_code")}
    return workspace.changed(flows | brief | few | {"one_code.warm_up": 1, "one_code.settling": 1})


@pytest.mark.parametrize(("method", "components"), [("dds1", None), ("dds2", 2), ("dds3", 2), ("one_code", 2)])
def test_every_variant_of_dds_yields_a_row(quick, row, method, components):
    experiment = quick.experiment(method, chords=2)
    found = quick.evaluate(experiment)
    assert list(found) == COLUMNS
    assert (found["method"], found["components"], found["seed"], found["iterations"]) == (method, components, 0, 3)
    assert all(math.isfinite(value) for value in found.values() if isinstance(value, float))
    assert found["parameters"] == quick.flow(*quick.flow_of(experiment)).flow.size()
    assert quick.evaluate(experiment) == found


@pytest.mark.parametrize("method", ["dds1", "dds2", "dds3"])
def test_the_found_dictionary_is_the_one_that_the_search_ended_with(quick, method):
    experiment = quick.experiment(method, chords=2)
    result, dictionary = quick.decomposition(experiment), quick.found_dictionary(experiment)
    assert torch.equal(dictionary.codes, result.codes)
    assert torch.allclose(dictionary.mix(result.H), result.X_hat, atol=1e-5)
    assert torch.allclose(dictionary.attribute(result.H), result.A, atol=1e-5)


def test_a_flow_is_trained_once_for_each_seed_and_choice_of_pianos(quick, monkeypatch):
    trained = quick.flow("note_flows")
    assert trained.history["validation"].shape == (2, 12)
    paths = {quick.flow_path("note_flows", *choice) for choice in ((None, 0), ("MsGnStCl", 0), ("MsGnStAm", 0))}
    assert len(paths) == 1  # none of them is a training piano, so all learn from the same frames
    assert quick.flow_path("note_flows", "CsGMGrnd", 0) not in paths
    assert quick.flow_path("note_flows", None, 1) not in paths
    monkeypatch.setattr(training, "train", None)
    again = quick.flow("note_flows")
    assert all(torch.equal(a, b) for a, b in zip(trained.flow.parameters(), again.flow.parameters(), strict=True))


def test_the_comparison_is_every_method_on_every_test_piano(quick):
    three = replace(quick.profile, seed=5, evaluation=replace(quick.profile.evaluation, seeds=3))
    close = [e for e in Workspace(three, quick.folder).comparison() if e.instrument == "MsGnStCl"]
    seeds = {method: [e.seed for e in close if e.method == method] for method in registered()}
    assert seeds == {
        "nmf": [None], "dds1": [5], "dds2": [5, 6, 7], "dds3": [5, 6, 7], "one_code": [5, 6, 7], "one_blend": []
    }  # fmt: skip
    ambient = [replace(e, instrument="MsGnStAm") for e in close]
    assert set(Workspace(three, quick.folder).comparison()) == {*close, *ambient}


OTHERS = {  # all that another profile may have rendered into the same folder
    "loudness": {"rendering.loudness": ["P", "F"], "rendering.chords": 3},
    "styles": {"training.styles": ["NO", "ST"], "rendering.styles": ["NO", "ST"]},
    "pitches": {"pitches.lowest": 59, "pitches.highest": 64},
    "chords": {"evaluation.chords": 4},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_a_row_depends_on_its_configuration_and_not_on_what_was_rendered_before(other, smoke, tmp_path):
    few = {"pitches.highest": 62, "rendering.loudness": ["M"], "nmf.iterations": 5}
    few |= {"evaluation.chords": 2, "evaluation.rehearse": False}
    fresh, used = (Workspace(smoke.changed(few), tmp_path / name, device="cpu") for name in ("fresh", "used"))
    before = used.changed(other)
    before.evaluate(before.experiment("nmf"))
    rows = [space.evaluate(space.experiment("nmf")) for space in (fresh, used)]
    assert rows[0] | {"seconds": 0} == rows[1] | {"seconds": 0}
    assert used.notes() == [replace(n, path=used.root / n.path.relative_to(fresh.root)) for n in fresh.notes()]


def test_the_threshold_is_chosen_once_for_all_seeds(quick):
    rehearsals = {quick.rehearsal(quick.experiment("dds2", seed=seed)) for seed in range(3)}
    assert {rehearsal.seed for rehearsal in rehearsals} == {0}
    assert quick.rehearsal(quick.experiment("nmf", seed=3)).seed is None


def test_the_decomposition_is_stored_whole(workspace, row):
    experiment = workspace.experiment("nmf")
    first, second = workspace.decomposition(experiment), workspace.decomposition(experiment)
    assert torch.equal(first.H, second.H)
    assert first.iterations == row["iterations"]
    assert torch.allclose(first.A, workspace.dictionary(experiment).attribute(first.H), atol=1e-5)
    Y = workspace.mixture(experiment).Y
    assert measures.precision_of_source_attribution(first.A, Y) == row["psa"]


def test_a_piano_never_explains_itself(workspace, row):
    held_out = workspace.frames(without="MsGnStCl")
    assert len(held_out.names) == 5 * 3 * 12
    rehearsal = workspace.rehearsal(workspace.experiment("nmf"))
    assert rehearsal.instrument == "CsGMGrnd"
    names = workspace.frames(without=rehearsal.instrument).names
    assert not any("CsGM" in name for name in names)
    assert len(names) == 3 * 3 * 12


def test_the_bootstrap_is_around_the_row_and_draws_alike_for_the_same_chords(workspace, row):
    experiment = workspace.experiment("nmf")
    draws = workspace.bootstrap([experiment])
    assert set(draws) == {
        "psa", "average_precision", "average_precision_per_frame", "sparsity", "f_measure", "relative_error"
    }  # fmt: skip
    for name, values in draws.items():
        assert values.shape == (workspace.profile.evaluation.draws,)
        assert values.min() <= row[name] <= values.max()
    other = workspace.changed({"nmf.iterations": 90})
    hard = np.corrcoef(draws["relative_error"], other.bootstrap([experiment])["relative_error"])[0, 1]
    assert hard > 0.9  # the same chords are hard for both
    assert "f_measure" not in workspace.bootstrap([workspace.rehearsal(experiment)])
    far = workspace.bootstrap([workspace.experiment("nmf", instrument="MsGnStAm")])["relative_error"]
    assert np.corrcoef(draws["relative_error"], far)[0, 1] > 0.5  # the same chords in another room


def test_what_the_threshold_was_chosen_on_is_not_judged_by_it(workspace, row):
    rehearsal = workspace.evaluate(workspace.rehearsal(workspace.experiment("nmf")))
    assert (rehearsal["precision"], rehearsal["recall"], rehearsal["f_measure"]) == (None, None, None)
    assert rehearsal["psa"] > 0


def test_without_rehearsals_no_threshold_is_looked_for(workspace, row):
    quiet = workspace.changed({"evaluation.rehearse": False})
    found = quiet.evaluate(quiet.experiment("nmf"))
    unjudged = {"precision": None, "recall": None, "f_measure": None}
    assert found == row | unjudged


def test_chords_may_come_from_another_tree(workspace, row):
    elsewhere = workspace.experiment("nmf", root=str(workspace.root / "MsGnStCl"))
    assert workspace.evaluate(elsewhere)["psa"] == row["psa"]
    with pytest.raises(InputError, match="6 chords of MsGnStCl P2 I32-96 within M60-71, expected 7"):
        workspace.evaluate(replace(elsewhere, chords=7))
    with pytest.raises(InputError, match="no such folder"):
        workspace.evaluate(replace(elsewhere, root="nowhere"))


def test_real_maps_takes_the_place_of_the_rendered_corpus(tmp_path, smoke):
    workspace = Workspace(smoke, tmp_path / "work", maps_root=tmp_path / "maps")
    assert workspace.experiment("nmf").instrument == "ENSTDkCl"
    with pytest.raises(InputError, match="maps: no such folder"):
        workspace.frames()
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "magic"}, "no method 'magic'; expected one of nmf, dds1, dds2, dds3"),
        ({"polyphony": 8}, "experiment: polyphony: .*7"),
        ({"polyphony": "three"}, "experiment: polyphony: .*integer"),
        ({"chords": 51}, "experiment: chords: .*50"),
        ({"chords": 0}, "experiment: chords: .*greater than 0"),
        ({"chords": 6.5}, "experiment: chords: .*integer"),
        ({"intensity": "loud"}, "experiment: intensity: .*pattern"),
        ({"intensity": "I96-32"}, "intensity: .*the softest first"),
        ({"intensity": "I0-500"}, "intensity: .*from 1 to 127"),
        ({"seed": -1, "method": "dds2"}, "seed: .*0"),
    ],
)
def test_an_experiment_that_cannot_be_is_an_error(changes, message, workspace):
    with pytest.raises(InputError, match=message):
        workspace.experiment(**{"method": "nmf"} | changes)


def test_auto_is_cuda_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto").type == "cuda"
    assert str(resolve_device("cuda:1")) == "cuda:1"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto").type == "cpu"
    for name in ("cuda", "cuda:0", "xyz", "meta"):
        with pytest.raises(InputError, match=f"device '{name}' cannot be had here; expected auto or one of cpu"):
            resolve_device(name)


def test_the_command_line_prints_the_row(workspace, capsys):
    shipped = Workspace(load_profile("smoke"), workspace.folder, device="cpu")
    arguments = ["--profile", "smoke", "--work", str(workspace.folder), "--device", "cpu"]
    assert cli.main(["evaluate", *arguments]) == 0
    assert json.loads(capsys.readouterr().out) == shipped.evaluate(shipped.experiment("nmf"))
    assert cli.main(["evaluate", *arguments, "--set", "nmf.iterations=3", "--chords", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["iterations"] == 3
    assert cli.main(["maps", str(workspace.root)]) == 0
    listing = capsys.readouterr().out
    assert "CsGMCP70    ISOL       36" in listing
    assert cli.main(["render", *arguments]) == 0
    assert cli.main(["frames", *arguments]) == 0
    hasty = [f"--set=note_flows.{setting}" for setting in ("epochs=1", "steps=1", "hidden=[8]")]
    assert cli.main(["train", *arguments, *hasty, "--flow", "note_flows"]) == 0
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == ["note_flows"] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["maps", "nowhere"], "nowhere: no such folder"),
        (["evaluate", "--profile", "large"], "'large' not found"),
        (["evaluate", "--profile", "smoke", "--set", "nmf.iterations=many"], "nmf.iterations: "),
        (["evaluate", "--profile", "smoke", "--maps-root", "nowhere"], "nowhere: no such folder"),
        (["evaluate", "--profile", "smoke", "--polyphony", "8"], "polyphony: "),
        (["evaluate", "--profile", "smoke", "--chords", "51"], "chords: "),
        (["evaluate", "--profile", "smoke", "--intensity", "I9"], "intensity: "),
        (["evaluate", "--profile", "smoke", "--device", "xyz"], "device 'xyz' cannot be had here"),
    ],
)
def test_the_command_line_reports_bad_input_in_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert "Traceback" not in error


def test_an_interrupted_command_says_how_to_go_on(capsys, monkeypatch):
    def _maps(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_maps", _maps)
    assert cli.main(["maps", "anywhere"]) == 130
    assert "run the same command again" in capsys.readouterr().err
