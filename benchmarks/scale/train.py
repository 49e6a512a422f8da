"""Two processes that train one model beside one: ``python -m benchmarks.scale.train [--quick]``.

On loopback with gloo: the difference of weights and losses, one process killed in mid-run, and the time of a step. From
the step and the bytes of a gradient follows at how many processes adding up takes as long as computing.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import isthmus
from benchmarks.systems.harness import mnist, published
from isthmus import Autoencoder, Callback, Checkpoint, ConvolutionalAutoencoder, VariationalAutoencoder

PACKAGES = ("torch", "numpy")
COMMON: dict[str, Any] = {"batch_size": 256, "random_state": 0}
MODELS: dict[str, Callable[[int], Autoencoder]] = {
    "S1": lambda epochs: published((128,), 32, epochs=epochs).set_params(random_state=0),
    "S6": lambda epochs: published((128, 64), 32, epochs=epochs, batch_size=256).set_params(random_state=0),
    "variational": lambda epochs: VariationalAutoencoder(16, max_epochs=epochs, **COMMON),
    "convolutional": lambda epochs: ConvolutionalAutoencoder(16, max_epochs=epochs, **COMMON),
}
GBITS = (1, 10, 100)


def rows_for(name: str, n_rows: int) -> np.ndarray:
    """The first images of MNIST."""
    rows = mnist()[0][:n_rows]
    return rows.reshape(-1, 28, 28) if name == "convolutional" else rows


class Slow(Callback):
    """Waits after every epoch, so that a process can be killed in mid-run."""

    def on_epoch_end(self, run: isthmus.training.Run) -> None:
        time.sleep(0.3)


def work(name: str, n_rows: int, epochs: int, out: Path, checkpoint: Path | None) -> None:
    """What every process does: train, going on from a checkpoint that is there, and keep what came out."""
    model = MODELS[name](epochs)
    if checkpoint is not None:
        model.set_params(callbacks=(Checkpoint(checkpoint), Slow()))
        (out.parent / f"pid-{os.environ.get('RANK', '0')}").write_text(str(os.getpid()))
    going_on = checkpoint if checkpoint is not None and checkpoint.exists() else None
    model.fit(rows_for(name, n_rows), resume=going_on)
    if isthmus.is_main_process():
        np.savez(
            out,
            weights=np.concatenate([p.detach().numpy().ravel() for p in model.objective_.parameters()]),
            losses=[row["loss"] for row in model.history_.rows],
            seconds=[row["seconds"] for row in model.history_.rows],
            engine=str(model.engine_),
        )


def started(n: int, arguments: list[str], restarts: int = 0) -> subprocess.Popen[bytes]:
    """`work` in n processes, by torchrun where there are several."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(n), "--master-port", str(port)]
    launcher += ["--max-restarts", str(restarts), "--monitor-interval", "0.1"]
    command = [sys.executable, *(launcher if n > 1 else []), "-m", "benchmarks.scale.train", "--work", *arguments]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)


def trained(folder: Path, n: int, name: str, n_rows: int, epochs: int) -> dict[str, np.ndarray]:
    """What n processes come to."""
    out = folder / f"{name}-{n}.npz"
    if started(n, [name, str(n_rows), str(epochs), str(out)]).wait(timeout=280) != 0:
        raise RuntimeError(f"{n} processes did not train {name}.")
    return dict(np.load(out))


def killed(folder: Path, n_rows: int, epochs: int, kill_at: Path | None) -> dict[str, np.ndarray]:
    """Two processes with a checkpoint, of which the second is killed once that of `kill_at` is there."""
    name = "whole" if kill_at is None else "killed"
    place = folder / name
    place.mkdir()
    path, out = place / "run.safetensors", place / "out.npz"
    process = started(2, ["S1", str(n_rows), str(epochs), str(out), str(path)], restarts=1)
    if kill_at is not None:
        while not path.exists():
            time.sleep(0.02)
        os.kill(int((place / "pid-1").read_text()), signal.SIGKILL)
    if process.wait(timeout=280) != 0:
        raise RuntimeError(f"The {name} run did not end.")
    return dict(np.load(out))


def processes_at_balance(seconds: float, n_bytes: int, gbit: float) -> float:
    """At how many processes a ring all-reduce takes as long as computing the same batch, divided among them.

    Each process sends 2 (n - 1) / n gradients, which takes about 2 bytes / bandwidth; computing takes seconds / n.
    From 2 b (n - 1) / n = s / n follows n = 1 + s / (2 b). Latency is left out.
    """
    return 1.0 + seconds / (2.0 * n_bytes * 8.0 / (gbit * 1e9))


def run(sheet: Any, *, quick: bool = False, seed: int = 0) -> None:  # noqa: ARG001  # the same rows and seed always
    """Measure everything; `sheet` has ``add(part, quantity, value, wanted, met)``."""
    n_rows, epochs = (2_001, 2) if quick else (10_001, 3)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name in MODELS:
            one, two = (trained(folder, n, name, n_rows, epochs) for n in (1, 2))
            _compare(sheet, name, one, two, n_rows)
        whole, broken = killed(folder, 2_001, 4, None), killed(folder, 2_001, 4, folder)
        gap = float(np.abs(whole["weights"] - broken["weights"]).max())
        sheet.add("train", "S1, one of two killed and restarted: weights, max |Δ|", gap, "= 0", gap == 0.0)


def _compare(sheet: Any, name: str, one: dict[str, np.ndarray], two: dict[str, np.ndarray], n_rows: int) -> None:
    for what in ("weights", "losses"):
        gap = float(np.abs(one[what] - two[what]).max())
        sheet.add("train", f"{name}: {what}, two processes beside one, max |Δ|", gap, "≤ 1e-5", gap <= 1e-5)
    n_steps = -(-n_rows // (32 if name == "S1" else 256))
    n_bytes = one["weights"].size * 4
    alone, together = (float(found["seconds"].min()) / n_steps for found in (one, two))
    sheet.add("train", f"{name}: ms a step, one process ({str(one['engine']).split()[0]})", 1e3 * alone)
    sheet.add("train", f"{name}: ms a step, two processes (general)", 1e3 * together)
    sheet.add("train", f"{name}: kB of gradient a step, sent by each of two", n_bytes / 1e3)
    for gbit in GBITS:
        found = processes_at_balance(alone, n_bytes, gbit)
        sheet.add("train", f"{name}: processes where adding up = computing, {gbit} Gbit/s", found)


class Printed:
    """A sheet that prints."""

    missed = 0

    def add(self, part: str, quantity: str, value: float, wanted: str = "", met: bool | None = None) -> None:
        """Print a figure."""
        self.missed += met is False
        print(f"{quantity:64} {value:12.6g} {wanted:8} {({None: '', True: 'met', False: 'MISSED'})[met]}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rows: whether it runs")
    parser.add_argument("--work", nargs="+", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        name, n_rows, epochs, out, *checkpoint = asked.work
        torch.set_num_threads(1)
        work(name, int(n_rows), int(epochs), Path(out), Path(checkpoint[0]) if checkpoint else None)
        return 0
    sheet = Printed()
    run(sheet, quick=asked.quick)
    print(f"isthmus {isthmus.__version__}, torch {torch.__version__}, {os.cpu_count()} cores, {platform.machine()}")
    return int(sheet.missed > 0)


if __name__ == "__main__":
    sys.exit(main())
