"""Interactions of users and items, read from a frame or a sparse matrix, with identifiers."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np
import scipy.sparse
from scipy.sparse import csr_array

from isthmus.exceptions import DataError
from isthmus.tasks.recommendation.identifiers import NameIndex, as_names, number, refuse_alike
from isthmus.tasks.recommendation.times import read_times
from isthmus.wording import be, counted, these

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "user": ("user", "userid", "user_id", "customer", "customer_id"),
    "item": ("item", "itemid", "item_id", "movieid", "movie_id", "product", "product_id"),
    "rating": ("rating", "ratings", "score", "stars", "value", "liked", "clicked"),
    "count": ("count", "counts", "plays", "play_count", "playcount", "listens", "views", "clicks", "purchases",
              "quantity"),
    "time": ("time", "timestamp", "date", "datetime"),
}  # fmt: skip
"""Accepted column names, in any case; the first one that exists is used."""


@dataclass(frozen=True)
class Interactions:
    """A log of interactions between users and items.

    Attributes
    ----------
    matrix
        CSR, (users, items), float32: ratings, counts or ones; every stored entry is an observation, even if it is 0.
    users, items
        Identifiers of rows and columns: integers, floats or objects of other accepted types.
    times
        Time of each stored entry, in the order of ``matrix.data``, or None.
    rated
        Whether the entries are ratings or counts; otherwise all are 1.
    counted
        Whether their column has the name of a count, such as ``plays``.
    """

    matrix: csr_array
    users: np.ndarray
    items: np.ndarray
    times: np.ndarray | None = None
    rated: bool = False
    counted: bool = False

    @cached_property
    def user_index(self) -> NameIndex:
        """Finds the row of a user."""
        return NameIndex(self.users)

    @cached_property
    def item_index(self) -> NameIndex:
        """Finds the column of an item."""
        return NameIndex(self.items)

    @property
    def user_numbers(self) -> dict[Hashable, int]:
        """The row of each user."""
        return self.user_index.numbers

    @property
    def item_numbers(self) -> dict[Hashable, int]:
        """The column of each item."""
        return self.item_index.numbers

    def select(self, rows: np.ndarray) -> Interactions:
        """A log of some users, with all items."""
        numbered = scipy.sparse.csr_array(
            (np.arange(self.matrix.nnz), self.matrix.indices, self.matrix.indptr), self.matrix.shape
        )[rows]
        return self.keep(numbered.data, rows, numbered)

    def keep(self, entries: np.ndarray, rows: np.ndarray, numbered: csr_array) -> Interactions:
        """A log of the entries with these indices, at their positions in a CSR matrix of indices."""
        matrix = scipy.sparse.csr_array((self.matrix.data[entries], numbered.indices, numbered.indptr), numbered.shape)
        times = None if self.times is None else self.times[entries]
        return replace(self, matrix=matrix, users=self.users[rows], times=times)


def read_interactions(data: Any, *, users: Any = None, items: Any = None) -> Interactions:
    """Read a log of interactions.

    Parameters
    ----------
    data
        A pandas or polars frame with one row per interaction and the columns ``user`` and ``item``, and optionally
        ``rating`` (or ``count``) and ``time`` (`COLUMNS` lists other accepted names); or a scipy sparse matrix (users,
        items) of ratings, counts or ones, whose duplicate entries are added. The data are not changed, and the result
        shares no memory with them.
    users, items
        Unique identifiers of the rows and columns of a matrix; None: 0, 1, ….

    Returns
    -------
    Interactions
        Of repeated interactions the latest is kept: by time if there is a time, else the last row. Counts (a column
        such as ``plays``) are added.

    Raises
    ------
    DataError
        A column is missing or repeated; an identifier is missing, has an unsupported type, or looks like another of a
        different type (3 and "3"); ratings are not finite numbers; a time cannot be read; or the log is empty.
    TypeError
        The data are neither a frame nor a sparse matrix.

    Examples
    --------
    >>> import pandas
    >>> log = pandas.DataFrame({"user": ["ann", "bob", "ann"], "item": [7, 7, 9], "rating": [5, 3, 1]})
    >>> read_interactions(log).matrix.toarray()
    array([[5., 1.],
           [3., 0.]], dtype=float32)
    """
    if (users is not None or items is not None) and not scipy.sparse.issparse(data):
        raise TypeError("A frame contains its users and items; pass users= and items= only with a matrix.")
    if isinstance(data, Interactions):
        return _checked(data)
    if scipy.sparse.issparse(data):
        return _from_matrix(data, users, items)
    if hasattr(data, "collect_schema") and not hasattr(data, "to_numpy"):
        raise TypeError("The interactions are a lazy frame, but a computed frame is needed; pass data.collect().")
    if not hasattr(data, "columns"):
        raise TypeError(
            f"The interactions are a {type(data).__name__}, but a frame with the columns user and item or a scipy CSR "
            "matrix (users, items) is needed; convert a dense matrix with scipy.sparse.csr_array(X), or "
            "pairs with pandas.DataFrame(rows, columns=['user', 'item'])."
        )
    return _from_frame(data)


def _checked(log: Interactions) -> Interactions:
    """A validated copy with sorted entries."""
    order = scipy.sparse.csr_array(
        (np.arange(log.matrix.nnz), log.matrix.indices.copy(), log.matrix.indptr.copy()), log.matrix.shape
    )
    order.sort_indices()
    matrix = own_matrix(log.matrix)
    if matrix.nnz != order.nnz:
        raise DataError("The interactions have duplicate entries; build them with read_interactions.")
    _refuse_bad_ratings(matrix.data, "The matrix")
    users, items = _names(log.users, matrix.shape[0], "users"), _names(log.items, matrix.shape[1], "items")
    times = None if log.times is None else np.asarray(log.times)[order.data]
    rated = log.rated or bool((matrix.data != 1).any())
    return replace(log, matrix=matrix, users=users, items=items, times=times, rated=rated)


def own_matrix(data: Any) -> csr_array:
    """A float32 CSR copy of a sparse matrix; duplicates are added, columns are sorted."""
    if data.ndim != 2 or data.dtype.kind not in "biuf":
        raise DataError(
            f"The matrix has shape {data.shape} and type {data.dtype}; two dimensions of real numbers are needed; "
            "convert it."
        )
    matrix = scipy.sparse.csr_array(data, dtype=np.float32, copy=True)
    matrix.sum_duplicates()
    return matrix


def _from_matrix(data: Any, users: Any, items: Any) -> Interactions:
    if data.dtype == np.float64:  # before single precision makes large ratings infinite
        _refuse_bad_ratings(scipy.sparse.csr_array(data).data, "The matrix")
    matrix = own_matrix(data)
    if not matrix.nnz:
        raise DataError(
            f"The matrix of interactions, {matrix.shape}, has 0 entries, but at least one is needed; check the log."
        )
    _refuse_bad_ratings(matrix.data, "The matrix")
    named = [
        _names(given, count, what)
        for given, count, what in ((users, matrix.shape[0], "users"), (items, matrix.shape[1], "items"))
    ]
    return Interactions(matrix, named[0], named[1], rated=bool((matrix.data != 1).any()))


def _names(given: Any, count: int, what: str) -> np.ndarray:
    if given is None:
        return np.arange(count)
    if isinstance(given, str | set | frozenset) or not hasattr(given, "__iter__"):
        raise DataError(f"{what} is a {type(given).__name__}, but a list of {count} names in order is needed.")
    names = as_names(given.to_numpy() if hasattr(given, "to_numpy") else given)
    different = set(names.tolist())
    if len(names) != count or len(different) < count:
        raise DataError(
            f"{what} has {len(names)} names, {len(different)} of them different, but the matrix has {count} "
            f"{what}; pass a unique name for each."
        )
    refuse_alike(names.tolist(), set(map(type, names.tolist())))
    return names


def _from_frame(frame: Any) -> Interactions:
    found = _find_columns(list(getattr(frame, "column_names", frame.columns)))
    columns = {role: _values(frame[name]) for role, name in found.items()}
    _refuse_missing_names({found[role]: columns[role] for role in ("user", "item")})
    rows, users = number(columns["user"])
    entries, items = number(columns["item"])
    role = next((role for role in ("rating", "count") if role in columns), None)
    ratings = None if role is None else _ratings(columns[role], found[role])
    times = read_times(columns["time"], found["time"]) if "time" in columns else None
    keys = rows * np.int64(len(items)) + entries
    kept = _latest(keys, times)
    values = np.ones(len(kept), np.float32) if ratings is None else ratings[kept]
    if role == "count" and ratings is not None:  # counts of repeated interactions are added
        values = np.bincount(np.unique(keys, return_inverse=True)[1], ratings).astype(np.float32)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows[kept], minlength=len(users)))])
    matrix = scipy.sparse.csr_array((values, entries[kept].astype(np.int32), indptr), (len(users), len(items)))
    when = None if times is None else times[kept]
    return Interactions(matrix, users, items, when, ratings is not None, role == "count")


def _find_columns(columns: Sequence[Hashable]) -> dict[str, Hashable]:
    """The column of each role; user and item are required."""
    by_name: dict[str, list[Hashable]] = {}
    for column in columns:
        by_name.setdefault(str(column).casefold(), []).append(column)
    found = {role: next((by_name[name] for name in names if name in by_name), None) for role, names in COLUMNS.items()}
    missing = [role for role in ("user", "item") if found[role] is None]
    if missing:
        raise DataError(
            f"The interactions have no column for {' and '.join(missing)}, only {_few(columns)}; rename"
            " the columns to user and item (and rating and time, if there are any)."
        )
    twice = [names for names in found.values() if names is not None and len(names) > 1]
    if twice:
        raise DataError(f"The columns {' and '.join(map(repr, twice[0]))} have the same name; keep one of them.")
    return {role: names[0] for role, names in found.items() if names is not None}


def _few(columns: Sequence[Hashable], most: int = 12) -> str:
    return ", ".join(map(repr, map(str, columns[:most]))) + (
        f" and {len(columns) - most} more" if len(columns) > most else ""
    )


def _values(series: Any) -> np.ndarray:
    """A column as an array without loss: times become UTC, integers with missing cells stay integers."""
    if getattr(getattr(series, "dtype", None), "tz", None) is not None:
        series = series.dt.tz_convert("UTC").dt.tz_localize(None)
    values = np.asarray(series.to_numpy())
    if values.dtype.kind == "f" and "int" in str(getattr(series, "dtype", "")).lower():
        values = np.empty(
            len(values), object
        )  # to_numpy converts integers with missing cells to floats, which are inexact from 2**53
        values[:] = list(series)
    return values


def _refuse_missing_names(columns: Mapping[Hashable, np.ndarray]) -> None:
    if not all(map(len, columns.values())):
        raise DataError("The interactions have 0 rows, but at least one is needed; check the log.")
    for name, values in columns.items():
        missing = _missing(values)
        if missing.any():
            raise DataError(
                f"The column {name!r} has {counted(int(missing.sum()), 'missing name')}, the first at row "
                f"{int(missing.argmax())}; drop these rows first."
            )


def _missing(values: np.ndarray) -> np.ndarray:
    """Whether each value is None, NaN, NaT or pandas.NA, (n,)."""
    if values.dtype.kind in "iubSU":
        return np.zeros(len(values), bool)
    import pandas as pd  # noqa: PLC0415  # slow to import, and needed here alone

    return np.asarray(pd.isna(values), bool)


def _ratings(values: np.ndarray, name: Hashable) -> np.ndarray:
    if values.dtype.kind == "O":
        values = np.where(_missing(values), np.nan, values)
        if all(isinstance(value, Real | Decimal) for value in values.tolist()):
            values = values.astype(np.float64)
    if values.dtype.kind not in "biuf":
        text = next((value for value in values.tolist() if not isinstance(value, Real | Decimal)), values[:1])
        raise DataError(f"The column {name!r} holds text such as {text!r}, but ratings are numbers; convert it.")
    _refuse_bad_ratings(values, f"The column {name!r}")
    return values.astype(np.float32)


def _refuse_bad_ratings(values: np.ndarray, where: str) -> None:
    limit = float(np.finfo(np.float32).max)
    for bad, kind in ((~np.isfinite(values), "NaN or infinite"), (np.abs(values) > limit, f"beyond ±{limit:.2g}")):
        if n := int(bad.sum()):
            raise DataError(
                f"{where} has {counted(n, 'rating')} that {be(n)} {kind}, the first at entry {int(bad.argmax())}; "
                f"correct or drop {these(n, 'rating')}."
            )


def _latest(keys: np.ndarray, times: np.ndarray | None) -> np.ndarray:
    """Indices of the rows to keep, by key: the latest row of each key, and the last of equal times."""
    order = np.argsort(keys, kind="stable") if times is None else np.lexsort((times, keys))
    following = np.append(keys[order[1:]] != keys[order[:-1]], True)
    kept: np.ndarray = order[following]
    return kept
