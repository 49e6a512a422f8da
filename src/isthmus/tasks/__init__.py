"""Jobs done with autoencoders: anomaly detection, compression, generation, imputation, recommendation, …"""

from isthmus.tasks import compression
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
    verdicts,
)
from isthmus.tasks.apply import Apply
from isthmus.tasks.choosing import Chosen, choose
from isthmus.tasks.clusters import Clusters, cluster_codes, matched_accuracy
from isthmus.tasks.compression import ImageCodec, compress_lossless, decompress_lossless
from isthmus.tasks.features import compare_features
from isthmus.tasks.generation import TableSampler, latent_plane, traversals
from isthmus.tasks.imputation import Imputer
from isthmus.tasks.maps import CodeMap, MapFigures, map_codes, map_figures, write_map
from isthmus.tasks.parts import PART_ENGINES, MappedParts, PartEngine, map_parts, names_parts
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
from isthmus.tasks.restoration import ImageQuality, RestoredFile, Restorer, restore_folder
from isthmus.tasks.search import Matches, SearchIndex
from isthmus.tasks.similarity import SimilarityIndex, nearest
from isthmus.tasks.transfer import EncoderClassifier, EncoderRegressor

TASKS = {
    task.__name__: task
    for task in (
        AnomalyDetector,
        EncoderClassifier,
        EncoderRegressor,
        ImageCodec,
        Imputer,
        Recommender,
        Restorer,
        SignalDetector,
        TableSampler,
    )
}
"""The estimators of tasks by name; tests/tasks/test_contract.py goes through all of them."""

__all__ = [
    "PART_ENGINES",
    "TASKS",
    "AnomalyDetector",
    "Apply",
    "Auto",
    "Chosen",
    "Clusters",
    "CodeMap",
    "Contamination",
    "EncoderClassifier",
    "EncoderRegressor",
    "Evaluation",
    "Explanation",
    "FalseAlarmRate",
    "HeldOut",
    "ImageCodec",
    "ImageQuality",
    "Imputer",
    "Interactions",
    "MapFigures",
    "MappedParts",
    "Matches",
    "PartEngine",
    "Quantile",
    "Recommendations",
    "Recommender",
    "RestoredFile",
    "Restorer",
    "SearchIndex",
    "SignalDetector",
    "SimilarityIndex",
    "StrongSplit",
    "TableSampler",
    "benjamini_hochberg",
    "choose",
    "cluster_codes",
    "compare_features",
    "compress_lossless",
    "compression",
    "conformal_p_values",
    "decompress_lossless",
    "evaluate_recommender",
    "latent_plane",
    "leave_after",
    "leave_k_out",
    "leave_latest",
    "leave_out",
    "map_codes",
    "map_figures",
    "map_parts",
    "matched_accuracy",
    "names_parts",
    "nearest",
    "read_interactions",
    "restore_folder",
    "strong_generalization",
    "traversals",
    "verdicts",
    "write_map",
]
