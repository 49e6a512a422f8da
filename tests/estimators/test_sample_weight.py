"""Weights of rows: a row of weight 2 is a row that is there twice, one of weight 0 is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, KFold
from torch import nn

import isthmus
from isthmus import Autoencoder, Callback, Checkpoint, LinearAutoencoder, fit_many
from isthmus.training import Run
from isthmus.training.batches import Feed, ResidentFeed, StreamedFeed, resampled

N = 240
DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(N, 3)) @ DRAW.normal(size=(3, 8)) * [1, 1, 1, 5, 5, 5, 9, 9]
X[: N // 2] = DRAW.normal(size=(N // 2, 3)) @ DRAW.normal(size=(3, 8)) + 4.0
WHOLE = DRAW.integers(0, 4, N)
REPEATED = np.repeat(X, WHOLE, axis=0)
LONG: dict[str, Any] = {"network": (16,), "batch_size": 16, "learning_rate": 0.004, "random_state": 0}
BRIEF: dict[str, Any] = {"max_epochs": 3, "random_state": 0}


def test_an_epoch_takes_each_row_its_share_of_times_rounded_and_exactly_on_the_mean() -> None:
    weights = torch.from_numpy(DRAW.random(50) * 3)
    share = weights / weights.mean()
    counts = torch.stack([resampled(weights, (index + 0.5) / 200) for index in range(200)]).double()
    assert (counts.sum(1) == 50).all()
    assert ((counts >= share.floor()) & (counts <= share.ceil())).all()
    torch.testing.assert_close(counts.mean(0), share, atol=0.01, rtol=0)


@pytest.mark.parametrize("held", ["resident", "streamed", "streamed in blocks"])
def test_every_feed_takes_rows_by_their_weights(held: str) -> None:
    rows, weights = np.arange(60.0, dtype=np.float32)[:, None], torch.tensor([1.0, 2.0, 3.0] * 20)
    source = isthmus.data.as_source(rows)
    source.random_access = held != "streamed in blocks"
    feed: Feed = ResidentFeed(torch.from_numpy(rows), 7, weights)
    if held != "resident":
        feed = StreamedFeed(source, np.arange(60), torch.from_numpy, 7, weights)
    generator, taken = torch.Generator().manual_seed(0), np.zeros(60)
    for _ in range(400):
        epoch = torch.cat([batch.clone() for batch in feed.shuffled(generator)]).long().ravel().numpy()
        assert len(epoch) == 60
        taken += np.bincount(epoch, minlength=60)
    np.testing.assert_allclose(taken / 400, weights.numpy() / 2, atol=0.08)
    once, each = (torch.cat(parts) for parts in zip(*((x.clone(), w) for x, w in feed.weighed()), strict=True))
    np.testing.assert_array_equal(once, rows)
    np.testing.assert_allclose(each, weights / 2)


def test_scaling_and_statistics_are_those_of_repeated_rows() -> None:
    weighted, repeated = Autoencoder(2, **BRIEF).fit(X, sample_weight=WHOLE), Autoencoder(2, **BRIEF).fit(REPEATED)
    for name in ("feature_mean_", "feature_scale_", "feature_ranges_"):
        np.testing.assert_allclose(getattr(weighted, name), getattr(repeated, name), rtol=1e-12)
    np.testing.assert_allclose(weighted.scaling_.shift, repeated.scaling_.shift, rtol=1e-12)
    np.testing.assert_allclose(weighted.scaling_.factor, repeated.scaling_.factor, rtol=1e-12)


def own_modules() -> tuple[nn.Module, nn.Module]:
    """A pair that no compiled step takes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # fits begin with the weights as given, so these decide how good the model becomes
        encoder = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Dropout(0.02), nn.Linear(16, 1))
        return encoder, nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 8))


