"""What a recommender keeps of the log, and how histories are read against it."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse

from isthmus.choices.registry import unknown
from isthmus.exceptions import DataError
from isthmus.tasks.recommendation import keeping
from isthmus.tasks.recommendation.interactions import Interactions


def is_auto(value: Any) -> bool:
    """Whether a parameter was left to the library."""
    return isinstance(value, str) and value == "auto"


class LogKeeping:
    """The part of a `Recommender` that knows users, items and what they had to do with each other."""

    feedback: str
    positive_from: float | str | None
    rating_range: Any
    log_: Interactions
    rating_range_: tuple[float, float]
    positive_from_: float | None

    def _keep(self, log: Interactions) -> None:
        self.log_ = replace(log, times=None)
        self.users_, self.items_ = log.users, log.items
        known = self._positives(log.matrix)
        self.popularity_ = np.bincount(known.indices, minlength=len(log.items)) / len(log.users)

    def _merge(self, log: Interactions, columns: np.ndarray) -> np.ndarray:
        """Put a log into what is known; gives the rows of its users."""
        new = [name for name in log.users.tolist() if name not in self.log_.user_numbers]
        users = self.log_.users if not new else keeping.joined(self.log_.users, new)
        numbers = {name: row for row, name in enumerate(users.tolist())}
        rows = np.asarray([numbers[name] for name in log.users.tolist()])
        merged = keeping.overlaid(self.log_.matrix, log.matrix, rows, columns, len(users))
        self._keep(replace(self.log_, matrix=merged, users=users, times=None))
        return rows

    @property
    def _rates(self) -> bool:
        return self.feedback == "explicit"

    def _refuse_mismatch(self, log: Interactions) -> None:
        if self._rates and not log.rated:
            raise DataError(
                "feedback='explicit' needs ratings, but the interactions have none (or all are 1); give a column "
                "rating, or use feedback='implicit'."
            )

    def _learn_range(self, log: Interactions) -> None:
        ratings = log.matrix.data
        low, high = (ratings.min(), ratings.max()) if is_auto(self.rating_range) else self.rating_range
        self.rating_range_ = (float(low), float(high))
        self._refuse_range(ratings)

    def _refuse_range(self, ratings: np.ndarray) -> None:
        low, high = self.rating_range_
        bad = (ratings < low) | (ratings > high)
        if len(ratings) and bad.any():
            raise DataError(
                f"{int(bad.sum())} ratings lie outside {low:g} to {high:g}, the first is {ratings[bad.argmax()]:g}; "
                "correct them, or fit with a wider rating_range."
            )

    def _learn_threshold(self, log: Interactions) -> float | None:
        if self._rates or not log.rated or self.positive_from is None:
            return None
        return float(np.median(log.matrix.data)) if self.positive_from == "auto" else float(self.positive_from)

    def _positives(self, matrix: Any) -> Any:
        """What the networks are given of interactions: ratings, or ones where they count as having."""
        if self._rates:
            return matrix
        kept = np.ones(matrix.nnz, bool) if self.positive_from_ is None else matrix.data >= self.positive_from_
        rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))[kept]
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=matrix.shape[0]))])
        ones = np.ones(int(kept.sum()), np.float32)
        return scipy.sparse.csr_array((ones, matrix.indices[kept], indptr), matrix.shape)

    def _column(self, item: Hashable) -> int:
        """The number of an item; an error where it is not known."""
        if item not in self.log_.item_numbers:
            raise DataError(
                f"The item {item!r} was not there at fit, and nothing is known of it; fit anew with its interactions. "
                + unknown("item", str(item), map(str, self.items_[np.argsort(-self.popularity_)[:20]].tolist()))
            )
        return self.log_.item_numbers[item]

    def _row(self, user: Hashable) -> int:
        if user not in self.log_.user_numbers:
            raise DataError(
                f"The user {user!r} was never seen; give the history instead: recommend(history=[…]), or take it in "
                "with partial_fit."
            )
        return self.log_.user_numbers[user]

    def _histories(self, users: Any, histories: Any) -> Any:
        """CSR (people, items) of what users of the log, or people with a history, have seen."""
        if histories is None:
            return self.log_.matrix if users is None else self.log_.matrix[[self._row(user) for user in users]]
        if isinstance(histories, Interactions):
            return self._of_log(histories)
        if scipy.sparse.issparse(histories):
            return self._of_matrix(histories)
        return self._of_lists(list(histories))

    def _of_log(self, log: Interactions) -> Any:
        if np.array_equal(log.items, self.items_):
            return self._of_matrix(log.matrix)
        columns = np.asarray([self._column(name) for name in log.items.tolist()])
        shape = (log.matrix.shape[0], len(self.items_))
        return scipy.sparse.csr_array((log.matrix.data, columns[log.matrix.indices], log.matrix.indptr), shape)

    def _of_matrix(self, matrix: Any) -> Any:
        if matrix.shape[1] != len(self.items_):
            raise DataError(f"The histories have {matrix.shape[1]} columns, but there are {len(self.items_)} items.")
        given = scipy.sparse.csr_array(matrix, dtype=np.float32)
        self._refuse_range(given.data)
        return given

    def _of_lists(self, histories: Sequence[Any]) -> Any:
        counts, columns, ratings = [0], list[int](), list[float]()
        for history in histories:
            rated = history if isinstance(history, Mapping) else self._unrated(history)
            columns += [self._column(item) for item in rated]
            ratings += [float(rating) for rating in rated.values()]
            counts.append(len(columns))
        parts = (np.asarray(ratings, np.float32), np.asarray(columns, np.int32), counts)
        return self._of_matrix(scipy.sparse.csr_array(parts, (len(histories), len(self.items_))))

    def _unrated(self, history: Iterable[Hashable]) -> dict[Hashable, float]:
        """Items without ratings, as if each were rated as highly as can be; a text is one item, not its letters."""
        if isinstance(history, str):
            raise TypeError(f"The history is the text {history!r}; give a list of items, or a mapping to ratings.")
        listed = list(history)
        if self._rates and listed:
            raise DataError("feedback='explicit' needs the ratings of a history; give a mapping from item to rating.")
        return dict.fromkeys(listed, self.rating_range_[1])

    def _allowed(self, wanted: Any) -> np.ndarray:
        """Which items may be recommended, (items,)."""
        if wanted is None:
            return np.ones(len(self.items_), bool)
        if callable(wanted):
            return np.asarray([bool(wanted(item)) for item in self.items_.tolist()])
        if not isinstance(wanted, Collection) or isinstance(wanted, str):
            raise TypeError(f"filter={wanted!r} must be a collection of items, or a function of an item.")
        allowed = np.zeros(len(self.items_), bool)
        allowed[[self._column(item) for item in wanted]] = True
        return allowed
