"""What happened in training, as data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np


class History:
    """One row an epoch, columns by name.

    Parameters
    ----------
    rows
        One mapping an epoch, from column to number.

    Examples
    --------
    >>> history = History([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}])
    >>> history["loss"]
    array([0.5 , 0.25])
    >>> history.columns
    ('epoch', 'loss')
    """

    def __init__(self, rows: Iterable[Mapping[str, float]] = ()) -> None:
        self._rows = [dict(row) for row in rows]

    def append(self, row: Mapping[str, float]) -> None:
        """Add an epoch."""
        self._rows.append(dict(row))

    @property
    def rows(self) -> tuple[dict[str, float], ...]:
        """A copy of all rows."""
        return tuple(dict(row) for row in self._rows)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns, in the order of their first appearance."""
        return tuple(dict.fromkeys(name for row in self._rows for name in row))

    def __getitem__(self, column: str) -> np.ndarray:
        """A column as numbers, (n_epochs,); NaN where an epoch lacks it."""
        if self._rows and column not in self.columns:
            raise KeyError(f"The history has no column {column!r}; it has {', '.join(self.columns)}.")
        return np.array([row.get(column, np.nan) for row in self._rows], dtype=np.float64)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"History({len(self)} epochs: {', '.join(self.columns)})"
