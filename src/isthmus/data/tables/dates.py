"""Date formats in text: the format of a column is inferred from all its cells and stored with the column."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from pyarrow import compute

FORMS = (
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d.%m.%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%d/%m/%y",
    "%m/%d/%y",
    "%d.%m.%y",
    "%b %d, %Y",
    "%d %b %Y",
    "%d-%b-%Y",
    "%Y%m%d",
)
"""Formats besides ISO 8601, in `strftime` notation; each may be followed by a time of day."""
_PARTS = {
    "%Y": r"(?P<y>\d{4})",
    "%y": r"(?P<y>\d{2})",
    "%m": r"(?P<m>\d{1,2})",
    "%d": r"(?P<d>\d{1,2})",
    "%b": r"(?P<b>[A-Za-z]{3})[a-z]*\.?",
}
_TIME = r"(?:,?[ T](?P<H>\d{1,2}):(?P<M>\d{2})(?::(?P<S>\d{2})(?:\.\d+)?)?(?: ?(?P<p>[AaPp])\.?[Mm]\.?)?)?"
_MONTHS = pa.array(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"])
_SECONDS = 1_000_000


def _pattern(form: str) -> str:
    if form == "%Y%m%d":  # eight digits count as a date only in the years 1900 to 2099
        return r"^(?P<y>(?:19|20)\d{2})(?P<m>\d{2})(?P<d>\d{2})" + _TIME + "$"
    parts = [_PARTS.get(part, re.escape(part)) for part in re.split(r"(%[a-zA-Z])", form)]
    return "^" + "".join(parts) + _TIME + "$"


_PATTERNS = {form: _pattern(form) for form in FORMS}


def parse_dates(text: pa.Array, form: str) -> np.ndarray:
    """Trimmed texts as microseconds since 1970, float64, (n,); NaN for texts that do not have this format.

    >>> found = parse_dates(pa.array(["31.12.2024 12:00", "31.02.2024"]), "%d.%m.%Y")
    >>> found.astype("datetime64[us]").astype("datetime64[m]").astype(str).tolist()
    ['2024-12-31T12:00', 'NaT']
    """
    parts = compute.extract_regex(text, _PATTERNS[form])
    found = {field.name: parts.field(place) for place, field in enumerate(parts.type)}
    get = {name: _whole(found[name]) if name in found else np.full(len(text), np.nan) for name in "ymdHMS"}
    if "b" in found:
        get["m"] = _whole(compute.index_in(compute.utf8_lower(found["b"]), value_set=_MONTHS)) + 1
    year = np.where(get["y"] < 100, get["y"] + np.where(get["y"] < 69, 2000, 1900), get["y"])
    clock = {name: np.nan_to_num(get[name]) for name in "HMS"}
    hours = _hours(clock["H"], found["p"])
    good = ~np.isnan(year) & (get["m"] >= 1) & (get["m"] <= 12) & (get["d"] >= 1)
    good &= (hours < 24) & (clock["M"] < 60) & (clock["S"] < 60)
    months = np.where(good, (year - 1970) * 12 + get["m"] - 1, 0).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + np.where(good, get["d"] - 1, 0).astype("timedelta64[D]")
    good &= days.astype("datetime64[M]") == months  # rejects 31 February
    seconds = hours * 3600 + clock["M"] * 60 + clock["S"]
    return np.where(good, days.astype(np.int64) * 86400.0 * _SECONDS + seconds * _SECONDS, np.nan)


def _whole(column: pa.Array) -> np.ndarray:
    """Digit strings as float64; NaN for missing ones."""
    text = column if not pa.types.is_string(column.type) else compute.if_else(compute.equal(column, ""), None, column)
    values: np.ndarray = text.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return values


def _hours(hours: np.ndarray, halves: pa.Array) -> np.ndarray:
    """Hours from 0 to 23, from hours with or without AM or PM."""
    half = compute.fill_null(compute.utf8_lower(halves), "").to_numpy(zero_copy_only=False)
    twelve = np.where(half == "p", np.where(hours == 12, 12, hours + 12), np.where(hours == 12, 0, hours))
    return np.where(half == "", hours, twelve)


def forms_of(text: pa.Array, forms: Iterable[str]) -> tuple[str, ...]:
    """The formats that fit all texts that are not missing."""
    text = text.drop_null()
    head = text.slice(0, 20)
    likely = [form for form in forms if not np.isnan(parse_dates(head, form)).any()]
    return tuple(form for form in likely if not np.isnan(parse_dates(text, form)).any())
