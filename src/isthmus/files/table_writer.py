"""Atomic writing of tables in chunks to a .csv or .parquet file."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from isthmus.atomic import atomic
from isthmus.exceptions import OutputError

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")
"""Spreadsheets run text that starts with one of these as a formula."""


def write_tables(
    path: str | Path, tables: Iterable[Any], *, overwrite: bool = False, escape_formulas: bool = False
) -> int:
    """Write Arrow tables with the same columns one after the other; only one is in memory at a time.

    Parameters
    ----------
    path, overwrite
        As for `write_rows`; the suffix is .csv or .parquet.
    tables
        Arrow tables; later ones are cast to the types of the first.
    escape_formulas
        In a .csv file, prefix text that a spreadsheet would run as a formula (starting with ``=``, ``+``, ``-`` or
        ``@``) with an apostrophe; numbers are not changed. By default cells are written unchanged, so that programs
        read the original values.

    Returns, errors
    ---------------
    As for `write_rows`.
    """
    path, whole = Path(path), iter(tables)
    check_table_format(path)
    with atomic(path, overwrite=overwrite) as temporary:
        first = first_chunk(whole, path)
        n_rows = int(first.num_rows)
        with _writer(path.suffix, escape_formulas)(str(temporary), first.schema) as out:
            out.write_table(first)
            for table in whole:
                out.write_table(_like(table, first.schema, path))
                n_rows += table.num_rows
    return n_rows


def first_chunk(chunks: Iterator[T], path: Path) -> T:
    """The first of some chunks; without one there is nothing to write."""
    for first in chunks:
        return first
    raise OutputError(f"There are 0 rows to write to '{path}', but at least 1 is needed; check the table.")


def _like(table: pa.Table, schema: pa.Schema, path: Path) -> pa.Table:
    """Cast a later table to the types of the first."""
    from pyarrow import ArrowInvalid  # noqa: PLC0415  # slow to import, and needed here alone

    try:
        return table.cast(schema)
    except ArrowInvalid as error:
        reason = str(error)[:200]
        raise OutputError(
            f"'{path}' needs one type a column, but a later row does not fit the type of the first rows ({reason}); "
            "give every chunk the same types, such as text."
        ) from None


def check_table_format(path: str | Path) -> None:
    """Raise an `OutputError` if `write_tables` does not support the suffix of a path."""
    if Path(path).suffix not in (".csv", ".parquet"):
        raise OutputError(f"'{path}' has the suffix {Path(path).suffix!r}; use one of .csv, .parquet.")


def _writer(suffix: str, escape_formulas: bool) -> Callable[..., Any]:
    from pyarrow.parquet import ParquetWriter  # noqa: PLC0415  # slow to import, and needed here alone

    def csv_file(path: str, schema: pa.Schema) -> _CSVFile:
        return _CSVFile(path, schema, escape_formulas)

    parquet_file: Callable[..., Any] = ParquetWriter
    return csv_file if suffix == ".csv" else parquet_file


class _CSVFile:
    """A CSV file that is written table by table; only cells that need quotes are quoted.

    Arrow's writer quotes every string, including numbers that are kept as the text of their source file.
    """

    def __init__(self, path: str, schema: pa.Schema, escape_formulas: bool) -> None:
        self._stream = Path(path).open("w", encoding="utf-8", newline="")  # noqa: SIM115  # closed on exit
        self._out = csv.writer(self._stream, lineterminator="\n")
        self._escaped = escape_formulas
        self._out.writerow(self._words(schema.names))

    def write_table(self, table: pa.Table) -> None:
        columns = [self._words(_shortest(column).to_pylist()) for column in table.columns]
        self._out.writerows(zip(*columns, strict=True))

    def _words(self, cells: list[Any]) -> list[Any]:
        return [escaped(cell) if self._escaped else cell for cell in map(_cell, cells)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


def _shortest(column: Any) -> Any:
    """Floats as their shortest exact text; Python would write single-precision values as doubles."""
    from pyarrow import compute, scalar, string, types  # noqa: PLC0415  # slow to import, and needed here alone

    if not types.is_floating(column.type):
        return column
    return compute.if_else(compute.is_nan(column), scalar(None, string()), column.cast(string()))


def _cell(cell: Any) -> Any:
    """A cell in CSV form: booleans in lower case, "" for a missing cell."""
    return str(cell).lower() if isinstance(cell, bool) else "" if cell is None else cell


def escaped(cell: Any) -> Any:
    """Prefix text with an apostrophe if a spreadsheet would run it as a formula; numbers are not changed.

    >>> escaped("=1+1"), escaped("-5.2"), escaped("Ulm")
    ("'=1+1", '-5.2', 'Ulm')
    """
    if not isinstance(cell, str) or not cell.startswith(FORMULA_SIGNS):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell
