"""A table piece by piece, as a file has it or as a file grows, each piece knowing where in the file it stands."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from isthmus.data.tables.cells import Cells, numbers
from isthmus.data.tables.inputs import CSVTable, MemoryTable, of_arrow, open_table
from isthmus.data.tables.mistakes import Mistakes, told_at_once
from isthmus.data.tables.schema import Schema
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

    def typed(self, schema: Schema) -> pa.Table:
        """The rows with numbers as such where the schema reads text as numbers; text that is none is missing."""
        table = self.arrow
        for place, name in enumerate(self.names):
            column = schema[name] if name in schema.names else None
            if self.untyped and column is not None and column.family == "number":
                cells = Cells(name, table.column(name).combine_chunks(), range(len(table)), Mistakes())
                table = table.set_column(place, name, pa.array(numbers(cells), from_pandas=True))
        return table


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
    with told_at_once() as mistakes:
        for piece in opened.pieces(opened.names, mistakes, size):
            mistakes.refuse()
            columns = pa.table(list(piece.columns.values()), names=list(piece.columns))
            made = TablePiece(columns, piece.rows.start, untyped=opened.untyped)
            made.n_rows_of_all = opened.n_rows
            yield made


def follow(path: str | Path, *, poll: float = 1.0, idle: float | None = None) -> Iterator[TablePiece]:
    """The rows of a CSV file, and those that are written to its end later, as soon as they are whole.

    Parameters
    ----------
    path
        A .csv file with a line of names.
    poll
        Seconds between looks at the file, > 0.
    idle
        Stop when nothing was written for so many seconds; None: never.

    Raises
    ------
    DataError
        The file is of another kind, gets shorter, or a line does not have as many cells as there are names.
    """
    opened = open_table(path)
    if not isinstance(opened, CSVTable) or str(path).endswith(".gz"):
        raise DataError(f"'{path}' cannot be followed; only .csv files can grow at their end.")
    row, since = 0, time.monotonic()
    for text in _grown(Path(path), poll):
        if text:
            batch = opened.parse(io.BytesIO(text), first_row=row)
            yield TablePiece(batch, row, untyped=True)
            row, since = row + batch.num_rows, time.monotonic()
        elif idle is not None and time.monotonic() - since >= idle:
            return


def _grown(path: Path, poll: float) -> Iterator[bytes]:
    """What was written since the last look, in whole lines, without the line of names; nothing where nothing was."""
    with path.open("rb") as stream:
        stream.readline()
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
