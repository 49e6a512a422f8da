"""The learned attributes of a detector."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from isthmus.tasks.anomaly.fitted import FittedDetector
from isthmus.tasks.anomaly.models import EnsembleModel, SingleModel
from isthmus.tasks.anomaly.scoring import Scorer

if TYPE_CHECKING:
    from isthmus.data.tables import Schema

T = TypeVar("T")


class LearnedAttributes:
    """Attributes of ``fitted_`` under the names of scikit-learn and PyOD; absent before `fit`."""

    fitted_: FittedDetector

    @property
    def decision_scores_(self) -> np.ndarray:
        """Anomaly scores of the training rows, each without itself in the memory, (n,)."""
        return self.fitted_.decision_scores

    @property
    def calibration_scores_(self) -> np.ndarray:
        """Anomaly scores of the rows kept for calibration, (m,); absent if there are none."""
        return _there(self.fitted_.calibration_scores, "calibration_scores_")

    @property
    def sample_(self) -> np.ndarray:
        """Indices of the training rows that were used, ascending, (n,); absent if all were used."""
        return _there(self.fitted_.sample, "sample_")

    @property
    def schema_(self) -> Schema:
        """The columns of a table; absent for an array."""
        return _there(self.fitted_.format.schema, "schema_")

    @property
    def model_(self) -> EnsembleModel | SingleModel:
        """The model that reconstructs rows."""
        return self.fitted_.model

    @property
    def scorer_(self) -> Scorer:
        """The scorer."""
        return self.fitted_.scorer

    @property
    def n_rows_seen_(self) -> int:
        """The number of rows in all calls of `fit` and `partial_fit`."""
        return self.fitted_.n_rows_seen

    @property
    def missing_allowed_(self) -> bool:
        """Whether new rows may have missing cells."""
        return self.fitted_.format.missing_allowed


def _there(value: T | None, name: str) -> T:
    """A part of the learned state; AttributeError if it is absent."""
    if value is None:
        raise AttributeError(f"This detector has no {name}.")
    return value
