"""Inference: rows pass through the network in chunks, and results are converted to the original units."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from isthmus.data.sources import floating_of
from isthmus.estimators.feeds import joined_scaling
from isthmus.estimators.targets import output_known, output_scaling, output_shape, target_of
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
        Computes the result from the model and scaled rows (followed by their one-hot labels if it is conditional, and
        by their targets if the verb compares and the model was fitted to pairs).
    wide
        Whether the result has one value per feature.
    in_units
        Whether the result is rows of data, which are bytes if the data are bytes.
    of_input
        Whether the features are those of X, also where the model answers with a target.
    compares
        Whether reconstructions are compared with rows: with X, or with the target.
    """

    work: Callable[[Any, Tensor], Tensor]
    wide: bool = False
    in_units: bool = False
    of_input: bool = False
    compares: bool = False


def transform(model: Any, x: Tensor) -> Tensor:
    """Codes, (n, code)."""
    codes: Tensor = model.objective_.as_dtype(x.dtype).encode(x)
    return codes


def reconstruct(model: Any, x: Tensor) -> Tensor:
    """Reconstructions in the original units, (n, t)."""
    rows: Tensor = output_scaling(model).invert(model.objective_.as_dtype(x.dtype).reconstruct(x))
    return rows


def score_samples(model: Any, x: Tensor) -> Tensor:
    """Negative loss of each row, (n,)."""
    losses: Tensor = model.objective_.as_dtype(x.dtype).row_losses(x)
    return -losses


def restored_squares(model: Any, x: Tensor) -> Tensor:
    """Squared errors, and squared distances from the mean at fit, both in units of `feature_scale_`, (n, 2)."""
    scaling, known = output_scaling(model), output_known(model)
    scale = known.scale * np.broadcast_to(scaling.factor, known.scale.shape)  # in scaled units
    weight = torch.from_numpy(np.where(scale > 0, 1.0 / np.where(scale > 0, scale, 1.0), 0.0)).to(x)
    mean = scaling.apply(torch.from_numpy(known.mean)[None]).to(x)
    given, target = model.objective_.given_and_target(x)
    restored = model.objective_.as_dtype(x.dtype).reconstruct(given)
    away = torch.stack([restored - target, target - mean]) * weight
    return away.square().nansum(dim=2).T


METRICS = ("mean-squared", "root-mean-squared", "mean-absolute")


def error_verb(metric: str, *, per_feature: bool) -> Verb:
    """The verb that computes reconstruction errors, in the units of the data or their squares."""

    def errors(model: Any, x: Tensor) -> Tensor:
        given, target = model.objective_.given_and_target(x)
        restored = model.objective_.as_dtype(x.dtype).reconstruct(given)
        difference: Tensor = output_scaling(model).invert_difference(restored - target)
        each = difference.square() if metric == "mean-squared" else difference.abs()
        if per_feature:
            return each
        each = difference.square() if metric == "root-mean-squared" else each
        mean = each.nanmean(dim=1) if model.objective_.choices.loss.admits_missing else each.mean(dim=1)
        return mean.sqrt() if metric == "root-mean-squared" else mean

    return Verb(errors, wide=per_feature, compares=True)


VERBS = {
    "transform": Verb(transform),
    "reconstruct": Verb(reconstruct, wide=True, in_units=True),
    "score_samples": Verb(score_samples, compares=True),
    "reconstruction_error": error_verb("mean-squared", per_feature=False),
}


def corrupting(generator: torch.Generator) -> Verb:
    """The verb that corrupts rows as in training."""

    def corrupt(model: Any, x: Tensor) -> Tensor:
        damaged, _ = model.objective_.split(model.objective_.corrupt(x, generator))
        rows: Tensor = model.scaling_.invert(damaged)
        return rows

    return Verb(corrupt, wide=True, in_units=True, of_input=True)


def stream(
    model: Any, given: Given, verb: Verb, rows_per_chunk: int | None = None, *, check_units: bool = True
) -> Iterator[np.ndarray]:
    """The results of a verb in chunks; rows in other units than at fit raise an error or a warning."""
    size = rows_per_chunk or max(1, CHUNK_BYTES // (4 * given.rows.n_features))
    double = given.floating == np.float64 and model.device_ == "cpu"
    context = model.objective_.context
    scaling = joined_scaling(context, model.scaling_, target_of(model) if given.target is not None else None)
    loader = Loader(scaling, torch.device(model.device_), torch.float64 if double else torch.float32)
    form = _form(model, given, verb)
    checks = units_checks(model, given) if check_units else []
    for chunk in given.rows.chunks(size):
        for check in checks:
            check.look(chunk)
        with torch.inference_mode():
            answer = verb.work(model, loader(chunk))
        kept = as_pixels(answer) if form.as_bytes else answer.cpu().numpy().astype(form.dtype, copy=False)
        yield kept.reshape(len(kept), *form.shape) if verb.wide else kept
    for check in checks:
        check.finish()


class _Form(NamedTuple):
    """The shape of a row of results that have one value per feature, and the dtype of results."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    as_bytes: bool


def _form(model: Any, given: Given, verb: Verb) -> _Form:
    """The form of results: that of X, or of the target where the model was fitted to pairs."""
    target = None if verb.of_input else target_of(model)
    if target is None:
        return _Form(given.source.feature_shape, given.floating, verb.in_units and given.source.dtype == np.uint8)
    dtype = floating_of(target.dtype) if verb.in_units else given.floating
    return _Form(target.shape, dtype, verb.in_units and target.is_bytes)


def units_checks(model: Any, given: Given) -> list[UnitsCheck]:
    """The checks of the units of rows, and of their targets."""
    name, scaling, ranges = type(model).__name__, model.scaling_.name, getattr(model, "feature_ranges_", None)
    checks = [UnitsCheck(name, scaling, ranges, given.source.dtype)]
    target = target_of(model)
    if target is not None and given.target is not None:
        found = target.scaling.name, target.known.ranges, given.target.dtype
        checks.append(UnitsCheck(name, *found, what="target", first=model.objective_.context.encoder_width))
    return checks


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
    """Decode codes to rows in the original units: (n, code) → (n, *feature_shape), or the shape of the target."""
    dtype = torch.float64 if codes.dtype == np.float64 and model.device_ == "cpu" else torch.float32
    joined = codes if conditions is None else np.hstack([codes, conditions])
    shape = output_shape(model)
    parts = np.array_split(joined, max(1, -(-len(joined) * math.prod(shape) * 4 // CHUNK_BYTES)))
    with torch.inference_mode():
        writable = (np.require(part, requirements="W") for part in parts)  # torch warns about read-only arrays
        rows = np.concatenate([_decode(model, torch.from_numpy(part).to(model.device_, dtype)) for part in writable])
    return rows.reshape(len(codes), *shape)


def _decode(model: Any, z: Tensor) -> np.ndarray:
    scaling, target = output_scaling(model), target_of(model)
    rows = scaling.invert(model.objective_.as_dtype(z.dtype).decode(z))
    as_bytes = scaling.name == "pixels" if target is None else target.is_bytes
    answer: np.ndarray = as_pixels(rows) if as_bytes else rows.cpu().numpy()
    return answer if target is None or as_bytes else answer.astype(floating_of(target.dtype), copy=False)


def as_pixels(rows: Tensor) -> np.ndarray:
    """Round and clip rows to bytes."""
    pixels: np.ndarray = rows.round().clamp_(0, 255).to(torch.uint8).cpu().numpy()
    return pixels
