"""Reasons for a score: the columns that contribute most, their values, and the values that the others predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from isthmus.data.tables.columns import MISSING_MARK
from isthmus.tasks.anomaly.fitted import FittedDetector
from isthmus.tasks.anomaly.inputs import RowFormat, Rows


@dataclass(frozen=True)
class Reason:
    """One column's contribution to the score of a row.

    Attributes
    ----------
    column
        Its name.
    contribution
        What it adds to the anomaly score, in nats.
    seen, expected
        The value in the row, and the one that the row's other cells lead one to expect, in the table's own units.
    """

    column: str
    contribution: float
    seen: str
    expected: str

    def __str__(self) -> str:
        return f"{self.column} = {self.seen}, expected {self.expected}"


@dataclass(frozen=True)
class Explanation:
    """The reasons for a row's score.

    Attributes
    ----------
    row
        Its place among the rows that were given.
    score
        The anomaly score, in nats.
    anomaly
        Whether it lies above the threshold.
    reasons
        The columns that add most, the greatest first.
    """

    row: int
    score: float
    anomaly: bool
    reasons: tuple[Reason, ...]

    def __str__(self) -> str:
        return "; ".join(map(str, self.reasons))


def explain_rows(
    fitted: FittedDetector, names: Sequence[str], cut: float, rows: Rows, n_columns: int
) -> list[Explanation]:
    """An explanation for each row, in their order.

    Parameters
    ----------
    fitted
        The detector.
    names
        Of the columns that contributions are of.
    cut
        The score above which a row is an anomaly.
    rows
        The rows.
    n_columns
        How many columns to name for each.
    """
    found = list[Explanation]()
    words = _Words(fitted.format, names, rows)
    for x in fitted.format.tensors(rows, fitted.chunk_rows):
        with torch.inference_mode():
            reading = fitted.scorer.read(fitted.model, x)
            scores = fitted.scorer.scores(reading).tolist()
            parts = fitted.scorer.contributions(reading)
            best = parts.topk(min(n_columns, parts.shape[1]), dim=1)
            expected, cells = _expected(fitted, x, best.indices), x.double().cpu().numpy()
        for place, score in enumerate(scores):
            columns, row = best.indices[place].tolist(), len(found)
            reasons = tuple(
                Reason(names[column], contribution, *words.of(row, column, cells[place], expected[place, rank]))
                for rank, (column, contribution) in enumerate(zip(columns, best.values[place].tolist(), strict=True))
            )
            found.append(Explanation(row, score, score > cut, reasons))
    return found


def column_names(form: RowFormat, feature_names: np.ndarray | None) -> list[str]:
    """The names of the columns of contributions."""
    if form.schema is not None:
        return list(form.schema.groups) or list(form.schema.names[:1])
    if feature_names is not None:
        return [str(name) for name in feature_names]
    places = np.ndindex(*form.feature_shape)
    return [f"x{place[0]}" if len(place) == 1 else str(list(place)) for place in places]


def _expected(fitted: FittedDetector, x: Tensor, columns: Tensor) -> np.ndarray:
    """Rows restored with one column hidden: (n, d) scaled, (n, k) columns → (n, k, d) scaled.

    The models were trained to restore rows from a part of their cells, so that what they give for a hidden cell is
    what the others lead one to expect.
    """
    places = fitted.scorer.grouping.places
    places = torch.arange(x.shape[1]) if places is None else places
    hidden = places.to(x.device)[None, None, :] == columns[:, :, None]  # (n, k, d)
    filled = x.nan_to_num()[:, None, :].expand_as(hidden).masked_fill(hidden, 0.0).flatten(0, 1)
    parts = [fitted.model.restore(fitted.model.encode(some)).mean(0) for some in filled.split(fitted.chunk_rows)]
    restored: np.ndarray = torch.cat(parts).view(hidden.shape).double().cpu().numpy()
    return restored


class _Words:
    """The observed and expected values of a column, as text."""

    def __init__(self, form: RowFormat, names: Sequence[str], rows: Rows) -> None:
        self._form, self._names, self._rows = form, names, rows
        self._seen = dict[str, Sequence[str]]()

    def of(self, row: int, column: int, cells: np.ndarray, expected: np.ndarray) -> tuple[str, str]:
        """The observed and the expected value of a cell; `cells` and `expected` are whole scaled rows."""
        schema = self._form.schema
        if schema is None:
            return self._number(row, column, expected)
        name = self._names[column]
        if name not in self._seen:
            self._seen[name] = schema.seen(self._rows.given, name)
        if not schema.width:
            return self._seen[name][row], "a constant"
        if schema[name].one_hot:
            expected = _other_levels(cells, expected, schema.groups[name][: len(schema[name].parts)])
        return self._seen[name][row], schema.expected(expected[None], name)[0]

    def _number(self, row: int, column: int, expected: np.ndarray) -> tuple[str, str]:
        scaling = self._form.scaling
        restored = scaling.invert(torch.from_numpy(expected[None])).numpy()[0, column]
        value = self._rows.read(np.array([row]))[0, column]
        spread = 1.0 / np.broadcast_to(scaling.factor, expected.shape)[column]
        return as_number(value), f"about {as_number(restored, spread)}"


def _other_levels(cells: np.ndarray, expected: np.ndarray, places: Sequence[int]) -> np.ndarray:
    """Expected levels of a column, (d,), without the level seen, unless that is the likeliest and has a name.

    "City = Lima, expected Rome or Lima" explains nothing, nor does "another value" for a word that was never seen.
    """
    seen = cells[list(places)]
    if np.isnan(seen).any():
        return expected
    likely, place = expected.copy(), places[int(seen.argmax())]
    if place == places[-1] or place != places[int(expected[list(places)].argmax())]:
        likely[place] = 0.0
    return likely


def as_number(value: float, spread: float | None = None) -> str:
    """A number as text: four digits, or as many decimals as the spread of its column supports.

    >>> as_number(9800.0), as_number(119.73, 40.0), as_number(0.000123), as_number(np.nan)
    ('9,800', '120', '0.000123', 'missing')
    """
    if spread is not None and np.isfinite(value) and spread > 0:
        decimals = int(np.clip(1 - np.floor(np.log10(spread)), -12, 12))
        value = round(float(value), decimals)
    number = float(value)
    if not np.isfinite(number):
        return MISSING_MARK if np.isnan(number) else str(number)
    if number == round(number) and abs(number) < 1e15:
        return f"{int(number):,}"
    return f"{number:,.4g}" if abs(number) < 1e4 else f"{number:,.1f}"
