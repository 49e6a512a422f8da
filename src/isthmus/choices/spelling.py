"""Matching of names as users type them: spelling variants agree, and a wrong name gets the nearest known one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def folded(name: str) -> str:
    """The name in lower case without spaces, hyphens and underscores, so that spelling variants compare equal.

    >>> folded("Leaky_ReLU") == folded("leaky-relu")
    True
    """
    return name.casefold().replace("_", "").replace("-", "").replace(" ", "")


def edit_distance(typed: str, known: str) -> int:
    """The cost of the cheapest edits that turn a typed name into a known one (Levenshtein 1966, with weights).

    Inserting a character costs 1, deleting or replacing one costs 2, because names are shortened more often than they
    are lengthened: with equal costs "gausian" would be nearer to "masking" than to "gaussiannoise".

    >>> edit_distance("nois", "noise"), edit_distance("noises", "noise"), edit_distance("moise", "noise")
    (1, 2, 2)
    """
    row = list(range(len(known) + 1))
    for i, of_typed in enumerate(typed, start=1):
        diagonal, row[0] = row[0], 2 * i
        for j, of_known in enumerate(known, start=1):
            diagonal, row[j] = row[j], min(row[j] + 2, row[j - 1] + 1, diagonal + 2 * (of_typed != of_known))
    return row[-1]


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.5) -> str | None:
    """The known name with the smallest edit distance to a name, in any spelling; None if none is similar.

    Names whose share of common characters (`difflib`) is below `cutoff` are not similar. This share alone does not
    choose, because it favours a long name that contains the given one: "nois" would become "poisson-noise".

    >>> nearest("nois", ["poisson-noise", "noise"]), nearest("xyz", ["noise"])
    ('noise', None)
    """
    wanted, by_folded = folded(name), {folded(candidate): candidate for candidate in known}
    similar = difflib.get_close_matches(
        wanted, by_folded, n=max(1, len(by_folded)), cutoff=cutoff
    )  # most similar first
    return by_folded[min(similar, key=lambda other: edit_distance(wanted, other))] if similar else None


def unknown(noun: str, name: str, known: Iterable[str], also: Iterable[str] = ()) -> str:
    """The error text for an unknown name: the nearest accepted name, then all known names.

    Parameters
    ----------
    noun
        What the name names.
    name
        The unknown name.
    known
        The names that are listed.
    also
        Other accepted names, such as abbreviations. They can be suggested, but are not listed.

    Examples
    --------
    >>> unknown("corruption", "maskin", ["gaussian-noise", "masking"])
    "Unknown corruption 'maskin'; did you mean 'masking'? Known: gaussian-noise, masking."
    """
    known = list(known)
    near = nearest(name, [*also, *known])
    hint = "." if near is None else f"; did you mean {near!r}?"
    return f"Unknown {noun} {name!r}{hint} Known: {', '.join(known)}."
