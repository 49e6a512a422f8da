"""Vectors of numbers in LLVM's language, with arithmetic and the functions that losses and activations need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir

F32, I32 = ir.FloatType(), ir.IntType(32)


class Vector:
    """As many single-precision numbers as a register holds.

    Sums of products are rounded once, as processors do it. What is no number stays none, but for `log`.

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
        """How many numbers."""
        return int(self.value.type.count)

    def like(self, value: float) -> Vector:
        """The same known number in every place."""
        return Vector(self.builder, constant(value, self.width))

    def _with(self, operation: str, other: Vector | float) -> Vector:
        theirs = other if isinstance(other, Vector) else self.like(other)
        write = getattr(self.builder, operation)
        return Vector(self.builder, write(self.value, theirs.value, flags=("contract",)))

    def __add__(self, other: Vector | float) -> Vector:
        return self._with("fadd", other)

    def __sub__(self, other: Vector | float) -> Vector:
        return self._with("fsub", other)

    def __mul__(self, other: Vector | float) -> Vector:
        return self._with("fmul", other)

    def __truediv__(self, other: Vector | float) -> Vector:
        return self._with("fdiv", other)

    def _called(self, name: str, *others: Vector | float) -> Vector:
        """What LLVM has a name for, number by number."""
        vectors = [self, *(other if isinstance(other, Vector) else self.like(other) for other in others)]
        kind = self.value.type
        of = intrinsic(self.builder.module, f"{name}.v{self.width}f32", kind, [kind] * len(vectors))
        return Vector(self.builder, self.builder.call(of, [vector.value for vector in vectors]))

    def fma(self, factor: Vector | float, more: Vector | float) -> Vector:
        """``self · factor + more``."""
        return self._called("fma", factor, more)

    def abs(self) -> Vector:
        """Without sign."""
        return self._called("fabs")

    def sqrt(self) -> Vector:
        """The square root."""
        return self._called("sqrt")

    def rounded(self) -> Vector:
        """The nearest whole number."""
        return self._called("nearbyint")

    def is_less(self, other: Vector | float) -> Any:
        """Where it is less."""
        theirs = other if isinstance(other, Vector) else self.like(other)
        return self.builder.fcmp_ordered("<", self.value, theirs.value)

    def where(self, condition: Any, other: Vector | float) -> Vector:
        """These numbers where a condition holds, others elsewhere."""
        theirs = other if isinstance(other, Vector) else self.like(other)
        return Vector(self.builder, self.builder.select(condition, self.value, theirs.value))

    def at_least(self, bound: float) -> Vector:
        """The larger of number and bound."""
        return self.like(bound).where(self.is_less(bound), self)

    def at_most(self, bound: float) -> Vector:
        """The smaller of number and bound."""
        return self.like(bound).where(self.like(bound).is_less(self), self)

    def first(self, count: int | None) -> Vector:
        """So many numbers, zeros behind them."""
        return self if count is None else self.where(mask(count, self.width), 0.0)

    def polynomial(self, coefficients: Sequence[float]) -> Vector:
        """By Horner's rule, the coefficient of the highest power first."""
        result = self.like(coefficients[0])
        for coefficient in coefficients[1:]:
            result = result.fma(self, coefficient)
        return result

    def exp(self) -> Vector:
        """The exponential, to two parts in 10⁷; what would be less than exp(-87) is that, more than exp(88) too."""
        bounded = self.at_least(-87.0).at_most(88.0)
        power = (bounded * (1.0 / math.log(2.0))).rounded()
        rest = power.fma(-LOG_2_REST, power.fma(-LOG_2_HIGH, bounded))
        kind = ir.VectorType(I32, self.width)
        raised = self.builder.add(self.builder.fptosi(power.value, kind), _all_of(127, kind))
        scale = self.builder.bitcast(self.builder.shl(raised, _all_of(23, kind)), self.value.type)
        return rest.polynomial([1 / math.factorial(k) for k in range(7, -1, -1)]) * Vector(self.builder, scale)

    def log(self) -> Vector:
        """The natural logarithm of a number that is neither zero, negative nor denormal, to 2 · 10⁻⁷."""
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

    def sum(self) -> Any:
        """The sum of its numbers, always in the same order."""
        value, size = self.value, self.width
        while size > 1:
            size //= 2
            lower, upper = places(range(size)), places(range(size, 2 * size))
            value = self.builder.fadd(*(self.builder.shuffle_vector(value, value, half) for half in (lower, upper)))
        return self.builder.extract_element(value, ir.Constant(I32, 0))


LOG_2_HIGH = 0.693145751953125
"""The first bits of log 2, so few that products with small whole numbers are exact."""
LOG_2_REST = math.log(2.0) - LOG_2_HIGH


def constant(value: float, width: int) -> ir.Constant:
    """A vector of one number, which single precision is made to have."""
    return ir.Constant(ir.VectorType(F32, width), [float(np.float32(value))] * width)


def _all_of(value: int, kind: ir.VectorType) -> ir.Constant:
    return ir.Constant(kind, [value] * kind.count)


def places(indices: Sequence[int]) -> ir.Constant:
    """Indices of numbers in vectors."""
    return ir.Constant(ir.VectorType(I32, len(indices)), list(indices))


def mask(count: int, width: int) -> ir.Constant:
    """True for the first so many."""
    return ir.Constant(ir.VectorType(ir.IntType(1), width), [int(index < count) for index in range(width)])


def intrinsic(module: ir.Module, name: str, result: ir.Type, arguments: Sequence[ir.Type]) -> ir.Function:
    """A function that LLVM brings along."""
    full = f"llvm.{name}"
    return module.globals.get(full) or ir.Function(module, ir.FunctionType(result, arguments), full)


def folded(vectors: Sequence[Vector]) -> list[Vector]:
    """The sums of vectors, in their order, in as few vectors as hold them."""
    builder, width = vectors[0].builder, vectors[0].width
    values = [vector.value for vector in vectors]
    values += [vectors[0].like(0.0).value] * (-len(values) % width)
    halves = places(range(0, 2 * width, 2)), places(range(1, 2 * width, 2))
    wanted = len(values) // width
    while len(values) > wanted:
        pairs = zip(values[::2], values[1::2], strict=True)
        values = [builder.fadd(*(builder.shuffle_vector(one, other, half) for half in halves)) for one, other in pairs]
    return [Vector(builder, value) for value in values]
