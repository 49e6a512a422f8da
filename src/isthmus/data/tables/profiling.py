"""Profiles of the columns, in one pass with bounded memory: exact counts, and a sample for statistics of values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute

from isthmus.data.tables.cells import Cells, is_date, moments, numbers, plural
from isthmus.data.tables.dates import FORMS, forms_of
from isthmus.data.tables.errors import TableErrors
from isthmus.data.tables.numerals import (
    EXPONENT_CODE,
    MISSING_WORDS,
    WITH_POINT,
    Writing,
    holds_codes,
    matches,
    trimmed,
)
from isthmus.data.tables.table import BATCH_ROWS, Table

SAMPLE_ROWS = 2**16
COUNTED_LEVELS = 50_000
"""Up to this many distinct values are counted exactly; beyond it only frequent values are kept."""
FEW_NUMBERS = 1000
"""Up to this many distinct numbers are counted, unless the user requested a kind."""


@dataclass
class Watch:
    """The profile of one column so far.

    Attributes
    ----------
    name, asked
        Name of the column; the kind that the user requested, or None.
    family, arrow
        The family of its cells, and the Arrow type of the first chunk that is not all missing.
    n_rows, n_missing
        Number of cells read, and of missing cells.
    counts
        Count of each value; None: too many distinct values.
    n_blank
        Number of text cells that are blank or a missing marker.
    low, high
        Range of the numbers or timestamps.
    point, comma
        How text cells parse as numbers with a decimal point, and with a decimal comma.
    n_dates
        Number of text cells that could be ISO dates; `odd_date` is the first that could not.
    date_forms
        Other date formats that fit all text cells.
    codes, exponent_codes, with_point
        Whether there are codes such as 007; codes such as 12e3; numbers with a point, a comma or a sign.
    every_word
        Whether missing markers such as "" and NA count as ordinary words.
    consecutive
        Whether every number is its predecessor plus one.
    ordered
        The levels in order, if the type is an ordered categorical.
    """

    name: str
    asked: Any = None
    family: str = "missing"
    arrow: str = "null"
    n_rows: int = 0
    n_missing: int = 0
    counts: Counter[Any] | None = field(default_factory=Counter)
    pruned: bool = False
    n_blank: int = 0
    low: float = np.inf
    high: float = -np.inf
    point: Writing = field(default_factory=lambda: Writing("."))
    comma: Writing = field(default_factory=lambda: Writing(","))
    n_dates: int = 0
    odd_date: tuple[str, int] | None = None
    date_forms: tuple[str, ...] = FORMS
    codes: bool = False
    exponent_codes: bool = False
    with_point: bool = False
    every_word: bool = False
    consecutive: bool = True
    last: float = np.nan
    ordered: tuple[Any, ...] | None = None
    sample: list[pa.Array] = field(default_factory=list)

    @property
    def n_seen(self) -> int:
        """Number of cells that are not missing."""
        return self.n_rows - self.n_missing

    @property
    def writings(self) -> tuple[Writing, Writing]:
        """The parses of text cells as numbers, with either decimal mark."""
        return self.point, self.comma

    @property
    def has_numbers(self) -> bool:
        """Whether all text cells are numbers with one of the decimal marks."""
        return any(way.odd is None and way.n > 0 for way in self.writings)

    @property
    def is_code(self) -> bool:
        """Whether conversion to numbers would lose information, as for 007."""
        return self.codes or (self.exponent_codes and not self.with_point)

    @property
    def words(self) -> Counter[Any]:
        """Words with their counts, without missing markers.

        If all other words are two capital letters, NA is the country code of Namibia and not a missing marker. For data
        in memory, where missing cells can be None, all words count if the user requested a kind.
        """
        counts = self.counts or Counter[Any]()
        if self.every_word:
            return counts
        others = Counter({word: n for word, n in counts.items() if str(word).strip() not in MISSING_WORDS})
        if (
            "NA" in counts
            and len(others) > 1
            and all(len(word) == 2 and word.isalpha() and word.isupper() for word in others)
        ):
            others["NA"] = counts["NA"]
        return others

    @property
    def n_words(self) -> int:
        """Number of text cells that are neither missing nor a missing marker."""
        return self.n_seen - self.n_blank + sum(n for word, n in self.words.items() if word.strip() in MISSING_WORDS)

    def look(self, cells: Cells) -> None:
        """Update the profile with more cells."""
        self._learn_type(cells)
        self.n_rows += len(cells.array)
        before = self.n_missing
        if cells.family == "text":
            self._look_at_text(cells)
        elif cells.family in ("number", "boolean"):
            self._look_at_numbers(cells)
        elif cells.family == "date":
            self.n_missing += cells.array.null_count
            self._follow(moments(cells))
        else:
            self.n_missing += cells.array.null_count
        self.consecutive &= self.n_missing == before and cells.family != "date"

    def _learn_type(self, cells: Cells) -> None:
        now = cells.family
        if now == "missing" or len(cells.array) == cells.array.null_count:
            return
        if self.family == "missing":
            self.family, self.arrow = now, _type_name(cells.array.type)
            if pa.types.is_dictionary(cells.array.type) and cells.array.type.ordered:
                levels = [level for level in cells.array.dictionary.to_pylist() if level != ""]
                self.ordered = tuple(map(str if now == "text" else float, levels))
        elif self.arrow.startswith(("int", "uint")) and _type_name(cells.array.type) == "double":
            self.arrow = "double"
        if now != self.family:
            text = f"mixes {plural(self.family)} and {plural(now)}"
            cells.blame(~cells.array.is_null().to_numpy(zero_copy_only=False), text, "convert its cells to one type")

    # -- numbers -------------------------------------------------------------------------------------------------

    def _look_at_numbers(self, cells: Cells) -> None:
        values = numbers(cells)
        self.n_missing += int(np.isnan(values).sum())
        self._follow(values)
        self._count(pa.array(values, from_pandas=True), FEW_NUMBERS if self.asked is None else COUNTED_LEVELS)

    def _follow(self, values: np.ndarray) -> None:
        """Update the range, and whether the values are consecutive."""
        self.low = min(self.low, float(np.fmin.reduce(values, initial=np.inf)))
        self.high = max(self.high, float(np.fmax.reduce(values, initial=-np.inf)))
        if self.consecutive:
            steps = np.diff(values, prepend=values[0] - 1 if self.n_rows == len(values) else self.last)
            self.consecutive, self.last = bool((steps == 1.0).all()), float(values[-1])

    def _count(self, array: pa.Array, limit: int) -> None:
        if self.counts is None:
            return
        pairs = array.drop_null().value_counts()
        if len(pairs) > limit and limit == FEW_NUMBERS:
            self.counts = None
            return
        self.counts.update(dict(zip(pairs.field(0).to_pylist(), pairs.field(1).to_pylist(), strict=True)))
        if len(self.counts) > 2 * limit:
            self.counts = None if limit == FEW_NUMBERS else Counter(dict(self.counts.most_common(limit)))
            self.pruned = True

    # -- text ----------------------------------------------------------------------------------------------------

    def _look_at_text(self, cells: Cells) -> None:
        array = cells.array
        self.n_missing += array.null_count
        pairs = array.drop_null().value_counts()
        values, counts = pairs.field(0), pairs.field(1).to_numpy()
        values = values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
        text = trimmed(values.cast(pa.string()))
        blank = text.is_null().to_numpy(zero_copy_only=False)
        self.n_blank += int(counts[blank].sum())
        plain = cells.plain().array

        def row_of(place: int) -> int:
            return int(cells.rows[compute.index(plain, values[place]).as_py()])

        for writing in self.writings:
            writing.look(text, counts, blank, row_of)
        self._look_for_dates(text, counts, blank, row_of)
        self.codes |= self.has_numbers and holds_codes(text)
        self.exponent_codes |= bool(matches(text, EXPONENT_CODE).any())
        self.with_point |= bool(matches(text, WITH_POINT).any())
        self._follow_text(cells)
        self._count_words(values, counts)

    def _look_for_dates(
        self, text: pa.Array, counts: np.ndarray, blank: np.ndarray, row_of: Callable[[int], int]
    ) -> None:
        """Count the cells that could be ISO dates; keep the first that could not, and the formats that fit all."""
        fits = is_date(text) | blank
        self.n_dates += int(counts[fits].sum())
        if self.odd_date is None and not fits.all():
            place = int((~fits).argmax())
            self.odd_date = text[place].as_py(), row_of(place)
        self.date_forms = forms_of(text, self.date_forms) if self.date_forms else ()

    def _follow_text(self, cells: Cells) -> None:
        if self.point.odd is None and self.point.n == self.point.n_plain:
            self._follow(numbers(cells))
        elif self.odd_date is None:
            self._follow(moments(cells))
        else:
            self.consecutive = False

    def _count_words(self, values: pa.Array, counts: np.ndarray) -> None:
        if self.counts is None or (self.asked is None and self._is_many(len(values))):
            self.counts = None
            return
        self.counts.update(dict(zip(values.to_pylist(), counts.tolist(), strict=True)))
        if len(self.counts) > 2 * COUNTED_LEVELS:
            self.counts, self.pruned = Counter(dict(self.counts.most_common(COUNTED_LEVELS))), True

    def _is_many(self, n_different: int) -> bool:
        """Whether a text column is numeric with too many distinct values to count."""
        return self.has_numbers and n_different > FEW_NUMBERS

    # -- the sample ----------------------------------------------------------------------------------------------

    def sampled(self, read: Callable[[Cells], np.ndarray], errors: TableErrors) -> np.ndarray:
        """The sampled cells that are not missing, as numbers or microseconds, (k,)."""
        found = [read(Cells(self.name, part, range(len(part)), errors)) for part in self.sample]
        values = np.concatenate(found) if found else np.empty(0)
        return values[~np.isnan(values)]


def _type_name(kind: pa.DataType) -> str:
    return str(kind.value_type if pa.types.is_dictionary(kind) else kind)


@dataclass
class Sampler:
    """A uniform sample of rows: those with the smallest random keys (Vitter's reservoir sampling, in batches)."""

    watches: Mapping[str, Watch]
    size: int = SAMPLE_ROWS
    keys: list[np.ndarray] = field(default_factory=list)
    bound: float = 1.0
    draw: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def look(self, columns: Mapping[str, pa.Array], n_rows: int) -> None:
        """Add some of these rows to the sample, and drop earlier ones if it grows too large."""
        keys = self.draw.random(n_rows)
        chosen = keys < self.bound
        self.keys.append(keys[chosen])
        for name, watch in self.watches.items():
            watch.sample.append(_decoded(columns[name].filter(pa.array(chosen))))
        if sum(map(len, self.keys)) > 2 * self.size:
            self._thin()

    def _thin(self) -> None:
        together = np.concatenate(self.keys)
        self.bound = float(np.partition(together, self.size)[self.size])
        kept = [keys < self.bound for keys in self.keys]
        for watch in self.watches.values():
            watch.sample = [part.filter(pa.array(keep)) for part, keep in zip(watch.sample, kept, strict=True)]
        self.keys = [keys[keep] for keys, keep in zip(self.keys, kept, strict=True)]


def _decoded(array: pa.Array) -> pa.Array:
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def watch_table(table: Table, kinds: Mapping[str, Any], errors: TableErrors) -> dict[str, Watch]:
    """Profile all columns in one pass; columns with the kind "ignore" are not read."""
    watches = {
        name: Watch(name, kinds.get(name), every_word=name in kinds and not table.untyped)
        for name in table.names
        if kinds.get(name) != "ignore"
    }
    sampler = Sampler(watches)
    for piece in table.pieces(list(watches), errors, BATCH_ROWS):
        for name, array in piece.columns.items():
            watches[name].look(Cells(name, array, piece.told, errors))
        sampler.look(piece.columns, len(piece.rows))
    return watches
