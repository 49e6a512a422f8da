"""What a recommender has learned: its log, its models, and the scores that they give."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array

from isthmus.estimators import Autoencoder
from isthmus.exceptions import DataError
from isthmus.tasks.recommendation.biases import Biases
from isthmus.tasks.recommendation.biases import Histories as DenseHistories
from isthmus.tasks.recommendation.ease import ShallowPath
from isthmus.tasks.recommendation.factors import Factors
from isthmus.tasks.recommendation.histories import Histories, HistoryReader
from isthmus.tasks.recommendation.interactions import Interactions
from isthmus.tasks.recommendation.liking import Liking, chosen
from isthmus.tasks.recommendation.names import TitleIndex
from isthmus.tasks.recommendation.ranking import top_n

DEEP_SHARE, FACTORS_SHARE = 0.1, 0.4
"""Weights in predicted ratings. Least squares gave the autoencoder 0.07 and 0.00 on two logs; 0.1 keeps its vectors."""
BLOCK_BYTES = 16 * 2**20
"""Size of a block of scores, as float32."""


@dataclass(frozen=True)
class KnownLog:
    """The log with what was inferred of its values.

    Attributes
    ----------
    feedback
        ``"implicit"`` or ``"explicit"``.
    rating_range
        Minimum and maximum rating, or None.
    liking
        The kind of values, and the lowest positive one.
    log
        The interactions, without times.
    titles
        The titles of the items that have one.
    """

    feedback: str
    rating_range: tuple[float, float] | None
    liking: Liking
    log: Interactions
    titles: Mapping[Hashable, str] = field(default_factory=dict)

    @property
    def rates(self) -> bool:
        """Whether ratings are predicted."""
        return self.feedback == "explicit"

    @cached_property
    def popularity(self) -> np.ndarray:
        """Fraction of users who have each item, (items,)."""
        known = self.positives(self.log.matrix)
        counts: np.ndarray = np.bincount(known.indices, minlength=len(self.log.items)) / len(self.log.users)
        return counts

    def positives(self, matrix: csr_array) -> csr_array:
        """The input of the networks: ratings, or ones for positive interactions."""
        if self.rates:
            return matrix
        known = chosen(matrix, self.liking.counted(matrix.data))
        known.data[:] = 1.0
        return known

    # -- reading inputs --------------------------------------------------------------------------------------------

    @cached_property
    def title_index(self) -> TitleIndex:
        """Finds items by title."""
        return TitleIndex(self.titles, self.log.item_index)

    def reader(self, unknown: str = "error") -> HistoryReader:
        """Converts histories to rows of the catalogue; `unknown` as for `Recommender.recommend`."""
        return HistoryReader(
            self.log.item_index,
            self.title_index,
            lambda: [str(name) for name in self.log.items[np.argsort(-self.popularity, kind="stable")[:20]].tolist()],
            None if self.rates else self.had,
            self.rating_range,
            unknown,
        )

    @property
    def had(self) -> float:
        """The value of an item in a history without ratings."""
        highest = np.inf if self.rating_range is None else self.rating_range[1]
        return min(self.liking.had, highest)

    def row(self, user: Any) -> int:
        """The row of a user of the log."""
        row = None if _is_many(user) else self.log.user_index.find(user)
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
        if not len(self.log.users) or type(user) in self.log.user_index.kinds:
            return ""
        first = self.log.users[:1].tolist()[0]
        return f"Users have identifiers such as {first!r} ({type(first).__name__})."

    def rows(self, users: Any) -> np.ndarray:
        """The rows of users of the log, by identifiers or a boolean mask of all; None: all."""
        n_users = len(self.log.users)
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
        if listed and all(isinstance(user, bool) for user in listed) and bool not in self.log.user_index.kinds:
            if len(listed) != n_users:
                raise DataError(
                    f"users is a mask of {len(listed)} booleans, but there are {n_users} users; pass one boolean per "
                    "user."
                )
            return np.flatnonzero(listed)
        return np.asarray([self.row(user) for user in listed], np.int64)

    def histories(self, users: Any, histories: Any, unknown: str = "error") -> Histories:
        """Histories of users of the log, or the given histories."""
        if users is not None and histories is not None:
            raise ValueError("users and histories are both given, but only one is allowed; pass one of them.")
        return self.of_rows(self.rows(users)) if histories is None else self.reader(unknown).read(histories)

    def of_rows(self, rows: np.ndarray) -> Histories:
        """Histories of users of the log."""
        return Histories(self.log.matrix[rows], np.zeros(len(rows), np.int64))


@dataclass(frozen=True)
class FittedRecommender(KnownLog):
    """The log, and what was learned from it.

    Attributes
    ----------
    model
        The deep path.
    biases
        For explicit feedback, the biases of ratings.
    path
        The shallow path, or None.
    factors
        For explicit feedback, the factors, or None.
    path_weight
        Weight of the shallow path's scores.
    """

    model: Autoencoder = field(kw_only=True)
    biases: Biases | None = field(kw_only=True)
    path: ShallowPath | None = field(kw_only=True)
    factors: Factors | None = field(kw_only=True)
    path_weight: float = field(kw_only=True)

    # -- scores ----------------------------------------------------------------------------------------------------

    def shown(self, values: np.ndarray, row: np.ndarray) -> np.ndarray:
        """Scores for users: predicted ratings, or a softmax over the whole catalogue.

        The normalisation ignores filters and seen items, so `predict` and `recommend` give equal scores for a pair.
        """
        if self.rates:
            return values.astype(np.float64)
        highest = row.max(initial=-np.inf)
        scores: np.ndarray = np.exp(values - highest, dtype=np.float64) / np.exp(row - highest, dtype=np.float64).sum()
        return scores

    def scores(self, seen: csr_array) -> np.ndarray:
        """Scores for a block of histories, (users, items): ratings, or log-scores up to a constant."""
        given = self.positives(seen)
        output = self._deep(given)
        untrained = self.popularity == 0
        rest = given if self.biases is None else self.biases.residuals(given)
        if self.biases is not None:
            output[:, untrained] = 0.0  # unrated items get the mean instead of a random output
        if self.factors is not None:
            output *= DEEP_SHARE
            output += FACTORS_SHARE * self.factors.predict(rest)
        if self.path is not None:
            self.path.add_to(output, rest, self.path_weight)
        if self.biases is not None:
            output += (self.biases.mean + self.biases.items)[None] + self.biases.of_users(given)[:, None]
            output.clip(*self.bounds, out=output)
        else:
            output[:, untrained] = -np.inf  # the network was never trained on items without users
        output[np.diff(given.indptr) == 0] = self.popular
        return output

    @property
    def bounds(self) -> tuple[float, float]:
        """Minimum and maximum of a predicted rating."""
        return (-np.inf, np.inf) if self.rating_range is None else self.rating_range

    @torch.inference_mode()
    def _deep(self, given: csr_array) -> np.ndarray:
        """Decoder outputs for histories, before the softmax: (users, items)."""
        objective = self.model.objective_
        rows = torch.from_numpy(self.source(given).read(slice(None))).to(self.model.device_)
        output: np.ndarray = objective.decoder(objective.encode(rows)).cpu().numpy()
        return output

    def source(self, known: csr_array) -> DenseHistories:
        """Histories as rows of the network."""
        if self.biases is None:
            return DenseHistories(known)
        return DenseHistories(self.biases.residuals(known), np.nan)

    @property
    def popular(self) -> np.ndarray:
        """The scores for an empty history, (items,)."""
        if self.biases is None:
            with np.errstate(divide="ignore"):
                logarithms: np.ndarray = np.log(self.popularity)
            return logarithms
        return np.clip(self.biases.mean + self.biases.items, *self.bounds)

    def lists(self, seen: csr_array, n: int, exclude_seen: bool = True) -> np.ndarray:
        """Indices of the best items for each history, (users, n), padded with -1."""
        parts = [top_n(self.scores(part), n, exclude=part if exclude_seen else None) for part in blocks(seen)]
        return np.concatenate([np.empty((0, n), np.int64), *parts])

    def best(
        self, seen: csr_array, n: int, exclude_seen: bool, allowed: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
        """For each user the indices of the best items, their scores, and whether they are ranked by popularity."""
        scores = self.scores(seen)
        ranked = scores if allowed.all() else np.where(allowed, scores, -np.inf)
        best = top_n(ranked, n, exclude=seen if exclude_seen else None)
        unknown_to_us = np.diff(self.positives(seen).indptr) == 0
        for row, places in enumerate(best):
            items = places[places >= 0]
            yield items, self.shown(scores[row, items], scores[row]), bool(unknown_to_us[row])

    def predicted(self, known: csr_array, asked: csr_array) -> np.ndarray:
        """Predictions for the entries of held-out histories, given other histories of the same users, (entries,)."""
        size = block_size(known.shape[1])
        parts = [np.empty(0)]
        for start in range(0, known.shape[0], size):
            scores, wanted = self.scores(known[start : start + size]), asked[start : start + size]
            parts.append(scores[np.repeat(np.arange(len(scores)), np.diff(wanted.indptr)), wanted.indices])
        return np.concatenate(parts)

    # -- vectors ---------------------------------------------------------------------------------------------------

    @cached_property
    def item_embeddings(self) -> np.ndarray:
        """A vector for each item, (items, width): its centred weights in the decoder's last layer; read-only."""
        layers = [part for part in self.model.objective_.decoder.modules() if isinstance(part, torch.nn.Linear)]
        weights = layers[-1].weight.detach().cpu().numpy()
        known = self.popularity > 0
        vectors = np.where(known[:, None], weights - weights[known].mean(axis=0), 0.0).astype(weights.dtype)
        vectors.setflags(write=False)  # cached: a change would affect later results
        return vectors

    @cached_property
    def user_codes(self) -> np.ndarray:
        """The codes of all users of the log, (users, code_size)."""
        return self.codes(self.log.matrix)

    def codes(self, histories: csr_array) -> np.ndarray:
        """The codes of histories, (users, code_size); zero for histories without a positive interaction."""
        given = self.positives(histories)
        if not given.shape[0]:
            return np.empty((0, self.model.objective_.context.code_size), np.float32)
        codes: np.ndarray = np.array(self.model.transform(self.source(given)))
        codes[np.diff(given.indptr) == 0] = 0.0  # the network was never trained on empty histories
        return codes


def _is_many(value: Any) -> bool:
    """Whether a value is a collection; strings and tuples are identifiers."""
    return (hasattr(value, "__iter__") and not isinstance(value, str | bytes | tuple)) or hasattr(value, "nnz")


def _kind(value: Any) -> str:
    return repr(value) if not _is_many(value) else f"a {type(value).__name__}"


def block_size(n_items: int) -> int:
    """Number of users that are scored at a time."""
    return max(1, BLOCK_BYTES // (4 * n_items))


def blocks(matrix: csr_array) -> Iterator[csr_array]:
    """Iterate over blocks of rows of a CSR matrix."""
    size = block_size(matrix.shape[1])
    for start in range(0, matrix.shape[0], size):
        yield matrix[start : start + size]
