"""Identifiers of users and items: accepted types, storage, and lookup."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from isthmus.exceptions import DataError

PLAIN = frozenset({int, str, float, bool, bytes, dt.date, dt.datetime, uuid.UUID, decimal.Decimal})
"""Types that are stored unchanged."""
ACCEPTED = "integers, texts, floats, bytes, dates, UUIDs, decimals or tuples of these"


def as_names(values: Any) -> np.ndarray:
    """Convert names to a new array: integers or floats if all are, else objects.

    Strings are stored as objects. A fixed-width array needs the length of the longest name for each (320 MB for 4,000
    names, one of them with 20,000 letters) and drops trailing NULs.

    Raises
    ------
    DataError
        A name is missing, has a type that a model file cannot store, or is a float too large to be exact.

    Examples
    --------
    >>> as_names(["a", 1]).dtype, as_names([2, 1]).dtype.kind, as_names([2**64 - 1]).dtype
    (dtype('O'), 'i', dtype('uint64'))
    """
    listed = plain_names(values)
    kinds = set(map(type, listed))
    if kinds == {int} and min(listed) >= -(2**63) and max(listed) < 2**64:
        if max(listed) < 2**63:
            return np.asarray(listed, np.int64)
        if min(listed) >= 0:
            return np.asarray(listed, np.uint64)
    if kinds == {float}:
        return np.asarray(listed)
    names = np.empty(len(listed), dtype=object)
    names[:] = listed
    return names


def plain_names(values: Any) -> list[Any]:
    """Names as Python objects of the accepted types; numpy scalars become Python objects."""
    array = values if isinstance(values, np.ndarray) else None
    if array is not None and array.ndim != 1:
        raise DataError(f"The names have shape {array.shape}, but one dimension is needed; flatten them with ravel().")
    if array is not None and array.dtype.kind == "M":
        import pandas as pd  # noqa: PLC0415  # slow to import, and needed only for dates

        listed: list[Any] = list(pd.DatetimeIndex(array))  # tolist() would return integers of nanoseconds
    else:
        listed = list(values) if array is None else array.tolist()
    if not set(map(type, listed)) <= {int, str, bytes}:
        exact = 2**24 if array is not None and array.dtype == np.float32 else 2**53
        listed = [_plain(name, exact) for name in listed]
    return listed


def _plain(name: Any, exact: int = 2**53) -> Any:
    if isinstance(name, np.datetime64):
        return plain_names(np.asarray([name]))[0]
    if isinstance(name, np.generic):
        return _plain(name.item(), 2**24 if name.dtype == np.float32 else exact)
    if name is None or is_missing(name):
        raise DataError(f"The name {name!r} is missing; name every user and item, or drop these rows first.")
    if isinstance(name, float) and abs(name) >= exact:
        raise DataError(
            f"The name {name!r} is a float of {exact:,} or more, where different integers become the same float; read "
            "these names as integers or strings."
        )
    if type(name) in PLAIN or isinstance(name, dt.date):
        return name
    if isinstance(name, tuple):
        return tuple(_plain(part) for part in name)
    if isinstance(name, str):
        return str.__str__(name)  # a member of a StrEnum
    if isinstance(name, int):
        return int(name)
    raise DataError(
        f"The name {name!r} is of type {type(name).__name__}, which a model file cannot hold; name users and items by "
        f"{ACCEPTED}."
    )


def is_missing(name: Any) -> bool:
    """Whether a value is NaN, NaT or pandas.NA: these differ from themselves, or raise an error on comparison."""
    try:
        return bool(name != name)  # noqa: PLR0124
    except (TypeError, ValueError, decimal.InvalidOperation):
        return True


def number(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index names from 0: the index of each, and the unique names, sorted if possible, else in order of appearance.

    >>> number(np.array(["b", "a", "b"]))[0]
    array([1, 0, 1])
    """
    if values.dtype.kind in "iu":
        names, numbers = np.unique(values, return_inverse=True)
        return numbers, as_names(names)
    listed = plain_names(values)
    order: Any = dict.fromkeys(listed)
    refuse_alike(order, set(map(type, listed)))
    try:
        order = sorted(order)
    except TypeError:
        order = list(order)
    known = {name: place for place, name in enumerate(order)}
    return np.fromiter((known[name] for name in listed), np.int64, len(listed)), as_names(order)


