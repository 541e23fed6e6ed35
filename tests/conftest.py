import pytest
import torch

from ddslib.config import load_profile


@pytest.fixture(scope="session")
def smoke():
    return load_profile("smoke")


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)
