"""Two processes that train one model beside one.

On loopback with gloo: the difference of weights and losses, one process killed in mid-run, and the CPU time of a step.
From the step and the bytes of a gradient follows at how many processes adding up takes as long as computing.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.scale.train_work import MODELS
from benchmarks.sheet import Sheet

PACKAGES = ("torch", "numpy")
GBITS = (1, 10, 100)


def started(n: int, arguments: list[str], restarts: int = 0) -> subprocess.Popen[bytes]:
    """`work` in n processes, by torchrun where there are several."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(n), "--master-port", str(port)]
    launcher += ["--max-restarts", str(restarts), "--monitor-interval", "0.1"]
    command = [sys.executable, *(launcher if n > 1 else []), "-m", "benchmarks.scale.train_work", *arguments]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)


def trained(folder: Path, n: int, name: str, n_rows: int, epochs: int) -> dict[str, np.ndarray]:
    """What n processes come to."""
    out = folder / f"{name}-{n}.npz"
    if started(n, [name, str(n_rows), str(epochs), str(out)]).wait(timeout=900) != 0:
        raise RuntimeError(f"{n} processes did not train {name}.")
    return dict(np.load(out))


def checkpointed(folder: Path, n_rows: int, epochs: int, *, kill: bool) -> dict[str, np.ndarray]:
    """What two processes with a checkpoint come to; the second may be killed once the first checkpoint is there."""
    name = "killed" if kill else "whole"
    place = folder / name
    place.mkdir()
    path, out = place / "run.safetensors", place / "out.npz"
    process = started(2, ["S1", str(n_rows), str(epochs), str(out), str(path)], restarts=1)
    if kill:
        while not path.exists():
            time.sleep(0.02)
        os.kill(int((place / "pid-1").read_text()), signal.SIGKILL)
    if process.wait(timeout=900) != 0:
        raise RuntimeError(f"The {name} run did not end.")
    return dict(np.load(out))


def processes_at_balance(seconds: float, n_bytes: int, gbit: float) -> float:
    """At how many processes a ring all-reduce takes as long as computing the same batch, divided among them.

    Each process sends 2 (n - 1) / n gradients, which takes about 2 bytes / bandwidth; computing takes seconds / n.
    From 2 b (n - 1) / n = s / n follows n = 1 + s / (2 b). Latency is left out.
    """
    return 1.0 + seconds / (2.0 * n_bytes * 8.0 / (gbit * 1e9))


def run(sheet: Sheet, *, quick: bool = False, seed: int = 0) -> None:  # noqa: ARG001  # the same rows and seed always
    """Measure everything."""
    n_rows, epochs = (2_001, 2) if quick else (10_001, 3)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name in MODELS:
            one, two = (trained(folder, n, name, n_rows, epochs) for n in (1, 2))
            _compare(sheet, name, one, two, n_rows)
        whole, broken = (checkpointed(folder, 2_001, 4, kill=kill) for kill in (False, True))
        gap = float(np.abs(whole["weights"] - broken["weights"]).max())
        sheet.add("train", "S1, one of two killed and restarted: weights, max |Δ|", gap, "= 0", gap == 0.0)


def _compare(sheet: Sheet, name: str, one: dict[str, np.ndarray], two: dict[str, np.ndarray], n_rows: int) -> None:
    for what in ("weights", "losses"):
        gap = float(np.abs(one[what] - two[what]).max())
        sheet.add("train", f"{name}: {what}, two processes beside one, max |Δ|", gap, "≤ 1e-5", gap <= 1e-5)
    n_steps = -(-n_rows // (32 if name == "S1" else 256))
    n_bytes = one["weights"].size * 4
    alone, together = (float(found["seconds"].min()) / n_steps for found in (one, two))
    sheet.add("train", f"{name}: CPU ms a step, one process ({str(one['engine']).split()[0]})", 1e3 * alone)
    sheet.add("train", f"{name}: CPU ms a step, the first of two (general)", 1e3 * together)
    sheet.add("train", f"{name}: kB of gradient a step, sent by each of two", n_bytes / 1e3)
    for gbit in GBITS:
        found = processes_at_balance(alone, n_bytes, gbit)
        sheet.add("train", f"{name}: processes where adding up = computing, {gbit} Gbit/s", found)
