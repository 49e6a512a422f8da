"""New rows from a fitted model: codes are drawn and decoded, and get the spread that reconstructions lack."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from isthmus.choices.codes import GaussianModule
from isthmus.data import RowsSource, Scaling
from isthmus.data.scaling import LARGEST
from isthmus.estimators import inference
from isthmus.estimators.code_mixture import CodeMixture, fit_mixture
from isthmus.estimators.targets import output_known, output_names, output_scaling, output_shape
from isthmus.estimators.validation import Given
from isthmus.training import Objective

LEARNED = ("code_sample_", "noise_mean_", "noise_factor_", "whole_features_")
"""What `fit` keeps for later samples."""
MOST_CODES, MOST_CODE_NUMBERS, FEWEST_CODES = 2_000, 2**17, 500
"""Codes that a model keeps: 2,000, or fewer of long codes, so that they take at most half a megabyte in its file."""
WIDEST_COVARIANCE = 128
"""Rows with more features get noise that is independent between features."""
ROWS_AT_ONCE = 2**22
"""Values that are drawn at a time."""


def n_codes_kept(code_size: int) -> int:
    """How many codes a model keeps.

    >>> n_codes_kept(2), n_codes_kept(128), n_codes_kept(4096)
    (2000, 1024, 500)
    """
    return max(FEWEST_CODES, min(MOST_CODES, MOST_CODE_NUMBERS // code_size))


@torch.inference_mode()
def drawn_codes(objective: Objective, rows: Tensor, generator: torch.Generator) -> Tensor:
    """Codes of scaled rows, (n, code); of a Gaussian code draws from the posterior, which the decoder learned from."""
    if isinstance(objective.code, GaussianModule):
        return objective.code.draw(objective.encoder(objective.filled(rows)), 1, generator).z
    return objective.encode(rows)


@torch.inference_mode()
def learn_noise(objective: Objective, rows: Tensor, codes: Tensor, scaling: Scaling) -> dict[str, np.ndarray]:
    """What reconstructions of rows lack: their mean error, and a factor of the covariance to add, in scaled units.

    Rows are those of batches, with their targets where a model learned pairs; the scaling is that of the targets.

    The covariance to add is that of the rows less that of their reconstructions, without negative directions, so that
    rows that are drawn have the spread and the correlations of the training rows even where reconstructions shrink
    towards the mean.
    """
    given_rows, target = objective.given_and_target(rows)
    _, conditions = objective.split(given_rows)
    outputs = objective.decoder(codes if conditions is None else torch.cat([codes, conditions], dim=1))
    loss = objective.choices.loss
    restored = loss.link(outputs).double().cpu().numpy()
    unit = np.sqrt(np.square(loss.spread(outputs).double().cpu().numpy()).mean(axis=0))
    given = target.double().cpu().numpy()
    seen = ~np.isnan(given)
    counts = np.maximum(seen.sum(axis=0), 1)
    mean = np.where(seen, given - restored, 0.0).sum(axis=0) / counts
    filled = np.where(seen, given, restored + mean)
    lacking = _lacking(filled, restored, counts / len(given))
    factor = lacking / (unit[:, None] if lacking.ndim == 2 else unit)
    return {
        "noise_mean_": mean.astype(np.float32),
        "noise_factor_": factor.astype(np.float32),
        "whole_features_": _whole(scaling.invert(target.double().cpu()).numpy()).astype(np.float32),
    }


def _lacking(rows: np.ndarray, restored: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """A square root of the covariance of rows less that of their reconstructions: (d, d), or (d,) for many features."""
    away, restored_away = (part - part.mean(axis=0) for part in (rows, restored))
    if rows.shape[1] > WIDEST_COVARIANCE:
        lack = (np.square(away).mean(axis=0) - np.square(restored_away).mean(axis=0)) / np.maximum(seen, 1e-9)
        return np.asarray(np.sqrt(np.maximum(lack, 0.0)))
    covariance = (away.T @ away - restored_away.T @ restored_away) / len(rows)
    values, vectors = np.linalg.eigh(covariance)
    factor = vectors * np.sqrt(np.maximum(values, 0.0))
    return np.asarray(factor / np.sqrt(np.maximum(seen, 1e-9))[:, None])  # missing cells were filled without noise


def _whole(rows: np.ndarray) -> np.ndarray:
    """Which features are whole numbers in every row, (d,), up to the rounding of scaled values."""
    near = np.abs(rows - np.round(rows)) <= 1e-3 + 1e-6 * np.abs(rows)
    varied = np.fmax.reduce(rows, axis=0, initial=-np.inf) - np.fmin.reduce(rows, axis=0, initial=np.inf) >= 0.999
    return np.asarray((near | np.isnan(rows)).all(axis=0) & varied)


# -- from a fitted model -----------------------------------------------------------------------------------------------


def mixture_of(model: Any) -> CodeMixture:
    """The mixture of a model: the one that `fit_sampler` fitted, or one of the codes that `fit` kept."""
    known = getattr(model, "code_mixture_", None)
    if known is None:
        codes = getattr(model, "code_sample_", None)
        if codes is None:
            raise ValueError(
                f"This {type(model).__name__} has neither a prior nor codes to draw from (its file is of an older "
                "version); call fit_sampler(X) with training rows once, and save it again."
            )
        known = model.code_mixture_ = fit_mixture(codes)
    return known


def is_picture(model: Any) -> bool:
    """Whether rows are images, or flat rows without names in [0, 1], such as grey values and probabilities."""
    if len(output_shape(model)) > 1:
        return True
    bounded = model.objective_.choices.loss.output_activation == "sigmoid"
    return bounded and output_scaling(model).name in ("none", "pixels") and output_names(model) is None


@torch.inference_mode()
def draw_rows(model: Any, codes: np.ndarray, conditions: np.ndarray | None, seed: int) -> np.ndarray:
    """Rows drawn around the decoded codes, in the units of the training data: (n, code) → (n, *feature_shape) float64.

    Whole numbers stay whole, and values stay within the range of the training rows.
    """
    if not hasattr(model, "noise_factor_"):
        raise ValueError(
            f"This {type(model).__name__} does not know the spread of rows around their means (its file is of an older "
            "version); call fit_sampler(X) with training rows once, or use draw=False."
        )
    objective, loss = model.objective_, model.objective_.choices.loss
    draw, generator = np.random.default_rng(seed), torch.Generator(model.device_).manual_seed(seed)
    scaling, ranges, shape = output_scaling(model), output_known(model).ranges, output_shape(model)
    n_features, whole, factor = math.prod(shape), model.whole_features_ > 0, model.noise_factor_
    low, high = ranges
    scaled = (ranges - scaling.shift) * scaling.factor
    flags = whole & (np.abs(scaled[0]) < 1e-6) & (np.abs(scaled[1] - 1.0) < 1e-6)
    joined = codes if conditions is None else np.hstack([codes, conditions])
    parts = []
    for z in np.array_split(joined, max(1, -(-len(joined) * n_features // ROWS_AT_ONCE))):
        normal = draw.standard_normal((len(z), n_features)).astype(np.float32)
        normal = normal @ factor.T if factor.ndim == 2 else normal * factor
        output = objective.decoder(torch.from_numpy(np.require(z, requirements="W")).to(model.device_, torch.float32))
        normal[:, flags] = 0.0
        noise = torch.from_numpy(normal).to(output)
        mean = torch.from_numpy(model.noise_mean_).to(output) / loss.spread(output).clamp(min=1e-12)
        rows = loss.draw(output, noise + mean, torch.from_numpy(flags)[None].to(model.device_), generator)
        parts.append(scaling.invert(rows.double().cpu()).numpy())
    rows = np.clip(np.nan_to_num(np.concatenate(parts), posinf=LARGEST), low, high)
    drawn: np.ndarray = np.where(whole, np.round(rows), rows)
    return drawn.reshape(len(codes), *shape)


def as_frame(model: Any, rows: np.ndarray) -> Any:
    """Rows as a frame with the columns of `fit`, whole numbers as integers; an array if `fit` was given no names."""
    names = output_names(model)
    if names is None or rows.ndim != 2:
        return rows
    columns, whole_at_fit = {}, getattr(model, "whole_features_", np.zeros(len(names)))
    for place, column in enumerate(rows.T):
        whole = whole_at_fit[place] and (column == np.round(column)).all()
        columns[place] = column.astype(np.int64) if whole and np.abs(column).max() < 2**62 else column
    frame = pd.DataFrame(columns)
    frame.columns = pd.Index(names)
    return frame


def learn_from(model: Any, given: Given, labels: np.ndarray | None) -> None:
    """Fit the mixture and the noise of a model to validated rows."""
    codes = inference.whole(model, given, inference.Verb(_codes))
    model.code_mixture_ = fit_mixture(codes.astype(np.float32), labels)
    if not hasattr(model, "noise_factor_") and model.objective_.context.target is None:
        _learn_missing_noise(model, given)


def _learn_missing_noise(model: Any, given: Given) -> None:
    """Learn what reconstructions lack, for a model whose file is of an older version."""
    n_rows = given.source.n_rows
    some = np.unique(np.linspace(0, n_rows - 1, min(n_rows, MOST_CODES)).astype(int))
    labels = None if given.labels is None else given.labels[some]
    few = replace(given, source=RowsSource(given.source, some), labels=labels)
    rows = torch.from_numpy(inference.whole(model, few, inference.Verb(_scaled)).astype(np.float32)).to(model.device_)
    codes = drawn_codes(model.objective_, rows, torch.Generator(model.device_).manual_seed(0))
    for name, array in learn_noise(model.objective_, rows, codes, model.scaling_).items():
        setattr(model, name, array)


def _scaled(_: Any, x: Tensor) -> Tensor:
    return x


def _codes(model: Any, x: Tensor) -> Tensor:
    seed = torch.Generator(x.device).manual_seed(0)
    return drawn_codes(model.objective_.as_dtype(x.dtype), x, seed)
