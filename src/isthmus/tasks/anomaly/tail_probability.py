"""Tail probabilities in nats, which make errors of different columns and models comparable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

SHARES = np.concatenate([np.linspace(1.0, 0.1, 10), np.geomspace(0.1, 1e-4, 25)[1:]])
"""Shares of the reference rows at which a curve has a knot."""
BLOCK = 2**15
"""Values that are worked on at a time, so that they stay in the processor's cache."""
SAME = 1e-9
"""Share of the largest magnitude in a column below which differences are rounding."""
TRUSTED = 4.0
"""Nats by which an exponential tail is trusted beyond all reference values.

On 21 tables average precision was the same for 0, 2 and 4 and fell by 0.01 to 0.02 for 8 and without a bound, as
relations then outranked all else. With 0 a relation broken by nine deviations raised no alarm at 1 %.
"""
REFERENCE = 2**14
"""Reference values that a curve is learned from, at most."""


@dataclass(frozen=True)
class TailProbability:
    """For each of m columns, ``-log`` of the share of reference rows with a value at least as large.

    A value at the top tenth of the reference has a surprisal of ``log 10 = 2.3`` nats. Between knots the curve is
    linear; beyond the largest reference value it goes on rising with the logarithm of the distance, so that far values
    keep their order and none drowns all others.

    Attributes
    ----------
    knots, heights
        Values and their surprisal, (m, K), ascending.
    scale
        The distance beyond the last knot in which the surprisal rises by log 2, (m,).
    tolerance
        Values that lie within this of each other count as one, (m,); a row that repeats gets the same value up to
        rounding, which depends on the batch.

    Examples
    --------
    >>> curve = TailProbability.learn(np.arange(1.0, 101.0)[:, None])
    >>> curve(torch.tensor([[0.0], [91.0], [100.0]], dtype=torch.float64)).ravel().exp().round()
    tensor([  1.,  10., 100.], dtype=torch.float64)
    """

    knots: Tensor
    heights: Tensor
    scale: Tensor
    tolerance: Tensor

    @classmethod
    def learn(cls, reference: np.ndarray) -> Self:
        """Learn m curves from reference values, (n, m); NaN are left out, the surprisal of a column of NaN is 0."""
        rows = np.linspace(0, len(reference) - 1, min(len(reference), REFERENCE)).round().astype(int)
        values = np.ascontiguousarray(np.asarray(reference, dtype=np.float64)[rows].T)  # (m, n)
        values[np.isnan(values).all(axis=1)] = 0.0
        shares = SHARES[1.0 / (len(rows) + 1) <= SHARES]
        shares = np.append(shares, 1.0 / len(rows)) if shares[-1] > 1.0 / len(rows) else shares
        knots = _least_above(values, 1.0 - shares)
        tolerance = SAME * np.abs(np.nan_to_num(knots, posinf=0.0, neginf=0.0)).max(axis=0)
        heights = np.where(_begins_run(knots, tolerance), -np.log(shares)[:, None], -np.inf)
        heights = np.maximum.accumulate(heights, axis=0)  # a value that many rows share is as rare as all of them
        parts = (knots.T, heights.T, _reach(knots, shares), tolerance)
        return cls(*(torch.from_numpy(np.ascontiguousarray(part)) for part in parts))

    def __call__(self, values: Tensor) -> Tensor:
        """The surprisal of values, (n, m) → (n, m), ≥ 0; that of NaN is 0.

        In double precision where the device has it, for knots may lie closer to each other than single precision tells
        apart.
        """
        values = values if values.device.type == "mps" else values.double()
        values = values - self.tolerance.to(values)
        curves = [part.to(values) for part in (self.knots, self.heights, self.scale)]
        answer, width = torch.empty_like(values), max(1, BLOCK // max(1, len(values)))
        for start in range(0, values.shape[1], width):
            some = slice(start, start + width)
            answer[:, some] = _heights_at(values[:, some].T, *(part[some] for part in curves)).T
        return answer

    def proportional(self, values: Tensor) -> Tensor:
        """As a call, but beyond the largest reference value it first rises in proportion: (n, m) → (n, m).

        That is right for values that are nats already and for residuals, whose tails are about exponential. After
        `TRUSTED` nats it rises with the logarithm again, for nobody has seen such values.
        """
        last, scale = self.knots[:, -1].to(values.device), self.scale.to(values.device)
        beyond = ((values.to(last) - last) / scale).nan_to_num(posinf=torch.finfo(last.dtype).max).clamp(min=0.0)
        rising = beyond.clamp(max=TRUSTED)
        return self(values) - beyond.log1p() + rising + (beyond - rising).log1p()

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The learned arrays, by name."""
        return {name: part.numpy() for name, part in vars(self).items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """The inverse of `to_arrays`."""
        found = {name: torch.from_numpy(np.array(arrays[name])) for name in ("knots", "heights", "scale")}
        tolerance = arrays.get("tolerance")  # files of version 0.1.0 have none
        return cls(
            **found, tolerance=torch.zeros_like(found["scale"]) if tolerance is None else torch.from_numpy(tolerance)
        )


def _heights_at(values: Tensor, knots: Tensor, heights: Tensor, scale: Tensor) -> Tensor:
    """The heights of curves, (m, K), at values, (m, n)."""
    x = torch.fmax(values, knots[:, :1]).contiguous()  # NaN becomes the lowest
    left = torch.searchsorted(knots, x, right=True).sub_(1).clamp_(0, max(0, knots.shape[1] - 2))
    right = (left + 1).clamp_(max=knots.shape[1] - 1)
    low = knots.gather(1, left)
    width = knots.gather(1, right).sub_(low)
    share = (x - low).div_(width.where(width > 0.0, 1.0)).clamp_(0.0, 1.0)
    found = torch.lerp(heights.gather(1, left), heights.gather(1, right), share)
    column, row = (x > knots[:, -1:]).nonzero(as_tuple=True)
    found[column, row] += ((x[column, row] - knots[column, -1]) / scale[column]).log1p()
    return found


def _least_above(values: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The smallest values that reach shares of each row, without NaN: (m, n), (K,) → (K, m). Changes `values`.

    As ``numpy.quantile(method="higher")``, which is slower by far, for it does not sort what lies together.
    """
    n_known = (~np.isnan(values)).sum(axis=1)
    values.sort(axis=1)  # NaN last
    places = np.ceil(shares[:, None] * (n_known - 1)).astype(int)
    return np.asarray(values[np.arange(len(values)), places])


def _begins_run(knots: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    """A mask of knots that are the first of several equal ones, within a tolerance, (K, m)."""
    first = np.ones(knots.shape, dtype=bool)
    first[1:] = np.diff(knots, axis=0) > tolerance
    return first


def _reach(knots: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The distance in the tail in which the share of rows falls by a factor e, (m,)."""
    places = np.minimum(np.searchsorted(-shares, [-0.1, -0.5]), len(shares) - 1)
    tenth, middle, last = knots[places[0]], knots[places[1]], knots[-1]
    tail = (last - tenth) / max(np.log(0.1 / shares[-1]), 1.0)
    floor = 1e-6 * np.maximum(1.0, np.abs(last))
    return np.asarray(np.maximum(np.maximum(tail, (last - middle) / 10.0), floor))
