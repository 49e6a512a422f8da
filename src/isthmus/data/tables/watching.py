"""One pass over a table with bounded memory: what is exact is counted, what needs values is learned from a sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute

from isthmus.data.tables.cells import Cells, is_date, is_number, moments, numbers, plural, trimmed
from isthmus.data.tables.inputs import BATCH_ROWS, Table
from isthmus.data.tables.mistakes import Mistakes

SAMPLE_ROWS = 2**16
COUNTED_LEVELS = 50_000
"""Different values of a column that are counted exactly; of more, the frequent ones."""
FEW_NUMBERS = 1000
"""Different numbers up to which they are counted, where nobody asked for categories."""


@dataclass
class Watch:
    """What is known of one column so far.

    Attributes
    ----------
    name, asked
        Of the column; the kind that the user gave it, or None.
    family, arrow
        What its cells are, and the Arrow type of the first that were not all missing.
    n_rows, n_missing
        Cells seen, and how many of them are missing.
    counts
        How often each value occurs; None: there are too many different ones to count.
    n_blank
        Cells of text that hold nothing but white space or a word for a missing cell.
    low, high
        Of the numbers or moments.
    n_numbers, n_dates
        How many cells of text could be numbers or dates; `odd_number` and `odd_date` are the first that could not.
    consecutive
        Whether every number is the one before plus one.
    ordered
        The levels in order, where the type says so.
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
    n_numbers: int = 0
    n_dates: int = 0
    odd_number: tuple[str, int] | None = None
    odd_date: tuple[str, int] | None = None
    leading_zero: bool = False
    consecutive: bool = True
    last: float = np.nan
    ordered: tuple[str, ...] | None = None
    sample: list[pa.Array] = field(default_factory=list)

    @property
    def n_seen(self) -> int:
        """Cells that are not missing."""
        return self.n_rows - self.n_missing

    def look(self, cells: Cells) -> None:
        """Take note of some more cells."""
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
                self.ordered = tuple(str(word) for word in cells.array.dictionary.to_pylist() if word != "")
        elif self.arrow.startswith(("int", "uint")) and _type_name(cells.array.type) == "double":
            self.arrow = "double"
        if now != self.family:
            text = f"mixes {plural(self.family)} and {plural(now)}; make its cells all of one type"
            cells.blame(~cells.array.is_null().to_numpy(zero_copy_only=False), text)

    # -- numbers -------------------------------------------------------------------------------------------------

    def _look_at_numbers(self, cells: Cells) -> None:
        values = numbers(cells)
        self.n_missing += int(np.isnan(values).sum())
        self._follow(values)
        self._count(pa.array(values, from_pandas=True), FEW_NUMBERS if self.asked is None else COUNTED_LEVELS)

    def _follow(self, values: np.ndarray) -> None:
        """Take note of the range, and of whether they count on."""
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
        text = trimmed(values)
        blank = text.is_null().to_numpy(zero_copy_only=False)
        self.n_blank += int(counts[blank].sum())
        self._look_for(cells, values, is_number(text) | blank, counts, "number")
        self._look_for(cells, values, is_date(text) | blank, counts, "date")
        if self.odd_number is None or self.odd_date is None:
            self._follow((numbers if self.odd_number is None else moments)(cells))
        zeros = compute.match_substring_regex(text, r"^0\d").fill_null(False)
        self.leading_zero |= bool(compute.any(zeros).as_py())
        self._count_words(values, counts)

    def _look_for(self, cells: Cells, values: pa.Array, fits: np.ndarray, counts: np.ndarray, what: str) -> None:
        """Count the cells that could be a number or a date, and keep the first that could not."""
        setattr(self, f"n_{what}s", getattr(self, f"n_{what}s") + int(counts[fits].sum()))
        if getattr(self, f"odd_{what}") is None and not fits.all():
            odd = values[int((~fits).argmax())].as_py()
            place = compute.index(cells.plain().array, pa.scalar(odd, values.type)).as_py()
            setattr(self, f"odd_{what}", (odd, int(cells.rows[place])))

    def _count_words(self, values: pa.Array, counts: np.ndarray) -> None:
        if self.counts is None or (self.asked is None and self._is_many(len(values))):
            self.counts = None
            return
        self.counts.update(dict(zip(values.to_pylist(), counts.tolist(), strict=True)))
        if len(self.counts) > 2 * COUNTED_LEVELS:
            self.counts, self.pruned = Counter(dict(self.counts.most_common(COUNTED_LEVELS))), True

    def _is_many(self, n_different: int) -> bool:
        """Whether a column of text is numbers, of which there are too many to be worth counting."""
        return self.odd_number is None and n_different > FEW_NUMBERS

    # -- the sample ----------------------------------------------------------------------------------------------

    def sampled(self, mistakes: Mistakes, *, dates: bool = False) -> np.ndarray:
        """The sampled cells that are not missing, as numbers or microseconds, (k,)."""
        read = moments if dates else numbers
        found = [read(Cells(self.name, part, range(len(part)), mistakes)) for part in self.sample]
        values = np.concatenate(found) if found else np.empty(0)
        return values[~np.isnan(values)]


def _type_name(kind: pa.DataType) -> str:
    return str(kind.value_type if pa.types.is_dictionary(kind) else kind)


@dataclass
class Sampler:
    """A uniform sample of rows: those with the smallest random keys (Vitter's reservoir, in bulk)."""

    watches: Mapping[str, Watch]
    size: int = SAMPLE_ROWS
    keys: list[np.ndarray] = field(default_factory=list)
    bound: float = 1.0
    draw: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def look(self, columns: Mapping[str, pa.Array], n_rows: int) -> None:
        """Keep some of these rows, and drop some of those that were kept."""
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


def watch_table(table: Table, kinds: Mapping[str, Any], mistakes: Mistakes) -> dict[str, Watch]:
    """Look at every row once; columns to be ignored are not read."""
    watches = {name: Watch(name, kinds.get(name)) for name in table.names if kinds.get(name) != "ignore"}
    sampler = Sampler(watches)
    for piece in table.pieces(list(watches), mistakes, BATCH_ROWS):
        for name, array in piece.columns.items():
            watches[name].look(Cells(name, array, piece.told, mistakes))
        sampler.look(piece.columns, len(piece.rows))
    return watches
