"""Vectors in LLVM's language, with the arithmetic and the functions of `isthmus.choices.formulas`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir

F32, I32 = ir.FloatType(), ir.IntType(32)


class Vector:
    """As many single-precision numbers as a register holds.

    Sums of products are rounded once, as processors do it. NaN stays NaN, except in `log_of_normal`.

    Parameters
    ----------
    builder
        Where operations are written.
    value
        LLVM's value.
    """

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    @property
    def width(self) -> int:
        """The number of places."""
        return int(self.value.type.count)

    def like(self, value: float) -> Vector:
        """A constant in every place."""
        return Vector(self.builder, constant(value, self.width))

    def _with(self, operation: str, other: Any, *, reflected: bool = False) -> Vector:
        if not isinstance(other, Vector | float | int):
            return NotImplemented  # type: ignore[no-any-return]  # dual numbers know what to do
        theirs = other if isinstance(other, Vector) else self.like(other)
        one, two = (theirs, self) if reflected else (self, theirs)
        return Vector(self.builder, getattr(self.builder, operation)(one.value, two.value, flags=("contract",)))

    def __add__(self, other: Any) -> Vector:
        return self._with("fadd", other)

    def __sub__(self, other: Any) -> Vector:
        return self._with("fsub", other)

    def __mul__(self, other: Any) -> Vector:
        return self._with("fmul", other)

    def __truediv__(self, other: Any) -> Vector:
        return self._with("fdiv", other)

    def __radd__(self, other: float) -> Vector:
        return self._with("fadd", other, reflected=True)

    def __rsub__(self, other: float) -> Vector:
        return self._with("fsub", other, reflected=True)

    def __rmul__(self, other: float) -> Vector:
        return self._with("fmul", other, reflected=True)

    def __rtruediv__(self, other: float) -> Vector:
        return self._with("fdiv", other, reflected=True)

    def __neg__(self) -> Vector:
        return Vector(self.builder, self.builder.fneg(self.value))

    def _compared(self, sign: str, other: Any) -> Mask:
        if not isinstance(other, Vector | float | int):
            return NotImplemented  # type: ignore[no-any-return]
        theirs = other if isinstance(other, Vector) else self.like(other)
        return Mask(self, self.builder.fcmp_ordered(sign, self.value, theirs.value))

    def __lt__(self, other: Any) -> Mask:
        return self._compared("<", other)

    def __le__(self, other: Any) -> Mask:
        return self._compared("<=", other)

    def __gt__(self, other: Any) -> Mask:
        return self._compared(">", other)

    def __ge__(self, other: Any) -> Mask:
        return self._compared(">=", other)

    def is_number(self) -> Mask:
        """Where it is not NaN."""
        return Mask(self, self.builder.fcmp_ordered("ord", self.value, self.value))

    def _called(self, name: str, *others: Vector | float) -> Vector:
        """Call an LLVM intrinsic element by element."""
        vectors = [self, *(other if isinstance(other, Vector) else self.like(other) for other in others)]
        kind = self.value.type
        of = intrinsic(self.builder.module, f"{name}.v{self.width}f32", kind, [kind] * len(vectors))
        return Vector(self.builder, self.builder.call(of, [vector.value for vector in vectors]))

    def fma(self, factor: Vector | float, more: Vector | float) -> Vector:
        """``self · factor + more``."""
        return self._called("fma", factor, more)

    def absolute(self) -> Vector:
        """Without sign."""
        return self._called("fabs")

    def sign(self) -> Vector:
        """-1, 0 or 1."""
        return self.like(1.0).where(self > 0.0, self.like(-1.0).where(self < 0.0, self * 0.0))

    def square(self) -> Vector:
        """Times itself."""
        return self * self

    def sqrt(self) -> Vector:
        """The square root."""
        return self._called("sqrt")

    def rounded(self) -> Vector:
        """The nearest whole number."""
        return self._called("nearbyint")

    def where(self, condition: Mask, other: Vector | float) -> Vector:
        """These numbers where a condition holds, other numbers elsewhere."""
        return condition.choose(self, other)

    def at_least(self, bound: float) -> Vector:
        """The larger of number and bound."""
        return self.like(bound).where(self < bound, self)

    def at_most(self, bound: float) -> Vector:
        """The smaller of number and bound."""
        return self.like(bound).where(self > bound, self)

    def first(self, count: int | None, behind: float = 0.0) -> Vector:
        """Keep the first numbers, and put another number into the other places."""
        return self if count is None else self.where(Mask(self, mask(count, self.width)), behind)

    def polynomial(self, coefficients: Sequence[float]) -> Vector:
        """By Horner's rule, the coefficient of the highest power first."""
        result = self.like(coefficients[0])
        for coefficient in coefficients[1:]:
            result = result.fma(self, coefficient)
        return result

    def exp(self) -> Vector:
        """The exponential, to two parts in 10⁷; the argument is clipped to [-87, 88]."""
        bounded = self.at_least(-87.0).at_most(88.0)
        power = (bounded * (1.0 / math.log(2.0))).rounded()
        rest = power.fma(-LOG_2_REST, power.fma(-LOG_2_HIGH, bounded))
        kind = ir.VectorType(I32, self.width)
        raised = self.builder.add(self.builder.fptosi(power.value, kind), _all_of(127, kind))
        scale = self.builder.bitcast(self.builder.shl(raised, _all_of(23, kind)), self.value.type)
        return rest.polynomial([1 / math.factorial(k) for k in range(7, -1, -1)]) * Vector(self.builder, scale)

    def log(self) -> Vector:
        """The natural logarithm of any number."""
        is_small = self < LEAST_NORMAL
        known = (self * 2.0**24).where(is_small, self).log_of_normal() - self.like(24.0 * math.log(2.0)).where(
            is_small, 0.0
        )
        finite = known.where(self < math.inf, self)
        return finite.where(self > 0.0, self.like(-math.inf).where(self >= 0.0, math.nan))

    def log_of_normal(self) -> Vector:
        """The natural logarithm of a number that is neither zero, negative, denormal nor infinite, to 2 · 10⁻⁷."""
        kind = ir.VectorType(I32, self.width)
        bits = self.builder.bitcast(self.value, kind)
        power = self.builder.sub(self.builder.ashr(bits, _all_of(23, kind)), _all_of(127, kind))
        fraction = self.builder.or_(self.builder.and_(bits, _all_of(0x7FFFFF, kind)), _all_of(0x3F800000, kind))
        mantissa = Vector(self.builder, self.builder.bitcast(fraction, self.value.type))  # in [1, 2)
        root = math.sqrt(2.0)
        ratio = (mantissa - root) / (mantissa + root)  # log(m / √2) = 2 artanh of it
        square = ratio * ratio
        series = ratio * square.polynomial([2 / k for k in range(13, 0, -2)])
        exponent = Vector(self.builder, self.builder.sitofp(power, self.value.type))
        return (exponent + 0.5).fma(math.log(2.0), series)

    def sigmoid(self) -> Vector:
        """``1 / (1 + exp(-x))``."""
        return 1.0 / ((0.0 - self).exp() + 1.0)

    def tanh(self) -> Vector:
        """By exponentials, near zero by a quotient of polynomials (a convergent of Lambert's continued fraction)."""
        square, decay = self * self, (self.absolute() * -2.0).exp()
        is_small, is_negative = self.absolute() < 0.5, self < 0.0
        far = (1.0 - decay).where(is_negative, decay - 1.0) * -1.0
        above = (self * square.polynomial([1.0, 105.0, 945.0])).where(is_small, far)
        return above / square.polynomial([15.0, 420.0, 945.0]).where(is_small, decay + 1.0)

    def softplus(self) -> Vector:
        """``max(x, 0) + log(1 + exp(-|x|))``; log(1 + d) = 2 artanh(d / (2 + d)), exact for small d too."""
        decay = (self.absolute() * -1.0).exp()
        ratio = decay / (decay + 2.0)  # at most 1/3
        return ratio * (ratio * ratio).polynomial([2 / k for k in range(15, 0, -2)]) + self.at_least(0.0)

    def positive_part(self) -> Vector:
        """The larger of number and zero."""
        return self.at_least(0.0)

    def normal_cdf(self) -> Vector:
        """By Abramowitz & Stegun 7.1.26, to 10⁻⁷."""
        bell = (self * self * -0.5).exp()
        t = 1.0 / (self.absolute() * (0.3275911 / math.sqrt(2.0)) + 1.0)
        tail = t.polynomial([0.5307027145, -0.7265760135, 0.7107068705, -0.142248368, 0.127414796, 0.0]) * bell
        return tail.where(self < 0.0, 1.0 - tail)

    def log_gamma(self) -> Vector:
        """For numbers of at least 1, by Stirling's series four steps up, where its next term is 4 · 10⁻⁹."""
        up, product = self + 4.0, self * (self + 1.0) * (self + 2.0) * (self + 3.0)
        series = (1.0 / (up * up)).polynomial([1 / 1260, -1 / 360, 1 / 12]) / up
        return (up - 0.5) * up.log() - up + series + 0.5 * math.log(2.0 * math.pi) - product.log()

    def sum(self) -> Any:
        """The sum of its numbers, always in the same order."""
        value, size = self.value, self.width
        while size > 1:
            size //= 2
            lower, upper = places(range(size)), places(range(size, 2 * size))
            value = self.builder.fadd(*(self.builder.shuffle_vector(value, value, half) for half in (lower, upper)))
        return self.builder.extract_element(value, ir.Constant(I32, 0))


