"""Names in files, and titles as people type them."""

from __future__ import annotations

import datetime as dt
import difflib
import json
import re
import unicodedata
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np

from isthmus.exceptions import DataError
from isthmus.tasks.recommendation.interactions import as_names


def names_to_array(names: np.ndarray) -> np.ndarray:
    """Names as an array for a model file: integers as they are, all else as JSON in bytes.

    >>> array_to_names(names_to_array(as_names(["a", 1, ("b", 2.5)]))).tolist()
    ['a', 1, ('b', 2.5)]
    """
    if names.dtype.kind in "iu":
        return names.astype(np.int64)
    text = json.dumps([_plain(name) for name in names.tolist()], separators=(",", ":"))
    return np.frombuffer(text.encode(), np.uint8)


def array_to_names(array: np.ndarray) -> np.ndarray:
    """The inverse of `names_to_array`."""
    if array.dtype != np.uint8:
        return array
    return as_names([_name(value) for value in json.loads(array.tobytes().decode())])


def _plain(name: Any) -> Any:
    if isinstance(name, tuple):
        return {"tuple": [_plain(part) for part in name]}
    if isinstance(name, bytes):
        return {"bytes": name.hex()}
    if isinstance(name, dt.date):
        return {"time" if isinstance(name, dt.datetime) else "date": name.isoformat()}
    if not isinstance(name, str | int | float | bool):
        raise DataError(
            f"The name {name!r} is a {type(name).__name__}, which a model file cannot hold; name users and items by "
            "integers, texts, floats, bytes, dates or tuples of these."
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
    if kind == "date":
        return dt.date.fromisoformat(inner)
    import pandas as pd  # noqa: PLC0415  # slow to import, and needed here alone

    return pd.Timestamp(inner)


_YEAR = re.compile(r"\s*\((\d{4})[^)]*\)\s*$")
_ARTICLE = re.compile(r"^(.*),\s*(the|a|an|la|le|les|el|il|der|die|das)$")


def folded(title: str) -> str:
    """A title as it is compared: no case, accents, punctuation, year or article.

    >>> folded("Usual Suspects, The (1995)"), folded("the usual suspects")
    ('usual suspects', 'usual suspects')
    """
    plain = unicodedata.normalize("NFKD", title.casefold())
    plain = _YEAR.sub("", "".join(letter for letter in plain if not unicodedata.combining(letter)).strip())
    moved = _ARTICLE.match(re.sub(r"\s*\(.*?\)", "", plain).strip())
    plain = f"{moved[2]} {moved[1]}" if moved else plain
    words = re.sub(r"[^\w]+", " ", plain.replace("&", " and ")).split()
    return " ".join(words[1:] if len(words) > 1 and words[0] in ("the", "a", "an") else words)


def find_title(text: str, titles: Mapping[Hashable, str], ranked: Iterable[Hashable]) -> Hashable:
    """The item whose title people mean by a text.

    A title that is the same but for case, accents, article and year comes first, then one that begins with the text,
    then one that holds it; a year in the text decides between equals, else the more popular wins.

    Parameters
    ----------
    text
        As typed.
    titles
        The title of each item.
    ranked
        The items by falling popularity.

    Raises
    ------
    DataError
        No title is like it; the nearest are named.

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
    hint = f"did you mean {', '.join(map(repr, near))}?" if near else "none is like it."
    raise DataError(f"There is no title {text!r} among {len(titles):,} items; {hint}")
