from dataclasses import replace

import numpy as np
import pytest
from helpers import write_recording

from ddslib.config import InputError
from ddslib.recordings import maps
from ddslib.spectra import frames, labels

PITCHES = (60, 61, 64, 71)


@pytest.fixture
def root(tmp_path):
    for code in ("CODE0001", "CODE0002"):
        for n, pitch in enumerate(PITCHES):
            name = f"MAPS_ISOL_NO_F_S{n % 2}_M{pitch}_{code}"
            write_recording(tmp_path / "maps" / code, name, [(0.32, 0.96, pitch)], seconds=1.2)
    return tmp_path / "maps"


@pytest.fixture
def prepare(root, tmp_path, smoke):
    def prepare(thin=1, instruments=("CODE0001", "CODE0002")):
        training = replace(smoke.training, thin=thin)
        recordings = maps.find_recordings(root, instrument=instruments)
        return frames.prepare(tmp_path / "store", root, recordings, smoke.front_end, training, smoke.pitches)

    return prepare


def test_frames_are_the_active_columns_sorted_by_pitch(prepare, root, smoke):
    store = prepare()
    assert store.values.shape == (8 * 20, 256)
    assert isinstance(store.values, np.memmap)
    assert (np.diff(store.sources) >= 0).all()
    assert set(store.sources + 60) == set(PITCHES)
    recording = maps.find_recordings(root, pitch=64, instrument="CODE0002")[0]
    X, _ = labels.labelled_spectrogram(recording, smoke.front_end, smoke.pitches)
    mine = store.recordings == store.names.index(recording.name)
    assert (store.sources[mine] == 4).all()
    assert np.array_equal(store.values[mine], X[:, 10:30].T.numpy())


def test_thinning_keeps_every_nth_frame_of_a_recording(prepare):
    assert len(prepare(thin=3).values) == 8 * 7
    assert np.array_equal(prepare(thin=3).values[:7], prepare().values[:20:3])


def test_a_store_is_read_back_and_remade_when_its_input_changes(prepare, root, tmp_path):
    first = prepare()
    (store,) = (tmp_path / "store").iterdir()
    before = (store / "values.f32").stat().st_mtime_ns
    assert prepare().content == first.content
    assert (store / "values.f32").stat().st_mtime_ns == before
    write_recording(root / "CODE0001", "MAPS_ISOL_NO_F_S0_M60_CODE0001", [(0.32, 0.64, 60)], seconds=1.2)
    assert prepare().content != first.content
    assert len(prepare().values) == 8 * 20 - 10


def test_the_stored_file_is_safe_from_its_readers(prepare):
    prepare().values[:] = 7
    assert prepare().values.max() < 1


def test_splitting_by_recording_keeps_recordings_whole(prepare, smoke):
    store = prepare()
    training = replace(smoke.training, validation_share=0.25)
    chosen = store.validation(training, seed=0)
    assert len(set(store.recordings[chosen])) == 4
    assert not set(store.recordings[chosen]) & set(store.recordings[~chosen])
    assert np.array_equal(chosen, store.validation(training, seed=0))
    assert not all(np.array_equal(chosen, store.validation(training, seed=s)) for s in range(1, 6))


def test_splitting_by_frame_leaves_recordings_on_both_sides(prepare, smoke):
    store = prepare()
    chosen = store.validation(replace(smoke.training, validation_share=0.25, split="frame"), seed=0)
    assert chosen.sum() == 40
    assert set(store.recordings[chosen]) & set(store.recordings[~chosen])


def made_up(recordings_of_sources, frames_of_recording=5):
    """Frames of so many recordings for each source."""
    sources = np.repeat(np.arange(len(recordings_of_sources)), recordings_of_sources)
    recordings = np.repeat(np.arange(len(sources)), frames_of_recording)
    names = tuple(f"recording {number}" for number in range(len(sources)))
    return frames.Frames(np.zeros((len(recordings), 4), np.float32), sources[recordings], recordings, names, "content")


@pytest.mark.parametrize("split", ["recording", "frame"])
@pytest.mark.parametrize("share", [0.01, 0.25, 0.99])
def test_every_source_has_frames_on_both_sides(split, share, smoke):
    store = made_up([2, 3, 12])
    chosen = store.validation(replace(smoke.training, validation_share=share, split=split), seed=0)
    for source in range(3):
        assert set(chosen[store.sources == source]) == {False, True}


def test_the_share_of_the_recordings_that_validate_is_that_of_each_source(smoke):
    store = made_up([4, 8, 40])
    chosen = store.validation(replace(smoke.training, validation_share=0.25, split="recording"), seed=0)
    assert [len(set(store.recordings[chosen & (store.sources == source)])) for source in range(3)] == [1, 2, 10]


def test_a_source_with_a_single_recording_cannot_be_split_by_recording(smoke):
    store = made_up([2, 1, 3])
    with pytest.raises(InputError, match="recording 2 is the only recording of its note; expected two"):
        store.validation(replace(smoke.training, split="recording"), seed=0)
    chosen = store.validation(replace(smoke.training, split="frame"), seed=0)
    assert set(chosen[store.sources == 1]) == {False, True}


def test_a_source_with_a_single_frame_cannot_be_split(smoke):
    with pytest.raises(InputError, match="recording 0 is the only frame of its note"):
        made_up([1, 2], frames_of_recording=1).validation(replace(smoke.training, split="frame"), seed=0)


def test_a_broken_recording_leaves_no_store(prepare, root, tmp_path):
    (root / "CODE0001" / "MAPS_ISOL_NO_F_S0_M60_CODE0001.wav").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"MAPS_ISOL_NO_F_S0_M60_CODE0001\.wav"):
        prepare()
    assert not list((tmp_path / "store").iterdir())


def test_notes_without_an_active_frame_are_an_error(prepare, root):
    for path in root.rglob("*.wav"):
        write_recording(path.parent, path.stem, [(0.321, 0.33, maps.parse(path).pitch)], seconds=1.2)
    with pytest.raises(InputError, match="no active frame in 8 recordings"):
        prepare()
