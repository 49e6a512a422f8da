"""Losses: how far the reconstruction is from the target, and with it the output activation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from isthmus.choices.formulas import (
    Formula,
    Numbers,
    absolute,
    exp,
    inherits,
    log,
    log_gamma,
    minimum,
    softplus,
    square,
)
from isthmus.choices.layers import ACTIVATIONS
from isthmus.choices.registry import Choice, Context, Registry
from isthmus.choices.rules import Instance, Number, OneOf, Rule

LINKS = (None, "sigmoid", "tanh")
"""The activations of outputs, whose ranges are those of scaled data."""


class Part(NamedTuple):
    """Some neighbouring features whose loss is a formula of single numbers."""

    formula: Formula
    """Takes the outputs of a feature, then its target; gives its loss."""
    n_features: int
    n_outputs: int
    """Outputs of a feature. The first of all features come first, then the second of all."""


class Loss(Choice):
    """A distance between the decoder's output and the target, where possible a negative log-likelihood.

    Everything here takes the decoder's raw output; `link` turns that into a reconstruction.
    """

    unit: ClassVar[str]
    """What one number of the loss is measured in."""
    likelihood: ClassVar[bool] = False
    """Whether the loss is a whole negative log-likelihood in nats, constants included."""
    continuous: ClassVar[bool] = False
    """Whether that is of a density, which has the inverse unit of the data."""

    admits_missing: ClassVar[bool] = False
    """Whether targets may be NaN, which stands for a missing entry."""
    bounded: ClassVar[bool] = False
    """Whether the data must lie in a range, and so are not standardised."""
    normaliser: ClassVar[float] = 0.0
    """What makes each number of a loss that is no `likelihood` the negative logarithm of a density, in nats."""
    formula: ClassVar[Callable[..., Numbers] | None] = None
    """Where the loss works number by number: ``formula(output, target)``, the loss of one feature, of single numbers.

    It is a method of the functions and operators of `isthmus.choices.formulas`. With `n_outputs` above one it takes so
    many outputs before the target.
    """

    n_outputs: ClassVar[int] = 1
    """How many numbers the decoder gives for a feature."""

    @property
    def output_activation(self) -> str | None:
        """What `link` applies to the decoder's output, such as ``"sigmoid"``; None for nothing."""
        return None

    def output_width(self, n_features: int) -> int:
        """How many numbers the decoder gives for a row."""
        return n_features * self.n_outputs

    def n_terms(self, n_features: int) -> int:
        """By how many the sum over a row's features is divided: their number, or that of a table's columns."""
        return n_features

    def n_columns(self, n_features: int) -> int:
        """How many columns of a table so many features are."""
        return n_features

    def kept_unscaled(self, n_features: int) -> list[bool]:
        """For each feature, whether standardising would spoil it."""
        return [self.bounded] * n_features

    def link(self, output: Tensor) -> Tensor:
        """The reconstruction, in scaled units: (n, output_width) → (n, d)."""
        raise NotImplementedError

    def per_feature(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of every number, (n, d)."""
        if self.formula is None:
            raise NotImplementedError
        output = output.to(torch.promote_types(output.dtype, target.dtype))  # half precision would spoil exp and log
        loss: Tensor = self.formula(*output.chunk(self.n_outputs, dim=1), target)
        return loss

    def mean(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of a batch: a scalar, the mean over rows and features."""
        return self.per_feature(output, target).mean()

    def counted(self, target: Tensor) -> Tensor:
        """How many terms of each row count in the mean, (n,)."""
        return target.new_full((len(target),), float(self.n_terms(target.shape[1])))

    def formulas(self, n_features: int) -> tuple[Part, ...] | None:
        """The features in parts that have a formula each, from left to right; None where some have none.

        The loss of a batch is then the sum of all, divided by the sum of `counted` or by 1 if that is 0.
        """
        if self.formula is None or not inherits(self, Loss, *DERIVED):
            return None
        return (Part(Formula.of(self, self.formula), n_features, self.n_outputs),)

    def per_row(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of each row, mean over its features, (n,)."""
        return self.per_feature(output, target).mean(dim=1)

    def supports(self, target: Tensor) -> Tensor:
        """Whether each number lies in the support of the likelihood, (n, d); elsewhere the formula means nothing."""
        return torch.ones_like(target, dtype=torch.bool)

    def needs(self, context: Context | None, holds: Callable[[Context], bool], words: str) -> list[str]:
        """A sentence where the data are not what the loss needs."""
        if context is None or holds(context):
            return []
        reach = f"reach from {context.lower:.6g} to {context.upper:.6g}"
        remedy = "use another scaling (such as scaling='minmax' or 'none') or loss='mean-squared-error'"
        return [f"{type(self).__name__}: the scaled data must {words}, but {reach}; {remedy}."]


ROUNDING = 1e-6
"""How far a number may be outside its support: what scaling in single precision costs."""


def in_unit_interval(target: Tensor) -> Tensor:
    """Where numbers lie in [0, 1], within rounding."""
    return (target >= -ROUNDING) & (target <= 1.0 + ROUNDING)


DERIVED = ("per_feature", "mean", "per_row", "output_width")
"""What derives from the formula of a loss."""
LOSSES: Registry[Loss] = Registry("loss", Loss)


@dataclass(eq=False, repr=False)
class _Distance(Loss):
    """A loss that compares the linked output with the target, number by number."""

    _: KW_ONLY
    activation: str | None = "auto"

    rules: ClassVar[Mapping[str, Rule]] = {"activation": OneOf(("auto", *LINKS))}

    def distance(self, difference: Numbers) -> Numbers:
        """The loss of a difference between reconstruction and target."""
        raise NotImplementedError

    def formula(self, output: Numbers, target: Numbers) -> Numbers:
        return self.distance(self._linked(output) - target)

    def _linked(self, output: Numbers) -> Numbers:
        return output if self.activation is None else ACTIVATIONS[self.activation].function(output)

    def resolve(self, context: Context) -> _Distance:
        if self.activation != "auto":
            return self
        return self._with(activation="sigmoid" if context.in_unit_interval else None)

    @property
    def output_activation(self) -> str | None:
        return self.activation

    def link(self, output: Tensor) -> Tensor:
        linked: Tensor = self._linked(output)
        return linked


@LOSSES.register("mean-squared-error", "mse")
@dataclass(eq=False, repr=False)
class MeanSquaredError(_Distance):
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

    unit: ClassVar[str] = "squared scaled units per feature"
    normaliser: ClassVar[float] = 0.5 * math.log(math.pi)  # of a Normal of variance 1/2

    def distance(self, difference: Numbers) -> Numbers:
        return square(difference)


@LOSSES.register("mean-absolute-error", "mae")
@dataclass(eq=False, repr=False)
class MeanAbsoluteError(_Distance):
    """``|x^ - x|``, mean over features: a Laplace likelihood up to constants; far values pull less than with squares.

    Parameters
    ----------
    activation
        As for `MeanSquaredError`.

    Examples
    --------
    >>> MeanAbsoluteError(activation=None).mean(torch.tensor([[1.0, -3.0]]), torch.zeros(1, 2))
    tensor(2.)
    """

    unit: ClassVar[str] = "scaled units per feature"
    normaliser: ClassVar[float] = math.log(2.0)  # of a Laplace distribution of scale 1

    def distance(self, difference: Numbers) -> Numbers:
        return absolute(difference)


@LOSSES.register("huber")
@dataclass(eq=False, repr=False)
class Huber(_Distance):
    """``e²/2`` for errors below delta, ``delta · (|e| - delta/2)`` beyond (Huber 1964): squares that tame far values.

    Parameters
    ----------
    delta
        Where the square ends, in scaled units; > 0.
    activation
        As for `MeanSquaredError`.

    Examples
    --------
    >>> Huber(delta=1.0, activation=None).per_feature(torch.tensor([[0.5, 3.0]]), torch.zeros(1, 2))
    tensor([[0.1250, 2.5000]])
    """

    delta: float = 1.0

    unit: ClassVar[str] = "half squared scaled units per feature"
    rules: ClassVar[Mapping[str, Rule]] = {**_Distance.rules, "delta": Number(0.0, open_low=True)}

    def distance(self, difference: Numbers) -> Numbers:
        error = absolute(difference)
        near = minimum(error, float(self.delta))
        return near * (error - near * 0.5)


@LOSSES.register("binary-cross-entropy", "bce")
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

    bounded: ClassVar[bool] = True
    unit: ClassVar[str] = "nats per feature"
    likelihood: ClassVar[bool] = True

    def mistakes(self, context: Context | None = None) -> list[str]:
        return super().mistakes(context) + self.needs(context, lambda known: known.in_unit_interval, "lie in [0, 1]")

    @property
    def output_activation(self) -> str | None:
        return "sigmoid"

    def supports(self, target: Tensor) -> Tensor:
        return in_unit_interval(target)

    def link(self, output: Tensor) -> Tensor:
        return torch.sigmoid(output)

    def formula(self, output: Numbers, target: Numbers) -> Numbers:
        return softplus(output) - target * output


@LOSSES.register("normal")
@dataclass(eq=False, repr=False)
class Normal(Loss):
    """The negative log-likelihood of a Normal whose mean and scale the decoder gives for each number, in nats.

    Parameters
    ----------
    scale
        A fixed standard deviation in scaled units, > 0; None: learned for each number of each row, at least 0.01.

    Examples
    --------
    >>> Normal(scale=1.0).mean(torch.zeros(1, 2), torch.zeros(1, 2))  # log(2π)/2
    tensor(0.9189)
    """

    scale: float | None = None

    unit: ClassVar[str] = "nats per feature"
    likelihood: ClassVar[bool] = True
    continuous: ClassVar[bool] = True
    rules: ClassVar[Mapping[str, Rule]] = {"scale": Instance((float, int, type(None)), "a number > 0 or None")}

    def mistakes(self, context: Context | None = None) -> list[str]:
        found = super().mistakes(context)
        if not found and self.scale is not None and not Number(0.0, open_low=True).admits(self.scale):
            found.append(f"Normal: scale={self.scale!r} must be a number > 0 or None.")
        return found

    @property
    def n_outputs(self) -> int:  # type: ignore[override]  # as the scale is given or learned
        return 1 if self.scale is not None else 2

    @property
    def output_activation(self) -> str | None:
        return None if self.scale is not None else "none for the mean, softplus for the scale"

    def link(self, output: Tensor) -> Tensor:
        return output.chunk(self.n_outputs, dim=1)[0]

    def formula(self, mean: Numbers, *others: Numbers) -> Numbers:
        *raw, target = others
        scale = softplus(raw[0]) + LEAST_SCALE if self.scale is None else float(self.scale)
        return square((mean - target) / scale) * 0.5 + log(scale) + 0.5 * math.log(2 * math.pi)


LEAST_SCALE = 0.01
"""The least standard deviation that is learned, in scaled units: without one a column that is constant has no least
loss."""


@LOSSES.register("poisson")
@dataclass(eq=False, repr=False)
class Poisson(Loss):
    """The negative log-likelihood of a Poisson whose log-rate the decoder gives, in nats per feature: for counts.

    ``scaling="auto"`` leaves counts as they are.

    Examples
    --------
    >>> Poisson().mean(torch.zeros(1, 1), torch.zeros(1, 1))  # rate 1, count 0
    tensor(1.)
    """

    bounded: ClassVar[bool] = True
    unit: ClassVar[str] = "nats per feature"
    likelihood: ClassVar[bool] = True

    def mistakes(self, context: Context | None = None) -> list[str]:
        return super().mistakes(context) + self.needs(context, lambda known: known.lower >= 0, "be >= 0 (counts)")

    @property
    def output_activation(self) -> str | None:
        return "exp"

    def supports(self, target: Tensor) -> Tensor:
        return target >= -ROUNDING

    def link(self, output: Tensor) -> Tensor:
        return output.exp()

    def formula(self, output: Numbers, target: Numbers) -> Numbers:
        return exp(output) - target * output + log_gamma(target + 1.0)
