"""Entropy coding: integers to bytes and back, with one integer table for each scale.

Tokens go through the range coder of *constriction*. The tables are integers that sum to `TOTAL`; constriction is given
them divided by this power of two, which is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from isthmus.tasks.compression.symbols import LARGEST, N_TOKENS, magnitudes_of, raw_bits, raw_widths, tokens

TOTAL = 1 << 20


def constriction() -> ModuleType:
    """The entropy coders; a clear error if they are not installed."""
    try:
        import constriction as found  # noqa: PLC0415  # optional
    except ImportError as error:
        raise ImportError(
            "Compression needs constriction, which is not installed; install it with: pip install 'isthmus[compress]'."
        ) from error
    module: ModuleType = found
    return module


@dataclass(frozen=True)
class Tables:
    """Entropy tables: how often each token occurs at each scale.

    Attributes
    ----------
    frequencies
        (scales, `N_TOKENS`) uint32, each row at least 1 everywhere and `TOTAL` in sum.
    offsets
        How far magnitudes 1, 2 and all larger ones are restored towards zero, in 1/256 step, (scales, 3) int64.
    """

    frequencies: np.ndarray
    offsets: np.ndarray
    models: list[Any] = field(default_factory=list, compare=False)
    bits: np.ndarray = field(default_factory=lambda: np.empty(0), compare=False)

    @classmethod
    def of(cls, frequencies: np.ndarray, offsets: np.ndarray) -> Tables:
        """Tables with the models and costs that follow from them."""
        categorical = constriction().stream.model.Categorical
        models = [categorical(row / TOTAL, perfect=False) for row in frequencies.astype(np.float64)]
        signs = (np.arange(N_TOKENS) > 0).astype(np.float64)
        bits = -np.log2(frequencies / TOTAL) + signs + raw_widths(np.arange(N_TOKENS))
        return cls(frequencies, offsets, models, bits)

    def __reduce__(self) -> tuple[Any, ...]:  # the coder's models cannot be pickled, and follow from the frequencies
        return Tables.of, (self.frequencies, self.offsets)

    def restored(self, values: np.ndarray, scales: np.ndarray) -> np.ndarray:
        """Values in 1/256 step, moved towards zero to where the mean of the coefficients lies."""
        magnitudes = np.abs(values)
        offset = np.where(values == 0, 0, self.offsets[scales, np.clip(magnitudes - 1, 0, 2)])
        moved: np.ndarray = np.sign(values) * (magnitudes * 256 - offset)
        return moved


class Coder(Protocol):
    """What goes through a model pass by pass: an encoder, a decoder, or a count of bits."""

    def take(self, scales: np.ndarray, wanted: np.ndarray | None, *, exact: bool = False) -> np.ndarray:
        """The integers of a pass, (n,) int64, for their scales; `wanted` are the numbers to be coded, in steps."""


@dataclass
class Encoder:
    """Chooses integers for what is wanted, at the best trade of error and bits, and writes them.

    Attributes
    ----------
    tables
        The entropy tables.
    trade
        Squared error, in steps, that one bit is worth.
    writes
        Whether bytes are wanted; else bits are only counted.
    """

    tables: Tables
    trade: float
    writes: bool = True
    bits: float = 0.0

    def __post_init__(self) -> None:
        self._stream: Any = constriction().stream.queue.RangeEncoder() if self.writes else None

    def take(self, scales: np.ndarray, wanted: np.ndarray | None, *, exact: bool = False) -> np.ndarray:
        assert wanted is not None
        magnitudes = np.abs(wanted).astype(np.int64) if exact else self._chosen(scales, np.abs(wanted))
        values = np.where(wanted < 0, -magnitudes, magnitudes)
        token = tokens(magnitudes)
        self.bits += float(self.tables.bits[scales, token].sum())
        if self._stream is not None:
            self._write(scales, values, token)
        return values

    def _chosen(self, scales: np.ndarray, size: np.ndarray) -> np.ndarray:
        """Magnitudes of least error plus cost: the two nearest, or zero."""
        below = np.minimum(size.astype(np.int64), LARGEST - 1)
        best = np.zeros(len(size), np.int64)
        least = size * size + self.trade * self.tables.bits[scales, 0]
        near = np.flatnonzero(size > 0.5)  # smaller ones become zero in any case
        scales, size, below = scales[near], size[near], below[near]
        nearest, lowest = best[near], least[near]
        for candidate in (below, below + 1):
            restored = self.tables.restored(candidate, scales) / 256
            cost = (size - restored) ** 2 + self.trade * self.tables.bits[scales, tokens(candidate)]
            nearest, lowest = np.where(cost < lowest, candidate, nearest), np.minimum(cost, lowest)
        best[near] = nearest
        return best

    def _write(self, scales: np.ndarray, values: np.ndarray, token: np.ndarray) -> None:
        order, groups = grouped(scales)
        ordered = token[order].astype(np.int32)
        for scale, part in groups:
            self._stream.encode(ordered[part], self.tables.models[scale])
        found = values[values != 0]
        uniform = constriction().stream.model.Uniform
        if len(found):
            self._stream.encode((found < 0).astype(np.int32), uniform(2))
        widths = raw_widths(token)
        for width in np.unique(widths[widths > 0]).tolist():
            chosen = widths == width
            raw = raw_bits(np.abs(values[chosen]), token[chosen])
            self._stream.encode(raw.astype(np.int32), uniform(1 << width))

    def payload(self) -> bytes:
        """All that was written."""
        words: np.ndarray = self._stream.get_compressed()
        return words.astype("<u4").tobytes()


class Decoder:
    """Reads integers back."""

    def __init__(self, tables: Tables, payload: bytes) -> None:
        self.tables = tables
        self._stream = constriction().stream.queue.RangeDecoder(np.frombuffer(payload, "<u4").astype(np.uint32))

    def take(self, scales: np.ndarray, wanted: np.ndarray | None, *, exact: bool = False) -> np.ndarray:
        order, groups = grouped(scales)
        ordered = np.empty(len(scales), np.int64)
        for scale, part in groups:
            ordered[part] = self._stream.decode(self.tables.models[scale], part.stop - part.start)
        token = np.empty_like(ordered)
        token[order] = ordered
        uniform = constriction().stream.model.Uniform
        nonzero = np.flatnonzero(token)
        signs = np.ones(len(token), np.int64)
        if len(nonzero):
            signs[nonzero] = 1 - 2 * self._stream.decode(uniform(2), len(nonzero)).astype(np.int64)
        widths = raw_widths(token)
        raw = np.zeros(len(token), np.int64)
        for width in np.unique(widths[widths > 0]).tolist():
            chosen = np.flatnonzero(widths == width)
            raw[chosen] = self._stream.decode(uniform(1 << width), len(chosen))
        values: np.ndarray = signs * magnitudes_of(token, raw)
        return values


def grouped(scales: np.ndarray) -> tuple[np.ndarray, Iterator[tuple[int, slice]]]:
    """An order in which equal scales stand together, and the part of each scale."""
    order = np.argsort(scales, kind="stable")
    counts = np.bincount(scales) if len(scales) else np.zeros(0, np.int64)
    ends = np.cumsum(counts)
    return order, (
        (scale, slice(ends[scale] - counts[scale], ends[scale])) for scale in np.flatnonzero(counts).tolist()
    )
