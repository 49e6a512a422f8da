"""Tables in files: CSV and other text, Parquet, Feather and Arrow, with one chunk in memory at a time."""

from __future__ import annotations

import os
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from pyarrow import csv, dataset, ipc, parquet

from isthmus.data.paths import check_regular_file
from isthmus.data.tables.dialect import FOUND_OUT, TextFormat, find_dialect
from isthmus.data.tables.errors import TableErrors
from isthmus.data.tables.table import BATCH_ROWS, Piece, Table, check_names_differ
from isthmus.exceptions import DataError, IsthmusWarning

TEXT_SUFFIXES = (".csv", ".tsv", ".tab", ".txt")
PARQUET_SUFFIXES = (".parquet", ".pq")
ARROW_SUFFIXES = (".feather", ".arrow", ".ipc")
SUFFIXES = (*TEXT_SUFFIXES, *(f"{suffix}.gz" for suffix in TEXT_SUFFIXES), *PARQUET_SUFFIXES, *ARROW_SUFFIXES)
"""Suffixes of table files."""


def open_stored(path: Path, text: TextFormat = FOUND_OUT) -> FileTable:
    """Open a table file; the suffix sets the format.

    Raises
    ------
    DataError
        The file does not exist, is not a regular file, or cannot be read.
    """
    check_regular_file(path)
    name = path.name.lower()
    if not name.endswith(SUFFIXES):
        raise DataError(f"'{path}' has the suffix {path.suffix!r}, but one of {', '.join(SUFFIXES)} is needed.")
    try:
        if name.endswith(PARQUET_SUFFIXES):
            return _ParquetTable(path)
        return DatasetTable(_arrow_dataset(path)) if name.endswith(ARROW_SUFFIXES) else CSVTable(path, text)
    except (pa.ArrowException, OSError, EOFError, UnicodeError) as error:
        kind = path.suffix[1:] if path.suffix.lower() != ".gz" else "a gzipped table"
        raise DataError(f"'{path}' cannot be read as {kind} ({_short(error)}); check the file.") from None


def _short(error: Exception) -> str:
    """A library's error text on one line, at most 200 characters: Arrow quotes the whole row."""
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else f"{text[:200]}…"


def _arrow_dataset(path: Path) -> dataset.Dataset:
    try:
        return dataset.dataset(path, format="feather")
    except pa.ArrowInvalid:
        with pa.memory_map(str(path)) as stream:  # the streaming format, without an index at its end
            return dataset.dataset(ipc.open_stream(stream).read_all())


