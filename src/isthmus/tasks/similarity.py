"""Similarity at scale: the rows that lie nearest in direction, exactly and block by block, or through an index."""

from __future__ import annotations

from typing import Any

import numpy as np

from isthmus.choices.rules import Whole
from isthmus.exceptions import DataError

BLOCK_BYTES = 32 * 2**20
"""How large a block of cosines is, and a block of vectors, as float32."""


def nearest(vectors: Any, queries: Any, n: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """For each query the n rows of largest cosine, exactly; the matrix of all cosines is never made.

    Parameters
    ----------
    vectors
        (rows, width), an array or a memory-mapped one; read block by block.
    queries
        (queries, width).
    n
        How many, >= 1; where there are fewer rows, all.

    Returns
    -------
    rows, cosines
        (queries, n) each, the nearest first; equal cosines in the order of the rows. A zero vector has cosine 0.

    Raises
    ------
    DataError
        Shapes do not go together, or a number is not finite.

    Examples
    --------
    >>> nearest(np.eye(3), np.array([[2.0, 1.0, 0.0]]), 2)[0]
    array([[0, 1]])
    """
    queries = np.asarray(queries, np.float32)
    width = _check(vectors, queries, n)
    units = unit_rows(queries)
    best_rows = np.empty((len(queries), 0), np.int64)
    best = np.empty((len(queries), 0), np.float32)
    step = max(1, BLOCK_BYTES // (4 * max(width, len(queries), 1)))
    for start in range(0, len(vectors), step):
        cosines = units @ unit_rows(np.asarray(vectors[start : start + step], np.float32)).T
        rows, values = _largest(cosines, n)
        best_rows, best = np.hstack([best_rows, rows + start]), np.hstack([best, values])
        if best.shape[1] > n:
            places, best = _largest(best, n)
            best_rows = np.take_along_axis(best_rows, places, axis=1)
    return best_rows, best


def _largest(values: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The places and values of the n largest of each row, falling; equal ones in their order."""
    width = min(n, values.shape[1])
    places = np.argpartition(-values, width - 1, axis=1)[:, :width]
    places.sort(axis=1)
    chosen = np.take_along_axis(values, places, axis=1)
    order = np.argsort(-chosen, axis=1, kind="stable")
    return np.take_along_axis(places, order, axis=1), np.take_along_axis(chosen, order, axis=1)


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Rows divided by their Euclidean length; zeros stay zeros.

    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units: np.ndarray = rows / np.where(lengths > 0, lengths, 1)
    return units


def _check(vectors: Any, queries: np.ndarray, n: Any) -> int:
    if not Whole(1).admits(n):
        raise ValueError(f"n={n!r} must be an integer >= 1.")
    shape = np.shape(vectors)
    if len(shape) != 2 or queries.ndim != 2 or shape[1] != queries.shape[1]:
        raise DataError(
            f"vectors have shape {shape} and queries {queries.shape}; both must be (rows, width), one width."
        )
    if not np.isfinite(queries).all():
        raise DataError("The queries hold numbers that are NaN or infinite; drop these rows first.")
    return int(shape[1])
