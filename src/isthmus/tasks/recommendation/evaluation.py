"""Measuring a fitted recommender on users with some of their interactions held out."""

# ruff: noqa: SLF001  # measures by what the recommender is made of, on matrices that are already read
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.utils.validation import check_is_fitted

from isthmus.exceptions import DataError
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

SCORED_AT = 10
"""The length of the lists that `Recommender.score` measures."""


def evaluate_recommender(
    recommender: Any, held_out: HeldOut, metrics: Sequence[str] = DEFAULT_METRICS, *, unknown: str = "error"
) -> Evaluation:
    """How good a fitted recommender is on users of whom it is given a part of their interactions.

    Users are paired by name, and items with the recommender's by name, so their order does not matter. Users with
    nothing given, or nothing held out, are left out; `Evaluation` names those that were measured.

    Parameters
    ----------
    recommender
        A fitted `Recommender`.
    held_out
        What is given and what is held out, from `leave_out`, `leave_latest`, `leave_k_out`, `leave_after` or
        `strong_generalization`, or two `Interactions`. Of implicit feedback only what counts as having is relevant.
    metrics
        Names such as ``"ndcg@100"``, ``"recall@20"``, ``"precision@10"``, ``"map@10"``, ``"hit-rate@10"``,
        ``"coverage@10"``, ``"novelty@10"``, or ``"rmse"`` in rating units, which needs ``feedback="explicit"``.
    unknown
        What to do with items that were not there at `fit`: ``"error"``, or ``"ignore"``: leave them out of what is
        given and of what is held out, and count them in ``n_unknown``.

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
    check_is_fitted(recommender, "model_")
    if not hasattr(held_out, "given") or not hasattr(held_out, "held"):
        raise TypeError(
            f"held_out is a {type(held_out).__name__}, but a HeldOut is needed: hold out with leave_out or another "
            "protocol, or give HeldOut(given, held)."
        )
    if isinstance(metrics, str):
        raise TypeError(f"metrics is the text {metrics!r}; give a list: [{metrics!r}].")
    ranked = [name for name in metrics if name != "rmse"]
    places = [parse_metric(name)[1] for name in ranked]
    if "rmse" in metrics and recommender.feedback_ != "explicit":
        raise ValueError("rmse needs predicted ratings; fit with feedback='explicit', or measure ndcg@10 instead.")
    pairs = paired(recommender, held_out, unknown)
    relevant = recommender._positives(pairs.held)
    if not relevant.nnz:
        raise DataError(
            f"Nothing that counts as having ({recommender.liking_}) is held out of {len(pairs.users)} users, so there "
            "is nothing to measure; hold out more, or give users with two interactions and more."
        )
    lists = recommender._lists(pairs.given, max(places, default=1))
    found = evaluate_lists(lists, relevant, ranked, recommender.popularity_)
    overall = dict(found.overall)
    if "rmse" in metrics:
        overall["rmse"] = rmse(recommender._predicted(pairs.given, pairs.held), pairs.held.data)
    return Evaluation(found.per_user, overall, pairs.users, pairs.n_unpaired, pairs.n_unknown)


@dataclass(frozen=True)
class Paired:
    """What is given and what is held out of the same users, row by row, in the recommender's items.

    Attributes
    ----------
    given, held
        CSR (users, items).
    users
        Their names, (users,).
    n_unpaired
        Users that only one of the parts has.
    n_unknown
        Interactions left out because their item was not there at `fit`.
    """

    given: Any
    held: Any
    users: np.ndarray
    n_unpaired: int
    n_unknown: int


def paired(recommender: Any, held_out: HeldOut, unknown: str) -> Paired:
    """Pair the parts by the names of users; items go by the names that the recommender has."""
    given, held = read_interactions(held_out.given), read_interactions(held_out.held)
    rows = [given.user_index.find(user) for user in held.users.tolist()]
    both = np.asarray([place for place, row in enumerate(rows) if row is not None], np.int64)
    if not len(both):
        raise DataError(
            f"No user of held ({len(held.users)}, such as {held.users[:1].tolist()}) is in given ({len(given.users)}, "
            f"such as {given.users[:1].tolist()}); give the same users by the same names."
        )
    of_given = np.asarray([rows[place] for place in both], np.int64)
    reader = recommender._reader(unknown)
    known, asked = reader.read(given.select(of_given)), reader.read(held.select(both))
    unpaired = len(held.users) + len(given.users) - 2 * len(both)
    lost = int(known.n_unknown.sum() + asked.n_unknown.sum())
    return Paired(known.matrix, asked.matrix, held.users[both], unpaired, lost)


def score_of(recommender: Any, interactions: Any) -> float:
    """The mean NDCG@10 of a recommender on interactions, or minus the RMSE; see `Recommender.score`."""
    named = not scipy.sparse.issparse(interactions)
    log = read_interactions(interactions, items=None if named else recommender.items_)
    known = [recommender.log_.user_index.find(user) if named else None for user in log.users.tolist()]
    rows = np.asarray([-1 if row is None else row for row in known], np.int64)
    matrix = recommender._reader("ignore").read(log).matrix
    seen = recommender.log_.matrix[rows.clip(min=0)].multiply((rows >= 0)[:, None]).tocsr()
    new = _without(matrix, seen)
    fresh = (rows >= 0) & (np.diff(recommender._positives(new).indptr) > 0)
    own = leave_out(
        Interactions(matrix, np.arange(len(rows)), np.arange(matrix.shape[1]), rated=log.rated), random_state=0
    )
    given = _rows_from(seen, own.given.matrix, fresh)
    held = _rows_from(new, own.held.matrix, fresh)
    relevant = recommender._positives(held)
    if not relevant.nnz:
        raise DataError(
            f"There is nothing to score on: none of the {len(rows)} users has an interaction that could be held out; "
            "give users with two interactions and more."
        )
    if recommender.feedback_ == "explicit":
        return -rmse(recommender._predicted(given, held), held.data)
    return float(np.nanmean(ndcg(recommender._lists(given, SCORED_AT), relevant, SCORED_AT)))


def _without(matrix: Any, other: Any) -> Any:
    """The entries of a CSR matrix that another does not store."""
    n_items = np.int64(matrix.shape[1])
    keys, others = (
        np.repeat(np.arange(part.shape[0]), np.diff(part.indptr)) * n_items + part.indices for part in (matrix, other)
    )
    return chosen(matrix, ~np.isin(keys, others))


def _rows_from(first: Any, second: Any, of_first: np.ndarray) -> Any:
    """The rows of one CSR matrix where they are chosen, else of another."""
    whole, rows = scipy.sparse.vstack([first, second]).tocsr(), np.arange(len(of_first))
    return whole[np.where(of_first, rows, len(rows) + rows)]
