import math
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side: threads of each would wait for the others'

import pytest
import torch

from ddslib import training
from ddslib.config import load_profile


def pytest_collection_modifyitems(items):
    """What waits the longest begins first, and others run meanwhile."""
    items.sort(key=lambda item: item.path.stem != "test_slurm")


@pytest.fixture(scope="session")
def smoke():
    return load_profile("smoke")


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def every_epoch_kept(monkeypatch):
    """A checkpoint after each epoch of a training."""
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(training, "CHECKPOINT_SHARE", math.inf)
