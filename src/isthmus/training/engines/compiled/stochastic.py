"""Random parts of a compiled step: corruption of rows, and stochastic codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from isthmus.choices.corruptions import ElementwiseCorruption
from isthmus.choices.formulas import Formula, differentiated
from isthmus.training.engines.compiled.emitter import Count, Emitter, Value
from isthmus.training.engines.compiled.matrix_products import Matrix, Span
from isthmus.training.engines.compiled.noise import Draws, for_each
from isthmus.training.engines.compiled.vectors import Vector

PENALTY, PRIOR = 1, 2
"""Which of the parts of a row's loss they are."""


def corrupt(emitter: Emitter, given: Matrix, rows: Span, draws: Draws, done: ElementwiseCorruption) -> None:
    """Apply a corruption to some rows."""
    drawn = {"normal": draws.normals, "uniform": draws.uniforms}

    def each(row: Value, column: Value, draw: Vector | None) -> None:
        place = given.at(emitter, row, column)
        emitter.store(emitter.vector(done.formula.function(emitter.load(place), draw)), place)

    def corrupted(row: Value) -> None:
        if done.draws is None:
            emitter.vectors_of(given.size, lambda column, _: each(row, column, None))
        else:
            for_each(emitter, row, given.size, drawn[done.draws], lambda column, _, draw: each(row, column, draw))

    emitter.loop(rows.begin, rows.end, rows.height, corrupted)


class Drawn:
    """A stochastic code, drawn element by element.

    Parameters
    ----------
    emitter
        Where it is written.
    formula
        See `choices.Code.drawn`.
    rooms
        What lies where, by the names of `layout.Layout`.
    constants
        The derivatives that are the same for all numbers.
    n_inputs
        How many numbers the encoder gives for one of the code.
    """

    def __init__(
        self,
        emitter: Emitter,
        formula: Formula,
        rooms: Mapping[str, Matrix],
        constants: Mapping[str, float],
        n_inputs: int,
    ) -> None:
        self.emitter, self.formula, self.rooms, self.constants = emitter, formula, rooms, constants
        self.size, self.n_inputs = rooms["code"].size, n_inputs

    def forward(self, row: Value, draws: Draws, kl_weight: Vector) -> None:
        """The code of a row, the derivatives that the backward pass needs, and the cost of its prior."""
        emitter, rooms = self.emitter, self.rooms
        total = emitter.memory(1)
        emitter.store(emitter.zero, total)

        def each(column: Value, count: Count, noise: Vector) -> None:
            places = [rooms["given"].at(emitter, row, column, i * self.size) for i in range(self.n_inputs)]
            inputs = [emitter.load(place, count) for place in places]
            z, nats = differentiated(self.formula.function, *inputs, given=[noise])
            kept = {"code": z.value, "noise": noise}
            kept |= {
                f"{name}_{i}": slope for name, dual in (("z", z), ("nats", nats)) for i, slope in enumerate(dual.slopes)
            }
            for name in kept.keys() - self.constants.keys():
                emitter.store(emitter.vector(kept[name]), rooms[name].at(emitter, row, column))
            emitter.store(emitter.load(total) + emitter.vector(nats.value).first(count), total)

        for_each(emitter, row, self.size, draws.normals, each)
        store_sum(emitter, emitter.load(total) * kl_weight, rooms["losses"].at(emitter, row, PRIOR))

    def backward(self, row: Value, kl_weight: Vector) -> None:
        """From the gradient of codes to that of the encoder's outputs; `kl_weight` is the weight of a nat."""
        emitter, rooms = self.emitter, self.rooms

        def slope(name: str, column: Value) -> Vector | float:
            return self.constants.get(name) or emitter.load(rooms[name].at(emitter, row, column))

        def each(column: Value, count: Count) -> None:
            gradient = emitter.load(rooms["code_gradient"].at(emitter, row, column))
            for i in range(self.n_inputs):
                back = gradient * slope(f"z_{i}", column) + kl_weight * slope(f"nats_{i}", column)
                emitter.store(back, rooms["given_gradient"].at(emitter, row, column, i * self.size), count)

        emitter.vectors_of(self.size, each)


def penalized(
    emitter: Emitter, matrices: tuple[Matrix, Matrix, Matrix], row: Value, formulas: Sequence[Formula], share: Vector
) -> None:
    """Add the gradient of the penalties to that of a row's code; a row has the weight `share`."""
    gradients, codes, losses = matrices

    def each(column: Value, count: Count, carried: Value) -> list[Value]:
        place, code = gradients.at(emitter, row, column), emitter.load(codes.at(emitter, row, column))
        gradient, total = emitter.load(place), Vector(emitter.builder, carried)
        for formula in formulas:
            cost = differentiated(formula.function, code)
            gradient = gradient + share * cost.slopes[0]
            total = total + emitter.vector(cost.value).first(count)
        emitter.store(gradient, place)
        return [total.value]

    (total,) = emitter.vectors_of(codes.size, each, [emitter.zero.value])
    store_sum(emitter, Vector(emitter.builder, total), losses.at(emitter, row, PENALTY))


def store_sum(emitter: Emitter, numbers: Vector, place: Value) -> None:
    """Store the sum of a vector's numbers."""
    emitter.builder.store(numbers.sum(), place, align=4)
