"""Odd stretches of signals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import isthmus
from isthmus import AnomalyDetector, ConvolutionalAutoencoder, FalseAlarmRate, Quantile, SignalDetector
from isthmus.exceptions import DataError

DETECTOR = AnomalyDetector(0, max_steps=60, n_members=4, random_state=0)


def wave(n_stamps: int, seed: int = 0) -> np.ndarray:
    return np.sin(np.arange(n_stamps) / 8.0) + 0.05 * np.random.default_rng(seed).normal(size=n_stamps)


def still(n_stamps: int) -> np.ndarray:
    signal = wave(n_stamps, 1)
    signal[300:330] = 0.0
    return signal


FITTED = SignalDetector(50, detector=DETECTOR).fit(wave(1500))


def test_the_odd_stretch_is_found_at_its_place() -> None:
    found = FITTED.stretches(still(600))
    assert found[0].series == 0
    assert found[0].start < 315 < found[0].end
    assert found[0].end - found[0].start < 130
    scores, labels = FITTED.scores(still(600)), FITTED.predict(still(600))
    assert scores.shape == labels.shape == (600,)
    assert found[0].score == scores.max()
    assert labels[315] == -1
    assert labels[0] == 1


def test_stretches_carry_the_time_stamps_of_the_series() -> None:
    hours = pd.date_range("2024-01-01", periods=600, freq="h")
    (found, *_) = FITTED.stretches(pd.Series(still(600), index=hours))
    assert found.start < hours[315] < found.end


def test_many_series_of_several_channels_are_told_apart() -> None:
    pairs = [np.column_stack([wave(400, seed), 10.0 * wave(400, seed + 5)]) for seed in range(3)]
    model = SignalDetector(40, step=10, detector=DETECTOR).fit(pairs)
    pairs[1][200:230, 1] = 0.0
    assert model.stretches(pairs)[0].series == 1
    assert [len(scores) for scores in model.scores(pairs)] == [400, 400, 400]
    assert [labels.shape for labels in model.predict(pairs)] == [(400,)] * 3
    with pytest.raises(DataError, match="Series 0 has 1 channels, but 2 are needed"):
        model.scores(wave(100))


def test_a_time_stamps_score_is_the_mean_over_its_windows() -> None:
    signal = wave(131, 3)
    scores = FITTED.scores(signal)
    starts = np.unique([*range(0, 82, 6), 81])
    windows = np.stack([signal[start : start + 50] for start in starts])
    each = -FITTED.detector_.score_samples(windows)
    for stamp in (0, 60, 130):
        inside = (starts <= stamp) & (stamp < starts + 50)
        assert scores[stamp] == pytest.approx(each[inside].mean())


def test_windows_may_go_to_a_convolutional_autoencoder() -> None:
    detector = AnomalyDetector(0, autoencoder=ConvolutionalAutoencoder(2, max_epochs=1, random_state=0), random_state=0)
    model = SignalDetector(16, step=8, detector=detector).fit(wave(200))
    assert np.isfinite(model.scores(wave(100))).all()


def test_save_and_load_give_equal_scores(tmp_path: Path) -> None:
    loaded = isthmus.load(FITTED.save(tmp_path / "s.safetensors"))
    assert np.array_equal(loaded.scores(still(400)), FITTED.scores(still(400)))


@pytest.mark.parametrize(
    ("series", "text"),
    [
        (np.ones(10), "Series 0 has 10 time stamps, but a window takes 50; give longer series or a shorter window"),
        ([], "The list holds no series"),
        (np.array(["a"]), r"Series 0 has shape \(1,\) and dtype <U1, but numbers of shape \(time,\)"),
    ],
)
def test_what_cannot_be_cut_into_windows_is_refused(series: Any, text: str) -> None:
    with pytest.raises(DataError, match=text):
        FITTED.scores(series)


def test_wrong_parameters_are_named() -> None:
    with pytest.raises(ValueError, match="step=60 must be at most window=50"):
        SignalDetector(50, step=60).fit(wave(100))
    with pytest.raises(ValueError, match="window=1 must be an integer >= 2"):
        SignalDetector(1).fit(wave(100))
    with pytest.raises(NotFittedError):
        SignalDetector(50).scores(wave(100))


# -- thresholds on time stamps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.2, 0.05, Quantile(0.8)])
def test_so_large_a_share_of_the_training_stamps_is_reported_as_was_asked_for(threshold: Any) -> None:
    series = wave(1500)
    model = SignalDetector(50, detector=clone(DETECTOR).set_params(threshold=threshold)).fit(series)
    asked = threshold if isinstance(threshold, float) else 1 - threshold.q
    assert (model.predict(series) == -1).mean() == pytest.approx(asked, abs=0.005)
    np.testing.assert_array_equal(model.labels_ == 1, model.predict(series) == -1)
    np.testing.assert_array_equal(model.decision_scores_, model.scores(series))


def test_the_threshold_can_be_changed_and_speaks_of_stamps() -> None:
    series = [wave(600, 1), wave(500, 2)]
    model = SignalDetector(50, detector=DETECTOR).fit(series)
    assert not any(labels.any() for labels in model.labels_)
    model.set_threshold(0.1)
    assert [len(labels) for labels in model.labels_] == [600, 500]
    assert np.concatenate(model.labels_).mean() == pytest.approx(0.1, abs=0.005)
    assert model.offset_ == -model.threshold_
    for scores, samples, decided, labels in zip(
        model.scores(series),
        model.score_samples(series),
        model.decision_function(series),
        model.predict(series),
        strict=True,
    ):
        np.testing.assert_array_equal(samples, -scores)
        np.testing.assert_array_equal(labels, np.where(decided < 0, -1, 1))


def test_a_false_alarm_rate_holds_for_time_stamps_of_new_series() -> None:
    detector = clone(DETECTOR).set_params(threshold=FalseAlarmRate(0.1))
    model = SignalDetector(50, detector=detector).fit(wave(6000))
    assert len(model.calibration_scores_) == 1500
    alarms = [(model.predict(wave(3000, seed)) == -1).mean() for seed in range(5, 11)]
    assert np.mean(alarms) == pytest.approx(0.1, abs=0.05)
    p_values = model.p_values(wave(3000, 5))
    assert p_values.min() >= 1 / 1501
    assert np.mean(p_values <= 0.1) == pytest.approx(alarms[0], abs=1e-9)


def test_what_needs_stamps_kept_out_says_so() -> None:
    with pytest.raises(ValueError, match="has no calibration time stamps; fit it with"):
        FITTED.p_values(wave(100))
    with pytest.raises(ValueError, match="has no calibration time stamps; fit it with"):
        FITTED.set_threshold(FalseAlarmRate(0.1))
    with pytest.raises(DataError, match="No series is long enough to keep 25% of its time stamps out"):
        SignalDetector(50, detector=AnomalyDetector(FalseAlarmRate(0.1))).fit(wave(100))


def test_a_reason_names_the_channel_and_the_time() -> None:
    pairs = pd.DataFrame({"still": wave(900, 1), "moved": 10 * wave(900, 2)})
    model = SignalDetector(40, detector=DETECTOR).fit(pairs)
    pairs.loc[400:430, "moved"] = 0.0
    reason = model.explain(pairs)[0]
    assert reason.stretch == model.stretches(pairs)[0]
    assert next(iter(reason.shares)) == "moved"
    assert reason.shares["moved"] > 0.6
    assert sum(reason.shares.values()) == pytest.approx(1.0)
    assert 395 <= reason.peak <= 435
    assert f"most at {reason.peak}; by channel: moved" in str(reason)


def test_a_fitted_model_answers_as_fitted(tmp_path: Path) -> None:
    model = SignalDetector(50, detector=clone(DETECTOR).set_params(threshold=FalseAlarmRate(0.1))).fit(wave(1500))
    scores, labels = model.scores(still(400)), model.predict(still(400))
    loaded = isthmus.load(model.save(tmp_path / "s.safetensors"))
    model.set_params(window=30, step=3, detector=None)
    for same in (model, loaded):
        assert np.array_equal(same.scores(still(400)), scores)
        assert np.array_equal(same.predict(still(400)), labels)
        assert np.array_equal(same.labels_, model.labels_)
        assert np.array_equal(same.p_values(still(400)), model.p_values(still(400)))
    again = clone(loaded).fit(wave(1500))
    assert again.threshold_ == loaded.threshold_


# -- gaps and forms of series ------------------------------------------------------------------------------------------


def test_gaps_are_bridged_and_stamps_without_a_value_have_no_score() -> None:
    whole, gappy = still(600), still(600)
    gappy[[100, 101, 102, 450]] = np.nan
    scores = FITTED.scores(gappy)
    assert np.flatnonzero(np.isnan(scores)).tolist() == [100, 101, 102, 450]
    known = ~np.isnan(scores)
    assert np.abs(scores[known] - FITTED.scores(whole)[known]).max() < 1.0
    assert FITTED.predict(gappy)[100] == 1
    assert FITTED.stretches(gappy)[0].start < 315 < FITTED.stretches(gappy)[0].end
    gappy[180:240] = np.nan  # longer than a window
    assert np.isnan(FITTED.scores(gappy)[185:235]).all()
    assert FITTED.stretches(gappy)[0].start < 315


def test_a_model_learns_from_series_with_gaps() -> None:
    gappy = wave(1500)
    gappy[np.random.default_rng(0).random(1500) < 0.02] = np.nan
    gappy[700:900] = np.nan
    model = SignalDetector(50, detector=DETECTOR).fit(gappy)
    assert np.isfinite(model.threshold_)
    assert not model.labels_.any()
    assert model.stretches(still(600))[0].start < 315 < model.stretches(still(600))[0].end


def test_time_stamps_that_an_index_leaves_out_are_gaps() -> None:
    hours = pd.date_range("2024-03-30", periods=600, freq="h", tz="Europe/Berlin")  # with the change to summer time
    whole = pd.Series(still(600), index=hours)
    left = whole.drop(hours[[100, 101, 450]])
    scores, nan_scores = FITTED.scores(left), FITTED.scores(whole.where(whole.index.isin(left.index)))
    assert len(scores) == 597
    np.testing.assert_array_equal(scores, nan_scores[~np.isnan(nan_scores)])
    found = FITTED.stretches(left)[0]
    assert found == FITTED.stretches(whole.where(whole.index.isin(left.index)))[0]
    assert found.start.tz is not None


def test_rows_may_come_in_any_order_of_time() -> None:
    whole = pd.Series(still(600), index=pd.date_range("2024-01-01", periods=600, freq="min"))
    order = np.random.default_rng(0).permutation(600)
    for changed, places in ((whole[::-1], np.arange(600)[::-1]), (whole.iloc[order], order)):
        np.testing.assert_array_equal(FITTED.scores(changed), FITTED.scores(whole)[places])
        assert FITTED.stretches(changed) == FITTED.stretches(whole)
        assert FITTED.stretches(changed)[0].start < FITTED.stretches(changed)[0].end


def test_lists_frames_and_channels_of_several_types_are_series() -> None:
    signal = still(600)
    np.testing.assert_array_equal(FITTED.scores(signal.tolist()), FITTED.scores(signal))
    np.testing.assert_array_equal(FITTED.scores([signal.tolist()])[0], FITTED.scores(signal))
    stamps = pd.date_range("2024-01-01", periods=600, freq="h")
    dated = pd.DataFrame({"when": stamps, "v": signal})
    np.testing.assert_array_equal(FITTED.scores(dated), FITTED.scores(signal))
    assert FITTED.stretches(dated)[0].start in stamps
    joined = pd.concat([dated["v"][:300], dated["v"][:300]])  # its index repeats
    np.testing.assert_array_equal(FITTED.scores(joined), FITTED.scores(joined.to_numpy()))
    model = SignalDetector(50, detector=DETECTOR).fit(pd.DataFrame({"on": wave(400) > 0, "v": wave(400)}))
    assert model.n_channels_ == 2


@pytest.mark.parametrize(
    ("series", "text"),
    [
        (np.where(np.arange(100) % 3 == 0, np.nan, 1.0), "no window of 50 time stamps in which at most 10% of the val"),
        (np.full(100, np.nan), "Series 0 has no value in channel 0"),
        (np.where(np.arange(100) == 7, np.inf, 1.0), "Series 0 has infinite values, the first at row 7, channel 0"),
        (
            pd.Series(np.ones(60), index=pd.to_datetime(["2024-01-01"] * 2 + ["2024-01-02"] * 58)),
            "Series 0 has two rows for 2024-01-01 00:00:00; drop or average them",
        ),
        (pd.DataFrame({"v": np.ones(60), "name": ["a"] * 60}), r"Series 0 has columns that are no numbers: 'name' \("),
        (
            pd.Series(np.ones(60), index=pd.DatetimeIndex([*pd.date_range("2024-01-01", periods=59), pd.NaT])),
            "Series 0 has rows without a time stamp",
        ),
    ],
)
def test_series_that_cannot_be_judged_are_refused(series: Any, text: str) -> None:
    with pytest.raises(DataError, match=text):
        FITTED.scores(series)
