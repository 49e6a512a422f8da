"""Which interactions count as having an item: what the numbers of a log are, and from which on they count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse

ABOVE_ZERO = float(np.finfo(np.float32).tiny)
"""The least value that counts where everything above zero does."""
HIGHEST_STARS = 10
"""Ratings end at 5 or 10 stars; integers that go on are counts, except on a scale of 20 or 100 points."""
POINT_SCALES = (20, 100)
GRID = 10
"""Ratings are in tenths at most; finer numbers are amounts, such as hours."""


@dataclass(frozen=True)
class Liking:
    """What counts as having.

    Attributes
    ----------
    values
        What the numbers are: ``"ones"``, ``"counts"`` (or other amounts: more is more, zero is nothing), ``"ratings"``
        (low ones say that somebody did not like the item).
    positive_from
        The least that counts; None: every interaction counts, whatever its value.
    """

    values: str
    positive_from: float | None

    @property
    def drops_zeros(self) -> bool:
        """Whether a zero says that there was no interaction; among ratings it is a low rating."""
        return self.values != "ratings" and self.positive_from is not None and self.positive_from > 0

    @property
    def had(self) -> float:
        """The value of an item that somebody is said to have, without a number."""
        return max(1.0, self.positive_from or 1.0)

    def counted(self, values: np.ndarray) -> np.ndarray:
        """Which values count; compared as float32, as which they are kept (4.1 is not float32's 4.1)."""
        if self.positive_from is None:
            return np.ones(len(values), bool)
        return np.asarray(values >= np.float32(self.positive_from))

    def __str__(self) -> str:
        if self.positive_from is None:
            return "every interaction"
        return "above 0" if self.positive_from == ABOVE_ZERO else f"rated {self.positive_from:g} or more"


def learn_liking(values: np.ndarray, rated: bool, counted: bool, asked: float | str | None) -> Liking:
    """What counts as having in a log.

    Parameters
    ----------
    values
        All numbers of the log.
    rated
        Whether they differ from 1.
    counted
        Whether their column says that they are counts.
    asked
        ``positive_from`` of the `Recommender`: a number, None, or ``"auto"``: of ratings those from their median on
        (where nothing lies below it, those above it); of counts, amounts and ones everything above zero. Never zero
        or less.

    Examples
    --------
    >>> learn_liking(np.array([1.0, 2, 3, 4, 5, 5]), True, False, "auto").positive_from
    3.5
    >>> learn_liking(np.array([1.0, 1, 1, 2, 40]), True, False, "auto").values
    'counts'
    >>> learn_liking(np.array([-1.0, -1, -1, 1]), True, False, "auto").positive_from
    1.0
    """
    kind = "ones" if not rated else "counts" if counted or not are_ratings(values) else "ratings"
    if asked != "auto":
        return Liking(kind, None if asked is None else float(asked))
    if kind != "ratings":
        return Liking(kind, ABOVE_ZERO)
    middle = float(np.median(values))
    if middle > max(values.min(), 0.0):
        return Liking(kind, middle)
    above = values[values > max(middle, 0.0)]  # nothing lies below the median, or it is no liking
    return Liking(kind, float(above.min()) if len(above) else ABOVE_ZERO)


def are_ratings(values: np.ndarray) -> bool:
    """Whether numbers are ratings on a closed scale; else they are counts or other amounts.

    Ratings may be negative, end at 10 (or 20 or 100 points) and come in steps of a tenth at least. Counts go further,
    or are integers from 1 (or 0) of which larger ones are rarer, 1 at least twice as frequent as the largest: most
    things are had once. The factor keeps ratings that are spread evenly from being taken for counts by chance.
    """
    levels, sizes = np.unique(values, return_counts=True)
    if levels[0] < 0:
        return True
    positive = levels > 0
    levels, sizes = levels[positive], sizes[positive]
    if len(levels) < 2:  # one level says nothing of liking
        return False
    on_grid = np.allclose(levels * GRID, np.rint(levels * GRID), atol=1e-3)
    if not on_grid or levels[-1] > HIGHEST_STARS:
        return bool(on_grid and levels[-1] in POINT_SCALES and np.median(values) > levels[-1] / 4)
    whole = levels[0] == 1 and levels[1] == 2 and np.all(levels == np.rint(levels))
    return not (whole and np.all(np.diff(sizes) < 0) and sizes[0] >= 2 * sizes[-1])


def without_zeros(matrix: Any) -> tuple[Any, np.ndarray]:
    """A CSR matrix without the zeros that are stored, and which of its entries are left."""
    kept = matrix.data != 0
    return chosen(matrix, kept), kept


def chosen(matrix: Any, kept: np.ndarray) -> Any:
    """The chosen entries of a CSR matrix, as a new one."""
    counts = np.concatenate([[0], np.cumsum(kept)])
    return scipy.sparse.csr_array((matrix.data[kept], matrix.indices[kept], counts[matrix.indptr]), matrix.shape)
