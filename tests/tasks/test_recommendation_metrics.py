"""Ranking metrics against cases worked by hand and against scikit-learn; what protocols hold out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.metrics import ndcg_score

import isthmus
from isthmus import leave_latest, leave_out, strong_generalization
from isthmus.tasks.recommendation import ranking
from isthmus.tasks.recommendation.protocols import evaluate_lists, parse_metric

LISTS = np.array([[4, 0, 2], [1, 3, -1], [0, 1, 2]])
HELD = scipy.sparse.csr_array([[1, 1, 1, 1, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]])
"""Lists of three, the second of which ends early; four, one and no items to be found."""


def log(n_users: int = 30, n_items: int = 40, seed: int = 0) -> Any:
    draw = np.random.default_rng(seed)
    return scipy.sparse.csr_array((draw.random((n_users, n_items)) < 0.3).astype(np.float32))


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("ndcg", (1 / math.log2(3) + 1 / 2) / (1 + 1 / math.log2(3) + 1 / 2), 1.0),
        ("recall", 2 / 3, 1.0),
        ("precision", 2 / 3, 1 / 3),
        ("map", (1 / 2 + 2 / 3) / 3, 1.0),
        ("hit-rate", 1.0, 1.0),
    ],
)
def test_metrics_at_three_worked_by_hand(name: str, first: float, second: float) -> None:
    values = ranking.METRICS[name](LISTS, HELD, 3)
    np.testing.assert_allclose(values, [first, second, np.nan])


def test_ndcg_is_that_of_scikit_learn() -> None:
    draw = np.random.default_rng(3)
    scores, held = draw.random((20, 50)), log(20, 50, seed=1)
    for k in (1, 10, 50):
        ours = ranking.ndcg(ranking.top_n(scores, k), held, k)
        for row in range(20):
            assert ours[row] == pytest.approx(ndcg_score(held.toarray()[[row]], scores[[row]], k=k))


def test_coverage_novelty_and_rmse_worked_by_hand() -> None:
    assert ranking.coverage(LISTS, 5, 2) == pytest.approx(4 / 5)
    assert ranking.novelty(np.array([[0, 1], [0, -1]]), np.array([0.25, 1.0]), 2) == pytest.approx(4 / 3)
    assert math.isnan(ranking.novelty(np.array([[0]]), np.zeros(1), 1))
    assert ranking.rmse(np.array([1.0, 2.0]), np.array([1.0, 4.0])) == pytest.approx(math.sqrt(2))


def test_top_n_leaves_out_what_is_excluded_and_breaks_ties_in_order() -> None:
    scores = np.array([[1.0, 3.0, 3.0, 2.0], [0.0, -np.inf, 0.0, 0.0]])
    seen = scipy.sparse.csr_array([[0, 1, 0, 0], [1, 0, 0, 1]])
    assert ranking.top_n(scores, 3).tolist() == [[1, 2, 3], [0, 2, 3]]
    assert ranking.top_n(scores, 5, exclude=seen).tolist() == [[2, 3, 0, -1, -1], [2, -1, -1, -1, -1]]
    assert scores[0, 1] == 3.0


def test_wrong_k_and_wrong_shapes_are_told() -> None:
    with pytest.raises(ValueError, match="k=0 must be an integer >= 1"):
        ranking.ndcg(LISTS, HELD, 0)
    with pytest.raises(ValueError, match=r"recommended has shape \(3, 3\), but \(3, at least 4\) is needed"):
        ranking.ndcg(LISTS, HELD, 4)
    with pytest.raises(ValueError, match="Unknown metric 'ndgc'; did you mean 'ndcg'"):
        parse_metric("ndgc@10")
    with pytest.raises(ValueError, match="needs a list length, such as ndcg@10"):
        parse_metric("ndcg")


def test_means_and_standard_errors_leave_out_users_without_an_answer() -> None:
    found = evaluate_lists(LISTS, HELD, ["recall@3", "coverage@2"], np.ones(5))
    assert found.mean("recall@3") == pytest.approx(5 / 6)
    assert found.standard_error("recall@3") == pytest.approx(1 / 6)
    assert found.to_dict() == {"recall@3": pytest.approx(5 / 6), "coverage@2": pytest.approx(4 / 5)}


def test_a_fifth_of_each_user_is_left_out_and_nothing_is_lost() -> None:
    whole = log()
    split = leave_out(whole, 0.2, random_state=0)
    given, held = split.given.matrix.toarray(), split.held.matrix.toarray()
    np.testing.assert_array_equal(given + held, whole.toarray())
    counts = whole.toarray().sum(1)
    np.testing.assert_array_equal(held.sum(1), np.where(counts > 1, np.maximum(1, np.rint(0.2 * counts)), 0))
    again = leave_out(whole, 0.2, random_state=0).held.matrix.toarray()
    np.testing.assert_array_equal(again, held)
    assert (leave_out(whole, 0.2, random_state=1).held.matrix.toarray() != held).any()


def test_who_has_one_item_keeps_it() -> None:
    split = leave_out(scipy.sparse.csr_array(np.eye(3)), 0.9, random_state=0)
    assert split.held.matrix.nnz == 0


def test_the_latest_are_left_out_by_time() -> None:
    frame = pd.DataFrame({"user": list("aaaab"), "item": [1, 2, 3, 4, 1], "time": pd.to_datetime(
        ["2020-01-04", "2020-01-01", "2020-01-03", "2020-01-02", "2021-01-01"])})  # fmt: skip
    held = leave_latest(frame, 0.5).held
    assert [held.items[column] for column in held.matrix.indices] == [1, 3]
    assert held.times is not None
    with pytest.raises(isthmus.DataError, match="have no times; pass a frame with a column time"):
        leave_latest(log(), 0.5)


def test_strong_generalisation_shares_no_user() -> None:
    split = strong_generalization(log(), n_validation=5, n_test=7, given=0.8, random_state=0)
    groups = [set(part.users.tolist()) for part in (split.train, split.validation.given, split.test.given)]
    assert [len(group) for group in groups] == [18, 5, 7]
    assert len(set.union(*groups)) == 30
    assert (split.test.given.users == split.test.held.users).all()
    whole = log().toarray()[split.test.given.users]
    np.testing.assert_array_equal(split.test.given.matrix.toarray() + split.test.held.matrix.toarray(), whole)


def test_wrong_sizes_and_shares_are_told() -> None:
    with pytest.raises(ValueError, match="must be integers >= 1 that leave some of the 30 users for training"):
        strong_generalization(log(), n_validation=10, n_test=20)
    with pytest.raises(ValueError, match=r"The share 1.0 must be a number in \(0, 1\)"):
        leave_out(log(), 1.0)
