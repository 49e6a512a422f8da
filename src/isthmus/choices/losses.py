"""Losses: how far the reconstruction is from the target, and with it the output activation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from isthmus.choices.registry import Choice, Context, Registry
from isthmus.choices.rules import OneOf, Rule

LINKS: dict[str | None, Callable[[Tensor], Tensor]] = {None: lambda x: x, "sigmoid": torch.sigmoid, "tanh": torch.tanh}


class Loss(Choice):
    """A distance between the decoder's output and the target, where possible a negative log-likelihood.

    Everything here takes the decoder's raw output; `link` turns that into a reconstruction.
    """

    unit: ClassVar[str]
    """What one number of the loss is measured in."""

    def output_width(self, n_features: int) -> int:
        """How many numbers the decoder gives for a row."""
        return n_features

    def link(self, output: Tensor) -> Tensor:
        """The reconstruction, in scaled units: (n, output_width) → (n, d)."""
        raise NotImplementedError

    def per_feature(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of every number, (n, d)."""
        raise NotImplementedError

    def mean(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of a batch: a scalar, the mean over rows and features."""
        return self.per_feature(output, target).mean()

    def per_row(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of each row, mean over its features, (n,)."""
        return self.per_feature(output, target).mean(dim=1)


LOSSES: Registry[Loss] = Registry("loss", Loss)


@LOSSES.register("mean-squared-error")
@dataclass(eq=False, repr=False)
class MeanSquaredError(Loss):
    """``(x^ - x)²``, mean over features: up to constants the negative log-likelihood of a Normal of fixed scale.

    Parameters
    ----------
    activation
        Of the output: ``"sigmoid"`` for targets in [0, 1], ``"tanh"`` for [-1, 1], None for any.
        ``"auto"``: sigmoid when the scaled data lie in [0, 1], else none.

    Examples
    --------
    >>> MeanSquaredError(activation=None).mean(torch.tensor([[1.0, 3.0]]), torch.zeros(1, 2))
    tensor(5.)
    """

    _: KW_ONLY
    activation: str | None = "auto"

    unit: ClassVar[str] = "squared scaled units per feature"
    rules: ClassVar[Mapping[str, Rule]] = {"activation": OneOf(("auto", *LINKS))}

    def resolve(self, context: Context) -> MeanSquaredError:
        if self.activation != "auto":
            return self
        return self._with(activation="sigmoid" if context.in_unit_interval else None)

    def link(self, output: Tensor) -> Tensor:
        return LINKS[self.activation](output)

    def per_feature(self, output: Tensor, target: Tensor) -> Tensor:
        return (self.link(output) - target).square()

    def mean(self, output: Tensor, target: Tensor) -> Tensor:
        return functional.mse_loss(self.link(output), target)


@LOSSES.register("binary-cross-entropy")
@dataclass(eq=False, repr=False)
class BinaryCrossEntropy(Loss):
    """``-x log x^ - (1 - x) log(1 - x^)``: the negative log-likelihood of a Bernoulli, in nats per feature.

    The output goes through a sigmoid; the loss is computed from the logits, which stays exact far from zero. For grey
    values between 0 and 1 its least value is their binary entropy, not zero.

    Examples
    --------
    >>> BinaryCrossEntropy().mean(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]))
    tensor(0.6931)
    """

    unit: ClassVar[str] = "nats per feature"

    def mistakes(self, context: Context | None = None) -> list[str]:
        found = super().mistakes(context)
        if context is not None and not context.in_unit_interval:
            found.append(
                "BinaryCrossEntropy: the scaled data must lie in [0, 1], but reach from "
                f"{context.lower:.6g} to {context.upper:.6g}; use scaling='minmax' or loss='mean-squared-error'."
            )
        return found

    def link(self, output: Tensor) -> Tensor:
        return torch.sigmoid(output)

    def per_feature(self, output: Tensor, target: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(output, target, reduction="none")

    def mean(self, output: Tensor, target: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(output, target)
