"""A table as a `Source` of encoded rows."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from isthmus.data.sources import CHUNK_BYTES, MemoryMappedSource, Rows, Source
from isthmus.data.tables.errors import raised_together
from isthmus.data.tables.opening import MemoryTable, open_table
from isthmus.data.tables.schema import Schema
from isthmus.data.tables.table import BATCH_ROWS, Table
from isthmus.exceptions import DataError


class TableSource(Source):
    """The rows of a table as a schema encodes them, (n, width) float32; missing cells are NaN.

    Frames and Arrow tables are encoded on access. Files are read sequentially, one chunk in memory at a time. The first
    random access, as in training on a file larger than memory, writes the encoded rows to a temporary file, which
    serves all later accesses.

    Parameters
    ----------
    table
        Any input of `learn_schema`.
    schema
        The schema learned from such a table.
    extra
        ``"error"`` or ``"ignore"``: what to do with columns that the schema does not contain.
    scratch
        Folder for the temporary file of 4 · n · width bytes; None: the system's default.

    Raises
    ------
    DataError
        Columns differ from the schema's. While reading: unusable cells, with column and row, or a file that changed.

    Examples
    --------
    >>> from isthmus.data.tables import learn_schema
    >>> table = {"age": [31.5, 48.0, 27.25], "town": ["Ulm", "Bonn", "Bonn"]}
    >>> TableSource(table, learn_schema(table)).read(slice(0, 2)).round(2)
    array([[-0.46,  0.  ,  1.  ,  0.  ],
           [ 1.39,  1.  ,  0.  ,  0.  ]], dtype=float32)
    """

    dtype = np.dtype(np.float32)

    def __init__(self, table: Any, schema: Schema, *, extra: str = "error", scratch: str | Path | None = None) -> None:
        self.table: Table = open_table(table)
        schema.check(self.table, extra=extra)
        self.schema = schema
        self.n_rows, self.feature_shape = self.table.n_rows, (schema.width,)
        self.feature_names = schema.feature_names
        self.random_access = self.table.in_memory
        self._scratch = scratch
        self._written: MemoryMappedSource | None = None

    def read(self, rows: Rows) -> np.ndarray:
        numbers = range(*rows.indices(self.n_rows)) if isinstance(rows, slice) else rows
        out = self._empty(len(numbers))
        if not out.size:
            return out
        if not isinstance(self.table, MemoryTable):
            return self._on_disk().read(rows)
        with raised_together() as errors:
            for start in range(0, len(numbers), BATCH_ROWS):
                part = numbers[start : start + BATCH_ROWS]
                cut = slice(part.start, part.stop) if isinstance(part, range) else part
                columns, told = self.table.take(cut, self.schema.used, errors), self.table.rows_of(cut)
                self.schema.encode_columns(columns, told, errors, out[start : start + len(part)])
        return out

    def pick(self, rows: np.ndarray) -> np.ndarray:
        """Some rows by ascending indices, in one pass and without a temporary file."""
        if self.random_access or self._written is not None:
            return self.read(rows)
        out = self._empty(len(rows))
        with raised_together() as errors:
            for piece in self.table.pieces(self.schema.used, errors):
                start, end = np.searchsorted(rows, [piece.rows.start, piece.rows.stop])
                places = rows[start:end] - piece.rows.start
                columns = {name: array.take(pa.array(places)) for name, array in piece.columns.items()}
                told = np.asarray(piece.told)[places]
                self.schema.encode_columns(columns, told, errors, out[start:end])
                errors.refuse()
        return out

    def chunks(self, rows_per_chunk: int | None = None) -> Iterator[np.ndarray]:
        size = rows_per_chunk or max(1, CHUNK_BYTES // (4 * max(1, self.schema.width)))
        if self._written is not None or self.table.in_memory:
            yield from super().chunks(size)
            return
        yield from self._encoded(size)

    def _encoded(self, size: int) -> Iterator[np.ndarray]:
        """All rows in order, read from the file and regrouped into chunks of `size` rows."""
        out, filled = self._empty(size), 0
        with raised_together() as errors:
            for piece in self.table.pieces(self.schema.used, errors):
                for part in piece.cut(size, size - filled):
                    end = filled + len(part.rows)
                    self.schema.encode_columns(part.columns, part.told, errors, out[filled:end])
                    filled = end
                    if filled == size:
                        errors.refuse()
                        yield out
                        out, filled = self._empty(size), 0
                errors.refuse()
        if filled:
            yield out[:filled]

    def _empty(self, n_rows: int) -> np.ndarray:
        return np.zeros((n_rows, self.schema.width), np.float32)

    def _on_disk(self) -> MemoryMappedSource:
        """The encoded rows in an unnamed temporary file, which is deleted with this object."""
        if self._written is None:
            self._refuse_full_disk()
            with tempfile.TemporaryFile(dir=self._scratch) as file:
                for chunk in self._encoded(BATCH_ROWS):
                    file.write(chunk.tobytes())
                file.flush()
                self._written = MemoryMappedSource(
                    np.memmap(file, np.float32, "r", shape=(self.n_rows, self.schema.width))  # type: ignore[call-overload]
                )
        return self._written

    def _refuse_full_disk(self) -> None:
        folder = Path(self._scratch or tempfile.gettempdir())
        needed, free = 4 * self.n_rows * self.schema.width, shutil.disk_usage(folder).free
        if needed > free:
            raise DataError(
                f"The encoded rows take {needed / 1e9:.1f} GB in '{folder}', which has {free / 1e9:.1f} GB left; "
                "free some space, or pass another folder to TableSource (scratch=…)."
            )
