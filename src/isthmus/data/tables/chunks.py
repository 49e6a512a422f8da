"""A table piece by piece, as a file has it or as a file grows, each piece knowing where in the file it stands."""

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
from isthmus.data.tables.errors import Mistakes, told_at_once
from isthmus.data.tables.numerals import PLAIN, trimmed
from isthmus.data.tables.opening import MemoryTable, of_arrow, open_table
from isthmus.data.tables.schema import Schema
from isthmus.data.tables.stored import CSVTable
from isthmus.exceptions import DataError

PIECE_ROWS = 2**14


class TablePiece(MemoryTable):
    """Some neighbouring rows of a table, in memory: a table itself, which tells mistakes by the rows of the whole.

    Attributes
    ----------
    arrow
        The rows as an Arrow table; all cells of a file of text are text.
    first_row
        Number of the first row in the whole table, from 0.
    n_rows_of_all
        Rows of the whole table, where they are known.
    """

    n_rows_of_all: int | None = None

    def __init__(self, arrow: pa.Table, first_row: int, *, untyped: bool = False) -> None:
        super().__init__(list(arrow.column_names), arrow.num_rows, of_arrow(arrow), arrow.schema.types)
        self.arrow, self.first_row, self.untyped = arrow, first_row, untyped

    def types(self) -> dict[str, pa.DataType | None]:
        return dict.fromkeys(self.names) if self.untyped else super().types()

    def chosen(self, rows: np.ndarray) -> TablePiece:
        """Some of the rows, by their places in this piece."""
        return TablePiece(self.arrow.take(pa.array(rows)), self.first_row, untyped=self.untyped)

    def numbers(self) -> np.ndarray:
        """All columns as numbers, (n, d) float64, NaN where a cell is missing.

        Raises
        ------
        DataError
            Cells that are no numbers, with column and row.
        """
        told = range(self.first_row, self.first_row + self.n_rows)
        with told_at_once() as mistakes:
            columns = [
                as_numbers(Cells(name, self.arrow.column(place).combine_chunks(), told, mistakes))
                for place, name in enumerate(self.names)
            ]
        return np.stack(columns, axis=1)

    def typed(self, schema: Schema) -> pa.Table:
        """The rows with numbers as such where the schema reads text as numbers; text that is none is missing.

        Integers are exact up to 64 bits; a column with one that is not stays text.
        """
        table = self.arrow
        for place, name in enumerate(self.names):
            column = schema.get(name)
            if self.untyped and column is not None and column.family == "number":
                cells = Cells(name, table.column(name).combine_chunks(), range(len(table)), Mistakes())
                table = table.set_column(place, name, _typed(column, cells))
        return table


def _typed(column: Column, cells: Cells) -> pa.Array:
    """Numbers of the type that the whole column was found to have, so that it is the same in every piece."""
    text = trimmed(cells.array)
    if column.arrow.startswith("int") and column.numerals == PLAIN:
        try:
            return text.cast(pa.int64())
        except pa.ArrowInvalid:
            pass  # a later file may have fractions where the first had none
    return pa.array(column.numbers(cells), from_pandas=True)


def read_pieces(table: Any, size: int = PIECE_ROWS) -> Iterator[TablePiece]:
    """All rows of a table in order, some at a time; files larger than memory are read as they are needed.

    Parameters
    ----------
    table
        Whatever `learn_schema` takes.
    size
        Rows a piece, at most.

    Examples
    --------
    >>> [piece.n_rows for piece in read_pieces({"x": [1, 2, 3]}, 2)]
    [2, 1]
    """
    opened = open_table(table)
    if not opened.names:
        raise DataError("The table has 0 rows and 0 columns; at least a line of names is needed.")
    with told_at_once() as mistakes:
        for piece in opened.pieces(opened.names, mistakes, size):
            mistakes.refuse()
            columns = pa.table(list(piece.columns.values()), names=list(piece.columns))
            made = TablePiece(columns, piece.rows.start, untyped=opened.untyped)
            made.n_rows_of_all = opened.n_rows
            yield made


def follow(
    path: str | Path, *, poll: float = 1.0, idle: float | None = None, text: TextFormat = FOUND_OUT
) -> Iterator[TablePiece]:
    """The rows of a CSV file, and those that are written to its end later, as soon as they are whole.

    Parameters
    ----------
    path
        A file of text such as .csv, not gzipped.
    poll
        Seconds between looks at the file, > 0.
    idle
        Stop when nothing was written for so many seconds; None: never.
    text
        How the file is written, where that is known.

    Raises
    ------
    DataError
        The file is of another kind, gets shorter, or a line does not have as many cells as there are names.
    """
    opened = open_table(path, text)
    if not isinstance(opened, CSVTable) or str(path).endswith(".gz"):
        raise DataError(f"'{path}' cannot be followed; only .csv files can grow at their end.")
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
    """What was written since the last look, in whole lines, without the line of names; nothing where nothing was."""
    with path.open("rb") as stream:
        for _ in range(dialect.skipped):
            stream.readline()
        names = stream.readline() if dialect.header else b""
        while names.count(b'"') % 2:  # a name with a line break in it
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
    """The beginning of a text up to its last line break that is not within quotes."""
    end = text.rfind(b"\n") + 1
    while end and text.count(b'"', 0, end) % 2:
        end = text.rfind(b"\n", 0, end - 1) + 1
    return text[:end]
