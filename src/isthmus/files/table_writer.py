"""Writing tables that come piece by piece, to a .csv or .parquet file, whole or not at all."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from isthmus.atomic import atomic
from isthmus.exceptions import OutputError

if TYPE_CHECKING:
    import pyarrow as pa

FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes text that begins so for a formula, and runs it."""


def write_tables(
    path: str | Path, tables: Iterable[Any], *, overwrite: bool = False, escape_formulas: bool = False
) -> int:
    """Write Arrow tables of the same columns, one below the other; only one is in memory at a time.

    Parameters
    ----------
    path
        Ends in .csv or .parquet.
    tables
        Arrow tables; those after the first are cast to its types.
    overwrite
        Replace a file that is there.
    escape_formulas
        In a .csv file put an apostrophe before text that a spreadsheet would run as a formula (``=``, ``+``, ``-`` or
        ``@`` in front); numbers stay as they are. Without it cells are written as they are, so that a program reads
        back what was there.

    Returns
    -------
    int
        Rows written.

    Raises
    ------
    OutputError
        The ending is unknown, the file is there, cannot be written, or there is nothing to write.
    """
    path, whole = Path(path), iter(tables)
    check_table_format(path)
    with atomic(path, overwrite=overwrite) as temporary:
        first = next(whole, None)
        if first is None:
            raise OutputError(f"There are no rows to write to '{path}'.")
        n_rows = int(first.num_rows)
        with _writer(path.suffix, escape_formulas)(str(temporary), first.schema) as out:
            out.write_table(first)
            for table in whole:
                out.write_table(_like(table, first.schema, path))
                n_rows += table.num_rows
    return n_rows


def _like(table: pa.Table, schema: pa.Schema, path: Path) -> pa.Table:
    """A later table with the types of the first."""
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
    """Raise an `OutputError` if the ending of a path is not one that `write_tables` knows."""
    if Path(path).suffix not in (".csv", ".parquet"):
        raise OutputError(f"'{path}' has the ending {Path(path).suffix!r}; use one of .csv, .parquet.")


def _writer(suffix: str, escape_formulas: bool) -> Callable[..., Any]:
    from pyarrow.parquet import ParquetWriter  # noqa: PLC0415  # slow to import, and needed here alone

    def csv_file(path: str, schema: pa.Schema) -> _CSVFile:
        return _CSVFile(path, schema, escape_formulas)

    parquet_file: Callable[..., Any] = ParquetWriter
    return csv_file if suffix == ".csv" else parquet_file


class _CSVFile:
    """A CSV file that is written table by table; quotes stand only where a cell needs them.

    Arrow's own writer quotes every cell of text, so that numbers kept as the text of the file they come from would be
    quoted in the copy.
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
    """Floating numbers as the shortest text that gives them back; Python would write singles as doubles."""
    from pyarrow import compute, scalar, string, types  # noqa: PLC0415  # slow to import, and needed here alone

    if not types.is_floating(column.type):
        return column
    return compute.if_else(compute.is_nan(column), scalar(None, string()), column.cast(string()))


def _cell(cell: Any) -> Any:
    """A cell as CSV has it: truth values in small letters, nothing where it is missing."""
    return str(cell).lower() if isinstance(cell, bool) else "" if cell is None else cell


def escaped(cell: Any) -> Any:
    """Text with an apostrophe before it, if a spreadsheet would run it as a formula; numbers are no formulas.

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
