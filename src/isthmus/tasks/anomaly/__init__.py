"""Anomaly detection: anomalous rows, the reasons, and the rate of false alarms."""

from isthmus.tasks.anomaly.calibration import Drift, benjamini_hochberg, conformal_p_values
from isthmus.tasks.anomaly.detector import AnomalyDetector
from isthmus.tasks.anomaly.explanations import Explanation, Reason
from isthmus.tasks.anomaly.signals import SignalDetector, Stretch
from isthmus.tasks.anomaly.thresholds import THRESHOLDS, Auto, Contamination, FalseAlarmRate, Quantile, Threshold
from isthmus.tasks.anomaly.verdicts import verdicts

__all__ = [
    "THRESHOLDS",
    "AnomalyDetector",
    "Auto",
    "Contamination",
    "Drift",
    "Explanation",
    "FalseAlarmRate",
    "Quantile",
    "Reason",
    "SignalDetector",
    "Stretch",
    "Threshold",
    "benjamini_hochberg",
    "conformal_p_values",
    "verdicts",
]
