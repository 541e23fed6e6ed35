"""How much memory a script takes, in an interpreter of its own, where nothing else takes any."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")


def mebibytes(field: str) -> float:
    """A field of the process's status: ``"RssAnon"`` is what is in memory and in no file, ``"VmHWM"`` the peak."""
    return int(re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def printed_by(script: str, *arguments: object) -> list[float]:
    """The numbers that an indented script prints; it may import this module."""
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return [float(number) for number in done.stdout.split()]


def sparse_file(path: Path, size: int) -> Path:
    """So many bytes with nothing to write, and all of it to read."""
    with path.open("wb") as file:
        file.truncate(size)
    return path
