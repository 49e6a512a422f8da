"""A trained encoder with labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

import isthmus
from isthmus import Autoencoder, EncoderClassifier

DIGITS = load_digits()
X, Y = DIGITS.data / 16.0, DIGITS.target
SMALL = Autoencoder(4, network=(16,), max_epochs=10, random_state=0)


@parametrize_with_checks([EncoderClassifier(SMALL, max_epochs=60, random_state=0)])  # type: ignore[untyped-decorator]
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
    model = EncoderClassifier(SMALL, max_epochs=300, early_stopping=3, validation_fraction=0.3, random_state=0)
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
