"""A Gaussian mixture on codes: the distribution from which models without a prior draw new codes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from isthmus.exceptions import DataError

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

MOST_COMPONENTS = 64
ROWS_A_COMPONENT = 20
"""Each component has at least this many codes on average, and at least as many as a code has numbers."""
LARGEST_MIXED = 256
"""Codes with more numbers get one Gaussian, because a component has the square of this many parameters."""
MOST_CODES = 20_000
HELD_OUT = 0.2
LEAST_GAIN = 0.01
"""Nats per row on held-out codes that twice as many components must gain."""
RIDGE = 1e-6
"""Added to the variances of standardised codes, so that units on a line have a density."""


@dataclass(frozen=True)
class CodeMixture:
    """A mixture of Gaussians over codes, one set of components for each label if labels were given.

    Attributes
    ----------
    weights
        Probability of each component, (components,); they sum to 1.
    means, factors
        Mean of each component, (components, code), and a square root of its covariance, (components, code, code).
    low, high
        Smallest and largest value of each unit among the codes it was fitted to, (code,); draws are clipped to them, so
        that a code with an activation stays in its range.
    owners
        Index in `classes` of each component's label, (components,); zeros without labels.
    classes
        The labels, or None.
    """

    weights: np.ndarray
    means: np.ndarray
    factors: np.ndarray
    low: np.ndarray
    high: np.ndarray
    owners: np.ndarray
    classes: np.ndarray | None = None

    def draw(self, n: int, draw: np.random.Generator, labels: np.ndarray | None = None) -> np.ndarray:
        """Draw codes, (n, code) float32; `labels`, (n,), are indices in `classes`, or None for labels as they occur.

        >>> mixture = fit_mixture(np.random.default_rng(0).normal(3.0, 0.1, size=(500, 2)))
        >>> mixture.draw(1000, np.random.default_rng(0)).mean(axis=0).round(1)
        array([3., 3.], dtype=float32)
        """
        uniform, noise = draw.random(n), draw.standard_normal((n, self.means.shape[1]))
        chosen = np.empty(n, np.int64)
        for label in [None] if labels is None else np.unique(labels).tolist():
            rows = np.full(n, fill_value=True) if label is None else labels == label
            weights = self.weights if label is None else self.weights * (self.owners == label)
            steps = np.cumsum(weights) / weights.sum()
            chosen[rows] = np.minimum(np.searchsorted(steps, uniform[rows], side="right"), len(steps) - 1)
        codes = self.means[chosen].astype(np.float64)
        for component in np.unique(chosen).tolist():
            rows = chosen == component
            codes[rows] += noise[rows] @ self.factors[component].T.astype(np.float64)
        return np.clip(codes, self.low, self.high).astype(np.float32)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name, without the labels."""
        names = ("weights", "means", "factors", "low", "high", "owners")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], classes: np.ndarray | None) -> Self:
        """The inverse of `to_arrays`."""
        return cls(**arrays, classes=classes)


def fit_mixture(codes: np.ndarray, labels: np.ndarray | None = None, *, seed: int = 0) -> CodeMixture:
    """Fit a mixture to codes, with the number of components that is best on held-out codes.

    The number is doubled as long as the mean log-likelihood of a held-out fifth of the codes rises by 0.01 nats; the
    chosen mixture is then fitted to all codes. At most 20,000 codes are used.

    Parameters
    ----------
    codes
        (n, code), n >= 1, finite.
    labels
        A label for each row, (n,): each label gets a mixture of its own, weighted by its share of the rows.
    seed
        Seed of the split, of the rows that are used, and of the initial components.

    Raises
    ------
    DataError
        There are no codes.
    """
    if not len(codes):
        raise DataError("There are 0 codes to fit a mixture to, but at least 1 is needed; pass more rows.")
    if len(codes) > MOST_CODES:
        some = np.sort(np.random.default_rng(seed).permutation(len(codes))[:MOST_CODES])
        codes, labels = codes[some], None if labels is None else labels[some]
    wide = np.asarray(codes, np.float64)
    low, high = wide.min(axis=0), wide.max(axis=0)
    classes = None if labels is None else np.unique(labels)
    parts = [wide] if classes is None else [wide[labels == label] for label in classes]
    fitted = [_components(part, seed) for part in parts]
    shares = [len(part) / len(wide) for part in parts]
    return CodeMixture(
        np.concatenate([share * weights for share, (weights, _, _) in zip(shares, fitted, strict=True)]),
        np.concatenate([means for _, means, _ in fitted]).astype(np.float32),
        np.concatenate([factors for _, _, factors in fitted]).astype(np.float32),
        low.astype(np.float32),
        high.astype(np.float32),
        np.concatenate([np.full(len(weights), place) for place, (weights, _, _) in enumerate(fitted)]),
        classes,
    )


def _components(codes: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, means and factors of the best mixture of some codes, (n, code)."""
    centre, scale = codes.mean(axis=0), codes.std(axis=0)
    constant = scale <= 1e-9 * np.maximum(np.abs(centre), 1.0)
    units = (codes - centre) / np.where(constant, 1.0, scale)
    weights, means, covariances = _best(units, seed)
    values, vectors = np.linalg.eigh(covariances)
    factors = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
    scale = np.where(constant, 0.0, scale)
    return weights, centre + means * scale, scale[:, None] * factors


def _best(units: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n, width = units.shape
    if width > LARGEST_MIXED or n < 2 * ROWS_A_COMPONENT:
        covariance = units.T @ units / max(1, n - 1) + RIDGE * np.eye(width)
        return np.ones(1), np.zeros((1, width)), covariance[None]
    order = np.random.default_rng(seed).permutation(n)
    held_out, rows = units[order[: int(HELD_OUT * n)]], units[order[int(HELD_OUT * n) :]]
    best, reached, n_components = 1, -np.inf, 1
    while n_components <= min(MOST_COMPONENTS, len(rows) // max(ROWS_A_COMPONENT, width)) or n_components == 1:
        likelihood = _mixture(rows, n_components, seed).score(held_out)
        if likelihood < reached + LEAST_GAIN:
            break
        best, reached, n_components = n_components, likelihood, 2 * n_components
    found = _mixture(units, best, seed)
    return found.weights_, found.means_, found.covariances_


def _mixture(units: np.ndarray, n_components: int, seed: int) -> GaussianMixture:
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415
    from sklearn.mixture import GaussianMixture  # noqa: PLC0415  # half a second, which `import isthmus` should not pay

    mixture = GaussianMixture(n_components, reg_covar=RIDGE, max_iter=60, tol=1e-3, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # repeated codes, or a slow last digit of the likelihood
        return mixture.fit(units)
