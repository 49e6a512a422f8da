"""Checkpoints: files from which a run continues as if it had not stopped, and which load as models."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.atomic import check_writable
from isthmus.choices.rules import Rule, Whole
from isthmus.data.sources import Source
from isthmus.exceptions import ModelFileError
from isthmus.files.model_file import State, read_state, reading, write_state
from isthmus.files.records import (
    Count,
    Json,
    Losses,
    Numbers,
    Record,
    check_arrays,
    check_finite,
    convert,
    group,
    grouped,
    pack,
    unpack,
)
from isthmus.training.callbacks import Callback
from isthmus.training.history import History
from isthmus.training.loop import Best, Run, Settings, optimizer_state, put_optimizer_state

KIND = "checkpoint"
DIGEST_BYTES, DIGEST_BLOCKS = 2**28, 256
_EPOCH = re.compile(r"\{epoch(?::(0?\d+)d?)?\}")


class Checkpoint(Callback):
    """Writes the run to a file every few epochs and at its end.

    ``model.fit(X, resume=path)`` with the same data and parameters continues the run, and the result equals that of an
    uninterrupted run bit for bit. With a larger `max_epochs` the run is extended, with the schedule of the longer run
    from this epoch on. With ``schedule="constant"`` the result equals that of one long run. With one-cycle the rate
    rises again, because the longer cycle has a higher rate at this epoch.

    ``isthmus.load(path)`` gives the model as it was after that epoch.

    Parameters
    ----------
    path
        The file, which is replaced atomically each time. ``{epoch}`` or ``{epoch:03d}`` in the name becomes the number
        of finished epochs, so that all files are kept.
    every
        Epochs between two files, >= 1.

    Raises
    ------
    ValueError
        `every` is not an integer >= 1.
    OutputError
        The file cannot be written; a missing folder raises before the first epoch.

    Examples
    --------
    >>> import numpy, pathlib, tempfile
    >>> from isthmus import Autoencoder, load
    >>> folder, X = pathlib.Path(tempfile.mkdtemp()), numpy.random.default_rng(0).random((50, 6))
    >>> checkpoint = Checkpoint(folder / "model-{epoch}.safetensors", every=2)
    >>> model = Autoencoder(2, max_epochs=5, random_state=0, callbacks=[checkpoint]).fit(X)
    >>> sorted(path.name for path in folder.iterdir())
    ['model-2.safetensors', 'model-4.safetensors', 'model-5.safetensors']
    >>> load(folder / "model-4.safetensors").n_epochs_
    4
    """

    def __init__(self, path: str | Path, *, every: int = 1) -> None:
        rule: Rule = Whole(1)
        if not rule.admits(every):
            raise ValueError(f"Checkpoint: every={every!r} must be {rule}.")
        self.path, self.every = path, every

    def path_at(self, epoch: int) -> Path:
        """The path of the file after a number of epochs."""
        return Path(_EPOCH.sub(lambda found: format(epoch, f"{found[1] or ''}d"), str(self.path)))

    def on_fit_start(self, run: Run) -> None:
        check_writable(self.path_at(0))

    def on_epoch_end(self, run: Run) -> None:
        due = run.epoch % self.every == 0 or run.epoch == run.settings.max_epochs
        if due and run.processes.rank == 0:
            save_checkpoint(run, self.path_at(run.epoch))


class Progress(Record, frozen=True):
    """The progress of a run, and its best epoch."""

    epoch: Count
    step: Count
    stop_reason: str
    history: list[Losses]
    best_epoch: Count
    best_monitored: float


class RunValues(Progress, frozen=True):
    """The contents of a checkpoint besides arrays."""

    identity: Json
    max_epochs: Count
    model: Json | None


class OldRunValues(Progress, frozen=True):
    """The same in format 1, without the choices, the data and the model."""

    settings: dict[str, str]
    n_rows: Count
    n_parameters: Count


class ModelValues(Record, frozen=True):
    """The file of the model within that of a run."""

    kind: str
    values: Json


DECLARED = {
    "weights": Numbers("f", ("parameters",)),
    "best.weights": Numbers("f", ("parameters",), optional=True),
    "order": Numbers("u", (None,), 8),
    "noise": Numbers("u", (None,), 8),
    "optimizer.*": Numbers("f"),
    "buffer.*": Numbers("fiub"),
    "best.buffer.*": Numbers("fiub"),
    "model.*": Numbers("fiub"),
}


def save_checkpoint(run: Run, path: str | Path) -> None:
    """Write a run between two epochs to a file."""
    model = None if run.origin is None else run.origin.model(run)
    values = RunValues(
        identity=identity(run),
        max_epochs=run.settings.max_epochs,
        epoch=run.epoch,
        step=run.step,
        stop_reason=run.stop_reason,
        history=list(run.history.rows),
        best_epoch=run.best.epoch,
        best_monitored=run.best.monitored,
        model=None if model is None else {"kind": model.kind, "values": dict(model.values)},
    )
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in _tensors(run).items()}
    arrays |= {} if model is None else grouped(model.arrays, "model.")
    write_state(path, pack(KIND, values, arrays, DECLARED))


def identity(run: Run) -> Json:
    """The properties that a resumed run must share with its checkpoint: all but the number of epochs."""
    known: Json = {name: text for name, text in settings_text(run.settings).items() if name != "max_epochs"}
    known |= {"n_parameters": run.engine.flat.values.numel(), "n_rows": run.train.n_rows}
    return known if run.origin is None else known | run.origin.identity()


def settings_text(settings: Settings) -> dict[str, str]:
    """Settings as text, for comparison."""
    return {name: str(value) for name, value in vars(settings).items()}


def model_state(state: State) -> State:
    """The file of the model within a checkpoint.

    Raises
    ------
    ModelFileError
        It has none, because isthmus 0.1 wrote it.
    """
    inner = None if "identity" not in state.values else unpack(state, RunValues, DECLARED).model
    if inner is None:
        raise ModelFileError(
            f"it is a checkpoint of isthmus {state.library_version}, which holds a run but no model; go on with "
            "model.fit(X, resume=path)."
        )
    model = convert(inner, ModelValues, "values.model")
    return State(model.kind, model.values, group(state.arrays, "model."), state.library_version)


def resume(run: Run, path: str | Path) -> None:
    """Set a new run to the state in the file.

    Raises
    ------
    ModelFileError
        The file is not a checkpoint, or belongs to a run with other settings, choices, scaling or data; the error lists
        all differences.
    """
    state = read_state(path)
    if state.kind != KIND:
        raise ModelFileError(f"'{path}' holds a {state.kind}, not a checkpoint; give the file of Checkpoint(path).")
    with reading(path):
        old = "identity" not in state.values
        values = unpack(state, OldRunValues, DECLARED) if old else unpack(state, RunValues, DECLARED)
        _refuse_other_run(run, values)
        run.epoch, run.step, run.stop_reason = values.epoch, values.step, values.stop_reason
        run.history = History(values.history)
        _put_back(run, state.arrays, values)


def _refuse_other_run(run: Run, values: RunValues | OldRunValues) -> None:
    mine = identity(run)
    if isinstance(values, OldRunValues):
        theirs: Json = {name: text for name, text in values.settings.items() if name != "max_epochs"}
        theirs |= {"n_rows": values.n_rows, "n_parameters": values.n_parameters}
        mine = {name: mine.get(name) for name in theirs}
        planned = int(values.settings.get("max_epochs", "0"))
    else:
        theirs, planned = values.identity, values.max_epochs
    found = [
        f"its {name} is {_shown(theirs.get(name))}, but now it is {_shown(mine.get(name))}"
        for name in {**mine, **theirs}
        if mine.get(name) != theirs.get(name)
    ]
    if run.settings.max_epochs < planned:
        found.append(f"its max_epochs is {planned}, but now it is {run.settings.max_epochs}, which is fewer")
    if found:
        seed = " (random_state=None draws another seed each time)" if any("seed" in text for text in found) else ""
        raise ModelFileError(
            f"it is the checkpoint of another run: {'; '.join(found)}{seed}. Resume with the same data and parameters "
            "(max_epochs may be larger), or start without it."
        )
    n_batches = run.train.n_batches
    if values.step != values.epoch * n_batches or values.epoch > planned or len(values.history) < values.epoch:
        raise ModelFileError(
            f"its header does not fit: {values.epoch} epochs, {values.step} steps of {n_batches} each."
        )


def _shown(value: Any) -> str:
    if isinstance(value, Mapping) and {"class", "params"} <= value.keys():
        inside = ", ".join(f"{name}={_shown(part)}" for name, part in value["params"].items())
        return f"{value['class']}({inside})"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}…"


def _tensors(run: Run) -> dict[str, Tensor]:
    """All tensors of a run."""
    tensors = {
        "weights": run.engine.flat.portable(run.engine.flat.values),
        "order": run.order.get_state(),
        "noise": run.noise.get_state(),
        **{f"optimizer.{name}": value for name, value in optimizer_state(run).items()},
        **{f"buffer.{name}": value for name, value in run.objective.named_buffers()},
    }
    if run.best.weights is not None:
        tensors["best.weights"] = run.engine.flat.portable(run.best.weights)
    return tensors | {f"best.buffer.{name}": value for name, value in run.best.buffers.items()}


def _put_back(run: Run, arrays: Mapping[str, np.ndarray], values: RunValues | OldRunValues) -> None:
    _check_tensors(run, arrays)
    tensors = {
        name: torch.from_numpy(np.array(array)) for name, array in arrays.items() if not name.startswith("model.")
    }
    flat = run.engine.flat
    flat.values.data.copy_(flat.laid(tensors["weights"]))
    run.order.set_state(tensors["order"])
    run.noise.set_state(tensors["noise"])
    put_optimizer_state(run, _group(tensors, "optimizer."))
    for name, buffer in run.objective.named_buffers():
        buffer.copy_(tensors[f"buffer.{name}"])
    weights = flat.laid(tensors["best.weights"]).to(run.device) if "best.weights" in tensors else None
    best_buffers = {name: value.to(run.device) for name, value in _group(tensors, "best.buffer.").items()}
    run.best = Best(values.best_epoch, values.best_monitored, weights, best_buffers)


def _check_tensors(run: Run, arrays: Mapping[str, np.ndarray]) -> None:
    """Raise an error for tensors that differ in shape or dtype from those of the run."""
    buffers = {name: Numbers("fiub", tuple(b.shape), finite=False) for name, b in run.objective.named_buffers()}
    means = {name: Numbers("fiub", tuple(value.shape)) for name, value in optimizer_state(run).items()}
    best = group(arrays, "best.buffer.")
    check_arrays(group(arrays, "buffer."), buffers)
    check_arrays(best, buffers if best else {})
    check_arrays(group(arrays, "optimizer."), means)
    check_arrays({"weights": arrays["weights"]}, {"weights": Numbers("f", (run.engine.flat.values.numel(),))})
    for name, array in arrays.items():
        if name.startswith("optimizer."):
            check_finite(name, array)


def _group(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def digest_rows(source: Source, rows: np.ndarray) -> str:
    """A digest of some rows of a source, to compare two runs: SHA-256 of shape, dtype and values.

    It covers all rows up to 256 MB. Of larger data it covers 256 evenly spaced blocks of 1 MB, so that it takes about a
    second for any size.
    """
    hashed = hashlib.sha256(json.dumps([len(rows), list(source.feature_shape), np.dtype(source.dtype).str]).encode())
    bytes_per_row = max(1, int(np.prod(source.feature_shape)) * np.dtype(source.dtype).itemsize)
    hashed.update(np.ascontiguousarray(rows, dtype="<i8").data)
    at_once = max(1, DIGEST_BYTES // DIGEST_BLOCKS // bytes_per_row)
    starts = np.arange(0, len(rows), at_once)
    if len(starts) > DIGEST_BLOCKS:
        starts = np.linspace(0, len(rows) - at_once, DIGEST_BLOCKS).astype(int)
    for start in starts.tolist():
        block = rows[start : start + at_once]
        together = block[-1] - block[0] == len(block) - 1
        whole = together or not source.random_access  # single rows of a file are slow to read
        hashed.update(_bytes(source.read(slice(int(block[0]), int(block[-1]) + 1) if whole else block)))
    return hashed.hexdigest()


def _bytes(values: np.ndarray) -> memoryview:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


def continue_from(run: Run, history: History, optimizer: Mapping[str, Tensor]) -> None:
    """Append a run of one pass to the history, with the previous state of the optimiser."""
    run.history = History(history.rows)
    run.epoch, run.step = len(history), len(history) * run.train.n_batches
    put_optimizer_state(run, optimizer)
