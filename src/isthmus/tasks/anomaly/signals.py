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

from isthmus.choices.rules import Instance, OneOf, Rule, Whole, broken_rules, either
from isthmus.estimators import params_json
from isthmus.estimators.fitting import refuse
from isthmus.exceptions import DataError, ModelFileError
from isthmus.files.model_file import State, write_state
from isthmus.files.records import Json, Record, Size, pack, unpack
from isthmus.tasks.anomaly import keeping
from isthmus.tasks.anomaly.detector import AnomalyDetector


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


@dataclass(eq=False, repr=False, kw_only=True)
class SignalDetector(BaseEstimator):  # type: ignore[misc]
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
        Fitted on windows.
    n_channels_ : int
        Numbers at each time stamp.

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
        refuse(mistakes)
        series = _as_series(X)
        self.n_channels_ = series[0].shape[1]
        detector = AnomalyDetector() if self.detector is None else clone(self.detector)
        self.detector_ = detector.fit(
            np.concatenate([self._windows(values, place) for place, values in enumerate(series)])
        )
        return self

    def scores(self, X: Any) -> Any:
        """Anomaly scores of time stamps, in nats, (time,); for a list of series a list of them."""
        check_is_fitted(self, "detector_")
        found = [self._stamp_scores(values, place) for place, values in enumerate(_as_series(X))]
        return found if _is_list(X) else found[0]

    def predict(self, X: Any) -> Any:
        """-1 for time stamps that are anomalies, 1 for all others, (time,); for a list of series a list of them."""
        scores = self.scores(X)
        cut = self.detector_.threshold_
        labels = [np.where(some > cut, -1, 1) for some in (scores if _is_list(X) else [scores])]
        return labels if _is_list(X) else labels[0]

    def stretches(self, X: Any) -> list[Stretch]:
        """The odd stretches of all series, the oddest first."""
        scores, given = self.scores(X), X if _is_list(X) else [X]
        found = list[Stretch]()
        for place, some in enumerate(scores if _is_list(X) else [scores]):
            stamps = getattr(given[place], "index", range(len(some)))
            above = np.concatenate([[False], some > self.detector_.threshold_, [False]])
            starts, ends = np.flatnonzero(~above[:-1] & above[1:]), np.flatnonzero(above[:-1] & ~above[1:])
            found += [
                Stretch(place, stamps[start], stamps[end - 1], float(some[start:end].max()))
                for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
            ]
        return sorted(found, key=lambda stretch: -stretch.score)

    def _starts(self, n_stamps: int) -> np.ndarray:
        """Where windows begin; the last one ends with the series."""
        step = self.step or max(1, self.window // 8)
        return np.unique(np.append(np.arange(0, n_stamps - self.window + 1, step), n_stamps - self.window))

    def _windows(self, values: np.ndarray, place: int) -> np.ndarray:
        """(time, channels) → (n, window · channels), or (n, window, channels) for an autoencoder of images."""
        if len(values) < self.window:
            raise DataError(
                f"Series {place} has {len(values)} time stamps, but a window takes {self.window}; give longer "
                "series or a shorter window."
            )
        if values.shape[1] != self.n_channels_:
            raise DataError(f"Series {place} has {values.shape[1]} channels, but {self.n_channels_} are needed.")
        windows = sliding_window_view(values, self.window, axis=0)[self._starts(len(values))].swapaxes(1, 2)
        shaped = getattr(self.detector, "autoencoder", None) is not None
        return np.ascontiguousarray(windows if shaped else windows.reshape(len(windows), -1))

    def _stamp_scores(self, values: np.ndarray, place: int) -> np.ndarray:
        scores = -self.detector_.score_samples(self._windows(values, place))
        total, count = np.zeros(len(values) + 1), np.zeros(len(values) + 1)
        for ends, sign in ((0, 1.0), (self.window, -1.0)):
            np.add.at(total, self._starts(len(values)) + ends, sign * scores)
            np.add.at(count, self._starts(len(values)) + ends, sign)
        return np.asarray((np.cumsum(total) / np.maximum(np.cumsum(count), 1.0))[:-1])

    # -- keeping -------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write the model to one file, whole or not at all; `isthmus.load` gives it back."""
        check_is_fitted(self, "detector_")
        inner = keeping.to_state(self.detector_)
        values = SignalValues(
            window=self.window,
            step=self.step,
            n_channels=self.n_channels_,
            inner=dict(inner.values),
            detector=params_json.params_to_json({"detector": self.detector}),
        )
        return write_state(path, pack(type(self).__name__, values, inner.arrays, keeping.DECLARED))

    @classmethod
    def _from_state(cls, state: State, *, network: Any = None, device: str = "auto") -> Self:
        values = unpack(state, SignalValues, keeping.DECLARED)
        inner = State("AnomalyDetector", values.inner, state.arrays)
        detector = keeping.from_state(AnomalyDetector, inner, network=network, device=device)
        if values.window * values.n_channels != detector.n_features_in_:
            raise ModelFileError(f"its header does not fit: a window is not {detector.n_features_in_} numbers.")
        own = params_json.with_modules(values.detector, network)
        given = detector if own is None else params_json.decode(own.get("detector"))
        model = cls(values.window, step=values.step, detector=given)
        model.detector_, model.n_channels_ = detector, values.n_channels
        return model


class SignalValues(Record, frozen=True):
    """What a file of a signal detector holds besides the file of its detector; format 1 lacks the parameter."""

    window: Size
    step: Size | None
    n_channels: Size
    inner: Json
    detector: Json | None = None


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
