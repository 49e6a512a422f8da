"""Damages as a text, such as ``"noise:0.1-0.5"``."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from isthmus.choices.corruptions import CORRUPTIONS, Corruption

UNKNOWN = "unknown"
"""The damage of noisy images without clean ones."""
SHORT = {"noise": "gaussian-noise", "holes": "block-mask", "grey": "grayscale", "gray": "grayscale"}
"""Everyday names of damages."""
STRENGTH = re.compile(r"(?P<low>[0-9.]+(e-?[0-9]+)?)(-(?P<high>[0-9.]+(e-?[0-9]+)?))?")


def damage_of(value: Any) -> Corruption:
    """A damage as a corruption: a member, a list of members, or a text.

    A text is the name of a corruption, with its strength behind a colon: a number, or a range from which each image
    draws its own. The strength is the first parameter of the corruption. Several damages are joined by ``+``, and
    follow one another.

    Raises
    ------
    ValueError
        The name is unknown, or the strength is no number.

    Examples
    --------
    >>> damage_of("noise:0.1-0.5"), damage_of("masking:0.3 + noise").members[0]
    (GaussianNoise(scale=(0.1, 0.5)), Masking())
    """
    if not isinstance(value, str):
        return CORRUPTIONS.resolve(value)
    parts = [_member(part.strip()) for part in value.split("+")]
    return parts[0] if len(parts) == 1 else CORRUPTIONS.resolve(parts)


def _member(text: str) -> Corruption:
    name, colon, strength = (part.strip() for part in text.partition(":"))
    member = CORRUPTIONS.find(SHORT.get(name.casefold(), name))()
    if not colon:
        return member
    found = STRENGTH.fullmatch(strength)
    if found is None:
        raise ValueError(
            f"The damage {text!r} needs a number or a range behind the colon, such as {name}:0.3 or {name}:0.1-0.5."
        )
    first = next(field.name for field in dataclasses.fields(member))  # type: ignore[arg-type]  # all members are
    low, high = _number(found["low"], text), _number(found["high"] or found["low"], text)
    if low > high:
        raise ValueError(f"The damage {text!r} has a range upside down; write {name}:{high:g}-{low:g}.")
    return member.set_params(**{first: (low, high) if found["high"] else low})


def _number(text: str, damage: str) -> float | int:
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        raise ValueError(f"The damage {damage!r} has a strength that is no number: {text!r}.") from None
