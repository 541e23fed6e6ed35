"""For tests of what torch.compile makes."""

import shutil
from collections.abc import Callable

import pytest


def needs_compiler(test: Callable) -> Callable:
    """Skip the test where there is no C++ compiler, and let PyTorch use its own deprecated functions."""
    found = shutil.which("g++") or shutil.which("clang++")
    test = pytest.mark.filterwarnings("ignore:::torch")(test)
    return pytest.mark.skipif(not found, reason="torch.compile needs a C++ compiler")(test)
