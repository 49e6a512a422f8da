"""The optimiser's update of a tile of weights whose gradient is in registers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from isthmus.training.engines.compiled.emitter import Count, Emitter, Value
from isthmus.training.engines.compiled.matrix_products import VECTORS, Update
from isthmus.training.engines.compiled.plans import RATES, Means
from isthmus.training.engines.compiled.vectors import Vector

NEGLIGIBLE = 1e-30
"""Running means below it are zero: about to become denormal, with which processors are slow."""


class AdamUpdate(Update):
    """Updates weights by their gradients (Kingma & Ba 2015, algorithm 1; AdamW with weight decay).

    Parameters
    ----------
    emitter
        Where it is written.
    means
        The optimiser's numbers.
    buffers
        Where all values and both running means begin.
    offset
        Where in them the parameter begins.
    rates
        Where the numbers of the step begin.
    pull
        Where numbers are, one a column, by which the weights are multiplied and then are a part of the gradient.
    """

    def __init__(
        self, emitter: Emitter, means: Means, buffers: list[Value], offset: int, rates: Value, *, pull: Value = None
    ) -> None:
        self.emitter, self.means, self.pull = emitter, means, pull
        self.spare = emitter.memory(emitter.processor.rows * VECTORS)
        self.buffers = [emitter.at(buffer, offset) for buffer in buffers]
        self.rate, self.root, self.kept = (
            emitter.spread(emitter.at(rates, RATES.index(name))) for name in ("length", "root", "kept")
        )

    def ahead(self, place: Value, stride: int, height: int, counts: Sequence[Count]) -> None:
        def row(index: Value) -> None:
            for buffer, j in product(self.buffers, range(len(counts))):
                where = (place, self.emitter.times(index, stride), j * self.emitter.width)
                self.emitter.prefetch(self.emitter.at(buffer, *where), write=True)

        self.emitter.loop(0, height, 1, row)

    def __call__(
        self, tile: list[list[Vector]], corner: tuple[Value, Value], stride: int, counts: Sequence[Count]
    ) -> None:
        """Update in a loop over rows, because unrolled code would be twice as long; the tile waits in the cache."""
        emitter, wide, (place, column) = self.emitter, len(counts) * self.emitter.width, corner
        for i, j in product(range(len(tile)), range(len(counts))):
            emitter.store(tile[i][j], emitter.at(self.spare, i * wide + j * emitter.width))

        def row(index: Value) -> None:
            for j, count in enumerate(counts):
                gradient = emitter.load(emitter.at(self.spare, emitter.times(index, wide), j * emitter.width))
                where = emitter.add(place, emitter.times(index, stride), j * emitter.width)
                if self.pull is not None:
                    factor = emitter.load(emitter.at(self.pull, column, j * emitter.width))
                    gradient = factor.fma(emitter.load(emitter.at(self.buffers[0], where), count), gradient)
                self.move(gradient, where, count)

        emitter.loop(0, len(tile), 1, row)

    def move(self, gradient: Vector, place: Value, count: Count) -> None:
        """Update a number of weights from an address on."""
        emitter, means = self.emitter, self.means
        where = [emitter.at(buffer, place) for buffer in self.buffers]
        value, mean, square = (emitter.load(each, count) for each in where)
        mean = (gradient - mean).fma(1.0 - means.beta1, mean)
        square = gradient * gradient * (1.0 - means.beta2) + square * means.beta2
        mean = mean.like(0.0).where(mean.absolute() < NEGLIGIBLE, mean)
        square = square.like(0.0).where(square < NEGLIGIBLE, square)
        if means.decays:
            value = value * self.kept
        value = value - self.rate * mean / square.sqrt().fma(self.root, means.epsilon)
        for vector, each in zip((value, mean, square), where, strict=True):
            emitter.store(vector, each, count)
