"""Losses composed of other losses: for observed entries only, and for each column of a mixed table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from isthmus.choices.formulas import Formula, Numbers, inherits, is_number, where
from isthmus.choices.losses import DERIVED, LOSSES, Loss, Part
from isthmus.choices.registry import Context, Registry
from isthmus.choices.rules import Instance, Rule, Whole


@dataclass(eq=False, repr=False)
class _Composed(Loss):
    """Base class of losses that delegate to other losses."""

    def resolved_parts(self) -> list[Loss]:
        """The inner losses; names are converted to members."""
        raise NotImplementedError

    @property
    def unit(self) -> str:  # type: ignore[override]  # as the parts have it
        return ", ".join(dict.fromkeys(part.unit for part in self.resolved_parts()))

    @property
    def likelihood(self) -> bool:  # type: ignore[override]
        return all(part.likelihood for part in self.resolved_parts())

    @property
    def continuous(self) -> bool:  # type: ignore[override]
        return any(part.continuous for part in self.resolved_parts())


def _inner_mistakes(owner: str, value: Any) -> list[str]:
    try:
        LOSSES.resolve(value)
    except (TypeError, ValueError) as error:
        return [f"{owner}: {error}"]
    return []


@LOSSES.register("observed")
@dataclass(eq=False, repr=False)
class Observed(_Composed):
    """Another loss, restricted to observed entries: for tables with missing cells and for ratings.

    The mean is taken over the observed entries. Missing entries enter the encoder as zero in scaled units (the mean of
    a standardised column); reconstructions predict them.

    Parameters
    ----------
    loss
        The inner loss, a member or a name.
    missing
        A value that marks a missing entry besides NaN, such as 0 in a rating matrix; None: only NaN.

    Examples
    --------
    >>> x = torch.tensor([[1.0, float("nan"), 3.0]])
    >>> Observed("mean-absolute-error").resolve(Context((3,), 1)).mean(torch.zeros(1, 3), x)
    tensor(2.)
    """

    choice_registries: ClassVar[Mapping[str, Registry[Any]]] = {"loss": LOSSES}

    loss: Any = "mean-squared-error"
    _: KW_ONLY
    missing: float | None = None

    admits_missing: ClassVar[bool] = True
    rules: ClassVar[Mapping[str, Rule]] = {"missing": Instance((int, float, type(None)), "a number or None")}

    def resolved_parts(self) -> list[Loss]:
        return [LOSSES.resolve(self.loss)]

    def mistakes(self, context: Context | None = None) -> list[str]:
        found = super().mistakes(context) + _inner_mistakes("Observed", self.loss)
        if found:
            return found
        inner = self.resolved_parts()[0]
        if inner.needs_whole_rows:
            name = type(inner).__name__
            return [f"Observed: {name} needs whole rows, without missing entries; use 'mean-squared-error' or 'huber'."]
        return inner.mistakes(context)

    def resolve(self, context: Context) -> Observed:
        return self._with(loss=self.resolved_parts()[0].resolve(context))

    def kept_unscaled(self, n_features: int) -> list[bool]:
        return self.resolved_parts()[0].kept_unscaled(n_features)

    def output_width(self, n_features: int) -> int:
        return self.resolved_parts()[0].output_width(n_features)

    def n_columns(self, n_features: int) -> int:
        return self.resolved_parts()[0].n_columns(n_features)

    def n_terms(self, n_features: int) -> int:
        return self.resolved_parts()[0].n_terms(n_features)

    @property
    def output_activation(self) -> str | None:
        return self.resolved_parts()[0].output_activation

    def supports(self, target: Tensor) -> Tensor:
        return self.resolved_parts()[0].supports(target.nan_to_num()) | torch.isnan(target)

    def link(self, output: Tensor) -> Tensor:
        return self.resolved_parts()[0].link(output)

    def spread(self, output: Tensor) -> Tensor:
        return self.resolved_parts()[0].spread(output)

    def draw(self, output: Tensor, noise: Tensor, flags: Tensor, generator: torch.Generator | None) -> Tensor:
        return self.resolved_parts()[0].draw(output, noise, flags, generator)

    def per_feature(self, output: Tensor, target: Tensor) -> Tensor:
        seen = ~torch.isnan(target)
        return self.resolved_parts()[0].per_feature(output, target.nan_to_num()) * seen

    def mean(self, output: Tensor, target: Tensor) -> Tensor:
        return self.per_feature(output, target).sum() / self.counted(target).sum().clamp(min=1)

    def per_row(self, output: Tensor, target: Tensor) -> Tensor:
        return self.per_feature(output, target).sum(1) / self.counted(target).clamp(min=1)

    def counted(self, target: Tensor) -> Tensor:
        return (~torch.isnan(target)).sum(1).to(target.dtype)

    def formulas(self, n_features: int) -> tuple[Part, ...] | None:
        inner = self.resolved_parts()[0].formulas(n_features)
        if inner is None or not inherits(self, Observed, "counted", *DERIVED):
            return None
        return tuple(part._replace(formula=_where_observed(part.formula)) for part in inner)


def _where_observed(inner: Formula) -> Formula:
    """A formula that is zero where the target is missing."""
    return Formula(("observed", inner.key), partial(_observed, inner.function))


def _observed(formula: Callable[..., Numbers], *numbers: Numbers) -> Numbers:
    *outputs, target = numbers
    seen = is_number(target)
    return where(seen, formula(*outputs, where(seen, target, 0.0)), 0.0)


@LOSSES.register("by-column")
@dataclass(eq=False, repr=False)
class ByColumn(_Composed):
    """A separate loss for each column of a mixed table; all columns have the same weight.

    Parameters
    ----------
    parts
        Pairs of a loss (a member or a name) and its number of adjacent features, from left to right; the numbers must
        add up to all features. A categorical column is one part with one feature per category, and has the weight of
        one numeric column.

    Examples
    --------
    >>> loss = ByColumn((("mean-squared-error", 2), ("categorical-cross-entropy", 3))).resolve(Context((5,), 1))
    >>> loss.mean(torch.zeros(1, 5), torch.tensor([[1.0, 2.0, 0.0, 1.0, 0.0]]))  # (1 + 4 + log 3) / 3
    tensor(2.0329)
    """

    parts: tuple[tuple[Any, int], ...] = (("mean-squared-error", 1),)

    rules: ClassVar[Mapping[str, Rule]] = {"parts": Instance((tuple, list), "pairs of a loss and a number of features")}

    @property
    def admits_missing(self) -> bool:  # type: ignore[override]  # as the parts have it
        return any(part.admits_missing for part in self.resolved_parts())

    def resolved_parts(self) -> list[Loss]:
        return [LOSSES.resolve(part) for part, _ in self.parts]

    def mistakes(self, context: Context | None = None) -> list[str]:
        found = super().mistakes(context) or self._malformed()
        if found or context is None:
            return found
        total = sum(width for _, width in self.parts)
        if total != context.n_features:
            return [
                (
                    f"ByColumn: the parts take {total} features, but there are {context.n_features}; make "
                    "their numbers add up to that."
                )
            ]
        parts = zip(self.resolved_parts(), self._columns(), strict=True)
        return [text for part, columns in parts for text in part.mistakes(context.part(columns))]

    def _malformed(self) -> list[str]:
        wrong = [pair for pair in self.parts if not (isinstance(pair, tuple | list) and len(pair) == 2)]
        wrong = wrong or [pair for pair in self.parts if not Whole(1).admits(pair[1])]
        if wrong:
            return [
                f"ByColumn: {pair!r} is not a pair of a loss and a number of features >= 1; "
                "write it as ('mean-squared-error', 3)."
                for pair in wrong
            ]
        return [text for part, _ in self.parts for text in _inner_mistakes("ByColumn", part)]

    def resolve(self, context: Context) -> ByColumn:
        parts = zip(self.resolved_parts(), self._columns(), strict=True)
        made = [part.resolve(context.part(columns)) for part, columns in parts]
        return self._with(parts=tuple((part, width) for part, (_, width) in zip(made, self.parts, strict=True)))

    def _columns(self) -> Iterator[slice]:
        start = 0
        for _, width in self.parts:
            yield slice(start, start + width)
            start += width

    def _pairs(self) -> list[tuple[Loss, int]]:
        return [(LOSSES.resolve(part), width) for part, width in self.parts]

    def kept_unscaled(self, n_features: int) -> list[bool]:
        return [kept for part, width in self._pairs() for kept in part.kept_unscaled(width)]

    def output_width(self, n_features: int) -> int:
        return sum(part.output_width(width) for part, width in self._pairs())

    def n_terms(self, n_features: int) -> int:
        return sum(part.n_columns(width) for part, width in self._pairs())

    def _each(self, function: Callable[..., Tensor], output: Tensor, *target: Tensor) -> Tensor:
        if len(self.parts) == 1:
            return function(self.resolved_parts()[0], output, *target)
        parts, widths = zip(*self._pairs(), strict=True)
        outputs = output.split([part.output_width(width) for part, width in self._pairs()], dim=1)
        together = zip(parts, outputs, *(whole.split(list(widths), dim=1) for whole in target), strict=True)
        return torch.cat([function(*given) for given in together], dim=1)

    @property
    def output_activation(self) -> str | None:
        named = [part.output_activation or "none" for part in self.resolved_parts()]
        together = ", ".join(dict.fromkeys(named))
        return None if together == "none" else together

    def supports(self, target: Tensor) -> Tensor:
        parts = target.split([width for _, width in self._pairs()], dim=1)
        return torch.cat([loss.supports(part) for (loss, _), part in zip(self._pairs(), parts, strict=True)], dim=1)

    def link(self, output: Tensor) -> Tensor:
        return self._each(lambda part, part_output: part.link(part_output), output)

    def spread(self, output: Tensor) -> Tensor:
        return self._each(lambda part, part_output: part.spread(part_output), output)

    def draw(self, output: Tensor, noise: Tensor, flags: Tensor, generator: torch.Generator | None) -> Tensor:
        return self._each(lambda part, *given: part.draw(*given, generator), output, noise, flags)

    def per_feature(self, output: Tensor, target: Tensor) -> Tensor:
        return self._each(lambda part, *given: part.per_feature(*given), output, target)

    def mean(self, output: Tensor, target: Tensor) -> Tensor:
        return self.per_row(output, target).mean()

    def per_row(self, output: Tensor, target: Tensor) -> Tensor:
        return self.per_feature(output, target).sum(dim=1) / self.n_terms(target.shape[1])

    def formulas(self, n_features: int) -> tuple[Part, ...] | None:
        each = [part.formulas(width) for part, width in self._pairs()]
        if None in each or not inherits(self, ByColumn, "counted", *DERIVED):
            return None
        return tuple(part for parts in each if parts is not None for part in parts)
