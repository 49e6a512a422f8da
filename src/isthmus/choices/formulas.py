"""The arithmetic of formulas, and forward-mode differentiation.

An elementwise member (activation, loss, penalty, corruption, code) states its formula once, as a Python function that
uses ``+ - * /``, comparisons, and the functions below. Its arguments are torch tensors, vectors of the compiled engine,
or `Dual` numbers of either, which carry their derivatives::

    formula ──▶ tensors         value, and the gradient by autograd
            ──▶ Dual(tensors)   value and gradient without a graph
            ──▶ Dual(vectors)   compiled code of both

So nothing is differentiated by hand. A new function needs three things: what torch calls it, its rule (a line below),
and a method of its name in `isthmus.training.engines.compiled.vectors.Vector`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from sklearn.base import BaseEstimator
from torch import Tensor
from torch.nn import functional

Numbers: TypeAlias = Any
"""Tensors, vectors of the compiler, `Dual` numbers of either, or floats. They share operators but no base class, and
type checkers cannot resolve a Protocol whose operators take and return one another."""

SOFTPLUS_IS_LINEAR = 40.0
"""Above this, softplus(x) returns x. torch's default of 20 has an error of 2·10⁻⁹, visible in double precision."""


@dataclass(frozen=True)
class Function:
    """A function of one variable with its derivative.

    Parameters
    ----------
    name
        The name of the method of the compiler's vectors.
    of_tensor
        The torch function.
    slope
        The derivative with respect to x, given x and the value y; None: the function is not differentiable.
    by_value
        Whether `slope` depends only on y, so that x need not be stored.

    Examples
    --------
    >>> tanh(torch.tensor([0.0, 100.0]))
    tensor([0., 1.])
    >>> exp(0.0)
    1.0
    """

    name: str
    of_tensor: Callable[[Tensor], Tensor]
    slope: Callable[[Numbers, Numbers], Numbers] | None
    by_value: bool = False

    def __call__(self, x: Numbers) -> Numbers:
        if isinstance(x, Dual):
            return self._of_dual(x)
        if isinstance(x, Tensor):
            return self.of_tensor(x)
        if isinstance(x, float | int):
            return float(self.of_tensor(torch.tensor(float(x), dtype=torch.float64)))
        return getattr(settled(x), self.name)()

    def _of_dual(self, x: Dual) -> Dual:
        if x.is_constant:
            return x.with_value(self(x.value), x.slopes)
        if self.slope is None:
            raise TypeError(f"{self.name} has no derivative here; use it on targets, not on outputs or codes.")
        value = settled(x.value)
        if self is softplus and x.is_summed:
            y, slope = _deferred_softplus(value)
        else:
            y = self(value)
            slope = self.slope(value, y)
        return x.with_value(y, (_times(each, slope) for each in x.slopes))

    def __repr__(self) -> str:
        return self.name


exp = Function("exp", torch.exp, lambda _, y: y, by_value=True)
log = Function("log", torch.log, lambda x, _: 1.0 / x)
sqrt = Function("sqrt", torch.sqrt, lambda _, y: 0.5 / y, by_value=True)
square = Function("square", torch.square, lambda x, _: x * 2.0)
sign = Function("sign", torch.sign, lambda _, __: 0.0)
absolute = Function("absolute", torch.abs, lambda x, _: sign(x))
sigmoid = Function("sigmoid", torch.sigmoid, lambda _, y: y * (1.0 - y), by_value=True)
tanh = Function("tanh", torch.tanh, lambda _, y: 1.0 - y * y, by_value=True)
softplus = Function("softplus", lambda x: functional.softplus(x, threshold=SOFTPLUS_IS_LINEAR), lambda x, _: sigmoid(x))
positive_part = Function("positive_part", torch.relu, lambda _, y: where(y > 0.0, 1.0, 0.0), by_value=True)
normal_cdf = Function(
    "normal_cdf", torch.special.ndtr, lambda x, _: exp(x * x * -0.5) * (1.0 / math.sqrt(2.0 * math.pi))
)
log_gamma = Function("log_gamma", torch.lgamma, None)


