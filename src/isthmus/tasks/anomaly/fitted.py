"""The learned state of a detector, as data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from isthmus.choices import Loss
from isthmus.choices.registry import Context
from isthmus.tasks.anomaly.inputs import RowFormat, Rows, check_finite
from isthmus.tasks.anomaly.models import EnsembleModel, SingleModel
from isthmus.tasks.anomaly.scoring import PartScores, Scorer


@dataclass(frozen=True, eq=False)
class FittedDetector:
    """Everything that `AnomalyDetector.fit` learns, except for column names and the threshold.

    Attributes
    ----------
    format
        How rows become tensors.
    context, loss
        Of the training.
    columns_shape
        Shape of what `contributions` gives for a row.
    model
        Restores rows.
    scorer
        Gives scores.
    reservoir
        An even sample of the scaled rows seen, (m, d), with which training goes on.
    n_rows_seen
        In all calls of `fit` and `partial_fit`.
    decision_scores
        Anomaly scores of the training rows, each as if it had not been remembered, (n,).
    sample
        Which of the rows given these are, where there were more than `max_rows`.
    calibration_rows, calibration_scores
        Rows that took no part in training, as they were given, flat, (m, d), and their anomaly scores, (m,). A file
        holds the scores only.
    """

    format: RowFormat
    context: Context
    loss: Loss
    columns_shape: tuple[int, ...]
    model: EnsembleModel | SingleModel
    scorer: Scorer
    reservoir: Tensor
    n_rows_seen: int
    decision_scores: np.ndarray
    sample: np.ndarray | None = None
    calibration_rows: np.ndarray | None = None
    calibration_scores: np.ndarray | None = None

    @property
    def chunk_rows(self) -> int:
        """Most rows to process at a time."""
        return self.scorer.chunk_rows(self.model)

    def readings(self, rows: Rows, *, in_full: bool = True) -> Iterator[PartScores]:
        """The scores of the parts, for blocks of rows."""
        for x in self.format.tensors(rows, self.chunk_rows):
            with torch.inference_mode():
                yield self.scorer.read(self.model, x, in_full=in_full)

    def scores(self, rows: Rows) -> np.ndarray:
        """Anomaly scores, (n,)."""
        found = [self.scorer.scores(reading).double().cpu().numpy() for reading in self.readings(rows, in_full=False)]
        return np.concatenate([np.empty(0), *found])  # a table may have no rows

    def scores_of(self, flat: np.ndarray) -> np.ndarray:
        """Anomaly scores of unscaled rows, (n, d) → (n,)."""
        found = []
        for some in np.array_split(flat, max(1, len(flat) // self.chunk_rows)):
            x = self.format.to_tensor(some)
            with torch.inference_mode():
                found.append(self.scorer.scores(self.scorer.read(self.model, x, in_full=False)).double().cpu().numpy())
        return np.concatenate(found)

    def calibrated(self, flat: np.ndarray) -> FittedDetector:
        """A copy that is calibrated on these rows, (m, d), which are kept to be scored again after more training."""
        check_finite(flat, missing_allowed=self.format.missing_allowed)
        return replace(self, calibration_rows=flat, calibration_scores=self.scores_of(flat))
