"""The table interface: named columns of equal length, read as Arrow in chunks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from isthmus.data.tables.errors import TableErrors
from isthmus.exceptions import DataError

BATCH_ROWS = 2**15
"""Rows processed at a time."""


class Piece(NamedTuple):
    """Adjacent rows: their indices in the table, the requested columns, and the row numbers shown to users."""

    rows: range
    columns: dict[str, pa.Array]
    told: range | np.ndarray

    def cut(self, size: int, first: int) -> Iterator[Piece]:
        """Split into pieces of `size` rows; the first piece has `first` rows."""
        start, end = 0, min(first, len(self.rows))
        while start < len(self.rows):
            columns = {name: array.slice(start, end - start) for name, array in self.columns.items()}
            yield Piece(self.rows[start:end], columns, self.told[start:end])
            start, end = end, min(end + size, len(self.rows))


class Table(ABC):
    """Named columns of equal length, in memory or in files.

    Attributes
    ----------
    names
        Unique names of its columns.
    n_rows
        Number of rows.
    untyped
        Whether every cell is text, so that types are inferred from the text.
    index
        The name of a file's index column, which is not in `names`, or None.
    delimiter
        The cell separator of a text file, or None.
    in_memory
        Whether random access to rows is fast.
    """

    names: list[str]
    n_rows: int
    untyped: bool = False
    index: str | None = None
    delimiter: str | None = None
    in_memory: bool = True

    @abstractmethod
    def pieces(self, columns: Sequence[str], errors: TableErrors, size: int = BATCH_ROWS) -> Iterator[Piece]:
        """Some columns of all rows, in order, at most `size` rows at a time."""

    @abstractmethod
    def types(self) -> dict[str, pa.DataType | None]:
        """The Arrow type of each column; None if it must be inferred from the cells."""


def check_names_differ(names: Sequence[str], where: str) -> None:
    """Raise a `DataError` that lists columns with the same name."""
    twice = {name for name, n in Counter(names).items() if n > 1}
    if not twice:
        return
    places: dict[str, list[str]] = {}
    for place, name in enumerate(names):
        if name in twice:
            places.setdefault(name, []).append(str(place))
    told = "; ".join(
        f"{name!r} is the name of columns {', '.join(found[:5])}{', …' if len(found) > 5 else ''}"
        for name, found in sorted(places.items())[:5]
    )
    raise DataError(f"Names of columns must differ, but in {where} {told} (counted from 0); rename them.")