class FileTable(Table):
    """A table in files, which are read sequentially and must not change meanwhile."""

    in_memory = False

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self._paths = [Path(path) for path in paths if os.path.exists(path)]  # noqa: PTH110  # may be a URL
        self._stamps = [_stamp(path) for path in self._paths]

    def _refuse_change(self) -> None:
        for path, stamp in zip(self._paths, self._stamps, strict=True):
            if _stamp(path) != stamp:
                raise DataError(
                    f"'{path}' changed while it was being read; wait for its writer to finish, or read a copy."
                )

    def pieces(self, columns: Sequence[str], errors: TableErrors, size: int = BATCH_ROWS) -> Iterator[Piece]:
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
                f"'{self._paths[0]}' changed while it was being read: it had {self.n_rows} rows, now {row}; read it "
                "again."
            )

    def _next(self, batches: Iterator[pa.RecordBatch]) -> pa.RecordBatch | None:
        """The next batch, or None at the end; a changed file is reported as such, not by the error that it causes."""
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError) as error:
            self._refuse_change()
            raise DataError(f"'{self._paths[0]}' cannot be read ({_short(error)}); check the file.") from None
        except UnicodeError:
            self._refuse_change()
            raise
        self._refuse_change()
        return batch

    @abstractmethod
    def _batches(self, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
        """Some columns of all rows."""


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Size, modification time and inode of a file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


class _ParquetTable(FileTable):
    """A Parquet file, with one chunk in memory at a time."""

    def __init__(self, path: Path) -> None:
        super().__init__([path])
        with parquet.ParquetFile(path) as file:
            self._schema, self.n_rows = file.schema_arrow, file.metadata.num_rows
        self.names = [str(name) for name in self._schema.names]
        check_names_differ(self.names, f"'{path}'")
        self.index = _pandas_index(self._schema)
        self.names = [name for name in self.names if name != self.index]

    def types(self) -> dict[str, pa.DataType | None]:
        return {name: self._schema.field(name).type for name in self.names}

    def _batches(self, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
        """Text stays dictionary-encoded, as it is in the file, which makes lookups faster."""
        text = [name for name in columns if pa.types.is_string(self._schema.field(name).type)]
        with parquet.ParquetFile(self._paths[0], read_dictionary=text, pre_buffer=False) as file:
            yield from file.iter_batches(size, columns=list(columns))


def _pandas_index(schema: pa.Schema) -> str | None:
    """The column in which pandas stores an unnamed index, which is not a feature."""
    if len(schema.names) < 2:
        return None
    return next((name for name in schema.names if name.startswith("__index_level_")), None)


class DatasetTable(FileTable):
    """An Arrow dataset: one or more files that Arrow reads as one table."""

    def __init__(self, given: dataset.Dataset) -> None:
        super().__init__(getattr(given, "files", []))
        self._dataset, self.n_rows = given, given.count_rows()
        self.names = [str(name) for name in given.schema.names]
        check_names_differ(self.names, "this dataset")
        self.index = _pandas_index(given.schema)
        self.names = [name for name in self.names if name != self.index]

    def types(self) -> dict[str, pa.DataType | None]:
        return {name: self._dataset.schema.field(name).type for name in self.names}

    def _batches(self, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
        kept = {"batch_readahead": 2, "fragment_readahead": 1}
        batches: Iterator[pa.RecordBatch] = self._dataset.to_batches(columns=list(columns), batch_size=size, **kept)
        return batches


class CSVTable(FileTable):
    """A text file, gzipped or not; every cell is read as text, and types are inferred from whole columns.

    Attributes
    ----------
    dialect
        The format of the file.
    """

    untyped = True
    BLOCK_BYTES = 8 * 2**20

    def __init__(self, path: Path, text: TextFormat = FOUND_OUT) -> None:
        super().__init__([path])
        self.dialect = find_dialect(path, text)
        self.delimiter = self.dialect.delimiter
        # Arrow gets positional names, because names in the file may be empty, repeated, or contain line breaks.
        self._keys = {name: f"f{place}" for place, name in enumerate(self.dialect.names) if name is not None}
        check_names_differ([name for name in self.dialect.names if name is not None], f"'{path}'")
        self.names = list(self._keys)
        self.n_rows = self._look_through(self.names[0]) if self.names else 0
        for note in self.dialect.notes:
            warnings.warn(f"'{path.name}': {note}.", IsthmusWarning, stacklevel=2)

    def _look_through(self, first: str) -> int:
        """Count the rows; an unnamed first column is an index, one named "Unnamed: 0" only if it counts the rows."""
        maybe = first == "" or first.startswith("Unnamed: ")
        n_rows, start, counting = 0, 0, maybe and len(self.names) > 1
        for batch in self._batches([first], BATCH_ROWS):
            if counting:
                numbers = _as_integers(batch.column(0))
                start = int(numbers[0]) if n_rows == 0 and numbers is not None and len(numbers) else start
                wanted = np.arange(n_rows, n_rows + batch.num_rows) + start
                counting = numbers is not None and start in (0, 1) and bool((numbers == wanted).all())
            n_rows += batch.num_rows
        if first == "" or (counting and n_rows > 1):
            self.index = first
            self.names = self.names[1:]
        return n_rows

    def types(self) -> dict[str, pa.DataType | None]:
        return dict.fromkeys(self.names)

    def _batches(self, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
        reading = self._reading(skip_rows=self.dialect.skipped, skip_rows_after_names=int(self.dialect.header))
        try:
            reader = csv.open_csv(self._paths[0], reading, self._parsing(), self._converting(columns))
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error) or "no data" in str(error).lower():
                return
            raise
        with reader:
            for batch in reader:
                yield (
                    batch.rename_columns(list(columns)) if columns else batch
                )  # without names Arrow would read all columns

    def _reading(self, **skipping: int) -> csv.ReadOptions:
        names = [f"f{place}" for place in range(len(self.dialect.names))]
        encoding = "utf8" if self.dialect.encoding in ("utf-8", "utf-8-sig") else self.dialect.encoding
        return csv.ReadOptions(block_size=self.BLOCK_BYTES, column_names=names, encoding=encoding, **skipping)

    def _parsing(self) -> csv.ParseOptions:
        """In a file of one column an empty line is a missing cell; in other files it is not a row."""
        kept = len(self.dialect.names) == 1
        return csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True, ignore_empty_lines=not kept)

    def _converting(self, columns: Sequence[str]) -> csv.ConvertOptions:
        """Empty cells are missing; whether markers such as NA are missing depends on their column."""
        keys = [self._keys[name] for name in columns]
        return csv.ConvertOptions(
            column_types=dict.fromkeys(keys, pa.string()),
            include_columns=keys,
            strings_can_be_null=True,
            null_values=[""],
        )

    def parse(self, lines: BinaryIO, first_row: int) -> pa.Table:
        """Parse lines of the file that start at row `first_row`, without a header."""
        try:
            read = csv.read_csv(lines, self._reading(), self._parsing(), self._converting(self.names))
        except pa.ArrowInvalid as error:
            raise DataError(
                f"'{self._paths[0]}' cannot be read from row {first_row} onwards ({_short(error)}); check the file."
            ) from None
        return read.rename_columns(self.names)


def _as_integers(texts: pa.Array) -> np.ndarray | None:
    """Texts as integers; None if one is not an integer."""
    try:
        numbers: np.ndarray = texts.cast(pa.int64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return None
    return None if texts.null_count else numbers
