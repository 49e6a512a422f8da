"""Anomaly scores as numbers in [0, 1], and the stability of labels: PyOD's probability and confidence."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import erf
from scipy.stats import binom


def unified(training: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Scores by the Normal distribution function of the training scores, 0 below their mean (Kriegel et al. 2011).

    >>> unified(np.array([-1.0, 1.0]), np.array([-5.0, 0.0, 1.0])).round(4)
    array([0.    , 0.    , 0.6827])
    """
    deviation = max(float(training.std()), np.finfo(float).tiny)
    return np.asarray(np.clip(erf((scores - training.mean()) / (np.sqrt(2.0) * deviation)), 0.0, 1.0))


def linear(training: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Scores, linear between the smallest and the largest training score.

    >>> linear(np.array([1.0, 3.0]), np.array([0.0, 1.5, 9.0]))
    array([0.  , 0.25, 1.  ])
    """
    width = max(float(np.ptp(training)), np.finfo(float).tiny)
    return np.asarray(np.clip((scores - training.min()) / width, 0.0, 1.0))


PROBABILITIES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {"linear": linear, "unify": unified}


def label_confidence(training: np.ndarray, scores: np.ndarray, cut: float) -> np.ndarray:
    """The probability that a row has the label that it has, over newly drawn training sets (Perini et al. 2020).

    Of n training rows k lie at or below a score; so the probability that a training row does is about
    ``(1 + k) / (2 + n)``. The row is called an anomaly if it lies above all but the share that is reported, whose
    probability is that of a binomial distribution.

    Parameters
    ----------
    training
        Scores of the training rows, (n,).
    scores
        Of the rows, (m,).
    cut
        The score above which a row is an anomaly.

    Examples
    --------
    >>> label_confidence(np.arange(100.0), np.array([0.0, 89.5, 99.0]), 89.5).round(2)
    array([1.  , 0.65, 1.  ])
    """
    n, n_anomalies = len(training), int(np.sum(training > cut))
    below = np.searchsorted(np.sort(training), scores, side="right")
    as_anomaly = 1.0 - binom.cdf(n - n_anomalies, n, (1.0 + below) / (2.0 + n))
    return np.asarray(np.where(scores > cut, as_anomaly, 1.0 - as_anomaly))
