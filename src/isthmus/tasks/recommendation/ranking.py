"""Ranking metrics of recommendation lists, one value per user, vectorised over users.

All take `recommended`, (users, at least k) item indices, the best first, padded with -1, and `relevant`, a CSR matrix
(users, items) of held-out positive interactions. Users without relevant items have NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.sparse import csr_array

from isthmus.choices.rules import Whole


def top_n(scores: np.ndarray, n: int, *, exclude: csr_array | None = None) -> np.ndarray:
    """The n best items of each user: (users, items) scores → (users, n) item indices, the best first.

    Parameters
    ----------
    scores
        Higher is better; minus infinity is never recommended.
    n
        Number of items, >= 1; if fewer are left, the row is padded with -1.
    exclude
        A CSR matrix (users, items) of items to exclude, such as seen items.

    Examples
    --------
    >>> import scipy.sparse
    >>> top_n(np.array([[0.1, 0.9, 0.5]]), 2, exclude=scipy.sparse.csr_array([[0, 1, 0]]))
    array([[2, 0]])
    """
    scores = np.array(scores, copy=exclude is not None)
    if exclude is not None:
        scores[_rows_of(exclude), exclude.indices] = -np.inf
    width = min(n, scores.shape[1])
    best = np.argpartition(-scores, width - 1, axis=1)[:, :width]
    best.sort(axis=1)  # ties are in item order
    values = np.take_along_axis(scores, best, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    best = np.where(np.isneginf(values), -1, best)
    answer = np.full((len(scores), n), -1)
    answer[:, :width] = np.take_along_axis(best, order, axis=1)
    return answer


def _rows_of(matrix: csr_array) -> np.ndarray:
    """The row of every stored entry of a CSR matrix."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def _hits(recommended: np.ndarray, relevant: csr_array, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether each of the first k items is relevant, (users, k), and the number of relevant items, (users,)."""
    _check(recommended, relevant, k)
    n_items = np.int64(relevant.shape[1])
    wanted = np.sort(_rows_of(relevant) * n_items + relevant.indices)
    top = recommended[:, :k]
    keys = np.arange(len(top))[:, None] * n_items + top
    place = np.searchsorted(wanted, keys).clip(max=max(0, len(wanted) - 1))
    found = (wanted[place] == keys) & (top >= 0) if len(wanted) else np.zeros(top.shape, dtype=bool)
    return found, np.diff(relevant.indptr)


def _check(recommended: np.ndarray, relevant: csr_array, k: int) -> None:
    if not Whole(1).admits(k):
        raise ValueError(f"k={k!r} must be an integer >= 1.")
    if recommended.ndim != 2 or recommended.shape[0] != relevant.shape[0] or recommended.shape[1] < k:
        raise ValueError(
            f"recommended has shape {recommended.shape}, but ({relevant.shape[0]}, at least {k}) is needed: one row "
            "for each user of relevant, with k items."
        )


def _of_users(values: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    return np.where(n_relevant > 0, values, np.nan)


def ndcg(recommended: np.ndarray, relevant: csr_array, k: int) -> np.ndarray:
    """Normalised discounted cumulative gain at k, (users,), in [0, 1] (Järvelin & Kekäläinen 2002).

    ``Σ_r hit_r / log2(r + 1)`` over the ranks r = 1 … k, divided by the value of the ideal list of k.

    Examples
    --------
    >>> import scipy.sparse
    >>> ndcg(np.array([[7, 3]]), scipy.sparse.csr_array(np.eye(1, 8, 3)), 2)  # 1/log2(3)
    array([0.63092975])
    """
    found, n_relevant = _hits(recommended, relevant, k)
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[1.0], np.cumsum(discounts)])[np.minimum(n_relevant, k)]
    return _of_users(found @ discounts / ideal, n_relevant)


