"""Reading of histories, filters and exclusions against the catalogue of a recommender."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from scipy.sparse import csr_array

from isthmus.choices.registry import unknown
from isthmus.exceptions import DataError
from isthmus.tasks.recommendation.identifiers import NameIndex, listed_names
from isthmus.tasks.recommendation.interactions import COLUMNS, Interactions, own_matrix
from isthmus.tasks.recommendation.names import TitleIndex

UNKNOWN = ("error", "ignore")


@dataclass(frozen=True)
class Histories:
    """Histories in terms of the catalogue.

    Attributes
    ----------
    matrix
        CSR (users, items).
    n_unknown
        Number of skipped items that are not in the catalogue, (users,).
    """

    matrix: csr_array
    n_unknown: np.ndarray


@dataclass(frozen=True)
class HistoryReader:
    """Converts histories to rows of the catalogue.

    Attributes
    ----------
    items
        The catalogue.
    titles
        Finds items by title.
    hints
        Returns some item names, the most popular first, for error messages.
    had
        The value of an item without a rating; None if ratings are required.
    rating_range
        Minimum and maximum value, or None.
    unknown
        ``"error"`` or ``"ignore"``: how to handle items that are not in the catalogue.
    """

    items: NameIndex
    titles: TitleIndex
    hints: Callable[[], list[str]]
    had: float | None
    rating_range: tuple[float, float] | None = None
    unknown: str = "error"

    def __post_init__(self) -> None:
        if self.unknown not in UNKNOWN:
            raise ValueError(f"unknown={self.unknown!r} must be 'error' or 'ignore'.")

    # -- items -------------------------------------------------------------------------------------------------

    def column(self, item: Any) -> int | None:
        """The index of an item by identifier or title; None for an unknown item that is ignored."""
        place = self.items.find(item)
        if place is None and isinstance(item, str):
            place = self.titles.find(item)
        if place is None and self.unknown == "error":
            near = unknown("item", str(item), self.hints()) if isinstance(item, str) else ""
            raise DataError(
                f"The item {item!r} did not occur at fit; leave it out (or pass unknown='ignore'), or fit again with "
                f"its interactions. {near}".strip()
            )
        return place

    def columns(self, items: Iterable[Any]) -> np.ndarray:
        """The indices of items, -1 for ignored items."""
        found = [self.column(item) for item in items]
        return np.asarray([-1 if place is None else place for place in found], np.int64)

    # -- histories ---------------------------------------------------------------------------------------------

    def read(self, histories: Any) -> Histories:
        """Histories of several users: `Interactions`, a matrix (users, items), or a collection of histories."""
        if isinstance(histories, Interactions):
            return self._of_log(histories)
        if scipy.sparse.issparse(histories):
            return self._of_matrix(histories)
        if hasattr(histories, "columns"):
            raise DataError(
                "The histories are a frame; pass isthmus.read_interactions(frame), whose attribute users has the "
                "identifiers of the rows, or a list with one history per user."
            )
        histories = _as_array(histories)
        if isinstance(histories, np.ndarray) and histories.dtype.kind in "biufc":
            return self._of_matrix(self._rows_of(histories, "histories"))
        if isinstance(histories, Mapping | str | bytes | set | frozenset) or not hasattr(histories, "__iter__"):
            raise DataError(
                f"The histories are a {type(histories).__name__}, but a list with one history per user, or a "
                "matrix (users, items), is needed; for one user: [history]."
            )
        return self._stacked([self._one(history) for history in histories])

    def read_one(self, history: Any) -> Histories:
        """The history of one user: items, a mapping from item to rating, a mask or a row of a matrix."""
        return self._stacked([self._one(history)])

    def _stacked(self, rows: list[tuple[dict[int, float], int]]) -> Histories:
        counts = np.cumsum([0, *(len(row) for row, _ in rows)])
        columns = np.asarray([column for row, _ in rows for column in sorted(row)], np.int32)
        values = np.asarray([row[column] for row, _ in rows for column in sorted(row)], np.float32)
        matrix = scipy.sparse.csr_array((values, columns, counts), (len(rows), len(self.items.names)))
        refuse_range(matrix.data, self.rating_range)
        return Histories(matrix, np.asarray([lost for _, lost in rows], np.int64))

    def _one(self, history: Any) -> tuple[dict[int, float], int]:
        """The value of each item of a history by index, and the number of unknown items."""
        if isinstance(history, str):
            raise TypeError(f"The history is the string {history!r}; pass a list of items, or a mapping to ratings.")
        if scipy.sparse.issparse(history):
            row: Any = history
            return self._of_row(row.reshape(1, -1).tocsr())
        if hasattr(history, "columns"):
            history = _mapping_of(history)
        if isinstance(history, Mapping):
            return self._of_pairs(history.items())
        array = _as_array(history)
        if isinstance(array, np.ndarray) and array.dtype.kind in "biufc":
            if array.ndim != 1 or array.dtype.kind == "b":
                return self._of_row(self._rows_of(np.atleast_2d(array), "history"))
            self._refuse_row_of_numbers(array.tolist(), array.dtype.kind == "f")
        if not hasattr(array, "__iter__"):
            raise DataError(f"The history {history!r} is not a list of items; for one item: [{history!r}].")
        listed = array.tolist() if isinstance(array, np.ndarray) else list(array)
        if bool not in self.items.kinds and any(isinstance(item, bool | np.bool_) for item in listed):
            return self._of_row(self._rows_of(np.atleast_2d(np.asarray(listed)), "history"))
        self._refuse_row_of_numbers(listed, are_floats=False)
        if self.had is None and listed:
            raise DataError("feedback='explicit' needs the ratings of a history; pass a mapping from item to rating.")
        return self._of_pairs((item, self.had) for item in listed)

    def _of_pairs(self, pairs: Iterable[tuple[Any, Any]]) -> tuple[dict[int, float], int]:
        found, lost = dict[int, float](), 0
        for item, rating in pairs:
            place = self.column(item)
            if place is None:
                lost += 1
            elif rating is not False:
                found[place] = self._rating(item, rating)
        return found, lost

    def _rating(self, item: Any, rating: Any) -> float:
        if rating is True and self.had is not None:
            return self.had
        try:
            value = float(rating) if not isinstance(rating, str) else np.nan
        except (TypeError, ValueError):
            value = np.nan
        if not np.isfinite(value):
            raise DataError(f"The rating of {item!r} is {rating!r}, but a finite number is needed.")
        return value

    def _refuse_row_of_numbers(self, listed: list[Any], are_floats: bool) -> None:
        """Raise for numbers that may be a row of a matrix: as many as there are items, repeated or only 0 and 1."""
        numbers = [value for value in listed if isinstance(value, int | float | np.number)]
        width = len(self.items.names)
        alike = len(set(numbers)) < len(numbers) or set(numbers) <= {0, 1}
        wide = len(numbers) == len(listed) == width and alike and width > 1
        if wide or (are_floats and listed and float not in self.items.kinds):
            raise DataError(
                f"The history has {len(listed)} numbers, which may be identifiers of items or a row of a matrix with "
                f"{width} columns. Pass a list of identifiers; for a row, reshape(1, -1), or values > 0 for a mask."
            )

    def _rows_of(self, array: np.ndarray, what: str) -> csr_array:
        """A dense array (users, items) as CSR; NaN and 0 are not entries."""
        width = len(self.items.names)
        if array.ndim != 2 or array.shape[1] != width or array.dtype.kind == "c":
            raise DataError(
                f"The {what} are an array of shape {array.shape}, but a matrix needs a column for each of the {width} "
                "items; pass identifiers of items as lists."
            )
        dense = array if array.dtype.kind != "f" else np.nan_to_num(array, nan=0.0, posinf=np.inf, neginf=-np.inf)
        return scipy.sparse.csr_array(dense)

    def _of_row(self, row: Any) -> tuple[dict[int, float], int]:
        given = self._of_matrix(row).matrix
        if given.shape[0] != 1:
            raise DataError(f"The history has {given.shape[0]} rows; pass several users to recommend_batch.")
        return dict(zip(given.indices.tolist(), given.data.tolist(), strict=True)), 0

    def _of_matrix(self, matrix: Any) -> Histories:
        width = len(self.items.names)
        if matrix.ndim != 2 or matrix.shape[1] != width:
            raise DataError(
                f"The histories have {matrix.shape[-1]} columns, but there are {width} items; pass one column per item."
            )
        given = own_matrix(matrix)
        if not np.isfinite(given.data).all():
            raise DataError("The histories have ratings that are NaN or infinite; leave these entries out.")
        says_had = matrix.dtype.kind == "b"
        if says_had and self.had is None:
            raise DataError("feedback='explicit' needs the ratings of a history; pass a matrix of ratings.")
        if says_had:
            given.data[:] = self.had
        elif self.had is not None and self.had > 1 and given.nnz and (given.data == 1).all():
            raise DataError(
                f"All values of the histories are 1, but only ratings from {self.had:g} are positive; pass booleans "
                "(X > 0) if they mark the items of a user, or a mapping from item to rating for each user."
            )
        refuse_range(given.data, self.rating_range)
        return Histories(given, np.zeros(given.shape[0], np.int64))

    def _of_log(self, log: Interactions) -> Histories:
        """Convert a log by item identifiers; a log without ratings marks the items of each user."""
        columns = self.columns(log.items.tolist())
        values = log.matrix.data.copy()
        if not log.rated and self.had is not None:
            values[:] = self.had
        rows = np.repeat(np.arange(log.matrix.shape[0]), np.diff(log.matrix.indptr))
        places = columns[log.matrix.indices]
        known = places >= 0
        shape = (log.matrix.shape[0], len(self.items.names))
        matrix = scipy.sparse.csr_array((values[known], (rows[known], places[known])), shape)
        refuse_range(matrix.data, self.rating_range)
        return Histories(matrix, np.bincount(rows[~known], minlength=shape[0]))

    # -- filters -----------------------------------------------------------------------------------------------

    def mask(self, wanted: Any, what: str = "filter") -> np.ndarray:
        """The items selected by a filter, (items,): identifiers, titles, a mask, or a function of an item."""
        width = len(self.items.names)
        if callable(wanted):
            return np.asarray([bool(wanted(item)) for item in self.items.names.tolist()], bool)
        if isinstance(wanted, str | bytes) or not hasattr(wanted, "__iter__") or scipy.sparse.issparse(wanted):
            raise TypeError(
                f"{what}={wanted!r} must be a collection of items, a boolean mask of all items, or a function of an "
                "item."
            )
        if hasattr(wanted, "columns"):
            raise DataError(f"{what} is a frame; pass its column of items.")
        if hasattr(wanted, "index") and hasattr(wanted, "dtype") and wanted.dtype == bool:
            return self._mask_by_names(wanted, what)
        array = _as_array(wanted)
        listed = array.tolist() if isinstance(array, np.ndarray) else list(array)
        if bool not in self.items.kinds and any(isinstance(item, bool | np.bool_) for item in listed):
            if len(listed) != width or not all(isinstance(item, bool | np.bool_) for item in listed):
                raise DataError(
                    f"{what} is a mask of {len(listed)} booleans, but there are {width} items; pass one per item."
                )
            return np.asarray(listed, bool)
        if isinstance(array, np.ndarray) and array.ndim != 1:
            raise DataError(f"{what} has shape {array.shape}, but one dimension is needed: items, or a mask of all.")
        if len(listed) == width and width > 1 and len(set(map(str, listed))) < len(listed):
            raise DataError(
                f"{what} has {len(listed)} values with repetitions, as many as there are items; pass each item once, "
                "or booleans (values > 0) for a mask."
            )
        chosen = np.zeros(width, bool)
        places = self.columns(listed)
        chosen[places[places >= 0]] = True
        return chosen

    def _mask_by_names(self, mask: Any, what: str) -> np.ndarray:
        """A pandas mask, aligned by its index."""
        by_column = {self.items.find(name): bool(value) for name, value in mask.items()}
        missing = [name for place, name in enumerate(self.items.names.tolist()) if place not in by_column]
        if missing:
            raise DataError(
                f"{what} is a mask whose index lacks {len(missing)} items ({listed_names(missing)}); use the items as "
                f"its index, or pass {what}.to_numpy() in the order of items_."
            )
        return np.asarray([by_column[place] for place in range(len(self.items.names))], bool)


def refuse_range(ratings: np.ndarray, rating_range: tuple[float, float] | None) -> None:
    """Raise if a rating lies outside the range, compared as float32."""
    if rating_range is None:
        return
    low, high = rating_range
    bad = (ratings < np.float32(low)) | (ratings > np.float32(high))
    if bad.any():
        raise DataError(
            f"{int(bad.sum())} ratings lie outside {low:g} to {high:g}, the first is {ratings[bad.argmax()]:g}; "
            "correct them, or fit with a wider rating_range."
        )


def _as_array(values: Any) -> Any:
    """Convert series and tensors to arrays; other values are unchanged."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    if hasattr(values, "to_numpy"):
        return np.asarray(values.to_numpy())
    return values.numpy() if hasattr(values, "numpy") else values


def _mapping_of(frame: Any) -> Any:
    """A frame with the items of one user as a mapping to ratings, or as a list."""
    by_name: dict[str, Hashable] = {str(name).casefold(): name for name in frame.columns}
    item, rating = (next((by_name[n] for n in COLUMNS[role] if n in by_name), None) for role in ("item", "rating"))
    if item is None or any(name in by_name for name in COLUMNS["user"]):
        raise DataError(
            f"The history is a frame with the columns {', '.join(map(repr, by_name))}, but the items of one user are "
            "needed: a column item (and rating). For several users pass read_interactions(frame) to recommend_batch."
        )
    items = frame[item].to_numpy().tolist()
    return items if rating is None else dict(zip(items, frame[rating].to_numpy().tolist(), strict=True))
