import logging
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from helpers import write_midi, write_recording, write_text, write_wav

from ddslib.config import InputError
from ddslib.recordings import maps, notes
from ddslib.recordings.audio import read_audio

EXAMPLES = {
    "MAPS_ISOL_NO_F_S0_M60_StbgTGd2": {
        "set": "ISOL", "style": "NO", "loudness": "F", "sustain": 0, "pitch": 60, "instrument": "StbgTGd2",
    },
    "MAPS_ISOL_LG_M_S1_M108_AkPnBsdf": {"style": "LG", "loudness": "M", "sustain": 1, "pitch": 108},
    "MAPS_ISOL_TR1_P_S0_M21_SptkBGCl": {"set": "ISOL", "style": "TR1", "pitch": 21},
    "MAPS_ISOL_CH0.1_F_ENSTDkAm": {
        "set": "ISOL", "style": "CH", "step": "0.1", "loudness": "F", "sustain": None, "pitch": None,
    },
    "MAPS_RAND_P2_M36-95_I32-96_S0_n3_ENSTDkCl": {
        "set": "RAND", "polyphony": 2, "lowest": 36, "highest": 95, "intensity": "I32-96", "sustain": 0, "number": 3,
    },
    "MAPS_UCHO_C0-4-8_I32-96_S0_n1_AkPnBcht": {"set": "UCHO", "chord": "0-4-8", "intensity": "I32-96", "number": 1},
    "MAPS_MUS-alb_se3_AkPnCGdD": {"set": "MUS", "piece": "alb_se3", "instrument": "AkPnCGdD"},
}  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
def test_names_are_parsed_and_written_back(name):
    recording = maps.parse(f"somewhere/{name}.wav")
    assert {key: getattr(recording, key) for key in EXAMPLES[name]} == EXAMPLES[name]
    assert recording.name == name


def test_generated_names_make_the_round_trip():
    draw = random.Random(0)
    for _ in range(300):
        code = "".join(draw.choices("abcXYZ019", k=8))
        tail = f"S{draw.randint(0, 1)}"
        style = draw.choice(["NO", "LG", "ST", "RE", "TR1", "TR2"])
        loudness, pitch = draw.choice("PMF"), draw.randint(21, 108)
        low, number = draw.randint(21, 60), draw.randint(1, 50)
        intensity = draw.choice(["I60-68", "I32-96"])
        for name in (
            f"MAPS_ISOL_{style}_{loudness}_{tail}_M{pitch}_{code}",
            f"MAPS_RAND_P{draw.randint(2, 7)}_M{low}-{low + 24}_{intensity}_{tail}_n{number}_{code}",
            f"MAPS_UCHO_C0-{draw.randint(1, 11)}_{intensity}_{tail}_n{number}_{code}",
            f"MAPS_MUS-{draw.choice(['bach_846', 'x', 'a_b_c-d'])}_{code}",
        ):
            assert maps.parse(name + ".wav").name == name
            assert maps.parse(name + ".wav").instrument == code


@pytest.mark.parametrize(
    "name", ["MAPS_ISOL_XX_F_S0_M60_StbgTGd2", "MAPS_ISOL_NO_F_M60_StbgTGd2", "piano", "MAPS_RAND"]
)
def test_other_names_are_not_recordings(name):
    assert maps.parse(f"{name}.wav") is None


@pytest.mark.parametrize("above", ["CODE1234", "MAPS_CODE1234_1/CODE1234", "CODE1234/CODE1234"])
def test_recordings_are_found_in_every_shape_of_root(tmp_path, above):
    names = [
        "MAPS_ISOL_NO_F_S0_M60_CODE1234",
        "MAPS_ISOL_NO_F_S1_M61_CODE1234",
        "MAPS_ISOL_CH0.1_F_CODE1234",
        "MAPS_RAND_P2_M36-95_I32-96_S0_n10_CODE1234",
        "MAPS_RAND_P2_M36-95_I32-96_S1_n9_CODE1234",
    ]
    for name in names:
        write_recording(tmp_path / above / "ISOL" / "NO", name)
    write_recording(tmp_path / above.replace("_1/", "_2/") / "MUS", "MAPS_MUS-alb_se3_CODE1234")
    write_recording(tmp_path / ".half-written", "MAPS_ISOL_NO_F_S0_M62_CODE1234")
    found = maps.all_recordings(tmp_path)
    assert {r.name for r in found} == {*names, "MAPS_MUS-alb_se3_CODE1234"}
    assert found == maps.all_recordings(tmp_path)
    assert [r.sustain for r in maps.find_recordings(tmp_path, set="ISOL", style="NO")] == [0, 1]
    chords = maps.find_recordings(tmp_path, set="RAND", polyphony=2, intensity="I32-96", instrument="CODE1234")
    assert {r.number for r in chords} == {9, 10}
    assert [r.pitch for r in maps.find_recordings(tmp_path, pitch=range(61, 90))] == [61]


