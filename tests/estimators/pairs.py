"""Data and models for the tests of training on pairs."""

from __future__ import annotations

from typing import Any

import numpy as np

from isthmus import Autoencoder, Source
from isthmus.data.sources import Rows
from isthmus.estimators.targets import Target

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(240, 6)) * [1.0, 5.0, 1.0, 2.0, 1.0, 100.0] + 3.0
WEIGHTS = DRAW.normal(size=(6, 4))
TARGET = (X - 3.0) / [1.0, 5.0, 1.0, 2.0, 1.0, 100.0] @ WEIGHTS * [1.0, 50.0, 1.0, 0.1] - 7.0
"""A linear map of X with other widths and units, which a linear model can learn exactly."""
GREY = DRAW.integers(0, 256, size=(60, 6, 7), dtype=np.uint8)
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], axis=-1)
BRIEF: dict[str, Any] = {"max_epochs": 2, "random_state": 0}


def target_of(model: Autoencoder) -> Target:
    assert model.target_ is not None
    return model.target_


def linear(**more: Any) -> Autoencoder:
    usual: dict[str, Any] = {"network": (), "max_epochs": 60, "learning_rate": 0.03, "random_state": 0}
    return Autoencoder(4, **usual | more)


class Slow(Source):
    """Rows that do not fit in memory."""

    def __init__(self, rows: np.ndarray, *, random_access: bool = True) -> None:
        self.rows, self.n_rows, self.feature_shape, self.dtype = rows, len(rows), rows.shape[1:], rows.dtype
        self.random_access = random_access

    @property
    def fits_in_memory(self) -> bool:
        return False

    def read(self, rows: Rows) -> np.ndarray:
        return self.rows[rows]
