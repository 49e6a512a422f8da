"""Jobs that a trained autoencoder does."""

from isthmus.tasks.recommendation import (
    Evaluation,
    HeldOut,
    Interactions,
    Recommendations,
    Recommender,
    StrongSplit,
    evaluate_recommender,
    leave_latest,
    leave_out,
    read_interactions,
    strong_generalization,
)
from isthmus.tasks.similarity import SimilarityIndex, nearest
from isthmus.tasks.transfer import EncoderClassifier

__all__ = [
    "EncoderClassifier",
    "Evaluation",
    "HeldOut",
    "Interactions",
    "Recommendations",
    "Recommender",
    "SimilarityIndex",
    "StrongSplit",
    "evaluate_recommender",
    "leave_latest",
    "leave_out",
    "nearest",
    "read_interactions",
    "strong_generalization",
]
