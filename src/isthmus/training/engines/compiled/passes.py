"""The passes of a step, each written as a separate function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from llvmlite import ir

from isthmus.choices.formulas import Deferred, differentiated, summed
from isthmus.choices.losses import Part
from isthmus.training.engines.compiled.adam import AdamUpdate
from isthmus.training.engines.compiled.batch_penalties import Batch, bend, look, push
from isthmus.training.engines.compiled.emitter import F32, Count, Emitter, Value
from isthmus.training.engines.compiled.layout import Layout, Room
from isthmus.training.engines.compiled.matrix_products import (
    Matrix,
    Span,
    columns_by_columns,
    rows_by_columns,
    rows_by_rows,
)
from isthmus.training.engines.compiled.noise import Draws
from isthmus.training.engines.compiled.plans import PARTS, RATES, Plan
from isthmus.training.engines.compiled.stochastic import PENALTY, Drawn, corrupt, penalized
from isthmus.training.engines.compiled.target import Processor
from isthmus.training.engines.compiled.vectors import Vector

LINE = 16
"""Numbers in a cache line of most processors."""
LOGARITHM_EVERY = 64
"""Vectors of a row after which its loss is summed up: so many factors of at most two do not overflow."""


class Passes:
    """Writes the passes of a plan; the first line of each names its arguments.

    Parameters
    ----------
    plan
        What for.
    processor
        For which processor.
    """

    def __init__(self, plan: Plan, processor: Processor) -> None:
        self.plan, self.processor, self.layout = plan, processor, Layout(plan, processor)

    @staticmethod
    def _matrix(emitter: Emitter, work: Value, room: Room) -> Matrix:
        return Matrix(emitter.at(work, room.place), room.stride, room.size)

    def _weight(self, emitter: Emitter, values: Value, index: int) -> Matrix:
        layer = self.plan.layers[index]
        size = layer.outer if layer.lies_transposed else layer.inner
        return Matrix(emitter.at(values, layer.weight), size, size)

    # -- some rows -----------------------------------------------------------------------------------------------------

    def gather(self, emitter: Emitter) -> None:
        """Copy the rows of a step to aligned memory, and corrupt the copy."""
        rows, order, work, key, begin, end = emitter.arguments
        given = self._matrix(emitter, work, self.layout.given[0])

        def row(index: Value) -> None:
            read = emitter.times(emitter.entry(order, index), given.size)

            def copy(column: Value, count: Count) -> None:
                vector = emitter.load(emitter.at(rows, read, column), count)
                known = vector.where(vector.is_number(), 0.0) if self.plan.has_missing else vector
                emitter.store(known, given.at(emitter, index, column))

            emitter.vectors_of(given.size, copy)

        emitter.loop(begin, end, 1, row)
        for stream, done in enumerate(self.plan.corruptions):
            corrupt(emitter, given, Span(begin, end, 1), Draws(emitter, key, stream), done)

    def ahead(self, emitter: Emitter) -> None:
        """Prefetch the rows of the next step, which are scattered in memory."""
        rows, order, begin, end = emitter.arguments
        size = self.layout.given[0].size

        def row(index: Value) -> None:
            read = emitter.times(emitter.entry(order, index), size)
            emitter.loop(0, size, LINE, lambda column: emitter.prefetch(emitter.at(rows, read, column), write=False))

        emitter.loop(begin, end, 1, row)

    def forward(self, emitter: Emitter, index: int) -> None:
        """A layer with its activation; the loss adds the bias of the last layer."""
        work, values, begin, end = emitter.arguments
        given, out = (self._matrix(emitter, work, rooms[index]) for rooms in (self.layout.given, self.layout.outputs))
        multiply = rows_by_columns if self.plan.layers[index].lies_transposed else rows_by_rows
        rows = Span(begin, end, self.processor.rows)
        multiply(emitter, given, self._weight(emitter, values, index), out, rows)
        if index < len(self.plan.layers) - 1:
            self._activate(emitter, index, out)

    def _activate(self, emitter: Emitter, index: int, out: Matrix) -> None:
        work, values, begin, end = emitter.arguments
        layer, room = self.plan.layers[index], self.layout.slopes[index]
        activation = layer.activation

        def each(row: Value, column: Value, count: Count) -> None:
            place = out.at(emitter, row, column)
            vector = emitter.load(place) + emitter.load(emitter.at(values, layer.bias, column), count)
            if room is not None and activation is not None:
                activated = differentiated(activation.function, vector)
                slope_place = self._matrix(emitter, work, room).at(emitter, row, column)
                emitter.store(emitter.vector(activated.slopes[0]), slope_place)
                vector = emitter.vector(activated.value)
            elif activation is not None:
                vector = activation.function(vector)
            emitter.store(vector, place)

        emitter.loop(begin, end, 1, lambda row: emitter.vectors_of(out.size, lambda *at: each(row, *at)))

    def draw(self, emitter: Emitter) -> None:
        """Draw codes from the encoder's outputs, and compute their prior."""
        work, rates, key, begin, end = emitter.arguments
        draws, kl_weight = Draws(emitter, key, len(self.plan.corruptions)), self._rate(emitter, rates, "kl_weight")
        drawn = self._drawn(emitter, work)
        emitter.loop(begin, end, 1, lambda row: drawn.forward(row, draws, kl_weight))

    def _drawn(self, emitter: Emitter, work: Value) -> Drawn:
        rooms = {name: self._matrix(emitter, work, room) for name, room in self.layout.coding.items()}
        assert self.plan.drawn is not None
        return Drawn(emitter, self.plan.drawn, rooms, self.layout.constant_slopes, self.layout.n_inputs)

    @staticmethod
    def _rate(emitter: Emitter, rates: Value, name: str) -> Vector:
        return emitter.spread(emitter.at(rates, RATES.index(name)))

    def look(self, emitter: Emitter) -> None:
        """Statistics of the batch that penalties need."""
        work, values, rates, n_rows = emitter.arguments
        last, first = self.plan.layers[self.plan.n_encoder - 1], self.plan.layers[0]
        mean = self._rate(emitter, rates, "row")
        codes = self._matrix(emitter, work, self.layout.given[self.plan.n_encoder])
        batch = Batch(codes, self._weight(emitter, values, 0), first.inner, last.activation, n_rows, mean)
        look(emitter, batch, self.plan.penalties, self._columns(emitter, work))

    def _columns(self, emitter: Emitter, work: Value) -> dict[str, Matrix]:
        return {name: self._matrix(emitter, work, room) for name, room in self.layout.columns.items()}

    def loss(self, emitter: Emitter) -> None:
        """The loss of every row, and its gradient in place of the outputs."""
        targets, order, work, values, rates, begin, end = emitter.arguments
        out, losses = (self._matrix(emitter, work, room) for room in (self.layout.outputs[-1], self.layout.losses))
        share, bias = self._rate(emitter, rates, "share"), self.plan.layers[-1].bias
        is_whole = len(self.plan.loss) == 1 and self.plan.loss[0].n_outputs == 1  # nothing stands behind a part

        def row(row: Value) -> None:
            read, total, begin, first = (
                emitter.times(emitter.entry(order, row), self.plan.n_features),
                emitter.zero,
                0,
                0,
            )
            for part in self.plan.loss:

                def each(column: Value, count: Count, part: Part = part, begin: int = begin, first: int = first) -> Any:
                    """The loss of some numbers; their gradients overwrite the outputs."""
                    behind = [emitter.add(column, first + i * part.n_features) for i in range(part.n_outputs)]
                    places = [out.at(emitter, row, where) for where in behind]
                    outputs = [
                        emitter.load(place) + emitter.load(emitter.at(values, bias, where), count)
                        for place, where in zip(places, behind, strict=True)
                    ]
                    target = emitter.load(emitter.at(targets, read, begin, column), count)
                    loss = summed(part.formula.function, *outputs, given=[target])
                    for place, slope in zip(places, loss.slopes, strict=True):
                        emitter.store(share * slope, place, None if is_whole else count)
                    return loss.value

                total = total + _in_blocks(emitter, part, each)
                begin, first = begin + part.n_features, first + part.n_features * part.n_outputs
            emitter.builder.store(total.sum(), losses.at(emitter, row), align=4)

        emitter.loop(begin, end, 1, row)

    def backward(self, emitter: Emitter, index: int) -> None:
        """From the gradient before a layer's activation to that before the previous layer's."""
        work, values, _, begin, end = emitter.arguments
        given, out = (self._matrix(emitter, work, rooms[index]) for rooms in (self.layout.gradients, self.layout.back))
        multiply = rows_by_rows if self.plan.layers[index].lies_transposed else rows_by_columns
        multiply(emitter, given, self._weight(emitter, values, index), out, Span(begin, end, self.processor.rows))
        if index == self.plan.n_encoder:
            self._into_code(emitter, out)
        self._through_activation(emitter, index, out)
        if index == self.plan.n_encoder and self.layout.columns:
            codes, norm = self._matrix(emitter, work, self.layout.given[index]), self._columns(emitter, work)["norm"]
            name = self.plan.layers[index - 1].activation
            emitter.loop(begin, end, 1, lambda row: bend(emitter, name, (out, codes, norm), row))

    def _through_activation(self, emitter: Emitter, index: int, out: Matrix) -> None:
        work, _, _, begin, end = emitter.arguments
        activation = self.plan.layers[index - 1].activation
        if activation is None:
            return
        slope, kept = activation.slope_by_value, self.layout.slopes[index - 1]
        known = self._matrix(emitter, work, kept or self.layout.outputs[index - 1])

        def each(row: Value, column: Value, _: Count) -> None:
            place, there = out.at(emitter, row, column), emitter.load(known.at(emitter, row, column))
            emitter.store(emitter.load(place) * (there if slope is None else slope(there)), place)

        emitter.loop(begin, end, 1, lambda row: emitter.vectors_of(out.size, lambda *at: each(row, *at)))

    def _into_code(self, emitter: Emitter, out: Matrix) -> None:
        """The gradient through the code, and the penalties on the code."""
        work, _, rates, begin, end = emitter.arguments
        share = self._rate(emitter, rates, "row")
        codes, losses = (
            self._matrix(emitter, work, room) for room in (self.layout.given[self.plan.n_encoder], self.layout.losses)
        )
        if self.layout.columns:
            emitter.loop(begin, end, 1, lambda row: push(emitter, out, self._columns(emitter, work), row))
        formulas = [term.of_numbers for term in self.plan.penalties if term.of_numbers is not None]
        if formulas:
            rooms = (out, codes, losses)
            emitter.loop(begin, end, 1, lambda row: penalized(emitter, rooms, row, formulas, share))
        if self.plan.drawn is not None:
            kl_weight, drawn = share * self._rate(emitter, rates, "kl_weight"), self._drawn(emitter, work)
            emitter.loop(begin, end, 1, lambda row: drawn.backward(row, kl_weight))

    # -- some weights --------------------------------------------------------------------------------------------------

    def _factors(self, emitter: Emitter, work: Value, index: int) -> tuple[Matrix, Matrix]:
        """The factors of a weight's gradient, in the weight's layout."""
        given = self._matrix(emitter, work, self.layout.given[index])
        gradient = self._matrix(emitter, work, self.layout.gradients[index])
        return (given, gradient) if self.plan.layers[index].lies_transposed else (gradient, given)

    def _adam(self, emitter: Emitter, index: int, rates: Value) -> AdamUpdate:
        """The update of a weight; a penalty may add to that of the first layer."""
        *buffers, work = emitter.arguments[:4]
        pull = self._columns(emitter, work)["pull"].place if self.layout.columns and not index else None
        return AdamUpdate(emitter, self.plan.means, buffers, self.plan.layers[index].weight, rates, pull=pull)

    def weight(self, emitter: Emitter, index: int) -> None:
        """Update some rows of a weight, in whole tiles."""
        work, rates, n_rows, begin, end = emitter.arguments[3:]
        adam = self._adam(emitter, index, rates)
        factors = self._factors(emitter, work, index)
        columns_by_columns(emitter, factors, n_rows, Span(begin, end, self.processor.rows), adam)

    def rest(self, emitter: Emitter, index: int) -> None:
        """Update the rows of a weight that do not fill a tile, and the bias."""
        *buffers, work, rates, n_rows = emitter.arguments
        layer = self.plan.layers[index]
        height = layer.weight_rows % self.processor.rows
        if height:
            adam = self._adam(emitter, index, rates)
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
        """Store the parts of the step's loss: means over rows, summed in row order."""
        losses, work, rates, step, n_rows = emitter.arguments
        rows = self._matrix(emitter, work, self.layout.losses)

        def row(row: Value, *totals: Value) -> list[Value]:
            parts = [emitter.number(rows.at(emitter, row, part)) for part in range(PARTS)]
            return [emitter.builder.fadd(total, part) for total, part in zip(totals, parts, strict=True)]

        totals = emitter.loop(0, n_rows, 1, row, [ir.Constant(F32, 0.0)] * PARTS)
        share, of_row = (emitter.number(emitter.at(rates, RATES.index(name))) for name in ("share", "row"))
        for part, total in enumerate(totals):
            mean = emitter.builder.fmul(total, of_row if part else share)
            if part == PENALTY and self.layout.columns:
                mean = emitter.builder.fadd(mean, emitter.number(self._columns(emitter, work)["batch"].place))
            emitter.builder.store(mean, emitter.at(losses, emitter.times(step, PARTS), part), align=4)


