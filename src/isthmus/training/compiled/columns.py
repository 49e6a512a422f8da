"""Penalties that look at a batch as a whole, unit by unit of the code: sparsity of rates, and contraction."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from isthmus.choices import penalties
from isthmus.training.compiled.emitter import Count, Emitter, Value
from isthmus.training.compiled.formulas import ACTIVATIONS
from isthmus.training.compiled.plans import Name
from isthmus.training.compiled.products import Matrix
from isthmus.training.compiled.vectors import Vector

SPARSITY, CONTRACTION = penalties.KLSparsity.__name__, penalties.Contractive.__name__
SAFE = 1e-6
"""How near to zero and one a rate may come, as for `choices.KLSparsity`."""
ROOMS = ("push", "norm", "pull", "batch")
"""One row each: what is added to the gradient of codes, what a slope's change costs, what is added to the gradient of
weights, by which they are multiplied, and the penalty of the batch."""

_BENDS: dict[str, Callable[[Vector], Vector]] = {
    "Sigmoid": lambda z: _square(z * (z.like(1.0) - z)) * (z.like(1.0) - z * 2.0),
    "Tanh": lambda z: _square(z.like(1.0) - z * z) * z * -2.0,
}
"""The slope of an activation times the slope of the slope, by what came out; nothing for the others."""


def _square(x: Vector) -> Vector:
    return x * x


class Batch(NamedTuple):
    """What is looked at.

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
    activation: str
    n_rows: Value
    mean: Vector


def looks(names: tuple[Name, ...]) -> bool:
    """Whether a penalty among these looks at the batch as a whole."""
    return any(name.kind in {SPARSITY, CONTRACTION} for name in names)


def look(emitter: Emitter, batch: Batch, names: tuple[Name, ...], rooms: Mapping[str, Matrix]) -> None:
    """Work out, unit by unit, what the penalties of a batch are and how they change."""
    kinds = {SPARSITY: _sparsity, CONTRACTION: _contraction}

    def clear(column: Value, _: Count) -> None:
        for room in rooms.values():
            emitter.store(emitter.zero, room.at(emitter, 0, column))

    emitter.vectors_of(batch.codes.size, clear)

    def each(column: Value, count: Count, total: Value) -> list[Value]:
        summed = Vector(emitter.builder, total)
        for name in names:
            if name.kind in kinds:
                summed = summed + kinds[name.kind](emitter, batch, name, rooms, (column, count)).first(count)
        return [summed.value]

    (total,) = emitter.vectors_of(batch.codes.size, each, [emitter.zero.value])
    emitter.builder.store(Vector(emitter.builder, total).sum(), rooms["batch"].place, align=4)


def _summed(emitter: Emitter, n_rows: Value, vector_at: Callable[[Value], Vector]) -> Vector:
    def row(row: Value, total: Value) -> list[Value]:
        return [(Vector(emitter.builder, total) + vector_at(row)).value]

    return Vector(emitter.builder, emitter.loop(0, n_rows, 1, row, [emitter.zero.value])[0])


def _sparsity(
    emitter: Emitter, batch: Batch, name: Name, rooms: Mapping[str, Matrix], where: tuple[Value, Count]
) -> Vector:
    """``weight · KL(target ‖ rate)``, and its derivative by every code of a unit."""
    target, weight = name.numbers
    column, _ = where
    mean = _summed(emitter, batch.n_rows, lambda row: emitter.load(batch.codes.at(emitter, row, column))) * batch.mean
    rate = mean.at_least(SAFE).at_most(1.0 - SAFE)
    rest = rate.like(1.0) - rate
    slope = (rate.like(1.0 - target) / rest - rate.like(target) / rate) * batch.mean * weight
    inside = slope.where(mean.is_less(1.0 - SAFE), 0.0)
    _add(emitter, rooms["push"].at(emitter, 0, column), inside.where(mean.like(SAFE).is_less(mean), 0.0))
    known = target * math.log(target) + (1.0 - target) * math.log(1.0 - target)
    return (rate.like(known) - rate.log() * target - rest.log() * (1.0 - target)) * weight


def _contraction(
    emitter: Emitter, batch: Batch, name: Name, rooms: Mapping[str, Matrix], where: tuple[Value, Count]
) -> Vector:
    """``weight · mean slope² · ‖W_j‖²`` (Rifai et al. 2011, eq. 5), and what its derivatives are made of."""
    (weight,), (column, count) = name.numbers, where
    activation = ACTIVATIONS.get(batch.activation)

    def slope_square(row: Value) -> Vector:
        code = emitter.load(batch.codes.at(emitter, row, column))
        return code.like(1.0) if activation is None or activation.slope is None else _square(activation.slope(code))

    slopes = _summed(emitter, batch.n_rows, slope_square) * batch.mean
    norm = _summed(
        emitter,
        emitter.whole(batch.n_features),
        lambda row: _square(emitter.load(batch.weight.at(emitter, row, column), count)),
    )
    _add(emitter, rooms["norm"].at(emitter, 0, column), norm * batch.mean * (2.0 * weight))
    _add(emitter, rooms["pull"].at(emitter, 0, column), slopes * (2.0 * weight))
    return slopes * norm * weight


def _add(emitter: Emitter, place: Value, vector: Vector) -> None:
    emitter.store(emitter.load(place) + vector, place)


def push(emitter: Emitter, out: Matrix, rooms: Mapping[str, Matrix], row: Value) -> None:
    """Add to the gradient of codes what their rates cost."""

    def each(column: Value, _: Count) -> None:
        _add(emitter, out.at(emitter, row, column), emitter.load(rooms["push"].at(emitter, 0, column)))

    emitter.vectors_of(out.size, each)


def bend(emitter: Emitter, activation: str, matrices: tuple[Matrix, Matrix, Matrix], row: Value) -> None:
    """Add to the gradient before the activation what the change of its slope costs."""
    (out, codes, norm), formula = matrices, _BENDS.get(activation)

    def each(column: Value, _: Count) -> None:
        assert formula is not None
        change = formula(emitter.load(codes.at(emitter, row, column)))
        _add(emitter, out.at(emitter, row, column), change * emitter.load(norm.at(emitter, 0, column)))

    if formula is not None:
        emitter.vectors_of(out.size, each)