def test_unknown_names_are_counted_in_a_warning(tmp_path, caplog):
    write_recording(tmp_path, "MAPS_ISOL_NO_F_S0_M60_CODE1234")
    write_recording(tmp_path, "MAPS_NEWSET_x_CODE1234")
    with caplog.at_level(logging.WARNING):
        assert len(maps.all_recordings(tmp_path)) == 1
    assert "skipped 1 file" in caplog.text
    assert "MAPS_NEWSET_x_CODE1234" in caplog.text


def test_roots_that_hold_nothing_are_errors(tmp_path):
    with pytest.raises(InputError, match="absent: no such folder"):
        maps.all_recordings(tmp_path / "absent")
    with pytest.raises(InputError, match=r"no MAPS_\*\.wav"):
        maps.all_recordings(tmp_path)


def test_criteria_that_match_nothing_name_what_is_there(tmp_path):
    write_recording(tmp_path, "MAPS_RAND_P2_M36-95_I32-96_S0_n1_CODE1234")
    with pytest.raises(InputError, match="polyphony = 3; it holds 2"):
        maps.find_recordings(tmp_path, polyphony=3)
    with pytest.raises(InputError, match="no field loudnes"):
        maps.find_recordings(tmp_path, loudnes="P")


def test_values_that_match_nothing_among_others_are_named_in_a_warning(tmp_path, caplog):
    write_recording(tmp_path, "MAPS_RAND_P2_M36-95_I32-96_S0_n1_CODE1234")
    with caplog.at_level(logging.WARNING):
        assert len(maps.find_recordings(tmp_path, instrument=("CODE1234", "CODE5678"), polyphony=range(9))) == 1
    assert "no recording with instrument = CODE5678" in caplog.text
    assert len(caplog.records) == 1


def recording_of(tmp_path, keys, pedal=()):
    path = write_recording(tmp_path, "MAPS_MUS-test_CODE1234", keys, seconds=3)
    write_midi(path.with_suffix(".mid"), keys, pedal)
    return maps.parse(path)


def offsets(recording, rule):
    return [round(note.offset, 4) for note in notes.read_notes(recording, rule)]


def test_the_pedal_holds_a_note_until_it_is_lifted(tmp_path):
    recording = recording_of(tmp_path, [(0.5, 1.0, 60)], pedal=[(0.4, 127), (1.7, 0)])
    assert offsets(recording, "key") == [1.0]
    assert offsets(recording, "pedal") == [1.7]


def test_the_pedal_holds_a_note_until_its_key_is_struck_again(tmp_path):
    keys = [(0.5, 1.0, 60), (0.6, 0.9, 64), (1.3, 1.5, 60)]
    recording = recording_of(tmp_path, keys, pedal=[(0.7, 100), (2.0, 10)])
    assert offsets(recording, "key") == [1.0, 0.9, 1.5]
    assert offsets(recording, "pedal") == [1.3, 2.0, 2.0]


def test_a_pedal_that_is_up_at_the_release_holds_nothing(tmp_path):
    recording = recording_of(tmp_path, [(0.5, 1.0, 60), (0.5, 2.5, 62)], pedal=[(0.4, 127), (0.8, 0), (1.2, 127)])
    assert offsets(recording, "pedal")[0] == 1.0


def test_a_pedal_that_is_never_lifted_holds_to_the_end(tmp_path):
    recording = recording_of(tmp_path, [(0.5, 1.0, 60), (0.6, 2.0, 62)], pedal=[(0.4, 127)])
    assert offsets(recording, "pedal") == [2.0, 2.0]


def test_audio_of_any_rate_and_channels_is_read(tmp_path):
    for rate, channels in ((44100, 2), (48000, 1), (16000, 1)):
        write_wav(tmp_path / "a.wav", [(0, 1, 69)], seconds=1, rate=rate, channels=channels)
        audio = read_audio(tmp_path / "a.wav", 16000)
        assert audio.dtype == np.float32
        assert len(audio) == pytest.approx(16000, abs=2)
        assert np.abs(np.fft.rfft(audio[:16000], 16000)).argmax() == 440


