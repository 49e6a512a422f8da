"""Ratings by a few factors: a linear variational autoencoder whose posterior is exact, with missing entries."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse

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
        Their posterior means, (items, k).
    seconds
        Their posterior second moments, upper triangles row by row, (items, k (k + 1) / 2): how sure they are.
    noise
        Variance of what the factors do not explain.
    """

    loadings: np.ndarray
    seconds: np.ndarray
    noise: float

    @cached_property
    def _ones(self) -> np.ndarray:
        return np.ones(self.loadings.shape[1])

    def of_users(self, residuals: Any) -> np.ndarray:
        """The posterior means of users' factors, by what is left of their ratings: CSR (users, items) → (users, k)."""
        return _posterior(residuals, self.loadings, self.seconds, self.noise, self._ones)[0]

    def predict(self, residuals: Any) -> np.ndarray:
        """What is expected of all items by what is left of some ratings: CSR (users, items) → (users, items)."""
        expected: np.ndarray = self.of_users(residuals) @ self.loadings.T
        return expected


def learn_factors(residuals: Any, *, n_factors: int = N_FACTORS, rounds: int = ROUNDS, seed: int = 0) -> Factors:
    """Factors of what biases leave of ratings, by variational Bayes: users and items in turn, each in closed form.

    Both sides keep how sure they are of each user and item, so that few ratings say little and nothing needs tuning
    (Raiko, Ilin & Karhunen 2007; Lim & Teh 2007). Users' factors have unit variance a priori, loadings a variance for
    each factor that is learned.

    Parameters
    ----------
    residuals
        CSR (users, items); what is not stored was not rated.
    n_factors
        k, >= 1.
    rounds
        Passes over the ratings, >= 1.
    seed
        Of the first loadings.

    Examples
    --------
    >>> truth = np.outer([1, -1, 2, -2] * 5, [0.5, -1, 1, 0.2])
    >>> factors = learn_factors(scipy.sparse.csr_array(truth), n_factors=1)
    >>> bool(np.abs(factors.predict(scipy.sparse.csr_array([[0.5, -1.0, 0, 0]])) - truth[0]).max() < 0.1)
    True
    """
    by_user = scipy.sparse.csr_array(residuals, dtype=np.float64)
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
    """The posterior of the vectors of rows by those of the columns: means (rows, k), second moments (rows, ·)."""
    k = means.shape[1]
    upper = np.triu_indices(k)
    precision = np.empty((given.shape[0], k, k))
    precision[:, upper[0], upper[1]] = precision[:, upper[1], upper[0]] = _stored(given) @ seconds / noise
    precision[:, range(k), range(k)] += 1.0 / variances
    covariance = np.linalg.inv(precision)
    found = np.einsum("nkl,nl->nk", covariance, given @ means) / noise
    return found, covariance[:, upper[0], upper[1]] + _outer(found)


def _noise(given: Any, users: np.ndarray, user_seconds: np.ndarray, items: np.ndarray, seconds: np.ndarray) -> float:
    """The expected squared error over what was rated; rows of `given` are items."""
    off = np.where(_diagonal(users.shape[1]), 1.0, 2.0)
    explained = 2.0 * (items * (given @ users)).sum() - (_stored(given) @ user_seconds * seconds * off).sum()
    return max(_TINY, float(((given.data**2).sum() - explained) / given.nnz))


def _stored(matrix: Any) -> Any:
    """One for every stored entry."""
    return scipy.sparse.csr_array((np.ones(matrix.nnz), matrix.indices, matrix.indptr), matrix.shape)


def _outer(vectors: np.ndarray) -> np.ndarray:
    """The upper triangles of the products of each vector with itself, (n, k (k + 1) / 2)."""
    first, second = np.triu_indices(vectors.shape[1])
    products: np.ndarray = vectors[:, first] * vectors[:, second]
    return products


def _diagonal(k: int) -> np.ndarray:
    """Which entries of an upper triangle lie on the diagonal."""
    first, second = np.triu_indices(k)
    return np.asarray(first == second)
