"""Sources: numeric rows in memory, in files or in sparse matrices. Training and inference read from a source."""

from __future__ import annotations

import functools
import math
import mmap
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse

from isthmus.exceptions import DataError
from isthmus.wording import counted

MEMORY_LIMIT = 2**30
"""Size in bytes, as float32, above which a file is read in chunks instead of loaded at once."""
SPARSE_LIMIT = 2**28
"""The same for a sparse matrix in dense form."""
CHUNK_BYTES = 16 * 2**20

Rows = slice | np.ndarray


def floating_of(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The floating dtype for values of another dtype: double for doubles and integers of at least 32 bits.

    >>> floating_of(np.dtype(np.int64)), floating_of(np.dtype(np.uint8))
    (dtype('float64'), dtype('float32'))
    """
    double = dtype.itemsize >= (8 if dtype.kind == "f" else 4)
    return np.dtype(np.float64 if double else np.float32)


class Source(ABC):
    """Base class: rows of one shape, read on demand.

    Subclass it for your own data: set the attributes and implement `read`. What `read` returns is compared with the
    attributes at each call.

    Attributes
    ----------
    n_rows
        Number of rows.
    feature_shape
        Shape of one row: ``(d,)``, ``(h, w)``, ``(h, w, c)`` or ``(d, h, w, c)``.
    dtype
        Dtype of the arrays that `read` returns.
    feature_names
        Names of the d features, or None.
    random_access
        Whether scattered rows are as fast to read as adjacent rows.
    """

    n_rows: int
    feature_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    feature_names: list[str] | None = None
    random_access: bool = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Check what `read` returns, where a class defines it."""
        super().__init_subclass__(**kwargs)
        if "read" in vars(cls):
            cls.read = _checked(vars(cls)["read"])  # type: ignore[assignment, method-assign]  # as a method

    @abstractmethod
    def read(self, rows: Rows) -> np.ndarray:
        """The requested rows, in that order: (k, *feature_shape).

        Raises
        ------
        DataError
            The rows differ in number, shape or dtype from what the source promises.
        """

    @property
    def n_features(self) -> int:
        """Number of values in a flat row."""
        return math.prod(self.feature_shape)

    @property
    def fits_in_memory(self) -> bool:
        """Whether all rows may be held in memory at once."""
        return 4 * self.n_rows * self.n_features <= MEMORY_LIMIT

    def pick(self, rows: np.ndarray) -> np.ndarray:
        """A few rows by ascending indices, for one-time use."""
        return self.read(rows)

    def held(self) -> np.ndarray | None:
        """All rows if they are already a contiguous array in memory (read-only for the caller), else None."""
        return None

    def chunks(self, rows_per_chunk: int | None = None) -> Iterator[np.ndarray]:
        """All rows in order, in chunks."""
        size = rows_per_chunk or max(1, CHUNK_BYTES // (4 * self.n_features))
        for start in range(0, self.n_rows, size):
            yield self.read(slice(start, min(start + size, self.n_rows)))

    def __len__(self) -> int:
        return self.n_rows


def _checked(read: Callable[[Any, Rows], np.ndarray]) -> Callable[[Any, Rows], np.ndarray]:
    """`read`, with an error for rows that are not what the source promises.

    Without it such rows fail later, in a product or a copy of torch whose error names neither the source nor the rows.
    """

    @functools.wraps(read)
    def checked(self: Any, rows: Rows) -> np.ndarray:
        block = read(self, rows)
        n_rows = len(range(*rows.indices(self.n_rows))) if isinstance(rows, slice) else len(rows)
        wanted = (n_rows, *self.feature_shape)
        if isinstance(block, np.ndarray) and block.shape == wanted and block.dtype == self.dtype:
            return block
        raise DataError(_broken_promise(type(self).__name__, block, wanted, np.dtype(self.dtype)))

    return checked


def _broken_promise(name: str, block: Any, wanted: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    promised = f"an array of shape {wanted} and dtype {dtype} was promised (n_rows, feature_shape and dtype)"
    if not isinstance(block, np.ndarray):
        return (
            f"{name}.read returned a {type(block).__name__}, but {promised}; return np.asarray(rows, dtype=self.dtype)."
        )
    got = f"{name}.read returned an array of shape {block.shape} and dtype {block.dtype}"
    if block.shape == wanted:
        return f"{got}, but {promised}; return rows.astype(self.dtype), or set dtype to the dtype of the rows."
    if len(block) != wanted[0] and block.shape[1:] == wanted[1:]:
        return f"{got}, but {promised}; return exactly the requested rows, in their order."
    return f"{got}, but {promised}; reshape the rows, or set feature_shape to the shape of one row."


def check_attributes(source: Source) -> None:
    """Raise a `DataError` that lists the attributes of a source that are missing or cannot be used.

    >>> source = ArraySource(np.zeros((3, 2)))
    >>> source.n_rows, source.feature_shape = 2.5, 2
    >>> check_attributes(source)
    Traceback (most recent call last):
    isthmus.exceptions.DataError: ArraySource.n_rows is 2.5, but must be an integer >= 0; ArraySource.feature_shape is \
2, but must be a tuple of 1 to 4 integers >= 1. Set these attributes before the source is used.
    """
    tests: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
        ("n_rows", lambda n: isinstance(n, int | np.integer) and bool(n >= 0), "an integer >= 0"),
        ("feature_shape", _is_shape, "a tuple of 1 to 4 integers >= 1"),
        ("dtype", lambda dtype: isinstance(dtype, np.dtype) and dtype.kind in "buif", "a numpy.dtype of numbers"),
    )
    found = []
    for name, holds, needed in tests:
        if not hasattr(source, name):
            found.append(f"{type(source).__name__}.{name} is not set, but must be {needed}")
        elif not holds(getattr(source, name)):
            found.append(f"{type(source).__name__}.{name} is {getattr(source, name)!r}, but must be {needed}")
    names = source.feature_names
    if not found and names is not None and len(names) != source.n_features:
        found.append(
            f"{type(source).__name__}.feature_names has {counted(len(names), 'name')}, but must have "
            f"{source.n_features}, or be None"
        )
    if found:
        raise DataError(f"{'; '.join(found)}. Set these attributes before the source is used.")


def _is_shape(shape: Any) -> bool:
    """Whether it is the shape of a row."""
    sizes = isinstance(shape, tuple) and all(isinstance(size, int | np.integer) and size >= 1 for size in shape)
    return sizes and 1 <= len(shape) <= 4


class ArraySource(Source):
    """An array in memory, (n, d), (n, h, w), (n, h, w, c) or (n, d, h, w, c), used without a copy."""

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
    """A memory-mapped array (``numpy.load(path, mmap_mode="r")``); only the requested rows are read."""

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
    """Release the pages that were read: without it the process would eventually hold the whole file in memory."""
    root: Any = array
    while isinstance(root, np.ndarray):
        if getattr(root, "mode", None) == "c":
            return  # these pages hold the changes of a copy-on-write map
        root = root.base
    if isinstance(root, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        root.madvise(mmap.MADV_DONTNEED)


def _gather_runs(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Read rows of a file in runs of adjacent rows."""
    out = np.empty((len(rows), *array.shape[1:]), array.dtype)
    cuts = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
    for begin, end in pairwise(cuts):
        if end > begin:
            out[begin:end] = array[rows[begin] : rows[begin] + (end - begin)]
    return out


class LabelledSource(Source):
    """The flat rows of another source followed by their one-hot labels: (n, d + classes).

    Parameters
    ----------
    source
        The rows.
    labels
        The class of each row, (n,), from 0.
    n_classes
        Number of classes.
    weights
        Factors of the one-hot labels, (n,); None for ones.

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


class PairedSource(Source):
    """The flat rows of one source, each followed by the same row of another: (n, d + t).

    >>> PairedSource(ArraySource(np.array([[5, 6]])), ArraySource(np.array([[[0.5], [0.25]]]))).read(slice(0, 1))
    array([[5.  , 6.  , 0.5 , 0.25]])
    """

    def __init__(self, source: Source, target: Source) -> None:
        self._parts = source, target
        self.n_rows, self.feature_shape = source.n_rows, (source.n_features + target.n_features,)
        self.dtype = np.result_type(source.dtype, target.dtype)
        self.random_access = source.random_access and target.random_access

    @property
    def fits_in_memory(self) -> bool:
        return all(part.fits_in_memory for part in self._parts)

    def read(self, rows: Rows) -> np.ndarray:
        flat = [read.reshape(len(read), -1) for read in (part.read(rows) for part in self._parts)]
        return np.hstack(flat, dtype=self.dtype)


class RowsSource(Source):
    """Some rows of another source, by ascending numbers.

    >>> RowsSource(ArraySource(np.array([[5.0], [6.0], [7.0]])), np.array([0, 2])).read(slice(0, 2))
    array([[5.],
           [7.]])
    """

    def __init__(self, source: Source, rows: np.ndarray) -> None:
        self._source, self._rows = source, rows
        self.n_rows, self.feature_shape, self.feature_names = len(rows), source.feature_shape, source.feature_names
        self.dtype, self.random_access = source.dtype, source.random_access

    @property
    def fits_in_memory(self) -> bool:
        return self._source.fits_in_memory

    def read(self, rows: Rows) -> np.ndarray:
        return self._source.read(self._rows[rows])


class MissingSource(Source):
    """Another source with one value replaced by NaN, because it marks a missing entry.

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
    """A scipy CSR matrix; only the requested rows are converted to dense."""

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
    """Wrap an array, a memory-mapped array or a CSR matrix as a source; a source is returned as is.

    Raises
    ------
    DataError
        The data are empty, or not (n, d), (n, h, w), (n, h, w, c) or (n, d, h, w, c).
    TypeError
        The data are not numeric.

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
