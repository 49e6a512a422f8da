"""Tables as they come: frames, Arrow, mappings of columns, CSV and Parquet files, all read as Arrow in pieces."""

from __future__ import annotations

import csv as plain_csv
import gzip
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import scipy.sparse
from pyarrow import csv, dataset, parquet

from isthmus.data.sources import Rows
from isthmus.data.tables.mistakes import Mistakes
from isthmus.exceptions import DataError

BATCH_ROWS = 2**15
"""Rows that are worked on at a time."""
MISSING_WORDS = ["", "#N/A", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null", "NaT"]
"""What stands for a missing cell in a file of text."""
SUFFIXES = (".csv", ".csv.gz", ".parquet", ".pq")
_FRAMES = ("pandas", "polars")


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
    in_memory
        Whether rows are quick to get at in any order.
    """

    names: list[str]
    n_rows: int
    untyped: bool = False
    in_memory: bool = True

    @abstractmethod
    def pieces(self, columns: Sequence[str], mistakes: Mistakes, size: int = BATCH_ROWS) -> Iterator[Piece]:
        """Some columns of all rows, in order and up to `size` rows at a time."""

    @abstractmethod
    def types(self) -> dict[str, pa.DataType | None]:
        """The Arrow type of each column; None where only its cells can tell."""


def is_table(X: Any) -> bool:
    """Whether something is a table with named columns: a frame, Arrow, a mapping, or a path to CSV or Parquet.

    Examples
    --------
    >>> is_table({"age": [31, 48]}), is_table("people.parquet"), is_table(np.zeros((3, 2)))
    (True, True, False)
    """
    if isinstance(X, str | Path):
        return str(X).lower().endswith(SUFFIXES)
    if scipy.sparse.issparse(X):
        return False  # one of their formats is a mapping
    return isinstance(X, Mapping | pa.Table | pa.RecordBatch | dataset.Dataset) or _frame_of(X) is not None


def open_table(X: Any) -> Table:
    """Read anything that is a table, or an array of numbers (n, d), as a `Table`.

    Raises
    ------
    DataError
        There is no such file, it cannot be read, names are given twice, or columns differ in length.
    TypeError
        It is no table.
    """
    if isinstance(X, Table):
        return X
    if isinstance(X, str | Path):
        return _open_file(Path(X))
    if isinstance(X, dataset.Dataset):
        return _DatasetTable(X)
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
    if isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "buif":
        names = [f"x{index}" for index in range(X.shape[1])]
        return MemoryTable(names, len(X), lambda rows, column: X[rows, column], [None] * X.shape[1])
    shape = f" of shape {X.shape} and dtype {X.dtype}" if isinstance(X, np.ndarray) else ""
    raise TypeError(
        f"A {type(X).__name__}{shape} is no table; give a pandas or polars frame, an Arrow table or dataset, a mapping "
        f"of columns, an array of numbers (n, d), or the path of a file ({', '.join(SUFFIXES)})."
    )


def _refuse_twice(names: Sequence[str], where: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        places = "; ".join(
            f"{name!r} is the name of columns {', '.join(str(i) for i, other in enumerate(names) if other == name)}"
            for name in twice[:5]
        )
        raise DataError(f"Names of columns must differ, but in {where} {places} (counted from 0); rename them.")


# -- in memory ---------------------------------------------------------------------------------------------------------

Cut = Callable[[Rows, int], Any]
"""Gives some rows of the column of that number, as anything Arrow can read."""


class MemoryTable(Table):
    """Columns in memory, turned into Arrow a piece at a time.

    Attributes
    ----------
    first_row
        The number that its first row has for a user: that in the file which it is a piece of.
    """

    first_row: int = 0

    def __init__(self, names: list[str], n_rows: int, cut: Cut, types: Sequence[pa.DataType | None]) -> None:
        _refuse_twice(names, "this table")
        self.names, self.n_rows, self._cut, self._types = names, n_rows, cut, types

    def rows_of(self, rows: Rows) -> range | np.ndarray:
        """The numbers that some rows have for a user."""
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(self.n_rows)
            return range(self.first_row + start, self.first_row + stop)
        return rows + self.first_row

    def types(self) -> dict[str, pa.DataType | None]:
        return dict(zip(self.names, self._types, strict=True))

    def pieces(self, columns: Sequence[str], mistakes: Mistakes, size: int = BATCH_ROWS) -> Iterator[Piece]:
        for start in range(0, self.n_rows, size):
            end = min(start + size, self.n_rows)
            rows = slice(start, end)
            yield Piece(range(start, end), self.take(rows, columns, mistakes), self.rows_of(rows))

    def take(self, rows: Rows, columns: Sequence[str], mistakes: Mistakes) -> dict[str, pa.Array]:
        """Some columns of the rows asked for, in that order."""
        places = {name: place for place, name in enumerate(self.names)}
        told = self.rows_of(rows)
        return {name: _to_arrow(self._cut(rows, places[name]), name, told, mistakes) for name in columns}


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
        raise DataError(f"The columns of a table must be of one length, but they have: {told}.")
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


def _to_arrow(values: Any, name: str, rows: Sequence[int] | np.ndarray, mistakes: Mistakes) -> pa.Array:
    """A column as one Arrow array; where cells are of several types, a mistake is noted and it counts as missing."""
    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks() if values.num_chunks != 1 else values.chunk(0)
    if isinstance(values, pa.Array):
        return values
    try:
        made = pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        _tell_mixture(list(values), name, rows, mistakes, str(error))
        return pa.nulls(len(values))
    return made.combine_chunks() if isinstance(made, pa.ChunkedArray) else made


def _tell_mixture(cells: list[Any], name: str, rows: Sequence[int] | np.ndarray, found: Mistakes, why: str) -> None:
    """Name the first cell that is of another type than most."""
    kinds = [_kind_of(cell) for cell in cells]
    counts = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds) if kind}
    if len(counts) < 2:
        found.add(name, f"cannot be read ({why}); convert it, or leave it out with kinds={{{name!r}: 'ignore'}}")
        return
    usual = max(counts, key=lambda kind: counts[kind])
    place = next(place for place, kind in enumerate(kinds) if kind not in (None, usual))
    found.add(
        name,
        f"mixes {' and '.join(counts)}: most cells are {usual}, but one is {cells[place]!r}; make them all of one "
        f"type, or leave the column out with kinds={{{name!r}: 'ignore'}}",
        int(rows[place]),
    )


def _kind_of(cell: Any) -> str | None:
    """What a cell is, in a word; None for a missing one."""
    if cell is None or cell != cell or type(cell).__name__ in ("NAType", "NaTType"):  # noqa: PLR0124  # NaN alone
        return None
    if isinstance(cell, bool | np.bool_):
        return "truth values"
    if isinstance(cell, str):
        return "text"
    return "numbers" if hasattr(cell, "__float__") else type(cell).__name__


# -- files -------------------------------------------------------------------------------------------------------------


def _open_file(path: Path) -> Table:
    if not path.is_file():
        raise DataError(f"There is no file '{path}'; check the path.")
    if not is_table(path):
        raise DataError(f"'{path}' has the ending {path.suffix!r}, but one of {', '.join(SUFFIXES)} is needed.")
    try:
        return CSVTable(path) if ".csv" in path.name.lower() else _ParquetTable(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"'{path}' cannot be read ({error}); check the file.") from None


class _FileTable(Table):
    """A table in files, which are read from begin to end and must not change meanwhile."""

    in_memory = False

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self._paths = [Path(path) for path in paths if os.path.exists(path)]  # noqa: PTH110  # may be a URL
        self._stamps = [_stamp(path) for path in self._paths]

    def _refuse_change(self) -> None:
        for path, stamp in zip(self._paths, self._stamps, strict=True):
            if _stamp(path) != stamp:
                raise DataError(
                    f"'{path}' changed while it was being read; let its writer finish, or read a copy of it."
                )

    def pieces(self, columns: Sequence[str], mistakes: Mistakes, size: int = BATCH_ROWS) -> Iterator[Piece]:
        row = 0
        self._refuse_change()
        batches = self._batches(columns, size)
        while (batch := self._next(batches)) is not None:
            for start in range(0, batch.num_rows, size):
                part = batch.slice(start, size)
                rows = range(row, row + part.num_rows)
                yield Piece(rows, {name: part.column(name) for name in columns}, rows)
                row += part.num_rows
        if row != self.n_rows:
            raise DataError(
                f"'{self._paths[0]}' changed while it was being read: it had {self.n_rows} rows, now {row}."
            )

    def _next(self, batches: Iterator[pa.RecordBatch]) -> pa.RecordBatch | None:
        """The next batch, or None at the end; a file that changed is told as such and not by what that leads to."""
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError) as error:
            self._refuse_change()
            raise DataError(f"'{self._paths[0]}' cannot be read ({error}); check the file.") from None
        self._refuse_change()
        return batch

    @abstractmethod
    def _batches(self, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
        """Some columns of all rows."""


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file does."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


class _ParquetTable(_FileTable):
    """A Parquet file, of which one piece is in memory at a time."""

    def __init__(self, path: Path) -> None:
        super().__init__([path])
        with parquet.ParquetFile(path) as file:
            self._schema, self.n_rows = file.schema_arrow, file.metadata.num_rows
        self.names = [str(name) for name in self._schema.names]
        _refuse_twice(self.names, f"'{path}'")

    def types(self) -> dict[str, pa.DataType | None]:
        return dict(zip(self.names, self._schema.types, strict=True))

    def _batches(self, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
        """Text comes as numbers and a dictionary, as it stands in the file, which is quicker to look up."""
        text = [name for name in columns if pa.types.is_string(self._schema.field(name).type)]
        with parquet.ParquetFile(self._paths[0], read_dictionary=text, pre_buffer=False) as file:
            yield from file.iter_batches(size, columns=list(columns))


class _DatasetTable(_FileTable):
    """An Arrow dataset: many files, or what Arrow reads as one table."""

    def __init__(self, given: dataset.Dataset) -> None:
        super().__init__(getattr(given, "files", []))
        self._dataset, self.n_rows = given, given.count_rows()
        self.names = [str(name) for name in given.schema.names]
        _refuse_twice(self.names, "this dataset")

    def types(self) -> dict[str, pa.DataType | None]:
        return dict(zip(self.names, self._dataset.schema.types, strict=True))

    def _batches(self, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
        kept = {"batch_readahead": 2, "fragment_readahead": 1}
        batches: Iterator[pa.RecordBatch] = self._dataset.to_batches(columns=list(columns), batch_size=size, **kept)
        return batches


class CSVTable(_FileTable):
    """A file of text with a line of names, gzipped or not; every cell is read as text."""

    untyped = True
    BLOCK_BYTES = 8 * 2**20

    def __init__(self, path: Path) -> None:
        super().__init__([path])
        line = _first_line(path)
        self._delimiter = max(",;\t|", key=line.count)
        self.names = next(plain_csv.reader([line], delimiter=self._delimiter), [])
        _refuse_twice(self.names, f"'{path}'")
        self.n_rows = sum(batch.num_rows for batch in self._batches(self.names[:1], BATCH_ROWS)) if self.names else 0

    def types(self) -> dict[str, pa.DataType | None]:
        return dict.fromkeys(self.names)

    def _batches(self, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
        reading = csv.ReadOptions(block_size=self.BLOCK_BYTES)
        try:
            reader = csv.open_csv(self._paths[0], reading, self._parsing(), self._converting(columns))
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):
                return
            raise
        with reader:
            yield from reader

    def _parsing(self) -> csv.ParseOptions:
        """In a file of one column an empty line is a missing cell; in all others it is no row."""
        kept = len(self.names) == 1
        return csv.ParseOptions(delimiter=self._delimiter, newlines_in_values=True, ignore_empty_lines=not kept)

    def _converting(self, columns: Sequence[str]) -> csv.ConvertOptions:
        return csv.ConvertOptions(
            column_types=dict.fromkeys(self.names, pa.string()),
            include_columns=list(columns),
            strings_can_be_null=True,
            null_values=MISSING_WORDS,
        )

    def parse(self, lines: BinaryIO, first_row: int) -> pa.Table:
        """Some lines of such a file, from row `first_row` on, without the line of names."""
        reading = csv.ReadOptions(column_names=self.names)
        try:
            return csv.read_csv(lines, reading, self._parsing(), self._converting(self.names))
        except pa.ArrowInvalid as error:
            raise DataError(
                f"'{self._paths[0]}' cannot be read from row {first_row} on ({error}); check the file."
            ) from None


def _first_line(path: Path) -> str:
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as stream:
        line: str = stream.readline().decode("utf-8-sig").rstrip("\r\n")
        return line
