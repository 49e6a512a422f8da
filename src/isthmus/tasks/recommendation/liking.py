"""Positive interactions: the kind of values in a log, and the lowest positive value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse
from scipy.sparse import csr_array

ABOVE_ZERO = float(np.finfo(np.float32).tiny)
"""The lowest positive value if all values above zero are positive."""
HIGHEST_STARS = 10
"""Ratings end at 5 or 10 stars; larger integers are counts, except on a scale of 20 or 100 points."""
POINT_SCALES = (20, 100)
GRID = 10
"""Ratings have steps of at least 1/10; finer values are amounts, such as hours."""


@dataclass(frozen=True)
class Liking:
    """The rule for positive interactions.

    Attributes
    ----------
    values
        The kind of values: ``"ones"``, ``"counts"`` (or other amounts, where zero means no interaction), ``"ratings"``
        (low ratings are negative feedback).
    positive_from
        The lowest positive value; None: every interaction is positive.
    """

    values: Literal["ones", "counts", "ratings"]
    positive_from: float | None

    @property
    def drops_zeros(self) -> bool:
        """Whether a zero means no interaction; among ratings it is a low rating."""
        return self.values != "ratings" and self.positive_from is not None and self.positive_from > 0

    @property
    def had(self) -> float:
        """The value of an item in a history without ratings."""
        return max(1.0, self.positive_from or 1.0)

    def counted(self, values: np.ndarray) -> np.ndarray:
        """Whether each value is positive; compared as float32, the stored type (4.1 differs from float32's 4.1)."""
        if self.positive_from is None:
            return np.ones(len(values), bool)
        return np.asarray(values >= np.float32(self.positive_from))

    def __str__(self) -> str:
        if self.positive_from is None:
            return "every interaction"
        return "above 0" if self.positive_from == ABOVE_ZERO else f"rated {self.positive_from:g} or more"


def learn_liking(values: np.ndarray, rated: bool, counted: bool, asked: float | str | None) -> Liking:
    """Infer the rule for positive interactions of a log.

    Parameters
    ----------
    values
        All values of the log.
    rated
        Whether some value differs from 1.
    counted
        Whether their column has the name of a count.
    asked
        ``positive_from`` of the `Recommender`: a number, None, or ``"auto"``: ratings from the median upwards (above it
        if none is below it); counts, amounts and ones above zero. Never zero or less.

    Examples
    --------
    >>> learn_liking(np.array([1.0, 2, 3, 4, 5, 5]), True, False, "auto").positive_from
    3.5
    >>> learn_liking(np.array([1.0, 1, 1, 2, 40]), True, False, "auto").values
    'counts'
    >>> learn_liking(np.array([-1.0, -1, -1, 1]), True, False, "auto").positive_from
    1.0
    """
    kind: Literal["ones", "counts", "ratings"] = "ones"
    if rated:
        kind = "counts" if counted or not are_ratings(values) else "ratings"
    if asked != "auto":
        return Liking(kind, None if asked is None else float(asked))
    if kind != "ratings":
        return Liking(kind, ABOVE_ZERO)
    middle = float(np.median(values))
    if middle > max(values.min(), 0.0):
        return Liking(kind, middle)
    above = values[values > max(middle, 0.0)]  # no rating is below the median, or the median is not positive
    return Liking(kind, float(above.min()) if len(above) else ABOVE_ZERO)


def are_ratings(values: np.ndarray) -> bool:
    """Whether values are ratings on a closed scale; otherwise they are counts or other amounts.

    Ratings may be negative, are at most 10 (or 20 or 100 points), and have steps of at least a tenth. Counts are
    larger, or are integers from 1 (or 0) whose frequency decreases with the value, with 1 at least twice as frequent as
    the largest. The factor of two prevents evenly distributed ratings from being mistaken for counts.
    """
    levels, sizes = np.unique(values, return_counts=True)
    if levels[0] < 0:
        return True
    positive = levels > 0
    levels, sizes = levels[positive], sizes[positive]
    if len(levels) < 2:  # a single level has no information on preference
        return False
    on_grid = np.allclose(levels * GRID, np.rint(levels * GRID), atol=1e-3)
    if not on_grid or levels[-1] > HIGHEST_STARS:
        return bool(on_grid and levels[-1] in POINT_SCALES and np.median(values) > levels[-1] / 4)
    whole = levels[0] == 1 and levels[1] == 2 and np.all(levels == np.rint(levels))
    return not (whole and np.all(np.diff(sizes) < 0) and sizes[0] >= 2 * sizes[-1])


def without_zeros(matrix: csr_array) -> tuple[csr_array, np.ndarray]:
    """A CSR matrix without stored zeros, and a mask of the kept entries."""
    kept = matrix.data != 0
    return chosen(matrix, kept), kept


def chosen(matrix: csr_array, kept: np.ndarray) -> csr_array:
    """A new CSR matrix with the chosen entries."""
    counts = np.concatenate([[0], np.cumsum(kept)])
    return scipy.sparse.csr_array((matrix.data[kept], matrix.indices[kept], counts[matrix.indptr]), matrix.shape)
