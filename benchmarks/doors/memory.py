"""The most memory that a call takes above what its rows take already (Linux)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.tables.__main__ import forget_peak, peak_memory
from isthmus import Autoencoder

WIDTH = 500
MEGABYTES = 150
SMALL = 100
"""Megabytes for the pieces that are worked on at a time, the network, and what the allocator keeps."""
BOUNDS = {"fit": 0.5, "transform": 0.0, "score": 0.0, "score_samples": 0.0, "reconstruct": 1.0}
"""What a call may take as a share of double-precision rows: `fit` keeps them in single precision."""


def memory_lines() -> list[str]:
    """A table of calls, their peaks and what they may take, for rows of 150 MB in double and in single precision."""
    lines = ["## Memory", "", "| call | rows | peak above the rows, MB | bound, MB |", "|---|---|---|---|"]
    for dtype in (np.float64, np.float32):
        n_rows = MEGABYTES * 10**6 // (WIDTH * np.dtype(dtype).itemsize)
        X = np.random.default_rng(0).standard_normal((n_rows, WIDTH)).astype(dtype)
        model = Autoencoder(8, network=(32,), max_epochs=1, batch_size=256, random_state=0)
        calls: dict[str, Callable[[Any], Any]] = {"fit": model.fit}
        calls |= {name: getattr(model, name) for name in ("transform", "score", "score_samples", "reconstruct")}
        warm = Autoencoder(8, network=(32,), max_epochs=200, batch_size=256, random_state=0)
        warm.fit(X[:1000])  # what the first call of all loads, such as the compiler of steps, does not count
        model.fit(X[:1000])
        for name, call in calls.items():
            bound = MEGABYTES * (2 * BOUNDS[name] if dtype is np.float32 and name == "fit" else BOUNDS[name]) + SMALL
            peak = peak_of(functools.partial(call, X))
            mark = "" if peak <= bound else " **"
            lines.append(f"| {name} | {np.dtype(dtype).name} | {peak:.0f}{mark} | {bound:.0f} |")
    return lines


def peak_of(work: Callable[[], Any]) -> float:
    """Megabytes above what was held before."""
    forget_peak()
    before = peak_memory()
    work()
    return 1000 * (peak_memory() - before)
