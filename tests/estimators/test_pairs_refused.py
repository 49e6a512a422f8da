"""What `fit(X, target=…)`, and models that learned pairs, refuse: one clear error each."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import scipy.sparse
from tests.estimators.pairs import BRIEF, COLOUR, GREY, TARGET, X, linear

import isthmus
from isthmus import (
    AnomalyDetector,
    Autoencoder,
    Convolutional,
    ConvolutionalAutoencoder,
    Dense,
    LinearAutoencoder,
)
from isthmus.diagnosis.measures import restoration, worst_rows

HOLE = np.where(np.arange(240)[:, None] == 7, np.nan, TARGET)


@cache
def pairs() -> Autoencoder:
    """A model that was fitted to pairs."""
    return linear(max_epochs=1).fit(X, target=TARGET)


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (lambda: linear().fit(X, TARGET), r"fit\(X, target=y\)"),
        (lambda: linear().fit(X, target=TARGET[:9]), "target has 9 rows, but X has 240; pass one row of target"),
        (lambda: linear().fit(X, target=HOLE), "target has 4 NaN values, the first at row 7, column 0"),
        (lambda: linear().fit(X, target=TARGET[:0]), "target has 0 rows|0 sample"),
        (lambda: linear().fit(X, target=X), "X itself, the very same object"),
        (lambda: linear().fit(X, target=scipy.sparse.csr_array(TARGET)), r"target is a sparse.*target\.toarray"),
        (lambda: linear().fit(X, np.arange(240), target=TARGET), "labels y and a target.*conditional=True"),
        (lambda: linear().fit(X, target=TARGET[:, 0]), r"target has shape \(240,\).*target\.reshape\(-1, 1\)"),
        (lambda: linear().fit(X, target=[["a"]] * 240), "target has dtype <U1.*target.astype"),
        (lambda: linear().fit(X, target=TARGET * 1e160), "target has values up to"),
        (lambda: linear().fit(X, target=TARGET, X_val=X), "X_val without target_val"),
        (lambda: linear().fit(X, target=TARGET, target_val=TARGET), "target_val without X_val"),
        (lambda: linear().fit(X, X_val=X, target_val=TARGET), "target_val without target"),
        (lambda: linear().fit(X, target=TARGET, X_val=X, target_val=X + 1), r"target_val has rows of shape \(6,\)"),
        (lambda: linear().fit(X, target=TARGET, X_val=X, target_val=TARGET[:3]), "target_val has 3 rows, but X_val"),
        (lambda: linear().fit(X, target=TARGET, X_val=X, target_val=HOLE), "target_val has 4 NaN"),
        (lambda: linear(loss="bce", scaling=None).fit(X, target=TARGET), "the scaled target must lie in"),
        (lambda: linear(pretraining="layer-wise").fit(X, target=TARGET), "cannot be combined with a target"),
        (lambda: linear(network=Dense((5,), tied=True)).fit(X, target=TARGET), "tied=True needs a target as wide as X"),
        (lambda: LinearAutoencoder(2).fit(X, target=TARGET), "align=True.*set align=False"),
        (lambda: LinearAutoencoder(0.9, align=False).fit(X, target=TARGET), "share of the variance of X"),
        (
            lambda: ConvolutionalAutoencoder(4).fit(GREY, target=X[:60]),
            r"the target has rows of shape \(6,\).*images \(h, w\)",
        ),
        (
            lambda: ConvolutionalAutoencoder(4).fit(GREY, target=COLOUR.transpose(0, 3, 1, 2)),
            r"give target.transpose\(0, 2, 3, 1\)",
        ),
        (
            lambda: Autoencoder(4, network=Convolutional((4,), channels_first=True)).fit(
                COLOUR.transpose(0, 3, 1, 2), target=COLOUR
            ),
            "channels first, as X has them",
        ),
        (
            lambda: Autoencoder(8, network=Convolutional((4,), head="convolutional")).fit(
                GREY[:, :4, :4], target=COLOUR
            ),
            "needs a target of the size of X",
        ),
        (lambda: pairs().score(X), r"fitted with a target of shape \(n, 4\).*pass target="),
        (lambda: pairs().score_samples(X), "pass target="),
        (lambda: pairs().reconstruction_error(X), "pass target="),
        (lambda: pairs().stream(X, "score_samples"), "pass target="),
        (lambda: pairs().stream(X, "transform", target=TARGET), "target has no effect here"),
        (lambda: pairs().score(X, target=X + 1), r"target has rows of shape \(6,\), but the target at fit had"),
        (lambda: pairs().score(X, TARGET), "pass target="),
        (lambda: linear(max_epochs=1).fit(X).score(X, target=TARGET), "fitted without a target"),
        (lambda: isthmus.diagnose(pairs(), X), r"fitted with a target of shape \(n, 4\).*pass target="),
        (lambda: isthmus.write_report(pairs(), X, "never.html"), r"pass target="),
        (lambda: worst_rows(pairs(), X), r"pass target="),
        (lambda: restoration(pairs(), X), r"pass target="),
        (lambda: AnomalyDetector(autoencoder=pairs()).fit(X), "AnomalyDetector compares"),
        (lambda: Autoencoder(2, **BRIEF).fit(X[:60], target=GREY).score(X[:60], target=GREY / 255.0), r"target \* 255"),
    ],
)
def test_each_mistake_has_one_clear_error(use: Callable[[], object], text: str) -> None:
    with pytest.raises((ValueError, TypeError), match=text):
        use()


def test_targets_in_other_units_are_warned_of() -> None:
    with pytest.warns(isthmus.UnitsWarning, match="checked rows of target lie far outside"):
        pairs().score(X, target=TARGET * 1000)