def test_bad_audio_is_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "a.wav"
    with pytest.raises(InputError, match=r"a\.wav: no such file"):
        read_audio(path, 16000)
    write_wav(path, [(0, 1, 69)], seconds=1)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"a\.wav: truncated"):
        read_audio(path, 16000)
    path.write_bytes(whole[:20])
    with pytest.raises(InputError, match=r"a\.wav"):
        read_audio(path, 16000)
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.wav: not readable as audio"):
        read_audio(path, 16000)
    path.write_text("this is no sound")
    with pytest.raises(InputError, match=r"a\.wav: not readable as audio"):
        read_audio(path, 16000)
    soundfile.write(path, np.zeros((0, 2)), 44100)
    with pytest.raises(InputError, match=r"a\.wav: empty"):
        read_audio(path, 16000)
    soundfile.write(path, np.array([0.0, np.nan]), 44100, subtype="FLOAT")
    with pytest.raises(InputError, match="not finite"):
        read_audio(path, 16000)


def test_bad_midi_is_an_error_that_names_the_file(tmp_path):
    recording = recording_of(tmp_path, [(0.5, 1.0, 60)])
    recording.midi.write_bytes(recording.midi.read_bytes()[:30])
    with pytest.raises(InputError, match=r"MAPS_MUS-test_CODE1234\.mid"):
        notes.read_notes(recording)
    recording.midi.write_text("no music")
    with pytest.raises(InputError, match="not readable as MIDI"):
        notes.read_notes(recording)
    write_midi(recording.midi, [])
    with pytest.raises(InputError, match="holds no notes"):
        notes.read_notes(recording)
    recording.midi.unlink()
    with pytest.raises(InputError, match=r"\.mid: no such file"):
        notes.read_notes(recording)


def test_bad_tables_are_errors_that_name_the_file(tmp_path):
    path = tmp_path / "a.txt"
    with pytest.raises(InputError, match=r"a\.txt: no such file"):
        notes.read_text(path)
    for content in ("", "Onset\tOffset\n", "OnsetTime\tOffsetTime\tMidiPitch\n0.5\tx\t60\n", "OnsetTime\n1\n"):
        path.write_text(content)
        with pytest.raises(InputError, match=r"a\.txt: expected OnsetTime"):
            notes.read_text(path)
    write_text(path, [(0.5, 1.0, 60)])
    assert notes.read_text(path) == [notes.Note(0.5, 1.0, 60, 0)]


def test_disagreeing_tables_are_counted_in_one_warning(tmp_path, caplog):
    good = recording_of(tmp_path / "good", [(0.5, 1.0, 60), (0.52, 1.0, 64)])
    late = recording_of(tmp_path / "late", [(0.5, 1.0, 60), (0.5, 1.0, 64)])
    write_text(late.text, [(0.5 + 0.04, 1.0, 60), (0.5 + 0.06, 1.0, 64)])
    short = recording_of(tmp_path / "short", [(0.5, 1.0, 60), (0.5, 1.0, 64)])
    write_text(short.text, [(0.5, 1.0, 60)])
    assert [notes.disagreements(r) for r in (good, late, short)] == [0, 1, 1]
    with caplog.at_level(logging.WARNING):
        assert notes.warn_of_disagreements([good, late, short]) == 2
    assert len(caplog.records) == 1
    assert "2 of 3 recordings (2 notes)" in caplog.text


def test_the_inventory_counts_files_hours_and_missing_partners(tmp_path):
    write_recording(tmp_path, "MAPS_ISOL_NO_F_S0_M60_CODE1234", seconds=1.8)
    path = write_recording(tmp_path, "MAPS_ISOL_NO_F_S0_M61_CODE1234", seconds=1.8)
    path.with_suffix(".txt").unlink()
    write_recording(tmp_path, "MAPS_MUS-x_CODE1234")
    isol, mus = maps.inventory(tmp_path)
    assert (isol.instrument, isol.set, isol.recordings, isol.missing) == ("CODE1234", "ISOL", 2, 1)
    assert isol.hours == pytest.approx(0.001)
    assert (mus.set, mus.recordings, mus.missing) == ("MUS", 1, 0)


def test_nothing_is_printed_where_it_would_get_into_a_chapter():
    command = [sys.executable, "-c", "import ddslib.recordings.corpus, fluidsynth"]
    done = subprocess.run(command, env=os.environ | {"CI": "true"}, capture_output=True, text=True, check=True)
    assert done.stdout == ""
