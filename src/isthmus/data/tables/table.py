"""What a table is, wherever its rows lie: named columns of equal length, read as Arrow in pieces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from isthmus.data.tables.errors import Mistakes
from isthmus.exceptions import DataError

BATCH_ROWS = 2**15
"""Rows that are worked on at a time."""


class Piece(NamedTuple):
    """Some neighbouring rows: their places in the table, the columns asked for, and their numbers for a user."""

    rows: range
    columns: dict[str, pa.Array]
    told: range | np.ndarray

    def cut(self, size: int, first: int) -> Iterator[Piece]:
        """The same in pieces of `size` rows, the first of them of `first`."""
        start, end = 0, min(first, len(self.rows))
        while start < len(self.rows):
            columns = {name: array.slice(start, end - start) for name, array in self.columns.items()}
            yield Piece(self.rows[start:end], columns, self.told[start:end])
            start, end = end, min(end + size, len(self.rows))


class Table(ABC):
    """Named columns of equal length, wherever they lie.

    Attributes
    ----------
    names
        Of its columns, all different.
    n_rows
        How many rows there are.
    untyped
        Whether every cell is text, so that types are a matter of what the text says.
    index
        The name of a column of a file that only numbers the rows and is none of `names`, or None.
    delimiter
        What stands between the cells of a file of text, or None.
    in_memory
        Whether rows are quick to get at in any order.
    """

    names: list[str]
    n_rows: int
    untyped: bool = False
    index: str | None = None
    delimiter: str | None = None
    in_memory: bool = True

    @abstractmethod
    def pieces(self, columns: Sequence[str], mistakes: Mistakes, size: int = BATCH_ROWS) -> Iterator[Piece]:
        """Some columns of all rows, in order and up to `size` rows at a time."""

    @abstractmethod
    def types(self) -> dict[str, pa.DataType | None]:
        """The Arrow type of each column; None where only its cells can tell."""


def check_names_differ(names: Sequence[str], where: str) -> None:
    """Raise a `DataError` that says which columns have one name."""
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
