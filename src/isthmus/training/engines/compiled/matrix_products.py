"""The three matrix products of a linear layer, in tiles that stay in registers.

A tile is some rows by three vectors of columns, or by two dot products: each number that is read is used several times,
and nothing is packed or copied before. Sizes are known when the code is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from llvmlite import ir

from isthmus.training.engines.compiled.emitter import Count, Emitter, Value
from isthmus.training.engines.compiled.vectors import I32, Vector, folded, places

VECTORS = 3
"""Vectors side by side in a tile."""
PAIR = 2
"""Dot products side by side in a tile."""


class Matrix(NamedTuple):
    """A matrix in memory: the address of the first row, the stride in numbers, and the numbers of a row."""

    place: Value
    stride: int
    size: int

    def at(self, emitter: Emitter, row: Value, *columns: Value) -> Value:
        """The address of an entry."""
        return emitter.at(self.place, emitter.times(row, self.stride), *columns)


class Span(NamedTuple):
    """A range of rows, in blocks of some rows."""

    begin: Value
    end: Value
    height: int


class Update:
    """What is done with each tile of a product of columns by columns."""

    def ahead(self, place: Value, stride: int, height: int, counts: Sequence[Count]) -> None:
        """Called with the offset of the next tile, for prefetching."""

    def __call__(
        self, tile: list[list[Vector]], corner: tuple[Value, Value], stride: int, counts: Sequence[Count]
    ) -> None:
        """Take a tile with its number of columns, its offset and its first column."""
        raise NotImplementedError


def rows_by_columns(emitter: Emitter, left: Matrix, right: Matrix, out: Matrix, rows: Span) -> None:
    """``out = left @ right`` for some rows, in whole tiles: (n, K), (K, N) → (n, N)."""
    for begin, end, counts in _strips(emitter, right.size):

        def strip(column: Value, counts: Sequence[Count] = counts) -> None:
            def tile(row: Value) -> None:
                sums = _tile(
                    emitter, (rows.height, counts), left.size,
                    lambda k: right.at(emitter, k, column),
                    lambda k, i: left.at(emitter, emitter.add(row, i), k),
                )  # fmt: skip
                for i, vectors in enumerate(sums):
                    for j, vector in enumerate(vectors):
                        emitter.store(vector, out.at(emitter, emitter.add(row, i), column, j * emitter.width))

            emitter.loop(rows.begin, rows.end, rows.height, tile)

        emitter.loop(begin, end, len(counts) * emitter.width, strip)


def _strips(emitter: Emitter, size: int) -> Iterator[tuple[int, int, Sequence[Count]]]:
    """Columns divided into tiles: ranges with their number of vectors; the last vector may be incomplete."""
    wide = VECTORS * emitter.width
    whole = size // wide * wide
    if whole:
        yield 0, whole, [None] * VECTORS
    if whole < size:
        full, rest = divmod(size - whole, emitter.width)
        yield whole, size, [None] * full + ([rest] if rest else [])


def _tile(
    emitter: Emitter, shape: tuple[int, Sequence[Count]], inner: Value,
    row_at: Callable[[Value], Value], factor_at: Callable[[Value, int], Value],
) -> list[list[Vector]]:  # fmt: skip
    """Sums over k of one factor for each row of the tile times a row of vectors: [row][vector]."""
    height, counts = shape
    n = len(counts)

    def step(k: Value, *sums: Value) -> list[Value]:
        place, results = row_at(k), []
        read = [emitter.load(emitter.at(place, j * emitter.width), count) for j, count in enumerate(counts)]
        for i in range(height):
            factor = emitter.spread(factor_at(k, i))
            results += [read[j].fma(factor, Vector(emitter.builder, sums[i * n + j])).value for j in range(n)]
        return results

    sums = emitter.loop(0, inner, 1, step, [emitter.zero.value] * (height * n))
    return [[Vector(emitter.builder, value) for value in sums[i * n : (i + 1) * n]] for i in range(height)]


def rows_by_rows(emitter: Emitter, left: Matrix, right: Matrix, out: Matrix, rows: Span) -> None:
    """``out = left @ right.T`` for some rows, in whole tiles: (n, K), (N, K) → (n, N)."""
    even = out.size // PAIR * PAIR

    def tile(row: Value) -> None:
        mine = Matrix(left.at(emitter, row), left.stride, left.size)
        for begin, end, pair in ((0, even, PAIR), (even, out.size, 1)):

            def columns(column: Value, pair: int = pair) -> None:
                theirs = Matrix(right.at(emitter, column), right.stride, right.size)
                sums = _dots(emitter, mine, theirs, (rows.height, pair))
                _store_pairs(emitter, sums, Matrix(out.at(emitter, row, column), out.stride, pair), rows.height)

            if begin < end:
                emitter.loop(begin, end, pair, columns)

    emitter.loop(rows.begin, rows.end, rows.height, tile)


def _dots(emitter: Emitter, left: Matrix, right: Matrix, shape: tuple[int, int]) -> list[Vector]:
    """The dot products of some left rows with some right rows, packed into as few vectors as possible."""
    height, pair = shape

    def step(k: Value, count: Count, *sums: Value) -> list[Value]:
        theirs = [emitter.load(right.at(emitter, j, k), count) for j in range(pair)]
        results = []
        for i in range(height):
            mine, before = emitter.load(left.at(emitter, i, k), count), sums[i * pair : (i + 1) * pair]
            pairs = zip(theirs, before, strict=True)
            results += [mine.fma(their, Vector(emitter.builder, total)).value for their, total in pairs]
        return results

    sums = emitter.vectors_of(left.size, step, [emitter.zero.value] * (height * pair))
    return folded([Vector(emitter.builder, value) for value in sums])


def _store_pairs(emitter: Emitter, sums: list[Vector], out: Matrix, height: int) -> None:
    """Store one or two numbers for each row, which follow each other in vectors."""
    build, pair = emitter.builder, out.size
    for i in range(height):
        vector, lane = sums[i * pair // emitter.width].value, i * pair % emitter.width
        taken = build.shuffle_vector(vector, vector, places(range(lane, lane + pair)))
        value = taken if pair > 1 else build.extract_element(taken, ir.Constant(I32, 0))
        build.store(value, out.at(emitter, i), align=4)


def columns_by_columns(
    emitter: Emitter, factors: tuple[Matrix, Matrix], n_rows: Value, part: Span, update: Update
) -> None:
    """``left.T @ right``, (n, K), (n, N) → (K, N), for some of K; each tile goes to `update`."""
    left, right = factors
    for begin, end, counts in _strips(emitter, right.size):

        def strip(column: Value, counts: Sequence[Count] = counts) -> None:
            def band(k: Value) -> None:
                place = emitter.add(emitter.times(k, right.size), column)
                update.ahead(place, right.size, part.height, counts)
                tile = _tile(
                    emitter, (part.height, [None] * len(counts)), n_rows,
                    lambda row: right.at(emitter, row, column),
                    lambda row, i: left.at(emitter, row, k, i),
                )  # fmt: skip
                update(tile, (place, column), right.size, counts)

            emitter.loop(part.begin, part.end, part.height, band)

        emitter.loop(begin, end, len(counts) * emitter.width, strip)
