"""What each process of the training benchmark does.

Called as ``python -m benchmarks.scale.train_work MODEL ROWS EPOCHS OUT [CHECKPOINT]``; torchrun starts several.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import isthmus
from benchmarks.systems.harness import mnist, published
from isthmus import Adam, Autoencoder, Callback, Checkpoint, ConvolutionalAutoencoder, VariationalAutoencoder

COMMON: dict[str, Any] = {"batch_size": 256, "random_state": 0}
MODELS: dict[str, Callable[[int], Autoencoder]] = {
    "S1": lambda epochs: published((128,), 32, epochs=epochs).set_params(random_state=0),
    "S6": lambda epochs: published((128, 64), 32, epochs=epochs, batch_size=256).set_params(random_state=0),
    # A bound that no gradient reaches keeps one process on the general engine too: compiled steps draw other noise.
    "variational": lambda epochs: VariationalAutoencoder(
        16, max_epochs=epochs, optimizer=Adam(clip_norm=1e9), **COMMON
    ),
    "convolutional": lambda epochs: ConvolutionalAutoencoder(16, max_epochs=epochs, **COMMON),
}


def rows_for(name: str, n_rows: int) -> np.ndarray:
    """The first images of MNIST."""
    rows = mnist()[0][:n_rows]
    return rows.reshape(-1, 28, 28) if name == "convolutional" else rows


class Slow(Callback):
    """Waits after every epoch, so that a process can be killed in mid-run."""

    def on_epoch_end(self, run: isthmus.training.Run) -> None:
        time.sleep(0.3)


class Clock(Callback):
    """Notes the CPU time of this process after every epoch: it depends less on other work than the time that passes."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_fit_start(self, run: isthmus.training.Run) -> None:
        self.seconds = [time.process_time()]

    def on_epoch_end(self, run: isthmus.training.Run) -> None:
        self.seconds.append(time.process_time())


def work(name: str, n_rows: int, epochs: int, out: Path, checkpoint: Path | None) -> None:
    """What every process does: train, going on from a checkpoint that is there, and keep what came out."""
    model, clock = MODELS[name](epochs), Clock()
    model.set_params(callbacks=(clock,))
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
            seconds=np.diff(clock.seconds),
            engine=str(model.engine_),
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    name, n_rows, epochs, out, *checkpoint = sys.argv[1:]
    work(name, int(n_rows), int(epochs), Path(out), Path(checkpoint[0]) if checkpoint else None)
