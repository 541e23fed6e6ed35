import errno
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ddslib.config import InputError, Pitches, Rendering
from ddslib.recordings import corpus, maps, notes, pianos
from ddslib.recordings.audio import read_audio
from ddslib.recordings.scores import scores
from ddslib.recordings.sound import render_note

PITCHES = Pitches(60, 62)
SMALL = Rendering(
    isol_instruments=("FlR3P200", "CsGMGrnd"), rand_instruments=("MsGnStCl", "MsGnStAm"), styles=("NO", "ST"),
    loudness=("P", "F"), polyphonies=(2, 3), intensities=("I32-96",), chords=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus")
    corpus.render(root, SMALL, PITCHES, workers=2)
    return root


def hashes(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def assert_same_up_to_rounding(folder: Path, root: Path):
    """What is in `folder` is as in `root`; audio to a millionth of full scale, or one step of 16 bits.

    The renderer works in fresh processes, and is exact there.  In this one, with whatever other tests have loaded, a
    few samples of the synthesizer's single precision come out otherwise by a rounding or two.
    """
    whole = hashes(root)
    for name, value in hashes(folder).items():
        if Path(name).suffix in (".wav", ".flac"):
            found, expected = (soundfile.read(place / name, dtype="int32")[0] for place in (folder, root))
            assert found.shape == expected.shape
            allowed = 2**16 if name.endswith(".wav") else 2**31 // 10**6
            assert np.abs(found.astype(np.int64) - expected).max() <= allowed
        else:
            assert whole[name] == value


def test_rendering_is_bit_identical(root, tmp_path):
    corpus.render(tmp_path, SMALL, PITCHES, workers=1)
    assert len(hashes(root)) > 100
    assert hashes(tmp_path) == hashes(root)


def test_rendering_does_not_depend_on_the_order(root, tmp_path):
    for score in reversed(list(scores(tmp_path, SMALL, PITCHES))):
        corpus.render_score(score)
    assert hashes(tmp_path).keys() == hashes(root).keys() - {"rendering.json"}
    assert_same_up_to_rounding(tmp_path, root)


def test_the_corpus_has_maps_s_layout(root):
    recordings = maps.all_recordings(root)
    assert len(recordings) == 2 * 2 * 2 * 3 + 2 * 2 * 2
    for recording in recordings:
        folder = {"ISOL": f"ISOL/{recording.style}", "RAND": f"RAND/M60-62/I32-96/P{recording.polyphony}"}
        expected = root / recording.instrument / folder[recording.set] / f"{recording.name}.wav"
        assert recording.path == expected
        info = soundfile.info(recording.path)
        assert (info.samplerate, info.channels, info.subtype, info.format) == (44100, 2, "PCM_16", "WAV")
        header, *rows = recording.text.read_text().splitlines()
        assert header == "OnsetTime\tOffsetTime\tMidiPitch"
        assert len(rows) == (recording.polyphony or 1)
        assert notes.disagreements(recording) == 0
        text_offsets = [note.offset for note in notes.read_text(recording.text)]
        midi_offsets = [note.offset for note in notes.read_notes(recording, "pedal")]
        assert text_offsets == pytest.approx(midi_offsets)
    assert {recording.sustain for recording in recordings} == {0, 1}


def test_isolated_notes_have_maps_s_times(root):
    for recording in maps.find_recordings(root, set="ISOL", style="NO"):
        (note,) = notes.read_notes(recording)
        assert note.offset - note.onset == pytest.approx(2.0)
        assert note.velocity == {"P": 40, "F": 96}[recording.loudness]
        assert note.pitch == recording.pitch
        duration = soundfile.info(recording.path).duration
        assert duration == pytest.approx(4.12 if recording.sustain == 0 else 4.52, abs=1e-4)


def test_sound_starts_at_its_onset_and_dies_after_its_offset(root):
    for recording in maps.find_recordings(root, set="ISOL", style="NO", loudness="F"):
        (note,) = notes.read_notes(recording, "pedal")
        audio = read_audio(recording.path, 16000)
        before, during = audio[: int(note.onset * 16000)], audio[int(note.onset * 16000) : int(note.offset * 16000)]
        after = audio[int((note.offset + 1.2) * 16000) :]
        assert np.abs(before).max() < 0.003 < np.abs(during[:1600]).max()
        assert np.sqrt(np.mean(after**2)) < 0.1 * np.sqrt(np.mean(during**2))


def test_stems_sum_to_their_mixture(root):
    for recording in maps.find_recordings(root, set="RAND"):
        sources = corpus.stems(recording)
        assert sorted(sources) == [note.pitch for note in notes.read_notes(recording)]
        mixture, _ = soundfile.read(recording.path)
        total = sum(soundfile.read(path)[0] for path in sources.values())
        noise = 10 ** (pianos.PIANOS[recording.instrument].noise / 20)
        assert np.sqrt(np.mean((mixture - total) ** 2)) == pytest.approx(noise, rel=0.05)


def test_close_and_ambient_record_the_same_performance(root):
    close = maps.find_recordings(root, instrument="MsGnStCl")
    ambient = maps.find_recordings(root, instrument="MsGnStAm")
    for one, other in zip(close, ambient, strict=True):
        assert notes.read_notes(one) == notes.read_notes(other)
        assert not np.array_equal(read_audio(one.path, 16000), read_audio(other.path, 16000))


def test_loud_notes_are_louder_and_brighter(root):
    def centroid_and_level(recording):
        spectrum = np.abs(np.fft.rfft(read_audio(recording.path, 16000)))
        return (np.arange(len(spectrum)) * spectrum).sum() / spectrum.sum(), spectrum.sum()

    for code in SMALL.isol_instruments:
        quiet, loud = (
            centroid_and_level(maps.find_recordings(root, instrument=code, style="NO", loudness=mark, pitch=60)[0])
            for mark in "PF"
        )
        assert loud[0] > 1.1 * quiet[0]
        assert loud[1] > 3 * quiet[1]


def fail_at(monkeypatch, number, error):
    """Let the number-th audio file fail when half of it is written."""
    calls, write = iter(range(1000)), soundfile.write

    def failing(target, audio, *arguments, **options):
        if next(calls) == number:
            write(target, audio[: len(audio) // 2], *arguments, **options)
            raise error
        write(target, audio, *arguments, **options)

    monkeypatch.setattr(corpus.soundfile, "write", failing)


FULL_DISK = [OSError(errno.ENOSPC, "No space left on device"), soundfile.LibsndfileError(2)]


@pytest.mark.parametrize("error", [*FULL_DISK, KeyboardInterrupt()])
def test_a_failure_leaves_nothing_half_written_and_the_next_run_completes(root, tmp_path, monkeypatch, error):
    def render_here(missing, workers):
        for score in missing:
            corpus.render_score(score)
            yield 1

    monkeypatch.setattr(corpus, "_render_all", render_here)
    with monkeypatch.context() as patch:
        fail_at(patch, 27, error)  # among the chords, in the middle of their stems
        with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else OSError):
            corpus.render(tmp_path, SMALL, PITCHES)
    assert 0 < len(hashes(tmp_path)) < len(hashes(root))
    assert_same_up_to_rounding(tmp_path, root)
    corpus.render(tmp_path, SMALL, PITCHES)
    assert hashes(tmp_path).keys() == hashes(root).keys()
    assert_same_up_to_rounding(tmp_path, root)


def test_a_corpus_of_an_older_renderer_is_rendered_anew(tmp_path, monkeypatch):
    tiny = replace(SMALL, isol_instruments=("CsGMGrnd",), rand_instruments=(), styles=("ST",), loudness=("F",))
    corpus.render(tmp_path, tiny, Pitches(60, 60), workers=1)
    (wav,) = tmp_path.rglob("*.wav")
    wav.write_bytes(b"old")
    corpus.render(tmp_path, tiny, Pitches(60, 60), workers=1)
    assert wav.read_bytes() == b"old"
    monkeypatch.setattr(corpus, "REVISION", corpus.REVISION + 1)
    corpus.render(tmp_path, tiny, Pitches(60, 60), workers=1)
    assert wav.read_bytes()[:4] == b"RIFF"


def test_what_others_have_put_into_a_corpus_survives_another_renderer(tmp_path, monkeypatch):
    chords = replace(SMALL, isol_instruments=(), rand_instruments=("CsGMGrnd",), polyphonies=(2,), chords=1)
    corpus.render(tmp_path, chords, PITCHES, workers=1)
    rendered = set(tmp_path.rglob("*.*"))
    mine = "MyUpright/MAPS_ISOL_NO_F_S0_M60_MyUprigh", "MyUpright/MAPS_RAND_P2_M60-71_I32-96_S0_n1_CsGMGrnd"
    names = (*mine, "CsGMGrnd/take one")
    own = [tmp_path / f"{name}{suffix}" for name in names for suffix in (".wav", ".mid", ".txt", ".flac")]
    for path in own:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"precious")
    old = [path for path in rendered if path.suffix in (".wav", ".mid", ".txt", ".flac")]
    for path in old:
        path.write_bytes(b"old")
    monkeypatch.setattr(corpus, "REVISION", corpus.REVISION + 1)
    corpus.render(tmp_path, chords, PITCHES, workers=1)
    assert all(path.read_bytes() == b"precious" for path in own)
    assert len(old) == 5 and not any(path.read_bytes() == b"old" for path in old)


@pytest.mark.parametrize("stamp", ["", '{"revis', "[]"])
def test_a_stamp_that_was_cut_is_one_of_another_renderer(stamp, tmp_path):
    tiny = replace(SMALL, isol_instruments=("CsGMGrnd",), rand_instruments=(), styles=("ST",), loudness=("F",))
    (tmp_path / "rendering.json").write_text(stamp)
    (tmp_path / ".rendering.json.killed").mkdir()
    assert len(corpus.render(tmp_path, tiny, Pitches(60, 60), workers=1)) == 1
    assert (tmp_path / "rendering.json").read_text() != stamp


def test_a_folder_of_other_files_is_left_alone(tmp_path):
    (tmp_path / "MAPS_MUS-mine_CODE1234.wav").write_bytes(b"precious")
    with pytest.raises(InputError, match="expected an empty or new folder"):
        corpus.render(tmp_path, SMALL, PITCHES)
    assert [path.name for path in tmp_path.iterdir()] == ["MAPS_MUS-mine_CODE1234.wav"]


def test_a_missing_font_names_its_package_and_the_setting(tmp_path, monkeypatch):
    monkeypatch.setattr(pianos, "FONT_FOLDERS", ())
    monkeypatch.setenv(pianos.FONT_SETTING, str(tmp_path / "fonts"))
    with pytest.raises(InputError, match=r"fonts; install the Debian package .*soundfont.* in DDSLIB_SOUNDFONTS"):
        corpus.render(tmp_path / "corpus", SMALL, PITCHES)
    assert not (tmp_path / "corpus").exists()
    (tmp_path / "fonts").mkdir()
    (tmp_path / "fonts" / "sf_GMbank.sf2").touch()
    assert pianos.find_font("sf_GMbank.sf2") == tmp_path / "fonts" / "sf_GMbank.sf2"


def test_an_unknown_piano_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no piano ENSTDkCl to render; known are FlR3P200"):
        corpus.render(tmp_path, replace(SMALL, rand_instruments=("ENSTDkCl",)), PITCHES)


def test_seven_loud_notes_do_not_clip():
    loudest = Rendering(
        isol_instruments=(), rand_instruments=tuple(pianos.PIANOS), styles=(), loudness=(), polyphonies=(7,),
        intensities=("I96-96",), chords=1,
    )  # fmt: skip
    for score in scores(Path(), loudest, Pitches(36, 95)):
        generator = np.random.default_rng(0)
        sounds = [render_note(score.recording.instrument, score, note, generator) for note in score.notes]
        assert 0.02 < np.abs(sum(sounds)).max() < 1


def test_the_data_page_names_every_piano_and_font():
    page = (Path(__file__).parent.parent / "book" / "data.md").read_text()
    for code, piano in pianos.PIANOS.items():
        preset = "" if piano.font == pianos.SALAMANDER else f", {piano.bank}/{piano.program}"
        assert f"| `{code}` | {piano.font}{preset} |" in page
    for font, package in pianos.FONTS.items():
        assert f"| {font} | `{package}` |" in page
