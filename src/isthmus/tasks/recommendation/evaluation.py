"""Measuring a fitted recommender on users with some of their interactions held out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from isthmus.tasks.recommendation.protocols import DEFAULT_METRICS, Evaluation, HeldOut, evaluate_lists, parse_metric
from isthmus.tasks.recommendation.ranking import rmse


def evaluate_recommender(recommender: Any, held_out: HeldOut, metrics: Sequence[str] = DEFAULT_METRICS) -> Evaluation:
    """How good a fitted recommender is on users of whom it is given a part of their interactions.

    Parameters
    ----------
    recommender
        A fitted `Recommender`.
    held_out
        What is given and what is held out, from `leave_out`, `leave_latest` or `strong_generalization`. Of implicit
        feedback only what counts as having is relevant.
    metrics
        Names such as ``"ndcg@100"``, ``"recall@20"``, ``"precision@10"``, ``"map@10"``, ``"hit-rate@10"``,
        ``"coverage@10"``, ``"novelty@10"``, or ``"rmse"`` in rating units, which needs ``feedback="explicit"``.

    Examples
    --------
    >>> import numpy as np, scipy.sparse
    >>> from isthmus import Recommender, leave_out
    >>> split = leave_out(scipy.sparse.csr_array(np.tile(np.eye(5, 10), (8, 2))), random_state=0)
    >>> model = Recommender(code_size=2, network=(4,), max_epochs=1, random_state=0).fit(split.given)
    >>> 0 <= evaluate_recommender(model, split, ["recall@5"]).mean("recall@5") <= 1
    True
    """
    places = [parse_metric(name)[1] for name in metrics if name != "rmse"]
    overall = {"rmse": _rmse(recommender, held_out)} if "rmse" in metrics else {}
    relevant = recommender.relevant(held_out.held)
    lists = recommender.rank(held_out.given, max(places, default=1))
    names = [name for name in metrics if name != "rmse"]
    found = evaluate_lists(lists, relevant, names, recommender.popularity_)
    return Evaluation(found.per_user, found.overall | overall)


def _rmse(recommender: Any, held_out: HeldOut) -> float:
    if recommender.feedback != "explicit":
        raise ValueError("rmse needs predicted ratings; fit with feedback='explicit', or measure ndcg@10 instead.")
    held = held_out.held.matrix
    predicted = recommender.predict_held(held_out.given, held_out.held)
    return rmse(predicted, held.data)
