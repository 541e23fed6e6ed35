import pytest

from ddslib.config import PROFILES, InputError, load_profile, parse_value, profile_files
from ddslib.runs.workspace import Workspace


def test_every_profile_loads():
    profiles = {path.stem: load_profile(path.stem) for path in PROFILES.glob("*.yaml")}
    assert set(profiles) == {"smoke", "laptop", "paper", "paper-512", "paper-short"}
    for name, profile in profiles.items():
        assert profile.name == name
        assert not set(profile.rendered_instruments.training()) & set(profile.rendered_instruments.test)
        assert not any(code.startswith("ENSTDk") for code in profile.maps_instruments.training())
    assert profiles["paper"].front_end.bins == 1024
    assert len(profiles["laptop"].pitches.numbers) == 60


def write(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_profile_extends_another_section_by_section(tmp_path):
    mine = load_profile(write(tmp_path, "extends: laptop\nfront_end: {bins: 100}\n"))
    laptop = load_profile("laptop")
    assert (mine.name, mine.front_end.bins, mine.front_end.hop) == ("mine", 100, laptop.front_end.hop)
    assert mine.methods == laptop.methods


def test_what_is_extended_is_found_beside_the_file_and_known_as_an_input(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "base.yaml").write_text("extends: smoke\nseed: 7\n")
    (tmp_path / "mine" / "own.yaml").write_text("extends: ../base.yaml\nevaluation: {chords: 3}\n")
    for folder, name in ((tmp_path, "mine/own.yaml"), (tmp_path / "mine", "own.yaml")):
        monkeypatch.chdir(folder)
        own = load_profile(name)
        assert (own.name, own.seed, own.evaluation.chords, own.front_end.bins) == ("own", 7, 3, 256)
        files = [path.resolve() for path in profile_files(name)]
        ours = [tmp_path / "mine" / "own.yaml", tmp_path / "base.yaml"]
        assert files == [*ours, PROFILES / "smoke.yaml", PROFILES / "laptop.yaml"]


def test_a_method_s_section_is_changed_by_itself_even_where_the_file_shares_it():
    changed = load_profile("laptop", {"dds3.components": 3}).methods
    assert (changed["dds3"]["components"], changed["dds2"]["components"]) == (3, 8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: laptop\nfront_end: {binz: 100}", r"mine\.yaml: front_end\.binz: .*[Uu]nexpected"),
        ("extends: laptop\nfront_end: {bins: many}", r"front_end\.bins: .*integer.*'many'"),
        ("extends: laptop\nfront_end: {bins: '100'}", r"front_end\.bins: .*integer"),
        ("extends: laptop\nfront_end: {bins: 1025}", "bins is 1025, expected at most n_fft / 2 = 1024"),
        ("extends: laptop\ntraining: {styles: [NO]}", r"training\.styles\.0: .*False"),
        ("extends: laptop\npitches: {lowest: 70, highest: 60}", "lowest is 70, above highest"),
        ("extends: laptop\ncomplexity: {doublings: 6}", "N grows to 256, expected fewer than K = 128"),
        ("extends: laptop\nspectrum: 3", "spectrum: .*[Uu]nexpected"),
        ("seed: 0", r"front_end: .*(required|missing)"),
        ("- a list", "expected a mapping"),
        ("a: [", "not readable as YAML"),
        ("extends: nowhere", "'nowhere' not found; expected .* laptop"),
        ("extends: mine.yaml", r"mine\.yaml: extends itself"),
        ("extends: laptop\nseed: 2024-01-01", "not readable as YAML of plain values"),
        (b"seed: \xff", "not readable as YAML"),
    ],
)
def test_bad_profiles_are_errors_that_name_file_and_key(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        load_profile(write(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: laptop\nnmf: {step_size: -1.0}", r"mine\.yaml: nmf\.step_size: .*greater than 0"),
        ("extends: laptop\nnmf: {start: random}", r"mine\.yaml: nmf\.start: .*[Uu]nexpected"),
        ("extends: laptop\nspectrum: {}", r"mine\.yaml: no section or method 'spectrum'; expected one of nmf, dds1"),
    ],
)
def test_a_workspace_checks_what_a_profile_says_of_methods(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        Workspace(load_profile(write(tmp_path, text)), tmp_path)


def test_a_profile_is_changed_by_dotted_names(smoke):
    changed = smoke.changed({"dds3.components": 3, "seed": 4, "pitches.highest": 70})
    assert (changed.methods["dds3"]["components"], changed.seed, changed.pitches.highest) == (3, 4, 70)
    assert (
        changed.changed({"dds3.components": smoke.methods["dds3"]["components"], "seed": 0, "pitches.highest": 71})
        == smoke
    )
    with pytest.raises(InputError, match=r"smoke\.yaml: pitches\.top: .*[Uu]nexpected"):
        smoke.changed({"pitches.top": 3})


def test_single_keys_are_overridden_by_their_dotted_name():
    assert load_profile("smoke", {"evaluation.polyphony": 3}).evaluation.polyphony == 3
    with pytest.raises(InputError, match=r"smoke\.yaml: evaluation\.poly: .*[Uu]nexpected"):
        load_profile("smoke", {"evaluation.poly": 3})
    with pytest.raises(InputError, match=r"evaluation\.polyphony"):
        load_profile("smoke", {"evaluation.polyphony": "3"})


def test_leaving_out_a_piano_leaves_out_its_family():
    instruments = load_profile("smoke").rendered_instruments
    assert instruments.training(without="CsGMGrnd") == ("FlR3P200", "FlR3ElGr", "FlMoMell", "SaYamaC5")
    assert len(instruments.training(without="MsGnStCl")) == 6
    fewer = instruments.only(lambda code: code not in ("SaYamaC5", "FlMoMell"))
    assert fewer.train == {"fluid": ("FlR3P200", "FlR3ElGr"), "csound": ("CsGMGrnd", "CsGMCP70")}


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("1e-4", 1e-4), ("1.5", 1.5), ("true", True), ("[64, 64]", [64, 64]), ("relu", "relu"), ("", None)],
)
def test_a_value_is_what_one_would_expect(text, value):
    assert parse_value(text) == value
