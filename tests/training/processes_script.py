"""What each of several processes does in the tests of `isthmus.training.processes`; also run by a single one."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import isthmus

RANK = int(os.environ.get("RANK", "0"))
N = int(os.environ.get("WORLD_SIZE", "1"))
X = np.random.default_rng(0).random((151, 64)).astype(np.float32)  # batches of 50: the last one has a single row
FEW: dict[str, Any] = {"max_epochs": 4, "batch_size": 50, "random_state": 0}

EQUAL: dict[str, Callable[[], Any]] = {
    "plain": lambda: isthmus.Autoencoder(3, validation_fraction=0.2, **FEW),
    "denoising": lambda: isthmus.DenoisingAutoencoder(3, **FEW),
    "variational": lambda: isthmus.VariationalAutoencoder(3, validation_fraction=0.2, **FEW),
    "contractive": lambda: isthmus.ContractiveAutoencoder(3, **FEW),
    "convolutional": lambda: isthmus.ConvolutionalAutoencoder(3, **FEW),
    "clipped": lambda: isthmus.Autoencoder(3, optimizer=isthmus.Adam(clip_norm=0.01), **FEW),
    "streamed": lambda: isthmus.Autoencoder(3, **FEW),
    "pretrained": lambda: isthmus.Autoencoder(3, network=isthmus.Dense((16, 8)), pretraining="layer-wise", **FEW),
}


class LastAsks(isthmus.Callback):
    """The last process alone asks for an end after the second epoch, as Ctrl-C in it does."""

    def on_epoch_end(self, run: Any) -> None:
        if run.epoch == 2 and run.processes.rank == N - 1:
            run.interrupt()


class LastFails(isthmus.Callback):
    """The last process fails after the first epoch."""

    def on_epoch_end(self, run: Any) -> None:
        if run.processes.rank == N - 1:
            raise OSError(f"the disk of process {N - 1} is full")


def numbers_of(model: Any) -> dict[str, list[float]]:
    """What two runs are compared by."""
    weights = np.concatenate([p.detach().numpy().ravel() for p in model.objective_.parameters()])
    rows = model.history_.rows
    return {
        "weights": weights.astype(float).tolist(),
        "losses": [row[name] for row in rows for name in ("loss", "val_loss") if name in row],
    }


def error_of(do: Callable[[], Any]) -> str:
    """The error of a call, with its type."""
    try:
        do()
    except Exception as error:  # noqa: BLE001  # whatever it is, the test compares it
        return f"{type(error).__name__}: {error}"
    return "none"


class OnDisk(isthmus.Source):
    """The rows, as if they were too many for memory."""

    random_access = fits_in_memory = False
    n_rows, feature_shape, dtype = len(X), X.shape[1:], X.dtype

    def read(self, rows: Any) -> np.ndarray:
        found: np.ndarray = X[rows]
        return found


def equal(folder: Path) -> dict[str, Any]:
    """Each kind of model."""
    shaped = {"convolutional": X.reshape(-1, 8, 8), "streamed": OnDisk()}
    return {name: numbers_of(make().fit(shaped.get(name, X))) for name, make in EQUAL.items()}


def errors(folder: Path) -> dict[str, Any]:
    """Processes that disagree, with a checkpoint to write; afterwards they still train together."""
    small = isthmus.Autoencoder(2, max_epochs=1, random_state=0)
    writing = isthmus.Autoencoder(
        2, max_epochs=1, random_state=0, callbacks=(isthmus.Checkpoint(folder / "never.safetensors"),)
    )
    other_rows = X + np.float32(RANK)
    return {
        "data": error_of(lambda: writing.fit(other_rows)),
        "model": error_of(lambda: isthmus.Autoencoder(2 + RANK, max_epochs=1, random_state=0).fit(X)),
        "rate": error_of(lambda: isthmus.Autoencoder(2, learning_rate=0.1 / (1 + RANK), random_state=0).fit(X)),
        "seed": error_of(lambda: isthmus.Autoencoder(2, max_epochs=1, random_state=None if RANK else 0).fit(X)),
        "empty": error_of(lambda: writing.fit(X[: len(X) * (1 - RANK)])),
        "nan": error_of(lambda: writing.fit(np.where(RANK, np.nan, X))),
        "after": error_of(lambda: small.fit(X)),
    }


def stops(folder: Path) -> dict[str, Any]:
    """Early stopping, an interrupt in one process, divergence, seeds that are drawn, and one row for two processes."""
    early = isthmus.Autoencoder(2, early_stopping=1, min_delta=0.02, max_epochs=20, random_state=0).fit(X)
    asked = isthmus.Autoencoder(2, max_epochs=9, random_state=0, callbacks=(LastAsks(),))
    import warnings  # noqa: PLC0415

    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        asked.fit(X)
    drawn = isthmus.Autoencoder(2, max_epochs=1).fit(X)
    wild = isthmus.Autoencoder(2, max_epochs=2, learning_rate=1e30, optimizer="sgd", random_state=0)
    return {
        "early": [early.n_epochs_, early.stop_reason_],
        "asked": [asked.n_epochs_, asked.stop_reason_],
        "drawn": numbers_of(drawn),
        "diverged": error_of(lambda: wild.fit(X)),
    }


def files(folder: Path) -> dict[str, Any]:
    """Two epochs with a checkpoint, of each process at its own path, and going on from that of the first."""
    path = folder / f"by-{N}-rank-{RANK}.safetensors"
    settings = {**FEW, "schedule": "constant"}
    isthmus.VariationalAutoencoder(3, callbacks=(isthmus.Checkpoint(path),), **settings | {"max_epochs": 2}).fit(X)
    longer = isthmus.VariationalAutoencoder(3, **settings)
    return {"resumed": numbers_of(longer.fit(X, resume=folder / "known.safetensors"))}


def ends(folder: Path) -> str:
    """A process that fails in mid-run; the program of the last one ends with it."""
    return error_of(lambda: isthmus.Autoencoder(2, max_epochs=3, random_state=0, callbacks=(LastFails(),)).fit(X))


if __name__ == "__main__":
    found: dict[str, Any] = {}
    for part in sys.argv[2:]:
        found[part] = globals()[part](Path(sys.argv[1]))
    (Path(sys.argv[1]) / f"found-{N}-{RANK}.json").write_text(json.dumps(found))