def where(condition: Any, one: Numbers, other: Numbers) -> Numbers:
    """Select `one` where a condition such as ``x < 0`` is true, else `other`.

    >>> where(torch.tensor([-2.0, 3.0]) < 0, 0.0, 1.0)
    tensor([0., 1.])
    """
    if isinstance(one, Dual) or isinstance(other, Dual):
        model = one if isinstance(one, Dual) else other
        first, second = model.lifted(one), model.lifted(other)
        pairs = zip(first.slopes, second.slopes, strict=True)
        return model.with_value(
            where(condition, first.value, second.value), (where(condition, *pair) for pair in pairs)
        )
    if isinstance(one, Deferred) or isinstance(other, Deferred):
        first, second = Deferred.of(one), Deferred.of(other)
        return Deferred(where(condition, first.plain, second.plain), where(condition, first.certain, second.certain))
    if isinstance(one, float) and isinstance(other, float) and one == other:
        return one
    if isinstance(condition, bool):
        return one if condition else other
    if isinstance(condition, Tensor):
        return torch.where(condition, one, other)
    return condition.choose(one, other)


def maximum(one: Numbers, other: Numbers) -> Numbers:
    """Elementwise maximum; NaN where `one` is NaN."""
    if isinstance(one, Tensor) and isinstance(other, float):
        return one.clamp_min(other)
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.maximum(one, other)
    return where(one < other, other, one)


def minimum(one: Numbers, other: Numbers) -> Numbers:
    """Elementwise minimum; NaN where `one` is NaN."""
    if isinstance(one, Tensor) and isinstance(other, float):
        return one.clamp_max(other)
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.minimum(one, other)
    return where(one > other, other, one)


def is_number(x: Numbers) -> Any:
    """Where x is not NaN."""
    if isinstance(x, Dual):
        return is_number(x.value)
    return ~torch.isnan(x) if isinstance(x, Tensor) else settled(x).is_number()


# -- derivatives -------------------------------------------------------------------------------------------------------


class Dual:
    """A value with its derivatives with respect to one or more variables; implements the rules of all operators.

    Parameters
    ----------
    value
        A tensor, a vector of the compiler, or a float.
    slopes
        The derivative with respect to each variable; the floats 0 and 1 generate no operations.
    is_summed
        Whether only the sum of many values is needed; logarithms may then be deferred (`Deferred`).

    Examples
    --------
    >>> y = differentiated(lambda a, b: a * a + b, torch.tensor(3.0), torch.tensor(1.0))
    >>> y.value, y.slopes
    (tensor(10.), (tensor(6.), 1.0))
    """

    def __init__(self, value: Numbers, slopes: Sequence[Numbers], is_summed: bool = False) -> None:
        self.value, self.slopes, self.is_summed = value, tuple(slopes), is_summed

    @property
    def is_constant(self) -> bool:
        """Whether all derivatives are zero."""
        return all(_is(slope, 0.0) for slope in self.slopes)

    def with_value(self, value: Numbers, slopes: Any) -> Dual:
        """A dual number with respect to the same variables."""
        return Dual(value, tuple(slopes), self.is_summed)

    def lifted(self, other: Numbers) -> Dual:
        """Convert to a dual number of the same variables; a plain value becomes a constant."""
        if isinstance(other, Dual):
            return other
        return self.with_value(other, [0.0] * len(self.slopes))

    def _pairs(self, other: Dual) -> list[tuple[Numbers, Numbers]]:
        return list(zip(self.slopes, other.slopes, strict=True))

    def __add__(self, other: Numbers) -> Dual:
        more = self.lifted(other)
        return self.with_value(self.value + more.value, (_plus(a, b) for a, b in self._pairs(more)))

    def __sub__(self, other: Numbers) -> Dual:
        less = self.lifted(other)
        return self.with_value(self.value - less.value, (_minus(a, b) for a, b in self._pairs(less)))

    def __mul__(self, other: Numbers) -> Dual:
        by = self.lifted(other)
        one, two = settled(self.value), settled(by.value)
        return self.with_value(one * two, (_plus(_times(a, two), _times(b, one)) for a, b in self._pairs(by)))

    def __truediv__(self, other: Numbers) -> Dual:
        by = self.lifted(other)
        one, two = settled(self.value), settled(by.value)
        ratio = one / two
        return self.with_value(
            ratio, (_over(_plus(a, _times(_times(b, ratio), -1.0)), two) for a, b in self._pairs(by))
        )

    def __neg__(self) -> Dual:
        return self * -1.0

    def __radd__(self, other: Numbers) -> Dual:
        return self.__add__(other)

    def __rmul__(self, other: Numbers) -> Dual:
        return self.__mul__(other)

    def __rsub__(self, other: Numbers) -> Dual:
        return self.lifted(other).__sub__(self)

    def __rtruediv__(self, other: Numbers) -> Dual:
        return self.lifted(other).__truediv__(self)

    def __lt__(self, other: Numbers) -> Any:
        return settled(self.value) < _value(other)

    def __le__(self, other: Numbers) -> Any:
        return settled(self.value) <= _value(other)

    def __gt__(self, other: Numbers) -> Any:
        return settled(self.value) > _value(other)

    def __ge__(self, other: Numbers) -> Any:
        return settled(self.value) >= _value(other)


