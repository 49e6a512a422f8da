"""Storage of identifiers in files, and lookup of items by title."""

from __future__ import annotations

import datetime as dt
import decimal
import difflib
import json
import re
import unicodedata
import uuid
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from isthmus.exceptions import DataError
from isthmus.tasks.recommendation.identifiers import ACCEPTED, NameIndex, as_names, is_missing, listed_names
from isthmus.tasks.recommendation.interactions import COLUMNS


def names_to_array(names: np.ndarray) -> np.ndarray:
    """Convert names to an array for a model file: integers unchanged, all other types as JSON bytes.

    >>> array_to_names(names_to_array(as_names(["a", 1, ("b", 2.5)]))).tolist()
    ['a', 1, ('b', 2.5)]
    """
    if names.dtype.kind in "iu":
        return names.astype(
            names.dtype.newbyteorder("="), copy=True
        )  # uint64 is kept: as int64, names from 2**63 would be negative
    text = json.dumps([_plain(name) for name in names.tolist()], separators=(",", ":"))
    return np.frombuffer(text.encode(), np.uint8)


def array_to_names(array: np.ndarray) -> np.ndarray:
    """The inverse of `names_to_array`."""
    if array.dtype != np.uint8:
        return array
    return as_names([_name(value) for value in json.loads(array.tobytes().decode())])


def _plain(name: Any) -> Any:  # noqa: PLR0911  # one line per type
    if isinstance(name, tuple):
        return {"tuple": [_plain(part) for part in name]}
    if isinstance(name, bytes):
        return {"bytes": name.hex()}
    if isinstance(name, uuid.UUID):
        return {"uuid": name.hex}
    if isinstance(name, decimal.Decimal):
        return {"decimal": str(name)}
    if type(name) is dt.datetime:
        return {"datetime": name.isoformat()}
    if isinstance(name, dt.date):
        return {"time" if isinstance(name, dt.datetime) else "date": name.isoformat()}
    if not isinstance(name, str | int | float | bool):
        raise DataError(
            f"The name {name!r} is a {type(name).__name__}, which a model file cannot hold; name users and items by "
            f"{ACCEPTED}."
        )
    return name


