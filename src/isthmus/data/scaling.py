"""Scaling: what is learned of the range of the data, so that a network sees numbers of one size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from isthmus.choices.registry import unknown
from isthmus.data.sources import Source

SCALINGS = ("auto", "none", "pixels", "minmax", "standard", "global")
SAMPLE_BYTES = 2**30
SAMPLE_BLOCKS = 256
BLOCK_NUMBERS = 2**17
"""Numbers that are looked at together: few enough to stay in a core's cache, where a pass over them costs a quarter."""


@dataclass(frozen=True)
class Statistics:
    """What one pass over the data tells of each of the d features.

    Attributes
    ----------
    n_rows
        Rows that were looked at.
    n_seen
        How many of the values of each feature are finite, (d,).
    minimum, maximum, mean, variance
        Of the finite values of each feature, (d,).
    n_nan, n_infinite
        How many values are not numbers.
    first_bad
        Row and column of the first of them, or None.
    """

    n_rows: int
    n_seen: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    n_nan: int = 0
    n_infinite: int = 0
    first_bad: tuple[int, int] | None = None


def summarise(source: Source) -> Statistics:
    """Statistics of a source, in one pass with bounded memory.

    Of a source of more than 1 GB (as float32) an evenly spread sample of blocks is looked at, 1 GB in all.

    Examples
    --------
    >>> from isthmus.data import as_source
    >>> summarise(as_source(np.array([[1.0, 2.0], [3.0, 2.0]]))).mean
    array([2., 2.])
    """
    total: Statistics | None = None
    for first_row, chunk in _sampled(source):
        flat = chunk.reshape(len(chunk), -1)
        size = max(1, BLOCK_NUMBERS // max(1, flat.shape[1]))
        for start in range(0, len(flat), size):
            part = _of_block(flat[start : start + size], first_row + start)
            total = part if total is None else _merge(total, part)
    if total is None:
        raise ValueError("The source has no rows.")
    return total


def _sampled(source: Source) -> Iterator[tuple[int, np.ndarray]]:
    """Chunks with the number of their first row: all of them, or evenly spread ones of a large source."""
    bytes_per_row = 4 * source.n_features
    if source.n_rows * bytes_per_row <= SAMPLE_BYTES:
        row = 0
        for chunk in source.chunks():
            yield row, chunk
            row += len(chunk)
        return
    rows = max(1, SAMPLE_BYTES // SAMPLE_BLOCKS // bytes_per_row)
    for start in np.linspace(0, source.n_rows - rows, SAMPLE_BLOCKS).astype(int).tolist():
        yield start, source.read(slice(start, start + rows))


def all_finite(array: np.ndarray) -> bool:
    """Whether all numbers are finite; looks at each only where their sum is not.

    >>> all_finite(np.array([1.0, 2.0])), all_finite(np.array([1.0, np.nan]))
    (True, False)
    """
    if array.dtype.kind != "f":
        return True
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.add.reduce(array, axis=None))) or bool(np.isfinite(array).all())


def _of_block(flat: np.ndarray, first_row: int) -> Statistics:
    if not all_finite(flat):
        return _of_spoilt_block(flat, first_row)
    wide = flat.astype(np.float64)
    mean = wide.mean(axis=0)
    wide -= mean
    variance = np.einsum("ij,ij->j", wide, wide) / len(wide)
    low, high = flat.min(axis=0).astype(np.float64), flat.max(axis=0).astype(np.float64)
    return Statistics(len(flat), np.full(flat.shape[1], len(flat)), low, high, mean, variance)


def _of_spoilt_block(flat: np.ndarray, first_row: int) -> Statistics:
    """Statistics of what is finite, and a count of what is not."""
    bad = ~np.isfinite(flat)
    row, column = np.unravel_index(int(bad.argmax()), bad.shape)
    n_seen = (~bad).sum(axis=0)
    share = np.maximum(n_seen, 1)
    wide = np.where(bad, 0.0, flat.astype(np.float64))
    mean = wide.sum(axis=0) / share
    variance = np.where(bad, 0.0, (wide - mean) ** 2).sum(axis=0) / share
    low, high = np.where(bad, np.inf, wide).min(axis=0), np.where(bad, -np.inf, wide).max(axis=0)
    n_nan, first = int(np.isnan(flat).sum()), (first_row + int(row), int(column))
    return Statistics(len(flat), n_seen, low, high, mean, variance, n_nan, int(bad.sum()) - n_nan, first)


def _merge(a: Statistics, b: Statistics) -> Statistics:
    """Statistics of two sets of rows together (Chan, Golub & LeVeque 1983)."""
    n_seen = a.n_seen + b.n_seen
    share = b.n_seen / np.maximum(n_seen, 1)
    delta = b.mean - a.mean
    return Statistics(
        a.n_rows + b.n_rows,
        n_seen,
        np.minimum(a.minimum, b.minimum),
        np.maximum(a.maximum, b.maximum),
        a.mean + delta * share,
        (1 - share) * a.variance + share * b.variance + delta**2 * share * (1 - share),
        a.n_nan + b.n_nan,
        a.n_infinite + b.n_infinite,
        a.first_bad or b.first_bad,
    )


