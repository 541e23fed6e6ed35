"""Benchmarks have the machine to themselves, so threads may spin while they wait."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "active")
