"""Distances to training rows: to the nearest, to several of the most usual ones, and relative to their own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

ZERO = 1e-12
"""Share of the squared lengths below which a squared distance counts as 0, as a difference of squares cancels there."""
TIED = 1e-9
"""Relative difference of squared distances below which training rows count as equally far."""
FLOOR = 0.05
"""Share of the usual distance that is added to local distances: rows that repeat are 0 apart, and ratios of zeros are
noise."""
WIDEST_WHITENED = 256
"""Columns up to which directions are whitened; it takes the cube of their number."""
RIDGE = 1e-3
"""Variance added to each direction before whitening: directions that never vary would get all the weight."""


@dataclass(frozen=True)
class RowIndex:
    """Training rows, in the units in which rows are compared.

    Attributes
    ----------
    rows
        In these units, (m, e).
    shift, factor
        From scaled rows to these units, ``(x - shift) * factor`` with a factor (d,), or ``(x - shift) @ factor`` with
        one of (d, e).
    n_neighbors
        How many nearest count.
    usual
        For `local_distance`: the mean distance of each row to its own nearest ones, (m,).
    floor
        For `local_distance`: what is added to distances.
    first
        The place of the first of these rows among all that are remembered.
    """

    rows: Tensor
    shift: Tensor
    factor: Tensor
    n_neighbors: int
    usual: Tensor | None = None
    floor: float = FLOOR
    first: int = 0

    def in_units(self, x: Tensor) -> Tensor:
        """Scaled rows in the units of the index, missing cells as the mean: (n, d) → (n, e)."""
        known = torch.where(x.isnan(), self.shift.to(x), x)
        return convert(known, self.shift, self.factor)

    def squares(self, x: Tensor, own: Tensor | None = None) -> Tensor:
        """Squared distances of scaled rows to all rows of the index, (n, m).

        Parameters
        ----------
        x
            Scaled rows, (n, d).
        own
            The place of each row in the index, which is passed over, or -1, (n,).
        """
        y = self.in_units(x)
        lengths = y.square().sum(1, keepdim=True)
        found = torch.addmm(self._lengths.to(y), y, self.rows.to(y).T, alpha=-2.0) + lengths
        found = torch.where(found <= ZERO * (lengths + self._lengths.to(y)), 0.0, found)
        if own is not None:
            of_index = (own >= 0).nonzero()[:, 0]
            found[of_index, own[of_index]] = torch.inf
        return found

    def nearest_distance(self, x: Tensor) -> Tensor:
        """The distance of scaled rows to the nearest, (n,): equal to that from `squares`, in a third of the time.

        What cancels is set to 0 for the nearest row only, not in the whole matrix.
        """
        y = self.in_units(x)
        lengths, stored = y.square().sum(1), self._lengths.to(y)
        least, place = torch.addmm(stored, y, self.rows.to(y).T, alpha=-2.0).min(1)
        square = least + lengths
        return torch.where(square <= ZERO * (lengths + stored[0, place]), 0.0, square).sqrt()

    @cached_property
    def _lengths(self) -> Tensor:
        """Squared lengths of the rows, (1, m)."""
        return self.rows.square().sum(1)[None]

    def nearest(self, squares: Tensor, own: Tensor | None = None) -> Tensor:
        """The least squared distances in no order: (n, m) → (n, k)."""
        k = max(1, min(self.n_neighbors, squares.shape[1] - (own is not None)))
        if squares.device.type == "cpu":
            parted = np.partition(squares.numpy(), k - 1, axis=1)[:, :k]  # a tenth of the time of torch's topk
            return torch.from_numpy(parted)
        return squares.topk(k, dim=1, largest=False, sorted=False).values

    def distance(self, squares: Tensor, own: Tensor | None = None) -> Tensor:
        """The mean distance to the nearest, (n,); 0 if there is no other row."""
        return _mean_distance(self.nearest(squares, own))

    def within(self, squares: Tensor, own: Tensor | None = None) -> Tensor:
        """A mask of the nearest rows of the index, including all that are equally far, (n, m).

        Ties are taken whole: of rows that repeat, which ones a search meets first depends on the batch and the machine.
        """
        return _as_near(squares, self.nearest(squares, own))

    def local_distance(self, squares: Tensor, own: Tensor | None = None) -> Tensor:
        """The log of the mean distance to the nearest, relative to their own mean distance to their nearest, (n,).

        It is the simplified local outlier factor of Schubert, Zimek & Kriegel (2014).
        """
        if self.usual is None:
            raise RuntimeError("An index for local distances needs those of its own rows.")
        usual = self.usual.to(squares)
        least = self.nearest(squares, own)  # both need them, and the search takes a tenth of a score's time
        near = _as_near(squares, least)
        expected = (near @ usual) / near.sum(1).clamp(min=1.0)
        ratio: Tensor = (_mean_distance(least) + self.floor) / (expected + self.floor)
        return ratio.log()

    def shares(self, x: Tensor, squares: Tensor) -> Tensor:
        """How much each number adds to a row's squared distance from the mean of its nearest rows, (n, d), ≥ 0."""
        near = self.within(squares)
        centre = (near @ self.rows.to(squares)) / near.sum(1, keepdim=True).clamp(min=1.0)
        away = self.in_units(x) - centre
        if self.factor.ndim == 1:
            return away.square()
        # A whitened square is a sum over pairs of columns; a pair's part is given to both, and cannot be less than 0.
        back = torch.linalg.pinv(self.factor.to(x))
        shares: Tensor = ((away @ back) * (away @ self.factor.to(x).T)).clamp(min=0.0)
        return shares


