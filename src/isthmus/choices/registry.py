"""What all choices share: the base class, the context they are fitted in, and the registries that find them by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, Self, TypeVar

from sklearn.base import BaseEstimator, clone

from isthmus.choices.parameters import Parameters
from isthmus.choices.rules import Rule, broken_rules
from isthmus.choices.spelling import folded
from isthmus.choices.spelling import unknown as unknown  # noqa: PLC0414  # other rooms take it from here


@dataclass(frozen=True)
class Context:
    """What is known when `fit` has seen the data.

    Attributes
    ----------
    feature_shape
        Shape of one row: ``(d,)``, ``(h, w)``, ``(h, w, c)`` or ``(d, h, w, c)``. Batches are flat,
        ``(n, d)``, row-major over it.
    code_size
        Number of numbers in a code.
    lower, upper
        The least and the largest value of the scaled data.
    n_conditions
        Numbers that stand behind each row and each code and say what is known of it, such as a one-hot label.
    ranges
        Least and largest scaled value of each feature, (2, d), where they are known.
    """

    feature_shape: tuple[int, ...]
    code_size: int
    lower: float = -math.inf
    upper: float = math.inf
    n_conditions: int = 0
    ranges: Any = field(default=None, compare=False, repr=False)

    @property
    def n_features(self) -> int:
        """Numbers in one row."""
        return math.prod(self.feature_shape)

    def part(self, columns: slice) -> Context:
        """What is known of some neighbouring features."""
        width = len(range(*columns.indices(self.n_features)))
        if self.ranges is None:
            return replace(self, feature_shape=(width,))
        least, largest = self.ranges[:, columns]
        return replace(self, feature_shape=(width,), lower=float(least.min()), upper=float(largest.max()), ranges=None)

    @property
    def encoder_width(self) -> int:
        """Numbers that the encoder is given: a row and what it is conditioned on."""
        return self.n_features + self.n_conditions

    @property
    def decoder_width(self) -> int:
        """Numbers that the decoder is given: a code and what it is conditioned on."""
        return self.code_size + self.n_conditions

    @property
    def in_unit_interval(self) -> bool:
        """Whether all values lie in [0, 1]."""
        return self.lower >= 0.0 and self.upper <= 1.0


class Choice(Parameters, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A member of one of the five choices: hyper-parameters only, and pure work on tensors."""

    rules: ClassVar[Mapping[str, Rule]] = {}

    def mistakes(self, context: Context | None = None) -> list[str]:
        """All that is wrong with the parameters, alone and (given a context) with the data, one sentence each."""
        return broken_rules(self, self.rules)

    def resolve(self, context: Context) -> Self:
        """The same choice with every ``"auto"`` replaced by what it means for these data."""
        return self

    def _with(self, **changes: Any) -> Self:
        """A copy with some parameters changed."""
        copy: Self = clone(self)
        copy.set_params(**changes)
        return copy


T = TypeVar("T")


class Registry(Generic[T]):
    """The members of one choice by short name.

    Parameters
    ----------
    noun
        What a member is called in an error, such as ``"corruption"``.
    base
        The class that every member extends.
    join
        Makes one member of a list of members, where the choice can be combined.
    convert
        Makes a member of other values that stand for one (a tuple of sizes for a network), or returns None;
        asked first.
    """

    def __init__(
        self,
        noun: str,
        base: type[T],
        *,
        join: Callable[[list[T]], T] | None = None,
        convert: Callable[[Any], T | None] | None = None,
    ) -> None:
        self.noun, self.base, self.members = noun, base, dict[str, type[T]]()
        self._also = dict[str, str]()
        self._join, self._convert = join, convert

    def register(self, name: str, *also: str) -> Callable[[type[T]], type[T]]:
        """Class decorator: make a class known under a short name, and abbreviations that everybody knows."""

        def add(member: type[T]) -> type[T]:
            if name in self.members:
                raise ValueError(f"The {self.noun} name {name!r} is taken by {self.members[name].__name__}.")
            self.members[name] = member
            self._also |= dict.fromkeys(also, name)
            return member

        return add

    def names(self) -> list[str]:
        """All short names, sorted."""
        return sorted(self.members)

    def resolve(self, value: object) -> T:
        """The member that a value stands for: a member itself, a short name, a list to join."""
        if isinstance(value, self.base):
            return value
        converted = self._convert(value) if self._convert else None
        if converted is not None:
            return converted
        if isinstance(value, str):
            return self.find(value)()
        if self._join and isinstance(value, list | tuple) and value:
            return self._join([self.resolve(part) for part in value])
        raise TypeError(f"{value!r} is no {self.noun}; use one of {', '.join(self.names())}, or {self._example()}.")

    def find(self, name: str) -> type[T]:
        """The class with this short name, abbreviation or class name, however it is spelled: ``"L1"``, ``"MSE"``."""
        known = {folded(member.__name__): member for member in self.members.values()}
        known |= {folded(short): self.members[long] for short, long in self._also.items() if long in self.members}
        known |= {folded(short): member for short, member in self.members.items()}
        if folded(name) not in known:
            raise ValueError(unknown(self.noun, name, self.names()))
        return known[folded(name)]

    def gives(self, value: object, kind: type) -> bool:
        """Whether a value stands for a member of some class; a value that stands for none does not."""
        try:
            return isinstance(value, kind) or isinstance(self.resolve(value), kind)
        except (TypeError, ValueError):
            return False

    def _example(self) -> str:
        return f"an object such as {next(iter(self.members.values())).__name__}()" if self.members else "an object"
