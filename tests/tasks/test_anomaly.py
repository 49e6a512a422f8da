"""The anomaly detector: rows in; out which are odd, why, and how often the alarm is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.utils.estimator_checks import parametrize_with_checks

import isthmus
from isthmus import Autoencoder
from isthmus.exceptions import DataError
from isthmus.tasks.anomaly import AnomalyDetector, Contamination, FalseAlarmRate, Quantile
from isthmus.tasks.anomaly.scoring import RULES


def make(threshold: Any = "auto", **more: Any) -> AnomalyDetector:
    settings: dict[str, Any] = {"max_steps": 60, "n_members": 4, "random_state": 0}
    return AnomalyDetector(threshold, **(settings | more))


def draw(n_rows: int, seed: int = 0) -> np.ndarray:
    """Rows of six numbers, of which the last two follow from the first two."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, 6))
    X[:, 4], X[:, 5] = X[:, 0] + 0.1 * X[:, 4], 100.0 + 10.0 * (X[:, 1] + 0.1 * X[:, 5])
    return X


def broken(n_rows: int, seed: int = 1) -> np.ndarray:
    """The same with the fifth number from another row: each cell is usual, the row is not."""
    X = draw(n_rows, seed)
    X[:, 4] = -np.sign(X[:, 0]) * (1.0 + np.abs(X[:, 4]))
    return X


TRAIN, NORMAL, ODD = draw(600), draw(200, 2), broken(200)
FITTED = make().fit(TRAIN)


@parametrize_with_checks([make(max_steps=5, n_members=2)])  # type: ignore[untyped-decorator]
def test_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


def area(detector: AnomalyDetector, normal: Any = NORMAL, odd: Any = ODD) -> float:
    scores = -np.concatenate([detector.score_samples(normal), detector.score_samples(odd)])
    return float(roc_auc_score([0] * len(normal) + [1] * len(odd), scores))


def test_rows_that_break_a_rule_between_columns_are_found() -> None:
    assert area(FITTED) > 0.85
    assert area(make(parts=("marginal",)).fit(TRAIN)) < 0.75


@pytest.mark.parametrize("part", ["marginal", "reconstruction", "density"])
def test_each_part_alone_finds_rows_far_out(part: str) -> None:
    assert area(make(parts=(part,)).fit(TRAIN), odd=NORMAL + 10.0 * TRAIN.std(axis=0)) > 0.98


def test_anomalies_in_training_are_left_out_of_what_rows_are_compared_with() -> None:
    far = np.full((30, 6), 4.0) + 0.01 * draw(30, 4)
    spoilt = np.concatenate([TRAIN, far])
    trusting, robust = make(trim=0.0).fit(spoilt), make(trim=0.1).fit(spoilt)
    assert area(robust, odd=far) > max(0.97, area(trusting, odd=far))


def test_a_loss_of_whole_rows_is_refused_as_it_names_no_column() -> None:
    for wrong in ({"loss": "log-mean-squared-error"}, {"autoencoder": Autoencoder(2, loss="log-mean-squared-error")}):
        with pytest.raises(ValueError, match="gives every column the error of its whole row; use"):
            AnomalyDetector(**wrong).fit(TRAIN)


def test_clean_rows_are_compared_by_a_power_mean_that_files_keep(tmp_path: Path) -> None:
    detector = make(trim=0.0).fit(TRAIN)
    scorer = detector.fitted_.scorer
    reading = next(iter(detector.fitted_.readings(detector._rows(ODD), in_full=True)))
    surprisals = scorer._surprisals(reading).numpy()
    rule = RULES["clean"]
    weights = np.array([rule.weights[part] for part in scorer.parts])
    p_values = np.exp(-surprisals) ** -rule.exponent
    mean = np.average(p_values, axis=0, weights=weights) ** (-1.0 / rule.exponent)
    np.testing.assert_allclose(-detector.score_samples(ODD)[: len(mean)], -np.log(mean), rtol=1e-9)
    np.testing.assert_allclose(scorer.contributions(reading).sum(1).numpy(), -np.log(mean), rtol=1e-9)
    loaded = isthmus.load(detector.save(tmp_path / "clean.safetensors"))
    np.testing.assert_array_equal(loaded.score_samples(ODD), detector.score_samples(ODD))
    assert (scorer.rule, make().fit(TRAIN).fitted_.scorer.rule) == ("clean", "harmonic-relation")
    assert area(detector) > 0.85


