"""Interrupts at random moments: nothing crashes or hangs, the best weights are kept, no temporary file stays."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import isthmus
from benchmarks.reliability.children import INTERRUPTED, command, ended, left_behind, seconds_of, start
from benchmarks.reliability.kills import prepare, rows_of
from benchmarks.reliability.results import Row

INTENT = (
    "A process that trains, or runs a command, gets SIGINT (Ctrl-C) or SIGTERM at a random moment, and sometimes a "
    "second one. It ends within a minute and without a crash. Interrupted training keeps, bit for bit, the weights of "
    "the best epoch; a command prints one line and no traceback, and leaves no temporary file and no half-written one."
)
COUNT, SEED = 500, 0
SECOND_SIGNAL = 0.2
"""Share of the trials with a second signal, up to a tenth of a second after the first."""
ENDLESS_SECONDS = 3.0
"""Within which the signal comes where training would go on for minutes."""
SMALL: dict[str, Any] = {"max_epochs": 100_000, "batch_size": 50, "random_state": 3, "verbose": 0, "device": "cpu"}


class Remember(isthmus.Callback):
    """Keeps a digest of the weights after each epoch, with the loss that says which is best."""

    def __init__(self) -> None:
        self.epochs: list[tuple[float, str]] = []

    def on_epoch_end(self, run: Any) -> None:
        self.epochs.append((run.monitored[-1], digest(run.objective)))

    def is_best(self, model: Any) -> bool:
        """Whether a model has the weights of the best epoch; where none was finished, any."""
        best = min((loss for loss, _ in self.epochs), default=None)
        found = digest(model.objective_)
        return best is None or any(loss == best and weights == found for loss, weights in self.epochs)


def digest(module: nn.Module) -> str:
    """Of all weights of a module."""
    content = b"".join(value.detach().contiguous().numpy().tobytes() for value in module.parameters())
    return hashlib.sha256(content).hexdigest()


def fit_dense(out: Path, n_threads: int) -> None:
    """A dense model by the compiled engine."""
    torch.set_num_threads(n_threads)
    _fit(isthmus.Autoencoder(3, network=(24,), **SMALL), out)


def fit_modules(out: Path) -> None:
    """Modules of the user's own, by the general engine."""
    encoder, decoder = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)), nn.Linear(3, 12)
    _fit(isthmus.Autoencoder(3, network=(encoder, decoder), **SMALL), out)


def _fit(model: Any, out: Path) -> None:
    seen = Remember()
    model.set_params(callbacks=[seen]).fit(rows_of())
    stopped = model.stop_reason_ == "interrupted"
    out.write_text(json.dumps({"stopped": stopped, "right": seen.is_best(model) or not stopped}), encoding="utf-8")


def fit_detector(out: Path) -> None:
    """A detector; interrupted in training it keeps the weights so far, and elsewhere it is as unfitted as before."""
    detector = isthmus.AnomalyDetector(n_members=2, hidden_size=16, random_state=0, device="cpu")
    _fit_or_not(detector, rows_of(), out, "fitted_")


def fit_imputer(out: Path) -> None:
    """An imputer of several members, which all end at one interrupt."""
    rows = rows_of()
    rows[np.random.default_rng(0).random(rows.shape) < 0.1] = np.nan
    imputer = isthmus.Imputer(n_members=3, hidden_sizes=(16,), code_size=4, max_epochs=2, random_state=0)
    _fit_or_not(imputer, rows, out, "model_")


def _fit_or_not(estimator: Any, rows: np.ndarray, out: Path, learned: str) -> None:
    try:
        estimator.fit(rows)
    except KeyboardInterrupt:
        found = {"stopped": True, "right": not hasattr(estimator, learned)}
    else:
        answers = estimator.transform(rows) if hasattr(estimator, "transform") else estimator.score_samples(rows)
        found = {"stopped": False, "right": bool(np.isfinite(answers).all())}
    out.write_text(json.dumps(found), encoding="utf-8")


FITS: Mapping[str, tuple[Callable[..., None], tuple[Any, ...], float | None]] = {
    "Autoencoder, compiled": (fit_dense, (1,), ENDLESS_SECONDS),
    "Autoencoder, two threads": (fit_dense, (2,), ENDLESS_SECONDS),
    "Autoencoder, own modules": (fit_modules, (), ENDLESS_SECONDS),
    "AnomalyDetector": (fit_detector, (), None),
    "Imputer": (fit_imputer, (), None),
}
"""What is done, with what, and within which time the signal comes; None: within the time that it takes."""


