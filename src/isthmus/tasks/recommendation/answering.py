"""Results of a fitted recommender: recommendations, predictions, similar items and users."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from isthmus.choices.rules import Whole
from isthmus.estimators import Autoencoder
from isthmus.exceptions import DataError
from isthmus.tasks.recommendation.answers import Recommendations
from isthmus.tasks.recommendation.biases import Biases, Histories
from isthmus.tasks.recommendation.ease import ShallowPath
from isthmus.tasks.recommendation.factors import Factors
from isthmus.tasks.recommendation.histories import Histories as Given
from isthmus.tasks.recommendation.histories import HistoryReader
from isthmus.tasks.recommendation.log import LogKeeping
from isthmus.tasks.recommendation.names import find_title
from isthmus.tasks.recommendation.ranking import top_n
from isthmus.tasks.similarity import nearest

DEEP_SHARE, FACTORS_SHARE = 0.1, 0.4
"""Weights in predicted ratings. Least squares gave the autoencoder 0.07 and 0.00 on two logs; 0.1 keeps its vectors."""
BLOCK_BYTES = 16 * 2**20
"""Size of a block of scores, as float32."""

Method = TypeVar("Method", bound=Callable[..., Any])


def n_may_come_first(method: Method) -> Method:
    """Accept an integer in place of the users as n, as in isthmus 0.1: ``recommend_batch(5, users=["ann"])``."""

    @wraps(method)
    def either(self: object, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and isinstance(args[0], int | np.integer) and "n" not in kwargs:
            return method(self, n=args[0], **kwargs)
        return method(self, *args, **kwargs)

    return cast("Method", either)


class Answering(LogKeeping):
    """The inference part of a `Recommender`; it does not change the fitted state."""

    model_: Autoencoder
    biases_: Biases | None
    factors_: Factors | None
    path_: ShallowPath | None
    path_weight_: float

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
            raise ValueError("Give either a user or a history, not both and not neither.")
        check_is_fitted(self, "model_")
        reader = self._reader(unknown)
        seen = self._of_rows(np.asarray([self._row(user)])) if history is None else reader.read_one(history)
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
        check_is_fitted(self, "model_")
        seen = self._histories(users, histories, unknown)
        allowed = self._allowed(self._reader(unknown), filter, exclude)
        return self._answers(seen, at_least_one(n), exclude_seen, allowed)

    def _answers(self, seen: Given, n: int, exclude_seen: bool, allowed: np.ndarray) -> list[Recommendations]:
        found = [answer for block in blocks(seen.matrix) for answer in self._best(block, n, exclude_seen, allowed)]
        return [
            Recommendations(self.items_[items], scores, popular, self._titles_of(items), int(missed))
            for (items, scores, popular), missed in zip(found, seen.n_unknown, strict=True)
        ]

    def rank(self, histories: Any, n: int = 10, *, exclude_seen: bool = True, unknown: str = "error") -> np.ndarray:
        """Indices into `items_` of the best items for each history, (users, n), padded with -1.

        The fast form of `recommend_batch`, which returns only arrays; its parameters are those of `recommend_batch`.
        """
        check_is_fitted(self, "model_")
        return self._lists(self._histories(None, histories, unknown).matrix, at_least_one(n), exclude_seen)

    def _lists(self, seen: Any, n: int, exclude_seen: bool = True) -> np.ndarray:
        parts = [top_n(self._scores(part), n, exclude=part if exclude_seen else None) for part in blocks(seen)]
        return np.concatenate([np.empty((0, n), np.int64), *parts])

    def _allowed(self, reader: HistoryReader, wanted: Any, unwanted: Any) -> np.ndarray:
        """Which items may be recommended, (items,)."""
        allowed = np.ones(len(self.items_), bool) if wanted is None else reader.mask(wanted)
        return allowed if unwanted is None else allowed & ~reader.mask(unwanted, "exclude")

    def _best(
        self, seen: Any, n: int, exclude_seen: bool, allowed: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
        """For each user the indices of the best items, their scores, and whether they are ranked by popularity."""
        scores = self._scores(seen)
        ranked = scores if allowed.all() else np.where(allowed, scores, -np.inf)
        best = top_n(ranked, n, exclude=seen if exclude_seen else None)
        unknown_to_us = np.diff(self._positives(seen).indptr) == 0
        for row, places in enumerate(best):
            items = places[places >= 0]
            yield items, self._shown(scores[row, items], scores[row]), bool(unknown_to_us[row])

    def _titles_of(self, items: np.ndarray) -> np.ndarray | None:
        if not self.titles_:
            return None
        titles = np.empty(len(items), object)
        titles[:] = [self.titles_.get(name, str(name)) for name in self.items_[items].tolist()]
        return titles

    # -- scores ----------------------------------------------------------------------------------------------------

    def _shown(self, values: np.ndarray, row: np.ndarray) -> np.ndarray:
        """Scores for users: predicted ratings, or a softmax over the whole catalogue.

        The normalisation ignores filters and seen items, so `predict` and `recommend` give equal scores for a pair.
        """
        if self._rates:
            return values.astype(np.float64)
        highest = row.max(initial=-np.inf)
        scores: np.ndarray = np.exp(values - highest, dtype=np.float64) / np.exp(row - highest, dtype=np.float64).sum()
        return scores

    def _scores(self, seen: Any) -> np.ndarray:
        """Scores for a block of histories, (users, items): ratings, or log-scores up to a constant."""
        given = self._positives(seen)
        output = self._deep(given)
        untrained = self.popularity_ == 0
        rest = given if self.biases_ is None else self.biases_.residuals(given)
        if self.biases_ is not None:
            output[:, untrained] = 0.0  # unrated items get the mean instead of a random output
        if self.factors_ is not None:
            output *= DEEP_SHARE
            output += FACTORS_SHARE * self.factors_.predict(rest)
        if self.path_ is not None:
            self.path_.add_to(output, rest, self.path_weight_)
        if self.biases_ is not None:
            output += (self.biases_.mean + self.biases_.items)[None] + self.biases_.of_users(given)[:, None]
            output.clip(*self._bounds(), out=output)
        else:
            output[:, untrained] = -np.inf  # the network was never trained on items without users
        output[np.diff(given.indptr) == 0] = self._popular()
        return output

    def _bounds(self) -> tuple[float, float]:
        return (-np.inf, np.inf) if self.rating_range_ is None else self.rating_range_

    @torch.inference_mode()
    def _deep(self, given: Any) -> np.ndarray:
        """Decoder outputs for histories, before the softmax: (users, items)."""
        objective = self.model_.objective_
        rows = torch.from_numpy(self._source(given).read(slice(None))).to(self.model_.device_)
        output: np.ndarray = objective.decoder(objective.encode(rows)).cpu().numpy()
        return output

    def _source(self, known: Any) -> Histories:
        if self.biases_ is None:
            return Histories(known)
        return Histories(self.biases_.residuals(known), np.nan)

    def _popular(self) -> np.ndarray:
        """The scores for an empty history, (items,)."""
        if self.biases_ is None:
            with np.errstate(divide="ignore"):
                return np.log(self.popularity_)
        return np.clip(self.biases_.mean + self.biases_.items, *self._bounds())

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
        check_is_fitted(self, "model_")
        for what, given in (("users", users), ("items", items)):
            if isinstance(given, str) or not hasattr(given, "__iter__") or getattr(given, "ndim", 1) != 1:
                raise DataError(
                    f"{what}={given!r} must be a list of identifiers; for one pair: predict([user], [item])."
                )
        names, columns = list(users), self._reader(unknown).columns(list(items))
        if len(names) != len(columns):
            raise ValueError(f"There are {len(names)} users and {len(columns)} items; pass one item for each user.")
        rows, place = np.unique(np.asarray([self._row(user) for user in names], np.int64), return_inverse=True)
        answer = np.full(len(names), np.nan)
        size = block_size(len(self.items_))
        for start in range(0, len(rows), size):
            scores = self._scores(self.log_.matrix[rows[start : start + size]])
            for pair in np.flatnonzero((place >= start) & (place < start + size) & (columns >= 0)):
                row = scores[place[pair] - start]
                answer[pair] = self._shown(row[columns[pair : pair + 1]], row)[0]
        return answer

    def predict_held(self, given: Any, held: Any) -> np.ndarray:
        """Predictions for the entries of held-out histories, given other histories of the same users: (entries,).

        Both are matrices (users, items) or lists with the same users in each row; `evaluate_recommender` matches names.
        """
        check_is_fitted(self, "model_")
        known, asked = self._histories(None, given).matrix, self._histories(None, held).matrix
        if known.shape != asked.shape:
            raise DataError(f"given has {known.shape[0]} users and held {asked.shape[0]}; pass the same users in both.")
        return self._predicted(known, asked)

    def _predicted(self, known: Any, asked: Any) -> np.ndarray:
        size = block_size(known.shape[1])
        parts = [np.empty(0)]
        for start in range(0, known.shape[0], size):
            scores, wanted = self._scores(known[start : start + size]), asked[start : start + size]
            parts.append(scores[np.repeat(np.arange(len(scores)), np.diff(wanted.indptr)), wanted.indices])
        return np.concatenate(parts)

    def relevant(self, histories: Any, *, unknown: str = "error") -> Any:
        """The positive interactions of histories, CSR (users, items): the targets of an evaluation."""
        check_is_fitted(self, "model_")
        return self._positives(self._histories(None, histories, unknown).matrix)

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
        check_is_fitted(self, "model_")
        if hasattr(item, "__iter__") and not isinstance(item, str | bytes | tuple):
            raise DataError(f"item is a {type(item).__name__}; pass one item, or several to similar_items_batch.")
        return self.similar_items_batch([item], n, filter=filter, exclude=exclude)[0]

    def similar_items_batch(
        self, items: Any, n: int = 10, *, filter: Any = None, exclude: Any = None  # noqa: A002
    ) -> list[Recommendations]:  # fmt: skip
        """As `similar_items`, for several items, in the given order."""
        check_is_fitted(self, "model_")
        if isinstance(items, str | bytes) or not hasattr(items, "__iter__"):
            raise DataError(f"items={items!r} is one item; pass a list, or call similar_items.")
        reader, n = self._reader(), at_least_one(n)
        places = reader.columns(items.tolist() if hasattr(items, "tolist") else items)
        known = np.flatnonzero((self.popularity_ > 0) & self._allowed(reader, filter, exclude))
        by_popularity = known[np.argsort(-self.popularity_[known], kind="stable")]
        vectors = self.item_embeddings_
        answers = []
        for place, (others, cosines) in zip(places, _others(vectors, vectors[places], known, places, n), strict=True):
            blank = self.popularity_[place] == 0
            found = by_popularity[by_popularity != place][:n] if blank else others
            values = np.zeros(len(found), cosines.dtype) if blank else cosines
            answers.append(Recommendations(self.items_[found], values, bool(blank), self._titles_of(found)))
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
            raise ValueError("Give either a user or a history, not both and not neither.")
        check_is_fitted(self, "model_")
        row = np.asarray([-1 if history is not None else self._row(user)])
        query = self.user_embeddings(histories=[history]) if history is not None else self.user_embeddings([user])
        if "_user_codes" not in self.__dict__:  # cached, because every call needs all codes
            self.__dict__["_user_codes"] = self.user_embeddings()
        codes = self.__dict__["_user_codes"]
        known = np.flatnonzero(codes.any(axis=1)) if query.any() else np.empty(0, np.int64)
        others, cosines = _others(codes, query, known, row, at_least_one(n))[0]
        return Recommendations(self.users_[others], cosines, not query.any())

    @property
    def item_embeddings_(self) -> np.ndarray:
        """A vector for each item, (items, width): its centred weights in the decoder's last layer.

        Zero for items without users.
        """
        check_is_fitted(self, "model_")
        if "_embeddings" not in self.__dict__:
            layers = [part for part in self.model_.objective_.decoder.modules() if isinstance(part, torch.nn.Linear)]
            weights = layers[-1].weight.detach().cpu().numpy()
            known = self.popularity_ > 0
            vectors = np.where(known[:, None], weights - weights[known].mean(axis=0), 0.0).astype(weights.dtype)
            vectors.setflags(write=False)  # cached: a change would affect later results
            self.__dict__["_embeddings"] = vectors
        found: np.ndarray = self.__dict__["_embeddings"]
        return found

    def user_embeddings(self, users: Any = None, *, histories: Any = None, unknown: str = "error") -> np.ndarray:
        """The codes of users of the log (None: all), or of histories, (users, code_size); zero for empty histories.

        Parameters
        ----------
        users, histories, unknown
            As for `recommend_batch`.
        """
        check_is_fitted(self, "model_")
        given = self._positives(self._histories(users, histories, unknown).matrix)
        if not given.shape[0]:
            return np.empty((0, self.model_.objective_.context.code_size), np.float32)
        codes: np.ndarray = np.array(self.model_.transform(self._source(given)))
        codes[np.diff(given.indptr) == 0] = 0.0  # the network was never trained on empty histories
        return codes

    def find(self, title: str) -> Hashable:
        """The item with the best match to a title; case, accents, articles and the year may differ."""
        check_is_fitted(self, "model_")
        ranked = self.items_[np.argsort(-self.popularity_, kind="stable")].tolist()
        return find_title(title, self.titles_ or {item: str(item) for item in ranked}, ranked)


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


def block_size(n_items: int) -> int:
    """Number of users that are scored at a time."""
    return max(1, BLOCK_BYTES // (4 * n_items))


def blocks(matrix: Any) -> Iterator[Any]:
    """Iterate over blocks of rows of a CSR matrix."""
    size = block_size(matrix.shape[1])
    for start in range(0, matrix.shape[0], size):
        yield matrix[start : start + size]
