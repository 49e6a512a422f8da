"""Fits in threads at once give, bit for bit, the models that each gives alone."""

from __future__ import annotations

import random
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

import isthmus
from benchmarks.reliability.kills import rows_of
from benchmarks.reliability.results import Row
from isthmus.files import read_state

INTENT = (
    "Models of all kinds are trained in eight threads at once, with the seeds and data of models that were trained "
    "alone before. Their weights, scalings, thresholds and everything else that a file holds in numbers are equal, bit "
    "for bit."
)
COUNT, SEED, AT_ONCE = 200, 0, 8
N_SEEDS = 3
SMALL: dict[str, Any] = {"network": (16,), "max_epochs": 4, "batch_size": 32, "device": "cpu"}


def _log(seed: int) -> Any:
    draw = np.random.default_rng(seed)
    return scipy.sparse.csr_array((draw.random((60, 30)) < 0.2).astype(np.float32))  # fmt: skip


def _autoencoder(kind: type[Any], **changes: Any) -> Callable[[int], Any]:
    return lambda seed: kind(3, **{**SMALL, **changes}, random_state=seed).fit(rows_of(seed))


def _images(seed: int) -> Any:
    pixels = np.random.default_rng(seed).random((64, 8, 8))
    return isthmus.ConvolutionalAutoencoder(3, max_epochs=2, device="cpu", random_state=seed).fit(pixels)


def _imputer(seed: int) -> Any:
    rows = rows_of(seed)[:120].copy()
    rows[np.random.default_rng(seed).random(rows.shape) < 0.1] = np.nan
    return isthmus.Imputer(n_members=2, hidden_sizes=(8,), code_size=2, max_epochs=1, random_state=seed).fit(rows)


KINDS: Mapping[str, Callable[[int], Any]] = {
    "Autoencoder": _autoencoder(isthmus.Autoencoder),
    "Autoencoder, validation": _autoencoder(isthmus.Autoencoder, validation_fraction=0.2, early_stopping=True),
    "DenoisingAutoencoder": _autoencoder(isthmus.DenoisingAutoencoder),
    "SparseAutoencoder": _autoencoder(isthmus.SparseAutoencoder),
    "ContractiveAutoencoder": _autoencoder(isthmus.ContractiveAutoencoder),
    "VariationalAutoencoder": _autoencoder(isthmus.VariationalAutoencoder),
    "ConvolutionalAutoencoder": _images,
    "AnomalyDetector": lambda seed: isthmus.AnomalyDetector(
        n_members=2, hidden_size=8, max_steps=20, device="cpu", random_state=seed
    ).fit(rows_of(seed)),
    "Imputer": _imputer,
    "Recommender": lambda seed: isthmus.Recommender(max_epochs=2, random_state=seed, verbose=0).fit(_log(seed)),
}  # fmt: skip


def measure(scale: float, seed: int) -> list[Row]:
    """Train all kinds alone, then in threads, in a random order."""
    count = max(len(KINDS), round(COUNT * scale))
    draw = random.Random(seed)  # no secret
    jobs = [(name, draw.randrange(N_SEEDS)) for name in KINDS for _ in range(-(-count // len(KINDS)))]
    draw.shuffle(jobs)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = {job: numbers(*job, Path(folder) / f"alone-{i}.safetensors") for i, job in enumerate(sorted(set(jobs)))}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = pool.map(lambda number: _compared(number, jobs[number], alone, Path(folder)), range(len(jobs)))
            wrong = Counter(name for (name, _), right in zip(jobs, found, strict=True) if not right)
    tried = Counter(name for name, _ in jobs)
    return [Row(name, tried[name], wrong[name]) for name in KINDS]


def _compared(
    number: int, job: tuple[str, int], alone: Mapping[tuple[str, int], dict[str, bytes]], folder: Path
) -> bool:
    try:
        right = numbers(*job, folder / f"{number}.safetensors") == alone[job]
    except Exception as error:  # noqa: BLE001  # whatever a thread meets is an outcome
        print(f"{job[0]}, seed {job[1]}: {type(error).__name__}: {error}")
        return False
    if not right:
        print(f"{job[0]}, seed {job[1]}: another model than alone")
    return right


def numbers(name: str, seed: int, path: Path) -> dict[str, bytes]:
    """The arrays of a model's file, as bytes."""
    KINDS[name](seed).save(path)
    return {key: array.tobytes() for key, array in read_state(path).arrays.items()}