def measure(scale: float, seed: int) -> list[Row]:
    """Interrupt each kind of work the same number of times."""
    with tempfile.TemporaryDirectory() as name:
        folder, draw = Path(name), random.Random(seed)  # no secret
        prepare(folder)
        np.savetxt(folder / "rows.csv", rows_of(), delimiter=",", header=",".join("abcdefghijkl"), comments="")
        given = commands(folder)
        count = max(1, round(COUNT * scale / (len(FITS) + len(given))))
        rows = [_interrupted_fits(what, folder, count, draw) for what in FITS]
        return rows + [_interrupted_commands(what, words, folder, count, draw) for what, words in given.items()]


def commands(folder: Path) -> dict[str, tuple[object, ...]]:
    """Commands that write a file, which is the last word."""
    data, rows = folder / "rows.csv", folder / "rows.npy"
    quick = ("--set", "n_members=2", "--set", "hidden_size=16", "--quiet", "--force", "--out")
    return {
        "isthmus fit": ("fit", data, "--epochs", 60, "--quiet", "--force", "--out", folder / "m.safetensors"),
        "isthmus detect fit": ("detect", "fit", data, *quick, folder / "d.safetensors"),
        "isthmus encode": ("encode", folder / "one.safetensors", rows, "--force", "--out", folder / "codes.csv"),
        "isthmus score": ("score", folder / "one.safetensors", rows, "--force", "--out", folder / "scores.parquet"),
        "isthmus reconstruct": ("reconstruct", folder / "one.safetensors", rows, "--force", "--out", folder / "r.npy"),
    }


def _signal(child: Any, seconds: float, draw: random.Random) -> tuple[int | None, bool]:
    """Send a signal, or two, at a random moment; gives the exit code, and whether there were two."""
    time.sleep(draw.random() * seconds)
    twice = False
    for again in (False, True):
        if child.is_alive() and (not again or draw.random() < SECOND_SIGNAL):
            time.sleep(draw.random() * 0.1 if again else 0.0)
            _send(child, draw.choice([signal.SIGINT, signal.SIGTERM]))
            twice = again
    return ended(child), twice


def _send(child: Any, number: signal.Signals) -> None:
    try:
        os.kill(child.pid, number)
    except ProcessLookupError:
        return


def _interrupted_fits(what: str, folder: Path, count: int, draw: random.Random) -> Row:
    work, given, within = FITS[what]
    out, log, counted = folder / "found.json", folder / "log", Counter[str]()
    seconds = within or seconds_of(work, out, *given, log=log)
    for number in range(count):
        out.unlink(missing_ok=True)
        code, _ = _signal(start(work, out, *given, log=log), seconds, draw)
        found = _judge_fit(code, out)
        counted[found] += 1
        if found == "wrong":
            print(f"{what}, number {number}: exit code {code}\n{log.read_text(errors='replace')[-600:]}")
    return _row(what, counted)


def _judge_fit(code: int | None, out: Path) -> str:
    if code in (-signal.SIGTERM, INTERRUPTED):
        return "ended"
    if code == 0 and out.exists():
        found = json.loads(out.read_text(encoding="utf-8"))
        if found["right"]:
            return "kept" if found["stopped"] else "finished"
    return "wrong"


def _interrupted_commands(what: str, words: tuple[object, ...], folder: Path, count: int, draw: random.Random) -> Row:
    out, log = Path(str(words[-1])), folder / "log"
    seconds, counted = seconds_of(command, *words, log=log), Counter[str]()
    new = out.read_bytes()
    for number in range(count):
        out.write_bytes(b"old")
        code, twice = _signal(start(command, *words, log=log), seconds, draw)
        text = log.read_text(encoding="utf-8", errors="replace")
        found = _judge_command(code, text, _is_whole(out, new), twice=twice)
        if left_behind(folder):
            found = "wrong"
        counted[found] += 1
        if found == "wrong":
            print(f"{what}, number {number}: exit code {code}, {left_behind(folder)}\n{text[-600:]}")
    return _row(what, counted)


def _is_whole(out: Path, new: bytes) -> bool:
    """Whether a file is the old one, the new one, or a model."""
    content = out.read_bytes()
    if content in (b"old", new):
        return True
    try:
        isthmus.load(out, device="cpu")
    except isthmus.ModelFileError:
        return False
    return True


def _judge_command(code: int | None, text: str, whole: bool, *, twice: bool) -> str:
    if whole and code in (INTERRUPTED, -signal.SIGTERM) and (twice or not text):
        return "ended"  # before the command began, or by the second signal while the first one was told of
    told = text.count("error: interrupted.") + text.count("Training was interrupted")
    if not whole or "Traceback" in text or code not in (0, 1):
        return "wrong"
    if code == 0:
        return "finished"
    return "ended" if told in (1, 2) else "wrong"  # two where a second signal came while the model was saved


def _row(what: str, counted: Counter[str]) -> Row:
    words = {"kept": "best weights kept", "ended": "ended at once", "finished": "finished before"}
    note = ", ".join(f"{counted[name]} {text}" for name, text in words.items() if counted[name])
    return Row(what, sum(counted.values()), counted["wrong"], note)
