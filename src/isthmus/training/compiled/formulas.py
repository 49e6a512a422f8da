"""Activations and losses, number by number, with their derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import nn

from isthmus.choices import corruptions, losses, penalties
from isthmus.training.compiled.plans import Name
from isthmus.training.compiled.vectors import Vector


def sigmoid(x: Vector) -> Vector:
    """``1 / (1 + exp(-x))``."""
    return x.like(1.0) / ((x.like(0.0) - x).exp() + 1.0)


def tanh(x: Vector) -> Vector:
    """By exponentials, near zero by a quotient of polynomials (a convergent of Lambert's continued fraction)."""
    square, decay = x * x, (x.abs() * -2.0).exp()
    is_small, is_negative = x.abs().is_less(0.5), x.is_less(0.0)
    far = (x.like(1.0) - decay).where(is_negative, decay - 1.0) * -1.0
    above = (x * square.polynomial([1.0, 105.0, 945.0])).where(is_small, far)
    return above / square.polynomial([15.0, 420.0, 945.0]).where(is_small, decay + 1.0)


def _relu(x: Vector) -> tuple[Vector, Vector | None]:
    return x.at_least(0.0), None


def _gelu(x: Vector) -> tuple[Vector, Vector | None]:
    """``x Φ(x)``; Φ by Abramowitz & Stegun 7.1.26, to 10⁻⁷."""
    bell = (x * x * -0.5).exp()
    t = x.like(1.0) / (x.abs() * (0.3275911 / math.sqrt(2.0)) + 1.0)
    tail = t.polynomial([0.5307027145, -0.7265760135, 0.7107068705, -0.142248368, 0.127414796, 0.0]) * bell
    below = tail.where(x.is_less(0.0), x.like(1.0) - tail)
    return x * below, below + x * bell * (1.0 / math.sqrt(2.0 * math.pi))


def _silu(x: Vector) -> tuple[Vector, Vector | None]:
    share = sigmoid(x)
    return x * share, share * (x * (x.like(1.0) - share) + 1.0)


class Activation(NamedTuple):
    """An activation and its derivative."""

    forward: Callable[[Vector], tuple[Vector, Vector | None]]
    """What comes out, and the slope there where it does not follow from that."""
    slope: Callable[[Vector], Vector] | None = None
    """The slope by what came out."""


ACTIVATIONS: dict[str, Activation] = {
    nn.ReLU.__name__: Activation(_relu, lambda y: y.like(1.0).where(y.like(0.0).is_less(y), 0.0)),
    nn.GELU.__name__: Activation(_gelu),
    nn.SiLU.__name__: Activation(_silu),
    nn.Sigmoid.__name__: Activation(lambda x: (sigmoid(x), None), lambda y: y * (y.like(1.0) - y)),
    nn.Tanh.__name__: Activation(lambda x: (tanh(x), None), lambda y: y.like(1.0) - y * y),
}
"""By the name of torch's module."""


class Formula:
    """A loss that is a sum over numbers."""

    def start(self, x: Vector) -> list[Vector]:
        """What is carried along a row, before the first number."""
        return [x.like(0.0)]

    def each(self, output: Vector, target: Vector, sums: Sequence[Vector], count: int | None) -> list[Vector]:
        """The gradient of the sum by the output, and what is carried on; `count` numbers are there."""
        raise NotImplementedError

    def end(self, sums: Sequence[Vector]) -> Vector:
        """The loss of what was carried."""
        return sums[0]


class BernoulliFormula(Formula):
    """``softplus(l) - x l`` of logits l, as ``max(l, 0) - x l + log(1 + exp(-|l|))``: one logarithm for a whole row."""

    def start(self, x: Vector) -> list[Vector]:
        return [x.like(0.0), x.like(1.0)]

    def each(self, output: Vector, target: Vector, sums: Sequence[Vector], count: int | None) -> list[Vector]:
        decay = (output.abs() * -1.0).exp()
        certain = output.like(1.0) / (decay + 1.0)
        linked = (decay * certain).where(output.is_less(0.0), certain)
        known = (output.at_least(0.0) - target * output).first(count)
        return [linked - target, sums[0] + known, sums[1] * (decay.first(count) + 1.0)]

    def end(self, sums: Sequence[Vector]) -> Vector:
        return sums[0] + sums[1].log()


class DistanceFormula(Formula):
    """A function of the difference between what is linked and the target.

    Parameters
    ----------
    distance
        Gives its value and its derivative.
    link
        The name of an activation, or None.
    """

    def __init__(self, distance: Callable[[Vector], tuple[Vector, Vector]], link: str | None) -> None:
        self.distance, self.link = distance, link

    def each(self, output: Vector, target: Vector, sums: Sequence[Vector], count: int | None) -> list[Vector]:
        linked, slope = output, None
        if self.link is not None:
            activation = ACTIVATIONS[self.link]
            linked, slope = activation.forward(output)[0], activation.slope
        value, gradient = self.distance(linked - target)
        return [gradient if slope is None else gradient * slope(linked), sums[0] + value.first(count)]


def _square(difference: Vector) -> tuple[Vector, Vector]:
    return difference * difference, difference * 2.0


def _absolute(difference: Vector) -> tuple[Vector, Vector]:
    zero, one = difference.like(0.0), difference.like(1.0)
    sign = one.where(zero.is_less(difference), (zero - one).where(difference.is_less(zero), difference * 0.0))
    return difference.abs(), sign


CHARGES = {penalties.L1.__name__: _absolute, penalties.L2.__name__: _square}
"""What a number of a code is charged, by the name of the penalty: the value and its derivative."""


def _huber(delta: float) -> Callable[[Vector], tuple[Vector, Vector]]:
    def distance(difference: Vector) -> tuple[Vector, Vector]:
        near = difference.abs().is_less(delta)
        bounded = difference.at_least(-delta).at_most(delta)
        beyond = (difference.abs() - 0.5 * delta) * delta
        return (difference * difference * 0.5).where(near, beyond), bounded

    return distance


class Damage(NamedTuple):
    """What is done to numbers with the help of random ones."""

    apply: Callable[..., Vector]
    """Takes the numbers, as many random ones, and what is known of the damage."""
    is_normal: bool = False
    """Whether the random numbers are from N(0, 1), not from [0, 1)."""


def _noisy(x: Vector, normal: Vector, scale: float, clips: float) -> Vector:
    noisy = normal.fma(scale, x)
    return noisy.at_least(0.0).at_most(1.0) if clips else noisy


def _masked(x: Vector, draw: Vector, fraction: float) -> Vector:
    return x.like(0.0).where(draw.is_less(fraction), x)


def _peppered(x: Vector, draw: Vector, fraction: float, low: float, high: float) -> Vector:
    salted = x.where(draw.is_less(1.0 - fraction / 2), high)
    return x.like(low).where(draw.is_less(fraction / 2), salted)


DAMAGES = {
    corruptions.GaussianNoise.__name__: Damage(_noisy, is_normal=True),
    corruptions.Masking.__name__: Damage(_masked),
    corruptions.DropEntries.__name__: Damage(lambda x, draw, share: _masked(x * (1.0 / (1.0 - share)), draw, share)),
    corruptions.SaltAndPepper.__name__: Damage(_peppered),
}
"""By the name of the corruption."""


def formula_of(name: Name) -> Formula:
    """The formula of a name."""
    if name.kind == losses.BinaryCrossEntropy.__name__:
        return BernoulliFormula()
    distances = {losses.MeanSquaredError.__name__: _square, losses.MeanAbsoluteError.__name__: _absolute}
    return DistanceFormula(distances.get(name.kind) or _huber(*name.numbers), name.link)
