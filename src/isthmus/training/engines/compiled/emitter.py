"""Writes functions in LLVM's language: loops, memory accesses and vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from isthmus.choices.formulas import Numbers, settled
from isthmus.training.engines.compiled.target import Processor
from isthmus.training.engines.compiled.vectors import I32, Vector, constant, intrinsic, mask

F32, I64, POINTER = ir.FloatType(), ir.IntType(64), ir.PointerType()
Value = Any
"""A value of LLVM; where a whole number is meant, an ``int`` too."""
Count = int | None
"""How many numbers of a vector there are; None: all."""


class Emitter:
    """Writes one function without a return value.

    Parameters
    ----------
    module
        Where it goes.
    name
        What it is called.
    types
        Of its arguments, which are then `arguments`; what pointers point to does not overlap.
    processor
        For which processor.
    """

    def __init__(self, module: ir.Module, name: str, types: Sequence[ir.Type], processor: Processor) -> None:
        self.module, self.processor, self.width = module, processor, processor.width
        self.function = ir.Function(module, ir.FunctionType(ir.VoidType(), types), name)
        self.arguments = self.function.args
        for argument in self.arguments:
            if argument.type == POINTER:
                argument.add_attribute("noalias")
        self.builder = ir.IRBuilder(self.function.append_basic_block())
        self.zero = Vector(self.builder, constant(0.0, self.width))

    def done(self) -> ir.Function:
        """End the function."""
        self.builder.ret_void()
        return self.function

    # -- whole numbers and control -------------------------------------------------------------------------------------

    @staticmethod
    def whole(value: Value) -> Any:
        """An integer constant."""
        return ir.Constant(I64, value) if isinstance(value, int) else value

    def add(self, *values: Value) -> Value:
        """The sum of integers."""
        known = sum(value for value in values if isinstance(value, int))
        result: Value = None
        for value in values:
            if not isinstance(value, int):
                result = value if result is None else self.builder.add(result, value)
        if result is None:
            return known
        return self.builder.add(result, self.whole(known)) if known else result

    def times(self, one: Value, other: Value) -> Value:
        """The product of integers."""
        if isinstance(one, int) and isinstance(other, int):
            return one * other
        return self.builder.mul(self.whole(one), self.whole(other))

    def least(self, one: Value, other: Value) -> Value:
        """The smaller of two integers."""
        is_less = self.builder.icmp_signed("<", self.whole(one), self.whole(other))
        return self.builder.select(is_less, self.whole(one), self.whole(other))

    def loop(
        self,
        start: Value,
        stop: Value,
        step: int,
        body: Callable[..., Sequence[Any] | None],
        carried: Sequence[Any] = (),
    ) -> list[Any]:
        """Run ``body(index, *carried)`` for every index; it returns the next carried values. Gives the last ones."""
        build, start, stop = self.builder, self.whole(start), self.whole(stop)
        before, head, after = build.block, build.append_basic_block(), build.append_basic_block()
        build.cbranch(build.icmp_signed("<", start, stop), head, after)
        build.position_at_end(head)
        index, phis = build.phi(I64), [build.phi(value.type) for value in carried]
        results = body(index, *phis) or ()
        following, latch = build.add(index, self.whole(step)), build.block
        for phi, first, again in zip([index, *phis], [start, *carried], [following, *results], strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(again, latch)
        build.cbranch(build.icmp_signed("<", following, stop), head, after)
        build.position_at_end(after)
        ends = [build.phi(value.type) for value in carried]
        for end, first, again in zip(ends, carried, results, strict=True):
            end.add_incoming(first, before)
            end.add_incoming(again, latch)
        return ends

    def vectors_of(
        self, size: int, body: Callable[..., Sequence[Any] | None], carried: Sequence[Any] = ()
    ) -> Sequence[Any]:
        """Run ``body(index, count, *carried)`` for every vector of a range; the last one may be incomplete."""
        whole = size // self.width * self.width
        ends: Sequence[Any] = carried
        if whole:
            ends = self.loop(0, whole, self.width, lambda index, *more: body(index, None, *more), carried)
        return ends if whole == size else body(whole, size - whole, *ends) or ()

    def vector(self, number: Numbers) -> Vector:
        """The result of a formula as a vector, also if it is a constant."""
        known = settled(number)
        return known if isinstance(known, Vector) else self.zero.like(float(known))

    # -- memory --------------------------------------------------------------------------------------------------------

    def at(self, base: Any, *offsets: Value) -> Any:
        """The address of a number after an address."""
        return self.builder.gep(base, [self.whole(self.add(*offsets))], source_etype=F32)

    def memory(self, n_vectors: int) -> Any:
        """Memory for some vectors while the function runs."""
        with self.builder.goto_entry_block():
            room = self.builder.alloca(ir.ArrayType(self.zero.value.type, n_vectors))
        return self.builder.inttoptr(self.builder.ptrtoint(room, I64), POINTER)  # of no type

    def entry(self, base: Any, index: Value, kind: ir.Type = I64) -> Any:
        """An integer or an address from a table."""
        place = self.builder.gep(base, [self.whole(index)], source_etype=I64)
        return self.builder.load(place, typ=kind, align=8)

    def number(self, place: Any) -> Any:
        """The number at an address."""
        return self.builder.load(place, typ=F32, align=4)

    def spread(self, place: Any) -> Vector:
        """The number at an address, in every place of a vector."""
        none = ir.Constant(ir.VectorType(F32, self.width), ir.Undefined)
        first = self.builder.insert_element(none, self.number(place), ir.Constant(I32, 0))
        zeros = ir.Constant(ir.VectorType(I32, self.width), [0] * self.width)
        return Vector(self.builder, self.builder.shuffle_vector(first, none, zeros))

    def load(self, place: Any, count: Count = None) -> Vector:
        """A vector from memory, with zeros after the given number of values."""
        kind = self.zero.value.type
        if count is None:
            return Vector(self.builder, self.builder.load(place, typ=kind, align=4))
        mine = mask(count, self.width)
        of = intrinsic(self.module, f"masked.load.v{self.width}f32.p0", kind, [POINTER, I32, mine.type, kind])
        return Vector(self.builder, self.builder.call(of, [place, ir.Constant(I32, 4), mine, self.zero.value]))

    def store(self, vector: Vector, place: Any, count: Count = None) -> None:
        """Store a vector, or its first values."""
        if count is None:
            self.builder.store(vector.value, place, align=4)
            return
        mine, kind = mask(count, self.width), vector.value.type
        arguments = [kind, POINTER, I32, mine.type]
        of = intrinsic(self.module, f"masked.store.v{self.width}f32.p0", ir.VoidType(), arguments)
        self.builder.call(of, [vector.value, place, ir.Constant(I32, 4), mine])

    def prefetch(self, place: Any, *, write: bool) -> None:
        """Prefetch an address, for writing or only for reading."""
        of = intrinsic(self.module, "prefetch.p0", ir.VoidType(), [POINTER, I32, I32, I32])
        self.builder.call(of, [place, *(ir.Constant(I32, value) for value in (int(write), 3, 1))])
