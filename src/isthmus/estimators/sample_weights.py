"""Weights of rows: what `sample_weight` means, in one place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from isthmus.data import RowsSource
from isthmus.estimators.validation import Given
from isthmus.wording import be, counted


def weigh(estimator: Any, given: Given, sample_weight: Any, *, fitting: bool = True) -> Given:
    """The rows of weight > 0 with their weights, which have a mean of 1; equal weights are none.

    When fitting, a conditional estimator then knows only the labels of these rows.

    Raises
    ------
    TypeError, ValueError
        The weights are not numbers, not one per row, negative or not finite, or fewer than two are > 0.
    """
    if sample_weight is None:
        return given
    weights = row_weights(sample_weight, given.source.n_rows)
    used = np.flatnonzero(weights > 0.0)
    if len(used) < 2:
        raise ValueError(
            f"sample_weight is > 0 for {counted(len(used), 'row')}, but {type(estimator).__name__} needs at least 2 "
            "samples to "
            "learn from; give more rows a weight > 0, since a row of weight 0 is not used."
        )
    if len(used) < len(weights):
        given = _only(estimator, given, used, fitting=fitting)
    kept = weights[used] / weights[used].max()  # sums of huge numbers would overflow
    return given if kept.min() == 1.0 else replace(given, weights=kept / kept.mean())


def _only(estimator: Any, given: Given, used: np.ndarray, *, fitting: bool) -> Given:
    """Some rows alone."""
    labels, n_classes = given.labels, given.n_classes
    if labels is not None:
        labels = labels[used]
        if fitting:
            found, labels = np.unique(labels, return_inverse=True)
            estimator.classes_, n_classes = estimator.classes_[found], len(found)
    target = None if given.target is None else RowsSource(given.target, used)
    return replace(given, source=RowsSource(given.source, used), labels=labels, n_classes=n_classes, target=target)


def row_weights(sample_weight: Any, n_rows: int) -> np.ndarray:
    """The weights as doubles, (n,); ones where there are none.

    Raises
    ------
    TypeError, ValueError
        As for `weigh`, or all are 0.
    """
    if sample_weight is None:
        return np.ones(n_rows)
    if isinstance(sample_weight, torch.Tensor):
        sample_weight = sample_weight.detach().cpu().numpy()
    try:
        given = np.ma.filled(np.ma.asarray(sample_weight, dtype=np.float64), np.nan)
    except (TypeError, ValueError):
        raise TypeError(
            f"sample_weight is a {type(sample_weight).__name__} that does not hold plain numbers; give one number >= "
            "0 for "
            "each row."
        ) from None
    if given.shape != (n_rows,):
        raise ValueError(
            f"sample_weight has shape {given.shape}, but X has {counted(n_rows, 'row')}; give one number >= 0 for "
            "each: "
            f"shape ({n_rows},)."
        )
    bad = ~(given >= 0.0) | np.isinf(given)
    if bad.any():
        row, n = int(bad.argmax()), int(bad.sum())
        raise ValueError(
            f"sample_weight holds {counted(n, 'value')} that {be(n)} negative, NaN or infinite, the first at row {row} "
            f"({given[row]:g}); weights are finite numbers >= 0, and 0 leaves a row out."
        )
    if not given.any():
        raise ValueError("sample_weight is zero for all rows; give some a weight > 0.")
    return given
