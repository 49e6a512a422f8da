"""The encoding of table columns (`Schema.encode`) as a traceable module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isthmus.data.tables.cells import MISSING
from isthmus.data.tables.columns import CYCLES, MONDAY, Categorical, Column, Datetime, Numeric, Ordinal
from isthmus.data.tables.schema import Schema


def takes_text(column: Column) -> bool:
    """Whether the input of a column is text, which the graph converts to level indices."""
    return column.family == "text" and isinstance(column, Categorical | Ordinal)


@dataclass(frozen=True)
class Words:
    """The lookup table of a text column: known words with their level indices, and the index of all others.

    An empty string means a missing cell, as in a table.
    """

    known: dict[str, int]
    other: int

    @classmethod
    def of(cls, column: Any) -> Words:
        """The lookup table of a column."""
        levels = [str(level) for level in column.levels]
        other = len(levels) if isinstance(column, Categorical) else MISSING
        return cls({"": MISSING} | {level: place for place, level in enumerate(levels)}, other)


class Encoding(nn.Module):
    """Encodes cells, one (n,) tensor per column, to rows for a model of the schema, (n, width).

    Text columns are level indices (`Words`), int64; all others are float64, timestamps in microseconds since 1970 in
    UTC; NaN is a missing cell.
    """

    order: Tensor

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        self.columns = [schema[name] for name in schema.used]
        order = np.argsort(np.array([place for places in schema.groups.values() for place in places]))
        self.register_buffer("order", torch.from_numpy(order))

    def forward(self, cells: list[Tensor]) -> Tensor:
        blocks = []
        for column, values in zip(self.columns, cells, strict=True):
            block = _encode(column, values)
            blocks += [block, block[:, :1].isnan().to(block)] if column.marked else [block]
        return (
            torch.cat(blocks, dim=1).float().double().index_select(1, self.order)
        )  # the rounding of encoded table rows


def _encode(column: Column, values: Tensor) -> Tensor:
    """(n,) → (n, parts), NaN where a cell is missing."""
    if isinstance(column, Categorical):
        return _one_hot(column, values)
    if isinstance(column, Datetime):
        return _waves(column, values)
    if isinstance(column, Ordinal):
        steps = torch.where(values < 0, torch.nan, values.double()) if takes_text(column) else values
        return ((steps - _number(column.mean)) / _number(column.deviation))[:, None]
    assert isinstance(column, Numeric)  # all other used columns are handled above
    away = (values - _number(column.centre)) / _number(column.spread)
    bent = away.sign() * (away.abs() + (away.square() + 1.0).sqrt()).log() if column.heavy_tails else away
    return ((bent - _number(column.mean)) / _number(column.deviation))[:, None]


def _number(value: float) -> Tensor:
    """A tensor, because torch's exporter rounds Python numbers to single precision."""
    return torch.tensor(value, dtype=torch.float64)


def _one_hot(column: Categorical, values: Tensor) -> Tensor:
    if takes_text(column):
        number, missing = values, values < 0
    else:
        equal = values[:, None] == torch.tensor(column.levels, dtype=torch.float64)[None]  # (n, levels)
        numbers = torch.arange(len(column.levels))
        number = torch.where(equal.any(1), (equal * numbers).sum(1), len(column.levels))
        missing = values.isnan()
    hot = (number[:, None] == torch.arange(len(column.levels) + 1)[None]).double()
    return torch.where(missing[:, None], torch.nan, hot)


def _waves(column: Datetime, values: Tensor) -> Tensor:
    share = _number(1.0 / np.sqrt(1 + len(column.cycles)))
    blocks = [(values - _number(column.mean)) / _number(column.deviation) * share]
    for cycle in column.cycles:
        length, since = _number(CYCLES[cycle]), values - _number(MONDAY)
        angle = (since - (since / length).floor() * length) * _number(2 * np.pi / CYCLES[cycle])
        blocks += [angle.sin() * share, angle.cos() * share]
    return torch.stack(blocks, dim=1)
