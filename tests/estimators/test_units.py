"""Rows in other units are refused or warned of, rows outside a likelihood score worst, and scores share one unit."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV

import isthmus
from isthmus import Autoencoder, ByColumn, CategoricalCrossEntropy, Gaussian, Observed, VariationalAutoencoder, diagnose
from isthmus.choices import LOSSES
from isthmus.exceptions import DataError, UnitsWarning


def small(size: int = 2, **more: Any) -> Autoencoder:
    settings: dict[str, Any] = {"network": (8,), "max_epochs": 40, "random_state": 0} | more
    return Autoencoder(size, **settings)


def latent(n: int, width: int, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    directions = np.random.default_rng(7).normal(size=(2, width))
    rows: np.ndarray = draw.normal(size=(n, 2)) @ directions + 0.1 * draw.normal(size=(n, width))
    return rows


IMAGES = np.random.default_rng(0).integers(0, 256, (60, 6, 6), dtype=np.uint8)


# -- units -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["transform", "reconstruct", "score", "score_samples", "reconstruction_error"])
def test_shares_for_a_model_of_bytes_are_refused_and_the_other_way_round(verb: str) -> None:
    of_bytes, of_shares = small(max_epochs=1).fit(IMAGES), small(max_epochs=1).fit(IMAGES / 255)
    with pytest.raises(DataError, match=r"X has values from 0 to 1, but .* fitted on bytes from 0 to 255; pass X"):
        getattr(of_bytes, verb)((IMAGES / 255).astype(np.float32))
    with pytest.raises(DataError, match=r"X has bytes up to 255, but .* values from 0 to 1; divide X by 255"):
        getattr(of_shares, verb)(IMAGES)


def test_a_black_image_is_in_any_unit() -> None:
    assert small(max_epochs=1).fit(IMAGES).transform(np.zeros((1, 6, 6))).shape == (1, 2)


@pytest.mark.parametrize("factor", [1000.0, -50.0])
def test_rows_far_outside_are_warned_of_once(factor: float) -> None:
    X = latent(200, 5) + 10
    model = small(max_epochs=2).fit(X)
    with pytest.warns(
        UnitsWarning, match=r"\d+ of \d+ checked rows .* far outside the range of the training rows of this Autoencoder"
    ) as seen:
        list(model.stream(X * factor, rows_per_chunk=10))
    assert len(seen) == 1


def test_ordinary_held_out_rows_are_not_warned_of() -> None:
    draws: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
        "normal": lambda draw, n: draw.normal(size=(n, 20)),
        "heavy": lambda draw, n: draw.standard_cauchy((n, 20)),
        "lognormal": lambda draw, n: np.exp(2 * draw.normal(size=(n, 20))),
        "counts": lambda draw, n: draw.poisson(0.1, (n, 20)),
    }
    for draw in draws.values():
        X = draw(np.random.default_rng(0), 400)
        model = small(max_epochs=1, scaling="standard").fit(X[:200])
        for rows in (X[200:], X[200:201], X[250:253]):
            model.transform(rows)  # warnings are errors here
        assert not diagnose(model, X[200:])["other-units"].found


def test_what_was_seen_grows_with_partial_fit_and_lies_in_the_file(tmp_path: Any) -> None:
    X = latent(100, 4)
    model = small().partial_fit(X).partial_fit(1.5 * X)
    np.testing.assert_array_equal(model.feature_ranges_, [1.5 * X.min(axis=0), 1.5 * X.max(axis=0)])
    loaded = isthmus.load(model.save(tmp_path / "m.safetensors"))
    np.testing.assert_array_equal(loaded.feature_ranges_, model.feature_ranges_)
    with pytest.warns(UnitsWarning):
        loaded.transform(1e4 * X)


@pytest.mark.parametrize("factor", [1000.0, 0.001])
def test_diagnose_says_other_units(factor: float) -> None:
    X = latent(300, 5) + np.arange(5)
    found = diagnose(small().fit(X), X * factor)
    assert "other-units" in found.faults
    assert f"such as X * {1 / factor:.3g}"[:14] in found["other-units"].remedy
    assert "other-units" not in diagnose(small().fit(X), X).faults


def test_diagnose_says_other_units_of_bytes_for_a_model_of_shares() -> None:
    model = small(max_epochs=2).fit(IMAGES / 255)
    assert "other-units" in diagnose(model, IMAGES).faults
    assert "other-units" in diagnose(small(max_epochs=2).fit(IMAGES), IMAGES / 255).faults


def test_integers_and_doubles_far_from_zero_get_the_same_codes_and_are_restored() -> None:
    X = (1_700_000_000 + 3600 * latent(300, 5)).astype(np.int64)
    model = small(max_epochs=100).fit(X)
    np.testing.assert_allclose(model.transform(X), model.transform(X.astype(float)), atol=1e-5)
    np.testing.assert_allclose(small(max_epochs=100).fit(X.astype(float)).transform(X), model.transform(X), atol=1e-5)
    for restored in (model.reconstruct(X), model.inverse_transform(model.transform(X))):
        assert 1 - np.square(restored - X).sum() / np.square(X - X.mean(axis=0)).sum() > 0.95


# -- support -----------------------------------------------------------------------------------------------------------

INSIDE = np.random.default_rng(0).random((200, 4))
COUNTS = np.random.default_rng(0).poisson(3.0, (200, 4)).astype(float)
SHARES = INSIDE / INSIDE.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("loss", "rows", "outside"),
    [
        ("binary-cross-entropy", INSIDE, [[3.0, 0.5, 0.5, 0.5], [-2.0, 0.1, 0.1, 0.1]]),
        ("poisson", COUNTS, [[-5.0, 1.0, 1.0, 1.0]]),
        ("multinomial", COUNTS, [[-50.0, 0.0, 0.0, 0.0]]),
        ("categorical-cross-entropy", SHARES, [[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [-1.0, 2.0, 0.0, 0.0]]),
        (Observed("binary-cross-entropy"), INSIDE, [[3.0, np.nan, 0.5, 0.5]]),
        (
            ByColumn((("binary-cross-entropy", 2), ("mean-squared-error", 2))),
            INSIDE,
            [[3.0, 0.5, 0.5, 0.5], [0.5, -1.0, 0.5, 0.5]],
        ),
    ],
    ids=str,
)
def test_rows_outside_the_support_score_minus_infinity(loss: Any, rows: np.ndarray, outside: list[list[float]]) -> None:
    model = small(loss=loss, scaling="none", max_epochs=5).fit(rows)
    scores = model.score_samples(np.vstack([rows, outside]))
    assert np.isfinite(scores[: len(rows)]).all()
    assert (scores[len(rows) :] == -np.inf).all()


def test_rows_far_outside_rank_worst() -> None:
    X = np.vstack([INSIDE, INSIDE[:50] + 4.0])
    scores = small(loss="binary-cross-entropy", scaling="none").fit(INSIDE).score_samples(X[:, :])
    odd = np.arange(len(X)) >= len(INSIDE)
    assert roc_auc_score(odd, -np.maximum(scores, -1e300)) == 1.0


def test_every_loss_supports_the_rows_it_was_fitted_on() -> None:
    for name in LOSSES.names():
        loss = LOSSES.resolve(name)
        target = torch.tensor([[0.0, 1.0]]) if not isinstance(loss, ByColumn) else torch.tensor([[0.3]])
        assert bool(loss.supports(target).all()), name
    grouped = CategoricalCrossEntropy((2, 1)).supports(torch.tensor([[0.0, 1.0, 1.0], [0.0, 1.0, 0.0]]))
    assert grouped.tolist() == [[True, True, True], [True, True, False]]


def test_a_likelihood_of_rows_outside_its_support_is_minus_infinity() -> None:
    model = VariationalAutoencoder(2, max_epochs=2, random_state=0, loss="binary-cross-entropy").fit(INSIDE)
    likelihood = model.log_likelihood([[0.5, 0.5, 0.5, 3.0], [0.5, 0.5, 0.5, 0.5]], random_state=0)
    assert np.isinf(likelihood).tolist() == [True, False]


# -- one unit of scores ----------------------------------------------------------------------------------------------


def test_score_is_the_mean_share_of_the_columns_in_units_of_their_own() -> None:
    X = latent(300, 5) * [1, 10, 100, 1000, 1e-6] + 7
    model = small(3).fit(X)
    shares = 1 - np.square(model.reconstruct(X) - X).mean(axis=0) / X.var(axis=0)
    assert model.score(X) == pytest.approx(shares.mean(), rel=1e-6)
    assert model.score(X[:1]) < 1.0  # one row has a score, too


def test_missing_entries_and_constant_columns_do_not_count() -> None:
    X = np.column_stack([latent(200, 4), np.full(200, 3.0)])
    X[::7, 1] = np.nan
    model = small(2, loss="observed").fit(X)
    seen = ~np.isnan(X[:, :4])
    errors = np.where(seen, np.square(model.reconstruct(X) - X)[:, :4], 0.0)
    deviation = np.nanstd(X[:, :4], axis=0)
    away = np.where(seen, np.square(X[:, :4] - np.nanmean(X[:, :4], axis=0)), 0.0)
    expected = 1 - (errors / deviation**2).sum() / (away / deviation**2).sum()
    assert model.score(X) == pytest.approx(expected, rel=1e-6)


def test_a_grid_over_loss_and_scaling_takes_the_best_restored_one() -> None:
    X = latent(200, 5) * [1, 2, 3, 4, 1e-4]
    grid = {"loss": ["mean-squared-error", "mean-absolute-error"], "scaling": ["none", "standard"]}
    found = GridSearchCV(small(), grid, cv=2).fit(X)
    assert found.best_params_["scaling"] == "standard"
    assert (found.cv_results_["mean_test_score"] <= 1.0).all()


@pytest.mark.parametrize("loss", ["auto", "mean-squared-error"])
def test_a_grid_over_beta_counts_what_the_code_costs(loss: str) -> None:
    X = latent(300, 5)
    model = VariationalAutoencoder(2, network=(16,), code=Gaussian(), max_epochs=30, random_state=0, loss=loss)
    found = GridSearchCV(model, {"code__beta": [0.0, 1.0]}, cv=2).fit(X)
    assert found.best_params_ == {"code__beta": 1.0}


def test_the_likelihood_of_squared_errors_is_that_of_a_normal_of_variance_one_half() -> None:
    X = latent(200, 4)
    model = VariationalAutoencoder(2, max_epochs=3, random_state=0, loss="mean-squared-error", scaling="none").fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        same = VariationalAutoencoder(
            2, max_epochs=1, random_state=0, loss=isthmus.Normal(scale=0.5**0.5), scaling="none"
        )
        same.fit(X)
    same.objective_.load_state_dict(model.objective_.state_dict())
    same.objective_.train().eval()
    assert model.score(X) == pytest.approx(same.score(X), rel=1e-6)


def test_rows_that_are_all_the_same_are_restored() -> None:
    X = np.full((40, 3), 7.0)
    model = small(max_epochs=50).fit(X)
    assert type(model.objective_.choices.loss).__name__ == "MeanSquaredError"
    np.testing.assert_allclose(model.reconstruct(X), X, atol=1e-2)
    assert model.score(X) in (0.0, 1.0)


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.int64])
def test_only_0_and_1_for_a_model_of_bytes_are_warned_of_once(dtype: Any) -> None:
    model = small(max_epochs=1).fit(IMAGES)
    with pytest.warns(
        UnitsWarning, match=r"X holds only 0 and 1, but .* bytes from 0 to 255.* pass X \* 255"
    ) as caught:
        model.transform((IMAGES > 127).astype(dtype))
    assert len(caught) == 1
    model.transform(IMAGES // 100)  # dark images are no contradiction


def test_one_image_where_rows_are_wanted_is_refused_with_the_remedy() -> None:
    model = small(max_epochs=1).fit(IMAGES)
    with pytest.raises(DataError, match=r"X has shape \(6, 6\), which is one row of this Autoencoder; give X\[None\]"):
        model.transform(IMAGES[0])
    assert model.transform(IMAGES[0][None]).shape == (1, model.code_size)
