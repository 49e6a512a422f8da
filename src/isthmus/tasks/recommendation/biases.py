"""Rating biases: the mean rating, and the deviations of users and items from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
from scipy.sparse import csr_array

from isthmus.data import Source
from isthmus.data.sources import Rows

DAMPING = 5.0
"""Number of average ratings that are added for every user and item, so that biases of few ratings shrink to zero."""


@dataclass(frozen=True)
class Biases:
    """``rating ≈ mean + item + user`` (Koren 2009, section 2.1); user biases are computed from a given history.

    Attributes
    ----------
    mean
        Mean of all ratings.
    items
        Bias of each item, (items,).
    """

    mean: float
    items: np.ndarray

    def of_users(self, histories: csr_array) -> np.ndarray:
        """Bias of each user: the damped mean of ratings minus mean and item biases, (users,)."""
        residuals = histories.data - self.mean - self.items[histories.indices]
        return _damped(residuals, _rows(histories), histories.shape[0])

    def residuals(self, histories: csr_array) -> csr_array:
        """Ratings minus mean, item and user biases: CSR with the same entries."""
        rest = histories.data - self.mean - self.items[histories.indices]
        rest -= self.of_users(histories)[_rows(histories)]
        return scipy.sparse.csr_array((rest.astype(np.float32), histories.indices, histories.indptr), histories.shape)


def learn_biases(matrix: csr_array) -> Biases:
    """Compute the biases of a CSR matrix of ratings (users, items).

    >>> learn_biases(scipy.sparse.csr_array([[5.0, 3.0], [5.0, 3.0]])).mean
    4.0
    """
    mean = float(matrix.data.mean())
    return Biases(mean, _damped(matrix.data - mean, matrix.indices, matrix.shape[1]).astype(np.float32))


def _rows(matrix: csr_array) -> np.ndarray:
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def _damped(values: np.ndarray, groups: np.ndarray, n_groups: int) -> np.ndarray:
    """The mean of the values of each group, shrunk towards zero."""
    sums = np.bincount(groups, values, minlength=n_groups)
    means: np.ndarray = sums / (np.bincount(groups, minlength=n_groups) + DAMPING)
    return means


class Histories(Source):
    """Rows of a CSR matrix, converted to dense one batch at a time.

    Parameters
    ----------
    matrix
        CSR (users, items).
    missing
        Value of entries that are not stored: 0, or NaN for unrated items.
    """

    fits_in_memory = False

    def __init__(self, matrix: csr_array, missing: float = 0.0) -> None:
        self._matrix, self._missing = matrix, missing
        self.n_rows, self.feature_shape, self.dtype = matrix.shape[0], (matrix.shape[1],), np.dtype(np.float32)

    def read(self, rows: Rows) -> np.ndarray:
        part = self._matrix[rows]
        dense = np.full(part.shape, self._missing, np.float32)
        dense[_rows(part), part.indices] = part.data
        return dense
