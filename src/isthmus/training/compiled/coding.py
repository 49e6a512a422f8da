"""What is done to rows before the encoder, and between encoder and decoder: damage, codes that are drawn, charges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from isthmus.training.compiled.emitter import Count, Emitter, Value
from isthmus.training.compiled.formulas import CHARGES, DAMAGES, tanh
from isthmus.training.compiled.noise import Draws, for_each
from isthmus.training.compiled.plans import Name
from isthmus.training.compiled.products import Matrix, Span
from isthmus.training.compiled.vectors import Vector

PENALTY, PRIOR = 1, 2
"""Which of the parts of a row's loss they are."""


def damage(emitter: Emitter, given: Matrix, rows: Span, draws: Draws, name: Name) -> None:
    """Do to some rows what a corruption does."""
    kind = DAMAGES[name.kind]

    def each(row: Value, column: Value, vector: Vector) -> None:
        place = given.at(emitter, row, column)
        emitter.store(kind.apply(emitter.load(place), vector, *name.numbers), place)

    def damaged(row: Value) -> None:
        draw = draws.normals if kind.is_normal else draws.uniforms
        for_each(emitter, row, given.size, draw, lambda column, _, vector: each(row, column, vector))

    emitter.loop(rows.begin, rows.end, rows.height, damaged)


def drawn(emitter: Emitter, rooms: Mapping[str, Matrix], row: Value, draws: Draws, charge: Vector) -> None:
    """``z = mean + exp(log_var / 2) · noise``, and what its divergence costs (`choices.GaussianModule`)."""
    size = rooms["code"].size
    total = emitter.memory(1)
    emitter.store(emitter.zero, total)

    def each(column: Value, count: Count, noise: Vector) -> None:
        mean = emitter.load(rooms["told"].at(emitter, row, column), count)
        bent = tanh(emitter.load(rooms["told"].at(emitter, row, column, size), count) * 0.1)
        deviation = (bent * 5.0).exp()
        kept = {"code": mean + noise * deviation, "noise": noise, "bent": bent, "deviation": deviation}
        for name, vector in kept.items():
            emitter.store(vector, rooms[name].at(emitter, row, column))
        nats = (mean * mean + deviation * deviation - 1.0 - bent * 10.0) * 0.5
        emitter.store(emitter.load(total) + nats.first(count), total)

    for_each(emitter, row, size, draws.normals, each)
    _charge(emitter, rooms["losses"].at(emitter, row, PRIOR), emitter.load(total) * charge)


def drawn_backward(emitter: Emitter, rooms: Mapping[str, Matrix], row: Value, charge: Vector) -> None:
    """From the gradient of codes to that of mean and log-variance; `charge` is by how much a nat counts in the loss."""
    size = rooms["code"].size

    def each(column: Value, count: Count) -> None:
        gradient, noise, bent, deviation = (
            emitter.load(rooms[name].at(emitter, row, column))
            for name in ("code_gradient", "noise", "bent", "deviation")
        )
        mean = emitter.load(rooms["told"].at(emitter, row, column), count)
        of_log_var = (gradient * noise * deviation + (deviation * deviation - 1.0) * charge) * 0.5
        of_raw = of_log_var * (bent.like(1.0) - bent * bent)
        for vector, begin in ((gradient + mean * charge, 0), (of_raw, size)):
            emitter.store(vector, rooms["told_gradient"].at(emitter, row, column, begin), count)

    emitter.vectors_of(size, each)


def penalized(
    emitter: Emitter, matrices: tuple[Matrix, Matrix, Matrix], row: Value, names: Sequence[Name],
    shares: tuple[Vector, float],
) -> None:  # fmt: skip
    """Add what codes are charged for to their gradient; it counts for a row, not for a number, so `scale` times."""
    gradients, codes, losses = matrices
    share, scale = shares

    def each(column: Value, count: Count, carried: Value) -> list[Value]:
        place, code = gradients.at(emitter, row, column), emitter.load(codes.at(emitter, row, column))
        gradient, total = emitter.load(place), Vector(emitter.builder, carried)
        for name in (name for name in names if name.kind in CHARGES):
            value, slope = CHARGES[name.kind](code)
            weight = scale * name.numbers[0]
            gradient, total = gradient + slope * share * weight, total + (value * weight).first(count)
        emitter.store(gradient, place)
        return [total.value]

    (total,) = emitter.vectors_of(codes.size, each, [emitter.zero.value])
    _charge(emitter, losses.at(emitter, row, PENALTY), Vector(emitter.builder, total))


def _charge(emitter: Emitter, place: Value, numbers: Vector) -> None:
    emitter.builder.store(numbers.sum(), place, align=4)
