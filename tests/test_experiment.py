import json
import math
from dataclasses import replace

import pytest
import torch

from ddslib import cli, metrics
from ddslib.config import InputError
from ddslib.experiment import Experiment, Workspace, resolve_device

COLUMNS = """
profile method instrument polyphony intensity chords frames bins components iterations likelihood_weight positivity
mixing sparsity_weight seed psa frame_psa sparsity average_precision average_precision_per_frame precision recall
f_measure relative_error cost seconds parameters device version
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
    golden = {"psa": 0.796, "sparsity": 0.232, "average_precision": 1.0, "f_measure": 0.984, "relative_error": 0.206}
    assert {name: row[name] for name in golden} == pytest.approx(golden, abs=0.01)
    assert (row["frames"], row["iterations"], row["parameters"]) == (123, 200, 3780 * 256)


def test_a_second_asking_reads_the_row_back(workspace, row):
    (path,) = (workspace.folder / "rows").glob("*.json")
    written = path.stat().st_mtime_ns
    assert workspace.evaluate(workspace.experiment("nmf")) == row
    assert path.stat().st_mtime_ns == written


def test_another_configuration_is_another_row(workspace, row):
    slower = replace(workspace.profile.nmf, iterations=5)
    other = Workspace(replace(workspace.profile, nmf=slower), workspace.folder, device="cpu")
    assert other.evaluate(other.experiment("nmf"))["iterations"] == 5
    assert workspace.evaluate(workspace.experiment("nmf")) == row


def test_the_decomposition_is_stored_whole(workspace, row):
    experiment = workspace.experiment("nmf")
    first, second = workspace.decomposition(experiment), workspace.decomposition(experiment)
    assert torch.equal(first.H, second.H)
    assert first.iterations == row["iterations"]
    assert torch.allclose(first.A, workspace.dictionary(experiment).attribute(first.H), atol=1e-5)
    Y = workspace.snippet(experiment).Y
    assert metrics.precision_of_source_attribution(first.A, Y) == row["psa"]


def test_a_piano_never_explains_itself(workspace, row):
    held_out = workspace.frames(without="MsGnStCl")
    assert len(held_out.names) == 5 * 3 * 12
    rehearsal = workspace.rehearsal(workspace.experiment("nmf"))
    assert rehearsal.instrument == "CsGMGrnd"
    names = workspace.frames(without=rehearsal.instrument).names
    assert not any("CsGM" in name for name in names)
    assert len(names) == 3 * 3 * 12


def test_what_the_threshold_was_chosen_on_is_not_judged_by_it(workspace, row):
    rehearsal = workspace.evaluate(workspace.rehearsal(workspace.experiment("nmf")))
    assert (rehearsal["precision"], rehearsal["recall"], rehearsal["f_measure"]) == (None, None, None)
    assert rehearsal["psa"] > 0


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


def test_an_unknown_method_is_an_error():
    with pytest.raises(InputError, match="no method 'magic'; expected one of nmf"):
        Experiment("magic", "MsGnStCl", 2, "I32-96", 6)


def test_auto_is_cuda_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto").type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto").type == "cpu"


def test_the_command_line_prints_the_row(workspace, row, capsys):
    arguments = ["--profile", "smoke", "--work", str(workspace.folder), "--device", "cpu"]
    assert cli.main(["evaluate", *arguments]) == 0
    assert json.loads(capsys.readouterr().out) == row
    assert cli.main(["evaluate", *arguments, "--set", "nmf.iterations=3", "--chords", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["iterations"] == 3
    assert cli.main(["maps", str(workspace.root)]) == 0
    listing = capsys.readouterr().out
    assert "CsGMCP70    ISOL       36" in listing
    assert cli.main(["render", *arguments]) == 0
    assert cli.main(["frames", *arguments]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["maps", "nowhere"], "nowhere: no such folder"),
        (["evaluate", "--profile", "large"], "'large' not found"),
        (["evaluate", "--profile", "smoke", "--set", "nmf.iterations=many"], "nmf.iterations: "),
        (["evaluate", "--profile", "smoke", "--maps-root", "nowhere"], "nowhere: no such folder"),
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
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_maps", interrupted)
    assert cli.main(["maps", "anywhere"]) == 130
    assert "run the same command again" in capsys.readouterr().err
