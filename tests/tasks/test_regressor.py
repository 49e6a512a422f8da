"""A trained encoder with targets, and frozen layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

import isthmus
from isthmus import Autoencoder, EncoderClassifier, EncoderRegressor

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(200, 3)) @ DRAW.normal(size=(3, 6))
Y = 1000.0 + 50.0 * X[:, 0] - 20.0 * X[:, 3]
ENCODER = Autoencoder(3, network=(16, 8), max_epochs=30, random_state=0).fit(X)
# As for the classifier: rows of weight 2 make other batches than rows given twice.
BATCHES = {
    f"check_sample_weight_equivalence_on_{kind}_data": "batches of weighted rows are other batches"
    for kind in ("dense", "sparse")
}


@parametrize_with_checks(  # type: ignore[untyped-decorator]
    [EncoderRegressor(Autoencoder(4, network=(16,), max_epochs=10, random_state=0), max_epochs=60, random_state=0)],
    expected_failed_checks=lambda _: BATCHES,
)
def test_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


def test_targets_come_back_in_their_units_and_shape(tmp_path: Path) -> None:
    one = EncoderRegressor(ENCODER, max_epochs=60, random_state=0).fit(X, Y)
    assert one.score(X, Y) > 0.95
    assert one.predict(X).shape == (200,)
    assert abs(one.predict(X).mean() - Y.mean()) < 10
    both = EncoderRegressor(ENCODER, max_epochs=60, random_state=0).fit(X, np.column_stack([Y, X[:, 1]]))
    assert both.predict(X).shape == (200, 2)
    assert both.score(X, np.column_stack([Y, X[:, 1]])) > 0.9
    loaded: Any = isthmus.load(both.save(tmp_path / "r.safetensors"))
    assert np.array_equal(loaded.predict(X), both.predict(X))
    constant = EncoderRegressor(ENCODER, max_epochs=2, random_state=0).fit(X, np.full(200, 7.0))
    np.testing.assert_allclose(constant.predict(X), 7.0, atol=1e-6)


def test_rows_of_weight_zero_do_not_count() -> None:
    wrong = np.where(np.arange(200) < 100, Y, -Y)
    weights = np.where(np.arange(200) < 100, 1.0, 0.0)
    model = EncoderRegressor(ENCODER, max_epochs=60, random_state=0).fit(X, wrong, weights)
    assert model.score(X[100:], Y[100:]) > 0.8


@pytest.mark.parametrize("kind", [EncoderRegressor, EncoderClassifier])
def test_frozen_layers_stay_and_later_ones_are_trained(kind: Any) -> None:
    y = Y if kind is EncoderRegressor else (Y > 1000).astype(int)
    first: Any = ENCODER.objective_.encoder
    before = [layer for layer in first.children() if hasattr(layer, "weight")]
    model = kind(ENCODER, freeze=2, max_epochs=3, random_state=0).fit(X, y)
    after = [layer for layer in model.objective_.encoder.children() if hasattr(layer, "weight")]
    assert len(after) == 3
    same = [bool((one.weight == other.weight).all()) for one, other in zip(before, after, strict=True)]
    assert same == [True, True, False]
    only_head = kind(ENCODER, fine_tune=False, max_epochs=3, random_state=0).fit(X, y)
    encoder: Any = only_head.objective_.encoder
    kept = next(encoder.parameters())
    np.testing.assert_array_equal(kept.detach(), before[0].weight.detach())
    with pytest.raises(ValueError, match="freeze=-1"):
        kind(ENCODER, freeze=-1).fit(X, y)


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (None, "the target y is None"),
        (["a"] * 200, "for classes use EncoderClassifier"),
        (np.where(np.arange(200) == 3, np.nan, Y), "NaN or infinity in 1 row, the first at row 3"),
        (Y[:10], "y has 10 rows, but X has 200 rows"),
        (np.zeros((200, 2, 2)), r"y has shape \(200, 2, 2\)"),
    ],
)
def test_bad_targets_are_refused(y: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EncoderRegressor(ENCODER).fit(X, y)


@pytest.mark.parametrize("kind", [EncoderRegressor, EncoderClassifier])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_each_layer_has_the_rate_of_the_layer_above_it_times_the_decay(kind: Any, optimizer: str) -> None:
    """One step: the change of a layer is that of a run without decay times its factor."""
    y = Y if kind is EncoderRegressor else (Y > 1000).astype(int)
    settings: dict[str, Any] = {"learning_rate": 1e-3, "schedule": "constant", "batch_size": 100, "max_epochs": 1}

    def changes(layer_decay: float) -> list[float]:
        # the head starts at zero, so that the first step moves it only: the second one moves the encoder too
        model = kind(ENCODER, layer_decay=layer_decay, optimizer=optimizer, random_state=0, **settings).fit(X, y)
        return [
            float((one - other).detach().norm())
            for one, other in zip(model.objective_.encoder.parameters(), first.parameters(), strict=True)
        ]

    first: Any = ENCODER.objective_.encoder
    even, decayed = changes(1.0), changes(1e-3)
    for depth, (one, other) in enumerate(zip(even[::2], decayed[::2], strict=True)):
        assert other == pytest.approx(one * 1e-3 ** (3 - depth), rel=0.05, abs=2e-7)
    with pytest.raises(ValueError, match="layer_decay=0"):
        kind(ENCODER, layer_decay=0).fit(X, y)


def test_layer_decay_is_saved(tmp_path: Path) -> None:
    model = EncoderClassifier(ENCODER, layer_decay=0.5, max_epochs=1, random_state=0).fit(X, (Y > 1000).astype(int))
    loaded: Any = isthmus.load(model.save(tmp_path / "c.safetensors"))
    assert loaded.layer_decay == 0.5
    assert loaded.objective_.layer_decay == 0.5
