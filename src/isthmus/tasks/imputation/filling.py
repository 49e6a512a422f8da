"""Replacement of missing cells by predictions, in the type of the input table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute

from isthmus.data.tables import Schema, read_pieces
from isthmus.data.tables.columns import Categorical
from isthmus.data.tables.numerals import MISSING_WORDS


def fill_table(X: Any, schema: Schema, matrix: np.ndarray) -> Any:
    """Fill the missing cells of a table from restored rows, (n, width); other cells do not change."""
    expected = expected_cells(schema, matrix)
    if isinstance(X, np.ndarray):
        return _fill_array(X, schema, expected)
    package = type(X).__module__.split(".")[0]
    if package == "pandas":
        return _fill_pandas(X, schema, expected)
    if package == "polars":
        return _fill_polars(X, expected)
    if isinstance(X, Mapping):
        return {name: _fill_values(values, expected.get(str(name))) for name, values in X.items()}
    return _fill_arrow(X, expected)


def _missing_words(cells: list[Any], column: Any) -> np.ndarray:
    """Whether each cell is blank or a missing marker, and not a level of the column."""
    levels = getattr(column, "levels", ())
    words = {word for word in MISSING_WORDS if word not in levels}
    return np.array([isinstance(cell, str) and cell.strip() in words for cell in cells], bool)


def expected_cells(schema: Schema, matrix: np.ndarray) -> dict[str, pa.Array]:
    """Predictions for every cell of the columns that can be filled; the pooled level is never predicted."""
    known = matrix.copy()
    for name, places in schema.groups.items():
        column = schema[name]
        if isinstance(column, Categorical):
            known[:, list(places)] = column.known(matrix[:, list(places)])
    decoded = schema.decode(known)
    return {name: decoded.column(name).combine_chunks() for name in decoded.column_names}


def _fill_array(X: np.ndarray, schema: Schema, expected: Mapping[str, pa.Array]) -> np.ndarray:
    filled = np.array(X, dtype=X.dtype if X.dtype.kind == "f" else np.float64)
    for place, name in enumerate(schema.names):
        filled[:, place] = _fill_values(filled[:, place], expected.get(name))
    return filled


def _fill_values(values: Any, expected: pa.Array | None) -> Any:
    """A sequence with None and NaN replaced by predictions."""
    if expected is None:
        return values
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return _filled_arrow(values, expected)
    array = values if isinstance(values, np.ndarray) else None
    if array is not None and array.dtype.kind in "fM":
        gone = np.isnan(array) if array.dtype.kind == "f" else np.isnat(array)
        return np.where(gone, expected.to_numpy(zero_copy_only=False).astype(array.dtype), array)
    cells = [new if _is_missing(old) else old for old, new in zip(values, expected.to_pylist(), strict=True)]
    return np.array(cells, dtype=array.dtype) if array is not None else cells


def _is_missing(cell: Any) -> bool:
    return cell is None or bool(cell != cell)  # noqa: PLR0124  # NaN, of whatever type


def _fill_pandas(frame: Any, schema: Schema, expected: Mapping[str, pa.Array]) -> Any:
    filled = frame.copy()
    for place, name in enumerate(frame.columns):
        column = frame.iloc[:, place]
        if str(name) not in expected:
            continue
        gone = column.isna().to_numpy(copy=True)
        if str(column.dtype) in ("object", "str", "string", "category"):
            gone |= _missing_words(column.tolist(), schema[str(name)])
        if gone.any():
            new = expected[str(name)].filter(pa.array(gone))
            column = column.copy()
            column[gone] = _like_cells(new, column[~gone])
            filled[name] = column
    return filled


def _like_cells(new: pa.Array, column: Any) -> Any:
    """Convert predictions to the type of a column; in object columns, to text or numbers like its cells."""
    dtype = column.dtype
    name = type(dtype).__name__
    levels = getattr(dtype, "categories", None)
    if levels is not None:
        by_word = {str(level): level for level in levels}
        return [_level(cell, levels.dtype, by_word) for cell in new.to_pylist()]
    if name == "IntervalDtype":
        by_word = {str(cell): cell for cell in column.unique()}
        return [by_word.get(cell) for cell in new.to_pylist()]
    if name == "PeriodDtype":
        return new.to_pandas().dt.to_period(dtype.freq).array
    if getattr(dtype, "kind", "") == "f" and name.startswith("Float") and dtype.itemsize == 2:
        return new.to_numpy(zero_copy_only=False).astype(np.float16)
    if str(dtype) == "object" and len(column) and isinstance(column.iloc[0], str):
        return [None if cell is None else str(cell) for cell in new.to_pylist()]
    return new.to_pandas().to_numpy()


def _level(cell: Any, dtype: Any, by_word: Mapping[str, Any]) -> Any:
    """The level of a categorical dtype for a cell; numbers match levels by value."""
    if cell is None or isinstance(cell, str):
        return by_word.get(str(cell))
    return dtype.type(cell) if hasattr(dtype, "type") else cell


def _fill_polars(frame: Any, expected: Mapping[str, pa.Array]) -> Any:
    import polars as pl  # noqa: PLC0415  # optional

    def column(name: str) -> Any:
        old = frame.get_column(name)
        new = pl.Series(name, expected[name]).cast(old.dtype, strict=False)
        gone = old.is_null() | old.is_nan() if old.dtype.is_float() else old.is_null()
        return old.zip_with(~gone, new)

    return frame.with_columns([column(name) for name in frame.columns if name in expected])


def _fill_arrow(X: Any, expected: Mapping[str, pa.Array]) -> pa.Table:
    table = pa.concat_tables([piece.arrow for piece in read_pieces(X)]) if not isinstance(X, pa.Table) else X
    for place, name in enumerate(table.column_names):
        if name in expected:
            table = table.set_column(place, name, _filled_arrow(table.column(name), expected[name]))
    return table


def _filled_arrow(values: Any, expected: pa.Array) -> Any:
    plain = values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values
    gone = compute.is_null(plain, nan_is_null=pa.types.is_floating(plain.type))
    new = expected.cast(plain.type, safe=False) if expected.type != plain.type else expected
    filled: Callable[..., Any] = compute.if_else
    return filled(gone, new, plain)
