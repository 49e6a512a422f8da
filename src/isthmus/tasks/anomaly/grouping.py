"""The columns of the numbers of a row."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Grouping:
    """The column of each number of a row; None: each number is a column of its own.

    Attributes
    ----------
    places
        The column of each number, (d,), or None.
    n_columns
        How many columns there are.
    """

    places: Tensor | None
    n_columns: int

    def sum(self, x: Tensor) -> Tensor:
        """Sums by column: (…, d) → (…, columns)."""
        if self.places is None:
            return x
        sums = x.new_zeros(*x.shape[:-1], self.n_columns)
        return sums.index_add_(-1, self.places.to(x.device), x)
