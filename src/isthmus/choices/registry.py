"""Shared parts of all choices: the base class, the context of a fit, and the registries that map names to classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, Self, TypeVar

from sklearn.base import BaseEstimator, clone

from isthmus.choices.parameters import Parameters
from isthmus.choices.rules import Rule, broken_rules
from isthmus.choices.spelling import folded
from isthmus.choices.spelling import unknown as unknown  # noqa: PLC0414  # re-exported for other rooms


@dataclass(frozen=True)
class Context:
    """Facts about the data that are known once `fit` has read them.

    Attributes
    ----------
    feature_shape
        Shape of one row: ``(d,)``, ``(h, w)``, ``(h, w, c)`` or ``(d, h, w, c)``. Batches are flat, ``(n, d)``, in
        row-major order of this shape.
    code_size
        Number of latent dimensions.
    lower, upper
        Minimum and maximum of the scaled data.
    n_conditions
        Number of condition columns appended to each row and to each code, such as the length of a one-hot label.
    ranges
        Minimum and maximum of each scaled feature, (2, d); None if unknown.
    target
        The context of the targets if the model is trained on pairs; None if its target is the input itself.
    """

    feature_shape: tuple[int, ...]
    code_size: int
    lower: float = -math.inf
    upper: float = math.inf
    n_conditions: int = 0
    ranges: Any = field(default=None, compare=False, repr=False)
    target: Context | None = None

    @property
    def output(self) -> Context:
        """The context of what the output is compared with: that of the target, or this one.

        A network builds its decoder, and a loss its output activation, for this context.

        >>> grey = Context((8, 8), code_size=4, target=Context((8, 8, 3), code_size=4))
        >>> grey.n_features, grey.output.n_features
        (64, 192)
        """
        return self if self.target is None else self.target

    @property
    def n_features(self) -> int:
        """Number of features in a flat row."""
        return math.prod(self.feature_shape)

    def part(self, columns: slice) -> Context:
        """The context of a slice of adjacent features."""
        width = len(range(*columns.indices(self.n_features)))
        if self.ranges is None:
            return replace(self, feature_shape=(width,))
        least, largest = self.ranges[:, columns]
        return replace(self, feature_shape=(width,), lower=float(least.min()), upper=float(largest.max()), ranges=None)

    @property
    def encoder_width(self) -> int:
        """Input width of the encoder: features plus conditions."""
        return self.n_features + self.n_conditions

    @property
    def decoder_width(self) -> int:
        """Input width of the decoder: latent dimensions plus conditions."""
        return self.code_size + self.n_conditions

    @property
    def in_unit_interval(self) -> bool:
        """Whether all values lie in [0, 1]."""
        return self.lower >= 0.0 and self.upper <= 1.0


class Choice(Parameters, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Base class of the members of the five choices: hyper-parameters, and pure functions of tensors."""

    rules: ClassVar[Mapping[str, Rule]] = {}

    def mistakes(self, context: Context | None = None) -> list[str]:
        """Every invalid parameter, one sentence each; with a context, also every conflict with the data."""
        return broken_rules(self, self.rules)

    def resolve(self, context: Context) -> Self:
        """A copy with every ``"auto"`` replaced by the value for these data."""
        return self

    def _with(self, **changes: Any) -> Self:
        """A copy with some parameters changed."""
        copy: Self = clone(self)
        copy.set_params(**changes)
        return copy


T = TypeVar("T")

LONGEST_SHOWN = 120
"""Characters of a value that an error shows."""


class Registry(Generic[T]):
    """The members of one choice by short name.

    Parameters
    ----------
    noun
        The word for a member in error messages, such as ``"corruption"``.
    base
        The class that every member extends.
    join
        Combines a list of members into one; None if the choice cannot be combined.
    convert
        Converts other values to a member (a tuple of sizes to a network), or returns None. Called before the lookup
        by name.
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
        """Class decorator: register a class under a short name and common abbreviations."""

        def add(member: type[T]) -> type[T]:
            if name in self.members:
                raise ValueError(
                    f"The {self.noun} name {name!r} is taken by {self.members[name].__name__}; use another name."
                )
            self.members[name] = member
            self._also |= dict.fromkeys(also, name)
            return member

        return add

    def names(self) -> list[str]:
        """All short names, sorted."""
        return sorted(self.members)

    def abbreviations(self) -> list[str]:
        """Names that are accepted beside the short names and the class names, sorted."""
        return sorted(self._also)

    def resolve(self, value: object) -> T:
        """Convert a value to a member: a member is returned as is, a name is looked up, a list is combined."""
        if isinstance(value, self.base):
            return value
        converted = self._convert(value) if self._convert else None
        if converted is not None:
            return converted
        if isinstance(value, str):
            return self.find(value)()
        if self._join and isinstance(value, list | tuple) and value:
            return self._join([self.resolve(part) for part in value])
        shown = repr(value)
        shown = (
            shown if len(shown) <= LONGEST_SHOWN and "\n" not in shown else f"An object of type {type(value).__name__}"
        )
        raise TypeError(f"{shown} is not a {self.noun}; use one of {', '.join(self.names())}, or {self._example()}.")

    def find(self, name: str) -> type[T]:
        """The class with this short name, abbreviation or class name, in any spelling: ``"L1"``, ``"MSE"``."""
        known = {folded(member.__name__): member for member in self.members.values()}
        known |= {folded(short): self.members[long] for short, long in self._also.items() if long in self.members}
        known |= {folded(short): member for short, member in self.members.items()}
        if folded(name) not in known:
            classes = [member.__name__ for member in self.members.values()]
            raise ValueError(unknown(self.noun, name, self.names(), [*classes, *self.abbreviations()]))
        return known[folded(name)]

    def gives(self, value: object, kind: type) -> bool:
        """Whether a value converts to a member of the class `kind`; False for values that cannot be converted."""
        try:
            return isinstance(value, kind) or isinstance(self.resolve(value), kind)
        except (TypeError, ValueError):
            return False

    def _example(self) -> str:
        return f"an object such as {next(iter(self.members.values())).__name__}()" if self.members else "an object"
