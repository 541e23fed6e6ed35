import math
import os
from dataclasses import replace

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side: threads of each would wait for the others'

import pytest
import torch

from ddslib.config import load_profile
from ddslib.flows import checkpoint
from ddslib.recordings.pianos import PIANOS, SALAMANDER


def pytest_collection_modifyitems(items):
    """What waits the longest begins first, and others run meanwhile."""
    items.sort(key=lambda item: item.path.stem != "test_slurm")


@pytest.fixture(scope="session")
def smoke():
    """The profile, without the piano that cannot be had everywhere."""
    families = load_profile("smoke").rendered_instruments.only(lambda code: PIANOS[code].font != SALAMANDER).train
    pianos = [code for members in families.values() for code in members]
    return load_profile("smoke", {"rendering.isol_instruments": pianos, "rendered_instruments.train": families})


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def policy_with(monkeypatch):
    """Change what a module is told of a device: the module, and fields of `Policy`."""

    def change(module, **fields):
        asked = module.policy
        monkeypatch.setattr(module, "policy", lambda device: replace(asked(device), **fields))

    return change


@pytest.fixture
def every_epoch_kept(monkeypatch):
    """A checkpoint after each epoch of a training."""
    monkeypatch.setattr(checkpoint, "SECONDS", 0)
    monkeypatch.setattr(checkpoint, "SHARE", math.inf)