def refuse_alike(names: Iterable[Hashable], kinds: set[type]) -> None:
    """Raise for names of different types that may mean the same: 3 and "3", 1 and True."""
    if len(kinds) < 2:
        return
    if bool in kinds and kinds & {int, float, decimal.Decimal}:
        raise DataError("The names mix True and False with numbers, where True equals 1; convert them to one type.")
    first = dict[str, Hashable]()
    for name in names:
        for text in texts_of(name):
            other = first.setdefault(text, name)
            if other is not name and type(other) is not type(name):
                raise DataError(
                    f"The names {other!r} and {name!r} look alike but are of different types "
                    f"({type(other).__name__} and {type(name).__name__}), so they would be different names; convert "
                    "the names to one type, such as with astype(str)."
                )


def texts_of(name: Hashable) -> tuple[str, ...]:
    """The strings that match a name: itself, or the usual spellings of other types."""
    if isinstance(name, str):
        return (name,)
    if isinstance(name, float) and name.is_integer():
        return (str(int(name)), str(name))  # 3.0 may come from a column of integers with missing cells
    if isinstance(name, dt.datetime):
        return (str(name), name.isoformat())
    return (str(name),) if isinstance(name, int | float | decimal.Decimal | uuid.UUID | dt.date) else ()


@dataclass(frozen=True)
class NameIndex:
    """Finds the index of a name, also if it is given as another type, provided that this is unambiguous.

    >>> index = NameIndex(as_names([3, 7]))
    >>> index.find(7), index.find("7"), index.find("007")
    (1, 1, None)
    """

    names: np.ndarray

    @cached_property
    def numbers(self) -> dict[Hashable, int]:
        """The index of each name."""
        return {name: place for place, name in enumerate(self.names.tolist())}

    @cached_property
    def _by_text(self) -> dict[str, int]:
        """The index of each name that is not a string, by its spelling."""
        listed = self.names.tolist()
        return {
            text: place for place, name in enumerate(listed) if not isinstance(name, str) for text in texts_of(name)
        }

    @cached_property
    def kinds(self) -> set[type]:
        """The types of the names."""
        return set(map(type, self.names.tolist()))

    def find(self, name: Any) -> int | None:
        """The index of a name, or None. True does not match 1, and "007" does not match 7."""
        if isinstance(name, bool | np.bool_) and bool not in self.kinds:
            return None
        if isinstance(name, np.generic):
            name = name.item()
        try:
            place = self.numbers.get(name)
        except TypeError:
            raise DataError(
                f"{_short(name)} is a {type(name).__name__}, which is not a name; names are {ACCEPTED}."
            ) from None
        if place is not None:
            return place
        if isinstance(name, str):
            return self._by_text.get(name)
        return next((self.numbers[text] for text in texts_of(name) if text in self.numbers), None)

    def as_ours(self, name: Hashable) -> Hashable:
        """Convert a new name to the type of these: "12" becomes 12 among integers, 12 becomes "12" among strings."""
        if self.kinds == {int} and isinstance(name, str) and name.isascii() and name.removeprefix("-").isdigit():
            return int(name) if str(int(name)) == name else name
        if self.kinds == {str} and isinstance(name, int) and not isinstance(name, bool):
            return str(name)
        return name


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def listed_names(names: Sequence[Any], most: int = 3) -> str:
    """The first names as text.

    >>> listed_names([1, 2, 3, 4])
    '1, 2, 3 and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(_short(name) for name in names[:most]) + more
