"""From series to a fitted signal detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from isthmus.exceptions import DataError
from isthmus.tasks.anomaly.detector import AnomalyDetector
from isthmus.tasks.anomaly.series import Series, Windows


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedSignals:
    """Everything that `SignalDetector.fit` learns, except for the threshold.

    Attributes
    ----------
    detector
        Fitted on windows.
    windows
        How series are cut.
    n_channels
        Numbers at each time stamp.
    lengths
        Rows of each training series, where a list of them was given.
    decision_scores, left_out_scores
        Anomaly scores of the training series, one after the other: as new series are scored, in the order given; and
        with each window as if it had not been remembered, in the order of time.
    calibration_scores
        Anomaly scores of time stamps that took no part in training, (m,), or None.
    """

    detector: AnomalyDetector
    windows: Windows
    n_channels: int
    lengths: Sequence[int] | None
    decision_scores: np.ndarray
    left_out_scores: np.ndarray
    calibration_scores: np.ndarray | None

    def scores(self, series: Series, place: int) -> np.ndarray:
        """Anomaly scores of the time stamps of a series, on its grid, (time,)."""
        return _scores(self.detector, self.windows, series, place)


def fit_signals(
    detector: AnomalyDetector, series: Sequence[Series], windows: Windows, share: float, *, several: bool
) -> FittedSignals:
    """Fit a detector, which is a copy, on the windows of series.

    Parameters
    ----------
    detector
        With its parameters.
    series
        To learn from.
    windows
        How they are cut.
    share
        Of the time stamps of each series that is kept out of training, the last ones, in [0, 1).
    several
        Whether a list of series was given.
    """
    learned, held_out = _split(series, windows.length, share)
    cut = [windows.cut(each, place) for place, each in enumerate(learned)]
    rows = np.concatenate([some for some, _ in cut])
    asked = {name: getattr(detector, name) for name in ("threshold", "calibration_fraction")}
    # Calibration is done here, on time stamps, as windows share theirs.
    detector.set_params(threshold="auto", calibration_fraction=0.0).fit(rows).set_params(**asked)
    scores = -detector.score_samples(rows)
    scores[getattr(detector, "sample_", slice(None))] = detector.decision_scores_
    parts = np.split(scores, np.cumsum([len(some) for some, _ in cut])[:-1])
    left_out = [
        windows.averaged(some, starts, each) for some, (_, starts), each in zip(parts, cut, learned, strict=True)
    ]
    of_training = [_scores(detector, windows, each, place)[each.places] for place, each in enumerate(series)]
    new = [_scores(detector, windows, each, 0) for each in held_out]
    calibration = np.concatenate(new) if new else None
    return FittedSignals(
        detector=detector,
        windows=windows,
        n_channels=series[0].values.shape[1],
        lengths=[len(each.places) for each in series] if several else None,
        decision_scores=np.concatenate(of_training),
        left_out_scores=np.concatenate(left_out),
        calibration_scores=None if calibration is None else calibration[~np.isnan(calibration)],
    )


def _scores(detector: AnomalyDetector, windows: Windows, series: Series, place: int) -> np.ndarray:
    rows, starts = windows.cut(series, place)
    return windows.averaged(-detector.score_samples(rows), starts, series)


def _split(series: Sequence[Series], window: int, share: float) -> tuple[list[Series], list[Series]]:
    """The training part, and the held-out last part, of each series; both need a window."""
    ends = [round(len(each.values) * (1.0 - share)) for each in series]
    apart = [
        share > 0 and end >= window and len(each.values) - end >= window for each, end in zip(series, ends, strict=True)
    ]
    if share > 0 and not any(apart):
        raise DataError(
            f"No series is long enough to keep {share:.0%} of its time stamps out for calibration: both parts need "
            f"a window of {window}. Give longer series or a shorter window, or a threshold that needs none."
        )
    parts = list(zip(series, ends, apart, strict=True))
    learned = [_part(each, slice(0, end)) if parted else each for each, end, parted in parts]
    return learned, [_part(each, slice(end, None)) for each, end, parted in parts if parted]


def _part(series: Series, where: slice) -> Series:
    """A range of time stamps, without the positions of the input rows."""
    values = series.values[where]
    return replace(series, values=values, places=np.arange(len(values)), stamps=series.stamps[where])
