"""Validation rules for parameters, as data: each rule accepts or rejects a value; one function writes the message."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Protocol

from isthmus.choices.spelling import nearest


class Rule(Protocol):
    """Accepts or rejects a value; ``str(rule)`` completes the sentence "… must be"."""

    def admits(self, value: object) -> bool: ...


@dataclass(frozen=True)
class Number:
    """A finite real number within bounds."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def admits(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            return False
        number = float(value)
        above = number > self.low if self.open_low else number >= self.low
        return above and (number < self.high if self.open_high else number <= self.high)

    def __str__(self) -> str:
        if math.isinf(self.low) and math.isinf(self.high):
            return "a finite number"
        if math.isinf(self.high):
            return f"a finite number {'>' if self.open_low else '>='} {self.low:g}"
        left, right = "(" if self.open_low else "[", ")" if self.open_high else "]"
        return f"a number in {left}{self.low:g}, {self.high:g}{right}"


@dataclass(frozen=True)
class Whole:
    """An integer within bounds; floats and bools are rejected."""

    low: int = 1
    high: float = math.inf

    def admits(self, value: object) -> bool:
        return isinstance(value, Integral) and not isinstance(value, bool) and self.low <= int(value) <= self.high

    def __str__(self) -> str:
        return f"an integer >= {self.low}" if math.isinf(self.high) else f"an integer in [{self.low}, {self.high:g}]"


@dataclass(frozen=True)
class Span:
    """A number, or a range (low, high) of numbers with low <= high, each of which another rule accepts."""

    rule: Rule

    def admits(self, value: object) -> bool:
        if not isinstance(value, list | tuple):
            return self.rule.admits(value)
        return len(value) == 2 and all(map(self.rule.admits, value)) and bool(value[0] <= value[1])

    def __str__(self) -> str:
        return f"{self.rule}, or a range (low, high) of two such numbers with low <= high"


@dataclass(frozen=True)
class OneOf:
    """One of the listed values."""

    options: Sequence[object]

    def admits(self, value: object) -> bool:
        return any(value is option or (type(value) is type(option) and value == option) for option in self.options)

    def __str__(self) -> str:
        return " or ".join([", ".join(map(repr, self.options[:-1])), repr(self.options[-1])]).removeprefix(" or ")

    def hint(self, value: object) -> str:
        """``"; did you mean 'relu'?"`` if the value resembles an option, else ""."""
        words = [option for option in self.options if isinstance(option, str)]
        near = nearest(value, words, cutoff=0.75) if isinstance(value, str) else None
        return "" if near is None else f"; did you mean {near!r}?"


@dataclass(frozen=True)
class Sizes:
    """A sequence of layer widths, each an integer >= 1; may be empty."""

    def admits(self, value: object) -> bool:
        return isinstance(value, list | tuple) and all(Whole(1).admits(size) for size in value)

    def __str__(self) -> str:
        return "a tuple of integers >= 1"


@dataclass(frozen=True)
class Instance:
    """An instance of a type; `words` describes it in messages."""

    kind: type | tuple[type, ...]
    words: str

    def admits(self, value: object) -> bool:
        return isinstance(value, self.kind)

    def __str__(self) -> str:
        return self.words


@dataclass(frozen=True)
class Either:
    """A value that at least one of the rules accepts."""

    rules: tuple[Rule, ...]

    def admits(self, value: object) -> bool:
        return any(rule.admits(value) for rule in self.rules)

    def __str__(self) -> str:
        return " or ".join(map(str, self.rules))

    def hint(self, value: object) -> str:
        """The first non-empty hint of the rules."""
        return next(filter(None, (_hint(rule, value) for rule in self.rules)), "")


def either(*rules: Rule) -> Either:
    """Combine rules: a value is valid if at least one rule accepts it."""
    return Either(rules)


def broken_rules(owner: object, rules: Mapping[str, Rule]) -> list[str]:
    """One sentence for each parameter of `owner` that its rule rejects."""
    return [
        f"{type(owner).__name__}: {name}={_shown(getattr(owner, name))} must be {rule}"
        + (_hint(rule, getattr(owner, name)) or ".")
        for name, rule in rules.items()
        if not rule.admits(getattr(owner, name))
    ]


def _hint(rule: Rule, value: object) -> str:
    return rule.hint(value) if isinstance(rule, OneOf | Either) else ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