def _name(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    kind, inner = next(iter(value.items()))
    if kind == "tuple":
        return tuple(_name(part) for part in inner)
    if kind == "bytes":
        return bytes.fromhex(inner)
    readers: dict[str, Callable[[str], Any]] = {
        "date": dt.date.fromisoformat,
        "datetime": dt.datetime.fromisoformat,
        "uuid": uuid.UUID,
        "decimal": decimal.Decimal,
    }
    if kind in readers:
        return readers[kind](inner)
    import pandas as pd  # noqa: PLC0415  # slow to import, and needed here alone

    return pd.Timestamp(inner)


_YEAR = re.compile(r"\s*\((\d{4})[^)]*\)\s*$")
_ARTICLE = re.compile(r"^(.*),\s*(the|a|an|la|le|les|el|il|der|die|das)$")


def folded(title: str) -> str:
    """A title normalised for comparison, without case, accents, punctuation, year and article.

    >>> folded("Usual Suspects, The (1995)"), folded("the usual suspects")
    ('usual suspects', 'usual suspects')
    """
    plain = unicodedata.normalize("NFKD", title.casefold())
    plain = _YEAR.sub("", "".join(letter for letter in plain if not unicodedata.combining(letter)).strip())
    moved = _ARTICLE.match(re.sub(r"\s*\(.*?\)", "", plain).strip())
    plain = f"{moved[2]} {moved[1]}" if moved else plain
    words = re.sub(r"[^\w]+", " ", plain.replace("&", " and ")).split()
    return " ".join(words[1:] if len(words) > 1 and words[0] in ("the", "a", "an") else words)


TITLES = ("title", "name", "itemname", "item_name")
"""Accepted names of the title column, in any case."""


def read_titles(titles: Any, items: NameIndex) -> dict[Hashable, str]:
    """Titles by item, for the items of the log.

    Parameters
    ----------
    titles
        None, a mapping from item to title, a pandas Series indexed by item, or a frame with the columns item and title.
    items
        The items of the log. Other items are skipped.

    Raises
    ------
    DataError
        No item is in the log, or an item has two titles.

    Examples
    --------
    >>> read_titles({"1": "Heat", 2: None, 9: "Ronin"}, NameIndex(as_names([1, 2])))
    {1: 'Heat'}
    """
    pairs = title_pairs(titles)
    found = dict[Hashable, str]()
    for name, title in pairs:
        place = items.find(name)
        if place is None:
            continue
        item = items.names[place : place + 1].tolist()[0]
        if found.setdefault(item, title) != title:
            raise DataError(f"The item {item!r} has the titles {found[item]!r} and {title!r}; keep one of them.")
    if pairs and not any(items.find(name) is not None for name, _ in pairs):
        raise DataError(
            f"None of the {len(pairs)} items in titles ({listed_names([name for name, _ in pairs])}) is in the log, "
            f"whose items are {listed_names(items.names.tolist())}; use the log's identifiers for the titles."
        )
    return found


def title_pairs(titles: Any) -> list[tuple[Any, str]]:
    """Pairs of item and title, without missing titles."""
    if titles is None:
        return []
    if hasattr(titles, "columns"):
        item, title = title_columns(titles.columns)
        pairs: Any = zip(titles[item].to_numpy().tolist(), titles[title].to_numpy().tolist(), strict=True)
        return [(name, str(text)) for name, text in pairs if text is not None and not is_missing(text)]
    if isinstance(titles, Mapping) or (hasattr(titles, "items") and hasattr(titles, "index")):
        return [(name, str(text)) for name, text in titles.items() if text is not None and not is_missing(text)]
    raise DataError(
        f"titles is a {type(titles).__name__}, but a mapping from item to title, or a frame with the columns item and "
        "title, is needed."
    )


def title_columns(columns: Iterable[Hashable]) -> tuple[Hashable, Hashable]:
    """The item column and the title column of a table."""
    by_name = {str(name).casefold(): name for name in columns}
    found = [next((by_name[name] for name in names if name in by_name), None) for names in (COLUMNS["item"], TITLES)]
    missing = [role for role, name in zip(("item", "title"), found, strict=True) if name is None]
    if missing:
        raise DataError(
            f"The table of items has no column for {' and '.join(missing)}, only {', '.join(map(repr, by_name))}; "
            "rename the columns to item and title."
        )
    return found[0], found[1]


@dataclass(frozen=True)
class TitleIndex:
    """Finds items by title, up to case, accents, articles and the year; the match must be unique."""

    titles: Mapping[Hashable, str]
    items: NameIndex

    @cached_property
    def _by_folded(self) -> dict[str, list[Hashable]]:
        found: dict[str, list[Hashable]] = {}
        for item, title in self.titles.items():
            found.setdefault(folded(title), []).append(item)
        return found

    def find(self, text: str) -> int | None:
        """The index of the item with a title, or None.

        Raises
        ------
        DataError
            Several items have that title.
        """
        year = _YEAR.search(text)
        same = [
            item for item in self._by_folded.get(folded(text), [])
            if year is None or f"({year[1]})" in self.titles[item]
        ]  # fmt: skip
        exact = [item for item in same if self.titles[item] == text]
        same = exact or same
        if len(same) > 1:
            raise DataError(
                f"The title {text!r} matches {len(same)} items ({listed_names(same)}), with the titles "
                f"{listed_names([self.titles[item] for item in same])}; pass the item's identifier, or the year."
            )
        return self.items.find(same[0]) if same else None


def find_title(text: str, titles: Mapping[Hashable, str], ranked: Iterable[Hashable]) -> Hashable:
    """The item whose title matches a text best.

    Titles that are equal up to case, accents, article and year come first, then titles that start with the text, then
    titles that contain it. A year in the text breaks ties, then popularity.

    Parameters
    ----------
    text
        The search text.
    titles
        The title of each item.
    ranked
        The items by decreasing popularity.

    Raises
    ------
    DataError
        No title matches; the message lists the nearest titles.

    Examples
    --------
    >>> find_title("usual suspects", {7: "Heat (1995)", 8: "Usual Suspects, The (1995)"}, [7, 8])
    8
    """
    known = [(item, titles[item], folded(titles[item])) for item in ranked if item in titles]
    exact = [item for item, title, _ in known if title == text]
    wanted, year = folded(text), _YEAR.search(text)
    tests = (
        lambda name: name == wanted,
        lambda name: name.startswith(wanted + " "),
        lambda name: f" {wanted} " in f" {name} ",
    )
    if exact or not wanted:
        return exact[0] if exact else _unknown_title(text, [], titles)
    for test in tests:
        found = [(item, title) for item, title, name in known if test(name)]
        of_year = [pair for pair in found if year is None or f"({year[1]})" in pair[1]]
        if of_year:
            return of_year[0][0]
    by_name = {name: title for _, title, name in reversed(known)}
    return _unknown_title(text, [by_name[name] for name in difflib.get_close_matches(wanted, by_name, 3, 0.5)], titles)


def _unknown_title(text: str, near: list[str], titles: Mapping[Hashable, str]) -> Hashable:
    hint = f"did you mean {', '.join(map(repr, near))}?" if near else "none is similar."
    raise DataError(f"There is no title {text!r} among {len(titles):,} items; {hint}")
