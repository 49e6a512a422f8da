"""Evaluation of a fitted recommender on held-out interactions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse
from scipy.sparse import csr_array
from sklearn.utils.validation import check_is_fitted

from isthmus.exceptions import DataError
from isthmus.tasks.recommendation.fitted import FittedRecommender
from isthmus.tasks.recommendation.interactions import Interactions, read_interactions
from isthmus.tasks.recommendation.liking import chosen
from isthmus.tasks.recommendation.protocols import (
    DEFAULT_METRICS,
    Evaluation,
    HeldOut,
    evaluate_lists,
    leave_out,
    parse_metric,
)
from isthmus.tasks.recommendation.ranking import ndcg, rmse

if TYPE_CHECKING:
    from isthmus.tasks.recommendation.recommender import Recommender

SCORED_AT = 10
"""Length of the lists in `Recommender.score`."""


def evaluate_recommender(
    recommender: Recommender, held_out: HeldOut, metrics: Sequence[str] = DEFAULT_METRICS, *, unknown: str = "error"
) -> Evaluation:
    """Evaluate a fitted recommender on users with a part of their interactions held out.

    Users and items are matched by name, so their order does not matter. Users without given or without held-out
    interactions are skipped; `Evaluation.users` lists the evaluated users.

    Parameters
    ----------
    recommender
        A fitted `Recommender`.
    held_out
        The given and the held-out interactions, from `leave_out`, `leave_latest`, `leave_k_out`, `leave_after` or
        `strong_generalization`, or from two `Interactions`. For implicit feedback only positive interactions are
        relevant.
    metrics
        Names such as ``"ndcg@100"``, ``"recall@20"``, ``"precision@10"``, ``"map@10"``, ``"hit-rate@10"``,
        ``"coverage@10"``, ``"novelty@10"``, or ``"rmse"`` in rating units, which needs ``feedback="explicit"``.
    unknown
        How to handle items that did not occur at `fit`: ``"error"``, or ``"ignore"`` to skip them in both parts and
        count them in ``n_unknown``.

    Raises
    ------
    DataError
        No user is in both parts, nothing relevant is held out, or an item is unknown.

    Examples
    --------
    >>> import numpy as np, scipy.sparse
    >>> from isthmus import Recommender, leave_out
    >>> split = leave_out(scipy.sparse.csr_array(np.tile(np.eye(5, 10), (8, 2))), random_state=0)
    >>> model = Recommender(code_size=2, network=(4,), max_epochs=1, random_state=0).fit(split.given)
    >>> 0 <= evaluate_recommender(model, split, ["recall@5"]).mean("recall@5") <= 1
    True
    """
    check_is_fitted(recommender, "fitted_")
    if not hasattr(held_out, "given") or not hasattr(held_out, "held"):
        raise TypeError(
            f"held_out is a {type(held_out).__name__}, but a HeldOut is needed: split with leave_out or another "
            "protocol, or pass HeldOut(given, held)."
        )
    if isinstance(metrics, str):
        raise TypeError(f"metrics is the string {metrics!r}; pass a list: [{metrics!r}].")
    ranked = [name for name in metrics if name != "rmse"]
    places = [parse_metric(name)[1] for name in ranked]
    if "rmse" in metrics and recommender.feedback_ != "explicit":
        raise ValueError("rmse needs predicted ratings; fit with feedback='explicit', or use ndcg@10 instead.")
    fitted = recommender.fitted_
    pairs = paired(fitted, held_out, unknown)
    relevant = fitted.positives(pairs.held)
    if not relevant.nnz:
        raise DataError(
            f"None of {len(pairs.users)} users has a held-out positive interaction ({fitted.liking}), but at "
            "least one is needed; hold out more, or use users with at least two interactions."
        )
    lists = fitted.lists(pairs.given, max(places, default=1))
    found = evaluate_lists(lists, relevant, ranked, fitted.popularity)
    overall = dict(found.overall)
    if "rmse" in metrics:
        overall["rmse"] = rmse(fitted.predicted(pairs.given, pairs.held), pairs.held.data)
    return Evaluation(found.per_user, overall, pairs.users, pairs.n_unpaired, pairs.n_unknown)


@dataclass(frozen=True)
class Paired:
    """Given and held-out interactions of the same users, with the recommender's items as columns.

    Attributes
    ----------
    given, held
        CSR (users, items).
    users
        Identifiers of the users, (users,).
    n_unpaired
        Number of users in only one of the parts.
    n_unknown
        Number of interactions skipped because their item did not occur at `fit`.
    """

    given: csr_array
    held: csr_array
    users: np.ndarray
    n_unpaired: int
    n_unknown: int


def paired(fitted: FittedRecommender, held_out: HeldOut, unknown: str) -> Paired:
    """Match the users of both parts by name, and the items with those of the recommender."""
    given, held = read_interactions(held_out.given), read_interactions(held_out.held)
    rows = [given.user_index.find(user) for user in held.users.tolist()]
    both = np.asarray([place for place, row in enumerate(rows) if row is not None], np.int64)
    if not len(both):
        raise DataError(
            f"No user of held ({len(held.users)}, such as {held.users[:1].tolist()}) is in given ({len(given.users)}, "
            f"such as {given.users[:1].tolist()}); use the same identifiers in both."
        )
    of_given = np.asarray([rows[place] for place in both], np.int64)
    reader = fitted.reader(unknown)
    known, asked = reader.read(given.select(of_given)), reader.read(held.select(both))
    unpaired = len(held.users) + len(given.users) - 2 * len(both)
    lost = int(known.n_unknown.sum() + asked.n_unknown.sum())
    return Paired(known.matrix, asked.matrix, held.users[both], unpaired, lost)


def score_of(fitted: FittedRecommender, interactions: Any) -> float:
    """The mean NDCG@10 of a recommender on interactions, or the negative RMSE; see `Recommender.score`."""
    named = not scipy.sparse.issparse(interactions)
    log = read_interactions(interactions, items=None if named else fitted.log.items)
    known = [fitted.log.user_index.find(user) if named else None for user in log.users.tolist()]
    rows = np.asarray([-1 if row is None else row for row in known], np.int64)
    matrix = fitted.reader("ignore").read(log).matrix
    seen = fitted.log.matrix[rows.clip(min=0)].multiply((rows >= 0)[:, None]).tocsr()
    new = _without(matrix, seen)
    fresh = (rows >= 0) & (np.diff(fitted.positives(new).indptr) > 0)
    own = leave_out(
        Interactions(matrix, np.arange(len(rows)), np.arange(matrix.shape[1]), rated=log.rated), random_state=0
    )
    given = _rows_from(seen, own.given.matrix, fresh)
    held = _rows_from(new, own.held.matrix, fresh)
    relevant = fitted.positives(held)
    if not relevant.nnz:
        raise DataError(
            f"None of the {len(rows)} users has an interaction that can be held out, but at least one is needed; pass "
            "users with at least two interactions."
        )
    if fitted.rates:
        return -rmse(fitted.predicted(given, held), held.data)
    return float(np.nanmean(ndcg(fitted.lists(given, SCORED_AT), relevant, SCORED_AT)))


def _without(matrix: csr_array, other: csr_array) -> csr_array:
    """The entries of a CSR matrix that another matrix does not store."""
    n_items = np.int64(matrix.shape[1])
    keys, others = (
        np.repeat(np.arange(part.shape[0]), np.diff(part.indptr)) * n_items + part.indices for part in (matrix, other)
    )
    return chosen(matrix, ~np.isin(keys, others))


def _rows_from(first: csr_array, second: csr_array, of_first: np.ndarray) -> csr_array:
    """Rows of the first CSR matrix where `of_first`, else of the second."""
    whole, rows = scipy.sparse.vstack([first, second]).tocsr(), np.arange(len(of_first))
    return whole[np.where(of_first, rows, len(rows) + rows)]
