"""Factors of ratings: a linear variational autoencoder with an exact posterior and missing entries."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse
from scipy.sparse import csr_array

N_FACTORS = 10
ROUNDS = 20
FIRST_SPREAD = 0.1
"""Standard deviation of the loadings at the start."""


@dataclass(frozen=True)
class Factors:
    """``residual = item's loadings · user's factors + noise`` (Raiko, Ilin & Karhunen 2007).

    Attributes
    ----------
    loadings
        Posterior means of the item loadings, (items, k).
    seconds
        Posterior second moments of the loadings, upper triangles row by row, (items, k (k + 1) / 2).
    noise
        Residual variance.
    """

    loadings: np.ndarray
    seconds: np.ndarray
    noise: float

    @cached_property
    def _ones(self) -> np.ndarray:
        return np.ones(self.loadings.shape[1])

    def of_users(self, residuals: csr_array) -> np.ndarray:
        """Posterior means of user factors from rating residuals: CSR (users, items) → (users, k)."""
        return _posterior(residuals, self.loadings, self.seconds, self.noise, self._ones)[0]

    def predict(self, residuals: csr_array) -> np.ndarray:
        """Predicted residuals of all items from some residuals: CSR (users, items) → (users, items)."""
        expected: np.ndarray = self.of_users(residuals) @ self.loadings.T
        return expected


def learn_factors(residuals: csr_array, *, n_factors: int = N_FACTORS, rounds: int = ROUNDS, seed: int = 0) -> Factors:
    """Fit factors to rating residuals by variational Bayes, with alternating closed-form updates of users and items.

    The posterior variances of users and items regularise rows with few ratings, without a tuning parameter (Raiko, Ilin
    & Karhunen 2007; Lim & Teh 2007). User factors have unit prior variance; loadings have a learned prior variance for
    each factor. Point estimates of the loadings gave an RMSE of 0.90 to 1.09 on ml-2016, against 0.8833.

    Parameters
    ----------
    residuals
        CSR (users, items); entries that are not stored are unrated.
    n_factors
        k, >= 1.
    rounds
        Passes over the ratings, >= 1.
    seed
        Seed of the initial loadings.

    Examples
    --------
    >>> truth = np.outer([1, -1, 2, -2] * 5, [0.5, -1, 1, 0.2])
    >>> factors = learn_factors(scipy.sparse.csr_array(truth), n_factors=1)
    >>> bool(np.abs(factors.predict(scipy.sparse.csr_array([[0.5, -1.0, 0, 0]])) - truth[0]).max() < 0.1)
    True
    """
    by_user = residuals.astype(np.float64)
    by_item = by_user.T.tocsr()
    first = np.random.default_rng(seed).normal(0.0, FIRST_SPREAD, (by_user.shape[1], n_factors))
    made = Factors(first, _outer(first), max(_TINY, float((by_user.data**2).mean())))
    variances = np.full(n_factors, FIRST_SPREAD)
    for _ in range(rounds):
        users, user_seconds = _posterior(by_user, made.loadings, made.seconds, made.noise, np.ones(n_factors))
        loadings, seconds = _posterior(by_item, users, user_seconds, made.noise, variances)
        variances = seconds[:, _diagonal(n_factors)].mean(axis=0).clip(min=_TINY)
        made = Factors(loadings, seconds, _noise(by_item, users, user_seconds, loadings, seconds))
    return made


_TINY = 1e-8


def _posterior(
    given: Any, means: np.ndarray, seconds: np.ndarray, noise: float, variances: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior of the row vectors given the column vectors: means (rows, k), second moments (rows, ·)."""
    k = means.shape[1]
    upper = np.triu_indices(k)
    precision = np.empty((given.shape[0], k, k))
    precision[:, upper[0], upper[1]] = precision[:, upper[1], upper[0]] = _stored(given) @ seconds / noise
    precision[:, range(k), range(k)] += 1.0 / variances
    covariance = np.linalg.inv(precision)
    found = np.einsum("nkl,nl->nk", covariance, given @ means) / noise
    return found, covariance[:, upper[0], upper[1]] + _outer(found)


def _noise(given: Any, users: np.ndarray, user_seconds: np.ndarray, items: np.ndarray, seconds: np.ndarray) -> float:
    """The expected squared error over rated entries; rows of `given` are items."""
    off = np.where(_diagonal(users.shape[1]), 1.0, 2.0)
    explained = 2.0 * (items * (given @ users)).sum() - (_stored(given) @ user_seconds * seconds * off).sum()
    return max(_TINY, float(((given.data**2).sum() - explained) / given.nnz))


def _stored(matrix: csr_array) -> Any:
    """A matrix with ones in place of all stored entries."""
    return scipy.sparse.csr_array((np.ones(matrix.nnz), matrix.indices, matrix.indptr), matrix.shape)


def _outer(vectors: np.ndarray) -> np.ndarray:
    """The upper triangles of the outer products of each vector with itself, (n, k (k + 1) / 2)."""
    first, second = np.triu_indices(vectors.shape[1])
    products: np.ndarray = vectors[:, first] * vectors[:, second]
    return products


def _diagonal(k: int) -> np.ndarray:
    """Whether each entry of an upper triangle is on the diagonal."""
    first, second = np.triu_indices(k)
    return np.asarray(first == second)
