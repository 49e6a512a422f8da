"""The parts of the benchmark; each returns its figures."""

from __future__ import annotations

import functools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed.figures import Figure
from benchmarks.speed.harness import (
    PEERS_FOLDER,
    Bench,
    NotAvailableError,
    Question,
    Worker,
    in_turn,
    interleaved,
    interpreter,
    last_line,
    variables,
)
from benchmarks.speed.peers_table import (
    DETECTORS,
    FIRST_STEPS,
    INFERENCE,
    MANY,
    QUALITY,
    TRAINING,
    US,
    Peer,
    on_device,
)
from benchmarks.speed.targets import EPOCHS, LOSS, TO_LOSS, WORKLOADS

Part = Callable[[Bench, Sequence[str]], Iterator[list[Figure]]]
"""Gives the figures case by case; the names are of the workloads that are asked for."""


def training(bench: Bench, workloads: Sequence[str]) -> Iterator[list[Figure]]:
    """Seconds per epoch."""
    for name in workloads:
        yield interleaved(bench, TRAINING, WORKLOADS[name], [Question("training", name, "epoch", "epoch")])


def device(bench: Bench, _: Sequence[str]) -> Iterator[list[Figure]]:
    """The same on a GPU; without one, a line with the reason."""
    if not torch.cuda.is_available():
        print(f"device: not run, as torch {torch.__version__} finds no CUDA device on this machine.")
        return
    on_card = {name: replace(WORKLOADS[name], device="cuda") for name in ("S1", "S6", "wide", "convolutional")}
    for name, workload in on_card.items():
        yield interleaved(bench, on_device(), workload, [Question("device", name, "epoch", "epoch")])
    yield interleaved(bench, MANY, on_card["S1"], [_fits("device", "S1", 8)])


def many(bench: Bench, _: Sequence[str]) -> Iterator[list[Figure]]:
    """Seconds to fit many models at once."""
    for name in ("small", "S1"):
        yield interleaved(bench, MANY, WORKLOADS[name], [_fits("many", name, 8)])


def _fits(part: str, name: str, n_models: int) -> Question:
    return Question(part, name, f"fit of {n_models}", "together", more={"n_models": n_models})


def quality(bench: Bench, _: Sequence[str]) -> Iterator[list[Figure]]:
    """Seconds to S6's published loss."""
    more = {"loss": 0.3 if bench.quick else LOSS, "max_epochs": 60, "seed": 0}
    question = Question("quality", "S6", TO_LOSS, "published", warm_up=False, more=more)
    yield interleaved(bench, QUALITY, WORKLOADS["S6"], [question])


def detector(bench: Bench, _: Sequence[str]) -> Iterator[list[Figure]]:
    """Seconds of PyOD's fit and of ours."""
    question = Question("detector", "S1", "fit", "fit", warm_up=False, more={"epochs": EPOCHS})
    yield interleaved(bench, DETECTORS, WORKLOADS["S1"], [question])


def inference(bench: Bench, _: Sequence[str]) -> Iterator[list[Figure]]:
    """Rows per second of a fitted model."""
    for name in ("S1", "S6"):
        verbs = ("transform", "reconstruct", "reconstruction_error")
        questions = [
            Question("inference", name, verb, verb, "rows/s", rows=bench.cut(WORKLOADS[name]).n_rows) for verb in verbs
        ]
        yield interleaved(bench, INFERENCE, WORKLOADS[name], questions)


# -- processes ---------------------------------------------------------------------------------------------------------


PYTHON = "python"
"""Stands for the Python of a peer's environment."""


def begin(bench: Bench, _: Sequence[str]) -> Iterator[list[Figure]]:
    """Seconds of whole processes."""
    help_command = [str(Path(sys.executable).parent / "isthmus"), "--help"]
    imports = {US: "isthmus", "Keras on TensorFlow": "keras", "PyTorch": "torch"}
    commands = {
        "import": {name: [PYTHON, "-c", f"import {module}"] for name, module in imports.items()},
        "first step": {name: [PYTHON, str(PEERS_FOLDER / peer.script)] for name, peer in FIRST_STEPS.items()},
    }
    for case, by_name in commands.items():
        peers = bench.among({name: FIRST_STEPS[name] for name in by_name})
        yield _processes(bench, case, peers, by_name)
    yield _processes(bench, "help", bench.among({US: FIRST_STEPS[US]}), {US: help_command})


