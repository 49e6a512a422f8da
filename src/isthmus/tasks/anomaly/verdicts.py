"""The results of a detector for rows, as columns of a table."""

from __future__ import annotations

from typing import Any

import numpy as np

from isthmus.tasks.anomaly.calibration import conformal_p_values


def verdicts(detector: Any, scores: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of a fitted detector as the columns of `isthmus detect score`.

    Parameters
    ----------
    detector
        An `AnomalyDetector` or a `SignalDetector`.
    scores
        Anomaly scores, the higher the odder, (n,): ``-detector.score_samples(X)``.

    Returns
    -------
    dict
        ``anomaly_score``; ``anomaly``, whether it lies above the threshold by more than rounding; and, if the detector
        is calibrated, ``p_value``, which is 1 where there is no score. Each (n,).

    Examples
    --------
    >>> from isthmus import AnomalyDetector
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> detector = AnomalyDetector(0.01, max_steps=10, random_state=0).fit(X)
    >>> verdicts(detector, np.array([detector.threshold_ + 1.0]))["anomaly"]
    array([ True])
    """
    found = {"anomaly_score": scores, "anomaly": scores > detector.threshold_ + getattr(detector, "rounding_", 0.0)}
    calibration = getattr(detector, "calibration_scores_", None)
    if calibration is not None:
        found["p_value"] = np.where(np.isnan(scores), 1.0, conformal_p_values(calibration, scores))
    return found
