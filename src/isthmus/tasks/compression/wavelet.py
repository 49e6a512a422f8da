"""The wavelet transform of the codec: analysis in floating point, synthesis in integers.

The filters are the biorthogonal 9/7 pair (Cohen, Daubechies & Feauveau 1992) by lifting (Daubechies & Sweldens 1998,
section 7.3.2). The scaling of the bands is left out of the lifting and put into the quantisation steps, so that the
synthesis is four integer steps a level: equal on every machine and for any number of threads.

::

    level 1            level 2
    ┌─────┬─────┐      ┌──┬──┬─────┐
    │ low │ hor │      │lo│ho│     │      lo: what the next level splits
    ├─────┼─────┤  ─▶  ├──┼──┤ hor │      hor: details along a row, ver: along a column, dia: both
    │ ver │ dia │      │ve│di│     │
    └─────┴─────┘      ├──┴──┼─────┤
                       │ ver │ dia │
                       └─────┴─────┘
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

LIFTING = (-1.586134342059924, -0.052980118572961, 0.882911075530934, 0.443506852043971)
"""Predict, update, predict, update (Daubechies & Sweldens 1998, table 7.3.2)."""
SHIFT = 14
FIXED = tuple(round(value * (1 << SHIFT)) for value in LIFTING)
MOST_LEVELS = 6


class Band(NamedTuple):
    """Which band of the transform a plane of coefficients is."""

    level: int
    """1 for the finest."""
    orientation: int
    """0 details along a row, 1 along a column, 2 both, 3 what is left at the coarsest level."""


def bands(levels: int) -> list[Band]:
    """All bands, coarsest first.

    >>> [tuple(band) for band in bands(1)]
    [(1, 3), (1, 0), (1, 1), (1, 2)]
    """
    details = [Band(level, orientation) for level in range(levels, 0, -1) for orientation in range(3)]
    return [Band(levels, 3), *details]


def band_shape(band: Band, height: int, width: int) -> tuple[int, int]:
    """Height and width of a band of an image.

    >>> band_shape(Band(2, 0), 5, 7)
    (2, 2)
    """
    for _ in range(band.level - 1):
        height, width = (height + 1) // 2, (width + 1) // 2
    tall, wide = (height + 1) // 2, (width + 1) // 2
    return (height - tall if band.orientation in (1, 2) else tall, width - wide if band.orientation in (0, 2) else wide)


Step = Callable[[np.ndarray, int], np.ndarray]


def _float_step(pair: np.ndarray, step: int) -> np.ndarray:
    return LIFTING[step] * pair


def _fixed_step(pair: np.ndarray, step: int) -> np.ndarray:
    return (pair * FIXED[step] + (1 << (SHIFT - 1))) >> SHIFT


def _lift(low: np.ndarray, high: np.ndarray, step: int, sign: int, amount: Step) -> None:
    """One lifting step along the first axis, in place; the signal goes on mirrored at both ends."""
    if not len(high):
        return
    if step % 2 == 0:  # high from low
        after = low[1 : len(high) + 1] if len(low) > len(high) else np.concatenate([low[1:], low[-1:]])
        high += sign * amount(low[: len(high)] + after, step)
    else:  # low from high
        before = np.concatenate([high[:1], high[: len(low) - 1]])
        here = high if len(high) == len(low) else np.concatenate([high, high[-1:]])
        low += sign * amount(before + here, step)


def _split(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = x[0::2].copy(), x[1::2].copy()
    for step in range(4):
        _lift(low, high, step, 1, _float_step)
    return low, high


def _join(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The inverse of `_split` in integers; both arrays are used up."""
    for step in (3, 2, 1, 0):
        _lift(low, high, step, -1, _fixed_step)
    x = np.empty((len(low) + len(high), *low.shape[1:]), np.int64)
    x[0::2], x[1::2] = low, high
    return x


def analyse(x: np.ndarray, levels: int) -> dict[Band, np.ndarray]:
    """Coefficients of images, (n, h, w), in units of unit-norm synthesis functions, as float64 planes, (n, …)."""
    found: dict[Band, np.ndarray] = {}
    low = np.moveaxis(x.astype(np.float64), 0, 2)  # (h, w, n)
    for level in range(1, levels + 1):
        left, right = (part.swapaxes(0, 1) for part in _split(low.swapaxes(0, 1)))
        (low, vertical), (horizontal, diagonal) = _split(left), _split(right)
        for orientation, plane in enumerate((horizontal, vertical, diagonal)):
            found[Band(level, orientation)] = np.moveaxis(plane, 2, 0) * norm(Band(level, orientation))
    found[Band(levels, 3)] = np.moveaxis(low, 2, 0) * norm(Band(levels, 3))
    return found


def synthesise(planes: dict[Band, np.ndarray], levels: int) -> np.ndarray:
    """The images of integer planes, (n, …), in the units of the lifting: (n, h, w) int64; the planes are used up."""
    moved = {band: np.moveaxis(plane, 0, 2) for band, plane in planes.items()}
    low = moved[Band(levels, 3)]
    for level in range(levels, 0, -1):
        horizontal, vertical, diagonal = (moved[Band(level, orientation)] for orientation in range(3))
        left, right = _join(low, vertical), _join(horizontal, diagonal)
        low = _join(left.swapaxes(0, 1).copy(), right.swapaxes(0, 1).copy()).swapaxes(0, 1)
    return np.moveaxis(low, 2, 0)


@functools.cache
def norm(band: Band) -> float:
    """Euclidean norm of a band's synthesis function: the image of one coefficient 1 in the units of the lifting."""
    low, high = _norms(band.level)
    return {0: low * high, 1: low * high, 2: high * high, 3: low * low}[band.orientation]


@functools.cache
def _norms(level: int) -> tuple[float, float]:
    """Norms of the one-dimensional low and high synthesis functions at a level."""
    scale = float(1 << 24)
    norms = []
    for is_high in (False, True):
        n = 16
        impulse = np.zeros(n, np.int64)
        impulse[n // 2] = int(scale)
        x = _join(np.zeros(n, np.int64), impulse) if is_high else _join(impulse, np.zeros(n, np.int64))
        for _ in range(level - 1):
            x = _join(x.copy(), np.zeros(len(x), np.int64))
        norms.append(math.sqrt(float((x.astype(np.float64) ** 2).sum())) / scale)
    return norms[0], norms[1]
