"""Tasks based on autoencoders: anomaly detection, compression, imputation, recommendation, similarity, transfer."""

from isthmus.tasks.anomaly import (
    AnomalyDetector,
    Auto,
    Contamination,
    Explanation,
    FalseAlarmRate,
    Quantile,
    SignalDetector,
    benjamini_hochberg,
    conformal_p_values,
)
from isthmus.tasks.compression import ImageCodec, compress_lossless, decompress_lossless
from isthmus.tasks.imputation import Imputer
from isthmus.tasks.recommendation import (
    Evaluation,
    HeldOut,
    Interactions,
    Recommendations,
    Recommender,
    StrongSplit,
    evaluate_recommender,
    leave_after,
    leave_k_out,
    leave_latest,
    leave_out,
    read_interactions,
    strong_generalization,
)
from isthmus.tasks.similarity import SimilarityIndex, nearest
from isthmus.tasks.transfer import EncoderClassifier

TASKS = {
    task.__name__: task
    for task in (AnomalyDetector, EncoderClassifier, ImageCodec, Imputer, Recommender, SignalDetector)
}
"""The estimators of tasks by name; tests/tasks/test_contract.py goes through all of them."""

__all__ = [
    "TASKS",
    "AnomalyDetector",
    "Auto",
    "Contamination",
    "EncoderClassifier",
    "Evaluation",
    "Explanation",
    "FalseAlarmRate",
    "HeldOut",
    "ImageCodec",
    "Imputer",
    "Interactions",
    "Quantile",
    "Recommendations",
    "Recommender",
    "SignalDetector",
    "SimilarityIndex",
    "StrongSplit",
    "benjamini_hochberg",
    "compress_lossless",
    "conformal_p_values",
    "decompress_lossless",
    "evaluate_recommender",
    "leave_after",
    "leave_k_out",
    "leave_latest",
    "leave_out",
    "nearest",
    "read_interactions",
    "strong_generalization",
]
