"""isthmus: the greatest resident memory of a fit and a pass, above interpreter, libraries and data."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
from protocol import Job, notes, serve

from isthmus import Autoencoder, MaxSteps


def resident(kind: str) -> float:
    """Megabytes now (``"VmRSS"``) or at most (``"VmHWM"``), pages of mapped files included."""
    status = Path("/proc/self/status")
    if status.is_file():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines[kind].split()[0]) * 1024 / 1e6
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 1e6 if sys.platform == "darwin" else used * 1024 / 1e6


def warm_up() -> None:
    """Load every library that a fit needs."""
    X = np.random.default_rng(0).random((200, 784), np.float32)
    Autoencoder(32, network=(128,), max_epochs=1, random_state=0).fit(X).transform(X)


def prepare(job: Job) -> dict[str, Any]:
    warm_up()

    def measured(X: np.ndarray, **settings: Any) -> None:
        forget_peak()
        before = resident("VmRSS")
        model = Autoencoder(32, network=(128, 64), random_state=0, **settings).fit(X)
        for _ in model.stream(X, "transform"):
            pass
        notes["megabytes"] = resident("VmHWM") - before

    def mapped(path: str, n_steps: int) -> None:
        measured(np.load(path, mmap_mode="r"), max_epochs=1, batch_size=256, callbacks=[MaxSteps(n_steps)])

    return {"loaded": lambda: measured(job.rows, max_epochs=1), "mapped": mapped}


def forget_peak() -> None:
    """Let the greatest resident memory count from here, where the system can (Linux)."""
    clear = Path("/proc/self/clear_refs")
    if clear.is_file():
        clear.write_text("5")


serve(prepare)