class Mask:
    """Where in a vector a condition holds.

    Parameters
    ----------
    vector
        Any vector of that width.
    value
        LLVM's value, a bit a number.
    """

    def __init__(self, vector: Vector, value: Any) -> None:
        self.vector, self.value = vector, value

    def choose(self, one: Vector | float, other: Vector | float) -> Vector:
        """`one` where the condition holds, `other` elsewhere."""
        first, second = (part if isinstance(part, Vector) else self.vector.like(part) for part in (one, other))
        return Vector(self.vector.builder, self.vector.builder.select(self.value, first.value, second.value))

    def __and__(self, other: Mask) -> Mask:
        return Mask(self.vector, self.vector.builder.and_(self.value, other.value))

    def __or__(self, other: Mask) -> Mask:
        return Mask(self.vector, self.vector.builder.or_(self.value, other.value))

    def __invert__(self) -> Mask:
        return Mask(self.vector, self.vector.builder.not_(self.value))


LEAST_NORMAL = 2.0**-126
"""Numbers below it are denormal."""
LOG_2_HIGH = 0.693145751953125
"""The first bits of log 2, so few that products with small whole numbers are exact."""
LOG_2_REST = math.log(2.0) - LOG_2_HIGH


def constant(value: float, width: int) -> ir.Constant:
    """A vector with the same number in every place, rounded to single precision."""
    return ir.Constant(ir.VectorType(F32, width), [float(np.float32(value))] * width)


