"""Mixed tables: those that come with scikit-learn, and ADBench's with their labels as a column."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn import datasets

MOST_ROWS, MOST_COLUMNS = 2_000, 40
BUNDLED: dict[str, Callable[..., Any]] = {
    "iris": datasets.load_iris,
    "wine": datasets.load_wine,
    "breast cancer": datasets.load_breast_cancer,
    "diabetes": datasets.load_diabetes,
}


def mixed_tables() -> Iterator[tuple[str, pd.DataFrame]]:
    """All tables with their names; columns with two values are categories, all others numbers."""
    for name, load in BUNDLED.items():
        yield name, _bundled(load(as_frame=True))
    for path in sorted(Path(os.environ.get("ISTHMUS_DATA", "nowhere")).glob("adbench/*.npz")):
        yield f"ADBench {path.stem.partition('_')[2]}", _anomalies(path)


def _bundled(bunch: Any) -> pd.DataFrame:
    """Features with the class as a category, or with the target as a number."""
    frame: pd.DataFrame = bunch.data.copy()
    if hasattr(bunch, "target_names"):
        return frame.assign(**{"class": np.asarray(bunch.target_names)[bunch.target].astype(str)})
    return frame.assign(sex=np.where(frame["sex"] > 0, "m", "f"), target=bunch.target)


def _anomalies(path: Path) -> pd.DataFrame:
    """At most 2,000 rows and 40 columns that vary."""
    with np.load(path) as file:
        X, y = file["X"], file["y"]
    rows = np.random.default_rng(0).permutation(len(X))[:MOST_ROWS]
    X, y = X[rows], y[rows]
    X = X[:, (X[0] != X).any(axis=0)][:, :MOST_COLUMNS]
    frame = pd.DataFrame(X, columns=[f"c{place}" for place in range(X.shape[1])])
    for name in frame.columns[frame.nunique() == 2]:
        frame[name] = np.where(frame[name] == frame[name].iloc[0], "one", "other")
    return frame.assign(anomaly=np.where(y > 0, "yes", "no"))


def knocked_out(frame: pd.DataFrame, share: float, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """The table with a fraction of its cells missing at random, and their mask, (n, columns)."""
    gone = np.random.default_rng(seed).random(frame.shape) < share
    return frame.mask(gone), gone


def errors(true: pd.DataFrame, gone: np.ndarray, filled: pd.DataFrame) -> tuple[float, float]:
    """RMSE of numbers, in standard deviations of their column, and fraction of wrong categories."""
    of_numbers, of_words = [], []
    for place, name in enumerate(true):
        rows = gone[:, place]
        column, got = true[name], filled[name]
        if not rows.any():
            continue
        if column.dtype.kind in "fiu":
            off = (got[rows].astype(float) - column[rows]).to_numpy()
            of_numbers.append(float(np.sqrt((off**2).mean()) / (column.std() or 1.0)))
        else:
            of_words.append(float((got[rows] != column[rows]).mean()))
    return _mean(of_numbers), _mean(of_words)


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
