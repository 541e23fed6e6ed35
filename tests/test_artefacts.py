import pytest

from ddslib.artefacts import content_digest, digest, signature, write_text, writing
from ddslib.config import Pitches


def test_a_failure_while_writing_leaves_nothing_and_keeps_what_was_there(tmp_path):
    path = tmp_path / "new" / "result.json"
    with pytest.raises(OSError, match="disk full"), writing(path) as target:
        target.write_text("half of")
        raise OSError("disk full")
    assert list(path.parent.iterdir()) == []
    write_text(path, "whole")
    with pytest.raises(KeyboardInterrupt), writing(path) as target:
        target.write_text("half of")
        raise KeyboardInterrupt
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_appears_whole(tmp_path):
    path = tmp_path / "store"
    with writing(path) as target:
        target.mkdir()
        (target / "a").write_text("1")
        assert not path.exists()
    assert (path / "a").read_text() == "1"
    with writing(path) as target:  # another process was first
        target.mkdir()
    assert (path / "a").read_text() == "1"


def test_digests_tell_configurations_and_contents_apart(tmp_path):
    assert digest(Pitches(60, 71), 1) == digest(Pitches(60, 71), 1)
    assert digest(Pitches(60, 71), 1) != digest(Pitches(60, 72), 1)
    with pytest.raises(TypeError, match="object has no place"):
        digest(object())
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("x")
    b.write_text("x")
    assert content_digest([a]) == content_digest([b])
    before = signature([a], tmp_path)
    a.write_text("xy")
    assert signature([a], tmp_path) != before
    assert content_digest([a]) != content_digest([b])
