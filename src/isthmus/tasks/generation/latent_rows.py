"""Rows along the codes of a model: a plane of two units, and one unit after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import ndtri

from isthmus.choices.rules import Number, Whole
from isthmus.estimators import Autoencoder
from isthmus.estimators.kinds import require_autoencoder
from isthmus.estimators.sampling import mixture_of
from isthmus.estimators.targets import output_shape

MARGIN = 0.05


def latent_plane(
    model: Autoencoder, units: tuple[int, int] = (0, 1), n: int = 15, *, y: Any = None, margin: float = MARGIN
) -> np.ndarray:
    """Decoded codes on a grid of two units, the others at their mean: (n, n, *feature_shape).

    The first axis runs from the largest value of the second unit to its smallest, as in a picture with the second unit
    upwards; the second axis along the first unit. Values are at equal steps of probability: quantiles of N(0, 1) for a
    Gaussian code (Kingma & Welling 2014, appendix A), else of the codes of training rows.

    Parameters
    ----------
    model
        A fitted autoencoder with at least two units.
    units
        Two different units, counted from 0.
    n
        Number of steps of each unit, >= 2.
    y
        The label of all rows, for a conditional model.
    margin
        Probability outside the grid at each end, in (0, 0.5).

    Examples
    --------
    >>> X = np.random.default_rng(0).random((50, 6))
    >>> latent_plane(Autoencoder(2, max_epochs=1, random_state=0).fit(X), n=3).shape
    (3, 3, 6)
    """
    kept, steps = _checked(model, list(units), n, margin, "latent_plane")
    if len(set(units)) != 2:
        raise ValueError(f"units={units!r} must be two different units.")
    codes = np.repeat(kept.mean(axis=0, keepdims=True), n * n, axis=0)
    codes[:, units[0]] = np.tile(steps[units[0]], n)
    codes[:, units[1]] = np.repeat(steps[units[1]][::-1], n)
    rows = model.inverse_transform(codes.astype(np.float32), None if y is None else [y] * len(codes))
    return np.asarray(rows).reshape(n, n, *output_shape(model))


def traversals(
    model: Autoencoder, units: Any = None, n: int = 9, *, row: Any = None, y: Any = None, margin: float = MARGIN
) -> np.ndarray:
    """Decoded codes while one unit after the other goes through its values: (units, n, *feature_shape).

    Parameters
    ----------
    model
        A fitted autoencoder.
    units
        Units, counted from 0; None: all of them.
    n
        Number of values of each unit, >= 2, at equal steps of probability, as in `latent_plane`.
    row
        X with one row, whose code the others keep; None: the mean code.
    y
        The label of all rows, for a conditional model.
    margin
        Probability outside the values at each end, in (0, 0.5).
    """
    chosen = list(range(model.objective_.context.code_size)) if units is None else list(units)
    kept, steps = _checked(model, chosen, n, margin, "traversals")
    label = None if y is None else [y]
    centre = kept.mean(axis=0) if row is None else np.asarray(model.transform(row, label))[0]
    codes = np.repeat(centre[None], len(chosen) * n, axis=0)
    for place, unit in enumerate(chosen):
        codes[place * n : (place + 1) * n, unit] = steps[unit]
    rows = model.inverse_transform(codes.astype(np.float32), None if y is None else [y] * len(codes))
    return np.asarray(rows).reshape(len(chosen), n, *output_shape(model))


def _checked(
    model: Autoencoder, units: list[int], n: int, margin: float, name: str
) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Codes of training rows, or of the prior, and the values of each unit."""
    require_autoencoder(model, name, compares=False)
    size = model.objective_.context.code_size
    wrong = [unit for unit in units if not (Whole(0).admits(unit) and unit < size)]
    if wrong or not units:
        raise ValueError(f"units={units!r} must be units of the code, 0 to {size - 1}.")
    if not Whole(2).admits(n):
        raise ValueError(f"n={n!r} must be an integer >= 2.")
    if not Number(0.0, 0.5, open_low=True, open_high=True).admits(margin):
        raise ValueError(f"margin={margin!r} must be a number in (0, 0.5).")
    shares = np.linspace(margin, 1.0 - margin, n)
    if hasattr(model, "log_likelihood"):
        return np.zeros((1, size)), {unit: ndtri(shares) for unit in units}
    kept = getattr(model, "code_sample_", None)
    codes = mixture_of(model).draw(2_000, np.random.default_rng(0)) if kept is None else kept
    return codes, {unit: np.quantile(codes[:, unit], shares) for unit in units}
