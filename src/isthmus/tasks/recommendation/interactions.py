"""Interactions: who had to do with what, read from a frame or a sparse matrix, with the names of users and items."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse

from isthmus.exceptions import DataError

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "user": ("user", "userid", "user_id", "customer", "customer_id"),
    "item": ("item", "itemid", "item_id", "movieid", "movie_id", "product", "product_id"),
    "rating": ("rating", "ratings", "score", "stars", "value"),
    "time": ("time", "timestamp", "date", "datetime"),
}
"""What a column may be called, in any case; the first of a line that is there counts."""


@dataclass(frozen=True)
class Interactions:
    """Who had to do with what.

    Attributes
    ----------
    matrix
        CSR, (users, items), float32: ratings, counts or ones; an entry that is stored was observed, even where it is 0.
    users, items
        The names of rows and columns: any hashable objects, as arrays of integers, texts or objects.
    times
        When, for each stored entry in the order of ``matrix.data``, or None.
    rated
        Whether the entries are ratings that somebody gave; else all are 1.
    """

    matrix: Any
    users: np.ndarray
    items: np.ndarray
    times: np.ndarray | None = None
    rated: bool = False

    @cached_property
    def user_numbers(self) -> dict[Hashable, int]:
        """The row of each user."""
        return {name: row for row, name in enumerate(self.users.tolist())}

    @cached_property
    def item_numbers(self) -> dict[Hashable, int]:
        """The column of each item."""
        return {name: column for column, name in enumerate(self.items.tolist())}

    def select(self, rows: np.ndarray) -> Interactions:
        """Some users, with all items."""
        numbered = scipy.sparse.csr_array(
            (np.arange(self.matrix.nnz), self.matrix.indices, self.matrix.indptr), self.matrix.shape
        )[rows]
        return self.keep(numbered.data, rows, numbered)

    def keep(self, entries: np.ndarray, rows: np.ndarray, numbered: Any) -> Interactions:
        """The entries of these numbers, in the places of a CSR matrix that holds the numbers."""
        matrix = scipy.sparse.csr_array((self.matrix.data[entries], numbered.indices, numbered.indptr), numbered.shape)
        times = None if self.times is None else self.times[entries]
        return replace(self, matrix=matrix, users=self.users[rows], times=times)


def read_interactions(data: Any, *, users: Any = None, items: Any = None) -> Interactions:
    """Read a log of interactions.

    Parameters
    ----------
    data
        A pandas or polars frame with a row an interaction and columns ``user`` and ``item``, and where there are,
        ``rating`` and ``time`` (`COLUMNS` lists other names that are understood); or a scipy sparse matrix (users,
        items) of ratings, counts or ones.
    users, items
        Names of the rows and columns of a matrix; None: 0, 1, ….

    Returns
    -------
    Interactions
        Where a user meets an item more than once, the latest counts: by time where there is a time, else the last row.

    Raises
    ------
    DataError
        A column is missing, a name is missing, ratings are no finite numbers, or there is nothing.
    TypeError
        It is neither a frame nor a sparse matrix.

    Examples
    --------
    >>> import pandas
    >>> log = pandas.DataFrame({"user": ["ann", "bob", "ann"], "item": [7, 7, 9], "rating": [5, 3, 1]})
    >>> read_interactions(log).matrix.toarray()
    array([[5., 1.],
           [3., 0.]], dtype=float32)
    """
    if isinstance(data, Interactions):
        return data
    if scipy.sparse.issparse(data):
        return _from_matrix(data, users, items)
    if not hasattr(data, "columns"):
        raise TypeError(
            f"The interactions are a {type(data).__name__}, but a frame with the columns user and item or a scipy CSR "
            "matrix (users, items) is needed."
        )
    if users is not None or items is not None:
        raise TypeError("A frame names its users and items itself; give users= and items= with a matrix only.")
    return _from_frame(data)


def _from_matrix(data: Any, users: Any, items: Any) -> Interactions:
    matrix = scipy.sparse.csr_array(data, dtype=np.float32)
    matrix.sum_duplicates()
    if not matrix.nnz:
        raise DataError(f"The matrix of interactions, {matrix.shape}, has no entry; give at least one.")
    _refuse_bad_ratings(matrix.data, "The matrix")
    named = [
        _names(given, count, what)
        for given, count, what in ((users, matrix.shape[0], "users"), (items, matrix.shape[1], "items"))
    ]
    return Interactions(matrix, named[0], named[1], rated=bool((matrix.data != 1).any()))


def _names(given: Any, count: int, what: str) -> np.ndarray:
    if given is None:
        return np.arange(count)
    names = as_names(given)
    if len(names) != count or len(set(names.tolist())) < count:
        raise DataError(
            f"{what} has {len(names)} names, {len(set(names.tolist()))} of them different, but the matrix has {count} "
            f"{what}; give a different name for each."
        )
    return names


def as_names(values: Any) -> np.ndarray:
    """Names as an array of integers or texts where all are of that type, else of objects.

    >>> as_names(["a", 1]).dtype, as_names([2, 1]).dtype.kind
    (dtype('O'), 'i')
    """
    listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
    kinds = {type(value) for value in listed}
    if kinds in ({int}, {str}):
        return np.asarray(listed)
    names = np.empty(len(listed), dtype=object)
    names[:] = listed
    return names


def _from_frame(frame: Any) -> Interactions:
    found = _find_columns([str(column) for column in frame.columns])
    columns = {role: _values(frame[name]) for role, name in found.items()}
    _refuse_missing_names({found[role]: columns[role] for role in ("user", "item")})
    rows, users = number(columns["user"])
    entries, items = number(columns["item"])
    ratings = _ratings(columns["rating"], found["rating"]) if "rating" in columns else None
    times = _times(columns["time"], found["time"]) if "time" in columns else None
    kept = _latest(rows * np.int64(len(items)) + entries, times)
    values = np.ones(len(kept), np.float32) if ratings is None else ratings[kept]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows[kept], minlength=len(users)))])
    matrix = scipy.sparse.csr_array((values, entries[kept].astype(np.int32), indptr), (len(users), len(items)))
    return Interactions(matrix, users, items, None if times is None else times[kept], ratings is not None)


def _find_columns(columns: Sequence[str]) -> dict[str, str]:
    """The name of the column of each role; user and item must be there."""
    by_name = {column.casefold(): column for column in reversed(columns)}
    found = {role: next((by_name[name] for name in names if name in by_name), None) for role, names in COLUMNS.items()}
    missing = [role for role in ("user", "item") if found[role] is None]
    if missing:
        raise DataError(
            f"The interactions have no column for {' and '.join(missing)}, only {', '.join(map(repr, columns))}; rename"
            " the columns to user and item (and rating and time, where there are)."
        )
    return {role: name for role, name in found.items() if name is not None}


def _values(series: Any) -> np.ndarray:
    return np.asarray(series.to_numpy())


def _refuse_missing_names(columns: Mapping[str, np.ndarray]) -> None:
    if not all(map(len, columns.values())):
        raise DataError("The interactions have 0 rows; give at least one.")
    for name, values in columns.items():
        missing = _missing(values)
        if missing.any():
            raise DataError(
                f"The column {name!r} has {int(missing.sum())} missing names, the first at row "
                f"{int(missing.argmax())}; drop these rows first."
            )


def _missing(values: np.ndarray) -> np.ndarray:
    """Which values are None or NaN, (n,); NaN is what differs from itself."""
    if values.dtype.kind in "iuSU":
        return np.zeros(len(values), bool)
    return np.asarray([value is None or value != value for value in values.tolist()])  # noqa: PLR0124


def number(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number names from 0: the number of each and the names, sorted where they can be, else as they come.

    >>> number(np.array(["b", "a", "b"]))[0]
    array([1, 0, 1])
    """
    if values.dtype.kind in "iu":
        names, numbers = np.unique(values, return_inverse=True)
        return numbers, names
    listed = values.tolist()
    order: Any = dict.fromkeys(listed)
    try:
        order = sorted(order)
    except TypeError:
        order = list(order)
    known = {name: place for place, name in enumerate(order)}
    return np.fromiter((known[name] for name in listed), np.int64, len(listed)), as_names(order)


