"""Reading of times in the formats of common logs."""

from __future__ import annotations

import datetime as dt
import numbers
from collections.abc import Hashable
from typing import Any

import numpy as np

from isthmus.exceptions import DataError
from isthmus.tasks.recommendation.identifiers import is_missing
from isthmus.wording import be, counted

SECONDS, MILLISECONDS = (1e8, 1e10), (1e11, 1e13)
"""Ranges of times since 1970 in both units, for 1973 to 2286."""
MICROSECONDS = "datetime64[us]"
"""Unit of times from objects and strings: it covers the years 1 to 9999, while nanoseconds end in 2262."""


def read_times(values: np.ndarray, name: Hashable) -> np.ndarray:
    """Convert times to comparable values: numbers unchanged, dates to ``datetime64`` in UTC.

    Parameters
    ----------
    values
        Numbers, ``datetime64``, dates with or without a time of day or a time zone, or ISO 8601 strings. Without a time
        zone they are UTC.
    name
        Name of the column, for error messages.

    Raises
    ------
    DataError
        A time is missing or is neither a number nor a date, or seconds and milliseconds are mixed.

    Examples
    --------
    >>> read_times(np.array(["2020-01-01", "2020-01-01T00:00:00+01:00"]), "time").tolist()
    [datetime.datetime(2020, 1, 1, 0, 0), datetime.datetime(2019, 12, 31, 23, 0)]
    """
    if values.dtype.kind == "O":
        values = _numbers_of(values)
    if values.dtype.kind in "OUT":
        values = np.asarray([_moment(value, row, name) for row, value in enumerate(values.tolist())], MICROSECONDS)
    if values.dtype.kind not in "iufMm":
        raise DataError(
            f"The column {name!r} is neither numbers nor dates ({values.dtype}); convert it first, such as with "
            "pandas.to_datetime."
        )
    missing = np.isnat(values) if values.dtype.kind in "Mm" else ~np.isfinite(values)
    if n := int(missing.sum()):
        raise DataError(
            f"The column {name!r} has {counted(n, 'time')} that {be(n)} missing or infinite, the first at row "
            f"{int(missing.argmax())}; drop these rows, or the column."
        )
    if values.dtype.kind in "iuf":
        _refuse_mixed_units(values, name)
    return values.copy()


def _numbers_of(values: np.ndarray) -> np.ndarray:
    """Convert objects that are numbers to a numeric array, with NaN for missing ones; other arrays are unchanged."""
    listed = [None if is_missing(value) else value for value in values.tolist()]
    known = [value for value in listed if value is not None]
    if not known or not all(isinstance(value, numbers.Real) and not isinstance(value, bool) for value in known):
        return values
    return np.asarray(known if len(known) == len(listed) else [np.nan if value is None else value for value in listed])


def _moment(value: Any, row: int, name: Hashable) -> np.datetime64:
    """One time in UTC, without its time zone."""
    found = value
    if isinstance(value, str) and "-" in value[1:]:  # 20200101 may be a number of seconds
        try:
            found = dt.datetime.fromisoformat(value.strip())
        except ValueError:
            found = value
    if value is None or is_missing(value):
        return np.datetime64("NaT", "us")
    if isinstance(found, dt.datetime):
        if found.tzinfo is not None:
            found = found.astimezone(dt.UTC).replace(tzinfo=None)
        return np.datetime64(found.replace(tzinfo=None), "us")
    if isinstance(found, dt.date):
        return np.datetime64(found, "us")
    if isinstance(found, np.datetime64):
        return np.datetime64(found.astype(MICROSECONDS).item(), "us")
    raise DataError(
        f"The column {name!r} is neither numbers nor dates: row {row} is {value!r}. ISO strings such as "
        "2020-01-31 or 2020-01-31T12:00:00Z are read; convert others first, such as with pandas.to_datetime(…, "
        "dayfirst=True)."
    )


def _refuse_mixed_units(values: np.ndarray, name: Hashable) -> None:
    """Raise for a mixture of seconds and milliseconds since 1970, which would sort by unit."""
    seconds, thousandths = (((values >= low) & (values < high)) for low, high in (SECONDS, MILLISECONDS))
    if seconds.any() and thousandths.any():
        raise DataError(
            f"The column {name!r} looks like seconds in {int(seconds.sum())} rows and milliseconds in "
            f"{int(thousandths.sum())} (such as {values[seconds][0]:g} and {values[thousandths][0]:g}); convert them "
            "to "
            "one unit."
        )
