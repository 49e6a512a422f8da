"""Tokens: how an integer becomes a symbol of a small alphabet and some raw bits."""

from __future__ import annotations

import numpy as np

DIRECT = 16
"""Magnitudes below have a token each; above, two tokens an octave, and the rest of the number as raw bits."""
N_TOKENS = DIRECT + 2 * 12
LARGEST = (1 << 16) - 1
"""Largest magnitude."""


def tokens(magnitudes: np.ndarray) -> np.ndarray:
    """Tokens of magnitudes, int64 in 0 … `LARGEST`.

    >>> tokens(np.array([0, 15, 16, 23, 24, 32, 65535]))
    array([ 0, 15, 16, 16, 17, 18, 39])
    """
    octave = _octaves(magnitudes)
    upper = (magnitudes >> np.maximum(octave - 1, 0)) & 1
    return np.where(magnitudes < DIRECT, magnitudes, DIRECT + 2 * (octave - 4) + upper)


def raw_widths(token: np.ndarray) -> np.ndarray:
    """Raw bits behind a token.

    >>> raw_widths(np.array([3, 16, 17, 39]))
    array([ 0,  3,  3, 14])
    """
    return np.where(token < DIRECT, 0, (token - DIRECT) // 2 + 3)


def raw_bits(magnitudes: np.ndarray, token: np.ndarray) -> np.ndarray:
    """The raw bits themselves, as numbers."""
    bits: np.ndarray = magnitudes & ((1 << raw_widths(token)) - 1)
    return bits


def magnitudes_of(token: np.ndarray, raw: np.ndarray) -> np.ndarray:
    """The inverse of `tokens` and `raw_bits`.

    >>> all_of_them = np.arange(LARGEST + 1)
    >>> token = tokens(all_of_them)
    >>> bool((magnitudes_of(token, raw_bits(all_of_them, token)) == all_of_them).all())
    True
    """
    widths = raw_widths(token)
    return np.where(token < DIRECT, token, ((2 + ((token - DIRECT) & 1)) << widths) + raw)


def _octaves(magnitudes: np.ndarray) -> np.ndarray:
    """Position of the highest bit of magnitudes, by exact comparisons."""
    return np.searchsorted(1 << np.arange(1, 17), magnitudes, side="right")
