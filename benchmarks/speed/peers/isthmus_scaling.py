"""isthmus: what a step and a row cost for data of any size."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from protocol import Job, notes, serve

from isthmus import Autoencoder, Callback

LONGEST = 5.0
"""Seconds of steps, and of a pass, that are enough."""


class Stopwatch(Callback):
    """Notes when steps end, and stops after so many, or after so long."""

    def __init__(self, n_steps: int) -> None:
        self.n_steps, self.ends = n_steps, []

    def on_step_end(self, run: Any) -> None:
        self.ends.append(time.perf_counter())
        if len(self.ends) > self.n_steps or (len(self.ends) > 2 and self.ends[-1] - self.ends[0] > LONGEST):
            run.stop("enough")


def measure(X: np.ndarray, code_size: int, n_steps: int) -> None:
    """Note seconds a step and rows a second of a pass; the first step, which makes buffers, does not count."""
    watch = Stopwatch(n_steps)
    settings = {"batch_size": min(256, len(X)), "max_epochs": 1000, "learning_rate": 1e-3, "schedule": "constant"}
    began = time.perf_counter()
    model = Autoencoder(code_size, network=(128,), callbacks=[watch], random_state=0, **settings).fit(X)
    fitted = time.perf_counter()
    n_rows = 0
    for part in model.stream(X, "transform"):
        n_rows += len(part)
        if time.perf_counter() - fitted > LONGEST:
            break
    notes["rows_per_second"] = n_rows / (time.perf_counter() - fitted)
    notes["step"] = (watch.ends[-1] - watch.ends[0]) / (len(watch.ends) - 1)
    notes["before"] = watch.ends[0] - began


def prepare(_: Job) -> dict[str, Any]:
    def stored(path: str, code_size: int, n_steps: int) -> None:
        measure(np.load(path, mmap_mode="r"), code_size, n_steps)

    def drawn(n_rows: int, n_features: int, code_size: int, n_steps: int) -> None:
        measure(np.random.default_rng(0).random((n_rows, n_features), np.float32), code_size, n_steps)

    return {"stored": stored, "drawn": drawn}


serve(prepare)