def test_words_of_pyod_and_of_scikit_learn_agree() -> None:
    detector = make(0.05).fit(TRAIN)
    assert detector.labels_.sum() == 30
    assert np.array_equal(detector.labels_, detector.decision_scores_ > detector.threshold_)
    assert detector.offset_ == -detector.threshold_
    np.testing.assert_allclose(detector.decision_function(ODD), detector.score_samples(ODD) - detector.offset_)
    assert np.array_equal(detector.predict(ODD) == -1, -detector.score_samples(ODD) > detector.threshold_)


def test_the_threshold_changes_without_training_and_an_impossible_one_leaves_the_old() -> None:
    detector = make(0.1).fit(TRAIN)
    scores = detector.score_samples(ODD)
    assert detector.set_threshold(Contamination(0)).labels_.sum() == 0
    assert detector.set_threshold(Quantile(0.9)).threshold_ == np.quantile(detector.decision_scores_, 0.9)
    with pytest.raises(ValueError, match="needs calibration rows; fit with calibration_fraction"):
        detector.set_threshold(FalseAlarmRate(0.1))
    assert isinstance(detector.threshold, Quantile)
    assert np.array_equal(detector.score_samples(ODD), scores)
    with pytest.raises(ValueError, match=r"Contamination: rate=1.0 must be a number in \[0, 1\)"):
        detector.set_threshold(1.0)


def test_the_promised_share_of_false_alarms_is_kept() -> None:
    detector = make(FalseAlarmRate(0.1)).fit(draw(1200, 5))
    assert len(detector.calibration_scores_) == 300
    assert (detector.predict(draw(2000, 6)) == -1).mean() == pytest.approx(0.1, abs=0.06)
    p_values = detector.p_values(draw(2000, 7))
    assert np.mean(p_values <= 0.1) == pytest.approx(0.1, abs=0.06)
    assert np.array_equal(detector.p_values(ODD) <= 0.1, detector.predict(ODD) == -1)
    found = detector.discoveries(np.concatenate([draw(500, 8), ODD + 8.0 * TRAIN.std(axis=0)]), rate=0.1)
    assert found[500:].mean() > 0.5
    assert found[:500].sum() < 0.25 * found.sum()


def test_rows_given_later_calibrate_and_show_drift() -> None:
    detector = make(0.1).fit(TRAIN)
    for use in (detector.p_values, detector.drift, detector.discoveries):
        with pytest.raises(ValueError, match=r"This AnomalyDetector has no calibration rows; fit with calibration_fra"):
            use(NORMAL)
    detector.calibrate(draw(400, 9)).set_threshold(FalseAlarmRate(0.05))
    assert not detector.drift(draw(300, 10)).drifted
    assert detector.drift(draw(300, 11) * 1.5).drifted


def test_contributions_sum_to_the_score_and_the_broken_column_is_named() -> None:
    parts = FITTED.contributions(ODD)
    np.testing.assert_allclose(parts.sum(axis=1), -FITTED.score_samples(ODD), rtol=1e-9)
    planted = NORMAL.copy()
    planted[:, 2] = 9.0
    reasons = [explanation.reasons[0] for explanation in FITTED.explain(planted)]
    assert np.mean([reason.column == "x2" for reason in reasons]) > 0.95
    assert reasons[0].seen == "9"
    assert str(reasons[0]).startswith("x2 = 9, expected about ")


def test_the_expected_value_is_what_the_other_cells_say_in_the_users_units() -> None:
    detector = make(max_steps=300).fit(TRAIN)
    row = np.array([[0.0, 1.0, 0.0, 0.0, 0.0, 10.0]])  # the last should be 100 + 10 · 1
    (explanation,) = detector.explain(row, n_columns=1)
    assert explanation.reasons[0].column == "x5"
    assert float(explanation.reasons[0].expected.removeprefix("about ")) == pytest.approx(110.0, abs=5.0)
    assert explanation.anomaly
    assert explanation.score == pytest.approx(-float(detector.score_samples(row)[0]))
    with pytest.raises(ValueError, match="n_columns=0 must be an integer >= 1"):
        detector.explain(row, n_columns=0)


