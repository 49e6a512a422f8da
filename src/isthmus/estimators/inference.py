"""Inference: rows pass through the network in chunks, and results are converted to the original units."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.estimators.units import UnitsCheck
from isthmus.estimators.validation import Given
from isthmus.training.batches import Loader

CHUNK_BYTES = 2 * 2**20
"""Input bytes per chunk: small enough that intermediate results stay in the cache."""


@dataclass(frozen=True)
class Verb:
    """One kind of result that a model computes from scaled rows.

    Attributes
    ----------
    work
        Computes the result from the model and scaled rows (followed by their one-hot labels if it is conditional).
    wide
        Whether the result has one value per feature.
    in_units
        Whether the result is rows of data, which are bytes if the data are bytes.
    """

    work: Callable[[Any, Tensor], Tensor]
    wide: bool = False
    in_units: bool = False


def transform(model: Any, x: Tensor) -> Tensor:
    """Codes, (n, code)."""
    codes: Tensor = model.objective_.as_dtype(x.dtype).encode(x)
    return codes


def reconstruct(model: Any, x: Tensor) -> Tensor:
    """Reconstructions in the original units, (n, d)."""
    rows: Tensor = model.scaling_.invert(model.objective_.as_dtype(x.dtype).reconstruct(x))
    return rows


def score_samples(model: Any, x: Tensor) -> Tensor:
    """Negative loss of each row, (n,)."""
    losses: Tensor = model.objective_.as_dtype(x.dtype).row_losses(x)
    return -losses


def restored_squares(model: Any, x: Tensor) -> Tensor:
    """Squared errors, and squared distances from the mean at fit, both in units of `feature_scale_`, (n, 2)."""
    factor = np.broadcast_to(model.scaling_.factor, model.feature_scale_.shape)
    scale = model.feature_scale_ * factor  # in scaled units
    weight = torch.from_numpy(np.where(scale > 0, 1.0 / np.where(scale > 0, scale, 1.0), 0.0)).to(x)
    mean = model.scaling_.apply(torch.from_numpy(model.feature_mean_)[None]).to(x)
    target, _ = model.objective_.split(x)
    restored = model.objective_.as_dtype(x.dtype).reconstruct(x)
    away = torch.stack([restored - target, target - mean]) * weight
    return away.square().nansum(dim=2).T


METRICS = ("mean-squared", "root-mean-squared", "mean-absolute")


def error_verb(metric: str, *, per_feature: bool) -> Verb:
    """The verb that computes reconstruction errors, in the units of the data or their squares."""

    def errors(model: Any, x: Tensor) -> Tensor:
        target, _ = model.objective_.split(x)
        restored = model.objective_.as_dtype(x.dtype).reconstruct(x)
        difference: Tensor = model.scaling_.invert_difference(restored - target)
        each = difference.square() if metric == "mean-squared" else difference.abs()
        if per_feature:
            return each
        each = difference.square() if metric == "root-mean-squared" else each
        mean = each.nanmean(dim=1) if model.objective_.choices.loss.admits_missing else each.mean(dim=1)
        return mean.sqrt() if metric == "root-mean-squared" else mean

    return Verb(errors, wide=per_feature)


VERBS = {
    "transform": Verb(transform),
    "reconstruct": Verb(reconstruct, wide=True, in_units=True),
    "score_samples": Verb(score_samples),
    "reconstruction_error": error_verb("mean-squared", per_feature=False),
}


def corrupting(generator: torch.Generator) -> Verb:
    """The verb that corrupts rows as in training."""

    def corrupt(model: Any, x: Tensor) -> Tensor:
        damaged, _ = model.objective_.split(model.objective_.corrupt(x, generator))
        rows: Tensor = model.scaling_.invert(damaged)
        return rows

    return Verb(corrupt, wide=True, in_units=True)


def stream(
    model: Any, given: Given, verb: Verb, rows_per_chunk: int | None = None, *, check_units: bool = True
) -> Iterator[np.ndarray]:
    """The results of a verb in chunks; rows in other units than at fit raise an error or a warning."""
    size = rows_per_chunk or max(1, CHUNK_BYTES // (4 * model.n_features_in_))
    double = given.floating == np.float64 and model.device_ == "cpu"
    context = model.objective_.context
    scaling = model.scaling_.extended(context.n_features, context.n_conditions)
    loader = Loader(scaling, torch.device(model.device_), torch.float64 if double else torch.float32)
    as_bytes = verb.in_units and given.source.dtype == np.uint8
    units = UnitsCheck(model, given.source.dtype)
    for chunk in given.rows.chunks(size):
        if check_units:
            units.look(chunk)
        with torch.inference_mode():
            answer = verb.work(model, loader(chunk))
        kept = as_pixels(answer) if as_bytes else answer.cpu().numpy().astype(given.floating, copy=False)
        yield kept.reshape(len(kept), *given.source.feature_shape) if verb.wide else kept
    units.finish()


def whole(
    model: Any, given: Given, verb: Verb, rows_per_chunk: int | None = None, *, check_units: bool = True
) -> np.ndarray:
    """The results of a verb for all rows in one array."""
    result: np.ndarray | None = None
    row = 0
    for chunk in stream(model, given, verb, rows_per_chunk, check_units=check_units):
        if result is None:
            result = np.empty((given.source.n_rows, *chunk.shape[1:]), chunk.dtype)
        result[row : row + len(chunk)] = chunk
        row += len(chunk)
    return result if result is not None else np.empty((0,), given.floating)


def decode(model: Any, codes: np.ndarray, conditions: np.ndarray | None) -> np.ndarray:
    """Decode codes to rows in the original units: (n, code) → (n, *feature_shape)."""
    dtype = torch.float64 if codes.dtype == np.float64 and model.device_ == "cpu" else torch.float32
    joined = codes if conditions is None else np.hstack([codes, conditions])
    parts = np.array_split(joined, max(1, -(-len(joined) * model.n_features_in_ * 4 // CHUNK_BYTES)))
    with torch.inference_mode():
        writable = (np.require(part, requirements="W") for part in parts)  # torch warns about read-only arrays
        rows = np.concatenate([_decode(model, torch.from_numpy(part).to(model.device_, dtype)) for part in writable])
    return rows.reshape(len(codes), *model.feature_shape_)


def _decode(model: Any, z: Tensor) -> np.ndarray:
    rows = model.scaling_.invert(model.objective_.as_dtype(z.dtype).decode(z))
    answer: np.ndarray = as_pixels(rows) if model.scaling_.name == "pixels" else rows.cpu().numpy()
    return answer


def as_pixels(rows: Tensor) -> np.ndarray:
    """Round and clip rows to bytes."""
    pixels: np.ndarray = rows.round().clamp_(0, 255).to(torch.uint8).cpu().numpy()
    return pixels
