"""Which tables can be stacked into one call of a model, so that each has the answer that it would have alone.

What the library makes of a cell of text may depend on the other cells of its column: a column of dates is read by the
format of all of them. So tables are stacked only if their columns hold cells of the same kinds, and texts that are read
as dates have the same shape. Then a stack is read as each of its tables would be, or it raises, and each table is
answered alone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from isthmus.data.tables import Schema
from isthmus.data.tables.columns import Datetime
from isthmus.serving.bodies import Sent
from isthmus.serving.replies import Columns

EXACT = 2**53
"""Integers up to here are doubles, too."""
SHAPE = str.maketrans("0123456789", "9999999999")


@dataclass(frozen=True)
class Stackable:
    """A table that can be stacked with those of the same key."""

    key: Hashable
    rows: Any


@dataclass(frozen=True)
class Stacking:
    """How tables of one route are stacked.

    Attributes
    ----------
    of
        What of a table is stacked; None for a table that is answered alone.
    together
        Answers the stacked rows of several tables, to 1e-12 as each alone.
    unsure
        For which rows of such an answer that difference might decide, (n,) bool: their tables are answered alone.
    """

    of: Callable[[Sent], Stackable | None]
    together: Callable[[Sequence[Any]], Columns]
    unsure: Callable[[Columns], np.ndarray] | None = None


def of_numbers(
    names: Sequence[str] | None,
    shape: tuple[int, ...],
    check: Callable[[np.ndarray], None],
    answer: Callable[[Any], Columns],
) -> Stacking:
    """Stacking for a model of numbers.

    Parameters
    ----------
    names
        Columns of `fit`; None if it was fitted without.
    shape
        Of a row.
    check
        Raises, or warns, where the library does for these rows alone.
    answer
        Answers a table.
    """

    def of(sent: Sent) -> Stackable | None:
        rows = sent.array if names is None else sent.numbers(names)
        if rows is None or rows.shape[1:] != shape or not np.isfinite(rows).all():
            return None
        check(rows)
        return Stackable("numbers", rows)

    def together(parts: Sequence[np.ndarray]) -> Columns:
        rows = np.concatenate(parts)
        return answer(rows if names is None else pd.DataFrame(rows, columns=[*names]))

    return Stacking(of, together)


def of_schema(schema: Schema, answer: Callable[[pd.DataFrame], Columns]) -> Stacking:
    """Stacking for a model of tables, whose columns a schema reads."""
    names = frozenset(schema.names)

    def of(sent: Sent) -> Stackable | None:
        columns = sent.cells
        if columns is None or columns.keys() != names:
            return None
        key = tuple(_kind_of(columns[name], schema, name) for name in schema.names)
        return None if None in key else Stackable(key, columns)

    def together(parts: Sequence[Mapping[str, list[Any]]]) -> Columns:
        return answer(pd.DataFrame({name: [cell for part in parts for cell in part[name]] for name in schema.names}))

    return Stacking(of, together)


def _kind_of(cells: list[Any], schema: Schema, name: str) -> Hashable:
    """The kind of a column's cells, equal for columns that are read alike; None if it depends on the whole column."""
    kinds = {type(cell) for cell in cells}
    if kinds <= {float, int}:
        return "number" if all(type(cell) is float or abs(cell) <= EXACT for cell in cells) else None
    if kinds == {bool}:
        return "boolean"
    if kinds != {str}:
        return None
    column = schema[name]
    if isinstance(column, Datetime):
        shapes = {cell.translate(SHAPE) for cell in cells}
        return shapes.pop() if len(shapes) == 1 else None
    return "text" if column.one_hot and column.family == "text" else None
