"""Read a table file as a pandas frame; the type of each column is inferred from all its cells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pyarrow import compute

from isthmus.data.tables.cells import Cells, is_missing_word, level_numbers, moments, numbers
from isthmus.data.tables.dialect import FOUND_OUT, TextFormat
from isthmus.data.tables.errors import TableErrors, raised_together
from isthmus.data.tables.kind_inference import Decision
from isthmus.data.tables.numerals import (
    EXPONENT_CODE,
    MISSING_WORDS,
    Writing,
    decide_mark,
    holds_codes,
    matches,
    trimmed,
)
from isthmus.data.tables.profiling import Watch
from isthmus.data.tables.stored import FileTable, open_stored
from isthmus.exceptions import DataError

if TYPE_CHECKING:
    import pandas as pd

_UNCLEAR = r"^((19|20)\d{6}|[1-9]\d{0,2}\.\d{3})$"
"""Ambiguous numbers: dates such as 20241231, or 1.234 with a thousands separator. The column or the file decides."""
_EXACT = 2**53
"""Largest integer up to which doubles are exact; a frame stores integer columns with missing cells as doubles."""


def read_frame(
    path: Path, text: TextFormat = FOUND_OUT, *, keep: Sequence[str] = ()
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read a table file as two pandas frames: the features, and the columns in `keep`.

    Parameters
    ----------
    path
        Path of a text, Parquet or Arrow file.
    text
        The format of a text file, as far as it is known.
    keep
        Names of columns that are not features; ``"index"`` is the index column.

    Raises
    ------
    DataError
        The file cannot be read, has no rows, or lacks a column of `keep`.
    """
    table = open_stored(path, text)
    if table.n_rows == 0:
        raise DataError(f"'{path}' has 0 samples (rows), but at least one is needed; check the file.")
    with raised_together() as errors:
        names = [*table.names, *([] if table.index is None else [table.index])]
        found = _whole(table, names, errors)
        columns = _typed(found, table.delimiter) if table.untyped else found
    frame = pa.table([columns[name] for name in table.names], names=table.names).to_pandas()
    if table.index is not None:
        frame.index = pa.table({"index": columns[table.index]}).to_pandas()["index"]
        frame.index.name = None
    return _parted(frame, keep, path)


def _parted(frame: pd.DataFrame, keep: Sequence[str], path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    names = [name for name in keep if name in frame.columns or name != "index"]
    missing = [name for name in names if name not in frame.columns]
    if missing:
        known = ", ".join(map(repr, frame.columns[:20])) + (", …" if len(frame.columns) > 20 else "")
        raise DataError(f"'{path}' has no column {missing[0]!r} to keep, only {known}; check the name.")
    kept = frame[names].copy()
    if "index" in keep and "index" not in names:
        kept.insert(0, "index", frame.index)
    return frame.drop(columns=names), kept


def _whole(table: FileTable, names: Sequence[str], errors: TableErrors) -> dict[str, pa.Array]:
    parts: dict[str, list[pa.Array]] = {name: [] for name in names}
    for piece in table.pieces(names, errors):
        for name, array in piece.columns.items():
            parts[name].append(array.dictionary_decode() if pa.types.is_dictionary(array.type) else array)
    return {name: pa.chunked_array(found).combine_chunks() for name, found in parts.items()}


def _typed(columns: dict[str, pa.Array], delimiter: str | None) -> dict[str, pa.Array]:
    """Columns of text converted to their inferred types."""
    plain = {name: _plain_numbers(cells) for name, cells in columns.items()}
    watches = {}
    for name, cells in columns.items():
        if plain[name] is None:
            watches[name] = Watch(name)
            watches[name].look(Cells(name, cells, range(len(cells)), TableErrors()))
    # Columns of plain fractions were not profiled, but are evidence for a decimal point too.
    fractions = any(typed is not None and _has_fractions(typed) for typed in plain.values())
    pointed = [(Writing("."), Writing(",", odd=("", 0)))] if fractions else []
    mark = decide_mark([*pointed, *(watch.writings for watch in watches.values())], delimiter)
    return {
        name: _decided(cells, watches[name], mark) if typed is None else typed
        for (name, cells), typed in zip(columns.items(), plain.values(), strict=True)
    }


def _plain_numbers(cells: pa.Array) -> pa.Array | None:
    """Cells as numbers if all are plain (digits, point, sign), the most common and fastest case; else None."""
    text = trimmed(cells)
    if text.null_count == len(text):
        return pa.nulls(len(text), pa.float64())
    if holds_codes(text) or matches(text, EXPONENT_CODE).any() or matches(text.slice(0, 20), _UNCLEAR).all():
        return None
    for kind in (pa.int64(), pa.float64()):
        try:
            typed = text.cast(kind)
        except pa.ArrowInvalid:
            continue
        return typed if not text.null_count or kind != pa.int64() else _with_holes(typed)
    return None


def _has_fractions(numbers: pa.Array) -> bool:
    values = numbers.to_numpy(zero_copy_only=False)
    return values.dtype.kind == "f" and bool((np.nan_to_num(values) % 1 != 0).any())


def _with_holes(integers: pa.Array) -> pa.Array | None:
    """Integers with missing cells as doubles; None if doubles would round them."""
    largest = compute.max(compute.abs(integers)).as_py()
    return integers.cast(pa.float64()) if largest <= _EXACT else None


def _decided(cells: pa.Array, watch: Watch, mark: str) -> pa.Array:
    decision = Decision(watch, True, 50, "auto", TableErrors(), mark)
    named = Cells(watch.name, cells, range(len(cells)), TableErrors())
    if decision.is_truth:
        found = level_numbers(named, pa.array([0.0, 1.0]))
        return pa.array(found == 1, mask=(found != 0) & (found != 1))
    if decision.numerals is not None and not _rounds(cells):
        values = numbers(named, decision.numerals)
        whole = not np.isnan(values).any() and bool((values == np.round(values)).all()) and decision.numerals.unit == ""
        return pa.array(values.astype(np.int64) if whole and decision.numerals.grouped else values, from_pandas=True)
    if decision.date_form is not None:
        values = moments(named, decision.date_form)
        return pa.array(np.nan_to_num(values).astype(np.int64), mask=np.isnan(values)).cast(pa.timestamp("us"))
    words = watch.words
    kept = pa.array([word for word in MISSING_WORDS if word in words], cells.type)
    gone = is_missing_word(cells) & ~compute.is_in(cells, value_set=kept).to_numpy(zero_copy_only=False)
    return compute.if_else(pa.array(gone), pa.scalar(None, cells.type), cells) if gone.any() else cells


def _rounds(cells: pa.Array) -> bool:
    """Whether there are integers that a double would round; such columns stay text."""
    return bool(matches(trimmed(cells), r"^[+-]?\d{17,}$").any())
