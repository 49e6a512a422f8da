"""Odd stretches of signals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

import isthmus
from isthmus import AnomalyDetector, ConvolutionalAutoencoder, SignalDetector
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
