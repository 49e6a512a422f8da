"""Damages by name, as a text such as ``"noise:0.1-0.5"``."""

from __future__ import annotations

from typing import Any

from isthmus.choices.corruptions import CORRUPTIONS, Corruption

UNKNOWN = "unknown"
"""The damage of noisy images without clean ones."""


def damage_of(value: Any) -> Corruption:
    """A damage as a corruption: a member, a list of members, a short name, or a text with its strength."""
    return CORRUPTIONS.resolve(value)
