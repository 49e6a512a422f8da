"""A process killed while it trains with checkpoints, encodes, scores or saves: files stay whole, runs go on."""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import isthmus
from benchmarks.reliability.children import command, ended, seconds_of, start
from benchmarks.reliability.damaged_files import same
from benchmarks.reliability.results import Row
from isthmus.exceptions import IsthmusError
from isthmus.files import read_state

INTENT = (
    "A process is killed (SIGKILL) at a random moment. The file that it was writing is then the old one or the new "
    "one, whole; the interrupted training, resumed from its checkpoint, ends bit for bit like one that was not killed."
)
COUNT, SEED = 100, 0
N_ROWS, N_COLUMNS = 400, 12


def rows_of(seed: int = 0, n_rows: int = N_ROWS) -> np.ndarray:
    """Made rows: (n, 12)."""
    draw = np.random.default_rng(seed)
    return draw.normal(size=(n_rows, 3)) @ draw.normal(size=(3, N_COLUMNS)) + 0.1 * draw.normal(
        size=(n_rows, N_COLUMNS)
    )


def model(**changes: Any) -> isthmus.Autoencoder:
    """The model that is trained: small, with epochs of a few milliseconds, so that many kills meet a writing."""
    settings: dict[str, Any] = {"network": (24,), "max_epochs": 20, "batch_size": 50, "random_state": 3, "verbose": 0}
    return isthmus.Autoencoder(3, **{**settings, **changes})


def fit(checkpoint: Path, out: Path) -> None:
    """Train with a checkpoint after each epoch; go on from the one that is there."""
    resume = checkpoint if checkpoint.exists() else None
    model(callbacks=[isthmus.Checkpoint(checkpoint)]).fit(rows_of(), resume=resume).set_params(callbacks=()).save(out)


def save(one: Path, other: Path, out: Path) -> None:
    """Save two models in turn to one file."""
    models = [isthmus.load(path, device="cpu") for path in (one, other)]
    for number in range(60):
        models[number % 2].save(out)


def same_numbers(one: Path, other: Path) -> bool:
    """Whether two files hold, bit for bit, the same arrays."""
    left, right = read_state(one).arrays, read_state(other).arrays
    return left.keys() == right.keys() and all(left[name].tobytes() == right[name].tobytes() for name in left)


def measure(scale: float, seed: int) -> list[Row]:
    """Kill each kind of work a quarter of the times."""
    count = max(1, round(COUNT * scale / 4))
    with tempfile.TemporaryDirectory() as name:
        folder, draw = Path(name), random.Random(seed)  # no secret
        prepare(folder)
        return [kind(folder, count, draw) for kind in (killed_fits, killed_saves, *commands())]


def prepare(folder: Path) -> None:
    """Two models, and rows for the commands."""
    model().fit(rows_of()).save(folder / "one.safetensors")
    model(code="tanh").fit(rows_of(1)).save(folder / "other.safetensors")
    np.save(folder / "rows.npy", rows_of(2, 60_000))


def kill_once(
    work: Callable[..., None], given: tuple[Any, ...], seconds: float, draw: random.Random, log: Path
) -> int | None:
    """Start, wait for a random share of the time that the work takes, kill; gives the exit code."""
    child = start(work, *given, log=log)
    time.sleep(draw.random() * seconds)
    child.kill()
    return ended(child)


def killed_fits(folder: Path, count: int, draw: random.Random) -> Row:
    """Training with checkpoints, killed once or more, resumed to its end."""
    whole, log = folder / "whole.safetensors", folder / "log"
    seconds = seconds_of(fit, folder / "whole.ckpt", whole, log=log)
    wrong = resumed = 0
    for number in range(count):
        checkpoint, out = folder / f"{number}.ckpt", folder / f"{number}.safetensors"
        kill_once(fit, (checkpoint, out), seconds, draw, log)
        if draw.random() < 0.5:
            kill_once(fit, (checkpoint, out), seconds, draw, log)
        resumed += checkpoint.exists()
        try:
            if checkpoint.exists():
                isthmus.load(checkpoint, device="cpu")
            seconds_of(fit, checkpoint, out, log=log)
            right = same_numbers(out, whole)
        except (IsthmusError, RuntimeError, TimeoutError) as error:
            print(f"fit, number {number}: {error}")
            right = False
        wrong += not right
    return Row("fit with checkpoints, resumed", count, wrong, f"{resumed} had a checkpoint to go on from")


def _killed_writing(
    folder: Path, count: int, draw: random.Random, *, what: str, work: Callable[..., None], given: tuple[Any, ...],
    out: Path, old: bytes, new: Callable[[Path], bool],
) -> Row:  # fmt: skip
    """Work that replaces a file: afterwards it is the old one, to the byte, or a `new` one."""
    log = folder / "log"
    seconds = seconds_of(work, *given, log=log)
    counted = Counter[str]()
    for number in range(count):
        out.write_bytes(old)
        kill_once(work, given, seconds, draw, log)
        found = "old" if out.read_bytes() == old else "new" if new(out) else "wrong"
        counted[found] += 1
        if found == "wrong":
            print(f"{what}, number {number}: the file is neither the old nor the new one")
    return Row(what, count, counted["wrong"], f"{counted['new']} new, {counted['old']} old")


def killed_saves(folder: Path, count: int, draw: random.Random) -> Row:
    """Two models saved in turn to one file."""
    one, other, out = (folder / f"{name}.safetensors" for name in ("one", "other", "saved"))
    states = [read_state(isthmus.load(path, device="cpu").save(out)) for path in (one, other)]

    def is_one_of_them(path: Path) -> bool:
        try:
            found = read_state(path)
        except IsthmusError:
            return False
        return any(same(found, state) for state in states)

    given = one, other, out
    return _killed_writing(
        folder, count, draw, what="save", work=save, given=given, out=out, old=one.read_bytes(), new=is_one_of_them
    )


def commands() -> list[Callable[[Path, int, random.Random], Row]]:
    """The commands that write rows."""
    return [partial(killed_command, verb=verb, ending=ending) for verb, ending in (("encode", "npy"), ("score", "csv"))]


def killed_command(folder: Path, count: int, draw: random.Random, *, verb: str, ending: str) -> Row:
    """``isthmus encode`` and ``isthmus score``, replacing an older file."""
    out = folder / f"{verb}.{ending}"
    words = (verb, folder / "one.safetensors", folder / "rows.npy", "--out", out, "--force")
    seconds_of(command, *words, log=folder / "log")
    whole = out.read_bytes()
    return _killed_writing(
        folder,
        count,
        draw,
        what=f"isthmus {verb}",
        work=command,
        given=words,
        out=out,
        old=b"what was there before",
        new=lambda path: path.read_bytes() == whole,
    )
