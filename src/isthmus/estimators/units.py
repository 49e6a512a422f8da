"""Detection of rows in other units than at fit: feature ranges from fit are compared with later rows."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from isthmus.data import Source, Statistics, huge_text
from isthmus.data.scaling import LARGEST, fills_range, narrowest
from isthmus.estimators.validation import speaking_of
from isthmus.exceptions import DataError, UnitsWarning

LOOKED_AT = 64
"""Number of rows per chunk that are compared with the ranges at fit: other units affect all rows, so a few suffice."""
FAR_CELLS = 0.1
"""A row is far outside if more than this fraction of its features is; 19 % of MNIST's pixels are not black."""
FAR_ROWS = 0.5


@dataclass(frozen=True)
class Known:
    """Statistics of the features at fit, in the original units.

    Attributes
    ----------
    ranges
        Minimum and maximum of each feature, (2, d).
    mean
        Mean of each feature, (d,).
    scale
        The unit of errors in `Autoencoder.score`, (d,): the standard deviation of each feature, a common one for
        features that share a unit, and 0 for constant features.
    """

    ranges: np.ndarray
    mean: np.ndarray
    scale: np.ndarray

    def to_attributes(self) -> dict[str, np.ndarray]:
        """The values by attribute name of the estimator."""
        return {"feature_ranges_": self.ranges, "feature_mean_": self.mean, "feature_scale_": self.scale}

    def widened(self, statistics: Statistics) -> Known:
        """A copy with ranges that include more training rows."""
        ends = _ends(statistics)
        both = np.stack([np.minimum(self.ranges[0], ends[0]), np.maximum(self.ranges[1], ends[1])])
        return Known(both, self.mean, self.scale)


def known_of(model: Any) -> Known:
    """The statistics stored in a fitted model."""
    return Known(model.feature_ranges_, model.feature_mean_, model.feature_scale_)


def learn_known(statistics: Statistics, source: Source) -> Known:
    """Compute the statistics of the training data.

    Features share a unit if rows are images, or flat rows that fill [0, 1] (or 0 to 255 as bytes).
    """
    deviation = np.sqrt(statistics.variance)
    varies = (deviation > narrowest(statistics, source.dtype)) & (statistics.n_seen > 0)
    unit = 1.0 if statistics.maximum.max() <= 1.0 else 255.0
    filled = (unit == 1.0 or source.dtype == np.uint8) and statistics.minimum.min() >= 0.0
    if len(source.feature_shape) > 1 or (filled and fills_range(statistics, unit)):
        deviation = np.full_like(deviation, np.sqrt(np.square(deviation).mean()))
    return Known(_ends(statistics), statistics.mean, np.where(varies, deviation, 0.0))


def _ends(statistics: Statistics) -> np.ndarray:
    seen = statistics.n_seen > 0
    return np.stack([np.where(seen, ends, 0.0) for ends in (statistics.minimum, statistics.maximum)])


def far_limits(ranges: np.ndarray) -> np.ndarray:
    """Limits of "far outside", (2, d): the range of a feature, widened by its width at both ends; infinite for
    constant features.

    >>> far_limits(np.array([[0.0, 5.0], [10.0, 5.0]]))
    array([[-10., -inf],
           [ 20.,  inf]])
    """
    low, high = ranges
    width = np.where(high > low, high - low, np.inf)
    return np.stack([low - width, high + width])