def _mean_distance(least: Tensor) -> Tensor:
    """The mean distance from squared distances, (n, k) → (n,); the infinite one of a row to itself counts as 0."""
    return least.sqrt().nan_to_num(posinf=0.0).mean(1)


def _as_near(squares: Tensor, least: Tensor) -> Tensor:
    """A mask of the rows that are as near as the least squared distances, with ties: (n, m), (n, k) → (n, m)."""
    return ((squares <= least.amax(1, keepdim=True) * (1.0 + TIED)) & squares.isfinite()).to(squares)


def convert(x: Tensor, shift: Tensor, factor: Tensor) -> Tensor:
    """Rows in other units: (n, d) → (n, e)."""
    away = x - shift.to(x)
    return away * factor.to(x) if factor.ndim == 1 else away @ factor.to(x)


def standard_units(rows: Tensor, *, rescale: bool) -> tuple[Tensor, Tensor]:
    """Shift and factor, (d,) each, that give rows mean 0 and, to `rescale`, each column a deviation of 1."""
    shift = rows.nanmean(0).nan_to_num()
    if not rescale:
        return shift, torch.ones_like(shift)
    deviation = torch.where(rows.isnan(), 0.0, rows - shift).square().mean(0).sqrt()
    return shift, torch.where(deviation > 1e-9, 1.0 / deviation.clamp(min=1e-9), 1.0)


def white_units(rows: Tensor, *, rescale: bool) -> tuple[Tensor, Tensor]:
    """Shift, (d,), and factor, (d, d), that give rows unit variance in every direction; (d,) for wide rows.

    Columns that follow each other closely hide a broken relation in plain distances: it is a tenth of a deviation.
    """
    shift, factor = standard_units(rows, rescale=rescale)
    if rows.shape[1] > WIDEST_WHITENED:
        return shift, factor
    known = convert(torch.where(rows.isnan(), shift, rows), shift, factor)
    covariance = known.T @ known / max(1, len(known)) + RIDGE * torch.eye(len(shift)).to(known)
    values, directions = torch.linalg.eigh(covariance)
    return shift, factor[:, None] * (directions / values.sqrt()) @ directions.T


def make_index(
    x: Tensor, units: tuple[Tensor, Tensor], n_neighbors: int, usual: Tensor | None = None, *, first: int = 0
) -> RowIndex:
    """An index of scaled rows, (m, d)."""
    shift, factor = units
    known = torch.where(x.isnan(), shift.to(x), x)
    index = RowIndex(convert(known, shift, factor), shift, factor, n_neighbors, first=first)
    return index if usual is None else replace(index, usual=usual, floor=_floor(usual))


def _floor(usual: Tensor) -> float:
    positive = usual[usual > 0.0]
    return FLOOR * float(positive.median()) if len(positive) else FLOOR


def with_usual(index: RowIndex, x: Tensor, chunk: int = 512) -> RowIndex:
    """The index with the distances of its own rows, (m, d) scaled, to each other."""
    places = torch.arange(len(x))
    parts = [index.distance(index.squares(x[own], own), own) for own in places.split(chunk)]
    usual = torch.cat(parts)
    return replace(index, usual=usual, floor=_floor(usual))


def index_arrays(index: RowIndex) -> dict[str, np.ndarray]:
    """The arrays of an index besides its rows, by name."""
    arrays = {"shift": index.shift, "factor": index.factor, "n_rows": torch.tensor([len(index.rows)])}
    arrays["first"] = torch.tensor([index.first])
    arrays |= {} if index.usual is None else {"usual": index.usual}
    return {name: array.cpu().numpy() for name, array in arrays.items()}
