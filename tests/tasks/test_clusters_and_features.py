"""Clusters of codes, and codes as features."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from isthmus import Autoencoder, cluster_codes, compare_features, matched_accuracy
from isthmus.tasks.features import _chosen

DRAW = np.random.default_rng(0)
BLOBS = np.concatenate([DRAW.normal(c, 1.0, (n, 4)) for c, n in ((0, 60), (20, 40), (40, 20))])
KINDS = np.repeat(["a", "b", "c"], [60, 40, 20])
MODEL = Autoencoder(2, network=(), max_epochs=20, random_state=0).fit(BLOBS)


def test_clusters_are_found_in_order_of_size_and_predicted_for_new_rows() -> None:
    found = cluster_codes(MODEL, BLOBS, 3, "codes")
    assert matched_accuracy(KINDS, found.labels) == 1.0
    assert np.bincount(found.labels).tolist() == [60, 40, 20]
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1.0)
    assert found.predict(np.full((1, 4), 20.0)).tolist() == [1]
    assert np.array_equal(found.predict(BLOBS), found.labels)


def test_accuracy_of_clusters_is_that_of_the_best_matching() -> None:
    assert matched_accuracy([0, 0, 1, 1, 2, 2], ["x", "x", "y", "y", "y", "z"]) == pytest.approx(5 / 6)
    assert matched_accuracy([0, 0, None, 1], [5, 5, 5, 6]) == 1.0
    with pytest.raises(ValueError, match="No row has a label"):
        matched_accuracy([None, None], [0, 1])


def test_more_clusters_than_rows_and_a_missing_library_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="n_clusters=5 is more than the 3 rows of X"):
        cluster_codes(MODEL, BLOBS[:3], 5, "codes")
    with pytest.raises(ValueError, match="n_clusters=0 must be an integer >= 1"):
        cluster_codes(MODEL, BLOBS, 0)
    with pytest.raises(ValueError, match="did you mean 'umap'"):
        cluster_codes(MODEL, BLOBS, 3, "umapp")
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match=r"pip install 'isthmus\[maps\]'"):
        cluster_codes(MODEL, BLOBS, 3)
    assert len(set(cluster_codes(MODEL, np.repeat(BLOBS[:1], 9, axis=0), 3, "codes").labels)) >= 1


def test_features_are_compared_on_the_same_rows() -> None:
    X, y = load_digits(return_X_y=True)
    model = Autoencoder(8, network=(), max_epochs=20, random_state=0).fit(X[:400])
    only = {"logistic": LogisticRegression(max_iter=1000)}
    found = compare_features({"code": model}, X[:400], y[:400], X[400:600], y[400:600], n_labels=[50, None, 999],
                             classifiers=only)  # fmt: skip
    assert found["features"].tolist() == ["raw", "raw", "PCA of 8", "PCA of 8", "code", "code"]
    assert found["n_labels"].tolist() == [50, 400] * 3
    assert found["width"].tolist() == [64, 64, 8, 8, 8, 8]
    alone = LogisticRegression(max_iter=1000).fit(model.transform(X[:400]), y[:400])
    assert found["accuracy"].iloc[-1] == pytest.approx(alone.score(model.transform(X[400:600]), y[400:600]))


def test_every_class_is_among_few_labels() -> None:
    labels = np.array(["rare"] + ["a", "b"] * 500)
    for seed in range(20):
        chosen = _chosen(labels, 5, seed)
        assert len(set(chosen.tolist())) == 5
        assert set(labels[chosen]) == {"rare", "a", "b"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"models": {}}, "models is empty"),
        ({"y": [1, 2]}, r"y has shape \(2,\)"),
        ({"y_test": [np.nan] * 120}, "y_test has 120 missing labels"),
        ({"n_labels": [2]}, "n_labels=2 is below the number of classes; give at least 3"),
        ({"n_labels": [0]}, "must be integers >= 1 or None"),
        ({"y": ["a"] * 120}, "y has 1 class"),
    ],
)
def test_bad_labels_are_refused(change: dict[str, Any], words: str) -> None:
    given = {"models": {"code": MODEL}, "X": BLOBS, "y": KINDS, "X_test": BLOBS, "y_test": KINDS, **change}
    with pytest.raises(ValueError, match=words):
        compare_features(**given)
