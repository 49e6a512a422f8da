"""The history of training: losses and learning rates of each epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import overload

import numpy as np


class History:
    """One row per epoch, columns by name; ``pandas.DataFrame(history)`` makes a table.

    Parameters
    ----------
    rows
        One mapping per epoch, from column to number.

    Examples
    --------
    >>> history = History([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}])
    >>> history["loss"]
    array([0.5 , 0.25])
    >>> history.columns
    ('epoch', 'loss')
    >>> history[-1], "val_loss" in history, [row["epoch"] for row in history]
    ({'epoch': 2, 'loss': 0.25}, False, [1, 2])
    """

    def __init__(self, rows: Iterable[Mapping[str, float]] = ()) -> None:
        self._rows = [dict(row) for row in rows]

    def append(self, row: Mapping[str, float]) -> None:
        """Add an epoch."""
        self._rows.append(dict(row))

    @property
    def rows(self) -> tuple[dict[str, float], ...]:
        """All rows; changes to them are kept."""
        return tuple(self._rows)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns, in the order of their first appearance."""
        return tuple(dict.fromkeys(name for row in self._rows for name in row))

    @overload
    def __getitem__(self, key: str) -> np.ndarray: ...
    @overload
    def __getitem__(self, key: int) -> dict[str, float]: ...
    @overload
    def __getitem__(self, key: slice) -> History: ...
    def __getitem__(self, key: str | int | slice) -> np.ndarray | dict[str, float] | History:
        """A column by its name, (n_epochs,), NaN for epochs without it; an epoch by number, from 0; or a slice."""
        if isinstance(key, slice):
            return History(self._rows[key])
        if isinstance(key, str):
            return self._column(key)
        try:
            return self._rows[key]
        except IndexError:
            raise IndexError(f"The history has {len(self)} epochs, so there is no epoch {key}; count from 0.") from None

    def _column(self, column: str) -> np.ndarray:
        if self._rows and column not in self.columns:
            raise KeyError(f"The history has no column {column!r}; it has {', '.join(self.columns)}.")
        return np.array([row.get(column, np.nan) for row in self._rows], dtype=np.float64)

    def __iter__(self) -> Iterator[dict[str, float]]:
        return iter(self._rows)

    def __contains__(self, column: object) -> bool:
        return column in self.columns

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"History({len(self)} epochs: {', '.join(self.columns)})"
