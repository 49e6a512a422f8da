"""Whether rows are in the units that a model was fitted in: what fit saw of each feature, and what rows show later."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from isthmus.data import Source, Statistics, huge_text
from isthmus.data.scaling import LARGEST, fills_range, narrowest
from isthmus.exceptions import DataError, UnitsWarning

LOOKED_AT = 64
"""Rows of a chunk that are compared with the range seen at fit: units are a matter of all rows, not of one."""
FAR_CELLS = 0.1
"""Share of the features that must lie far outside for a row to count as far outside; 19 % of MNIST is not black."""
FAR_ROWS = 0.5


@dataclass(frozen=True)
class Known:
    """What fit saw of the features, in the user's units.

    Attributes
    ----------
    ranges
        Least and largest value of each, (2, d).
    mean
        Of each, (d,).
    scale
        What errors are measured in by `Autoencoder.score`, (d,): the deviation of each feature, one for all where they
        share a unit, 0 for a feature that does not vary.
    """

    ranges: np.ndarray
    mean: np.ndarray
    scale: np.ndarray

    def to_attributes(self) -> dict[str, np.ndarray]:
        """As the attributes of an estimator."""
        return {"feature_ranges_": self.ranges, "feature_mean_": self.mean, "feature_scale_": self.scale}

    def widened(self, statistics: Statistics) -> Known:
        """The same when more rows were learned from."""
        ends = _ends(statistics)
        both = np.stack([np.minimum(self.ranges[0], ends[0]), np.maximum(self.ranges[1], ends[1])])
        return Known(both, self.mean, self.scale)


def known_of(model: Any) -> Known:
    """What a fitted model keeps."""
    return Known(model.feature_ranges_, model.feature_mean_, model.feature_scale_)


def learn_known(statistics: Statistics, source: Source) -> Known:
    """What to keep of the data that a model is fitted on.

    Features share a unit where rows are images, or flat rows that fill [0, 1] or, as bytes, 0 to 255.
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
    """Where far outside begins: as far from the range of a feature as that is wide, (2, d); nowhere for constant ones.

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
    """Share of rows, (n, d), that lie far outside the ranges of the features, (2, d), as `UnitsCheck` counts them."""
    return float(_far_rows(far_limits(ranges), rows).mean())


class UnitsCheck:
    """Looks at the chunks of one call; refuses units that contradict those of fit, and warns once at the end.

    A number lies far outside when it is further from the range of its feature at fit than that range is wide. A row
    lies far outside when more than a tenth of its features do. A call is warned of when more than half of its rows do.
    Features that were constant at fit do not count.

    Parameters
    ----------
    model
        A fitted estimator; one that does not know its ranges (of a file of an older version) checks nothing.
    dtype
        Of the rows.
    """

    def __init__(self, model: Any, dtype: np.dtype[Any]) -> None:
        self._name, self._dtype = type(model).__name__, dtype
        self._ranges: np.ndarray | None = getattr(model, "feature_ranges_", None)
        self._n_far = self._n_rows = 0
        if self._ranges is None:
            return
        low, high = self._ranges
        self._limits = far_limits(self._ranges)
        self._bytes = model.scaling_.name == "pixels" or (low.min() == 0.0 and high.max() == 255.0)
        self._unit_interval = bool(low.min() >= 0.0 and 0.0 < high.max() <= 1.0)

    def look(self, block: np.ndarray) -> None:
        """Take note of some rows, (k, d) with anything behind the d features."""
        if self._ranges is None or not len(block):
            return
        flat = block.reshape(len(block), -1)[:, : self._ranges.shape[1]]
        self._refuse_contradiction(flat)
        some = flat[:: max(1, len(flat) // LOOKED_AT)].astype(np.float64)
        with np.errstate(invalid="ignore"):
            huge = np.abs(some) > LARGEST
        if huge.any():
            raise DataError(huge_text(float(np.nanmax(np.abs(some))), int(huge.any(axis=0).argmax())))
        self._n_rows += len(some)
        self._n_far += int(_far_rows(self._limits, some).sum())

    def _refuse_contradiction(self, flat: np.ndarray) -> None:
        """Bytes for a model of [0, 1], and floats in [0, 1] for a model of bytes: everything learned is off by 255."""
        kind = self._dtype.kind
        if self._unit_interval and self._dtype == np.uint8 and flat.max() > 1:
            raise DataError(
                f"X holds bytes up to {flat.max()}, but this {self._name} was fitted on numbers from "
                f"{self._ranges.min():g} to {self._ranges.max():g}; divide X by 255."  # type: ignore[union-attr]
            )
        if not self._bytes or kind != "f" or flat.size < 2:
            return
        low, high = float(np.fmin.reduce(flat, axis=None)), float(np.fmax.reduce(flat, axis=None))
        if low >= 0.0 and 0.0 < high <= 1.0:
            raise DataError(
                f"X holds numbers from {low:.3g} to {high:.3g}, but this {self._name} was fitted on bytes from 0 to "
                "255; give X * 255, or the bytes themselves."
            )

    def finish(self) -> None:
        """Warn where most rows were far outside."""
        if self._n_rows and self._n_far > FAR_ROWS * self._n_rows:
            warnings.warn(
                f"{self._n_far} of {self._n_rows} rows that were looked at lie far outside the range that "
                f"{self._name} saw at fit. Are they in other units? Give them in the units of the rows of fit "
                "(model.feature_ranges_ has the least and largest value of each feature), or fit again.",
                UnitsWarning,
                stacklevel=5,
            )
