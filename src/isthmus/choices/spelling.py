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


def unknown(noun: str, name: str, known: Iterable[str]) -> str:
    """The error text for an unknown name: the nearest known name, then all known names.

    >>> unknown("corruption", "maskin", ["gaussian-noise", "masking"])
    "Unknown corruption 'maskin'; did you mean 'masking'? Known: gaussian-noise, masking."
    """
    known = list(known)
    by_folded = {folded(candidate): candidate for candidate in known}
    near = difflib.get_close_matches(folded(name), by_folded, n=1, cutoff=0.5)
    hint = f"; did you mean {by_folded[near[0]]!r}?" if near else "."
    return f"Unknown {noun} {name!r}{hint} Known: {', '.join(known)}."
