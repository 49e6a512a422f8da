"""Thresholds as a choice, which can be changed after training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar

import numpy as np

from isthmus.choices.registry import Choice, Registry
from isthmus.choices.rules import Number, Rule
from isthmus.tasks.anomaly.calibration import conformal_cut


class Threshold(Choice):
    """The score above which a row is an anomaly.

    Attributes
    ----------
    needs_calibration
        Whether it is computed from rows that took no part in training.
    """

    needs_calibration: ClassVar[bool] = False

    def cut(self, scores: np.ndarray, calibration: np.ndarray | None = None) -> float:
        """The score above which a row is an anomaly, from the scores of training and calibration rows."""
        raise NotImplementedError


def _from_number(value: Any) -> Threshold | None:
    """A number, also one of numpy's, is the share of anomalies, as in scikit-learn and PyOD."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    return Contamination(value.item() if isinstance(value, np.generic) else value)


THRESHOLDS: Registry[Threshold] = Registry("threshold", Threshold, convert=_from_number)  # type: ignore[type-abstract]


@THRESHOLDS.register("contamination")
@dataclass(eq=False, repr=False)
class Contamination(Threshold):
    """A given share of the training rows lies above the threshold.

    Parameters
    ----------
    rate
        In [0, 1). 0 means that the training rows are all normal: only rows odder than each of them are reported.

    Examples
    --------
    >>> Contamination(0.25).cut(np.array([1.0, 2.0, 3.0, 4.0])), Contamination(0).cut(np.array([1.0, 2.0, 3.0, 4.0]))
    (3.0, 4.0)
    """

    rate: float = 0.1

    rules: ClassVar[Mapping[str, Rule]] = {"rate": Number(0.0, 1.0, open_high=True)}

    def cut(self, scores: np.ndarray, calibration: np.ndarray | None = None) -> float:
        n_above = round(self.rate * len(scores))
        return float(np.sort(scores)[max(0, len(scores) - n_above - 1)])


@THRESHOLDS.register("quantile")
@dataclass(eq=False, repr=False)
class Quantile(Threshold):
    """A quantile of the training scores.

    Parameters
    ----------
    q
        In [0, 1]; 0.99 has one training row in a hundred above it.

    Examples
    --------
    >>> Quantile(0.5).cut(np.array([1.0, 2.0, 10.0]))
    2.0
    """

    q: float = 0.99

    rules: ClassVar[Mapping[str, Rule]] = {"q": Number(0.0, 1.0)}

    def cut(self, scores: np.ndarray, calibration: np.ndarray | None = None) -> float:
        return float(np.quantile(scores, self.q))


@THRESHOLDS.register("false-alarm-rate")
@dataclass(eq=False, repr=False)
class FalseAlarmRate(Threshold):
    """A normal row sets off an alarm with a probability of at most alpha, for any data.

    Split-conformal: rows that took no part in training calibrate the scores. The bound holds for every number of
    them, provided that new normal rows are drawn like them; anomalies among them make alarms rarer, not more frequent.

    Parameters
    ----------
    alpha
        In (0, 1). Fewer than ``1 / alpha - 1`` calibration rows cannot promise it, and then nothing is reported.

    Examples
    --------
    >>> FalseAlarmRate(0.1).cut(np.zeros(3), calibration=np.arange(1.0, 20.0))
    18.0
    """

    alpha: float = 0.01

    needs_calibration: ClassVar[bool] = True
    rules: ClassVar[Mapping[str, Rule]] = {"alpha": Number(0.0, 1.0, open_low=True, open_high=True)}

    def cut(self, scores: np.ndarray, calibration: np.ndarray | None = None) -> float:
        if calibration is None:
            raise ValueError(
                f"FalseAlarmRate({self.alpha}) needs calibration rows; fit with calibration_fraction=0.2, or give "
                "normal rows that took no part in training to calibrate(X)."
            )
        return conformal_cut(calibration, self.alpha)


@THRESHOLDS.register("auto")
@dataclass(eq=False, repr=False)
class Auto(Threshold):
    """A given share of the training rows lies above the threshold, not counting clear anomalies.

    Surprisals fall off about exponentially beyond the middle. Rows beyond the score that such a tail passes in one
    table of twenty are left out; of the others a share of `rate` lies above the cut. With clean training rows, the
    share of new normal rows above it is `rate` up to the sampling error of `rate · n` rows; with anomalies that are
    not far out among them it is less. For a promise take `FalseAlarmRate`.

    Parameters
    ----------
    rate
        Share of the normal rows that lies above, in (0, 0.5]. A score that is so frequent that it cannot be cut between
        lies below: alarms are rarer then, not more frequent.

    Examples
    --------
    >>> scores = -np.log(np.linspace(1.0, 0.001, 1000))  # the surprisal of 1,000 normal rows
    >>> int((scores > Auto(0.01).cut(scores)).sum())
    10
    """

    rate: float = 0.01

    rules: ClassVar[Mapping[str, Rule]] = {"rate": Number(0.0, 0.5, open_low=True)}

    def cut(self, scores: np.ndarray, calibration: np.ndarray | None = None) -> float:
        ordered = np.sort(scores)
        unit, start = _tail(ordered)
        bound = start + unit * np.log(max(1.0, 0.5 * len(ordered) / DOUBT)) if unit > 0 else np.inf
        values, counts = np.unique(ordered, return_counts=True)
        frequent = values[counts > max(2.0 * self.rate, OFTEN) * len(ordered)]
        normal = ordered[ordered <= max(bound, *frequent)] if len(frequent) else ordered[ordered <= bound]
        n_above = self.rate * len(normal)
        place = len(normal) - 1 - int(n_above + 1e-9)
        beyond = unit * max(0.0, np.log(1.0 / n_above)) if n_above < 1.0 else 0.0  # too few rows to see the tail
        return float(normal[max(0, place)] + beyond)


DOUBT = 0.05
"""How many normal rows of all an exponential tail has beyond the score from which on rows are odd beyond doubt."""

OFTEN = 0.02
"""A score that a larger share of the rows have, or twice the rate, is no rare one: it lies below the cut."""


def _tail(ordered: np.ndarray) -> tuple[float, float]:
    """The distance in which the number of scores falls by a factor e, and the median where the tail begins; 0: no tail.

    It is taken from the median to the third quartile or the last tenth, whichever says more, or from higher quantiles
    where these are the same, as rows that repeat have it.
    """
    start = float(np.quantile(ordered, 0.5))
    units = [(float(np.quantile(ordered, 1.0 - s)) - start) / float(np.log(0.5 / s)) for s in (0.25, 0.1, 0.05, 0.02)]
    return max(*units[:2], 0.0) or max(units), start
