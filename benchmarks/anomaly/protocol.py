"""What is measured, for us and for the others alike: the sets, their splits, two figures and the seconds.

This module is used in the others' environment too, and therefore knows numpy and scikit-learn only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import train_test_split

MOST_ROWS = 10_000
TEST_SHARE = 0.3
SEEDS = (1, 2, 3, 4, 5)
TRAININGS = ("contaminated", "normal-only")


@dataclass(frozen=True)
class Split:
    """Rows to learn from, without labels, and rows to be scored, with labels (1 is an anomaly)."""

    X_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


@dataclass(frozen=True)
class Result:
    """What one detector reached on one split; the seconds are those of the processor, on one thread."""

    detector: str
    set: str
    seed: int
    training: str
    auroc: float
    average_precision: float
    fit_seconds: float
    score_seconds: float


def set_names(folder: Path) -> list[str]:
    """The sets in ADBench's order, such as ``"1_ALOI"``."""
    return sorted((file.stem for file in folder.glob("*.npz")), key=lambda name: int(name.split("_")[0]))


def split(folder: Path, name: str, seed: int, training: str) -> Split:
    """The split of a set: at most 10,000 rows, 70/30 stratified, each column to [0, 1] by the range in training.

    Parameters
    ----------
    folder, name, seed
        Where the sets lie, which, and the seed of sample and split.
    training
        ``"contaminated"`` learns from all training rows, ``"normal-only"`` from those without an anomaly.
    """
    with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
        X, y = np.asarray(file["X"], dtype=np.float64), np.asarray(file["y"]).ravel().astype(int)
    if len(X) > MOST_ROWS:
        chosen = np.random.default_rng(seed).choice(len(X), MOST_ROWS, replace=False)
        X, y = X[chosen], y[chosen]
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=TEST_SHARE, stratify=y, random_state=seed)
    if training == "normal-only":
        X_train = X_train[y_train == 0]
    low = X_train.min(axis=0)
    width = X_train.max(axis=0) - low
    width[width == 0] = 1.0
    return Split((X_train - low) / width, (X_test - low) / width, y_test)


def measure(
    detector: str, name: str, seed: int, training: str, *, fit: Callable[[Split], Callable[[np.ndarray], Any]],
    folder: Path,
) -> Result:  # fmt: skip
    """Fit, score and measure; `fit` learns from a split and gives what scores rows, higher for odder."""
    data = split(folder, name, seed, training)
    began = time.process_time()
    score = fit(data)
    fitted = time.process_time()
    scores = np.nan_to_num(np.asarray(score(data.X_test), dtype=np.float64), nan=0.0, posinf=1e300, neginf=-1e300)
    done = time.process_time()
    auroc, precision = float(roc_auc_score(data.y_test, scores)), float(average_precision_score(data.y_test, scores))
    return Result(detector, name, seed, training, auroc, precision, fitted - began, done - fitted)


class Cache:
    """Results in a folder, a JSON file each, so that what was measured is not measured again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def _file(self, *key: object) -> Path:
        return self.folder / ("--".join(str(part).replace(" ", "_") for part in key) + ".json")

    def get(self, detector: str, name: str, seed: int, training: str) -> Result | None:
        """A result that is there, or None."""
        file = self._file(detector, name, seed, training)
        return Result(**json.loads(file.read_text())) if file.is_file() else None

    def put(self, result: Result) -> None:
        """Keep a result."""
        file = self._file(result.detector, result.set, result.seed, result.training)
        file.write_text(json.dumps(asdict(result)))

    def all(self) -> list[Result]:
        """Every result that is there."""
        return [Result(**json.loads(file.read_text())) for file in sorted(self.folder.glob("*.json"))]