def test_the_same_rows_get_the_same_scores_however_they_are_cut() -> None:
    whole = FITTED.score_samples(ODD)
    np.testing.assert_allclose(np.concatenate([FITTED.score_samples(ODD[:7]), FITTED.score_samples(ODD[7:])]), whole)
    assert np.array_equal(FITTED.score_samples(ODD), whole)
    assert np.array_equal(make().fit(TRAIN).score_samples(ODD), whole)


@pytest.mark.parametrize("X", [TRAIN, TRAIN[:1], np.ones((5, 3)), np.arange(4.0)[:, None]])
def test_few_rows_and_constant_columns_are_learned_from(X: np.ndarray) -> None:
    detector = make(max_steps=5).fit(X)
    assert np.isfinite(detector.score_samples(X)).all()
    assert (detector.score_samples(X + 50.0) <= detector.score_samples(X).min() + 1e-9).all()


@pytest.mark.parametrize("threshold", [0.1, FalseAlarmRate(0.2)])
def test_save_and_load_give_equal_scores(threshold: Any, tmp_path: Path) -> None:
    detector = make(threshold).fit(TRAIN)
    loaded = isthmus.load(detector.save(tmp_path / "d.safetensors"))
    assert np.array_equal(loaded.score_samples(ODD), detector.score_samples(ODD))
    assert np.array_equal(loaded.predict(ODD), detector.predict(ODD))
    assert np.array_equal(loaded.labels_, detector.labels_)
    assert loaded.explain(ODD[:3]) == detector.explain(ODD[:3])
    assert loaded.set_threshold(0.3).labels_.sum() == 180
    assert np.isfinite(loaded.partial_fit(NORMAL).score_samples(ODD)).all()


def test_a_detector_that_goes_on_learning_keeps_its_promise_or_asks_for_rows(tmp_path: Path) -> None:
    detector = make(FalseAlarmRate(0.2)).fit(TRAIN)
    before = detector.calibration_scores_
    detector.partial_fit(NORMAL)
    assert len(detector.calibration_scores_) == len(before) == 150
    assert not np.array_equal(detector.calibration_scores_, before)
    loaded = isthmus.load(detector.save(tmp_path / "d.safetensors"))
    with pytest.raises(ValueError, match=r"needs calibration rows, which are not in a model file; call calibrate"):
        loaded.partial_fit(NORMAL)
    assert np.isfinite(loaded.calibrate(draw(100, 30)).partial_fit(NORMAL).threshold_)


def test_nothing_works_before_fit(tmp_path: Path) -> None:
    detector = make()
    for use in (detector.score_samples, detector.predict, detector.explain, detector.set_threshold, detector.p_values):
        with pytest.raises(NotFittedError):
            use(TRAIN)
    with pytest.raises(NotFittedError):
        detector.save(tmp_path / "d.safetensors")


def test_all_mistakes_are_told_at_once() -> None:
    detector = make("sometimes", parts=("all",), trim=1.0, corruption="maskin", code_sizes=(2,), scaling="log")
    with pytest.raises(ValueError, match="6 parameters are invalid") as caught:
        detector.fit(TRAIN)
    told = str(caught.value)
    assert "trim=1.0 must be a number in [0, 1)." in told
    assert "corruption: Unknown corruption 'maskin'; did you mean 'masking'?" in told
    assert "scaling='log' must be one of auto" in told
    assert "code_sizes=(2,) must hold n_members=4 integers >= 1." in told
    assert "threshold: Unknown threshold 'sometimes'" in told
    assert (
        "parts=('all',) must be 'auto' or some of marginal, relation, reconstruction, neighbours, nearest, local, "
        "density." in told
    )


def test_infinite_values_are_located() -> None:
    bad = TRAIN.copy()
    bad[3, 2] = np.inf
    for use in (make().fit, FITTED.predict):
        with pytest.raises(DataError, match=r"1 infinite \(inf\) value, at row 3, column 2"):
            use(bad)


