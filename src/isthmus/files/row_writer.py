"""Atomic writing of rows in chunks to a .npy, .csv or .parquet file."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from isthmus.atomic import atomic
from isthmus.exceptions import OutputError
from isthmus.files.table_writer import escaped, first_chunk

Chunks = Iterator[np.ndarray]


def write_rows(
    path: str | Path,
    chunks: Iterable[np.ndarray],
    *,
    columns: Sequence[str] | None = None,
    overwrite: bool = False,
    escape_formulas: bool = False,
) -> int:
    """Write rows to a file; its suffix sets the format. Only one chunk is in memory at a time.

    Parameters
    ----------
    path
        A path with the suffix .npy, .csv or .parquet.
    chunks
        Arrays of rows, (k,) or (k, ...), all of the same row shape and dtype. Rows of tables are flattened.
    columns
        Column names of a table; None: ``"x0"``, ``"x1"``, … (a header of plain numbers could be read as data).
    overwrite
        Whether to replace an existing file.
    escape_formulas
        In a .csv file, prefix column names that a spreadsheet would run as a formula with an apostrophe.

    Returns
    -------
    int
        Number of rows written.

    Raises
    ------
    OutputError
        The suffix is unknown, the file exists or cannot be written, or there are no rows.
    """
    path = Path(path)
    check_format(path)
    if escape_formulas and path.suffix == ".csv" and columns is not None:
        columns = [escaped(str(name)) for name in columns]
    whole = iter(chunks)
    with atomic(path, overwrite=overwrite) as temporary:
        return _WRITERS[path.suffix](temporary, first_chunk(whole, path), whole, columns)


def check_format(path: str | Path) -> None:
    """Raise an `OutputError` if `write_rows` does not support the suffix of a path."""
    if Path(path).suffix not in _WRITERS:
        raise OutputError(f"'{path}' has the suffix {Path(path).suffix!r}; use one of {', '.join(_WRITERS)}.")


def _write_npy(path: Path, first: np.ndarray, rest: Chunks, _: Sequence[str] | None) -> int:
    n_rows = 0
    with path.open("wb") as stream:
        _npy_header(stream, first, 2**62)  # reserves space for any number of rows
        start = stream.tell()
        for chunk in itertools.chain([first], rest):
            stream.write(np.ascontiguousarray(chunk, first.dtype).tobytes())
            n_rows += len(chunk)
        stream.seek(0)
        _npy_header(stream, first, n_rows, start)
    return n_rows


def _npy_header(stream: BinaryIO, like: np.ndarray, n_rows: int, length: int | None = None) -> None:
    """Write a version 1.0 header, padded with spaces to a total of `length` bytes."""
    shape = (n_rows, *like.shape[1:])
    text = repr({"descr": np.lib.format.dtype_to_descr(like.dtype), "fortran_order": False, "shape": shape})
    whole = length or -(-(10 + len(text) + 1) // 64) * 64
    stream.write(b"\x93NUMPY\x01\x00" + (whole - 10).to_bytes(2, "little"))
    stream.write(text.ljust(whole - 11).encode("latin1") + b"\n")


def _write_csv(path: Path, first: np.ndarray, rest: Chunks, columns: Sequence[str] | None) -> int:
    from pyarrow.csv import CSVWriter  # noqa: PLC0415  # slow to import, and needed here alone

    return _write_table(path, first, rest, columns, CSVWriter)


def _write_parquet(path: Path, first: np.ndarray, rest: Chunks, columns: Sequence[str] | None) -> int:
    from pyarrow.parquet import ParquetWriter  # noqa: PLC0415  # slow to import, and needed here alone

    return _write_table(path, first, rest, columns, ParquetWriter)


def _write_table(
    path: Path, first: np.ndarray, rest: Chunks, columns: Sequence[str] | None, writer: Callable[..., Any]
) -> int:
    names = _column_names(first, columns)
    n_rows = 0
    table = _table(first, names)
    with writer(str(path), table.schema) as out:
        for chunk in itertools.chain([first], rest):
            out.write_table(_table(chunk, names))
            n_rows += len(chunk)
    return n_rows


def _column_names(first: np.ndarray, columns: Sequence[str] | None) -> list[str]:
    width = int(np.prod(first.shape[1:]))
    names = [f"x{index}" for index in range(width)] if columns is None else [str(name) for name in columns]
    if len(names) != width:
        raise OutputError(f"The rows have {width} columns, but {len(names)} names were given; give one per column.")
    return names


def _table(chunk: np.ndarray, names: list[str]) -> Any:
    from pyarrow import table  # noqa: PLC0415  # slow to import, and needed here alone

    flat = chunk.reshape(len(chunk), -1)
    return table({name: np.ascontiguousarray(flat[:, index]) for index, name in enumerate(names)})


_WRITERS: dict[str, Callable[[Path, np.ndarray, Chunks, Sequence[str] | None], int]] = {
    ".npy": _write_npy,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}
