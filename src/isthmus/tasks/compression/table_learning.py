"""Entropy tables from a formula, and from counts."""

from __future__ import annotations

import numpy as np

from isthmus.tasks.compression.coding import TOTAL, Tables
from isthmus.tasks.compression.scale_network import N_SCALES
from isthmus.tasks.compression.symbols import N_TOKENS, magnitudes_of, raw_widths

MEANS = (0.002, 500.0)
"""Mean magnitudes of the first and the last table."""
LEAST = 1e-7
"""Least probability of a token in a table from a formula."""


def laplacian_tables() -> np.ndarray:
    """Probabilities of tokens by a Laplace distribution of mean magnitude 0.002 to 500, (scales, tokens).

    >>> laplacian_tables().shape, bool((abs(laplacian_tables().sum(1) - 1) < 1e-4).all())
    ((40, 40), True)
    """
    means = np.geomspace(*MEANS, N_SCALES)
    low = magnitudes_of(np.arange(N_TOKENS), np.zeros(N_TOKENS, np.int64)).astype(np.float64)
    high = low + (1 << raw_widths(np.arange(N_TOKENS)))
    ratio = (means / (1 + means))[:, None]
    found: np.ndarray = np.maximum(ratio**low - ratio**high, LEAST)
    return found


def tables_of_counts(counts: np.ndarray, excess: np.ndarray) -> Tables:
    """Tables as integers.

    Parameters
    ----------
    counts
        How often each token was seen at each scale, with a prior, (scales, tokens), each row with a positive sum.
    excess
        By how many steps the integers of magnitude 1, 2 and more exceed what was rounded, in the mean, (scales, 3).
    """
    shares = counts / counts.sum(1, keepdims=True)
    frequencies = np.maximum(np.floor(shares * (TOTAL - N_TOKENS)), 0).astype(np.int64) + 1
    frequencies[np.arange(N_SCALES), frequencies.argmax(1)] += TOTAL - frequencies.sum(1)
    offsets = np.clip(np.rint(excess * 256), -127, 127).astype(np.int64)
    return Tables.of(frequencies, offsets)