def test_a_stream_is_followed() -> None:
    shifted = [draw(400, seed) + 3.0 for seed in range(20, 24)]
    detector = make(0.05).partial_fit(TRAIN)
    before = detector.score_samples(shifted[3]).mean()
    for batch in shifted[:3]:
        detector.partial_fit(batch)
    assert detector.score_samples(shifted[3]).mean() > before + 0.5
    assert detector.n_rows_seen_ == 1800
    assert len(detector.decision_scores_) == 1800


def test_more_rows_than_are_wanted_are_sampled_evenly() -> None:
    detector = make(0.1, max_rows=200).fit(TRAIN)
    assert len(detector.sample_) == len(detector.decision_scores_) == 200
    assert detector.partial_fit(NORMAL).fitted_.reservoir.shape == (200, 6)
    assert area(detector) > 0.85


# -- tables and images -----------------------------------------------------------------------------------------------


def table(n_rows: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    country = rng.choice(["FR", "DE", "IT"], n_rows)
    amount = np.where(country == "FR", 100.0, np.where(country == "DE", 300.0, 900.0)) * rng.lognormal(0, 0.1, n_rows)
    frame = pd.DataFrame({"amount": amount, "country": country, "hour": rng.integers(0, 24, n_rows), "note": "ok"})
    frame["rest"] = np.where(rng.random(n_rows) < 0.1, np.nan, amount / 10 + rng.normal(size=n_rows))
    return frame


def test_a_table_with_categories_and_holes_is_scored_and_explained() -> None:
    detector = make(0.02, max_steps=200).fit(table(800))
    rows = table(3, 5)
    rows.loc[0, "country"], rows.loc[0, "amount"], rows.loc[0, "rest"] = "FR", 900.0, 90.0
    rows.loc[1, "amount"] = 98_000.0
    rows.loc[2, "country"] = "XX"
    explanations = detector.explain(rows, n_columns=2)
    assert [e.anomaly for e in explanations] == [True, True, True]
    assert explanations[1].reasons[0].column == "amount"
    assert "98,000" in explanations[1].reasons[0].seen
    assert explanations[2].reasons[0].column == "country"
    assert "expected" in str(explanations[2])
    shuffled = rows[rows.columns[::-1]]
    assert np.array_equal(detector.score_samples(shuffled), detector.score_samples(rows))


def test_a_table_detector_is_saved_with_its_schema(tmp_path: Path) -> None:
    detector = make(0.02).fit(table(300))
    loaded = isthmus.load(detector.save(tmp_path / "d.safetensors"))
    assert np.array_equal(loaded.score_samples(table(50, 1)), detector.score_samples(table(50, 1)))
    assert loaded.explain(table(5, 2)) == detector.explain(table(5, 2))
    with pytest.raises(DataError, match="amount"):
        loaded.predict(table(5).drop(columns="amount"))


def test_a_cell_that_is_missing_where_none_ever_was_is_odd() -> None:
    detector = make(0.02).fit(table(400))
    rows = table(50, 3)
    holes = rows.assign(amount=np.nan)
    assert (detector.score_samples(holes) < detector.score_samples(rows)).mean() > 0.9


def test_images_are_judged_by_their_pixels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = (rng.random((120, 8, 8)) * 20 + np.linspace(0, 200, 8)).astype(np.uint8)
    detector = make(autoencoder=Autoencoder(4, network=(16,), max_epochs=20)).fit(images)
    damaged = images[:1].copy()
    damaged[0, 2, 5] = 255
    found = detector.contributions(damaged)
    assert found.shape == (1, 8, 8)
    assert np.unravel_index(found[0].argmax(), (8, 8)) == (2, 5)
    loaded = isthmus.load(detector.save(tmp_path / "d.safetensors"))
    assert np.array_equal(loaded.score_samples(images), detector.score_samples(images))
    with pytest.raises(ValueError, match="an autoencoder of your own cannot go on learning"):
        detector.partial_fit(images)
    assert make().fit(images).contributions(images[:2]).shape == (2, 8, 8)


def test_clone_forgets_what_was_learned() -> None:
    assert not hasattr(clone(FITTED), "fitted_")
    assert "AnomalyDetector" in repr(clone(FITTED))