def _value(number: Numbers) -> Numbers:
    return settled(number.value if isinstance(number, Dual) else number)


def _is(slope: Numbers, value: float) -> bool:
    return isinstance(slope, float) and slope == value


def _plus(one: Numbers, other: Numbers) -> Numbers:
    """A sum of derivatives without additions of zero."""
    if _is(one, 0.0):
        return other
    return one if _is(other, 0.0) else one + other


def _minus(one: Numbers, other: Numbers) -> Numbers:
    if _is(other, 0.0):
        return one
    return other * -1.0 if _is(one, 0.0) else one - other


def _times(slope: Numbers, factor: Numbers) -> Numbers:
    """A derivative times a factor, without multiplications by zero and one."""
    if _is(slope, 0.0) or _is(factor, 0.0):
        return 0.0
    if _is(slope, 1.0):
        return factor
    return slope if _is(factor, 1.0) else slope * factor


def _over(slope: Numbers, divisor: Numbers) -> Numbers:
    return 0.0 if _is(slope, 0.0) else slope / divisor


def differentiated(formula: Callable[..., Numbers], *variables: Numbers, given: Sequence[Numbers] = ()) -> Numbers:
    """Evaluate a formula with its derivatives: the result is one `Dual` number, or a tuple of them.

    Parameters
    ----------
    formula
        Takes the variables, then the `given` values; returns one value or a tuple of values.
    variables
        Arguments with respect to which it is differentiated.
    given
        Further arguments, treated as constants.
    """
    return _evaluated(formula, variables, given, is_summed=False)


def summed(formula: Callable[..., Numbers], *variables: Numbers, given: Sequence[Numbers] = ()) -> Dual:
    """As `differentiated`, for a formula of which only the sum over values is needed; values may be `Deferred`."""
    result: Dual = _evaluated(formula, variables, given, is_summed=True)
    return result


def _evaluated(
    formula: Callable[..., Numbers], variables: Sequence[Numbers], given: Sequence[Numbers], *, is_summed: bool
) -> Any:
    n = len(variables)
    seeds = [Dual(x, [float(i == j) for j in range(n)], is_summed) for i, x in enumerate(variables)]
    # Given values are lifted to dual numbers: with a raw tensor on the left of an operator, torch first raises and
    # catches an error inside, which takes 100 µs each time.
    result = formula(*seeds, *map(seeds[0].lifted, given))
    if isinstance(result, tuple):
        return tuple(seeds[0].lifted(part) for part in result)
    return seeds[0].lifted(result)


