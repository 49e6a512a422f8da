"""scikit-learn's imputers on mixed tables: standardised numbers, one-hot categories without their first level."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.experimental import enable_iterative_imputer  # noqa: F401  # imported for what it does
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

from isthmus import Imputer

PEERS: dict[str, Callable[[], Any]] = {
    "mean": SimpleImputer,
    "KNNImputer": KNNImputer,
    "IterativeImputer": lambda: IterativeImputer(random_state=0),
}


def fill(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """The completed table, by a peer or by isthmus, each with its defaults."""
    if name == "isthmus":
        filled: pd.DataFrame = Imputer(random_state=0).fit_transform(frame)
        return filled
    return _by_peer(PEERS[name](), frame)


def _by_peer(imputer: Any, frame: pd.DataFrame) -> pd.DataFrame:
    numbers = [str(name) for name in frame if frame[name].dtype.kind in "fiu"]
    words = {str(name): sorted(frame[name].dropna().unique()) for name in frame if name not in numbers}
    mean, deviation = frame[numbers].mean(), frame[numbers].std().replace(0, 1)
    blocks = [((frame[numbers] - mean) / deviation).to_numpy()]
    blocks += [_one_hot(frame[name], levels) for name, levels in words.items()]
    answer = imputer.fit_transform(np.hstack(blocks))
    filled, start = frame.copy(), len(numbers)
    filled[numbers] = answer[:, :start] * deviation.to_numpy() + mean.to_numpy()
    for name, levels in words.items():
        block = answer[:, start : start + len(levels) - 1]
        shares = np.hstack([1 - block.sum(axis=1, keepdims=True), block])
        filled[name] = np.asarray(levels, dtype=object)[shares.argmax(axis=1)]
        start += len(levels) - 1
    return filled


def _one_hot(column: pd.Series, levels: list[str]) -> np.ndarray:
    block = np.stack([np.where(column.isna(), np.nan, column == level) for level in levels[1:]], axis=1)
    return np.asarray(block, dtype=float)
