"""Signals: odd stretches of one or many series, by windows that slide over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from isthmus.choices.parameters import Parameters
from isthmus.choices.rules import Instance, OneOf, Rule, Whole, broken_rules, either
from isthmus.estimators import params_json
from isthmus.estimators.fitting import refuse
from isthmus.estimators.validation import refuse_targets
from isthmus.exceptions import DataError, ModelFileError
from isthmus.files.model_file import State, write_state
from isthmus.files.records import Json, Numbers, Record, Size, pack, unpack
from isthmus.tasks.anomaly import persistence
from isthmus.tasks.anomaly.calibration import conformal_p_values
from isthmus.tasks.anomaly.detector import AnomalyDetector
from isthmus.tasks.anomaly.thresholds import THRESHOLDS, Contamination, Quantile, Threshold

LEARNED = ("decision_scores_", "left_out_scores_", "calibration_scores_")


@dataclass(frozen=True)
class Stretch:
    """Neighbouring time stamps above the threshold.

    Attributes
    ----------
    series
        The place of the series among those that were given.
    start, end
        First and last time stamp, both included: of the index where the series is a pandas one, else whole numbers.
    score
        The greatest anomaly score within, in nats.
    """

    series: int
    start: Any
    end: Any
    score: float


@dataclass(frozen=True)
class StretchReason:
    """Why a stretch is odd; ``str`` of it is a sentence.

    Attributes
    ----------
    stretch
        Which.
    shares
        For each channel by its name or number, the share of the surprise that lies in it, in [0, 1], largest first.
    peak
        The time stamp at which most of the surprise lies.
    """

    stretch: Stretch
    shares: Mapping[Any, float]
    peak: Any

    def __str__(self) -> str:
        channels = ", ".join(f"{name} {share:.0%}" for name, share in self.shares.items())
        where = f"{self.stretch.start} to {self.stretch.end}"
        return f"{where}: score {self.stretch.score:.3g}, most at {self.peak}; by channel: {channels}"


@dataclass(eq=False, repr=False, kw_only=True)
class SignalDetector(Parameters, BaseEstimator):  # type: ignore[misc]
    """Finds odd stretches of signals.

    Windows of equal length slide over each series and are judged by an `AnomalyDetector`; a time stamp's score is the
    mean score of the windows that it lies in.

    Parameters
    ----------
    window
        Time stamps in a window, >= 2: about as long as what repeats, such as a heartbeat.
    step
        Time stamps from one window to the next, from 1 to `window`; None: an eighth of the window.
    detector
        Judges windows; None: ``AnomalyDetector()``. With a convolutional autoencoder, such as
        ``AnomalyDetector(autoencoder=Autoencoder(8, network=Convolutional(dimensions=1)))``, windows are given as
        (window, channels).

    Attributes
    ----------
    detector_ : AnomalyDetector
        Fitted on windows; its own threshold is for windows, not for time stamps.
    n_channels_ : int
        Numbers at each time stamp.
    threshold_, offset_ : float
        The anomaly score of a time stamp above which it is an anomaly, and minus that.
    decision_scores_ : array
        Anomaly scores of all time stamps of the training series, one series after the other, as `scores` gives them.
    labels_ : array, or list of them
        1 where a time stamp of the training series is an anomaly, else 0, (time,).
    calibration_scores_ : array
        Anomaly scores of time stamps that took no part in training, where some were kept out, (m,).

    Notes
    -----
    The threshold is learned on time stamps. `Contamination` and `Quantile` speak of the training series: so large a
    share of their time stamps is reported. Windows of these are remembered, so that new normal series score higher
    (of a noisy sine, 0.2 asked for reports 0.2 of the training series and 0.4 to 0.5 of new ones). `FalseAlarmRate`
    speaks of new series: the last part of each training series is kept out of training for it. Neighbouring time stamps
    are alike, so that the rate holds over long stretches and not in each short one.

    Examples
    --------
    >>> t = np.arange(2000)
    >>> signal = np.sin(t / 8) + 0.05 * np.random.default_rng(0).normal(size=2000)
    >>> model = SignalDetector(50, detector=AnomalyDetector(0, max_steps=100, random_state=0)).fit(signal)
    >>> signal[1000:1030] = 0.0
    >>> [found] = model.stretches(signal)
    >>> found.start < 1015 < found.end
    True
    """

    window: int = field(default=64, kw_only=False)
    step: int | None = None
    detector: Any = None

    rules: ClassVar[Mapping[str, Rule]] = {
        "window": Whole(2),
        "step": either(Whole(1), OneOf((None,))),
        "detector": either(Instance(AnomalyDetector, "an AnomalyDetector"), OneOf((None,))),
    }

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn from one series or a list of them.

        Parameters
        ----------
        X
            A series: an array (time,) or (time, channels), or a pandas Series or DataFrame; or a list of these, of any
            lengths >= `window`.
        y
            Ignored.
        """
        mistakes = broken_rules(self, self.rules)
        if not mistakes and self.step is not None and self.step > self.window:
            mistakes = [f"{type(self).__name__}: step={self.step} must be at most window={self.window}."]
        refuse_targets(self, y)
        detector = AnomalyDetector() if self.detector is None else clone(self.detector)
        threshold = detector.checked_threshold() if not mistakes else None  # all that is wrong with it, too
        refuse(mistakes)
        assert threshold is not None
        series = _as_series(X)
        for name in [name for name in vars(self) if name.endswith("_") and not name.startswith("_")]:
            delattr(self, name)
        self.window_, self.step_ = int(self.window), int(self.step or max(1, self.window // 8))
        self.n_channels_, self.as_images_ = series[0].shape[1], detector.autoencoder is not None
        share = detector.calibration_share(threshold)
        learned, held_out = self._split(series, share)
        self._learn(detector, learned)
        self.lengths_ = [len(values) for values in series] if _is_list(X) else None
        self.decision_scores_ = np.concatenate([self._stamp_scores(values, p) for p, values in enumerate(series)])
        if held_out:
            self.calibration_scores_ = np.concatenate([self._stamp_scores(part, 0) for part in held_out])
        self._apply(threshold)
        return self

    def _split(self, series: Sequence[np.ndarray], share: float) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """What to learn from, and the last part of each series, kept out; both need a window."""
        ends = [round(len(values) * (1.0 - share)) for values in series]
        apart = [
            share > 0 and end >= self.window_ and len(v) - end >= self.window_
            for v, end in zip(series, ends, strict=True)
        ]
        if share > 0 and not any(apart):
            raise DataError(
                f"No series is long enough to keep {share:.0%} of its time stamps out for calibration: both parts need "
                f"a window of {self.window_}. Give longer series or a shorter window, or a threshold that needs none."
            )
        parts = list(zip(series, ends, apart, strict=True))
        learned = [values[:end] if parted else values for values, end, parted in parts]
        return learned, [values[end:] for values, end, parted in parts if parted]

    def _learn(self, detector: AnomalyDetector, series: Sequence[np.ndarray]) -> None:
        """Fit the detector on windows; its calibration is done here, on time stamps, as windows share theirs."""
        windows = [self._windows(values, place) for place, values in enumerate(series)]
        asked = {name: getattr(detector, name) for name in ("threshold", "calibration_fraction")}
        detector.set_params(threshold="auto", calibration_fraction=0.0)
        self.detector_ = detector.fit(np.concatenate(windows)).set_params(**asked)
        scores = -self.detector_.score_samples(np.concatenate(windows))
        scores[getattr(self.detector_, "sample_", slice(None))] = self.detector_.decision_scores_
        parts = np.split(scores, np.cumsum([len(some) for some in windows])[:-1])
        averaged = [self._averaged(some, len(values)) for some, values in zip(parts, series, strict=True)]
        self.left_out_scores_ = np.concatenate(averaged)

    def _apply(self, threshold: Threshold) -> None:
        """Learn the threshold on time stamps.

        A share of the training series is one of what is reported of them. All else speaks of rows that are new, so that
        each window counts as if it had not been remembered.
        """
        calibration = getattr(self, "calibration_scores_", None)
        self.threshold_ = threshold.cut(self.decision_scores_, calibration)
        of_training = isinstance(threshold, Quantile) or (isinstance(threshold, Contamination) and threshold.rate > 0)
        if not of_training and not threshold.needs_calibration:
            self.threshold_ = max(self.threshold_, threshold.cut(self.left_out_scores_))
        self.offset_ = -self.threshold_

    def set_threshold(self, threshold: Any) -> Self:
        """Change where the alarm begins, without training again; `FalseAlarmRate` needs time stamps kept out at `fit`.

        Parameters
        ----------
        threshold
            As for `AnomalyDetector`.
        """
        check_is_fitted(self, "detector_")
        made = THRESHOLDS.resolve(threshold)
        refuse(made.mistakes())
        if made.needs_calibration:
            self._calibration()
        self._apply(made)
        return self

    @property
    def labels_(self) -> Any:
        """1 where a time stamp of the training series is an anomaly, else 0; for a list of series a list."""
        check_is_fitted(self, "detector_")
        labels = (self.decision_scores_ > self.threshold_).astype(int)
        return labels if self.lengths_ is None else np.split(labels, np.cumsum(self.lengths_)[:-1])

    def _calibration(self) -> np.ndarray:
        check_is_fitted(self, "detector_")
        if not hasattr(self, "calibration_scores_"):
            raise ValueError(
                f"This {type(self).__name__} has no calibration time stamps; fit it with "
                "detector=AnomalyDetector(calibration_fraction=0.25), which keeps the last quarter of each series out."
            )
        return self.calibration_scores_

    def score_samples(self, X: Any) -> Any:
        """Minus the anomaly scores of time stamps, (time,), as scikit-learn has the sign: the lower, the odder."""
        scores = self.scores(X)
        return [-some for some in scores] if _is_list(X) else -scores

    def decision_function(self, X: Any) -> Any:
        """``score_samples(X) - offset_``, (time,): negative for anomalies."""
        scores = self.score_samples(X)
        return [some - self.offset_ for some in scores] if _is_list(X) else scores - self.offset_

    def p_values(self, X: Any) -> Any:
        """How often a normal time stamp would be at least as odd, (time,), in (0, 1]; see `conformal_p_values`.

        Raises
        ------
        ValueError
            No time stamps were kept out at `fit`.
        """
        calibration, scores = self._calibration(), self.scores(X)
        found = [conformal_p_values(calibration, some) for some in (scores if _is_list(X) else [scores])]
        return found if _is_list(X) else found[0]

    def explain(self, X: Any) -> list[StretchReason]:
        """Why each stretch is odd, the oddest first: in which channels its surprise lies, and when."""
        given, series = X if _is_list(X) else [X], _as_series(X)
        return [
            self._reason(found, where, series[found.series], given[found.series]) for found, where in self._found(X)
        ]

    def _reason(self, found: Stretch, where: slice, values: np.ndarray, given: Any) -> StretchReason:
        starts = self._starts(len(values))
        near = (starts + self.window_ > where.start) & (starts < where.stop)
        windows = self._windows(values, found.series)[near]
        cells = self.detector_.contributions(windows).reshape(len(windows), self.window_, self.n_channels_)
        surprise = np.zeros((len(values), self.n_channels_))
        for start, cell in zip(starts[near], cells, strict=True):
            surprise[start : start + self.window_] += cell
        surprise = surprise[where]
        of_channel, total = surprise.sum(axis=0), max(float(surprise.sum()), 1e-300)
        names = list(getattr(given, "columns", range(self.n_channels_)))
        shares = {names[place]: float(of_channel[place] / total) for place in np.argsort(-of_channel, kind="stable")}
        stamps = _stamps(given, len(values))
        return StretchReason(found, shares, stamps[where.start + int(surprise.sum(axis=1).argmax())])

    def scores(self, X: Any) -> Any:
        """Anomaly scores of time stamps, in nats, (time,); for a list of series a list of them."""
        check_is_fitted(self, "detector_")
        found = [self._stamp_scores(values, place) for place, values in enumerate(_as_series(X))]
        return found if _is_list(X) else found[0]

    def predict(self, X: Any) -> Any:
        """-1 for time stamps that are anomalies, 1 for all others, (time,); for a list of series a list of them."""
        scores = self.scores(X)
        cut = self.threshold_
        labels = [np.where(some > cut, -1, 1) for some in (scores if _is_list(X) else [scores])]
        return labels if _is_list(X) else labels[0]

    def stretches(self, X: Any) -> list[Stretch]:
        """The odd stretches of all series, the oddest first."""
        return [found for found, _ in self._found(X)]

    def _found(self, X: Any) -> list[tuple[Stretch, slice]]:
        """The odd stretches, the oddest first, and their places in their series."""
        scores, given = self.scores(X), X if _is_list(X) else [X]
        found = list[tuple[Stretch, slice]]()
        for place, some in enumerate(scores if _is_list(X) else [scores]):
            stamps = _stamps(given[place], len(some))
            above = np.concatenate([[False], some > self.threshold_, [False]])
            starts, ends = np.flatnonzero(~above[:-1] & above[1:]), np.flatnonzero(above[:-1] & ~above[1:])
            found += [
                (Stretch(place, stamps[start], stamps[end - 1], float(some[start:end].max())), slice(start, end))
                for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
            ]
        return sorted(found, key=lambda pair: -pair[0].score)

    def _starts(self, n_stamps: int) -> np.ndarray:
        """Where windows begin; the last one ends with the series."""
        last = n_stamps - self.window_
        return np.unique(np.append(np.arange(0, last + 1, self.step_), last))

    def _windows(self, values: np.ndarray, place: int) -> np.ndarray:
        """(time, channels) → (n, window · channels), or (n, window, channels) for an autoencoder of images."""
        if len(values) < self.window_:
            raise DataError(
                f"Series {place} has {len(values)} time stamps, but a window takes {self.window_}; give longer "
                "series or a shorter window."
            )
        if values.shape[1] != self.n_channels_:
            raise DataError(f"Series {place} has {values.shape[1]} channels, but {self.n_channels_} are needed.")
        windows = sliding_window_view(values, self.window_, axis=0)[self._starts(len(values))].swapaxes(1, 2)
        return np.ascontiguousarray(windows if self.as_images_ else windows.reshape(len(windows), -1))

    def _stamp_scores(self, values: np.ndarray, place: int) -> np.ndarray:
        return self._averaged(-self.detector_.score_samples(self._windows(values, place)), len(values))

    def _averaged(self, scores: np.ndarray, n_stamps: int) -> np.ndarray:
        """From windows to time stamps: the mean score of the windows that each lies in, (time,)."""
        total, count = np.zeros(n_stamps + 1), np.zeros(n_stamps + 1)
        for ends, sign in ((0, 1.0), (self.window_, -1.0)):
            np.add.at(total, self._starts(n_stamps) + ends, sign * scores)
            np.add.at(count, self._starts(n_stamps) + ends, sign)
        return np.asarray((np.cumsum(total) / np.maximum(np.cumsum(count), 1.0))[:-1])

    # -- keeping -------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write the model to one file, whole or not at all; `isthmus.load` gives it back."""
        check_is_fitted(self, "detector_")
        inner = persistence.to_state(self.detector_)
        values = SignalValues(
            window=self.window_,
            step=self.step_,
            n_channels=self.n_channels_,
            inner=dict(inner.values),
            detector=params_json.params_to_json({"detector": self.detector}),
            as_images=self.as_images_,
            lengths=self.lengths_,
        )
        own = {f"signal.{name}": getattr(self, name) for name in LEARNED if hasattr(self, name)}
        own["signal.threshold_"] = np.array([self.threshold_])
        return write_state(path, pack(type(self).__name__, values, {**inner.arrays, **own}, DECLARED))

    @classmethod
    def _from_state(cls, state: State, *, network: Any = None, device: str = "auto") -> Self:
        values = unpack(state, SignalValues, DECLARED)
        inner_arrays = {name: array for name, array in state.arrays.items() if not name.startswith("signal.")}
        inner = State("AnomalyDetector", values.inner, inner_arrays)
        detector = persistence.from_state(AnomalyDetector, inner, network=network, device=device)
        if values.window * values.n_channels != detector.n_features_in_:
            raise ModelFileError(f"its header does not fit: a window is not {detector.n_features_in_} numbers.")
        own = params_json.with_modules(values.detector, network)
        given = detector if own is None else params_json.decode(own.get("detector"))
        model = cls(values.window, step=values.step, detector=given)
        model.detector_, model.n_channels_, model.as_images_ = detector, values.n_channels, values.as_images
        model.window_, model.step_ = values.window, values.step or max(1, values.window // 8)
        model.lengths_ = None if values.lengths is None else list(values.lengths)
        for name in LEARNED:
            if f"signal.{name}" in state.arrays:
                setattr(model, name, state.arrays[f"signal.{name}"])
        cut = state.arrays.get("signal.threshold_", np.array([detector.threshold_]))  # format 1 has that of windows
        model.threshold_, model.offset_ = float(cut[0]), -float(cut[0])
        return model


class SignalValues(Record, frozen=True):
    """What a file of a signal detector holds besides the file of its detector; format 1 lacks the last three."""

    window: Size
    step: Size | None
    n_channels: Size
    inner: Json
    detector: Json | None = None
    as_images: bool = False
    lengths: list[Size] | None = None


DECLARED: dict[str, Numbers] = {
    **persistence.DECLARED,
    **{f"signal.{name}": Numbers("f", finite=False, optional=True) for name in (*LEARNED, "threshold_")},
}
"""The arrays of a file; a threshold may be infinite."""


def _stamps(series: Any, length: int) -> Any:
    """The time stamps of a series: of its index where it is a pandas one, else whole numbers."""
    return getattr(series, "index", None) if hasattr(series, "iloc") else range(length)


def _is_list(X: Any) -> bool:
    return isinstance(X, list | tuple)


def _as_series(X: Any) -> Sequence[np.ndarray]:
    """Series as floating arrays, (time, channels)."""
    found = []
    for place, series in enumerate(X if _is_list(X) else [X]):
        values = np.asarray(series)
        if values.ndim not in (1, 2) or values.dtype.kind not in "buif":
            raise DataError(
                f"Series {place} has shape {values.shape} and dtype {values.dtype}, but numbers of shape (time,) or "
                "(time, channels) are needed."
            )
        found.append(np.asarray(values.reshape(len(values), -1), dtype=np.float64))
    if not found:
        raise DataError("The list holds no series; give at least one.")
    return found
