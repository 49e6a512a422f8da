"""Feeds of a fit: rows of a source, split, checked, scaled, and given to training as batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.choices.registry import Context
from isthmus.data import Scaling, Source, Statistics, all_finite
from isthmus.estimators.targets import Target
from isthmus.estimators.validation import Given, non_finite_text, speaking_of
from isthmus.exceptions import DataError
from isthmus.training import Objective
from isthmus.training.batches import Feed, Loader, ResidentFeed, StreamedFeed

EARLY_STOPPING_FRACTION = 0.1
LOADED_NUMBERS = 2**19
"""Values that are scaled at a time: small enough that intermediate results stay in the cache."""


def make_context(
    source: Source, statistics: Statistics, scaling: Scaling, code_size: int, n_conditions: int
) -> Context:
    """The context of the data: shape, and the range of the scaled values."""
    shape = tuple(map(int, source.feature_shape))
    ends = np.stack([statistics.minimum, statistics.maximum])
    context = Context(shape, int(code_size), n_conditions=n_conditions)
    context = ranged(context, (ends - scaling.shift) * scaling.factor)
    if scaling.name in ("standard", "global"):  # constant features become 0, which a sigmoid cannot reach
        return replace(context, lower=min(context.lower, -1.0))
    return context


def ranged(context: Context, ranges: np.ndarray) -> Context:
    """The same context with feature ranges, (2, d); a feature without finite values counts as zero."""
    ranges = np.where(np.isfinite(ranges), ranges, 0.0)
    slack = 1e-6 * max(1.0, float(np.abs(ranges).max()))
    ranges = np.where(np.abs(ranges) < slack, 0.0, ranges)  # scaled values must not leave the unit interval by rounding
    ranges = np.where(np.abs(ranges - 1.0) < slack, 1.0, ranges)
    return replace(context, lower=float(ranges.min()), upper=float(ranges.max()), ranges=ranges)


def validation_share(estimator: Any, validation: Given | None) -> float:
    """The fraction of rows to hold out: the parameter, or 0.1 by default with early stopping."""
    if validation is not None:
        return 0.0
    if estimator.validation_fraction is None:
        return EARLY_STOPPING_FRACTION if estimator.early_stopping else 0.0
    if estimator.early_stopping and estimator.validation_fraction == 0:
        raise ValueError("early_stopping needs held-out rows: set validation_fraction > 0 or pass X_val to fit.")
    return float(estimator.validation_fraction)


def split_rows(n_rows: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of training and held-out rows, ascending; at least one of each if `share` > 0."""
    n_held_out = min(n_rows - 1, max(1, round(share * n_rows))) if share else 0
    order = np.random.default_rng(seed).permutation(n_rows) if n_held_out else np.arange(n_rows)
    return np.sort(order[n_held_out:]), np.sort(order[:n_held_out])


def make_feed(
    source: Source, rows: np.ndarray, loader: Loader, batch_size: int, weights: np.ndarray | None = None
) -> Feed:
    """Batches of some rows of a source: resident on the device if the source fits in memory, else streamed.

    Weights are those of all rows of the source, (n,).
    """
    chosen = None if weights is None else torch.from_numpy(weights[rows])
    if not source.fits_in_memory:
        return StreamedFeed(source, rows, loader, batch_size, chosen)
    return ResidentFeed(load_rows(source, rows, loader), batch_size, chosen)


def load_rows(source: Source, rows: np.ndarray, loader: Loader) -> Tensor:
    """Scaled rows on the device, (k, d); without a copy if they are in memory and need no scaling."""
    n_features, whole = int(np.prod(source.feature_shape)), len(rows) == source.n_rows
    size = max(1, LOADED_NUMBERS // n_features)
    parts = [slice(start, min(start + size, len(rows))) for start in range(0, len(rows), size)]
    held = source.held() if whole else None
    if held is not None and loader.leaves(held):
        flat = held.reshape(len(held), -1)
        for part in parts:
            loader.check(flat[part])
        return torch.from_numpy(flat)
    loaded = torch.empty(len(rows), n_features, dtype=loader.dtype, device=loader.device)
    for part in parts:
        loaded[part] = loader(source.read(part if whole else rows[part]))
    return loaded


def make_loader(objective: Objective, scaling: Scaling, target: Target | None = None) -> Loader:
    """The loader that scales rows, and their targets if they have some, for training, and rejects invalid ones."""
    context = objective.context
    joined = joined_scaling(context, scaling, target)
    return Loader(joined, next(objective.parameters()).device, check=range_check(context, objective, joined))


def joined_scaling(context: Context, scaling: Scaling, target: Target | None) -> Scaling:
    """The scaling of ``[x | conditions | target]``."""
    given = scaling.extended(context.n_features, context.n_conditions)
    if target is None:
        return given
    return given.beside(target.scaling, context.encoder_width, context.output.n_features)


def range_check(context: Context, objective: Objective, scaling: Scaling) -> Callable[[np.ndarray], None]:
    """A check of each block of rows: finite (or missing, if allowed), and in the range of the loss."""
    loss, width = objective.choices.loss, context.encoder_width
    compared = slice(context.n_features) if context.target is None else slice(width, None)
    unbounded = Context(context.output.feature_shape, context.code_size)
    bounded = bool(loss.mistakes(unbounded))

    def check(block: np.ndarray) -> None:
        refuse_bad_cells(block[:, :width], missing_allowed=loss.admits_missing)
        with speaking_of("target"):
            refuse_bad_cells(block[:, width:], missing_allowed=loss.admits_missing)
        if bounded and block.size:
            ends = np.stack([np.fmin.reduce(block, axis=0), np.fmax.reduce(block, axis=0)])
            mistakes = loss.mistakes(ranged(unbounded, ((ends - scaling.shift) * scaling.factor)[:, compared]))
            if mistakes:
                raise DataError(mistakes[0])

    return check


def refuse_bad_cells(block: np.ndarray, *, missing_allowed: bool) -> None:
    """Raise for values of a block that are not finite, or not missing where that is allowed."""
    if all_finite(block):
        return
    bad = np.isinf(block) if missing_allowed else ~np.isfinite(block)
    if bad.any():
        row, column = np.unravel_index(int(bad.argmax()), bad.shape)
        counts = 0 if missing_allowed else int(np.isnan(block).sum()), int(np.isinf(block).sum())
        raise DataError(non_finite_text(*counts, (int(row), int(column))) + " (Rows count from this block.)")
