"""What a step goes through, each pass written into a function of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir

from isthmus.training.compiled.adam import AdamUpdate
from isthmus.training.compiled.emitter import F32, Count, Emitter, Value
from isthmus.training.compiled.formulas import ACTIVATIONS, Formula, formula_of
from isthmus.training.compiled.machine import Machine
from isthmus.training.compiled.plans import RATES, Plan
from isthmus.training.compiled.products import Matrix, Span, columns_by_columns, rows_by_columns, rows_by_rows
from isthmus.training.compiled.vectors import Vector

LOGARITHM_EVERY = 64
"""Vectors of a row after which its loss is summed up: so many factors of at most two do not overflow."""


class Layout:
    """Where in the working memory of a program everything lies: place, numbers from row to row, numbers in a row.

    Parameters
    ----------
    plan
        What the program is written for.
    machine
        For which processor.
    """

    def __init__(self, plan: Plan, machine: Machine) -> None:
        self.size = 0
        n_rows = plan.n_rows + machine.rows  # tiles are whole: rows behind the last are computed and not used

        def room(size: int) -> tuple[int, int, int]:
            stride = machine.width * (-(-size // machine.width) | 1)  # odd, so that rows do not share cache lines
            place = self.size
            self.size += -(-n_rows * stride // machine.width) * machine.width
            return place, stride, size

        self.outputs = [room(plan.layers[0].inner), *(room(layer.outer) for layer in plan.layers)]
        self.gradients = [*(room(layer.outer) for layer in plan.layers[:-1]), self.outputs[-1]]
        self.slopes = [room(layer.outer) if _keeps_slope(layer.activation) else None for layer in plan.layers]
        self.losses = room(1)


def _keeps_slope(activation: str) -> bool:
    """Whether the slope does not follow from what comes out."""
    return activation in ACTIVATIONS and ACTIVATIONS[activation].slope is None


class Passes:
    """Writes the passes of a plan; what each takes is what its first line names.

    Parameters
    ----------
    plan
        What for.
    machine
        For which processor.
    """

    def __init__(self, plan: Plan, machine: Machine) -> None:
        self.plan, self.machine, self.layout = plan, machine, Layout(plan, machine)

    @staticmethod
    def _matrix(emitter: Emitter, work: Value, room: tuple[int, int, int] | None) -> Matrix:
        assert room is not None
        return Matrix(emitter.at(work, room[0]), *room[1:])

    def _weight(self, emitter: Emitter, values: Value, index: int) -> Matrix:
        layer = self.plan.layers[index]
        size = layer.outer if layer.lies_transposed else layer.inner
        return Matrix(emitter.at(values, layer.weight), size, size)

    # -- some rows -----------------------------------------------------------------------------------------------------

    def gather(self, emitter: Emitter) -> None:
        """Copy the rows of a step to where they lie well."""
        rows, order, work, begin, end = emitter.arguments
        given = self._matrix(emitter, work, self.layout.outputs[0])

        def row(index: Value) -> None:
            read = emitter.times(emitter.entry(order, index), given.size)

            def copy(column: Value, count: Count) -> None:
                emitter.store(emitter.load(emitter.at(rows, read, column), count), given.at(emitter, index, column))

            emitter.vectors_of(given.size, copy)

        emitter.loop(begin, end, 1, row)

    def forward(self, emitter: Emitter, index: int) -> None:
        """A layer with its activation; the bias of the last one is left to the loss."""
        work, values, begin, end = emitter.arguments
        given, out = (self._matrix(emitter, work, self.layout.outputs[place]) for place in (index, index + 1))
        multiply = rows_by_columns if self.plan.layers[index].lies_transposed else rows_by_rows
        rows = Span(begin, end, self.machine.rows)
        multiply(emitter, given, self._weight(emitter, values, index), out, rows)
        if index < len(self.plan.layers) - 1:
            self._activate(emitter, index, out)

    def _activate(self, emitter: Emitter, index: int, out: Matrix) -> None:
        work, values, begin, end = emitter.arguments
        layer = self.plan.layers[index]
        activation = ACTIVATIONS.get(layer.activation)

        def each(row: Value, column: Value, count: Count) -> None:
            place = out.at(emitter, row, column)
            vector = emitter.load(place) + emitter.load(emitter.at(values, layer.bias, column), count)
            if activation is not None:
                vector, slope = activation.forward(vector)
                if slope is not None:
                    slopes = self._matrix(emitter, work, self.layout.slopes[index])
                    emitter.store(slope, slopes.at(emitter, row, column))
            emitter.store(vector, place)

        emitter.loop(begin, end, 1, lambda row: emitter.vectors_of(out.size, lambda *at: each(row, *at)))

    def loss(self, emitter: Emitter) -> None:
        """The loss of every row, and its gradient in place of the outputs."""
        targets, order, work, values, rates, begin, end = emitter.arguments
        formula, last = formula_of(self.plan.loss), self.plan.layers[-1]
        out = self._matrix(emitter, work, self.layout.outputs[-1])
        losses = self._matrix(emitter, work, self.layout.losses)
        share = emitter.spread(emitter.at(rates, RATES - 1))

        def row(row: Value) -> None:
            read = emitter.times(emitter.entry(order, row), out.size)

            def each(column: Value, count: Count, *carried: Value) -> list[Value]:
                place = out.at(emitter, row, column)
                output = emitter.load(place) + emitter.load(emitter.at(values, last.bias, column), count)
                target = emitter.load(emitter.at(targets, read, column), count)
                sums = [Vector(emitter.builder, value) for value in carried]
                gradient, *following = formula.each(output, target, sums, count)
                emitter.store(gradient * share, place)
                return [vector.value for vector in following]

            total = _in_blocks(emitter, out.size, formula, each)
            emitter.builder.store(total.sum(), losses.at(emitter, row), align=4)

        emitter.loop(begin, end, 1, row)

    def backward(self, emitter: Emitter, index: int) -> None:
        """From the gradient before the activation of a layer to that of the layer before."""
        work, values, begin, end = emitter.arguments
        given, out = (self._matrix(emitter, work, self.layout.gradients[place]) for place in (index, index - 1))
        multiply = rows_by_rows if self.plan.layers[index].lies_transposed else rows_by_columns
        rows = Span(begin, end, self.machine.rows)
        multiply(emitter, given, self._weight(emitter, values, index), out, rows)
        activation = ACTIVATIONS.get(self.plan.layers[index - 1].activation)
        if activation is None:
            return
        slope = activation.slope
        room = self.layout.slopes[index - 1] if slope is None else self.layout.outputs[index]
        known = self._matrix(emitter, work, room)

        def each(row: Value, column: Value, _: Count) -> None:
            place, there = out.at(emitter, row, column), emitter.load(known.at(emitter, row, column))
            emitter.store(emitter.load(place) * (there if slope is None else slope(there)), place)

        emitter.loop(begin, end, 1, lambda row: emitter.vectors_of(out.size, lambda *at: each(row, *at)))

    # -- some weights --------------------------------------------------------------------------------------------------

    def _factors(self, emitter: Emitter, work: Value, index: int) -> tuple[Matrix, Matrix]:
        """What a weight's gradient is the product of, as the weight lies."""
        given = self._matrix(emitter, work, self.layout.outputs[index])
        gradient = self._matrix(emitter, work, self.layout.gradients[index])
        return (given, gradient) if self.plan.layers[index].lies_transposed else (gradient, given)

    def weight(self, emitter: Emitter, index: int) -> None:
        """Move some rows of a weight, whole tiles of them."""
        *buffers, work, rates, n_rows, begin, end = emitter.arguments
        adam = AdamUpdate(emitter, self.plan.means, buffers, self.plan.layers[index].weight, rates)
        factors = self._factors(emitter, work, index)
        columns_by_columns(emitter, factors, n_rows, Span(begin, end, self.machine.rows), adam)

    def rest(self, emitter: Emitter, index: int) -> None:
        """Move the rows of a weight that fill no tile, and the bias."""
        *buffers, work, rates, n_rows = emitter.arguments
        layer = self.plan.layers[index]
        height = layer.weight_rows % self.machine.rows
        if height:
            adam = AdamUpdate(emitter, self.plan.means, buffers, layer.weight, rates)
            part = Span(layer.weight_rows - height, layer.weight_rows, height)
            columns_by_columns(emitter, self._factors(emitter, work, index), n_rows, part, adam)
        gradient = self._matrix(emitter, work, self.layout.gradients[index])
        adam = AdamUpdate(emitter, self.plan.means, buffers, layer.bias, rates)

        def each(column: Value, count: Count) -> None:
            def row(row: Value, total: Value) -> list[Value]:
                return [(Vector(emitter.builder, total) + emitter.load(gradient.at(emitter, row, column))).value]

            (total,) = emitter.loop(0, n_rows, 1, row, [emitter.zero.value])
            adam.move(Vector(emitter.builder, total), column, count)

        emitter.vectors_of(layer.outer, each)

    def tell(self, emitter: Emitter) -> None:
        """The loss of the step: the mean over rows, in their order."""
        losses, work, rates, step, n_rows = emitter.arguments
        rows = self._matrix(emitter, work, self.layout.losses)

        def row(row: Value, total: Value) -> list[Value]:
            return [emitter.builder.fadd(total, emitter.number(rows.at(emitter, row)))]

        (total,) = emitter.loop(0, n_rows, 1, row, [ir.Constant(F32, 0.0)])
        mean = emitter.builder.fmul(total, emitter.number(emitter.at(rates, RATES - 1)))
        emitter.builder.store(mean, emitter.at(losses, step), align=4)


def _in_blocks(emitter: Emitter, size: int, formula: Formula, each: Callable[..., Sequence[Value]]) -> Vector:
    """The loss of a row, as the sum of its blocks' losses."""
    block = LOGARITHM_EVERY * emitter.width
    first = [vector.value for vector in formula.start(emitter.zero)]

    def added(begin: Value, length: int, total: Value) -> Value:
        sums = emitter.vectors_of(length, lambda column, *more: each(emitter.add(begin, column), *more), first)
        return (Vector(emitter.builder, total) + formula.end([Vector(emitter.builder, sum_) for sum_ in sums])).value

    whole, total = size // block * block, emitter.zero.value
    if whole:
        (total,) = emitter.loop(0, whole, block, lambda begin, before: [added(begin, block, before)], [total])
    return Vector(emitter.builder, total if whole == size else added(whole, size - whole, total))
