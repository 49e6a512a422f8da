"""Losses of probabilities that sum to one.

The softmax of one output depends on every output of its group, so these losses have no elementwise formula.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from isthmus.choices.losses import LOSSES, ROUNDING, Loss, in_unit_interval
from isthmus.choices.registry import Context
from isthmus.choices.rules import Instance, Rule


@LOSSES.register("categorical-cross-entropy")
@dataclass(eq=False, repr=False)
class CategoricalCrossEntropy(Loss):
    """``-Σ_k x_k log x^_k`` over groups of adjacent features: one-hot categories, with one softmax per group.

    Parameters
    ----------
    group_sizes
        Number of categories of each group, in order; the sum must equal the number of features. An integer means equal
        groups of that size. None: one group of all features.

    Examples
    --------
    >>> CategoricalCrossEntropy(2).per_row(torch.zeros(1, 4), torch.tensor([[1.0, 0.0, 0.0, 1.0]])) * 4  # 2 log 2
    tensor([1.3863])
    """

    group_sizes: int | tuple[int, ...] | None = None

    bounded: ClassVar[bool] = True
    unit: ClassVar[str] = "nats per feature"
    likelihood: ClassVar[bool] = True
    rules: ClassVar[Mapping[str, Rule]] = {
        "group_sizes": Instance((int, tuple, list, type(None)), "an integer, a tuple of integers or None")
    }

    def mistakes(self, context: Context | None = None) -> list[str]:
        found = super().mistakes(context) + self.needs(context, lambda known: known.in_unit_interval, "lie in [0, 1]")
        if not found and context is not None and sum(self._sizes(context.n_features)) != context.n_features:
            found.append(
                f"CategoricalCrossEntropy: group_sizes={self.group_sizes} add up to "
                f"{sum(self._sizes(context.n_features))}, but there are {context.n_features} features; make them add "
                "up to that."
            )
        return found

    def n_columns(self, n_features: int) -> int:
        return len(self._sizes(n_features))

    def _sizes(self, n_features: int) -> list[int]:
        if self.group_sizes is None:
            return [n_features]
        if isinstance(self.group_sizes, int):
            return [self.group_sizes] * max(1, n_features // max(1, self.group_sizes))
        return list(self.group_sizes)

    def _per_group(self, function: Callable[[Tensor], Tensor], output: Tensor) -> Tensor:
        if self.group_sizes is None:  # nothing to split
            return function(output)
        return torch.cat([function(group) for group in output.split(self._sizes(output.shape[1]), dim=1)], dim=1)

    @property
    def output_activation(self) -> str | None:
        return "softmax" if self.group_sizes is None else "softmax per group"

    def supports(self, target: Tensor) -> Tensor:
        """Whether the values of each group sum to 1; a group of zeros would have zero loss for any output."""
        sums = self._per_group(lambda group: group.sum(1, keepdim=True).expand_as(group), target)
        return in_unit_interval(target) & ((sums - 1.0).abs() < 1e-3)

    def link(self, output: Tensor) -> Tensor:
        return self._per_group(lambda group: group.softmax(1), output)

    def draw(self, output: Tensor, noise: Tensor, flags: Tensor, generator: torch.Generator | None) -> Tensor:
        """One category of each group, one-hot, with the probabilities that the decoder gives."""

        def pick(group: Tensor) -> Tensor:
            chosen = torch.multinomial(group.softmax(1), 1, generator=generator)
            return torch.zeros_like(group).scatter_(1, chosen, 1.0)

        return self._per_group(pick, output)

    def per_feature(self, output: Tensor, target: Tensor) -> Tensor:
        return -target * self._per_group(lambda group: group.log_softmax(1), output)


@LOSSES.register("multinomial")
@dataclass(eq=False, repr=False)
class Multinomial(Loss):
    """``-Σ_j x_j log softmax(output)_j``: counts or clicks of a row over all features (Liang et al. 2018, eq. 2).

    In nats per feature, without the multinomial coefficient, which does not depend on the model.

    Examples
    --------
    >>> Multinomial().per_row(torch.zeros(1, 2), torch.tensor([[3.0, 1.0]])) * 2  # 4 log 2
    tensor([2.7726])
    """

    bounded: ClassVar[bool] = True
    unit: ClassVar[str] = "nats per feature"

    def mistakes(self, context: Context | None = None) -> list[str]:
        return super().mistakes(context) + self.needs(context, lambda known: known.lower >= 0, "be >= 0 (counts)")

    @property
    def output_activation(self) -> str | None:
        return "softmax"

    def supports(self, target: Tensor) -> Tensor:
        return target >= -ROUNDING

    def link(self, output: Tensor) -> Tensor:
        return output.softmax(1)

    def draw(self, output: Tensor, noise: Tensor, flags: Tensor, generator: torch.Generator | None) -> Tensor:
        """The shares themselves: a code says nothing of how many counts a row has."""
        return self.link(output)

    def per_feature(self, output: Tensor, target: Tensor) -> Tensor:
        return -target * output.log_softmax(1)
