"""Thresholds, p-values and the promises they make, against closed forms and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import false_discovery_control, norm

from isthmus import AnomalyDetector
from isthmus.choices.rules import broken_rules
from isthmus.tasks.anomaly import (
    THRESHOLDS,
    Auto,
    Contamination,
    FalseAlarmRate,
    Quantile,
    Threshold,
    benjamini_hochberg,
    conformal_p_values,
)
from isthmus.tasks.anomaly.calibration import compare_scores, conformal_cut
from isthmus.tasks.anomaly.probabilities import label_confidence

SCORES = np.random.default_rng(0).gamma(3.0, size=1000)


@pytest.mark.parametrize("rate", [0.0, 0.001, 0.05, 0.5, 0.999])
def test_contamination_puts_its_share_of_the_training_rows_above(rate: float) -> None:
    assert (Contamination(rate).cut(SCORES) < SCORES).sum() == round(1000 * rate)


def test_contamination_zero_reports_only_what_is_odder_than_every_training_row() -> None:
    assert Contamination(0).cut(SCORES) == SCORES.max()


def test_a_quantile_is_the_quantile_of_the_training_scores() -> None:
    assert Quantile(0.9).cut(SCORES) == np.quantile(SCORES, 0.9)


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1])
@pytest.mark.parametrize("n_calibration", [30, 199, 500])
def test_the_false_alarm_rate_over_many_calibrations_is_what_the_theory_says(alpha: float, n_calibration: int) -> None:
    rng = np.random.default_rng(1)
    calibrations = rng.normal(size=(4000, n_calibration))
    cuts = np.array([FalseAlarmRate(alpha).cut(SCORES, row) for row in calibrations])
    false_alarms = (rng.normal(size=(4000, 50)) > cuts[:, None]).mean()
    exact = math.floor((n_calibration + 1) * alpha + 1e-9) / (n_calibration + 1)  # the rank of a new row is uniform
    assert exact <= alpha
    assert false_alarms == pytest.approx(exact, abs=0.004)


def test_too_few_calibration_rows_promise_nothing_and_report_nothing() -> None:
    assert conformal_cut(np.arange(98.0), 0.01) == math.inf
    assert conformal_cut(np.arange(99.0), 0.01) == 98.0


def test_false_alarm_rate_says_what_it_lacks() -> None:
    with pytest.raises(ValueError, match=r"FalseAlarmRate\(0.05\) needs calibration rows; fit with calibration_frac"):
        FalseAlarmRate(0.05).cut(SCORES)


def test_a_p_value_is_at_most_alpha_just_where_the_cut_is_passed() -> None:
    rng = np.random.default_rng(2)
    calibration, scores = rng.normal(size=150), rng.normal(1.0, size=500)
    for alpha in (0.01, 0.05, 0.1, 0.5):
        above = scores > conformal_cut(calibration, alpha)
        assert np.array_equal(conformal_p_values(calibration, scores) <= alpha, above)


def test_p_values_of_normal_rows_are_uniform_on_their_steps() -> None:
    rng = np.random.default_rng(3)
    p = np.concatenate([conformal_p_values(rng.normal(size=9), rng.normal(size=1)) for _ in range(20_000)])
    shares = np.bincount(np.round(p * 10).astype(int), minlength=11)[1:] / len(p)
    np.testing.assert_allclose(shares, 0.1, atol=0.01)


def test_benjamini_hochberg_agrees_with_adjusted_p_values() -> None:
    p = np.random.default_rng(4).random(200) ** 3
    for rate in (0.0, 0.01, 0.1, 0.5, 1.0):
        assert np.array_equal(benjamini_hochberg(p, rate), false_discovery_control(p) <= rate)
    assert benjamini_hochberg(np.empty(0), 0.1).shape == (0,)


def test_of_the_rows_reported_no_more_than_the_rate_are_normal_on_average() -> None:
    rng = np.random.default_rng(5)
    false, found = [], []
    for _ in range(300):
        calibration, scores = rng.normal(size=1000), np.concatenate([rng.normal(size=180), rng.normal(4.0, size=20)])
        reported = benjamini_hochberg(conformal_p_values(calibration, scores), 0.2)
        false.append(reported[:180].sum() / max(1, reported.sum()))
        found.append(reported[180:].mean())
    assert np.mean(false) == pytest.approx(0.2 * 180 / 200, abs=0.03)
    assert np.mean(found) > 0.8


def test_a_wrong_rate_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rate=2 must be a number in \[0, 1\]"):
        benjamini_hochberg(np.ones(3), 2)


@pytest.mark.parametrize("rate", [0.5, 0.05, 0.01])
def test_auto_finds_the_quantile_of_exponential_scores_with_and_without_anomalies(rate: float) -> None:
    normal = np.random.default_rng(6).exponential(size=20_000)
    assert Auto(rate).cut(normal) == pytest.approx(-np.log(rate), rel=0.05)
    cut = Auto(rate).cut(np.concatenate([normal, np.full(400, 60.0)]))
    assert cut == pytest.approx(-np.log(rate), rel=0.1)


@pytest.mark.parametrize("name", THRESHOLDS.names())
def test_every_threshold_is_found_by_name_and_refuses_wrong_parameters(name: str) -> None:
    member = THRESHOLDS.resolve(name)
    assert isinstance(member, Threshold)
    (parameter,) = member.get_params()
    assert not member.mistakes()
    assert broken_rules(member.set_params(**{parameter: -1.0}), member.rules) == member.mistakes() != []


def test_a_number_is_a_contamination_and_a_wrong_name_is_helped() -> None:
    resolved = THRESHOLDS.resolve(0.2)
    assert isinstance(resolved, Contamination)
    assert resolved.rate == 0.2
    with pytest.raises(ValueError, match="Unknown threshold 'contamnation'; did you mean 'contamination'"):
        THRESHOLDS.resolve("contamnation")
    with pytest.raises(TypeError, match="True is not a threshold"):
        THRESHOLDS.resolve(True)


def test_drift_is_seen_and_chance_is_not() -> None:
    rng = np.random.default_rng(9)
    calibration = rng.normal(size=800)
    cut = conformal_cut(calibration, 0.05)
    quiet = [compare_scores(calibration, rng.normal(size=400), cut).drifted for _ in range(200)]
    assert np.mean(quiet) < 0.05
    drift = compare_scores(calibration, rng.normal(0.6, size=400), cut)
    assert drift.drifted
    assert drift.promised_rate == pytest.approx(0.05, abs=0.002)
    assert drift.alarm_rate > 0.1
    assert "have left the calibration" in drift.text
    assert "calibrate again" in drift.text
    with pytest.raises(ValueError, match=r"level=0 must be a number in \(0, 1\)"):
        compare_scores(calibration, calibration, cut, level=0)


# -- for those who come from PyOD --------------------------------------------------------------------------------------


def test_probabilities_are_unified_scores_of_the_training_rows() -> None:
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(200, 4)), rng.normal(size=(50, 4)) * 3
    detector = AnomalyDetector(0.1, max_steps=20, n_members=2, random_state=0).fit(X)
    scores, known = -detector.score_samples(new), detector.decision_scores_
    probabilities = detector.predict_proba(new)
    assert probabilities.shape == (50, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    by_hand = np.maximum(0.0, 2.0 * norm.cdf((scores - known.mean()) / known.std()) - 1.0)  # erf by another function
    np.testing.assert_allclose(probabilities[:, 1], by_hand, atol=1e-12)
    linear = np.clip((scores - known.min()) / (known.max() - known.min()), 0.0, 1.0)
    np.testing.assert_allclose(detector.predict_proba(new, method="linear")[:, 1], linear)
    with pytest.raises(ValueError, match=r"Unknown method 'platt'.*Known: linear, unify"):
        detector.predict_proba(new, method="platt")


def test_confidence_is_the_share_of_redrawn_training_sets_that_agree() -> None:
    rng = np.random.default_rng(0)
    known = rng.exponential(size=100)
    cut = np.sort(known)[89]  # ten of a hundred lie above
    scores = np.quantile(known, [0.2, 0.8, 0.88, 0.93, 0.99])
    below = (1 + np.searchsorted(np.sort(known), scores, side="right")) / 102
    drawn = rng.binomial(100, below[:, None], size=(5, 20_000))
    as_anomaly = (drawn > 90).mean(axis=1)
    agreeing = np.where(scores > cut, as_anomaly, 1 - as_anomaly)
    np.testing.assert_allclose(label_confidence(known, scores, float(cut)), agreeing, atol=0.015)


def test_confidence_of_a_detector_is_low_at_the_cut_only() -> None:
    X = np.random.default_rng(0).normal(size=(300, 3))
    detector = AnomalyDetector(0.1, max_steps=20, n_members=2, random_state=0).fit(X)
    confidence = detector.predict_confidence(np.vstack([X[:5] * 0, X[:5] + 50]))
    assert (confidence > 0.99).all()
    at_cut = label_confidence(detector.decision_scores_, np.array([detector.threshold_]), detector.threshold_)
    assert 0.3 < at_cut[0] < 0.7


def test_fit_predict_gives_the_labels_of_predict() -> None:
    X = np.random.default_rng(0).normal(size=(100, 3))
    made = AnomalyDetector(0.1, max_steps=20, n_members=2, random_state=0)
    np.testing.assert_array_equal(made.fit_predict(X), made.predict(X))
    assert set(made.predict(X)) <= {-1, 1}
