"""Sources: rows of numbers, wherever they lie. The training loop and all results read from a source."""

from __future__ import annotations

import math
import mmap
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse

from isthmus.exceptions import DataError

MEMORY_LIMIT = 2**30
"""Bytes, as float32, above which a file is read in pieces instead of being loaded whole."""
SPARSE_LIMIT = 2**28
"""The same for a sparse matrix made dense."""
CHUNK_BYTES = 16 * 2**20

Rows = slice | np.ndarray


def floating_of(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The floating type that holds numbers of another type: double for doubles and for integers of 32 bits and more.

    >>> floating_of(np.dtype(np.int64)), floating_of(np.dtype(np.uint8))
    (dtype('float64'), dtype('float32'))
    """
    double = dtype.itemsize >= (8 if dtype.kind == "f" else 4)
    return np.dtype(np.float64 if double else np.float32)


class Source(ABC):
    """Rows of one shape, read when they are asked for.

    Extend it for data of your own: give the attributes and `read`.

    Attributes
    ----------
    n_rows
        How many rows there are.
    feature_shape
        Shape of one row: ``(d,)``, ``(h, w)``, ``(h, w, c)`` or ``(d, h, w, c)``.
    dtype
        Type of the numbers that `read` gives.
    feature_names
        Names of the d features, or None.
    random_access
        Whether single rows are as quick to read as neighbours.
    """

    n_rows: int
    feature_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    feature_names: list[str] | None = None
    random_access: bool = True

    @abstractmethod
    def read(self, rows: Rows) -> np.ndarray:
        """The rows asked for, in that order: (k, *feature_shape)."""

    @property
    def n_features(self) -> int:
        """Numbers in one row."""
        return math.prod(self.feature_shape)

    @property
    def fits_in_memory(self) -> bool:
        """Whether all rows may be held at once."""
        return 4 * self.n_rows * self.n_features <= MEMORY_LIMIT

    def pick(self, rows: np.ndarray) -> np.ndarray:
        """A few rows, of ascending numbers, once."""
        return self.read(rows)

    def held(self) -> np.ndarray | None:
        """All rows, if they lie in memory one after the other already; they are not to be changed."""
        return None

    def chunks(self, rows_per_chunk: int | None = None) -> Iterator[np.ndarray]:
        """All rows in order, some at a time."""
        size = rows_per_chunk or max(1, CHUNK_BYTES // (4 * self.n_features))
        for start in range(0, self.n_rows, size):
            yield self.read(slice(start, min(start + size, self.n_rows)))

    def __len__(self) -> int:
        return self.n_rows


class ArraySource(Source):
    """An array in memory, (n, d), (n, h, w), (n, h, w, c) or (n, d, h, w, c), kept as it is."""

    def __init__(self, array: np.ndarray) -> None:
        _check_array(array)
        self._array = array
        self.n_rows, self.feature_shape, self.dtype = len(array), array.shape[1:], array.dtype

    @property
    def fits_in_memory(self) -> bool:
        return True

    def read(self, rows: Rows) -> np.ndarray:
        return np.ascontiguousarray(self._array[rows])

    def held(self) -> np.ndarray | None:
        return self._array if self._array.flags.c_contiguous else None


class MemoryMappedSource(ArraySource):
    """An array in a file (``numpy.load(path, mmap_mode="r")``), of which only the rows asked for are read."""

    random_access = False

    @property
    def fits_in_memory(self) -> bool:
        return 4 * self.n_rows * self.n_features <= MEMORY_LIMIT

    def held(self) -> np.ndarray | None:
        return None

    def read(self, rows: Rows) -> np.ndarray:
        read = np.array(self._array[rows]) if isinstance(rows, slice) else _gather_runs(self._array, rows)
        _let_go(self._array)
        return read


def _let_go(array: np.ndarray) -> None:
    """Take the pages that were read out of this process, which would otherwise hold the whole file in the end."""
    root: Any = array
    while isinstance(root, np.ndarray):
        if getattr(root, "mode", None) == "c":
            return  # changes in a copy-on-write map live in these pages
        root = root.base
    if isinstance(root, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        root.madvise(mmap.MADV_DONTNEED)


def _gather_runs(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Read rows of a file run by run: neighbours in one go."""
    out = np.empty((len(rows), *array.shape[1:]), array.dtype)
    cuts = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
    for begin, end in pairwise(cuts):
        if end > begin:
            out[begin:end] = array[rows[begin] : rows[begin] + (end - begin)]
    return out


class LabelledSource(Source):
    """The flat rows of another source with their labels behind them, one-hot: (n, d + classes).

    Parameters
    ----------
    source
        The rows.
    labels
        The class of each, (n,), from 0.
    n_classes
        How many classes there are.
    weights
        What each label is multiplied by, (n,); None for one.

    Examples
    --------
    >>> LabelledSource(ArraySource(np.array([[5.0], [6.0]])), np.array([1, 0]), 2).read(slice(0, 2))
    array([[5., 0., 1.],
           [6., 1., 0.]])
    """

    def __init__(self, source: Source, labels: np.ndarray, n_classes: int, weights: np.ndarray | None = None) -> None:
        self._source, self._labels, self._one_hot = source, labels, np.eye(n_classes)
        self._weights = np.ones(len(labels)) if weights is None else weights
        self.n_rows, self.feature_shape = source.n_rows, (source.n_features + n_classes,)
        self.dtype = floating_of(source.dtype)
        self.random_access = source.random_access

    @property
    def fits_in_memory(self) -> bool:
        return self._source.fits_in_memory

    def read(self, rows: Rows) -> np.ndarray:
        read = self._source.read(rows)
        labels = self._one_hot[self._labels[rows]] * self._weights[rows][:, None]
        return np.hstack([read.reshape(len(read), -1), labels]).astype(self.dtype)


class MissingSource(Source):
    """Another source in which one value stands for a missing entry, and is read as NaN.

    >>> MissingSource(ArraySource(np.array([[0.0, 5.0]])), 0.0).read(slice(0, 1))
    array([[nan,  5.]])
    """

    def __init__(self, source: Source, missing: float) -> None:
        self._source, self._missing = source, missing
        self.n_rows, self.feature_shape, self.feature_names = source.n_rows, source.feature_shape, source.feature_names
        self.dtype = floating_of(source.dtype)
        self.random_access = source.random_access

    @property
    def fits_in_memory(self) -> bool:
        return self._source.fits_in_memory

    def read(self, rows: Rows) -> np.ndarray:
        read = self._source.read(rows).astype(self.dtype)
        read[read == self._missing] = np.nan
        return read


class SparseSource(Source):
    """A scipy CSR matrix, of which only the rows asked for are made dense."""

    def __init__(self, matrix: Any) -> None:
        self._matrix = scipy.sparse.csr_array(matrix)
        _refuse_empty(self._matrix.shape)
        self.n_rows, self.feature_shape, self.dtype = matrix.shape[0], (matrix.shape[1],), matrix.dtype

    @property
    def fits_in_memory(self) -> bool:
        return 4 * self.n_rows * self.n_features <= SPARSE_LIMIT

    def read(self, rows: Rows) -> np.ndarray:
        dense: np.ndarray = self._matrix[rows].toarray()
        return dense


def as_source(X: Any) -> Source:
    """Read an array, a memory-mapped array or a CSR matrix as a source; a source stays what it is.

    Raises
    ------
    DataError
        The data are empty, or not (n, d), (n, h, w), (n, h, w, c) or (n, d, h, w, c).
    TypeError
        They are not numbers.

    Examples
    --------
    >>> as_source(np.zeros((5, 28, 28))).feature_shape
    (28, 28)
    """
    if isinstance(X, Source):
        return X
    if scipy.sparse.issparse(X):
        return SparseSource(X)
    return MemoryMappedSource(X) if isinstance(X, np.memmap) else ArraySource(np.asarray(X))


def _check_array(array: np.ndarray) -> None:
    if array.dtype.kind not in "buif":
        raise TypeError(f"The array has dtype {array.dtype}, but numbers are needed; convert it with astype(float).")
    if not 2 <= array.ndim <= 5:
        raise DataError(
            f"The array has shape {array.shape}, but (n, features), (n, height, width), (n, height, width, channels) "
            "or (n, depth, height, width, channels) is needed; reshape it."
        )
    _refuse_empty(array.shape)


def _refuse_empty(shape: tuple[int, ...]) -> None:
    if math.prod(shape[1:]) == 0 or shape[0] == 0:
        empty = "0 sample(s)" if shape[0] == 0 else "0 feature(s)"
        raise DataError(f"Found array with {empty} (shape={shape}) while a minimum of 1 is required.")
