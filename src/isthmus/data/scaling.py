"""Scaling: statistics of the training data, and the transformation that brings features to a common range."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from isthmus.choices.registry import unknown
from isthmus.data.sources import Source
from isthmus.exceptions import DataError

SCALINGS = ("auto", "none", "pixels", "minmax", "standard", "global")
SAMPLE_BYTES = 2**30
SAMPLE_BLOCKS = 256
BLOCK_NUMBERS = 2**17
"""Values per block: small enough for a core's cache, where a pass takes a quarter of the time."""


@dataclass(frozen=True)
class Statistics:
    """Statistics of each of the d features, from one pass over the data.

    Attributes
    ----------
    n_rows
        Number of rows read.
    n_seen
        Number of finite values of each feature, or the sum of the weights of their rows, (d,).
    minimum, maximum, mean, variance
        Statistics of the finite values of each feature, (d,).
    n_nan, n_infinite
        Number of NaN and of infinite values.
    first_bad
        Row and column of the first NaN or infinite value, or None.
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


def summarise(source: Source, weights: np.ndarray | None = None) -> Statistics:
    """Compute the statistics of a source in one pass with bounded memory.

    For a source above 1 GB (as float32), a sample of evenly spaced blocks is read, 1 GB in total. With weights > 0 of
    the rows, (n,), means and variances are weighted: a weight of 2 equals a repeated row.

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
            first = first_row + start
            block = flat[start : start + size]
            part = _of_block(block, first, None if weights is None else weights[first : first + len(block)])
            total = part if total is None else _merge(total, part)
    if total is None:
        raise ValueError("The source has 0 rows, but at least 1 is needed; check where its rows come from.")
    return total


def _sampled(source: Source) -> Iterator[tuple[int, np.ndarray]]:
    """Chunks with the index of their first row: all rows, or evenly spaced chunks of a large source."""
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
    """Whether all values are finite; tests them one by one only if their sum is not finite.

    >>> all_finite(np.array([1.0, 2.0])), all_finite(np.array([1.0, np.nan]))
    (True, False)
    """
    if array.dtype.kind != "f":
        return True
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.add.reduce(array, axis=None))) or bool(np.isfinite(array).all())


def _of_block(flat: np.ndarray, first_row: int, weights: np.ndarray | None = None) -> Statistics:
    if weights is not None or not all_finite(flat):
        return _of_weighed_block(flat, first_row, np.ones(len(flat)) if weights is None else weights)
    wide = flat.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # `refuse_huge` rejects values whose squares overflow
        mean = wide.mean(axis=0)
        wide -= mean
        variance = np.einsum("ij,ij->j", wide, wide) / len(wide)
    low, high = flat.min(axis=0).astype(np.float64), flat.max(axis=0).astype(np.float64)
    return Statistics(len(flat), np.full(flat.shape[1], len(flat)), low, high, mean, variance)


def _of_weighed_block(flat: np.ndarray, first_row: int, weights: np.ndarray) -> Statistics:
    """Weighted statistics of the finite values, and counts of NaN and infinite values."""
    bad = ~np.isfinite(flat)
    n_seen = weights @ ~bad
    share = np.where(n_seen > 0.0, n_seen, 1.0)
    wide = np.where(bad, 0.0, flat.astype(np.float64))
    with np.errstate(over="ignore", invalid="ignore"):
        mean = weights @ wide / share
        variance = weights @ np.where(bad, 0.0, (wide - mean) ** 2) / share
    low, high = np.where(bad, np.inf, wide).min(axis=0), np.where(bad, -np.inf, wide).max(axis=0)
    if not bad.any():
        return Statistics(len(flat), n_seen, low, high, mean, variance)
    row, column = np.unravel_index(int(bad.argmax()), bad.shape)
    n_nan, first = int(np.isnan(flat).sum()), (first_row + int(row), int(column))
    return Statistics(len(flat), n_seen, low, high, mean, variance, n_nan, int(bad.sum()) - n_nan, first)


