"""Merging of logs: new interactions are written over those of a stored log."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import scipy.sparse
from scipy.sparse import csr_array

from isthmus.tasks.recommendation.identifiers import as_names


def joined(names: np.ndarray, new: Sequence[Hashable]) -> np.ndarray:
    """Append new names.

    >>> joined(np.array([3, 5]), [4]).tolist()
    [3, 5, 4]
    """
    return as_names([*names.tolist(), *new])


def overlaid(old: csr_array, new: csr_array, rows: np.ndarray, columns: np.ndarray, n_rows: int) -> csr_array:
    """Overwrite entries of a CSR matrix with those of another, at the given rows and columns.

    >>> old, new = scipy.sparse.csr_array([[1, 2]]), scipy.sparse.csr_array([[5]])
    >>> overlaid(old, new, np.array([0]), np.array([1]), 2).toarray()
    array([[1, 5],
           [0, 0]])
    """
    n_columns = np.int64(old.shape[1])
    of_old = np.repeat(np.arange(old.shape[0]), np.diff(old.indptr))
    of_new = rows[np.repeat(np.arange(new.shape[0]), np.diff(new.indptr))]
    keys = np.concatenate([of_old * n_columns + old.indices, of_new * n_columns + columns[new.indices]])
    values = np.concatenate([old.data, new.data])[::-1]
    kept, place = np.unique(keys[::-1], return_index=True)  # keeps the last of equal keys
    indptr = np.concatenate([[0], np.cumsum(np.bincount(kept // n_columns, minlength=n_rows))])
    return scipy.sparse.csr_array((values[place], (kept % n_columns).astype(np.int32), indptr), (n_rows, old.shape[1]))
