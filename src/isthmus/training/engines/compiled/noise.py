"""Random numbers that depend only on a key and the place where they are used, not on threads or order.

Philox 4×32 with 7 rounds (Salmon et al. 2011, which finds no fault in it): a counter is encrypted with the key of the
step. The counter is the column, the row and the stream; what comes out are four numbers of 32 bits for each column.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from isthmus.training.engines.compiled.emitter import I64, Count, Emitter, Value
from isthmus.training.engines.compiled.vectors import I32, Mask, Vector

ROUNDS = 7
MULTIPLIERS, WEYL = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)
PER_BLOCK = 4
"""Vectors of random numbers that come at once."""

Body = Callable[[Value, Count, Any], None]
"""Takes a column, how many numbers there are from it on, and a vector of random numbers."""


class Draws:
    """One stream of random numbers of a step.

    Parameters
    ----------
    emitter
        Where it is written.
    key
        The key of the step, a whole number of 64 bits.
    stream
        Which stream; streams have nothing to do with each other.
    """

    def __init__(self, emitter: Emitter, key: Value, stream: int) -> None:
        self.emitter, self.stream = emitter, stream
        self.kind, wide = ir.VectorType(I32, emitter.width), ir.VectorType(I64, emitter.width)
        self.wide, build = wide, emitter.builder
        self.key = [self._spread(build.trunc(build.lshr(key, emitter.whole(shift)), I32)) for shift in (0, 32)]

    def _spread(self, value: Value) -> Value:
        build = self.emitter.builder
        none = ir.Constant(self.kind, ir.Undefined)
        first = build.insert_element(none, value, ir.Constant(I32, 0))
        return build.shuffle_vector(first, none, ir.Constant(self.kind, [0] * self.emitter.width))

    def _known(self, value: int, kind: ir.VectorType | None = None) -> ir.Constant:
        return ir.Constant(kind or self.kind, [value] * self.emitter.width)

    def bits(self, row: Value, column: Value) -> list[Value]:
        """Four vectors of 32 random bits for a row, from a column on."""
        build = self.emitter.builder
        lanes = ir.Constant(self.kind, list(range(self.emitter.width)))
        first = build.add(self._spread(build.trunc(self.emitter.whole(column), I32)), lanes)
        counter = [
            first,
            self._spread(build.trunc(self.emitter.whole(row), I32)),
            self._known(self.stream),
            self._known(0),
        ]
        key = list(self.key)
        for _ in range(ROUNDS):
            (high_0, low_0), (high_1, low_1) = (self._product(counter[2 * i], MULTIPLIERS[i]) for i in (0, 1))
            mixed = [build.xor(build.xor(high, counter[place]), part) for high, place, part in
                     ((high_1, 1, key[0]), (high_0, 3, key[1]))]  # fmt: skip
            counter = [mixed[0], low_1, mixed[1], low_0]
            key = [build.add(part, self._known(step)) for part, step in zip(key, WEYL, strict=True)]
        return counter

    def _product(self, value: Value, factor: int) -> tuple[Value, Value]:
        """Both halves of a product of 64 bits."""
        build = self.emitter.builder
        product = build.mul(build.zext(value, self.wide), self._known(factor, self.wide))
        return build.trunc(build.lshr(product, self._known(32, self.wide)), self.kind), build.trunc(product, self.kind)

    def _uniform(self, bits: Value) -> Vector:
        """Numbers in [0, 1) from the upper 24 bits."""
        build = self.emitter.builder
        whole = build.uitofp(build.lshr(bits, self._known(8)), self.emitter.zero.value.type)
        return Vector(build, whole) * 2.0**-24

    def _pair(self, one: Value, other: Value) -> list[Vector]:
        """Two numbers from N(0, 1) (Box & Muller 1958): an angle in an eighth of a turn, and bits for the eighth."""
        build = self.emitter.builder
        length = ((self._uniform(one) + 2.0**-24).log_of_normal() * -2.0).at_least(0.0).sqrt()
        angle = (self._uniform(other) - 0.5) * (math.pi / 2.0)
        square = angle * angle
        sine = angle * square.polynomial([(-1) ** k / math.factorial(2 * k + 1) for k in range(4, -1, -1)])
        cosine = square.polynomial([(-1) ** k / math.factorial(2 * k) for k in range(5, -1, -1)])

        def is_set(bit: int) -> Mask:
            taken = build.and_(other, self._known(1 << bit))
            return Mask(sine, build.icmp_unsigned("!=", taken, self._known(0)))

        swapped = sine.where(is_set(0), cosine), cosine.where(is_set(0), sine)
        return [length * (part * -1.0).where(is_set(bit), part) for bit, part in enumerate(swapped, start=1)]

    def uniforms(self, row: Value, column: Value) -> Sequence[Vector]:
        """Four vectors of numbers in [0, 1)."""
        return [self._uniform(bits) for bits in self.bits(row, column)]

    def normals(self, row: Value, column: Value) -> Sequence[Vector]:
        """Four vectors of numbers from N(0, 1)."""
        bits = self.bits(row, column)
        return [*self._pair(*bits[:2]), *self._pair(*bits[2:])]


def for_each(
    emitter: Emitter, row: Value, size: int, draw: Callable[[Value, Value], Sequence[Vector]], body: Body
) -> None:
    """Call a function with every vector of a row and random numbers for it."""
    width = emitter.width

    def block(begin: Value, counts: Sequence[Count]) -> None:
        for j, (vector, count) in enumerate(zip(draw(row, begin), counts, strict=False)):
            body(emitter.add(begin, j * width), count, vector)

    wide = PER_BLOCK * width
    whole = size // wide * wide
    if whole:
        emitter.loop(0, whole, wide, lambda begin: block(begin, [None] * PER_BLOCK))
    if whole < size:
        full, rest = divmod(size - whole, width)
        block(whole, [None] * full + ([rest] if rest else []))
