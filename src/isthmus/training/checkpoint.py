"""Checkpoints: a run on disk, from which it goes on as if it had never stopped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.exceptions import ModelFileError
from isthmus.files.model_file import State, read_state, write_state
from isthmus.training.callbacks import Callback
from isthmus.training.history import History
from isthmus.training.loop import Best, Run, Settings, optimizer_state, put_optimizer_state

KIND = "checkpoint"


class Checkpoint(Callback):
    """Writes the run to a file after every so many epochs, and once more at its end.

    ``model.fit(X, resume=path)`` with the same data and parameters goes on from there and ends bit for bit like a run
    that was never stopped.

    Parameters
    ----------
    path
        The file; replaced each time, whole or not at all.
    every
        Epochs between two writings, >= 1.

    Raises
    ------
    OutputError
        The file cannot be written.
    """

    def __init__(self, path: str | Path, *, every: int = 1) -> None:
        self.path, self.every = path, every

    def on_epoch_end(self, run: Run) -> None:
        if run.epoch % self.every == 0 or run.epoch == run.settings.max_epochs:
            save_checkpoint(run, self.path)


def save_checkpoint(run: Run, path: str | Path) -> None:
    """Write a run between two epochs to a file."""
    values = {
        "settings": settings_text(run.settings),
        "n_rows": run.train.n_rows,
        "n_parameters": run.do_step.flat.values.numel(),
        "epoch": run.epoch,
        "step": run.step,
        "stop_reason": run.stop_reason,
        "history": run.history.rows,
        "best_epoch": run.best.epoch,
        "best_monitored": run.best.monitored,
    }
    write_state(path, State(KIND, values, {name: _numbers(tensor) for name, tensor in _tensors(run).items()}))


def resume(run: Run, path: str | Path) -> None:
    """Put a fresh run where the file left off.

    Raises
    ------
    ModelFileError
        The file is no checkpoint, or one of a run with other settings, data or another network.
    """
    state = read_state(path)
    if state.kind != KIND:
        raise ModelFileError(f"'{path}' holds a {state.kind}, not a checkpoint; give the file of Checkpoint(path).")
    _refuse_other_run(run, state.values, path)
    run.epoch, run.step = state.values["epoch"], state.values["step"]
    run.stop_reason = state.values["stop_reason"]
    run.history = History(state.values["history"])
    _put_back(run, {name: torch.from_numpy(array) for name, array in state.arrays.items()}, state.values)


def _refuse_other_run(run: Run, values: Mapping[str, Any], path: str | Path) -> None:
    mine = {
        "settings": settings_text(run.settings),
        "n_rows": run.train.n_rows,
        "n_parameters": run.do_step.flat.values.numel(),
    }
    for name, value in mine.items():
        if values[name] != value:
            raise ModelFileError(
                f"'{path}' is the checkpoint of another run: its {name} is {values[name]}, but now it is {value}; "
                "resume with the same data and parameters, or start without it."
            )


def settings_text(settings: Settings) -> dict[str, str]:
    """Settings as text, for comparison."""
    return {name: str(value) for name, value in vars(settings).items()}


def _tensors(run: Run) -> dict[str, Tensor]:
    """Everything in a run that is a tensor."""
    tensors = {
        "weights": run.do_step.flat.portable(run.do_step.flat.values),
        "order": run.order.get_state(),
        "noise": run.noise.get_state(),
        **{f"optimizer.{name}": value for name, value in optimizer_state(run).items()},
        **{f"buffer.{name}": value for name, value in run.objective.named_buffers()},
    }
    if run.best.weights is not None:
        tensors["best.weights"] = run.do_step.flat.portable(run.best.weights)
    return tensors | {f"best.buffer.{name}": value for name, value in run.best.buffers.items()}


def _put_back(run: Run, tensors: dict[str, Tensor], values: Mapping[str, Any]) -> None:
    flat = run.do_step.flat
    flat.values.data.copy_(flat.laid(tensors["weights"]))
    run.order.set_state(tensors["order"])
    run.noise.set_state(tensors["noise"])
    put_optimizer_state(run, _group(tensors, "optimizer."))
    for name, buffer in run.objective.named_buffers():
        buffer.copy_(tensors[f"buffer.{name}"])
    weights = flat.laid(tensors["best.weights"]).to(run.device) if "best.weights" in tensors else None
    best_buffers = {name: value.to(run.device) for name, value in _group(tensors, "best.buffer.").items()}
    run.best = Best(values["best_epoch"], values["best_monitored"], weights, best_buffers)


def _group(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _numbers(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def continue_from(run: Run, history: History, optimizer: Mapping[str, Tensor]) -> None:
    """Put a run of one more pass behind the epochs already in the history, with the optimiser as it was left."""
    run.history = History(history.rows)
    run.epoch, run.step = len(history), len(history) * run.train.n_batches
    put_optimizer_state(run, optimizer)
