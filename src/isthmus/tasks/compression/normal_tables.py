"""Integer tables of normal distributions and of Bernoulli probabilities, the same on every machine.

Tables that a decoder computes must be those of the encoder to the last bit. ``exp`` of the system's mathematics
library differs between machines in its last bit; additions, products and quotients of doubles do not (IEEE 754).
Therefore `exact_exp` uses these only.
"""

from __future__ import annotations

import functools

import numpy as np

GRID = 1 / 64
"""Codes lie on this grid, in standard deviations of the prior."""
REACH = 14 * 64
"""The prior's grid goes to 14 standard deviations."""
DEVIATIONS = 57
"""Standard deviations of posteriors: 2^(-k/8), k = 0 … 56, from 1 to 1/128."""
WIDTH = 6 * 64
"""A posterior's grid goes to 6 standard deviations of the widest."""
LOGIT_GRID = 1 / 16
MOST_LOGIT = 16 * 14
"""Logits lie on a grid of 1/16, to ±14: there a pixel costs 1.2e-6 bits, and a wrong one 20."""
TOTAL = 1 << 22


def exact_exp(x: np.ndarray) -> np.ndarray:
    """The exponential function by sums and products only, to 1e-13, for -700 <= x <= 0.

    >>> x = np.linspace(-40.0, 0.0, 101)
    >>> bool(np.abs(exact_exp(x) / np.exp(x) - 1).max() < 1e-12)
    True
    """
    small = np.asarray(x, np.float64) / 1024.0
    total = term = np.ones_like(small)
    for order in range(1, 20):
        term = term * small / order
        total = total + term
    for _ in range(10):
        total = total * total
    return total


@functools.cache
def deviations() -> np.ndarray:
    """Standard deviations of posteriors, by square roots only, (`DEVIATIONS`,)."""
    eighth = np.sqrt(np.sqrt(np.sqrt(np.float64(0.5))))
    found = np.empty(DEVIATIONS)
    for k in range(DEVIATIONS):
        found[k] = 1.0 if k == 0 else found[k - 1] * eighth if k % 8 else 0.5 ** (k // 8)
    return found


def _as_frequencies(weights: np.ndarray) -> np.ndarray:
    """Weights as dyadic probabilities with at least one part in `TOTAL`, along the last axis."""
    n = weights.shape[-1]
    share = weights / _sum(weights)
    counts = np.floor(share * (TOTAL - n)) + 1.0
    middle = n // 2
    counts[..., middle] += TOTAL - counts.sum(axis=-1)  # sums of whole numbers are exact
    probabilities: np.ndarray = counts / TOTAL
    return probabilities


def _sum(weights: np.ndarray) -> np.ndarray:
    """A sum from left to right, because the order of numpy's sums depends on the machine."""
    return np.cumsum(weights, axis=-1)[..., -1:]


@functools.cache
def prior_table() -> np.ndarray:
    """Probabilities of the grid under N(0, 1), (2 · `REACH` + 1,)."""
    z = np.arange(-REACH, REACH + 1) * GRID
    return _as_frequencies(exact_exp(-z * z / 2))


@functools.cache
def posterior_tables() -> np.ndarray:
    """Probabilities of distances from the mean for each standard deviation, (`DEVIATIONS`, 2 · `WIDTH` + 1)."""
    z = np.arange(-WIDTH, WIDTH + 1) * GRID
    scaled = z / deviations()[:, None]
    return _as_frequencies(exact_exp(-np.minimum(scaled * scaled / 2, 700.0)))


@functools.cache
def bernoulli_table() -> np.ndarray:
    """Probability of 1 at each logit of the grid, (2 · `MOST_LOGIT` + 1,)."""
    size = np.abs(np.arange(-MOST_LOGIT, MOST_LOGIT + 1)) * LOGIT_GRID
    small = exact_exp(-size)
    rare = small / (1.0 + small)
    counts = np.floor(np.where(np.arange(-MOST_LOGIT, MOST_LOGIT + 1) < 0, rare, 1.0 - rare) * (TOTAL - 2)) + 1.0
    table: np.ndarray = counts / TOTAL
    return table