def _processes(bench: Bench, case: str, peers: dict[str, Peer], commands: dict[str, list[str]]) -> list[Figure]:
    reasons: dict[str, str] = {}

    def ask(name: str, _: int) -> float:
        return _seconds(bench, peers[name], commands[name])

    taken = in_turn(bench.rounds, peers, ask, reasons, warm_up=True)  # the first fills caches
    return [
        Figure("start", case, "process", name, "s", tuple(taken[name]), missing=reasons.get(name, "")) for name in peers
    ]


def _seconds(bench: Bench, peer: Peer, arguments: list[str]) -> float:
    """Of one process."""
    python, told = interpreter(peer, bench.environments), variables(peer)
    command = [python if word == PYTHON else word for word in arguments]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=told)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise NotAvailableError(last_line(done.stderr))
    return seconds


# -- memory and growth -------------------------------------------------------------------------------------------------


@contextmanager
def mapped(bench: Bench, n_rows: int) -> Iterator[Path]:
    """A file of rows of 784 numbers, sparse but for the images at its beginning; gone afterwards."""
    path, images = bench.folder / f"{n_rows}.npy", np.load(bench.folder / "rows.npy")[:n_rows]
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n_rows, images.shape[1]))
    array[: len(images)] = images
    array.flush()
    del array
    try:
        yield path
    finally:
        path.unlink()


def memory(bench: Bench, _: Sequence[str]) -> Iterator[list[Figure]]:
    """Peak memory of a fit and of a pass, each in a separate process."""
    with mapped(bench, 1_000_000) as path:
        tasks: dict[str, tuple[str, dict[str, Any]]] = {
            "1,000,000 × 784 float32, memory-mapped": ("mapped", {"path": str(path), "n_steps": 300}),
            "60,000 × 784 float32, in memory": ("loaded", {}),
        }
        for case, (task, more) in tasks.items():
            yield _alone(bench, "memory", case, MEMORY, functools.partial(_once, bench, task, more))


def _once(bench: Bench, task: str, more: dict[str, Any]) -> dict[str, Any]:
    worker = Worker(bench, Peer("isthmus_memory.py"), bench.cut(WORKLOADS["S6"]))
    try:
        return worker.ask(task, **more)
    finally:
        worker.close()


def _alone(
    bench: Bench, part: str, case: str, quantities: Mapping[str, tuple[str, str]], ask: Callable[[], dict[str, Any]]
) -> list[Figure]:
    """Our own figures, by the name of each in the answer: what it is and its unit; at most three rounds."""
    reasons: dict[str, str] = {}
    answers = in_turn(min(bench.rounds, 3), [US], lambda _name, _number: ask(), reasons)[US]
    return [
        Figure(part, case, quantity, US, unit, tuple(each[name] for each in answers), missing=reasons.get(US, ""))
        for name, (quantity, unit) in quantities.items()
    ]


MEMORY = {"megabytes": ("above the data", "MB")}
GROWTH = {
    "step": ("step", "s"),
    "before": ("before the second step", "s"),
    "rows_per_second": ("transform", "rows/s"),
}
ROWS = (10_000, 100_000, 1_000_000, 10_000_000)
FEATURES = (10, 100, 1_000, 10_000, 100_000)
CODES = (2, 8, 32, 128, 512, 2048)
N_STEPS = 200


def scaling(bench: Bench, _: Sequence[str]) -> Iterator[list[Figure]]:
    """Time per step and per row for growing numbers of rows, features and latent dimensions."""
    worker = Worker(bench, Peer("isthmus_scaling.py"), WORKLOADS["S1"])

    def growth(case: str, task: str, code_size: int = 32, **more: Any) -> list[Figure]:
        ask = functools.partial(worker.ask, task, code_size=code_size, n_steps=N_STEPS, **more)
        return _alone(bench, "scaling", case, GROWTH, ask)

    for n_rows in ROWS[:2] if bench.quick else ROWS:
        with mapped(bench, n_rows) as path:
            yield growth(f"{n_rows:,} rows", "stored", path=str(path))
    for n_features in FEATURES[:3] if bench.quick else FEATURES:
        n_rows = min(20_000, max(1_000, 40_000_000 // n_features))
        yield growth(f"{n_features:,} features", "drawn", n_rows=n_rows, n_features=n_features)
    for code_size in CODES[:3] if bench.quick else CODES:
        yield growth(f"code of {code_size:,}", "drawn", code_size, n_rows=20_000, n_features=784)
    worker.close()


RUNNERS: dict[str, Part] = {
    "training": training,
    "quality": quality,
    "detector": detector,
    "many": many,
    "inference": inference,
    "start": begin,
    "memory": memory,
    "scaling": scaling,
    "device": device,
}
