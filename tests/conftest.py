import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side: threads of each would wait for the others'

import pytest
import torch

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
