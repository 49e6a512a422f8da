"""Losses: how far the reconstruction is from the target, and with it the output activation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from isthmus.choices.registry import Choice, Context, Registry
from isthmus.choices.rules import Instance, Number, OneOf, Rule

LINKS: dict[str | None, Callable[[Tensor], Tensor]] = {None: lambda x: x, "sigmoid": torch.sigmoid, "tanh": torch.tanh}


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
    separable: ClassVar[bool] = False
    """Whether `gradient` takes outputs and targets of any one shape, for each number counts by itself."""

    @property
    def output_activation(self) -> str | None:
        """What `link` applies to the decoder's output, such as ``"sigmoid"``; None for nothing."""
        return None

    def output_width(self, n_features: int) -> int:
        """How many numbers the decoder gives for a row."""
        return n_features

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
        raise NotImplementedError

    def mean(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of a batch: a scalar, the mean over rows and features."""
        return self.per_feature(output, target).mean()

    def gradient(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of a batch and its gradient by the output, (n, output_width); `output` may be overwritten."""
        with torch.enable_grad():
            leaf = output.detach().requires_grad_()
            mean = self.mean(leaf, target)
        return mean.detach(), torch.autograd.grad(mean, leaf)[0].contiguous()

    def gradients(self, outputs: Tensor, targets: Tensor) -> tuple[list[Tensor], Tensor]:
        """The same for the outputs of several models, (models, n, output_width), with a loss for each."""
        means = []
        for output, target in zip(outputs, targets, strict=True):
            mean, gradient = self.gradient(output, target)
            if gradient.data_ptr() != output.data_ptr():
                output.copy_(gradient)
            means.append(mean)
        return means, outputs

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


def _in_unit_interval(target: Tensor) -> Tensor:
    return (target >= -ROUNDING) & (target <= 1.0 + ROUNDING)


LOSSES: Registry[Loss] = Registry("loss", Loss)


@dataclass(eq=False, repr=False)
class _Distance(Loss):
    """A loss that compares the linked output with the target, number by number."""

    _: KW_ONLY
    activation: str | None = "auto"

    separable: ClassVar[bool] = True
    rules: ClassVar[Mapping[str, Rule]] = {"activation": OneOf(("auto", *LINKS))}

    def resolve(self, context: Context) -> _Distance:
        if self.activation != "auto":
            return self
        return self._with(activation="sigmoid" if context.in_unit_interval else None)

    @property
    def output_activation(self) -> str | None:
        return self.activation

    def link(self, output: Tensor) -> Tensor:
        return LINKS[self.activation](output)


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

    def per_feature(self, output: Tensor, target: Tensor) -> Tensor:
        return (self.link(output) - target).square()

    def mean(self, output: Tensor, target: Tensor) -> Tensor:
        return functional.mse_loss(self.link(output), target)

    def gradient(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        if self.activation == "tanh":
            return super().gradient(output, target)
        means, gradient = self.gradients(output[None], target[None])
        return means[0], gradient[0]

    def gradients(self, outputs: Tensor, targets: Tensor) -> tuple[list[Tensor], Tensor]:
        if self.activation == "tanh":
            return super().gradients(outputs, targets)
        linked = outputs.sigmoid_() if self.activation == "sigmoid" else outputs
        difference = linked - targets
        share = 1.0 / difference[0].numel()
        means = difference.square().flatten(1).sum(1).mul_(share)
        difference *= 2.0 * share
        if self.activation == "sigmoid":
            torch.ops.aten.sigmoid_backward.grad_input(difference, linked, grad_input=difference)
        return list(means.unbind()), difference


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

    def per_feature(self, output: Tensor, target: Tensor) -> Tensor:
        return (self.link(output) - target).abs()


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

    def per_feature(self, output: Tensor, target: Tensor) -> Tensor:
        return functional.huber_loss(self.link(output), target, reduction="none", delta=self.delta)


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
    separable: ClassVar[bool] = True
    unit: ClassVar[str] = "nats per feature"
    likelihood: ClassVar[bool] = True

    def mistakes(self, context: Context | None = None) -> list[str]:
        return super().mistakes(context) + self.needs(context, lambda known: known.in_unit_interval, "lie in [0, 1]")

    @property
    def output_activation(self) -> str | None:
        return "sigmoid"

    def supports(self, target: Tensor) -> Tensor:
        return _in_unit_interval(target)

    def link(self, output: Tensor) -> Tensor:
        return torch.sigmoid(output)

    def per_feature(self, output: Tensor, target: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(output, target, reduction="none")

    def mean(self, output: Tensor, target: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(output, target)

    def gradient(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        means, gradient = self.gradients(output[None], target[None])
        return means[0], gradient[0]

    def gradients(self, outputs: Tensor, targets: Tensor) -> tuple[list[Tensor], Tensor]:
        """Of the logits l: ``softplus(l) - x l = max(l, 0) - x l - log max(s, 1 - s)`` with s their sigmoid.

        So written it costs one sigmoid and few logarithms, where softplus is an exponential and a logarithm each.
        """
        share = 1.0 / outputs[0].numel()
        spare = outputs.clamp_min(0.0)
        totals = torch.addcmul(spare, outputs, targets, value=-1.0, out=spare).flatten(1).sum(1)
        linked = outputs.sigmoid_()
        certain = torch.maximum(torch.sub(1.0, linked, out=spare), linked, out=spare)
        totals.sub_(_sums_of_logs(certain.flatten(1))).mul_(share)
        return list(totals.unbind()), linked.sub_(targets).mul_(share)


def _sums_of_logs(values: Tensor) -> Tensor:
    """Sums along rows of the logarithms of numbers in [1/2, 1]: of their products by 16, which stay far from zero."""
    rest = values.shape[1] % 16
    if rest:
        return _sums_of_logs(values[:, rest:].contiguous()) + values[:, :rest].log().sum(1)
    return values.view(len(values), 16, -1).prod(1).log_().sum(1)


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

    def output_width(self, n_features: int) -> int:
        return n_features * (1 if self.scale is not None else 2)

    @property
    def output_activation(self) -> str | None:
        return None if self.scale is not None else "none for the mean, softplus for the scale"

    def link(self, output: Tensor) -> Tensor:
        return output if self.scale is not None else output.chunk(2, dim=1)[0]

    def per_feature(self, output: Tensor, target: Tensor) -> Tensor:
        if self.scale is not None:
            return self._negative_log(target - output, output.new_tensor(self.scale))
        mean, raw = output.chunk(2, dim=1)
        return self._negative_log(target - mean, functional.softplus(raw) + 0.01)

    @staticmethod
    def _negative_log(difference: Tensor, scale: Tensor) -> Tensor:
        return 0.5 * (math.log(2 * math.pi) + (difference / scale).square()) + scale.log()


@LOSSES.register("poisson")
@dataclass(eq=False, repr=False)
class Poisson(Loss):
    """The negative log-likelihood of a Poisson whose log-rate the decoder gives, in nats per feature: for counts.

    Use it with ``scaling="none"``.

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

    def per_feature(self, output: Tensor, target: Tensor) -> Tensor:
        return functional.poisson_nll_loss(output, target, reduction="none") + torch.lgamma(target + 1)


@LOSSES.register("categorical-cross-entropy")
@dataclass(eq=False, repr=False)
class CategoricalCrossEntropy(Loss):
    """``-Σ_k x_k log x^_k`` over groups of neighbouring features: one-hot categories, through a softmax a group.

    Parameters
    ----------
    group_sizes
        Numbers of categories of the groups, in order; they must add up to the number of features. An integer stands for
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
                f"{sum(self._sizes(context.n_features))}, but there are {context.n_features} features."
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
        return torch.cat([function(group) for group in output.split(self._sizes(output.shape[1]), dim=1)], dim=1)

    @property
    def output_activation(self) -> str | None:
        return "softmax" if self.group_sizes is None else "softmax per group"

    def supports(self, target: Tensor) -> Tensor:
        """Shares of a group add up to 1; a group of zeros would cost nothing, whatever the model says."""
        sums = self._per_group(lambda group: group.sum(1, keepdim=True).expand_as(group), target)
        return _in_unit_interval(target) & ((sums - 1.0).abs() < 1e-3)

    def link(self, output: Tensor) -> Tensor:
        return self._per_group(lambda group: group.softmax(1), output)

    def per_feature(self, output: Tensor, target: Tensor) -> Tensor:
        return -target * self._per_group(lambda group: group.log_softmax(1), output)


@LOSSES.register("multinomial")
@dataclass(eq=False, repr=False)
class Multinomial(Loss):
    """``-Σ_j x_j log softmax(output)_j``: counts or clicks of one row over all features (Liang et al. 2018, eq. 2).

    In nats per feature; the multinomial coefficient, which no model changes, is left out.

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

    def per_feature(self, output: Tensor, target: Tensor) -> Tensor:
        return -target * output.log_softmax(1)
