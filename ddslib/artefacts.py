"""Computed files: named by the digest of what they were made from, written whole or not at all."""

import dataclasses
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def digest(*parts: Any) -> str:
    """Twelve hexadecimal digits of the SHA-256 of `parts` (dataclasses, plain values) as JSON."""
    text = json.dumps(parts, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _plain(value):
    if dataclasses.is_dataclass(value):
        return dataclasses.asdict(value)
    raise TypeError(f"a {type(value).__name__} has no place in a digest")


def content_digest(paths: Iterable[Path]) -> str:
    """Digest of what the files hold, in the order given."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:12]


def signature(paths: Iterable[Path], root: Path) -> str:
    """Digest of names, sizes and times: as good as the contents as long as nobody forges times."""
    stats = ((path, path.stat()) for path in paths)
    return digest([[str(path.relative_to(root)), s.st_size, s.st_mtime_ns] for path, s in stats])


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` on success and vanishes on any failure.

    What is written there may be a file or a folder.  A folder that another process completed first
    is kept, since equal names mean equal contents.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        target = scratch / path.name  # keeps the suffix, from which writers infer the format
        yield target
        if target.is_dir() and path.is_dir():
            return
        target.replace(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_text(path: Path, text: str):
    """Write `text` to `path` in one step."""
    with writing(path) as target:
        target.write_text(text)
