"""Similarity search by cosine: exact, in blocks, or approximate, through an index."""

from __future__ import annotations

from typing import Any

import numpy as np

from isthmus.choices.rules import Number, Whole
from isthmus.exceptions import DataError
from isthmus.seeds import seed_from

BLOCK_BYTES = 32 * 2**20
"""Size of a block of cosines, and of a block of vectors, as float32."""


def nearest(vectors: Any, queries: Any, n: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """The n rows with the largest cosine for each query, exact and without the full matrix of cosines.

    Parameters
    ----------
    vectors
        (rows, width), an array or a memory-mapped array; read in blocks.
    queries
        (queries, width).
    n
        Number of results, >= 1; if there are fewer rows, all are returned.

    Returns
    -------
    rows, cosines
        (queries, n) each, the nearest first; ties in row order. A zero vector has cosine 0.

    Raises
    ------
    DataError
        Shapes do not match, or a value is not finite.

    Examples
    --------
    >>> nearest(np.eye(3), np.array([[2.0, 1.0, 0.0]]), 2)[0]
    array([[0, 1]])
    """
    vectors = vectors if hasattr(vectors, "shape") else np.asarray(vectors)
    queries = _finite(np.asarray(queries), "The queries")
    width = _check(vectors, queries, n)
    units = unit_rows(queries).astype(np.float32, copy=False)
    best_rows = np.empty((len(queries), 0), np.int64)
    best = np.empty((len(queries), 0), np.float32)
    step = max(1, BLOCK_BYTES // (4 * max(width, len(queries), 1)))
    for start in range(0, len(vectors), step):
        block = _finite(np.asarray(vectors[start : start + step]), f"The vectors from row {start} on")
        cosines = units @ unit_rows(block).astype(np.float32, copy=False).T
        rows, values = _largest(cosines, n)
        best_rows, best = np.hstack([best_rows, rows + start]), np.hstack([best, values])
        if best.shape[1] > n:
            places, best = _largest(best, n)
            best_rows = np.take_along_axis(best_rows, places, axis=1)
    return best_rows, best


class SimilarityIndex:
    """Approximate version of `nearest` that takes a few milliseconds, for many queries to millions of rows.

    The rows are clustered into cells by direction (k-means), and a query searches only the nearest cells (Sivic &
    Zisserman 2003; faiss, Douze et al. 2024). The number of searched cells is the smallest that reaches the target
    recall on a sample of rows, measured when the index is built. Needs faiss: ``pip install 'isthmus[search]'``.

    Parameters
    ----------
    vectors
        (rows, width), finite; the index stores them as float32.
    recall
        Target fraction of the exact ten nearest rows that are found, averaged over a sample of rows, in (0, 1].
    random_state
        Seed or RandomState.

    Attributes
    ----------
    n_cells_, n_probed_
        Number of cells, and of cells that a query searches.
    recall_
        The measured recall with that number of cells.

    Raises
    ------
    ImportError
        faiss is not installed.
    """

    def __init__(self, vectors: Any, *, recall: float = 0.97, random_state: Any = None) -> None:
        if not Number(0.0, 1.0, open_low=True).admits(recall):
            raise ValueError(f"recall={recall!r} must be a number in (0, 1].")
        self._faiss = _import_faiss()
        draw = np.random.default_rng(seed_from(random_state))
        self.width = _check(vectors, np.empty((0, np.shape(vectors)[-1]), np.float32), 1)
        self.n_rows = len(vectors)
        self.n_cells_ = max(1, min(int(CELLS_PER_ROOT * self.n_rows**0.5), self.n_rows // ROWS_A_CELL))
        self._index = self._build(vectors, draw)
        self.n_probed_, self.recall_ = self._settle(vectors, recall, draw)

    def _build(self, vectors: Any, draw: np.random.Generator) -> Any:
        faiss = self._faiss
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(self.width), self.width, self.n_cells_, faiss.METRIC_INNER_PRODUCT)
        index.cp.seed, index.cp.niter, index.cp.min_points_per_centroid = int(draw.integers(2**31)), ROUNDS, 1
        learned_from = min(self.n_rows, ROWS_A_CELL * self.n_cells_)
        index.train(_units(vectors, np.sort(draw.choice(self.n_rows, learned_from, replace=False))))
        step = max(1, BLOCK_BYTES // (4 * self.width))
        for start in range(0, self.n_rows, step):
            index.add(_units(vectors, slice(start, start + step)))
        return index

    def _settle(self, vectors: Any, recall: float, draw: np.random.Generator) -> tuple[int, float]:
        """Double the number of searched cells until the target recall is reached."""
        rows = draw.choice(self.n_rows, min(self.n_rows, MEASURED_ON), replace=False)
        queries = _units(vectors, np.sort(rows))
        exact = nearest(vectors, queries, 10)[0]
        n_probed, found = 1, 0.0
        while True:
            self._index.nprobe = n_probed
            answers = self._index.search(queries, exact.shape[1])[1]
            found = float(np.mean([np.isin(one, other).mean() for one, other in zip(exact, answers, strict=True)]))
            if found >= recall or n_probed >= self.n_cells_:
                return n_probed, found
            n_probed = min(self.n_cells_, 2 * n_probed)

    def nearest(self, queries: Any, n: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """As `nearest`, with -1 and minus infinity if the searched cells have fewer than n rows.

        Parameters
        ----------
        queries
            (queries, width).
        n
            Number of results, >= 1.
        """
        given = _finite(np.asarray(queries), "The queries")
        _check(np.empty((0, self.width)), given, n)
        units = np.ascontiguousarray(unit_rows(given), np.float32)
        cosines, rows = self._index.search(units, min(n, self.n_rows))
        return rows, np.where(rows >= 0, cosines, -np.inf)


CELLS_PER_ROOT = 4.0
"""Number of cells divided by the square root of the number of rows, as faiss recommends."""
ROWS_A_CELL = 40
"""Training rows per cell of the k-means clustering."""
ROUNDS = 10
MEASURED_ON = 200


def _import_faiss() -> Any:
    try:
        import faiss  # noqa: PLC0415  # optional, and needed only here
    except ImportError:
        raise ImportError(
            "A SimilarityIndex needs faiss, which is not installed; run pip install 'isthmus[search]', or use "
            "isthmus.nearest, which is exact."
        ) from None
    return faiss


def _units(vectors: Any, rows: Any) -> np.ndarray:
    return np.ascontiguousarray(unit_rows(_finite(np.asarray(vectors[rows]), "The vectors")), np.float32)


def _finite(rows: np.ndarray, what: str) -> np.ndarray:
    """Rows as float32 or float64, after checking that all values are finite."""
    if rows.dtype.kind not in "biuf":
        raise DataError(f"{what} are of type {rows.dtype}, but numbers are needed; convert them with astype(float).")
    if rows.dtype not in (np.float32, np.float64):
        rows = rows.astype(np.float32 if rows.dtype == np.float16 else np.float64)
    if not np.isfinite(rows).all():
        raise DataError(f"{what} contain NaN or infinite values; drop these rows first.")
    return rows


def _largest(values: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices and values of the n largest entries of each row, in decreasing order; ties in column order."""
    width = min(n, values.shape[1])
    places = np.argpartition(-values, width - 1, axis=1)[:, :width]
    places.sort(axis=1)
    chosen = np.take_along_axis(values, places, axis=1)
    order = np.argsort(-chosen, axis=1, kind="stable")
    return np.take_along_axis(places, order, axis=1), np.take_along_axis(chosen, order, axis=1)


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Rows divided by their Euclidean norm, without under- or overflow; zero rows stay zero.

    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    with np.errstate(over="ignore"):
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    lost = ((lengths < TOO_SHORT) | ~np.isfinite(lengths) | (lengths > 1 / TOO_SHORT))[:, 0]
    if lost.any():  # squares under- or overflow: 1e-30 squared is 0 in float32
        largest = np.abs(rows[lost]).max(axis=1, keepdims=True, initial=0)
        rows = np.array(rows)
        rows[lost] /= np.where(largest > 0, largest, 1)
        lengths[lost] = np.linalg.norm(rows[lost], axis=1, keepdims=True)
    units: np.ndarray = rows / np.where(lengths > 0, lengths, 1)
    return units


TOO_SHORT = 1e-15
"""Norms below this, or above its inverse, are recomputed on rows divided by their largest entry."""


def _check(vectors: Any, queries: np.ndarray, n: Any) -> int:
    if not Whole(1).admits(n):
        raise ValueError(f"n={n!r} must be an integer >= 1.")
    shape = np.shape(vectors)
    if len(shape) != 2 or queries.ndim != 2 or shape[1] != queries.shape[1]:
        raise DataError(
            f"vectors have shape {shape} and queries {queries.shape}; both must be (rows, width), with equal width."
        )
    return int(shape[1])
