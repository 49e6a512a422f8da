"""The rate of false alarms: p-values by split-conformal calibration, control over a batch, and drift."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import ks_2samp

from isthmus.choices.rules import Number, Rule


def conformal_p_values(calibration: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The share of normal rows with at least this score, (n,), in (0, 1].

    With m calibration rows, ``p = (1 + #{calibration >= score}) / (m + 1)``. For a row drawn like the calibration rows,
    ``P(p <= a) <= a`` for every level a and every m (Vovk, Gammerman & Shafer 2005; Laxhammar & Falkman 2010).

    Parameters
    ----------
    calibration
        Anomaly scores of normal rows that took no part in training, (m,).
    scores
        Anomaly scores, the higher the odder, (n,).

    Examples
    --------
    >>> conformal_p_values(np.array([1.0, 2.0, 3.0]), np.array([0.0, 2.5, 9.0]))
    array([1.  , 0.5 , 0.25])
    """
    ordered = np.sort(calibration)
    at_least = len(ordered) - np.searchsorted(ordered, scores, side="left")
    return np.asarray((1.0 + at_least) / (len(ordered) + 1.0))


def conformal_cut(calibration: np.ndarray, alpha: float) -> float:
    """The score that a normal row exceeds with a probability of at most alpha; infinite for too few rows.

    It is the k-th smallest of the m calibration scores, ``k = ceil((m + 1)(1 - alpha))``. The probability, over
    calibration rows and the new row, is at most alpha and, without ties, at least ``alpha - 1 / (m + 1)``.

    Examples
    --------
    >>> conformal_cut(np.arange(1.0, 100.0), 0.05), conformal_cut(np.arange(1.0, 11.0), 0.05)
    (95.0, inf)
    """
    rank = math.ceil((len(calibration) + 1) * (1.0 - alpha) - 1e-9)
    return float(np.sort(calibration)[rank - 1]) if rank <= len(calibration) else math.inf


def benjamini_hochberg(p_values: np.ndarray, rate: float) -> np.ndarray:
    """Selects rows of a batch such that at most a share of `rate` of them is normal, on average.

    The largest k with ``p_(k) <= k rate / n`` decides: rows with ``p <= p_(k)`` are reported (Benjamini & Hochberg
    1995). Conformal p-values depend on each other positively, under which the bound holds (Bates et al. 2023).

    Parameters
    ----------
    p_values
        Of the rows of the batch, (n,).
    rate
        The false discovery rate, in [0, 1].

    Returns
    -------
    True where a row is reported, (n,).

    Examples
    --------
    >>> benjamini_hochberg(np.array([0.001, 0.9, 0.02, 0.04]), 0.05)
    array([ True, False,  True, False])
    """
    rule: Rule = Number(0.0, 1.0)
    if not rule.admits(rate):
        raise ValueError(f"rate={rate!r} must be {rule}.")
    p_values = np.asarray(p_values, dtype=np.float64)
    ordered = np.sort(p_values)
    below = np.flatnonzero(ordered <= rate * np.arange(1, len(ordered) + 1) / max(1, len(ordered)))
    if not len(below):
        return np.zeros(len(p_values), dtype=bool)
    return np.asarray(p_values <= ordered[below[-1]])


@dataclass(frozen=True)
class Drift:
    """A comparison of the scores of new normal rows with those of the calibration.

    Attributes
    ----------
    drifted
        Whether the difference is larger than chance explains at the requested level.
    p_value
        Of the two-sample Kolmogorov–Smirnov test: how often chance alone makes so large a difference.
    distance
        The greatest difference of the two distribution functions, in [0, 1].
    alarm_rate, promised_rate
        The share of the new rows above the threshold, and that of the calibration rows.
    text
        The same in a sentence.
    """

    drifted: bool
    p_value: float
    distance: float
    alarm_rate: float
    promised_rate: float
    text: str


def compare_scores(calibration: np.ndarray, scores: np.ndarray, cut: float, level: float = 0.01) -> Drift:
    """Compare the scores of new normal rows with those of the calibration.

    Parameters
    ----------
    calibration, scores
        Anomaly scores, (m,) and (n,).
    cut
        The threshold in force.
    level
        How often a difference may be reported where there is none, in (0, 1).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> compare_scores(rng.normal(size=500), rng.normal(0.5, size=500), cut=2.0).drifted
    True
    """
    rule: Rule = Number(0.0, 1.0, open_low=True, open_high=True)
    if not rule.admits(level):
        raise ValueError(f"level={level!r} must be {rule}.")
    test = ks_2samp(calibration, scores)
    p_value, distance = float(test.pvalue), float(test.statistic)
    now, promised = float(np.mean(scores > cut)), float(np.mean(calibration > cut))
    drifted = p_value < level
    verdict = "have left the calibration" if drifted else "agree with the calibration"
    remedy = "; calibrate again with recent normal rows, or fit again" if drifted else ""
    text = (
        f"The scores of {len(scores)} rows {verdict}: Kolmogorov–Smirnov distance {distance:.3f} (p = {p_value:.2g}), "
        f"alarms {now:.2%} now, {promised:.2%} in calibration{remedy}."
    )
    return Drift(drifted, p_value, distance, now, promised, text)
