"""Penalties that need statistics of a batch, for each unit of the code: sparsity of rates, and contraction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

from isthmus.choices.formulas import Formula, differentiated
from isthmus.choices.penalties import PenaltyTerm
from isthmus.training.engines.compiled.emitter import Count, Emitter, Value
from isthmus.training.engines.compiled.matrix_products import Matrix
from isthmus.training.engines.compiled.vectors import Vector

ROOMS = ("push", "norm", "pull", "batch")
"""One row each: what is added to the gradient of codes, what a slope's change costs, what is added to the gradient of
weights, by which they are multiplied, and the penalty of the batch."""


class Batch(NamedTuple):
    """The codes of a batch, and what is computed from them.

    Attributes
    ----------
    codes
        Of all rows, (n, code).
    weight
        Of the encoder's only layer, (d, code), where there is one.
    n_features
        Numbers of a row.
    activation
        Of the code.
    n_rows
        How many rows there are.
    mean
        One over their number.
    """

    codes: Matrix
    weight: Matrix
    n_features: int
    activation: Formula | None
    n_rows: Value
    mean: Vector


def looks(terms: tuple[PenaltyTerm, ...]) -> bool:
    """Whether one of these penalties needs statistics of the batch."""
    return any(term.of_rates is not None or term.contraction for term in terms)


def look(emitter: Emitter, batch: Batch, terms: tuple[PenaltyTerm, ...], rooms: Mapping[str, Matrix]) -> None:
    """Compute the penalties of a batch and their derivatives, unit by unit."""

    def clear(column: Value, _: Count) -> None:
        for room in rooms.values():
            emitter.store(emitter.zero, room.at(emitter, 0, column))

    emitter.vectors_of(batch.codes.size, clear)

    def each(column: Value, count: Count, total: Value) -> list[Value]:
        summed = Vector(emitter.builder, total)
        for term in terms:
            if term.of_rates is not None:
                summed = summed + _of_rates(emitter, batch, term.of_rates, rooms, column).first(count)
            if term.contraction:
                summed = summed + _contraction(emitter, batch, term.contraction, rooms, (column, count)).first(count)
        return [summed.value]

    (total,) = emitter.vectors_of(batch.codes.size, each, [emitter.zero.value])
    emitter.builder.store(Vector(emitter.builder, total).sum(), rooms["batch"].place, align=4)


def _summed(emitter: Emitter, n_rows: Value, vector_at: Callable[[Value], Vector]) -> Vector:
    def row(row: Value, total: Value) -> list[Value]:
        return [(Vector(emitter.builder, total) + vector_at(row)).value]

    return Vector(emitter.builder, emitter.loop(0, n_rows, 1, row, [emitter.zero.value])[0])


def _of_rates(emitter: Emitter, batch: Batch, formula: Formula, rooms: Mapping[str, Matrix], column: Value) -> Vector:
    """The cost of a unit's mean, and its derivative with respect to every code of the unit."""
    mean = _summed(emitter, batch.n_rows, lambda row: emitter.load(batch.codes.at(emitter, row, column))) * batch.mean
    cost = differentiated(formula.function, mean)
    _add(emitter, rooms["push"].at(emitter, 0, column), batch.mean * cost.slopes[0])
    return emitter.vector(cost.value)


def _contraction(
    emitter: Emitter, batch: Batch, weight: float, rooms: Mapping[str, Matrix], where: tuple[Value, Count]
) -> Vector:
    """``weight · mean slope² · ‖W_j‖²`` (Rifai et al. 2011, eq. 5), and the factors of its derivatives."""
    column, count = where
    slope = _slope(batch.activation)

    def slope_square(row: Value) -> Vector:
        code = emitter.load(batch.codes.at(emitter, row, column))
        return code.like(1.0) if slope is None else slope(code).square()

    slopes = _summed(emitter, batch.n_rows, slope_square) * batch.mean
    norm = _summed(
        emitter,
        emitter.whole(batch.n_features),
        lambda row: emitter.load(batch.weight.at(emitter, row, column), count).square(),
    )
    _add(emitter, rooms["norm"].at(emitter, 0, column), norm * batch.mean * (2.0 * weight))
    _add(emitter, rooms["pull"].at(emitter, 0, column), slopes * (2.0 * weight))
    return slopes * norm * weight


def _slope(activation: Formula | None) -> Callable[..., Vector] | None:
    return None if activation is None else activation.slope_by_value


def _add(emitter: Emitter, place: Value, vector: Vector) -> None:
    emitter.store(emitter.load(place) + vector, place)


def push(emitter: Emitter, out: Matrix, rooms: Mapping[str, Matrix], row: Value) -> None:
    """Add the gradient of the rates' cost to that of the codes."""

    def each(column: Value, _: Count) -> None:
        _add(emitter, out.at(emitter, row, column), emitter.load(rooms["push"].at(emitter, 0, column)))

    emitter.vectors_of(out.size, each)


def bend(emitter: Emitter, activation: Formula | None, matrices: tuple[Matrix, Matrix, Matrix], row: Value) -> None:
    """Add the gradient of the slope's cost, slope · (slope of the slope), to that before the activation."""
    (out, codes, norm), slope = matrices, _slope(activation)
    if slope is None or isinstance(differentiated(slope, torch.zeros(())).slopes[0], float):
        return  # the slope does not change

    def each(column: Value, _: Count) -> None:
        known = differentiated(slope, emitter.load(codes.at(emitter, row, column)))
        change = known.value.square() * known.slopes[0]  # by the code, whose own slope is `known`
        _add(emitter, out.at(emitter, row, column), change * emitter.load(norm.at(emitter, 0, column)))

    emitter.vectors_of(out.size, each)
