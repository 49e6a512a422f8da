"""Baselines: popularity, item-based nearest neighbours, and EASE; settings are selected on validation users."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any

import numpy as np
import scipy.linalg

from isthmus import StrongSplit
from isthmus.tasks.recommendation.ranking import ndcg, top_n

Scores = Callable[[Any], np.ndarray]


def popularity(split: StrongSplit) -> tuple[str, Scores]:
    """The most popular items."""
    counts = np.bincount(split.train.matrix.indices, minlength=len(split.train.items)).astype(np.float32)
    return "", lambda given: np.tile(counts, (given.shape[0], 1))


def ease(split: StrongSplit) -> tuple[str, Scores]:
    """EASE in closed form (Steck 2019)."""
    X = split.train.matrix

    def solved(ridge: int) -> Scores:
        inverse = inverse_gram(X, ridge)
        weights = -inverse / np.diag(inverse)
        np.fill_diagonal(weights, 0.0)
        single = weights.astype(np.float32)
        return lambda given: np.asarray(given @ single)

    return best(split, ((f"ridge {ridge}", solved(ridge)) for ridge in (200, 350, 500, 800, 1200)))


def inverse_gram(X: Any, ridge: float) -> np.ndarray:
    """``(Xᵀ X + ridge · I)⁻¹``; with fewer users than items, through the smaller matrix (Woodbury)."""
    n_users, n_items = X.shape
    if n_users >= n_items:
        gram = (X.T @ X).toarray().astype(np.float64) + ridge * np.eye(n_items)
        return np.asarray(scipy.linalg.inv(gram, assume_a="pos"))
    dense = X.toarray().astype(np.float64)
    half = scipy.linalg.solve(dense @ dense.T + ridge * np.eye(n_users), dense, assume_a="pos")
    return np.asarray((np.eye(n_items) - dense.T @ half) / ridge)


def item_knn(split: StrongSplit) -> tuple[str, Scores]:
    """The k most similar items of each item by shrunk cosine."""
    X = split.train.matrix
    counts = np.sqrt(np.bincount(X.indices, minlength=X.shape[1]).clip(min=1))
    cosines = (X.T @ X).toarray() / (counts[:, None] * counts + 10.0)
    np.fill_diagonal(cosines, 0.0)

    def kept(k: int) -> Scores:
        near = min(k, len(cosines) - 1)
        least = np.partition(cosines, -near, axis=0)[-near]
        weights = np.where(cosines >= least, cosines, 0.0).astype(np.float32)
        return lambda given: np.asarray(given @ weights)

    return best(split, ((f"k {k}", kept(k)) for k in (20, 50, 100, 200)))


def best(split: StrongSplit, candidates: Iterable[tuple[str, Scores]]) -> tuple[str, Scores]:
    """The candidate with the highest NDCG@100 on the validation users."""
    known = split.validation.given.matrix, split.validation.held.matrix
    measured = (
        (float(np.nanmean(ndcg(lists(scores, known[0]), known[1], 100))), words, scores) for words, scores in candidates
    )
    return max(measured, key=itemgetter(0))[1:]


def lists(scores: Scores, given: Any, n: int = 100) -> np.ndarray:
    """The best items that are not given, (users, n)."""
    return top_n(scores(given), n, exclude=given)


BASELINES = {"popularity": popularity, "item-kNN": item_knn, "EASE": ease}
