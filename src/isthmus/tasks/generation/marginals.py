"""Columns of numbers, mapped so that drawn values have the distribution of the training values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

N_QUANTILES = 501


@dataclass(frozen=True)
class Marginals:
    """For each number of an encoded row: quantiles of drawn and of training values, (columns, 501) each.

    A drawn value at some quantile of the drawn values becomes the training value at the same quantile. The map rises,
    so that ranks, and with them the dependence between columns, stay as they were drawn; spikes, limits and tails are
    those of the training rows. It is the map to uniform values and back of a copula (Sklar 1959).

    Attributes
    ----------
    places
        Position of each column in an encoded row, (columns,).
    drawn, known
        The quantiles.
    """

    places: np.ndarray
    drawn: np.ndarray
    known: np.ndarray

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Map the columns of drawn rows, (n, width); NaN stays."""
        mapped = rows.copy()
        for place, drawn, known in zip(self.places.tolist(), self.drawn, self.known, strict=True):
            mapped[:, place] = np.interp(rows[:, place], drawn, known)
        return mapped


def learn_marginals(drawn: np.ndarray, known: np.ndarray, places: np.ndarray) -> Marginals:
    """Learn from rows that were drawn and from training rows, (n, width) each; missing cells are left out.

    >>> draw = np.random.default_rng(0)
    >>> spiky = np.where(draw.random((2000, 1)) < 0.9, 0.0, draw.exponential(size=(2000, 1)))
    >>> fixed = learn_marginals(draw.normal(size=(2000, 1)), spiky, np.array([0]))(draw.normal(size=(2000, 1)))
    >>> float((fixed == 0).mean().round(2))
    0.9
    """
    shares = np.linspace(0.0, 1.0, N_QUANTILES)
    pairs = [(_quantiles(drawn[:, place], shares, "linear"), known[:, place]) for place in places]
    return Marginals(
        places,
        np.array([quantiles for quantiles, _ in pairs]).reshape(len(places), N_QUANTILES),
        np.array([_quantiles(values, shares, "inverted_cdf") for _, values in pairs]).reshape(len(places), N_QUANTILES),
    )


def _quantiles(values: np.ndarray, shares: np.ndarray, method: str) -> np.ndarray:
    seen = values[~np.isnan(values)].astype(np.float64)
    return np.quantile(seen, shares, method=method) if len(seen) else np.zeros(len(shares))  # type: ignore[call-overload]