@pytest.mark.parametrize("network", [(), own_modules()])
def test_a_model_is_as_good_on_each_part_as_one_of_repeated_rows(network: Any) -> None:
    weights = np.where(np.arange(N) < N // 2, 5, 1)
    settings = {**LONG, "network": network}
    models = (
        Autoencoder(1, max_epochs=60, **settings).fit(X, sample_weight=weights),
        Autoencoder(1, max_epochs=20, **settings).fit(np.repeat(X, weights, axis=0)),
    )
    weighted, repeated = (model.reconstruction_error(X[: N // 2]).mean() for model in models)
    assert weighted == pytest.approx(repeated, rel=0.1)
    assert weighted < 0.8 * Autoencoder(1, max_epochs=60, **settings).fit(X).reconstruction_error(X[: N // 2]).mean()


def test_a_linear_model_equals_pca_of_repeated_rows() -> None:
    model, pca = LinearAutoencoder(3, **BRIEF).fit(X, sample_weight=WHOLE), PCA(3).fit(REPEATED)
    np.testing.assert_allclose(model.explained_variance_ratio_, pca.explained_variance_ratio_, rtol=1e-6)
    np.testing.assert_allclose(np.abs((model.components_ * pca.components_).sum(1)), 1, atol=1e-5)
    np.testing.assert_allclose(model.mean_, pca.mean_, atol=1e-6)


def test_rows_of_weight_zero_are_not_used_at_all() -> None:
    weights = (np.arange(N) % 3 > 0).astype(float)
    spoilt = np.where(weights[:, None] > 0, X, 1e9)
    asked = {"validation_fraction": 0.2, **BRIEF}
    without = Autoencoder(2, **asked).fit(X[weights > 0])
    masked = Autoencoder(2, **asked).fit(spoilt, sample_weight=weights)
    assert np.array_equal(masked.transform(X), without.transform(X))
    assert [row["val_loss"] for row in masked.history_] == [row["val_loss"] for row in without.history_]
    assert np.array_equal(masked.feature_ranges_, without.feature_ranges_)


def test_only_proportions_matter_and_equal_weights_are_none() -> None:
    codes = [
        Autoencoder(2, **BRIEF).fit(X, sample_weight=weights).transform(X)
        for weights in (None, np.ones(N), np.full(N, 0.3), np.full(N, 1e300), np.ones(N, dtype=bool))
    ]
    assert all(np.array_equal(each, codes[0]) for each in codes)
    once, thrice = (Autoencoder(2, **BRIEF).fit(X, sample_weight=factor * WHOLE).transform(X) for factor in (1.0, 4.0))
    assert np.array_equal(once, thrice)
    assert not np.array_equal(once, codes[0])


def test_held_out_rows_are_measured_by_their_weights() -> None:
    heavy = np.where(np.arange(N) < N // 2, 1000.0, 1.0)
    model = Autoencoder(1, max_epochs=1, validation_fraction=0.5, random_state=0).fit(X, sample_weight=heavy)
    light = Autoencoder(1, max_epochs=1, validation_fraction=0.5, random_state=0).fit(X, sample_weight=1.0 / heavy)
    errors = [model.score_samples(part).mean() for part in (X[: N // 2], X[N // 2 :])]
    assert -model.history_[0]["val_loss"] == pytest.approx(errors[0], rel=0.2)
    assert light.history_[0]["val_loss"] != model.history_[0]["val_loss"]


def test_weights_may_be_a_series_a_list_or_a_tensor_and_go_by_place() -> None:
    codes = [
        Autoencoder(2, **BRIEF).fit(pd.DataFrame(X), sample_weight=weights).transform(pd.DataFrame(X))
        for weights in (WHOLE, WHOLE.tolist(), torch.from_numpy(WHOLE), pd.Series(WHOLE, index=np.arange(N)[::-1]))
    ]
    assert all(np.array_equal(each, codes[0]) for each in codes)


def test_partial_fit_and_many_models_take_weights() -> None:
    learner = Autoencoder(2, random_state=0).partial_fit(X, sample_weight=WHOLE)
    np.testing.assert_allclose(learner.feature_mean_, REPEATED.mean(axis=0), rtol=1e-12)
    before = learner.transform(X)
    only = np.where(np.arange(N) < 20, 1.0, 0.0)
    other = Autoencoder(2, random_state=0).partial_fit(X, sample_weight=WHOLE)
    assert np.array_equal(
        learner.partial_fit(X, sample_weight=only).transform(X), other.partial_fit(X[:20]).transform(X)
    )
    assert not np.array_equal(learner.transform(X), before)
    first, _ = fit_many(Autoencoder(2, **BRIEF), X, {"learning_rate": [0.001, 0.01]}, sample_weight=WHOLE)
    alone = Autoencoder(2, learning_rate=0.001, **BRIEF).fit(X, sample_weight=WHOLE)
    np.testing.assert_allclose(first.transform(X), alone.transform(X), rtol=1e-4, atol=1e-5)


def test_a_conditional_model_knows_only_labels_of_rows_that_are_used() -> None:
    labels = np.array(["a", "b", "unused"])[np.arange(N) % 3]
    model = Autoencoder(2, conditional=True, **BRIEF).fit(X, labels, labels != "unused")
    assert model.classes_.tolist() == ["a", "b"]
    kept = labels != "unused"
    plain = Autoencoder(2, conditional=True, **BRIEF).fit(X[kept], labels[kept])
    assert np.array_equal(model.transform(X[kept], labels[kept]), plain.transform(X[kept], labels[kept]))


def test_weights_go_through_a_grid_search() -> None:
    search = GridSearchCV(
        Autoencoder(2, **BRIEF), {"learning_rate": [0.001, 0.01]}, cv=KFold(2, shuffle=True, random_state=0)
    )
    search.fit(X, sample_weight=WHOLE)
    assert search.best_score_ == pytest.approx(max(search.cv_results_["mean_test_score"]))
    best = Autoencoder(2, **BRIEF, **search.best_params_).fit(X, sample_weight=WHOLE)
    assert np.array_equal(search.best_estimator_.transform(X), best.transform(X))


@pytest.mark.parametrize("kind", [Autoencoder, isthmus.VariationalAutoencoder])
def test_a_weighted_score_is_that_of_repeated_rows(kind: type[Autoencoder]) -> None:
    model = kind(2, **BRIEF).fit(X)
    halves = np.r_[np.zeros(N // 2), np.ones(N // 2)]
    assert model.score(X, sample_weight=halves) == pytest.approx(
        model.score(X[N // 2 :]), rel=1e-5 if kind is Autoencoder else 0.05
    )
    assert model.score(X, sample_weight=np.full(N, 7.0)) == pytest.approx(model.score(X), rel=1e-6)


class StopAfter(Callback):
    """Ends a run after one epoch, as a crash would."""

    def on_epoch_end(self, run: Run) -> None:
        run.stop("stopped by a callback")


def test_a_resumed_run_ends_like_one_that_was_not_stopped_and_other_weights_are_refused(tmp_path: Path) -> None:
    whole = Autoencoder(2, **BRIEF).fit(X, sample_weight=WHOLE)
    file = tmp_path / "run.safetensors"
    Autoencoder(2, callbacks=[Checkpoint(file), StopAfter()], **BRIEF).fit(X, sample_weight=WHOLE)
    resumed = Autoencoder(2, **BRIEF).fit(X, sample_weight=WHOLE, resume=file)
    assert np.array_equal(resumed.transform(X), whole.transform(X))
    other = np.where(WHOLE > 0, WHOLE + 1, 0)
    with pytest.raises(isthmus.exceptions.ModelFileError, match="its sample_weight is"):
        Autoencoder(2, **BRIEF).fit(X, sample_weight=other, resume=file)


@pytest.mark.parametrize(
    ("weights", "error", "text"),
    [
        (np.ones(N - 1), ValueError, rf"shape \({N - 1},\), but X has {N} rows; give one number"),
        (np.ones((N, 1)), ValueError, rf"shape \({N}, 1\), but X has {N} rows"),
        (1.0, ValueError, r"shape \(\), but X has"),
        (np.r_[np.ones(N - 1), -1.0], ValueError, rf"1 value that is negative, NaN .* row {N - 1} \(-1\)"),
        (np.r_[np.nan, np.ones(N - 1)], ValueError, r"first at row 0 \(nan\)"),
        (np.r_[np.inf, np.ones(N - 1)], ValueError, r"first at row 0 \(inf\)"),
        (np.ma.masked_equal(np.r_[0.0, np.ones(N - 1)], 0.0), ValueError, "first at row 0"),
        (np.zeros(N), ValueError, "sample_weight is zero for all rows"),
        (np.eye(1, N)[0], ValueError, "> 0 for 1 row, but Autoencoder needs at least 2 samples"),
        (["heavy"] * N, TypeError, "is a list that does not hold plain numbers"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(weights: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Autoencoder(2, **BRIEF).fit(X, sample_weight=weights)
