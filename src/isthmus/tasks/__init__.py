"""Jobs done with autoencoders: anomaly detection, generation, imputation, maps, recommendation, restoration, …"""

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
from isthmus.tasks.generation import TableSampler, latent_plane, traversals
from isthmus.tasks.imputation import Imputer
from isthmus.tasks.maps import CodeMap, MapFigures, map_codes, map_figures, write_map
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
from isthmus.tasks.restoration import Quality, RestoredFile, Restorer, restore_folder
from isthmus.tasks.similarity import SimilarityIndex, nearest
from isthmus.tasks.transfer import EncoderClassifier

TASKS = {
    task.__name__: task
    for task in (AnomalyDetector, EncoderClassifier, Imputer, Recommender, Restorer, SignalDetector, TableSampler)
}
"""The estimators of tasks by name; tests/tasks/test_contract.py goes through all of them."""

__all__ = [
    "TASKS",
    "AnomalyDetector",
    "Auto",
    "CodeMap",
    "Contamination",
    "EncoderClassifier",
    "Evaluation",
    "Explanation",
    "FalseAlarmRate",
    "HeldOut",
    "Imputer",
    "Interactions",
    "MapFigures",
    "Quality",
    "Quantile",
    "Recommendations",
    "Recommender",
    "RestoredFile",
    "Restorer",
    "SignalDetector",
    "SimilarityIndex",
    "StrongSplit",
    "TableSampler",
    "benjamini_hochberg",
    "conformal_p_values",
    "evaluate_recommender",
    "latent_plane",
    "leave_after",
    "leave_k_out",
    "leave_latest",
    "leave_out",
    "map_codes",
    "map_figures",
    "nearest",
    "read_interactions",
    "restore_folder",
    "strong_generalization",
    "traversals",
    "write_map",
]
