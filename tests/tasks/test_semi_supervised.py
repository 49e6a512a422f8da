"""Rows without a label in the classifier on an encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits, make_moons
from sklearn.semi_supervised import LabelSpreading

import isthmus
from isthmus import Autoencoder, EncoderClassifier
from isthmus.tasks.transfer import spreading
from isthmus.tasks.transfer.spreading import spread_labels, unlabelled_rows

DIGITS = load_digits()
X, Y = DIGITS.data / 16.0, DIGITS.target
FEW = np.random.default_rng(0).permutation(1200)[:40]
GIVEN = np.full(1200, -1)
GIVEN[FEW] = Y[FEW]
ENCODER = Autoencoder(16, max_epochs=20, random_state=0).fit(X[:1200])


def test_rows_without_a_label_make_few_labels_go_further(tmp_path: Path) -> None:
    alone = EncoderClassifier(ENCODER, max_epochs=40, random_state=0).fit(X[FEW], Y[FEW])
    model = EncoderClassifier(ENCODER, max_epochs=20, random_state=0).fit(X[:1200], GIVEN)
    assert model.classes_.tolist() == list(range(10))
    assert model.score(X[1200:], Y[1200:]) > alone.score(X[1200:], Y[1200:]) + 0.05
    assert model.score(X[1200:], Y[1200:]) > 0.8
    loaded: Any = isthmus.load(model.save(tmp_path / "c.safetensors"))
    assert loaded.unlabelled == "auto"
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    again = EncoderClassifier(ENCODER, max_epochs=20, random_state=0).fit(X[:1200], GIVEN)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_names_of_classes_and_a_mark_of_your_own() -> None:
    names = np.where(GIVEN < 0, "?", np.char.add("digit ", GIVEN.astype(str)))
    by_name = EncoderClassifier(ENCODER, unlabelled="?", max_epochs=2, random_state=0).fit(X[:1200], names)
    by_number = EncoderClassifier(ENCODER, max_epochs=2, random_state=0).fit(X[:1200], GIVEN)
    assert by_name.classes_.tolist() == [f"digit {number}" for number in range(10)]
    np.testing.assert_array_equal(by_name.predict_proba(X), by_number.predict_proba(X))


@pytest.mark.parametrize(
    ("labels", "mark", "found"),
    [
        ([1, -1, 1], "auto", [False, False, False]),  # two classes
        ([1, -1, 1], -1, [False, True, False]),
        ([-1, 2, 1], "auto", [True, False, False]),
        ([-1.0, 2.0, 1.0], "auto", [True, False, False]),
        ([-2, -1, 0, 1, 2], "auto", [False] * 5),  # grades
        ([-1, 0, 1], None, [False] * 3),
        ([-1, 0, 1], -1, [True, False, False]),
        ([0, 1, 2], "auto", [False] * 3),
        (["-1", "a", "b"], "auto", [False] * 3),
        (["-1", "a", "b"], -1, [False] * 3),
        (["auto", "a", "b"], "auto", [False] * 3),
        ([True, False], 1, [False, False]),
    ],
)
def test_which_rows_have_no_label(labels: list[Any], mark: Any, found: list[bool]) -> None:
    assert unlabelled_rows(np.asarray(labels), mark).tolist() == found


def test_a_mark_that_may_be_a_class_is_asked_for() -> None:
    sentiment = np.tile([-1, 0, 1], 100)
    with pytest.raises(ValueError, match="pass unlabelled=-1 if -1 marks rows without a label, or unlabelled=None"):
        EncoderClassifier(ENCODER).fit(X[:300], sentiment)
    model = EncoderClassifier(ENCODER, unlabelled=None, max_epochs=1, random_state=0).fit(X[:300], sentiment)
    assert model.classes_.tolist() == [-1, 0, 1]


@pytest.mark.parametrize(
    ("labels", "settings", "text"),
    [
        (np.full(50, -1), {"unlabelled": -1}, "y has no labelled row: all 50 rows are -1; label rows of each class"),
        (np.full(50, "?"), {"unlabelled": "?"}, "y has no labelled row: all 50 rows are '\\?'"),
        (np.where(np.arange(50) < 3, 4, -1), {"unlabelled": -1}, "y has labels of one class only, 4, and 47 rows"),
        (np.where(np.arange(50) < 3, np.nan, -1.0), {}, "Input y contains NaN"),
        (np.arange(50) % 2, {"n_neighbors": 0}, "n_neighbors=0 must be an integer >= 1"),
        (np.arange(50) % 2, {"unlabelled": [1]}, 'unlabelled=\\[1\\] must be a label, "auto" or None'),
    ],
)
def test_labels_with_which_nothing_can_be_learned(labels: np.ndarray, settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        EncoderClassifier(ENCODER, **settings).fit(X[:50], labels)


def test_passes_take_rows_with_labels_only() -> None:
    with pytest.raises(ValueError, match="y has rows without a label, which only fit takes"):
        EncoderClassifier(ENCODER).partial_fit(X[:1200], GIVEN)


def test_rows_of_weight_zero_spread_no_label() -> None:
    wrong, weights = GIVEN.copy(), np.ones(1200)
    unknown = np.flatnonzero(GIVEN < 0)[:200]
    wrong[unknown], weights[unknown] = (Y[unknown] + 1) % 10, 0.0
    model = EncoderClassifier(ENCODER, max_epochs=20, random_state=0).fit(X[:1200], wrong, sample_weight=weights)
    counted = EncoderClassifier(ENCODER, max_epochs=20, random_state=0).fit(X[:1200], wrong)
    assert model.score(X[1200:], Y[1200:]) > counted.score(X[1200:], Y[1200:]) + 0.2
    with pytest.raises(ValueError, match="Every row with a label has weight 0"):
        EncoderClassifier(ENCODER).fit(X[:1200], GIVEN, sample_weight=(GIVEN < 0).astype(float))


def test_the_graph_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spreading, "MOST_ROWS", 500)
    kept = spreading.graph_rows(GIVEN < 0, 0)
    assert len(kept) == 500
    assert set(FEW) <= set(kept.tolist())
    model = EncoderClassifier(ENCODER, max_epochs=40, random_state=0).fit(X[:1200], GIVEN)
    assert model.score(X[1200:], Y[1200:]) > 0.75


# -- the guesses themselves --------------------------------------------------------------------------------------------


def test_two_moons_with_one_label_each_are_told_apart() -> None:
    rows, truth = make_moons(400, noise=0.05, random_state=0)
    numbers = np.full(400, -1)
    for label in (0, 1):
        numbers[np.flatnonzero(truth == label)[0]] = label
    found = spread_labels(rows, numbers, 10)
    assert np.mean(found.numbers == truth) == 1.0
    assert found.confidence.min() >= 0.0
    assert (found.confidence[numbers >= 0] == 1.0).all()
    theirs = LabelSpreading(kernel="knn", n_neighbors=10, alpha=0.99, max_iter=1000).fit(rows, numbers)
    assert np.mean(found.numbers == theirs.transduction_) > 0.99


def test_a_class_with_many_labels_does_not_flood_one_with_few() -> None:
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(0.0, 1.0, (300, 2)), rng.normal([3.0, 0.0], 1.0, (300, 2))])
    numbers = np.full(600, -1)
    numbers[:100], numbers[300:303] = 0, 1
    found = spread_labels(rows, numbers, 10).numbers
    assert np.mean(found[300:] == 1) > 0.85
    assert np.mean(found[:300] == 0) > 0.85


def test_copies_and_rows_apart_from_all_labels() -> None:
    rows = np.array([[0.0]] * 5 + [[1.0]] * 5 + [[9.0]] * 5)
    numbers = np.array([0] + [-1] * 4 + [1] + [-1] * 9)
    found = spread_labels(rows, numbers, 2)
    assert found.numbers[:10].tolist() == [0] * 5 + [1] * 5
    assert found.confidence[:10].min() > 0.99
    assert (found.confidence[10:] == 0.0).all()


def test_the_confidence_is_that_of_the_entropy() -> None:
    found = spread_labels(np.array([[-1.0], [0.0], [1.0]]), np.array([0, -1, 1]), 2)
    assert found.confidence[1] == pytest.approx(0.0, abs=1e-12)  # half of each class
