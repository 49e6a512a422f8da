"""Reading a table in chunks, also from a growing file; each chunk knows its row numbers in the file."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from isthmus.data.tables.cells import Cells
from isthmus.data.tables.cells import numbers as as_numbers
from isthmus.data.tables.columns import Column
from isthmus.data.tables.dialect import FOUND_OUT, Dialect, TextFormat
from isthmus.data.tables.errors import TableErrors, raised_together
from isthmus.data.tables.numerals import PLAIN, trimmed
from isthmus.data.tables.opening import MemoryTable, of_arrow, open_table
from isthmus.data.tables.schema import Schema
from isthmus.data.tables.stored import CSVTable
from isthmus.exceptions import DataError

PIECE_ROWS = 2**14


class TablePiece(MemoryTable):
    """Adjacent rows of a table, in memory; a table itself, whose errors use the row numbers of the whole table.

    Attributes
    ----------
    arrow
        The rows as an Arrow table; all cells of a text file are strings.
    first_row
        Index of the first row in the whole table, from 0.
    n_rows_of_all
        Number of rows of the whole table, or None if unknown.
    """

    n_rows_of_all: int | None = None

    def __init__(self, arrow: pa.Table, first_row: int, *, untyped: bool = False) -> None:
        super().__init__(list(arrow.column_names), arrow.num_rows, of_arrow(arrow), arrow.schema.types)
        self.arrow, self.first_row, self.untyped = arrow, first_row, untyped

    def types(self) -> dict[str, pa.DataType | None]:
        return dict.fromkeys(self.names) if self.untyped else super().types()

    def chosen(self, rows: np.ndarray) -> TablePiece:
        """Some of the rows, by their indices in this piece."""
        return TablePiece(self.arrow.take(pa.array(rows)), self.first_row, untyped=self.untyped)

    def numbers(self) -> np.ndarray:
        """All columns as numbers, (n, d) float64, NaN where a cell is missing.

        Raises
        ------
        DataError
            Cells that are not numbers, with column and row.
        """
        told = range(self.first_row, self.first_row + self.n_rows)
        with raised_together() as errors:
            columns = [
                as_numbers(Cells(name, self.arrow.column(place).combine_chunks(), told, errors))
                for place, name in enumerate(self.names)
            ]
        return np.stack(columns, axis=1)

    def typed(self, schema: Schema) -> pa.Table:
        """The rows with text converted to numbers where the schema reads numbers; other text becomes missing.

        Integers are exact up to 64 bits.
        """
        table = self.arrow
        for place, name in enumerate(self.names):
            column = schema.get(name)
            if self.untyped and column is not None and column.family == "number":
                cells = Cells(name, table.column(name).combine_chunks(), range(len(table)), TableErrors())
                table = table.set_column(place, name, _typed(column, cells))
        return table


def _typed(column: Column, cells: Cells) -> pa.Array:
    """Numbers in the type of the whole column, so that all pieces have the same type."""
    text = trimmed(cells.array)
    if column.arrow.startswith("int") and column.numerals == PLAIN:
        try:
            return text.cast(pa.int64())
        except pa.ArrowInvalid:
            pass  # a later file may have fractions where the first had none
    return pa.array(column.numbers(cells), from_pandas=True)


def read_pieces(table: Any, size: int = PIECE_ROWS) -> Iterator[TablePiece]:
    """Iterate over a table in order, in chunks; files larger than memory are read on demand.

    Parameters
    ----------
    table
        Any input of `learn_schema`.
    size
        Maximum number of rows per chunk.

    Examples
    --------
    >>> [piece.n_rows for piece in read_pieces({"x": [1, 2, 3]}, 2)]
    [2, 1]
    """
    opened = open_table(table)
    if not opened.names:
        raise DataError("The table has 0 rows and 0 columns, but at least a line of column names is needed; add it.")
    with raised_together() as errors:
        for piece in opened.pieces(opened.names, errors, size):
            errors.refuse()
            columns = pa.table(list(piece.columns.values()), names=list(piece.columns))
            made = TablePiece(columns, piece.rows.start, untyped=opened.untyped)
            made.n_rows_of_all = opened.n_rows
            yield made


def follow(
    path: str | Path, *, poll: float = 1.0, idle: float | None = None, text: TextFormat = FOUND_OUT
) -> Iterator[TablePiece]:
    """Iterate over the rows of a CSV file and over rows appended later, as soon as their lines are complete.

    Parameters
    ----------
    path
        Path of a text file such as .csv, not gzipped.
    poll
        Seconds between checks of the file, > 0.
    idle
        Stop after this many seconds without new rows; None: never.
    text
        The format of the file, as far as it is known.

    Raises
    ------
    DataError
        The file is not a text file, gets shorter, or a line has a wrong number of cells.
    """
    opened = open_table(path, text)
    if not isinstance(opened, CSVTable) or str(path).endswith(".gz"):
        raise DataError(f"'{path}' cannot be followed; only uncompressed text files such as .csv can.")
    if opened.dialect.encoding.startswith(("utf-16", "utf-32")):
        raise DataError(f"'{path}' is {opened.dialect.encoding} and cannot be followed; write it as UTF-8.")
    row, since = 0, time.monotonic()
    for lines in _grown(Path(path), poll, opened.dialect):
        if lines:
            batch = opened.parse(io.BytesIO(lines), first_row=row)
            yield TablePiece(batch, row, untyped=True)
            row, since = row + batch.num_rows, time.monotonic()
        elif idle is not None and time.monotonic() - since >= idle:
            return


def _grown(path: Path, poll: float, dialect: Dialect) -> Iterator[bytes]:
    """The complete lines appended since the last check, without the header; b"" if there are none."""
    with path.open("rb") as stream:
        for _ in range(dialect.skipped):
            stream.readline()
        names = stream.readline() if dialect.header else b""
        while names.count(b'"') % 2:  # a name that contains a line break
            names += stream.readline()
        waiting = b""
        while True:
            if path.stat().st_size < stream.tell():
                raise DataError(f"'{path}' got shorter while it was being followed; start again with the new file.")
            waiting += stream.read()
            whole = _whole_lines(waiting)
            waiting = waiting[len(whole) :]
            yield whole
            if not whole:
                time.sleep(poll)


def _whole_lines(text: bytes) -> bytes:
    """The text up to its last line break outside quotes."""
    end = text.rfind(b"\n") + 1
    while end and text.count(b'"', 0, end) % 2:
        end = text.rfind(b"\n", 0, end - 1) + 1
    return text[:end]