def _ratings(values: np.ndarray, name: str) -> np.ndarray:
    if values.dtype.kind not in "biuf":
        text = next((value for value in values.tolist() if not isinstance(value, int | float)), values[:1])
        raise DataError(f"The column {name!r} holds text such as {text!r}, but ratings are numbers; convert it.")
    _refuse_bad_ratings(values, f"The column {name!r}")
    return values.astype(np.float32)


def _refuse_bad_ratings(values: np.ndarray, where: str) -> None:
    bad = ~np.isfinite(values)
    if bad.any():
        raise DataError(
            f"{where} has {int(bad.sum())} ratings that are NaN or infinite, the first at entry {int(bad.argmax())}; "
            "drop these first."
        )


def _times(values: np.ndarray, name: str) -> np.ndarray:
    """Times as numbers that can be compared: nanoseconds of dates, numbers as they are."""
    if values.dtype.kind == "M":
        return values.astype("datetime64[ns]").astype(np.int64)
    if values.dtype.kind not in "iuf":
        raise DataError(f"The column {name!r} is neither numbers nor dates ({values.dtype}); convert it first.")
    return values


def _latest(keys: np.ndarray, times: np.ndarray | None) -> np.ndarray:
    """The rows to keep, in the order of their keys: of equal keys the latest, and of equal times the last."""
    order = np.argsort(keys, kind="stable") if times is None else np.lexsort((times, keys))
    following = np.append(keys[order[1:]] != keys[order[:-1]], True)
    kept: np.ndarray = order[following]
    return kept