def _far_rows(limits: np.ndarray, rows: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        far = (rows < limits[0]) | (rows > limits[1])
    marked: np.ndarray = far.mean(axis=1) > FAR_CELLS
    return marked


def share_far_outside(ranges: np.ndarray, rows: np.ndarray) -> float:
    """Fraction of rows, (n, d), far outside the feature ranges, (2, d), as counted by `UnitsCheck`."""
    return float(_far_rows(far_limits(ranges), rows).mean())


class UnitsCheck:
    """Checks the chunks of one call: raises an error for units that contradict fit, and warns once at the end.

    A value is far outside if its distance from the range at fit exceeds the width of that range. A row is far outside
    if more than a tenth of its features are. A warning is issued if more than half of the rows are. Features that were
    constant at fit do not count.

    Parameters
    ----------
    owner
        Name of the model, for messages.
    scaling
        Name of the scaling at fit.
    ranges
        Feature ranges at fit, (2, d); None (files of older versions): nothing is checked.
    dtype
        Dtype of the rows.
    what, first
        What the rows are, for messages, and the column of a chunk with which they begin.
    """

    def __init__(
        self,
        owner: str,
        scaling: str,
        ranges: np.ndarray | None,
        dtype: np.dtype[Any],
        *,
        what: str = "X",
        first: int = 0,
    ) -> None:
        self._name, self._dtype, self._what, self._first = owner, dtype, what, first
        self._ranges = ranges
        self._n_far = self._n_rows = self._largest = 0
        if self._ranges is None:
            return
        low, high = self._ranges
        self._limits = far_limits(self._ranges)
        self._bytes = scaling == "pixels" or (low.min() == 0.0 and high.max() == 255.0)
        self._unit_interval = bool(low.min() >= 0.0 and 0.0 < high.max() <= 1.0)

    def look(self, block: np.ndarray) -> None:
        """Check some rows, (k, d), among other columns, such as those of conditions."""
        if self._ranges is None or not len(block):
            return
        flat = block.reshape(len(block), -1)[:, self._first : self._first + self._ranges.shape[1]]
        self._refuse_contradiction(flat)
        some = flat[:: max(1, len(flat) // LOOKED_AT)].astype(np.float64)
        with np.errstate(invalid="ignore"):
            huge = np.abs(some) > LARGEST
        if huge.any():
            with speaking_of(self._what):
                raise DataError(huge_text(float(np.nanmax(np.abs(some))), int(huge.any(axis=0).argmax())))
        self._n_rows += len(some)
        self._n_far += int(_far_rows(self._limits, some).sum())

    def _refuse_contradiction(self, flat: np.ndarray) -> None:
        """Raise for bytes given to a model of [0, 1], and for floats in [0, 1] given to a model of bytes."""
        kind = self._dtype.kind
        if self._bytes and kind in "bui":
            self._largest = max(self._largest, int(flat.max()))
        if self._unit_interval and self._dtype == np.uint8 and flat.max() > 1:
            raise DataError(
                f"{self._what} has bytes up to {flat.max()}, but this {self._name} was fitted on values from "
                f"{self._ranges.min():g} to {self._ranges.max():g}; divide {self._what} by 255."  # type: ignore[union-attr]
            )
        if not self._bytes or kind != "f" or flat.size < 2:
            return
        low, high = float(np.fmin.reduce(flat, axis=None)), float(np.fmax.reduce(flat, axis=None))
        if low >= 0.0 and 0.0 < high <= 1.0:
            raise DataError(
                f"{self._what} has values from {low:.3g} to {high:.3g}, but this {self._name} was fitted on bytes from "
                f"0 to 255; pass {self._what} * 255, or the bytes themselves."
            )

    def finish(self) -> None:
        """Warn if most rows were far outside, or contain only 0 and 1 while the model was fitted on bytes."""
        if self._largest == 1:
            warnings.warn(
                f"{self._what} holds only 0 and 1, but this {self._name} was fitted on bytes from 0 to 255, where 1 is "
                f"black too. If 1 means white, pass {self._what} * 255.",
                UnitsWarning,
                stacklevel=5,
            )
        if self._n_rows and self._n_far > FAR_ROWS * self._n_rows:
            warnings.warn(
                f"{self._n_far} of {self._n_rows} checked rows of {self._what} lie far outside the range of the "
                "training rows of this "
                f"{self._name}. Check their units: they must be those of fit (model.feature_ranges_ has the minimum "
                "and maximum of each feature). If the units are right, fit again.",
                UnitsWarning,
                stacklevel=5,
            )
