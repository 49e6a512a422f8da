"""The stored log of a recommender, and lookups of users, items and histories in it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import numpy as np

from isthmus.exceptions import DataError
from isthmus.tasks.recommendation import persistence
from isthmus.tasks.recommendation.histories import Histories, HistoryReader, refuse_range
from isthmus.tasks.recommendation.identifiers import refuse_alike
from isthmus.tasks.recommendation.interactions import Interactions
from isthmus.tasks.recommendation.liking import Liking, chosen, learn_liking, without_zeros
from isthmus.tasks.recommendation.names import TitleIndex


def is_auto(value: Any) -> bool:
    """Whether a parameter has the value ``"auto"``."""
    return isinstance(value, str) and value == "auto"


class LogKeeping:
    """The part of a `Recommender` that stores users, items and their interactions."""

    feedback: str
    positive_from: float | str | None
    rating_range: Any
    log_: Interactions
    feedback_: str
    rating_range_: tuple[float, float] | None
    liking_: Liking
    titles_: dict[Hashable, str]

    def _keep(self, log: Interactions) -> None:
        if self.liking_.drops_zeros and not self._rates:
            log = replace(log, matrix=without_zeros(log.matrix)[0])
        self.log_ = replace(log, times=None)
        self.users_, self.items_ = log.users, log.items
        known = self._positives(log.matrix)
        self.popularity_ = np.bincount(known.indices, minlength=len(log.items)) / len(log.users)

    def _merge(self, log: Interactions, columns: np.ndarray) -> np.ndarray:
        """Merge a log into the stored one; returns the rows of its users."""
        index = self.log_.user_index
        new = [index.as_ours(name) for name in log.users.tolist() if index.find(name) is None]
        refuse_alike([*self.users_.tolist(), *new] if new else [], index.kinds | set(map(type, new)))
        users = self.log_.users if not new else persistence.joined(self.log_.users, new)
        grown = replace(self.log_, users=users)
        rows = np.asarray([grown.user_index.find(name) for name in log.users.tolist()], np.int64)
        merged = persistence.overlaid(self.log_.matrix, log.matrix, rows, columns, len(users))
        self._keep(replace(grown, matrix=merged, times=None))
        return rows

    @property
    def _rates(self) -> bool:
        """Whether the model predicts ratings, as set at `fit`."""
        return bool(getattr(self, "feedback_", self.feedback) == "explicit")

    @property
    def positive_from_(self) -> float | None:
        """Lowest value of a positive interaction; None if every interaction is positive, or for explicit feedback."""
        return self.liking_.positive_from

    def _refuse_mismatch(self, log: Interactions) -> None:
        if self._rates and not log.rated:
            raise DataError(
                "feedback='explicit' needs ratings, but the interactions have none (or all are 1); add a column "
                "rating, or use feedback='implicit'."
            )

    def _learn_range(self, log: Interactions) -> None:
        """Set the range of ratings; implicit feedback has no range unless one is requested."""
        ratings = log.matrix.data
        self.rating_range_ = None
        if not is_auto(self.rating_range):
            self.rating_range_ = (float(self.rating_range[0]), float(self.rating_range[1]))
        elif self._rates:
            self.rating_range_ = (float(ratings.min()), float(ratings.max()))
        refuse_range(ratings, self.rating_range_)

    def _learn_liking(self, log: Interactions) -> Liking:
        asked = None if self._rates else self.positive_from
        return learn_liking(log.matrix.data, log.rated, log.counted, asked)

    def _positives(self, matrix: Any) -> Any:
        """The input of the networks: ratings, or ones for positive interactions."""
        if self._rates:
            return matrix
        known = chosen(matrix, self.liking_.counted(matrix.data))
        known.data[:] = 1.0
        return known

    # -- reading inputs --------------------------------------------------------------------------------------------

    @property
    def _title_index(self) -> TitleIndex:
        made = self.__dict__.get("_titles_found")
        if made is None or made.titles is not self.titles_:
            made = self.__dict__["_titles_found"] = TitleIndex(self.titles_, self.log_.item_index)
        return made  # type: ignore[no-any-return]

    def _reader(self, unknown: str = "error") -> HistoryReader:
        return HistoryReader(
            self.log_.item_index,
            self._title_index,
            lambda: [str(name) for name in self.items_[np.argsort(-self.popularity_, kind="stable")[:20]].tolist()],
            None if self._rates else self._had(),
            self.rating_range_,
            unknown,
        )

    def _had(self) -> float:
        """The value of an item in a history without ratings."""
        highest = np.inf if self.rating_range_ is None else self.rating_range_[1]
        return min(self.liking_.had, highest)

    def _row(self, user: Any) -> int:
        """The row of a user of the log."""
        row = None if _is_many(user) else self.log_.user_index.find(user)
        if row is None and _is_many(user):
            raise DataError(
                f"user is a {type(user).__name__}, but the identifier of one user is needed; pass several to "
                "recommend_batch, and users who are not in the log as history= or histories=."
            )
        if row is None:
            near = self._near_users(user)
            raise DataError(
                f"The user {user!r} is not in the log; pass a history instead, recommend(history=[…]), or add the user "
                f"with partial_fit. {near}".strip()
            )
        return row

    def _near_users(self, user: Any) -> str:
        """An example of an identifier, if the requested one has another type."""
        if not len(self.users_) or type(user) in self.log_.user_index.kinds:
            return ""
        first = self.users_[:1].tolist()[0]
        return f"Users have identifiers such as {first!r} ({type(first).__name__})."

    def _rows(self, users: Any) -> np.ndarray:
        """The rows of users of the log, by identifiers or a boolean mask of all; None: all."""
        n_users = len(self.users_)
        if users is None:
            return np.arange(n_users)
        if isinstance(users, str | bytes | set | frozenset) or hasattr(users, "columns") or not _is_many(users):
            raise DataError(
                f"users is {_kind(users)}, but a list of users is needed; for one: [user], or recommend(user)."
            )
        if hasattr(users, "to_numpy"):
            users = users.to_numpy()
        if hasattr(users, "ndim") and users.ndim != 1:
            raise DataError(
                f"users has shape {users.shape}, but a list of users is needed; pass rows of a matrix as histories=."
            )
        listed = users.tolist() if isinstance(users, np.ndarray) else list(users)
        if listed and all(isinstance(user, bool) for user in listed) and bool not in self.log_.user_index.kinds:
            if len(listed) != n_users:
                raise DataError(f"users is a mask of {len(listed)} booleans, but there are {n_users} users.")
            return np.flatnonzero(listed)
        return np.asarray([self._row(user) for user in listed], np.int64)

    def _histories(self, users: Any, histories: Any, unknown: str = "error") -> Histories:
        """Histories of users of the log, or the given histories."""
        if users is not None and histories is not None:
            raise ValueError("users and histories are both given, but only one is allowed; pass one of them.")
        return self._of_rows(self._rows(users)) if histories is None else self._reader(unknown).read(histories)

    def _of_rows(self, rows: np.ndarray) -> Histories:
        """Histories of users of the log."""
        return Histories(self.log_.matrix[rows], np.zeros(len(rows), np.int64))


def _is_many(value: Any) -> bool:
    """Whether a value is a collection; strings and tuples are identifiers."""
    return (hasattr(value, "__iter__") and not isinstance(value, str | bytes | tuple)) or hasattr(value, "nnz")


def _kind(value: Any) -> str:
    return repr(value) if not _is_many(value) else f"a {type(value).__name__}"
