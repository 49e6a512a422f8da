"""Opening tables: frames, Arrow data, mappings of columns, and table files, all read as Arrow in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse
from pyarrow import dataset

from isthmus.data.containers import names_columns, unwrapped
from isthmus.data.numeric import as_numeric
from isthmus.data.sources import Rows
from isthmus.data.tables.dialect import FOUND_OUT, TextFormat
from isthmus.data.tables.errors import TableErrors
from isthmus.data.tables.stored import SUFFIXES, DatasetTable, open_stored
from isthmus.data.tables.table import BATCH_ROWS, Piece, Table, check_names_differ
from isthmus.exceptions import DataError

_FRAMES = ("pandas", "polars")


def is_table(X: Any) -> bool:
    """Whether X is a table with named columns: a frame, Arrow data, a mapping, or the path of a table file.

    Examples
    --------
    >>> is_table({"age": [31, 48]}), is_table("people.parquet"), is_table(np.zeros((3, 2)))
    (True, True, False)
    """
    if isinstance(X, str | Path):
        return str(X).lower().endswith(SUFFIXES)
    if scipy.sparse.issparse(X):
        return False  # scipy's dictionary-of-keys format is a mapping
    if isinstance(X, Table | dataset.Dataset) or names_columns(X):
        return True
    return isinstance(X, Mapping | pa.Table | pa.RecordBatch | dataset.Dataset) or _frame_of(X) is not None


def open_table(X: Any, text: TextFormat = FOUND_OUT) -> Table:
    """Open a table, or a numeric array (n, d), as a `Table`.

    Raises
    ------
    DataError
        The file is missing or cannot be read, names are repeated, or columns differ in length.
    TypeError
        X is not a table.
    """
    if isinstance(X, Table):
        return X
    if isinstance(X, str | Path):
        return open_stored(Path(X), text)
    if isinstance(X, dataset.Dataset):
        return DatasetTable(X)
    X = unwrapped(X)
    if isinstance(X, pa.RecordBatch):
        X = pa.Table.from_batches([X])
    if isinstance(X, pa.Table):
        return MemoryTable([str(name) for name in X.column_names], X.num_rows, of_arrow(X), X.schema.types)
    if isinstance(X, Mapping):
        return _of_mapping(X)
    return _of_frame_or_array(X)


def _frame_of(X: Any) -> str | None:
    package = type(X).__module__.split(".")[0]
    return package if package in _FRAMES and hasattr(X, "columns") and hasattr(X, "shape") else None


def _of_frame_or_array(X: Any) -> Table:
    package = _frame_of(X)
    if package == "pandas":
        return MemoryTable([str(name) for name in X.columns], len(X), _of_pandas(X), [None] * X.shape[1])
    if package == "polars":
        types = X.head(0).to_arrow().schema.types
        return MemoryTable([str(name) for name in X.columns], len(X), _of_polars(X), types)
    if isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "buifO":
        X = as_numeric(X)  # masked, big-endian and long double arrays, and objects that are numbers
    if isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "buif":
        names = [f"x{index}" for index in range(X.shape[1])]
        return MemoryTable(names, len(X), lambda rows, column: X[rows, column], [None] * X.shape[1])
    shape = f" of shape {X.shape} and dtype {X.dtype}" if isinstance(X, np.ndarray) else ""
    raise TypeError(
        f"A {type(X).__name__}{shape} is not a table; pass a pandas or polars frame, an Arrow table or dataset, a "
        f"mapping of columns, a numeric array (n, d), or the path of a file ({', '.join(SUFFIXES)})."
    )


# -- in memory ---------------------------------------------------------------------------------------------------------

Cut = Callable[[Rows, int], Any]
"""Returns some rows of the column at an index, in any form that Arrow can read."""


class MemoryTable(Table):
    """Columns in memory, converted to Arrow one chunk at a time.

    Attributes
    ----------
    first_row
        The row number shown to users for its first row: its index in the file that it is a part of.
    """

    first_row: int = 0

    def __init__(self, names: list[str], n_rows: int, cut: Cut, types: Sequence[pa.DataType | None]) -> None:
        check_names_differ(names, "this table")
        self.names, self.n_rows, self._cut, self._types = names, n_rows, cut, types

    def rows_of(self, rows: Rows) -> range | np.ndarray:
        """The row numbers shown to users for some rows."""
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(self.n_rows)
            return range(self.first_row + start, self.first_row + stop)
        return rows + self.first_row

    def types(self) -> dict[str, pa.DataType | None]:
        return dict(zip(self.names, self._types, strict=True))

    def pieces(self, columns: Sequence[str], errors: TableErrors, size: int = BATCH_ROWS) -> Iterator[Piece]:
        for start in range(0, self.n_rows, size):
            end = min(start + size, self.n_rows)
            rows = slice(start, end)
            yield Piece(range(start, end), self.take(rows, columns, errors), self.rows_of(rows))

    def take(self, rows: Rows, columns: Sequence[str], errors: TableErrors) -> dict[str, pa.Array]:
        """Some columns of the requested rows, in that order."""
        places = {name: place for place, name in enumerate(self.names)}
        told = self.rows_of(rows)
        return {name: _to_arrow(self._cut(rows, places[name]), name, told, errors) for name in columns}


def _of_pandas(frame: Any) -> Cut:
    return lambda rows, column: frame.iloc[rows, column]


def _of_polars(frame: Any) -> Cut:
    def cut(rows: Rows, column: int) -> Any:
        series = frame.to_series(column)
        return series[rows].to_arrow()

    return cut


def of_arrow(table: pa.Table) -> Cut:
    """Rows of the columns of an Arrow table."""

    def cut(rows: Rows, column: int) -> Any:
        whole = table.column(column)
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(table.num_rows)
            return whole.slice(start, stop - start)
        return whole.take(pa.array(rows))

    return cut


def _of_mapping(columns: Mapping[Any, Any]) -> Table:
    names, kept = [str(name) for name in columns], [_as_sequence(values) for values in columns.values()]
    lengths = {name: len(values) for name, values in zip(names, kept, strict=True)}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name!r} {length}" for name, length in lengths.items())
        raise DataError(
            f"The columns of a table must have equal lengths, but they have: {told}; make them equally long."
        )
    n_rows = next(iter(lengths.values()), 0)
    return MemoryTable(names, n_rows, lambda rows, column: _rows_of(kept[column], rows), [None] * len(names))


def _as_sequence(values: Any) -> Any:
    return values if hasattr(values, "__len__") and not isinstance(values, str | bytes) else [values]


def _rows_of(values: Any, rows: Rows) -> Any:
    if isinstance(values, list | tuple):
        return values[rows] if isinstance(rows, slice) else [values[row] for row in rows]
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return of_arrow(pa.table({"": values}))(rows, 0)
    if hasattr(values, "to_arrow"):
        return values[rows].to_arrow()
    return values.iloc[rows] if hasattr(values, "iloc") else np.asarray(values)[rows]


def _to_arrow(values: Any, name: str, rows: Sequence[int] | np.ndarray, errors: TableErrors) -> pa.Array:
    """A column as one Arrow array; mixed types are recorded as an error, and the cells count as missing."""
    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks() if values.num_chunks != 1 else values.chunk(0)
    if isinstance(values, pa.Array):
        return values
    try:
        made = pa.array(_arrow_readable(values), from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        _tell_mixture(list(values), name, rows, errors, str(error))
        return pa.nulls(len(values))
    return made.combine_chunks() if isinstance(made, pa.ChunkedArray) else made


def _arrow_readable(values: Any) -> Any:
    """Convert pandas types without an Arrow equivalent: intervals to ordered strings, periods to their start."""
    dtype = getattr(values, "dtype", None)
    levels = getattr(dtype, "categories", None)
    name = type(dtype if levels is None else levels.dtype).__name__
    if name == "PeriodDtype":
        return values.astype(dtype if levels is None else levels.dtype).dt.to_timestamp()
    if name != "IntervalDtype":
        return values
    if levels is None:
        return values.astype(object).map(lambda cell: None if cell is None or cell != cell else str(cell))  # noqa: PLR0124
    return values.cat.rename_categories([str(level) for level in levels])


def _tell_mixture(cells: list[Any], name: str, rows: Sequence[int] | np.ndarray, found: TableErrors, why: str) -> None:
    """Record the first cell whose type differs from that of most cells."""
    kinds = [_kind_of(cell) for cell in cells]
    counts = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds) if kind}
    if len(counts) < 2:
        remedy = f"convert it, or leave it out with kinds={{{name!r}: 'ignore'}}"
        found.add(name, f"cannot be read ({why})", remedy=remedy)
        return
    usual = max(counts, key=lambda kind: counts[kind])
    place = next(place for place, kind in enumerate(kinds) if kind not in (None, usual))
    found.add(
        name,
        f"mixes {' and '.join(counts)}: most cells are {usual}, but one is {cells[place]!r}",
        int(rows[place]),
        remedy=f"convert them to one type, or leave the column out with kinds={{{name!r}: 'ignore'}}",
    )


def _kind_of(cell: Any) -> str | None:
    """The type of a cell in words; None for a missing cell."""
    if cell is None or cell != cell or type(cell).__name__ in ("NAType", "NaTType"):  # noqa: PLR0124  # NaN alone
        return None
    if isinstance(cell, bool | np.bool_):
        return "truth values"
    if isinstance(cell, str):
        return "text"
    return "numbers" if hasattr(cell, "__float__") else type(cell).__name__