@dataclass(frozen=True)
class Scaling:
    """``scaled = (x - shift) · factor``, one pair for all features or one for each.

    Attributes
    ----------
    name
        How it was chosen: ``"none"``, ``"pixels"``, ``"minmax"`` or ``"standard"``.
    shift, factor
        float64, () or (d,).

    Examples
    --------
    >>> scaling = Scaling("minmax", np.array(10.0), np.array(0.1))
    >>> scaling.apply(torch.tensor([[10.0, 20.0]]))
    tensor([[0., 1.]])
    """

    name: str
    shift: np.ndarray
    factor: np.ndarray

    def apply(self, x: Tensor) -> Tensor:
        """Scaled rows, of the same floating type: (n, d) → (n, d)."""
        if self.name == "none":
            return x
        return (x - self._as(self.shift, x)) * self._as(self.factor, x)

    def invert(self, x: Tensor) -> Tensor:
        """Rows in the user's units from scaled ones: (n, d) → (n, d)."""
        if self.name == "none":
            return x
        return x / self._as(self.factor, x) + self._as(self.shift, x)

    def invert_difference(self, x: Tensor) -> Tensor:
        """Differences of rows in the user's units from those of scaled ones: (n, d) → (n, d)."""
        return x if self.name == "none" else x / self._as(self.factor, x)

    def extended(self, n_features: int, n_more: int) -> Scaling:
        """The same for rows of `n_features` with `n_more` numbers behind them, which stay as they are."""
        if self.name == "none" or not n_more:
            return self
        shift, factor = (np.broadcast_to(array, (n_features,)) for array in (self.shift, self.factor))
        return Scaling(self.name, np.append(shift, np.zeros(n_more)), np.append(factor, np.ones(n_more)))

    @staticmethod
    def _as(array: np.ndarray, x: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray(array)).to(x.device, x.dtype)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """What was learned, by name."""
        return {"shift": np.asarray(self.shift), "factor": np.asarray(self.factor)}

    @classmethod
    def from_arrays(cls, name: str, arrays: Mapping[str, np.ndarray]) -> Self:
        """The inverse of `to_arrays`."""
        return cls(name, arrays["shift"], arrays["factor"])


def learn_scaling(
    name: str, statistics: Statistics, dtype: np.dtype[Any], kept: Sequence[bool] | None = None
) -> Scaling:
    """The scaling of that name for data with these statistics; a feature without one finite value counts as zero.

    Parameters
    ----------
    name
        ``"none"``; ``"pixels"`` divides by 255; ``"minmax"`` takes each feature to [0, 1]; ``"standard"`` to mean 0 and
        deviation 1; ``"global"`` to mean 0, and all by one factor to a mean variance of 1; ``"auto"`` takes pixels for
        uint8, none for data within [0, 1], else standard.
    statistics
        Of the data.
    dtype
        Of the data.
    kept
        Features that ``"auto"`` leaves as they are when it standardises.
    """
    if name not in SCALINGS:
        raise ValueError(unknown("scaling", name, SCALINGS))
    chosen = _choose(statistics, dtype) if name == "auto" else name
    zero, one = np.zeros(()), np.ones(())
    if chosen == "minmax":
        low = np.where(statistics.n_seen > 0, statistics.minimum, 0.0)
        return Scaling(chosen, low, _inverse(np.where(statistics.n_seen > 0, statistics.maximum, 0.0) - low))
    if chosen == "global":
        return Scaling(chosen, statistics.mean, _inverse(np.sqrt(statistics.variance.mean())))
    if chosen == "standard":
        left = np.zeros(len(statistics.mean), bool) if kept is None or name != "auto" else np.asarray(kept)
        shift, factor = statistics.mean, _inverse(np.sqrt(statistics.variance))
        return Scaling(chosen, np.where(left, 0.0, shift), np.where(left, 1.0, factor))
    name = chosen
    return Scaling(name, zero, one / 255 if name == "pixels" else one)


def _choose(statistics: Statistics, dtype: np.dtype[Any]) -> str:
    if dtype == np.uint8:
        return "pixels"
    return "none" if statistics.minimum.min() >= 0.0 and statistics.maximum.max() <= 1.0 else "standard"


def _inverse(width: np.ndarray) -> np.ndarray:
    """1 / width; 1 for a feature that does not vary."""
    constant = width <= 1e-12 * max(1.0, float(np.max(width, initial=0.0)))
    return np.where(constant, 1.0, 1.0 / np.where(constant, 1.0, width))
