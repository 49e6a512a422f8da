"""Losses: the distance between reconstruction and target, and the output activation that belongs to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

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
"""Output activations whose ranges match scaled data."""


class Part(NamedTuple):
    """Adjacent features that share one elementwise loss formula."""

    formula: Formula
    """Maps the outputs of a feature and its target to the loss."""
    n_features: int
    n_outputs: int
    """Outputs per feature. The first outputs of all features come first, then the second outputs of all."""


class Loss(Choice):
    """Base class of losses: a distance between output and target, a negative log-likelihood where possible.

    All methods take the decoder's raw output; `link` converts it to a reconstruction.
    """

    unit: ClassVar[str]
    """Unit of the loss."""
    likelihood: ClassVar[bool] = False
    """Whether the loss is a complete negative log-likelihood in nats, constants included."""
    continuous: ClassVar[bool] = False
    """Whether the likelihood is a density, so that its value depends on the unit of the data."""

    needs_whole_rows: ClassVar[bool] = False
    """Whether the loss of a feature depends on all others of its row, so that none may be missing."""
    admits_missing: ClassVar[bool] = False
    """Whether targets may be NaN, which marks a missing entry."""
    bounded: ClassVar[bool] = False
    """Whether the data must lie in a fixed range and are therefore not standardised."""
    normaliser: ClassVar[float] = 0.0
    """Constant that completes a loss that is not a `likelihood` to a negative log-density, in nats per feature."""
    formula: ClassVar[Callable[..., Numbers] | None] = None
    """For elementwise losses: ``formula(output, target)`` is the loss of one feature.

    It is a method that uses only the functions and operators of `isthmus.choices.formulas`. With `n_outputs` above one
    it takes that many outputs before the target.
    """

    n_outputs: ClassVar[int] = 1
    """Number of decoder outputs per feature."""

    @property
    def output_activation(self) -> str | None:
        """The activation that `link` applies to the decoder's output, such as ``"sigmoid"``; None for none."""
        return None

    def output_width(self, n_features: int) -> int:
        """Number of decoder outputs per row."""
        return n_features * self.n_outputs

    def n_terms(self, n_features: int) -> int:
        """Divisor of the sum over a row's features: the number of features, or of columns of a table."""
        return n_features

    def n_columns(self, n_features: int) -> int:
        """Number of table columns that these features encode."""
        return n_features

    def kept_unscaled(self, n_features: int) -> list[bool]:
        """For each feature, whether it must not be standardised."""
        return [self.bounded] * n_features

    def link(self, output: Tensor) -> Tensor:
        """The reconstruction, in scaled units: (n, output_width) → (n, d)."""
        raise NotImplementedError

    def spread(self, output: Tensor) -> Tensor:
        """The unit of the noise that `draw` is given, (n, d): 1, or the scale that the decoder predicts."""
        return torch.ones_like(self.link(output))

    def draw(self, output: Tensor, noise: Tensor, flags: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw rows, in scaled units: the likelihood's where the loss is one, else the reconstruction plus noise.

        Parameters
        ----------
        output
            The decoder's output, (n, output_width).
        noise
            Draws of what reconstructions lack, (n, d), in units of `spread`; of flags only their mean error.
        flags
            For each feature, whether it is 0 or 1 in every row, (1, d).
        generator
            The source of further random numbers.
        """
        return self.link(output) + noise * self.spread(output)

    def per_feature(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of each feature of each row, (n, d)."""
        if self.formula is None:
            raise NotImplementedError
        output = output.to(
            torch.promote_types(output.dtype, target.dtype)
        )  # half precision is too coarse for exp and log
        loss: Tensor = self.formula(*output.chunk(self.n_outputs, dim=1), target)
        return loss

    def mean(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of a batch, a scalar: the mean over rows and features."""
        return self.per_feature(output, target).mean()

    def counted(self, target: Tensor) -> Tensor:
        """Number of terms of each row in the mean, (n,)."""
        return target.new_full((len(target),), float(self.n_terms(target.shape[1])))

    def formulas(self, n_features: int) -> tuple[Part, ...] | None:
        """The features as parts with one formula each, from left to right; None if a feature has no formula.

        The loss of a batch is then the sum of all terms, divided by the sum of `counted`, or by 1 if that sum is 0.
        """
        if self.formula is None or not inherits(self, Loss, *DERIVED):
            return None
        return (Part(Formula.of(self, self.formula), n_features, self.n_outputs),)

    def per_row(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of each row, averaged over its features, (n,)."""
        return self.per_feature(output, target).mean(dim=1)

    def supports(self, target: Tensor) -> Tensor:
        """Whether each value lies in the support of the likelihood, (n, d); elsewhere the loss is meaningless."""
        return torch.ones_like(target, dtype=torch.bool)

    def needs(self, context: Context | None, holds: Callable[[Context], bool], words: str) -> list[str]:
        """The error text if the data violate a requirement of the loss; else an empty list."""
        if context is None or holds(context):
            return []
        reach = f"range from {context.lower:.6g} to {context.upper:.6g}"
        remedy = "use another scaling (such as scaling='minmax' or 'none') or loss='mean-squared-error'"
        return [f"{type(self).__name__}: the scaled data must {words}, but {reach}; {remedy}."]


ROUNDING = 1e-6
"""Tolerance of the support: the rounding error of scaling in single precision."""


def in_unit_interval(target: Tensor) -> Tensor:
    """Where numbers lie in [0, 1], within rounding."""
    return (target >= -ROUNDING) & (target <= 1.0 + ROUNDING)


DERIVED = ("per_feature", "mean", "per_row", "output_width")
"""What derives from the formula of a loss."""
LOSSES: Registry[Loss] = Registry("loss", Loss)


@dataclass(eq=False, repr=False)
class _Distance(Loss):
    """Base class of elementwise losses of the difference between reconstruction and target."""

    _: KW_ONLY
    activation: str | None = "auto"

    rules: ClassVar[Mapping[str, Rule]] = {"activation": OneOf(("auto", *LINKS))}

    def distance(self, difference: Numbers) -> Numbers:
        """The loss as a function of reconstruction minus target."""
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
    """``(x^ - x)²``, averaged over features: a Gaussian negative log-likelihood of fixed variance, up to constants.

    Parameters
    ----------
    activation
        Output activation: ``"sigmoid"`` for targets in [0, 1], ``"tanh"`` for [-1, 1], None for any targets.
        ``"auto"``: sigmoid if the scaled data lie in [0, 1], else None.

    Examples
    --------
    >>> MeanSquaredError(activation=None).mean(torch.tensor([[1.0, 3.0]]), torch.zeros(1, 2))
    tensor(5.)
    """

    unit: ClassVar[str] = "squared scaled units per feature"
    normaliser: ClassVar[float] = 0.5 * math.log(math.pi)  # of a Gaussian of variance 1/2

    def distance(self, difference: Numbers) -> Numbers:
        return square(difference)


@LOSSES.register("mean-absolute-error", "mae")
@dataclass(eq=False, repr=False)
class MeanAbsoluteError(_Distance):
    """``|x^ - x|``, averaged over features: a Laplace likelihood up to constants; less sensitive to outliers than MSE.

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
    """``e²/2`` for errors up to delta, ``delta · (|e| - delta/2)`` beyond (Huber 1964): limits the effect of outliers.

    Parameters
    ----------
    delta
        Error at which the loss changes from quadratic to linear, in scaled units; > 0.
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


@LOSSES.register("log-mean-squared-error")
@dataclass(eq=False, repr=False)
class LogMeanSquaredError(_Distance):
    """``log(mean((x^ - x)²) + floor) / 2`` of a row: every row counts by the ratio of its error, not by its size.

    The mean of this loss is the mean PSNR of the rows but for sign and unit, so that images with weak and strong noise
    count equally; `MeanSquaredError` mostly learns from the strong noise. It is also the negative log-likelihood of a
    Gaussian with the best variance of each row, up to constants (Rybkin et al. 2021, section 3.3, for the whole batch).

    Parameters
    ----------
    floor
        Squared error in scaled units that counts as none, > 0; rows with smaller errors, as of flat images, count less.
    activation
        As for `MeanSquaredError`.

    Examples
    --------
    >>> loss = LogMeanSquaredError(floor=1e-9, activation=None)
    >>> loss.per_row(torch.tensor([[1.0, 3.0]]), torch.zeros(1, 2))  # log(5) / 2
    tensor([0.8047])
    """

    floor: float = 1e-4

    unit: ClassVar[str] = "nats per feature"
    normaliser: ClassVar[float] = 0.5 * (math.log(2.0 * math.pi) + 1.0)  # of a Gaussian of the row's own variance
    needs_whole_rows: ClassVar[bool] = True
    rules: ClassVar[Mapping[str, Rule]] = {**_Distance.rules, "floor": Number(0.0, open_low=True)}

    def per_feature(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of the row, the same for each of its features, (n, d)."""
        squares = (self.link(output) - target).square()
        loss: Tensor = 0.5 * (squares.mean(dim=1, keepdim=True) + float(self.floor)).log()
        return loss.expand_as(squares)


@LOSSES.register("binary-cross-entropy", "bce")
@dataclass(eq=False, repr=False)
class BinaryCrossEntropy(Loss):
    """``-x log x^ - (1 - x) log(1 - x^)``: the negative log-likelihood of a Bernoulli, in nats per feature.

    The output passes through a sigmoid; the loss is computed from the logits, which is accurate for large logits too.
    For grey values between 0 and 1 the minimum of the loss is their binary entropy, not zero.

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

    def draw(self, output: Tensor, noise: Tensor, flags: Tensor, generator: torch.Generator | None) -> Tensor:
        """0 or 1 for flags, with the probability that the decoder gives; grey values get noise, and stay in [0, 1]."""
        mean = self.link(output)
        uniform = torch.rand(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        moved = (mean + noise).clamp(0.0, 1.0)
        return torch.where(flags, (uniform < moved).to(mean.dtype), moved)

    def formula(self, output: Numbers, target: Numbers) -> Numbers:
        return softplus(output) - target * output


@LOSSES.register("normal")
@dataclass(eq=False, repr=False)
class Normal(Loss):
    """Gaussian negative log-likelihood in nats; the decoder outputs mean and standard deviation of each feature.

    Parameters
    ----------
    scale
        A fixed standard deviation in scaled units, > 0; None: predicted for each feature of each row, at least 0.01.

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
    def n_outputs(self) -> int:  # type: ignore[override]  # depends on the scale
        return 1 if self.scale is not None else 2

    @property
    def output_activation(self) -> str | None:
        return None if self.scale is not None else "none for the mean, softplus for the scale"

    def link(self, output: Tensor) -> Tensor:
        return output.chunk(self.n_outputs, dim=1)[0]

    def spread(self, output: Tensor) -> Tensor:
        if self.scale is not None:
            return torch.ones_like(output)
        return nn.functional.softplus(output.chunk(2, dim=1)[1]) + LEAST_SCALE

    def formula(self, mean: Numbers, *others: Numbers) -> Numbers:
        *raw, target = others
        scale = softplus(raw[0]) + LEAST_SCALE if self.scale is None else float(self.scale)
        return square((mean - target) / scale) * 0.5 + log(scale) + 0.5 * math.log(2 * math.pi)


LEAST_SCALE = 0.01
"""Lower bound of the predicted standard deviation, in scaled units: without it the loss of a constant column is
unbounded below."""


@LOSSES.register("poisson")
@dataclass(eq=False, repr=False)
class Poisson(Loss):
    """Poisson negative log-likelihood in nats per feature, for counts; the decoder outputs the log-rate.

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

    def draw(self, output: Tensor, noise: Tensor, flags: Tensor, generator: torch.Generator | None) -> Tensor:
        """Counts with the rate that the decoder gives."""
        return torch.poisson(self.link(output), generator=generator)

    def formula(self, output: Numbers, target: Numbers) -> Numbers:
        return exp(output) - target * output + log_gamma(target + 1.0)
