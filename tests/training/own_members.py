"""Members of a user's own, in a file of the user's own: formulas of which the library knows nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from isthmus.choices import Code, Corruption, Loss, Penalty
from isthmus.choices.formulas import Numbers, absolute, exp, log, maximum, sign, softplus, sqrt, square, tanh, where


def mish(x: Numbers) -> Numbers:
    return x * tanh(softplus(x))


def hard_swish(x: Numbers) -> Numbers:
    return where(x < -3.0, 0.0, where(x > 3.0, x, x * (x + 3.0) / 6.0))


@dataclass(eq=False, repr=False)
class LogCosh(Loss):
    """``log cosh(e / scale)``."""

    scale: float = 0.5
    unit: ClassVar[str] = "scaled units per feature"

    def link(self, output: Numbers) -> Numbers:
        return output

    def formula(self, output: Numbers, target: Numbers) -> Numbers:
        error = (output - target) / self.scale
        return error + softplus(error * -2.0)


@dataclass(eq=False, repr=False)
class Cauchy(Loss):
    """A Cauchy distribution whose location and log-scale the decoder gives."""

    unit: ClassVar[str] = "nats per feature"
    n_outputs: ClassVar[int] = 2

    def link(self, output: Numbers) -> Numbers:
        return output.chunk(2, dim=1)[0]

    def formula(self, location: Numbers, log_scale: Numbers, target: Numbers) -> Numbers:
        return log(square((target - location) * exp(-log_scale)) + 1.0) + log_scale


@dataclass(eq=False, repr=False)
class LogSparsity(Penalty):
    """``weight · Σ log(1 + z²)``."""

    weight: float = 0.3

    def formula(self, z: Numbers) -> Numbers:
        return log(square(z) + 1.0) * self.weight


@dataclass(eq=False, repr=False)
class Centred(Penalty):
    """``weight · Σ sqrt(mean² + 0.01)``: units whose mean is zero."""

    weight: float = 0.3

    def rate_formula(self, mean: Numbers) -> Numbers:
        return sqrt(square(mean) + 0.01) * self.weight


@dataclass(eq=False, repr=False)
class Speckle(Corruption):
    """Multiplies each number by a draw from N(1, scale²), cut at zero."""

    scale: float = 0.2
    draws: ClassVar[str] = "normal"

    def formula(self, x: Numbers, draw: Numbers) -> Numbers:
        return x * maximum(draw * self.scale + 1.0, 0.0)


@dataclass(eq=False, repr=False)
class Inverted(Corruption):
    """``1 - x``."""

    def formula(self, x: Numbers, draw: None) -> Numbers:
        return 1.0 - x


@dataclass(eq=False, repr=False)
class Shrunk(Code):
    """Numbers drawn towards zero by `by`, those below it to zero."""

    by: float = 0.05

    def formula(self, h: Numbers) -> Numbers:
        return where(absolute(h) > self.by, h - sign(h) * self.by, 0.0)
