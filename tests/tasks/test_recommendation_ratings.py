"""Ratings: biases, the factors of what they leave, and what is told of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse

from isthmus import Recommender, evaluate_recommender, leave_out
from isthmus.tasks.recommendation.biases import learn_biases
from isthmus.tasks.recommendation.factors import Factors, learn_factors
from isthmus.tasks.recommendation.ranking import rmse

SMALL: dict[str, Any] = {"code_size": 4, "network": (8,), "max_epochs": 5, "random_state": 0, "feedback": "explicit"}


def tastes(n_users: int = 300, n_items: int = 60, share: float = 0.4) -> scipy.sparse.csr_array:
    """Ratings from 1 to 5 of two tastes with noise, a share of them known."""
    draw = np.random.default_rng(0)
    exact = 3.0 + 0.7 * draw.normal(size=(n_users, 2)) @ draw.normal(size=(2, n_items))
    exact += draw.normal(0.0, 0.3, exact.shape)
    return scipy.sparse.csr_array(np.where(draw.random(exact.shape) < share, exact.clip(1, 5), 0.0))


def test_factors_of_users_are_the_conditional_mean_of_a_gaussian() -> None:
    draw = np.random.default_rng(1)
    loadings = draw.normal(size=(5, 2))
    first, second = np.triu_indices(2)
    sure = Factors(loadings, loadings[:, first] * loadings[:, second], 0.3)
    residuals = scipy.sparse.csr_array([[1.0, 0, -2.0, 0, 0.5]])
    seen = residuals.indices
    of_seen = loadings[seen] @ loadings[seen].T + 0.3 * np.eye(len(seen))
    expected = loadings @ loadings[seen].T @ np.linalg.solve(of_seen, residuals.data)
    np.testing.assert_allclose(sure.predict(residuals)[0], expected)


def test_factors_find_tastes_and_the_noise_about_them() -> None:
    matrix = tastes()
    matrix.data -= 3.0
    factors = learn_factors(matrix, n_factors=2)
    assert 0.5 * 0.3**2 < factors.noise < 2 * 0.3**2
    split = leave_out(matrix, random_state=0)
    held = split.held.matrix
    predicted = learn_factors(split.given.matrix, n_factors=2).predict(split.given.matrix)
    rows = np.repeat(np.arange(300), np.diff(held.indptr))
    assert rmse(predicted[rows, held.indices], held.data) < 0.5 * rmse(np.zeros(held.nnz), held.data)


def test_factors_say_nothing_of_who_rated_nothing() -> None:
    factors = learn_factors(tastes(), n_factors=2)
    np.testing.assert_array_equal(factors.predict(scipy.sparse.csr_array((1, 60))), np.zeros((1, 60)))


def test_ratings_are_told_better_than_by_biases_alone() -> None:
    split = leave_out(tastes(), random_state=0)
    given, held = split.given.matrix, split.held.matrix
    learned = learn_biases(given)
    users = np.repeat(learned.of_users(given), np.diff(held.indptr))
    by_biases = rmse(learned.mean + learned.items[held.indices] + users, held.data)
    model = Recommender(**SMALL).fit(split.given)
    assert evaluate_recommender(model, split, ["rmse"]).mean("rmse") < 0.8 * by_biases


@pytest.mark.parametrize("shallow", [True, False])
def test_a_history_of_ratings_gets_the_list_of_a_user_who_has_it(shallow: bool) -> None:
    matrix = tastes()
    model = Recommender(**SMALL, shallow=shallow).fit(matrix)
    assert (model.factors_ is not None) == shallow
    history = dict(zip(matrix[[7]].indices.tolist(), matrix[[7]].data.tolist(), strict=True))
    known, folded = model.recommend(7, 5), model.recommend(history=history, n=5)
    assert known.items.tolist() == folded.items.tolist()
    np.testing.assert_allclose(known.scores, folded.scores, rtol=1e-6)


def test_the_shallow_weight_has_an_effect_on_ratings() -> None:
    few, much = (Recommender(**SMALL, shallow_weight=weight).fit(tastes()) for weight in (0, 50))
    assert not np.allclose(few.predict([0] * 60, range(60)), much.predict([0] * 60, range(60)), atol=0.01)
