"""A trained encoder with labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

import isthmus
from isthmus import Autoencoder, EncoderClassifier
from isthmus.exceptions import DivergenceError

DIGITS = load_digits()
X, Y = DIGITS.data / 16.0, DIGITS.target
SMALL = Autoencoder(4, network=(16,), max_epochs=10, random_state=0)


# A row of weight 2 is one row of a batch, and the row twice are two of other batches: training by batches cannot be
# the same, as scikit-learn itself says of its SGDClassifier. What a weight does has tests of its own below.
BATCHES = {
    f"check_sample_weight_equivalence_on_{kind}_data": "batches of weighted rows are other batches"
    for kind in ("dense", "sparse")
}


@parametrize_with_checks(  # type: ignore[untyped-decorator]
    [EncoderClassifier(SMALL, max_epochs=60, random_state=0)], expected_failed_checks=lambda _: BATCHES
)
def test_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


def test_with_few_labels_a_trained_encoder_beats_an_untrained_one() -> None:
    few = np.random.default_rng(0).permutation(1400)[:60]
    accuracy = []
    for epochs in (40, 1):
        encoder = Autoencoder(32, max_epochs=epochs, learning_rate="auto" if epochs > 1 else 1e-9, random_state=0)
        encoder.fit(X[:1400])
        model = EncoderClassifier(encoder, max_epochs=60, random_state=0).fit(X[few], Y[few])
        accuracy.append(model.score(X[1400:], Y[1400:]))
    assert accuracy[0] > accuracy[1]
    assert accuracy[0] > 0.7


def test_the_encoder_stays_as_it_is_unless_fine_tuned() -> None:
    encoder = Autoencoder(8, max_epochs=3, random_state=0).fit(X)
    before = encoder.transform(X)
    tuned = EncoderClassifier(encoder, max_epochs=3, random_state=0).fit(X, Y)
    frozen = EncoderClassifier(encoder, fine_tune=False, max_epochs=3, random_state=0).fit(X, Y)
    assert np.array_equal(encoder.transform(X), before)
    kept, changed = (next(model.objective_.encoder.parameters()) for model in (frozen, tuned))
    original = next(encoder.objective_.encoder.parameters())
    assert bool((kept == original).all())
    assert not bool((changed == original).all())


def test_labels_of_any_type_and_saving(tmp_path: Path) -> None:
    names = np.array(["zero", "one", "two"])
    rows = Y < 3
    model = EncoderClassifier(SMALL, max_epochs=20, corruption="masking", dropout=0.2, random_state=0)
    model.fit(X[rows], names[Y[rows]])
    assert model.score(X[rows], names[Y[rows]]) > 0.9
    loaded = isthmus.load(model.save(tmp_path / "c.safetensors"))
    assert np.array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert set(loaded.predict(X)) <= set(names)


def test_early_stopping_goes_back_to_the_best() -> None:
    early: dict[str, Any] = {"max_epochs": 300, "early_stopping": 3, "validation_fraction": 0.3}
    model = EncoderClassifier(SMALL, schedule="constant", random_state=0, **early)  # one-cycle may use all its epochs
    model.fit(X[:200], Y[:200])
    assert len(model.history_) < 300
    assert "val_loss" in model.history_.rows[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dropout": 1.0}, r"dropout=1.0 must be a number in \[0, 1\)"),
        ({"encoder": "dense"}, "must be an Autoencoder"),
        ({"encoder": Autoencoder(2, conditional=True)}, "not conditional"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        EncoderClassifier().set_params(**settings).fit(X, Y)


def test_labels_must_fit_the_rows() -> None:
    with pytest.raises(ValueError, match="y has 3 labels, but X has 10 rows"):
        EncoderClassifier(SMALL).fit(X[:10], [1, 2, 3])
    with pytest.raises(NotFittedError):
        EncoderClassifier().predict(X)


# -- weights, passes and logarithms ------------------------------------------------------------------------------------

FITTED = Autoencoder(4, network=(16,), max_epochs=10, random_state=0).fit(X)
TWO = Y < 2


def test_the_logarithms_are_those_of_the_probabilities() -> None:
    model = EncoderClassifier(FITTED, max_epochs=5, random_state=0).fit(X[TWO], Y[TWO])
    logarithms = model.predict_log_proba(X)
    np.testing.assert_allclose(np.exp(logarithms), model.predict_proba(X), atol=1e-7)
    with torch.no_grad():
        model.objective_.get_parameter("decoder.0.weight").mul_(1e4)
    assert np.isfinite(model.predict_log_proba(X)).all()


def test_rows_without_weight_do_not_count_and_the_unit_of_weights_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    wrong = rng.random(TWO.sum()) < 0.45
    labels, weights = np.where(wrong, 1 - Y[TWO], Y[TWO]), np.where(wrong, 0.0, 1.0)
    made = EncoderClassifier(FITTED, max_epochs=20, random_state=0)
    assert made.fit(X[TWO], labels, sample_weight=weights).score(X[TWO], Y[TWO]) > 0.98
    once = made.predict_proba(X)
    np.testing.assert_allclose(made.fit(X[TWO], labels, sample_weight=7 * weights).predict_proba(X), once, atol=1e-5)
    ones = made.fit(X[TWO], labels, sample_weight=np.ones(TWO.sum())).predict_proba(X)
    np.testing.assert_array_equal(made.fit(X[TWO], labels).predict_proba(X), ones)


def test_a_weight_is_a_factor_of_the_cross_entropy() -> None:
    rows, labels = X[TWO][:20], Y[TWO][:20]
    weights = np.random.default_rng(0).random(20)
    made = EncoderClassifier(FITTED, max_epochs=1, batch_size=20, learning_rate=1e-12, random_state=0)
    loss = made.fit(rows, labels, sample_weight=weights).history_["loss"][0]
    each = -made.predict_log_proba(rows)[np.arange(20), labels]
    assert loss == pytest.approx(np.average(each, weights=weights), rel=1e-5)


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        (np.zeros(10), "Sample weights must contain at least one non-zero number"),
        (-np.ones(10), "Negative values in data passed to `sample_weight`"),
        (np.ones(9), r"sample_weight.shape == \(9,\), expected \(10,\)"),
        (np.full(10, np.nan), "Input sample_weight contains NaN"),
    ],
)
def test_wrong_weights_are_refused(weights: np.ndarray, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        EncoderClassifier(FITTED).fit(X[:10], Y[:10], sample_weight=weights)


def test_passes_go_on_where_the_last_one_ended() -> None:
    model = EncoderClassifier(FITTED, learning_rate=0.01, random_state=0)
    for start in range(0, 1500, 300):
        model.partial_fit(X[start : start + 300], Y[start : start + 300], classes=np.arange(10))
    losses = model.history_["loss"]
    assert len(losses) == 5
    assert losses[-1] < 0.6 * losses[0]
    assert model.score(X[1500:], Y[1500:]) > 0.6
    assert len(model.fit(X[TWO], Y[TWO]).history_) > 5
    assert model.classes_.tolist() == [0, 1]


def test_classes_of_passes_are_known_from_the_first() -> None:
    model = EncoderClassifier(FITTED, random_state=0).partial_fit(X[:50], Y[:50], classes=range(10))
    assert model.predict_proba(X).shape[1] == 10
    with pytest.raises(ValueError, match="y contains 11, which is not among the classes 0, 1"):
        model.partial_fit(X[:10], Y[:10] + 11 - Y[:10])
    with pytest.raises(ValueError, match="are not those of the first call"):
        model.partial_fit(X[:10], Y[:10], classes=[0, 1])


def test_passes_go_on_after_a_file_and_a_failed_pass_changes_nothing(tmp_path: Path) -> None:
    model = EncoderClassifier(FITTED, learning_rate=0.01, random_state=0)
    model.partial_fit(X[:300], Y[:300], classes=np.arange(10))
    loaded = isthmus.load(model.save(tmp_path / "c.safetensors"))
    before, weights = loaded.predict_proba(X), loaded.objective_
    loaded.partial_fit(X[300:600], Y[300:600])
    assert len(loaded.history_) == 2
    assert loaded.score(X, Y) > model.score(X, Y)
    assert loaded.objective_ is not weights
    with pytest.raises(DivergenceError):
        model.set_params(learning_rate=1e30).partial_fit(X[300:600], Y[300:600])
    np.testing.assert_array_equal(model.predict_proba(X), before)
    assert len(model.history_) == 1
