"""Columns with special treatment: changes of constant columns are found, and columns that only grow are not scored."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np

from isthmus.data.tables.columns import Categorical, Column, Datetime, Ignored, Numeric
from isthmus.data.tables.schema import Schema

FEWEST_ROWS = 50
"""Rows below which no column is taken for a counter: few rows are often in order by chance or were sorted."""
LINEAR = 0.15
"""How far a counter may stray from a straight line through the table, as a share of its range: sorted bell curves stray
by 0.3, arrivals at random by 0.05 in 500 rows."""
DENSE = 1.5
"""Whole numbers that all differ and fill their range but for this factor are identifiers in any order."""


def watch_constants(schema: Schema) -> Schema:
    """The schema with constant columns as columns of one level, so that a change in them is found.

    A schema leaves them out, as nothing can be learned from them; but a status that was always "OK" says much on the
    day it is "FAILED". A table of constant columns alone stays as it is.
    """
    if not schema.width:
        return schema
    return replace(schema, columns=tuple(_watched(column) for column in schema.columns))


def _watched(column: Column) -> Column:
    if not isinstance(column, Ignored) or column.reason != "constant" or column.constant is None:
        return column
    common = {field.name: getattr(column, field.name) for field in fields(Column)}
    value = column.constant
    common["note"] = f"is constant ({value!r}); any other value is an anomaly"
    if isinstance(value, bool | str):
        return Categorical(levels=(value,), **common)
    return Numeric(centre=float(value), spread=abs(float(value)) or 1.0, **common)


def growing_numbers(raw: np.ndarray, schema: Schema | None, given: Any) -> tuple[np.ndarray, dict[str | int, str]]:
    """A mask of the numbers that are not scored, (d,) bool, and a note for each column by its name or index.

    The elapsed time of dates, counters and row numbers of new rows lie beyond those of all training rows, so that next
    month's rows would all be anomalous. A column of a kind in `given` always counts.

    Parameters
    ----------
    raw
        Rows as they are learned from, in their order, (n, d).
    schema
        Of a table, else None.
    given
        The kinds that the user gave, by name, or None.
    """
    left_out, notes = np.zeros(raw.shape[1], dtype=bool), dict[str | int, str]()
    if schema is None or not schema.width:
        for place in range(raw.shape[1]):
            left_out[place] = _grows(raw[:, place], whole=_is_whole(raw[:, place]))
        if 2 * left_out.sum() > raw.shape[1]:  # windows of a signal that rises, say: nothing else would be left
            return np.zeros_like(left_out), {}
        return left_out, {int(place): "counts up; it is left out of the score" for place in np.flatnonzero(left_out)}
    for name in [name for name in schema.used if name not in (given or {})]:
        column, place = schema[name], schema.groups[name][0]
        if isinstance(column, Datetime):
            left_out[place] = True
            rest = "only its time of day, week or year counts" if column.cycles else "it is left out of the score"
            notes[name] = f"is a date, and later ones are beyond all that were seen; {rest}"
        elif isinstance(column, Numeric) and _grows(raw[:, place], whole=column.decimals == 0):
            left_out[place] = True
            notes[name] = "counts up or numbers the rows; it is left out of the score"
        if name in notes:
            notes[name] += f" (give kinds={{{name!r}: {column.kind!r}}} to score it)"
    if left_out.all():
        return np.zeros_like(left_out), {}
    return left_out, notes


def with_notes(schema: Schema, notes: dict[str | int, str]) -> Schema:
    """The schema with notes on some columns."""
    columns = [replace(c, note="; ".join(filter(None, (c.note, notes.get(c.name))))) for c in schema.columns]
    return replace(schema, columns=tuple(columns))


def _is_whole(values: np.ndarray) -> bool:
    return bool(np.all(values == np.round(values))) if values.dtype.kind == "f" else values.dtype.kind in "iu"


def _grows(values: np.ndarray, *, whole: bool) -> bool:
    """Whether values rise (or fall) evenly from row to row, or are consecutive integers."""
    numbers = values.astype(np.float64)
    n = len(numbers)
    if n < FEWEST_ROWS or not np.isfinite(numbers).all():
        return False
    low, width = numbers.min(), np.ptp(numbers)
    if width == 0.0 or len(np.unique(numbers)) < 0.99 * n:
        return False
    steps = np.diff(numbers)
    if (steps >= 0).all() or (steps <= 0).all():
        line = np.linspace(numbers[0], numbers[-1], n)
        return bool(np.abs(numbers - line).max() <= LINEAR * width)
    if not whole or len(np.unique(numbers)) < n:
        return False
    ordered = np.sort(numbers)
    unit = np.diff(ordered).min()  # that of a table is in units of its deviation
    return bool((ordered[-1] - low) / unit + 1.0 <= DENSE * n)
