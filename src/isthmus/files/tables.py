"""Writing tables that come piece by piece, to a .csv or .parquet file, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from isthmus.atomic import atomic
from isthmus.exceptions import OutputError


def write_tables(path: str | Path, tables: Iterable[Any], *, overwrite: bool = False) -> int:
    """Write Arrow tables of the same columns, one below the other; only one is in memory at a time.

    Parameters
    ----------
    path
        Ends in .csv or .parquet.
    tables
        Arrow tables; those after the first are cast to its types.
    overwrite
        Replace a file that is there.

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
        with _writer(path.suffix)(str(temporary), first.schema) as out:
            out.write_table(first)
            for table in whole:
                out.write_table(table.cast(first.schema))
                n_rows += table.num_rows
    return n_rows


def check_table_format(path: str | Path) -> None:
    """Raise an `OutputError` if the ending of a path is not one that `write_tables` knows."""
    if Path(path).suffix not in (".csv", ".parquet"):
        raise OutputError(f"'{path}' has the ending {Path(path).suffix!r}; use one of .csv, .parquet.")


def _writer(suffix: str) -> Any:
    from pyarrow.csv import CSVWriter  # noqa: PLC0415  # slow to import, and needed here alone
    from pyarrow.parquet import ParquetWriter  # noqa: PLC0415

    return CSVWriter if suffix == ".csv" else ParquetWriter