def _in_blocks(emitter: Emitter, part: Part, each: Callable[[Value, Count], Any]) -> Vector:
    """The loss of a part of a row, as the sum of its blocks' losses.

    Where logarithms wait, their arguments are multiplied along a block, and one is taken at its end.
    """
    zero, size, block = torch.zeros(()), part.n_features, LOGARITHM_EVERY * emitter.width
    waits = isinstance(summed(part.formula.function, *[zero] * part.n_outputs, given=[zero]).value, Deferred)
    first = [emitter.zero.value, *([emitter.zero.like(1.0).value] if waits else [])]

    def some(column: Value, count: Count, sum_: Value, *product: Value) -> list[Value]:
        loss = Deferred.of(each(column, count))
        plain = Vector(emitter.builder, sum_) + emitter.vector(loss.plain).first(count)
        return [plain.value, *((Vector(emitter.builder, p) * loss.certain.first(count, 1.0)).value for p in product)]

    def added(begin: Value, length: int, total: Value) -> Value:
        found = emitter.vectors_of(length, lambda column, *more: some(emitter.add(begin, column), *more), first)
        sum_, *product = (Vector(emitter.builder, value) for value in found)
        after = Vector(emitter.builder, total) + sum_
        return (after - product[0].log_of_normal() if product else after).value

    whole, total = size // block * block, emitter.zero.value
    if whole:
        (total,) = emitter.loop(0, whole, block, lambda begin, before: [added(begin, block, before)], [total])
    return Vector(emitter.builder, total if whole == size else added(whole, size - whole, total))
