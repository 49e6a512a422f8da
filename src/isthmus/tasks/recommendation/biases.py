"""What is known of ratings before any network: their mean, and how far users and items lie off it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse

from isthmus.data import Source
from isthmus.data.sources import Rows

DAMPING = 5.0
"""Ratings of average height that every user and item is given on top, so that few ratings say little."""


@dataclass(frozen=True)
class Biases:
    """``rating ≈ mean + item + user`` (Koren 2009, section 2.1), the users' part from whatever history is given.

    Attributes
    ----------
    mean
        Of all ratings.
    items
        By how much each item lies above it, (items,).
    """

    mean: float
    items: np.ndarray

    def of_users(self, histories: Any) -> np.ndarray:
        """By how much each user's ratings lie above what their items lead to expect, (users,)."""
        residuals = histories.data - self.mean - self.items[histories.indices]
        return _damped(residuals, _rows(histories), histories.shape[0])

    def residuals(self, histories: Any) -> Any:
        """What of the ratings is left when all three are taken away: CSR with the same entries."""
        rest = histories.data - self.mean - self.items[histories.indices]
        rest -= self.of_users(histories)[_rows(histories)]
        return scipy.sparse.csr_array((rest.astype(np.float32), histories.indices, histories.indptr), histories.shape)


def learn_biases(matrix: Any) -> Biases:
    """The biases of a CSR matrix of ratings (users, items).

    >>> learn_biases(scipy.sparse.csr_array([[5.0, 3.0], [5.0, 3.0]])).mean
    4.0
    """
    mean = float(matrix.data.mean())
    return Biases(mean, _damped(matrix.data - mean, matrix.indices, matrix.shape[1]).astype(np.float32))


def _rows(matrix: Any) -> np.ndarray:
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def _damped(values: np.ndarray, groups: np.ndarray, n_groups: int) -> np.ndarray:
    """The mean of the values of each group, drawn towards zero."""
    sums = np.bincount(groups, values, minlength=n_groups)
    means: np.ndarray = sums / (np.bincount(groups, minlength=n_groups) + DAMPING)
    return means


class Histories(Source):
    """Rows of a CSR matrix, made dense a batch at a time and never whole.

    Parameters
    ----------
    matrix
        CSR (users, items).
    missing
        What stands where nothing is stored: 0, or NaN for what was not rated.
    """

    fits_in_memory = False

    def __init__(self, matrix: Any, missing: float = 0.0) -> None:
        self._matrix, self._missing = matrix, missing
        self.n_rows, self.feature_shape, self.dtype = matrix.shape[0], (matrix.shape[1],), np.dtype(np.float32)

    def read(self, rows: Rows) -> np.ndarray:
        part = self._matrix[rows]
        dense = np.full(part.shape, self._missing, np.float32)
        dense[_rows(part), part.indices] = part.data
        return dense
