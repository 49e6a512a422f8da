"""Anomalous stretches of one or many series, by sliding windows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from isthmus.choices.parameters import Parameters
from isthmus.choices.rules import Instance, OneOf, Rule, Whole, broken_rules, either
from isthmus.estimators import params_json
from isthmus.estimators.fitting import refuse
from isthmus.estimators.saved import Saved
from isthmus.estimators.validation import refuse_targets
from isthmus.exceptions import ModelFileError
from isthmus.files.model_file import State
from isthmus.files.records import Arrays, Json, Numbers, Record, Size, pack, unpack
from isthmus.tasks.anomaly import persistence
from isthmus.tasks.anomaly.calibration import conformal_p_values
from isthmus.tasks.anomaly.detector import AnomalyDetector
from isthmus.tasks.anomaly.series import Series, Windows, is_list, read_series
from isthmus.tasks.anomaly.signal_fit import FittedSignals, fit_signals
from isthmus.tasks.anomaly.thresholds import THRESHOLDS, Contamination, Quantile, Threshold

LEARNED = ("decision_scores", "left_out_scores", "calibration_scores")
"""Arrays of `FittedSignals` that a file holds under ``signal.``, with an underscore behind the name."""


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
    """The reason for a stretch; ``str`` of it is a sentence.

    Attributes
    ----------
    stretch
        Which.
    shares
        For each channel by its name or number, the share of the surprisal that lies in it, in [0, 1], largest first.
    peak
        The time stamp at which most of the surprisal lies.
    """

    stretch: Stretch
    shares: Mapping[Any, float]
    peak: Any

    def __str__(self) -> str:
        channels = ", ".join(f"{name} {share:.0%}" for name, share in self.shares.items())
        where = f"{self.stretch.start} to {self.stretch.end}"
        return f"{where}: score {self.stretch.score:.3g}, most at {self.peak}; by channel: {channels}"


@dataclass(eq=False, repr=False, kw_only=True)
class SignalDetector(Saved, Parameters, BaseEstimator):  # type: ignore[misc]
    """Finds anomalous stretches of signals.

    Windows of equal length slide over each series and are judged by an `AnomalyDetector`; a time stamp's score is the
    mean score of the windows that it lies in.

    Series may have gaps: NaN, or time stamps that a pandas index leaves out. Windows in which at most a tenth of the
    values is missing are judged, with straight lines across the gaps. Time stamps without a value, or with too few
    around them, have the score NaN and are no anomalies. Rows may come in any order of their index.

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
        The number of channels.
    threshold_, offset_ : float
        The anomaly score of a time stamp above which it is an anomaly, and minus that.
    decision_scores_ : array
        Anomaly scores of all time stamps of the training series, one series after the other, as `scores` gives them.
    labels_ : array, or list of them
        1 where a time stamp of the training series is an anomaly, else 0, (time,).
    calibration_scores_ : array
        Anomaly scores of time stamps that took no part in training, where some were kept out, (m,).
    fitted_ : FittedSignals
        All that was learned, but for the threshold.

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

    in_file: ClassVar[frozenset[str]] = frozenset(["fitted_", "threshold_", "offset_"])
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
            A series: an array (time,) or (time, channels), a list of numbers, or a pandas Series or DataFrame, whose
            index, or single column of dates, is its time; or a list of these, of any lengths >= `window`.
        y
            Ignored.
        """
        mistakes = broken_rules(self, self.rules)
        if not mistakes and self.step is not None and self.step > self.window:
            mistakes = [f"{type(self).__name__}: step={self.step} must be at most window={self.window}."]
        refuse_targets(self, y)
        refuse(mistakes)
        detector = AnomalyDetector() if self.detector is None else clone(self.detector)
        threshold = detector.checked_threshold()
        windows = Windows(
            int(self.window), int(self.step or max(1, self.window // 8)), as_images=detector.autoencoder is not None
        )
        share = detector.calibration_share(threshold)
        fitted = fit_signals(detector, read_series(X), windows, share, several=is_list(X))
        for name in [name for name in vars(self) if name.endswith("_") and not name.startswith("_")]:
            delattr(self, name)
        self._hold(fitted, threshold)
        return self

    def _hold(self, fitted: FittedSignals, threshold: Threshold) -> None:
        self.fitted_, self.threshold_ = fitted, _cut(fitted, threshold)
        self.offset_ = -self.threshold_

    def set_threshold(self, threshold: Any) -> Self:
        """Change the threshold without training again; `FalseAlarmRate` needs time stamps held out by `fit`.

        Parameters
        ----------
        threshold
            As for `AnomalyDetector`.
        """
        check_is_fitted(self, "fitted_")
        made = THRESHOLDS.resolve(threshold)
        refuse(made.mistakes())
        if made.needs_calibration:
            self._calibration()
        self._hold(self.fitted_, made)
        return self

    # -- what was learned ----------------------------------------------------------------------------------------

    @property
    def detector_(self) -> AnomalyDetector:
        """The detector, fitted on windows."""
        return self.fitted_.detector

    @property
    def n_channels_(self) -> int:
        """The number of channels."""
        return self.fitted_.n_channels

    @property
    def decision_scores_(self) -> np.ndarray:
        """Anomaly scores of all time stamps of the training series."""
        return self.fitted_.decision_scores

    @property
    def calibration_scores_(self) -> np.ndarray:
        """Anomaly scores of time stamps that were not used in training; absent if there are none."""
        if self.fitted_.calibration_scores is None:
            raise AttributeError("This detector has no calibration_scores_.")
        return self.fitted_.calibration_scores

    @property
    def labels_(self) -> Any:
        """1 where a time stamp of the training series is an anomaly, else 0; for a list of series a list."""
        check_is_fitted(self, "fitted_")
        labels, lengths = (self.decision_scores_ > self.threshold_).astype(int), self.fitted_.lengths
        return labels if lengths is None else np.split(labels, np.cumsum(lengths)[:-1])

    # -- using ---------------------------------------------------------------------------------------------------

    def _calibration(self) -> np.ndarray:
        check_is_fitted(self, "fitted_")
        if self.fitted_.calibration_scores is None:
            raise ValueError(
                f"This {type(self).__name__} has no calibration time stamps; fit it with "
                "detector=AnomalyDetector(calibration_fraction=0.25), which keeps the last quarter of each series out."
            )
        return self.fitted_.calibration_scores

    def score_samples(self, X: Any) -> Any:
        """Minus the anomaly scores of time stamps, (time,): the lower, the more anomalous, as in scikit-learn."""
        scores = self.scores(X)
        return [-some for some in scores] if is_list(X) else -scores

    def decision_function(self, X: Any) -> Any:
        """``score_samples(X) - offset_``, (time,): negative for anomalies."""
        scores = self.score_samples(X)
        return [some - self.offset_ for some in scores] if is_list(X) else scores - self.offset_

    def p_values(self, X: Any) -> Any:
        """The share of normal time stamps with at least this score, (time,), in (0, 1]; see `conformal_p_values`.

        Raises
        ------
        ValueError
            No time stamps were kept out at `fit`.
        """
        calibration, scores = self._calibration(), self.scores(X)
        found = [
            np.where(np.isnan(some), 1.0, conformal_p_values(calibration, some))
            for some in (scores if is_list(X) else [scores])
        ]
        return found if is_list(X) else found[0]

    def explain(self, X: Any) -> list[StretchReason]:
        """Why each stretch is anomalous, the most anomalous first: in which channels, and when."""
        series = self._series(X)
        return [self._reason(found, where, series[found.series]) for found, where in self._found(series)]

    def _reason(self, found: Stretch, where: slice, series: Series) -> StretchReason:
        fitted, n_channels = self.fitted_, self.n_channels_
        windows, starts = fitted.windows.cut(series, found.series)
        length = fitted.windows.length
        near = (starts + length > where.start) & (starts < where.stop)
        cells = fitted.detector.contributions(windows[near]).reshape(-1, length, n_channels)
        surprisal = np.zeros(series.values.shape)
        for start, cell in zip(starts[near], cells, strict=True):
            surprisal[start : start + length] += cell
        surprisal = surprisal[where]
        of_channel, total = surprisal.sum(axis=0), max(float(surprisal.sum()), 1e-300)
        order = np.argsort(-of_channel, kind="stable")
        shares = {series.channels[place]: float(of_channel[place] / total) for place in map(int, order)}
        return StretchReason(found, shares, series.stamps[where.start + int(surprisal.sum(axis=1).argmax())])

    def scores(self, X: Any) -> Any:
        """Anomaly scores of time stamps, in nats, (time,), in the order given; for a list of series a list of them.

        NaN where a value is missing, or too many around it.
        """
        series = self._series(X)
        found = [self.fitted_.scores(each, place)[each.places] for place, each in enumerate(series)]
        return found if is_list(X) else found[0]

    def predict(self, X: Any) -> Any:
        """-1 for anomalous time stamps, 1 for others, (time,); for a list of series a list of them."""
        scores = self.scores(X)
        labels = [np.where(some > self.threshold_, -1, 1) for some in (scores if is_list(X) else [scores])]
        return labels if is_list(X) else labels[0]

    def stretches(self, X: Any) -> list[Stretch]:
        """The anomalous stretches of all series, the most anomalous first; each begins at its earlier time stamp."""
        return [found for found, _ in self._found(self._series(X))]

    def _series(self, X: Any) -> list[Series]:
        check_is_fitted(self, "fitted_")
        return read_series(X, self.n_channels_)

    def _found(self, series: Sequence[Series]) -> list[tuple[Stretch, slice]]:
        """The anomalous stretches, the most anomalous first, and their places in their series."""
        found = list[tuple[Stretch, slice]]()
        for place, each in enumerate(series):
            scores = self.fitted_.scores(each, place)
            above = np.concatenate([[False], scores > self.threshold_, [False]])
            starts, ends = np.flatnonzero(~above[:-1] & above[1:]), np.flatnonzero(above[:-1] & ~above[1:])
            found += [
                (
                    Stretch(place, each.stamps[start], each.stamps[end - 1], float(scores[start:end].max())),
                    slice(start, end),
                )
                for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
            ]
        return sorted(found, key=lambda pair: -pair[0].score)

    # -- keeping -------------------------------------------------------------------------------------------------

    def _to_state(self) -> State:
        fitted = self.fitted_
        inner = persistence.to_state(fitted.detector)
        values = SignalValues(
            window=fitted.windows.length,
            step=fitted.windows.step,
            n_channels=fitted.n_channels,
            inner=dict(inner.values),
            detector=params_json.params_to_json({"detector": self.detector}),
            as_images=fitted.windows.as_images,
            lengths=None if fitted.lengths is None else list(fitted.lengths),
        )
        learned = {name: getattr(fitted, name) for name in LEARNED}
        own = {f"signal.{name}_": array for name, array in learned.items() if array is not None}
        own["signal.threshold_"] = np.array([self.threshold_])
        return pack(type(self).__name__, values, {**inner.arrays, **own}, DECLARED)

    def _run_state(self) -> tuple[Json, dict[str, np.ndarray]]:
        return self.fitted_.detector._run_state()  # noqa: SLF001  # as that of its file

    def _put_run_state(self, values: Json, arrays: Arrays) -> None:
        self.fitted_.detector._put_run_state(values, arrays)  # noqa: SLF001  # as that of its file

    def _learned_members(self) -> Iterable[Any]:
        return (self.fitted_.detector,) if hasattr(self, "fitted_") else ()

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
        model.fitted_ = FittedSignals(
            detector=detector,
            windows=Windows(values.window, values.step or max(1, values.window // 8), values.as_images),
            n_channels=values.n_channels,
            lengths=values.lengths,
            decision_scores=state.arrays.get("signal.decision_scores_", np.empty(0)),
            left_out_scores=state.arrays.get("signal.left_out_scores_", np.empty(0)),
            calibration_scores=state.arrays.get("signal.calibration_scores_"),
        )
        cut = state.arrays.get("signal.threshold_", np.array([detector.threshold_]))  # format 1 has that of windows
        model.threshold_, model.offset_ = float(cut[0]), -float(cut[0])
        return model


def _cut(fitted: FittedSignals, threshold: Threshold) -> float:
    """The threshold on time stamps.

    A share of the training series is one of what is reported of them. All else speaks of rows that are new, so that
    each window counts as if it had not been remembered.
    """
    cut = threshold.cut(_known(fitted.decision_scores), fitted.calibration_scores)
    of_training = isinstance(threshold, Quantile) or (isinstance(threshold, Contamination) and threshold.rate > 0)
    if of_training or threshold.needs_calibration:
        return cut
    return max(cut, threshold.cut(_known(fitted.left_out_scores)))


def _known(scores: np.ndarray) -> np.ndarray:
    return np.asarray(scores[~np.isnan(scores)])


class SignalValues(Record, frozen=True):
    """The contents of a signal detector's file besides its detector; format 1 lacks the last three."""

    window: Size
    step: Size | None
    n_channels: Size
    inner: Json
    detector: Json | None = None
    as_images: bool = False
    lengths: list[Size] | None = None


DECLARED: dict[str, Numbers] = {
    **persistence.DECLARED,
    **{
        f"signal.{name}": Numbers("f", finite=False, optional=True)
        for name in (*(f"{name}_" for name in LEARNED), "threshold_")
    },
}
"""The arrays of a file; a threshold may be infinite."""
