"""Recommendation: logs of interactions, the recommender, and its evaluation."""

from isthmus.tasks.recommendation.answers import Recommendations
from isthmus.tasks.recommendation.evaluation import evaluate_recommender
from isthmus.tasks.recommendation.interactions import COLUMNS, Interactions, read_interactions
from isthmus.tasks.recommendation.protocols import (
    Evaluation,
    HeldOut,
    StrongSplit,
    leave_after,
    leave_k_out,
    leave_latest,
    leave_out,
    strong_generalization,
)
from isthmus.tasks.recommendation.recommender import Recommender

__all__ = [
    "COLUMNS",
    "Evaluation",
    "HeldOut",
    "Interactions",
    "Recommendations",
    "Recommender",
    "StrongSplit",
    "evaluate_recommender",
    "leave_after",
    "leave_k_out",
    "leave_latest",
    "leave_out",
    "read_interactions",
    "strong_generalization",
]