def recall(recommended: np.ndarray, relevant: csr_array, k: int) -> np.ndarray:
    """The fraction of the relevant items that are among the first k, (users,), in [0, 1].

    Divided by ``min(k, relevant items)``, so that 1 can be reached (Liang et al. 2018, eq. 8).

    Examples
    --------
    >>> import scipy.sparse
    >>> recall(np.array([[1, 0, 2]]), scipy.sparse.csr_array([[1, 1, 0, 1]]), 2)
    array([1.])
    """
    found, n_relevant = _hits(recommended, relevant, k)
    return _of_users(found.sum(axis=1) / np.minimum(n_relevant, k).clip(min=1), n_relevant)


def precision(recommended: np.ndarray, relevant: csr_array, k: int) -> np.ndarray:
    """The fraction of the first k items that are relevant, (users,), in [0, 1].

    Examples
    --------
    >>> import scipy.sparse
    >>> precision(np.array([[1, 0, 2]]), scipy.sparse.csr_array([[1, 0, 0, 1]]), 2)
    array([0.5])
    """
    found, n_relevant = _hits(recommended, relevant, k)
    return _of_users(found.mean(axis=1), n_relevant)


def average_precision(recommended: np.ndarray, relevant: csr_array, k: int) -> np.ndarray:
    """Average precision at k, (users,), in [0, 1]; its mean over users is MAP@k.

    The precision at each hit, summed and divided by ``min(k, relevant items)``.

    Examples
    --------
    >>> import scipy.sparse
    >>> average_precision(np.array([[1, 2, 0]]), scipy.sparse.csr_array([[1, 1, 0]]), 3)  # (1/1 + 2/3) / 2
    array([0.83333333])
    """
    found, n_relevant = _hits(recommended, relevant, k)
    at_hits = found * np.cumsum(found, axis=1) / np.arange(1, k + 1)
    return _of_users(at_hits.sum(axis=1) / np.minimum(n_relevant, k).clip(min=1), n_relevant)


def hit_rate(recommended: np.ndarray, relevant: csr_array, k: int) -> np.ndarray:
    """Whether at least one of the first k is relevant, (users,), 0 or 1.

    Examples
    --------
    >>> import scipy.sparse
    >>> hit_rate(np.array([[1, 0], [1, 0]]), scipy.sparse.csr_array([[0, 1], [1, 0]]), 1)
    array([1., 0.])
    """
    found, n_relevant = _hits(recommended, relevant, k)
    return _of_users(found.any(axis=1).astype(float), n_relevant)


METRICS: dict[str, Callable[[np.ndarray, csr_array, int], np.ndarray]] = {
    "ndcg": ndcg,
    "recall": recall,
    "precision": precision,
    "map": average_precision,
    "hit-rate": hit_rate,
}
"""The per-user metrics by the short names of `evaluate_recommender` and the command line."""


def coverage(recommended: np.ndarray, n_items: int, k: int) -> float:
    """The fraction of the catalogue that is among the first k items of any user, in [0, 1].

    >>> coverage(np.array([[0, 1], [0, -1]]), 4, 2)
    0.5
    """
    seen = np.unique(recommended[:, :k])
    return float((seen >= 0).sum() / n_items)


def novelty(recommended: np.ndarray, popularity: np.ndarray, k: int) -> float:
    """Novelty of the first k items: the mean of ``-log2(fraction of users who have the item)``, in bits.

    Parameters
    ----------
    recommended
        Item indices, (users, at least k).
    popularity
        Fraction of the training users who have each item, (items,); items without users are skipped.
    k
        Number of items of each list.

    Examples
    --------
    >>> novelty(np.array([[0, 1]]), np.array([0.5, 0.25]), 2)
    1.5
    """
    items = recommended[:, :k]
    shares = popularity[items[items >= 0]]
    return float(-np.log2(shares[shares > 0]).mean()) if (shares > 0).any() else float("nan")


def rmse(predicted: np.ndarray, actual: np.ndarray) -> float:
    """Root mean squared error of predicted ratings, in rating units.

    >>> rmse(np.array([3.0, 5.0]), np.array([3.0, 3.0]))
    1.4142135623730951
    """
    difference = np.asarray(predicted, float) - np.asarray(actual, float)
    return float(np.sqrt(np.mean(difference**2)))
