"""Putting expected values where cells are missing, in the type that a table came in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute

from isthmus.data.tables import Schema, read_pieces
from isthmus.data.tables.columns import Categorical


def fill_table(X: Any, schema: Schema, matrix: np.ndarray) -> Any:
    """A table whose missing cells come from restored rows, (n, width); nothing else is changed."""
    expected = expected_cells(schema, matrix)
    if isinstance(X, np.ndarray):
        return _fill_array(X, schema, expected)
    package = type(X).__module__.split(".")[0]
    if package == "pandas":
        return _fill_pandas(X, expected)
    if package == "polars":
        return _fill_polars(X, expected)
    if isinstance(X, Mapping):
        return {name: _fill_values(values, expected.get(str(name))) for name, values in X.items()}
    return _fill_arrow(X, expected)


def expected_cells(schema: Schema, matrix: np.ndarray) -> dict[str, pa.Array]:
    """What is expected in every cell of the columns that can be filled; never the level of all rare ones."""
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
    """A sequence with expected cells where it has None or NaN."""
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


def _fill_pandas(frame: Any, expected: Mapping[str, pa.Array]) -> Any:
    filled = frame.copy()
    for place, name in enumerate(frame.columns):
        gone = frame.iloc[:, place].isna()
        if str(name) in expected and gone.any():
            new = expected[str(name)].filter(pa.array(gone.to_numpy())).to_pandas()
            column = frame.iloc[:, place].copy()
            column[gone] = new.to_numpy()
            filled[name] = column
    return filled


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