def _all_of(value: int, kind: ir.VectorType) -> ir.Constant:
    return ir.Constant(kind, [value] * kind.count)


def places(indices: Sequence[int]) -> ir.Constant:
    """The indices of the numbers of vectors."""
    return ir.Constant(ir.VectorType(I32, len(indices)), list(indices))


def mask(count: int, width: int) -> ir.Constant:
    """A mask that is true for the first places."""
    return ir.Constant(ir.VectorType(ir.IntType(1), width), [int(index < count) for index in range(width)])


def intrinsic(module: ir.Module, name: str, result: ir.Type, arguments: Sequence[ir.Type]) -> ir.Function:
    """An LLVM intrinsic."""
    full = f"llvm.{name}"
    return module.globals.get(full) or ir.Function(module, ir.FunctionType(result, arguments), full)


def folded(vectors: Sequence[Vector]) -> list[Vector]:
    """The sums of vectors, in their order, packed into as few vectors as possible."""
    builder, width = vectors[0].builder, vectors[0].width
    values = [vector.value for vector in vectors]
    values += [vectors[0].like(0.0).value] * (-len(values) % width)
    halves = places(range(0, 2 * width, 2)), places(range(1, 2 * width, 2))
    wanted = len(values) // width
    while len(values) > wanted:
        pairs = zip(values[::2], values[1::2], strict=True)
        values = [builder.fadd(*(builder.shuffle_vector(one, other, half) for half in halves)) for one, other in pairs]
    return [Vector(builder, value) for value in values]
