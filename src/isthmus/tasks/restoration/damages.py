"""Damages as a text, such as ``"noise:0.1-0.5"``."""

from __future__ import annotations

import re
from typing import Any

from isthmus.choices.corruptions import CORRUPTIONS, Corruption

UNKNOWN = "unknown"
"""The damage of noisy images without clean ones."""
STRENGTH = re.compile(r"(?P<low>[0-9.]+(e-?[0-9]+)?)(-(?P<high>[0-9.]+(e-?[0-9]+)?))?")


def damage_of(value: Any) -> Corruption:
    """A damage as a corruption: a member, a list of members, or a text.

    A text is the name of a corruption, then its strength after a colon: a number, or a range from which each image
    draws its own. The strength is the parameter that `Corruption.strength_name` states. Several damages are joined by
    ``+`` and follow one another.

    Raises
    ------
    ValueError
        The name is unknown, the corruption has no strength, or the strength is not a number.

    Examples
    --------
    >>> damage_of("noise:0.1-0.5"), damage_of("masking:0.3 + noise").members[0], damage_of("holes:0.15")
    (GaussianNoise(scale=(0.1, 0.5)), Masking(), BlockMask(fraction=0.15))
    """
    if not isinstance(value, str):
        return CORRUPTIONS.resolve(value)
    parts = [_member(part.strip()) for part in value.split("+")]
    return parts[0] if len(parts) == 1 else CORRUPTIONS.resolve(parts)


def _member(text: str) -> Corruption:
    name, colon, strength = (part.strip() for part in text.partition(":"))
    member = CORRUPTIONS.find(name)()
    if not colon:
        return member
    parameter, found = member.strength_name(), STRENGTH.fullmatch(strength)
    if parameter is None:
        raise ValueError(f"The damage {text!r} has a strength, but {name} takes none; write {name!r}.")
    if found is None:
        raise ValueError(
            f"The damage {text!r} needs a number or a range after the colon; write it as {name}:0.3 or {name}:0.1-0.5."
        )
    low, high = _number(found["low"], text), _number(found["high"] or found["low"], text)
    if low > high:
        raise ValueError(f"The damage {text!r} has its range in reverse order; write {name}:{high:g}-{low:g}.")
    return member.set_params(**{parameter: (low, high) if found["high"] else low})


def _number(text: str, damage: str) -> float | int:
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        raise ValueError(
            f"The strength in the damage {damage!r} is {text!r}, which is not a number; write one such as 0.3."
        ) from None
