"""What all tests share."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import signal

import numpy as np
import pytest
from sklearn.datasets import load_digits

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background jobs; child processes inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def digits() -> np.ndarray:
    """300 real handwritten digits in [0, 1], (300, 64)."""
    return np.asarray(load_digits().data[:300] / 16.0)


@pytest.fixture
def table() -> np.ndarray:
    """60 rows of 5 standard normal columns of very different units."""
    draw = np.random.default_rng(0).normal(size=(60, 5))
    return np.asarray(draw * [1, 10, 100, 1e-3, 1] + [0, 5, -200, 1, 7])