# -- one logarithm for many --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Deferred:
    """``plain - log(certain)`` with certain in [1/2, 1] and the logarithm not yet computed.

    The sum of many such values needs one logarithm of a product instead of one per value: BCE then takes one
    exponential per value, where softplus by itself takes an exponential and a logarithm.
    """

    plain: Numbers
    certain: Numbers

    @staticmethod
    def of(x: Numbers) -> Deferred:
        """Convert any value to a deferred one."""
        return x if isinstance(x, Deferred) else Deferred(x, 1.0)

    def settled(self) -> Numbers:
        """The value, with its logarithm computed."""
        return self.plain - log(self.certain)

    def __add__(self, other: Numbers) -> Deferred:  # a second one is computed: products stay above 2⁻¹²⁶
        return Deferred(self.plain + settled(other), self.certain)

    def __sub__(self, other: Numbers) -> Deferred:
        return Deferred(self.plain - settled(other), self.certain)

    def __radd__(self, other: Numbers) -> Deferred:
        return self.__add__(other)

    def __rsub__(self, other: Numbers) -> Numbers:
        return other - self.settled()


def settled(x: Numbers) -> Numbers:
    """A value with its deferred logarithm, if any, computed."""
    return x.settled() if isinstance(x, Deferred) else x


def _deferred_softplus(x: Numbers) -> tuple[Deferred, Numbers]:
    """``softplus(x) = max(x, 0) - log max(s, 1 - s)`` and its derivative s, the sigmoid of x."""
    s = sigmoid(x)
    return Deferred(maximum(x, 0.0), maximum(s, 1.0 - s)), s


# -- formulas of members -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Formula:
    """The formula of a member. Two formulas are equal, and share compiled code, if their keys are equal.

    Parameters
    ----------
    key
        Identifies the formula: the member's class and parameters.
    function
        The formula.
    """

    key: object
    function: Callable[..., Numbers] = field(compare=False)

    @classmethod
    def of(cls, member: BaseEstimator, function: Callable[..., Numbers]) -> Formula:
        """The formula that is a method of a member."""
        return cls((function.__name__, key_of(member)), function)

    @property
    def slope_by_value(self) -> Callable[[Numbers], Numbers] | None:
        """The derivative as a function of the value; None if it depends on the argument."""
        made = self.function
        if not isinstance(made, Function) or not made.by_value or made.slope is None:
            return None
        slope = made.slope
        return lambda y: slope(None, y)


class _Itself:
    """Compares an object by identity, and keeps a reference so that its id is not reused."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def key_of(value: object) -> object:
    """A key that is equal for members that compute the same: class and parameters.

    Parameters other than numbers, strings, members and tuples of these are compared by identity.
    """
    if isinstance(value, BaseEstimator):
        return (type(value), *((name, key_of(part)) for name, part in sorted(value.get_params(deep=False).items())))
    if isinstance(value, list | tuple):
        return tuple(map(key_of, value))
    if value is None or isinstance(value, str | int | float | type):
        return type(value), value
    return _Itself(value)


def inherits(member: object, base: type, *names: str) -> bool:
    """Whether a member inherits all of these methods unchanged from a base class.

    These methods derive their results from the formula. A subclass that overrides one of them computes something else,
    so the formula that it inherits must not be used in its place.
    """
    return all(getattr(type(member), name) is getattr(base, name) for name in names)


def as_numbers(slope: Numbers, like: Tensor) -> Tensor:
    """A derivative as a tensor of the shape of `like`; a float is broadcast."""
    if not isinstance(slope, Tensor):
        return torch.full_like(like, slope)
    return slope if slope.shape == like.shape else slope.to(like.dtype).expand_as(like)
