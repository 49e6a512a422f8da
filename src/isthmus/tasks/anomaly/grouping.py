"""Which numbers of a row belong to which column of its table."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Grouping:
    """Which numbers of a row belong to which column of the table; None: each is a column of its own.

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
