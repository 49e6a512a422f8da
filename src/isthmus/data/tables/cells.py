"""Conversion of the cells of one column to numbers, timestamps or levels; failures are recorded with their row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute

from isthmus.data.tables.dates import parse_dates
from isthmus.data.tables.errors import TableErrors
from isthmus.data.tables.numerals import MISSING_WORDS, PLAIN, Numerals, matches, parse_numbers, trimmed

DATE = r"^\d{4}-\d{2}-\d{2}"
ZONE = r":.*(Z|[+-]\d{2}(:?\d{2})?)$"
EARLIEST, LATEST = (int(np.datetime64(day, "us").astype(np.int64)) for day in ("1678-01-01", "2262-01-01"))
MISSING = -1
CORRECT = "correct or empty these cells"


def family(kind: pa.DataType) -> str:
    """The family of an Arrow type: number, boolean, text, date, missing, or its own name.

    >>> family(pa.int8()), family(pa.dictionary(pa.int8(), pa.string())), family(pa.timestamp("ns", "UTC"))
    ('number', 'text', 'date')
    """
    types = pa.types
    if types.is_dictionary(kind):
        return family(kind.value_type)
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_duration(kind):
        return "number"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    if types.is_date(kind) or types.is_timestamp(kind):
        return "date"
    return "boolean" if types.is_boolean(kind) else "missing" if types.is_null(kind) else str(kind)


PLURAL = {"number": "numbers", "boolean": "truth values", "date": "dates", "missing": "nothing"}


def plural(family_name: str) -> str:
    """The plural of a family, for messages."""
    return PLURAL.get(family_name, family_name)


@dataclass(frozen=True)
class Cells:
    """Some cells of one column, their row numbers, and the collection for errors."""

    name: str
    array: pa.Array
    rows: Sequence[int] | np.ndarray
    errors: TableErrors

    def __post_init__(self) -> None:
        """Treat empty strings as missing, as in CSV files and in ONNX graphs, which have no other null string."""
        if self.family == "text":
            object.__setattr__(self, "array", _without_empty(self.array))

    @property
    def family(self) -> str:
        """The family of the cells."""
        return family(self.array.type)

    def blame(self, bad: np.ndarray, what: str, remedy: str) -> None:
        """Record an error in the cells where `bad`, (n,), is true."""
        if bad.any():
            self.errors.add(self.name, what, int(self.rows[int(bad.argmax())]), n=int(bad.sum()), remedy=remedy)

    def mismatch(self, needed: str) -> np.ndarray:
        """Record that the column has the wrong type; all its cells count as missing."""
        seen = ~_mask(self.array)
        self.blame(seen, f"holds {plural(self.family)} instead of {needed}", "convert it")
        return np.full(len(self.array), np.nan)

    def plain(self) -> Cells:
        """The same cells without dictionary encoding."""
        if not pa.types.is_dictionary(self.array.type):
            return self
        return Cells(self.name, self.array.dictionary_decode(), self.rows, self.errors)


def _without_empty(array: pa.Array) -> pa.Array:
    """Text with empty strings replaced by nulls."""
    if not pa.types.is_dictionary(array.type):
        empty = compute.equal(array, pa.scalar("", array.type)).fill_null(fill_value=False)
        return compute.if_else(empty, pa.scalar(None, array.type), array) if compute.any(empty).as_py() else array
    empty = np.flatnonzero(_mask_of_empty(array.dictionary))
    if not len(empty):
        return array
    gone = compute.is_in(array.indices, value_set=pa.array(empty, array.indices.type))
    indices = compute.if_else(gone, pa.scalar(None, array.indices.type), array.indices)
    return pa.DictionaryArray.from_arrays(indices, array.dictionary, ordered=array.type.ordered)


def _mask_of_empty(words: pa.Array) -> np.ndarray:
    found: np.ndarray = compute.equal(words, pa.scalar("", words.type)).fill_null(fill_value=False).to_numpy(False)
    return found


def _mask(array: pa.Array) -> np.ndarray:
    mask: np.ndarray = array.is_null().to_numpy(zero_copy_only=False)
    return mask


# -- numbers -----------------------------------------------------------------------------------------------------------


def numbers(cells: Cells, numerals: Numerals = PLAIN) -> np.ndarray:
    """Cells as finite float64, (n,), NaN for missing cells; text is parsed, booleans are 0 and 1."""
    cells = cells.plain()
    if cells.family == "text":
        values = _parsed(cells, numerals)
    elif cells.family in ("number", "boolean"):
        values = _as_floats(cells.array)
    elif cells.family == "missing":
        return np.full(len(cells.array), np.nan)
    else:
        return cells.mismatch("numbers")
    infinite = np.isinf(values)
    if infinite.any():
        floats = pa.types.is_floating(cells.array.type)
        kind = "infinite values" if floats else f"numbers beyond ±1.8e308, such as {_first(cells.array, infinite)!s}"
        cells.blame(infinite, f"has {kind}", CORRECT)
    return np.where(infinite, np.nan, values) if infinite.any() else values


def _as_floats(array: pa.Array) -> np.ndarray:
    array = array.cast(pa.int64()) if pa.types.is_duration(array.type) else array
    floats: np.ndarray = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return floats


def _parsed(cells: Cells, numerals: Numerals) -> np.ndarray:
    text = trimmed(cells.array)
    if numerals.decimal == "." and numerals.unit != "%":  # covers most columns, and is twenty times faster
        try:
            return _as_floats(text)
        except pa.ArrowInvalid:
            pass
    values = parse_numbers(text, numerals)
    bad = np.isnan(values) & ~_mask(text)
    how = (
        f"{' with decimal commas' if numerals.decimal == ',' else ''}{f' in {numerals.unit}' if numerals.unit else ''}"
    )
    cells.blame(bad, f"holds numbers{how}, but also text such as {_first(text, bad)!r}", CORRECT)
    return values


def _first(array: pa.Array, bad: np.ndarray) -> Any:
    return array[int(bad.argmax())].as_py() if bad.any() else None


# -- timestamps --------------------------------------------------------------------------------------------------------


def moments(cells: Cells, form: str = "") -> np.ndarray:
    """Cells as microseconds since 1970 in UTC, float64, (n,), NaN for missing cells.

    Text is parsed as dates of that form (see `isthmus.data.tables.dates.FORMS`), or as ISO dates without one.
    """
    cells = cells.plain()
    if form == "%Y%m%d" and pa.types.is_integer(cells.array.type):
        cells = Cells(cells.name, cells.array.cast(pa.string()), cells.rows, cells.errors)
    if cells.family == "text":
        values = _formed_dates(cells, form) if form else _parsed_dates(cells)
    elif cells.family == "date":
        values = _as_microseconds(cells.array)
    elif cells.family == "missing":
        return np.full(len(cells.array), np.nan)
    else:
        return cells.mismatch("dates")
    outside = (values < EARLIEST) | (values >= LATEST)
    cells.blame(outside, "has dates outside the years 1678 to 2261", "empty these cells")
    return np.where(outside, np.nan, values)


def _as_microseconds(array: pa.Array) -> np.ndarray:
    zone = array.type.tz if pa.types.is_timestamp(array.type) else None
    whole = array.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64())
    return _as_floats(whole)


def _parsed_dates(cells: Cells) -> np.ndarray:
    text = trimmed(cells.array)
    parsed = _try_dates(text)
    if parsed is not None:
        return _as_microseconds(parsed)
    kept = is_date(text)
    bad = ~kept & ~_mask(text)
    text_told = f"holds dates, but also text such as {_first(text, bad)!r}"
    cells.blame(bad, text_told, "write dates as 2024-12-31 23:59:59, or empty these cells")
    zoned = matches(text, ZONE)  # Arrow reads times with a zone, or without, but not both in one array
    return np.where(zoned, _whole_dates(text, kept & zoned), _whole_dates(text, kept & ~zoned))


def _whole_dates(text: pa.Array, chosen: np.ndarray) -> np.ndarray:
    """The chosen texts as microseconds, NaN for the others."""
    parsed = _try_dates(compute.if_else(pa.array(chosen), text, pa.scalar(None, text.type)))
    return np.full(len(text), np.nan) if parsed is None else _as_microseconds(parsed)


def _formed_dates(cells: Cells, form: str) -> np.ndarray:
    text = trimmed(cells.array)
    values = parse_dates(text, form)
    bad = np.isnan(values) & ~_mask(text)
    if bad.any() and (iso := _try_dates(text)) is not None:
        return _as_microseconds(iso)
    cells.blame(bad, f"holds dates such as {form}, but also text such as {_first(text, bad)!r}", CORRECT)
    return values


def _try_dates(text: pa.Array) -> pa.Array | None:
    for zone in (None, "UTC"):
        try:
            return text.cast(pa.timestamp("us", zone))
        except pa.ArrowInvalid:
            continue
    return None


def is_date(text: pa.Array) -> np.ndarray:
    """Whether each text is a date of the form 2024-12-31, with or without a time, (n,)."""
    different = text.filter(pa.array(matches(text, DATE))).unique()
    if _try_dates(different) is None:
        fits = [_try_dates(pa.array([word], text.type)) is not None for word in different.to_pylist()]
        different = different.filter(pa.array(fits, pa.bool_()))
    answer: np.ndarray = compute.is_in(text, value_set=different.drop_null()).to_numpy(zero_copy_only=False)
    return answer


# -- levels ------------------------------------------------------------------------------------------------------------


def level_numbers(cells: Cells, levels: pa.Array, numerals: Numerals = PLAIN) -> np.ndarray:
    """The level index of each cell, (n,): -1 for a missing cell, ``len(levels)`` for an unknown level.

    Blank text and missing markers such as NA are missing, unless they are levels (NA is Namibia's country code).
    """
    if pa.types.is_floating(levels.type):
        return _of_number_levels(cells, levels, numerals)
    if cells.family == "missing":
        return np.full(len(cells.array), MISSING)
    if cells.family != "text":
        cells.mismatch("text")
        return np.full(len(cells.array), MISSING)
    array = cells.array
    if not pa.types.is_dictionary(array.type):
        return np.where(_mask(array), MISSING, _looked_up(array, levels))
    if len(array.dictionary) == 0:
        return np.full(len(array), MISSING)
    of_word = _looked_up(array.dictionary, levels)
    places = array.indices.fill_null(0).to_numpy(zero_copy_only=False)
    return np.where(_mask(array), MISSING, of_word[places])


def _looked_up(array: pa.Array, levels: pa.Array) -> np.ndarray:
    wanted = levels if array.type == levels.type else levels.cast(array.type)
    found: np.ndarray = compute.index_in(array, value_set=wanted).fill_null(len(levels)).to_numpy(zero_copy_only=False)
    return np.where(is_missing_word(array) & (found == len(levels)), MISSING, found)


def is_missing_word(array: pa.Array) -> np.ndarray:
    """Whether each text is blank or a missing marker, (n,); False for all cells of other types."""
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        return np.zeros(len(array), bool)
    words = compute.is_in(compute.utf8_trim_whitespace(array), value_set=pa.array(MISSING_WORDS, array.type))
    answer: np.ndarray = words.to_numpy(zero_copy_only=False)
    return answer


def _of_number_levels(cells: Cells, levels: pa.Array, numerals: Numerals) -> np.ndarray:
    if cells.family == "text" and (truths := _truths(cells.plain().array)) is not None:
        cells = Cells(cells.name, truths, cells.rows, cells.errors)
    values = numbers(cells, numerals)
    found = _looked_up(pa.array(values), levels)
    return np.where(np.isnan(values), MISSING, found)


def _truths(text: pa.Array) -> pa.Array | None:
    """Strings such as true and False as booleans; None if there are others."""
    try:
        return trimmed(text).cast(pa.bool_())
    except pa.ArrowInvalid:
        return None
