"""Results of a fitted recommender: recommendations, predictions, similar items and users."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
from scipy.sparse import csr_array
from sklearn.utils.validation import check_is_fitted

from isthmus.choices.rules import Whole
from isthmus.exceptions import DataError
from isthmus.tasks.recommendation.answers import Recommendations
from isthmus.tasks.recommendation.fitted import FittedRecommender, block_size, blocks
from isthmus.tasks.recommendation.histories import Histories, HistoryReader
from isthmus.tasks.recommendation.names import find_title
from isthmus.tasks.similarity import nearest

Method = TypeVar("Method", bound=Callable[..., Any])


def n_may_come_first(method: Method) -> Method:
    """Accept an integer in place of the users as n, as in isthmus 0.1: ``recommend_batch(5, users=["ann"])``."""

    @wraps(method)
    def either(self: object, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and isinstance(args[0], int | np.integer) and "n" not in kwargs:
            return method(self, n=args[0], **kwargs)
        return method(self, *args, **kwargs)

    return cast("Method", either)


class Answering:
    """The inference part of a `Recommender`; it does not change the fitted state."""

    fitted_: FittedRecommender

    # -- recommending ----------------------------------------------------------------------------------------------

    def recommend(
        self,
        user: Hashable = None,
        n: int = 10,
        *,
        history: Any = None,
        exclude_seen: bool = True,
        filter: Any = None,  # noqa: A002  # what it does
        exclude: Any = None,
        unknown: str = "error",
    ) -> Recommendations:
        """The best items for one user, or for a history.

        Parameters
        ----------
        user
            A user of the log; the string ``"3"`` also finds the user 3.
        n
            Number of items, >= 1; if fewer are left, all are returned. Items without users are never recommended.
        history
            Instead of a user: a list of items or titles, a mapping from item to rating, a boolean mask of all items, or
            a row of a matrix. The result is that of a user with this history in the log, without training; an empty
            history gives the most popular items.
        exclude_seen
            Whether to exclude items that the user has seen.
        filter
            Recommend only these: a collection of items or titles, a boolean mask of all items, or a function of an item
            that returns a boolean. It does not change the scores.
        exclude
            Never recommend these; in the same forms as `filter`.
        unknown
            How to handle items in `history`, `filter` and `exclude` that did not occur at `fit`: ``"error"`` or
            ``"ignore"``; ``n_unknown`` of the result counts the ignored items of the history.

        Raises
        ------
        DataError
            The user or an item is unknown, a rating is out of range, or an array is ambiguous.
        """
        if (user is None) == (history is None):
            raise ValueError("Exactly one of user and history is needed, but got both or neither; pass one of them.")
        check_is_fitted(self, "fitted_")
        reader = self.fitted_.reader(unknown)
        seen = (
            self.fitted_.of_rows(np.asarray([self.fitted_.row(user)])) if history is None else reader.read_one(history)
        )
        return self._answers(seen, at_least_one(n), exclude_seen, self._allowed(reader, filter, exclude))[0]

    @n_may_come_first
    def recommend_batch(
        self,
        users: Any = None,
        n: int = 10,
        *,
        histories: Any = None,
        exclude_seen: bool = True,
        filter: Any = None,  # noqa: A002  # what it does
        exclude: Any = None,
        unknown: str = "error",
    ) -> list[Recommendations]:
        """The best items for many users, in the given order.

        Parameters
        ----------
        users
            Users of the log, or a boolean mask of `users_`; None: all. An integer alone is n.
        n, exclude_seen, filter, exclude, unknown
            As for `recommend`.
        histories
            Instead of users, a list with one history per user, a matrix (users, items), dense or sparse, or
            `Interactions`.
        """
        check_is_fitted(self, "fitted_")
        seen = self.fitted_.histories(users, histories, unknown)
        allowed = self._allowed(self.fitted_.reader(unknown), filter, exclude)
        return self._answers(seen, at_least_one(n), exclude_seen, allowed)

    def _answers(self, seen: Histories, n: int, exclude_seen: bool, allowed: np.ndarray) -> list[Recommendations]:
        found = [
            answer for block in blocks(seen.matrix) for answer in self.fitted_.best(block, n, exclude_seen, allowed)
        ]
        return [
            Recommendations(self.fitted_.log.items[items], scores, popular, self._titles_of(items), int(missed))
            for (items, scores, popular), missed in zip(found, seen.n_unknown, strict=True)
        ]

    def rank(self, histories: Any, n: int = 10, *, exclude_seen: bool = True, unknown: str = "error") -> np.ndarray:
        """Indices into `items_` of the best items for each history, (users, n), padded with -1.

        The fast form of `recommend_batch`, which returns only arrays; its parameters are those of `recommend_batch`.
        """
        check_is_fitted(self, "fitted_")
        return self.fitted_.lists(
            self.fitted_.histories(None, histories, unknown).matrix, at_least_one(n), exclude_seen
        )

    def _allowed(self, reader: HistoryReader, wanted: Any, unwanted: Any) -> np.ndarray:
        """Which items may be recommended, (items,)."""
        allowed = np.ones(len(self.fitted_.log.items), bool) if wanted is None else reader.mask(wanted)
        return allowed if unwanted is None else allowed & ~reader.mask(unwanted, "exclude")

    def _titles_of(self, items: np.ndarray) -> np.ndarray | None:
        if not self.fitted_.titles:
            return None
        titles = np.empty(len(items), object)
        titles[:] = [self.fitted_.titles.get(name, str(name)) for name in self.fitted_.log.items[items].tolist()]
        return titles

    def predict(self, users: Any, items: Any, *, unknown: str = "error") -> np.ndarray:
        """Predictions for pairs of users and items: (n,) users and (n,) items → (n,).

        The predicted rating, in rating units; for implicit feedback the score of `recommend`, in [0, 1], which sums to
        1 over the whole catalogue for each user and is 0 for items without users.

        Parameters
        ----------
        users, items
            Identifiers, one item per user; titles are accepted too.
        unknown
            ``"ignore"``: NaN for items that did not occur at `fit`.
        """
        check_is_fitted(self, "fitted_")
        for what, given in (("users", users), ("items", items)):
            if isinstance(given, str) or not hasattr(given, "__iter__") or getattr(given, "ndim", 1) != 1:
                raise DataError(
                    f"{what}={given!r} must be a list of identifiers; for one pair: predict([user], [item])."
                )
        names, columns = list(users), self.fitted_.reader(unknown).columns(list(items))
        if len(names) != len(columns):
            raise ValueError(f"There are {len(names)} users and {len(columns)} items; pass one item for each user.")
        rows, place = np.unique(np.asarray([self.fitted_.row(user) for user in names], np.int64), return_inverse=True)
        answer = np.full(len(names), np.nan)
        size = block_size(len(self.fitted_.log.items))
        for start in range(0, len(rows), size):
            scores = self.fitted_.scores(self.fitted_.log.matrix[rows[start : start + size]])
            for pair in np.flatnonzero((place >= start) & (place < start + size) & (columns >= 0)):
                row = scores[place[pair] - start]
                answer[pair] = self.fitted_.shown(row[columns[pair : pair + 1]], row)[0]
        return answer

    def predict_held(self, given: Any, held: Any) -> np.ndarray:
        """Predictions for the entries of held-out histories, given other histories of the same users: (entries,).

        Both are matrices (users, items) or lists with the same users in each row; `evaluate_recommender` matches names.
        """
        check_is_fitted(self, "fitted_")
        known, asked = self.fitted_.histories(None, given).matrix, self.fitted_.histories(None, held).matrix
        if known.shape != asked.shape:
            raise DataError(f"given has {known.shape[0]} users and held {asked.shape[0]}; pass the same users in both.")
        return self.fitted_.predicted(known, asked)

    def relevant(self, histories: Any, *, unknown: str = "error") -> csr_array:
        """The positive interactions of histories, CSR (users, items): the targets of an evaluation."""
        check_is_fitted(self, "fitted_")
        return self.fitted_.positives(self.fitted_.histories(None, histories, unknown).matrix)

    # -- similar items and users -----------------------------------------------------------------------------------

    def similar_items(self, item: Hashable, n: int = 10, *, filter: Any = None, exclude: Any = None) -> Recommendations:  # noqa: A002
        """The items with the most similar vectors in `item_embeddings_`, with their cosines.

        Parameters
        ----------
        item
            The identifier or title of an item.
        n
            Number of items, >= 1. Items without users are never included.
        filter, exclude
            As for `recommend`.

        Returns
        -------
        Recommendations
            For an item without users: the most popular items, with cosines of 0 and ``by_popularity=True``.
        """
        check_is_fitted(self, "fitted_")
        if hasattr(item, "__iter__") and not isinstance(item, str | bytes | tuple):
            raise DataError(f"item is a {type(item).__name__}; pass one item, or several to similar_items_batch.")
        return self.similar_items_batch([item], n, filter=filter, exclude=exclude)[0]

    def similar_items_batch(
        self, items: Any, n: int = 10, *, filter: Any = None, exclude: Any = None  # noqa: A002
    ) -> list[Recommendations]:  # fmt: skip
        """As `similar_items`, for several items, in the given order."""
        check_is_fitted(self, "fitted_")
        if isinstance(items, str | bytes) or not hasattr(items, "__iter__"):
            raise DataError(f"items={items!r} is one item; pass a list, or call similar_items.")
        reader, n = self.fitted_.reader(), at_least_one(n)
        places = reader.columns(items.tolist() if hasattr(items, "tolist") else items)
        known = np.flatnonzero((self.fitted_.popularity > 0) & self._allowed(reader, filter, exclude))
        by_popularity = known[np.argsort(-self.fitted_.popularity[known], kind="stable")]
        vectors = self.item_embeddings_
        answers = []
        for place, (others, cosines) in zip(places, _others(vectors, vectors[places], known, places, n), strict=True):
            blank = self.fitted_.popularity[place] == 0
            found = by_popularity[by_popularity != place][:n] if blank else others
            values = np.zeros(len(found), cosines.dtype) if blank else cosines
            answers.append(Recommendations(self.fitted_.log.items[found], values, bool(blank), self._titles_of(found)))
        return answers

    def similar_users(self, user: Hashable = None, n: int = 10, *, history: Any = None) -> Recommendations:
        """The users of the log with the most similar codes, with their cosines.

        Parameters
        ----------
        user, n, history
            As for `recommend`; the user is not included. Users without positive interactions are never included, and
            have an empty result.

        Returns
        -------
        Recommendations
            Its ``items`` are users.
        """
        if (user is None) == (history is None):
            raise ValueError("Exactly one of user and history is needed, but got both or neither; pass one of them.")
        check_is_fitted(self, "fitted_")
        row = np.asarray([-1 if history is not None else self.fitted_.row(user)])
        query = self.user_embeddings(histories=[history]) if history is not None else self.user_embeddings([user])
        codes = self.fitted_.user_codes
        known = np.flatnonzero(codes.any(axis=1)) if query.any() else np.empty(0, np.int64)
        others, cosines = _others(codes, query, known, row, at_least_one(n))[0]
        return Recommendations(self.fitted_.log.users[others], cosines, not query.any())

    @property
    def item_embeddings_(self) -> np.ndarray:
        """A vector for each item, (items, width): its centred weights in the decoder's last layer.

        Zero for items without users.
        """
        check_is_fitted(self, "fitted_")
        return self.fitted_.item_embeddings

    def user_embeddings(self, users: Any = None, *, histories: Any = None, unknown: str = "error") -> np.ndarray:
        """The codes of users of the log (None: all), or of histories, (users, code_size); zero for empty histories.

        Parameters
        ----------
        users, histories, unknown
            As for `recommend_batch`.
        """
        check_is_fitted(self, "fitted_")
        return self.fitted_.codes(self.fitted_.histories(users, histories, unknown).matrix)

    def find(self, title: str) -> Hashable:
        """The item with the best match to a title; case, accents, articles and the year may differ."""
        check_is_fitted(self, "fitted_")
        ranked = self.fitted_.log.items[np.argsort(-self.fitted_.popularity, kind="stable")].tolist()
        return find_title(title, self.fitted_.titles or {item: str(item) for item in ranked}, ranked)


def _others(
    vectors: np.ndarray, queries: np.ndarray, among: np.ndarray, places: np.ndarray, n: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Indices and cosines of the nearest rows for each query, excluding the query itself."""
    if not len(among):
        return [(np.empty(0, np.int64), np.empty(0, np.float32)) for _ in places]
    whole = len(among) == len(vectors)  # avoids a copy of all vectors
    found, cosines = nearest(vectors if whole else vectors[among], queries, n + 1)
    numbers = among[found]
    kept = [numbers[row] != place for row, place in enumerate(places)]
    return [(numbers[row][keep][:n], cosines[row][keep][:n]) for row, keep in enumerate(kept)]


def at_least_one(n: Any) -> int:
    """Return n as an integer >= 1, or raise an error."""
    if not Whole(1).admits(n):
        raise ValueError(f"n={n!r} must be an integer >= 1.")
    return int(n)