def _merge(a: Statistics, b: Statistics) -> Statistics:
    """Combine the statistics of two sets of rows (Chan, Golub & LeVeque 1983)."""
    n_seen = a.n_seen + b.n_seen
    share = b.n_seen / np.where(n_seen > 0, n_seen, 1)
    with np.errstate(over="ignore", invalid="ignore"):
        delta = b.mean - a.mean
        variance = (1 - share) * a.variance + share * b.variance + delta**2 * share * (1 - share)
        mean = a.mean + delta * share
    return Statistics(
        a.n_rows + b.n_rows,
        n_seen,
        np.minimum(a.minimum, b.minimum),
        np.maximum(a.maximum, b.maximum),
        mean,
        variance,
        a.n_nan + b.n_nan,
        a.n_infinite + b.n_infinite,
        a.first_bad or b.first_bad,
    )


@dataclass(frozen=True)
class Scaling:
    """``scaled = (x - shift) · factor``, with one pair for all features or one per feature.

    Attributes
    ----------
    name
        The method: ``"none"``, ``"pixels"``, ``"minmax"``, ``"standard"`` or ``"global"``.
    shift, factor
        float64 arrays, () or (d,).

    Examples
    --------
    >>> scaling = Scaling("minmax", np.array(10.0), np.array(0.1))
    >>> scaling.apply(torch.tensor([[10.0, 20.0]]))
    tensor([[0., 1.]])
    """

    name: str
    shift: np.ndarray
    factor: np.ndarray

    @property
    def shifts(self) -> bool:
        """Whether rows are centred, which needs double precision."""
        return self.name not in ("none", "pixels")

    def apply(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Scale rows: (n, d) → (n, d) of a floating dtype (by default that of x).

        Rows are centred in double precision and rounded afterwards: in single precision the current date in seconds
        has a resolution of 128 seconds.
        """
        dtype = dtype or x.dtype
        if self.name == "none":
            return x.to(dtype)
        wide = self._wide(x) if self.shifts else x.to(dtype)
        return ((wide - self._as(self.shift, wide)) * self._as(self.factor, wide)).to(dtype)

    def invert(self, x: Tensor) -> Tensor:
        """Convert scaled rows to the original units: (n, d) → (n, d)."""
        if self.name == "none":
            return x
        wide = self._wide(x) if self.shifts else x
        return (wide / self._as(self.factor, wide) + self._as(self.shift, wide)).to(x.dtype)

    def invert_difference(self, x: Tensor) -> Tensor:
        """Convert differences of scaled rows to the original units: (n, d) → (n, d)."""
        if self.name == "none":
            return x
        wide = self._wide(x) if self.shifts else x
        return (wide / self._as(self.factor, wide)).to(x.dtype)

    @staticmethod
    def _wide(x: Tensor) -> Tensor:
        """Rows in double precision if the device supports it (MPS does not)."""
        return x.float() if x.device.type == "mps" else x.double()

    def extended(self, n_features: int, n_more: int) -> Scaling:
        """The same scaling for rows of `n_features` followed by `n_more` unscaled columns."""
        if self.name == "none" or not n_more:
            return self
        shift, factor = (np.broadcast_to(array, (n_features,)) for array in (self.shift, self.factor))
        return Scaling(self.name, np.append(shift, np.zeros(n_more)), np.append(factor, np.ones(n_more)))

    def beside(self, other: Scaling, n_features: int, n_others: int) -> Scaling:
        """The scaling of rows of `n_features` followed by `n_others` that have a scaling of their own.

        >>> half, none = Scaling("pixels", np.array(0.0), np.array(0.5)), Scaling("none", np.array(0.0), np.array(1.0))
        >>> half.beside(none, 1, 2)
        Scaling(name='pixels', shift=array([0., 0., 0.]), factor=array([0.5, 1. , 1. ]))
        """
        widths = n_features, n_others
        name = next(
            (part.name for part in (self, other) if part.shifts), self.name if self.name != "none" else other.name
        )
        shift, factor = (
            np.concatenate([np.broadcast_to(array, (width,)) for array, width in zip(arrays, widths, strict=True)])
            for arrays in ((self.shift, other.shift), (self.factor, other.factor))
        )
        return Scaling(name, shift, factor)

    @staticmethod
    def _as(array: np.ndarray, x: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray(array)).to(x.device, x.dtype)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The learned arrays by name."""
        return {"shift": np.asarray(self.shift), "factor": np.asarray(self.factor)}

    @classmethod
    def from_arrays(cls, name: str, arrays: Mapping[str, np.ndarray]) -> Self:
        """The inverse of `to_arrays`."""
        return cls(name, arrays["shift"], arrays["factor"])


def learn_scaling(
    name: str,
    statistics: Statistics,
    dtype: np.dtype[Any],
    kept: Sequence[bool] | None = None,
    feature_shape: tuple[int, ...] | None = None,
) -> Scaling:
    """The named scaling for data with these statistics; a feature without finite values counts as zero.

    Parameters
    ----------
    name
        ``"none"``; ``"pixels"`` divides by 255; ``"minmax"`` maps each feature to [0, 1]; ``"standard"`` to mean 0 and
        standard deviation 1; ``"global"`` centres each feature and divides all by one factor, so that the mean variance
        is 1; ``"auto"`` chooses pixels or none for data that fill their range (see `fills_range`), else standard.
    statistics
        Statistics of the data.
    dtype
        Dtype of the data.
    kept
        Whether ``"auto"`` leaves a feature unscaled when it standardises the others, (d,).
    feature_shape
        Shape of a row; two or more axes mean an image. None: flat rows.

    Notes
    -----
    A feature counts as constant, and is only shifted, if its width (standard deviation, or range for ``"minmax"``) is
    below a fraction of its largest magnitude: 1e-6 for float32, 1e-10 for float64, 1e-15 for integers; or below 1e-150.
    Smaller differences are rounding errors.
    """
    if name not in SCALINGS:
        raise ValueError(unknown("scaling", name, SCALINGS))
    chosen = _choose(statistics, dtype, feature_shape) if name == "auto" else name
    zero, one, seen = np.zeros(()), np.ones(()), statistics.n_seen > 0
    floor = narrowest(statistics, dtype)
    if chosen == "minmax":
        low = np.where(seen, statistics.minimum, 0.0)
        return Scaling(chosen, low, _inverse(np.where(seen, statistics.maximum, 0.0) - low, floor))
    deviation = np.sqrt(statistics.variance)
    if chosen == "global":
        return Scaling(chosen, statistics.mean, _inverse(np.sqrt(statistics.variance.mean()), floor.min()))
    if chosen == "standard":
        left = np.zeros(len(statistics.mean), bool) if kept is None or name != "auto" else np.asarray(kept)
        shift, factor = statistics.mean, _inverse(deviation, floor)
        return Scaling(chosen, np.where(left, 0.0, shift), np.where(left, 1.0, factor))
    return Scaling(chosen, zero, one / 255 if chosen == "pixels" else one)


FILLED = 0.15
"""A column fills [0, 1] if its variance is at least this fraction of the maximum for its mean.

Flags have 1, uniform values 1/3. Measured minimum: 0.34 for MNIST's inner pixels, 0.17 for scikit-learn's digits.
Gaussian columns min-max scaled to [0, 1] have 0.09; standardising them gains 0.01 to 0.04 of the variance. Values
between 0 and 0.1 have 0.017, ages divided by 255 have 0.037.
"""
FILLED_IMAGE = 0.02
"""The same for all pixels of images together: 0.78 for MNIST, 0.25 for CIFAR-10, 0.05 for faces, 0.007 for labels."""
SPARSE = 0.05
"""A column whose mean is below this fraction of its maximum is almost always zero, like border pixels."""
MOST_SPARSE = 0.15
"""Largest accepted fraction of such columns: MNIST has 2 %, the digits have 10 %."""


def fills_range(statistics: Statistics, unit: float, *, image: bool = False) -> bool:
    """Whether non-negative data fill [0, unit], so that a sigmoid output with cross-entropy is appropriate.

    Binary cross-entropy weights a column by ``variance / (mean · (unit - mean))``: 1 for flags that are 0 or `unit`,
    1/3 for uniform values, and near 0 for a column that uses a small part of the range, which would not be learned.
    Every column that varies must reach 0.15. Up to 15 % of them may be below if they are almost always zero (mean at
    most 5 % of the maximum), like border pixels. Pixels of images share one unit, and must reach 0.02 together.

    Examples
    --------
    >>> from isthmus.data import as_source
    >>> flags, small = np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[0.0, 0.1], [1.0, 0.0]])
    >>> [fills_range(summarise(as_source(rows)), 1.0) for rows in (flags, small)]
    [True, False]
    """
    varies = (statistics.n_seen > 0) & (statistics.maximum > statistics.minimum)
    if not varies.any():
        return True
    mean, variance = statistics.mean[varies] / unit, statistics.variance[varies] / unit**2
    most = np.maximum(mean * (1.0 - mean), 1e-300)
    if image:
        return bool(variance.sum() >= FILLED_IMAGE * most.sum())
    narrow = variance < FILLED * most
    sparse = statistics.mean[varies] <= SPARSE * statistics.maximum[varies]
    return not bool((narrow & ~sparse).any()) and bool(narrow.mean() <= MOST_SPARSE)


def _choose(statistics: Statistics, dtype: np.dtype[Any], feature_shape: tuple[int, ...] | None) -> str:
    low, high = statistics.minimum.min(), float(np.where(statistics.n_seen > 0, statistics.maximum, 0.0).max())
    image = feature_shape is not None and len(feature_shape) > 1
    if low >= 0.0 and high <= 1.0:
        return "none" if fills_range(statistics, 1.0, image=image) else "standard"
    return "pixels" if dtype == np.uint8 and fills_range(statistics, 255.0, image=image) else "standard"


LARGEST = 1e150
"""Squares of larger values overflow double precision."""
SMALLEST_WIDTH = 1e-150


def narrowest(statistics: Statistics, dtype: np.dtype[Any]) -> np.ndarray:
    """The width up to which each feature counts as constant, in its units, (d,).

    About ten rounding steps in single precision; far more in double precision, because most doubles come from less
    precise values.

    >>> found = Statistics(2, np.array([2]), np.array([0.0]), np.array([1e9]), np.array([1.0]), np.array([1.0]))
    >>> narrowest(found, np.dtype(np.float64))
    array([0.1])
    """
    share = {2: 5e-3, 4: 1e-6}.get(dtype.itemsize, 1e-10) if dtype.kind == "f" else 1e-15
    largest = np.maximum(np.abs(statistics.minimum), np.abs(statistics.maximum))
    return np.maximum(share * np.where(np.isfinite(largest), largest, 0.0), SMALLEST_WIDTH)


def refuse_huge(statistics: Statistics, names: Sequence[str] | None = None) -> None:
    """Raise a `DataError` that names the first column with values whose squares overflow."""
    largest = np.where(statistics.n_seen > 0, np.maximum(-statistics.minimum, statistics.maximum), 0.0)
    if (largest > LARGEST).any():
        column = int((largest > LARGEST).argmax())
        raise DataError(huge_text(float(largest[column]), column, names))


def huge_text(largest: float, column: int, names: Sequence[str] | None = None) -> str:
    """The error text for values whose squares overflow."""
    named = f"column {column}" + ("" if names is None else f" ({str(names[column])!r})")
    return (
        f"X has values up to {largest:.3g} in {named}, but at most {LARGEST:g} is supported, because squares of larger "
        "values overflow; divide the column by its largest value, or take its logarithm."
    )


def _inverse(width: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """1 / width; 1 for a constant feature."""
    constant = width <= floor
    return np.where(constant, 1.0, 1.0 / np.where(constant, 1.0, width))
