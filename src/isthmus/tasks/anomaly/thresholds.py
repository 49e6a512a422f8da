"""Where the alarm begins: thresholds as a choice, which can be changed after training."""

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
    """Says above which score a row is an anomaly.

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
    """A bare number, also one of numpy's, is the share of anomalies, as in scikit-learn and PyOD."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    return Contamination(value.item() if isinstance(value, np.generic) else value)


THRESHOLDS: Registry[Threshold] = Registry("threshold", Threshold, convert=_from_number)  # type: ignore[type-abstract]


@THRESHOLDS.register("contamination")
@dataclass(eq=False, repr=False)
class Contamination(Threshold):
    """So large a share of the training rows lies above.

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
    """A normal row sets off an alarm with a probability of at most alpha, whatever the data are.

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
    """Where normal rows become rare, if the scores beyond the middle fall off as they do within it.

    Surprises fall off exponentially: of the rows above the median half lie above the third quartile, a quarter one such
    step further, and so on. The cut is as many steps out as make the share `rate`:
    ``Q2 + (Q3 - Q2) · log2(0.5 / rate)``. Anomalies hardly move the quartiles, so that all of them may lie above.

    Parameters
    ----------
    rate
        Share of the normal rows that lies above by this reckoning, in (0, 0.5]; for a promise take `FalseAlarmRate`.

    Examples
    --------
    >>> scores = -np.log(np.linspace(1.0, 0.001, 1000))  # the surprise of 1,000 normal rows
    >>> int((scores > Auto(0.01).cut(scores)).sum())
    10
    """

    rate: float = 0.01

    rules: ClassVar[Mapping[str, Rule]] = {"rate": Number(0.0, 0.5, open_low=True)}

    def cut(self, scores: np.ndarray, calibration: np.ndarray | None = None) -> float:
        middle, upper = np.quantile(scores, [0.5, 0.75])
        return float(middle + (upper - middle) * np.log2(0.5 / self.rate))
