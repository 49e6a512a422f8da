"""Rules that infer the kind of a column from its profile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from isthmus.data.tables.cells import Cells, moments, numbers, plural
from isthmus.data.tables.columns import (
    CYCLES,
    DAY,
    SECOND,
    WEEK,
    YEAR,
    Binary,
    Categorical,
    Column,
    Datetime,
    Ignored,
    Numeric,
    Ordinal,
)
from isthmus.data.tables.dates import FORMS
from isthmus.data.tables.errors import TableErrors
from isthmus.data.tables.numerals import PLAIN, Numerals, parse_numbers, trimmed
from isthmus.data.tables.profiling import Watch

FAMILIES = ("number", "boolean", "text", "date", "missing")
NEARLY_ALL = 0.9
"""If at least this fraction of a text column is numeric, the other cells are reported as errors."""
ORDINAL_LEVELS, ROWS_PER_LEVEL = 20, 10
"""Integers with at most ORDINAL_LEVELS distinct values, and on average ROWS_PER_LEVEL rows per value, are ordinal."""
FEW = 50
"""Below this number of rows every level is kept; text with at most this many levels may be categorical."""
HEAVY, FAR = 1.75, 30.0
"""Values have heavy tails if their central 99 % is HEAVY times wider than that of a Gaussian with the same quartiles,
or if a value lies FAR of that Gaussian's standard deviations from the median."""


@dataclass
class Decision:
    """The inference for one column.

    Attributes
    ----------
    watch
        The profile of the column.
    untyped
        Whether it comes from a text file.
    max_levels
        Maximum number of levels of a categorical column.
    heavy_tails
        Whether numbers are transformed by asinh; ``"auto"``: if their tails are heavy.
    errors
        Collection for errors.
    mark
        The decimal mark of ambiguous numbers such as 1,234: see `decide_mark`.
    """

    watch: Watch
    untyped: bool
    max_levels: int
    heavy_tails: bool | str
    errors: TableErrors
    mark: str = "."

    def column(self) -> Column:
        """The column with its requested or inferred kind."""
        if self.watch.family not in FAMILIES:
            return self.unreadable()
        if self.watch.family == "text" and self.is_mixed and self.watch.asked is None:
            return self.mixed_units()
        if self.n_cells <= 0:
            return self._ignored("has only missing cells", "all missing")
        if len(self.values) == 1 and not isinstance(self.watch.asked, list | tuple):
            return self._constant()
        asked = "datetime" if self.watch.asked in FORMS else self.watch.asked
        kind = "ordinal" if isinstance(asked, list | tuple) else asked or self.kind()
        return _MAKERS[kind](self)

    # -- candidate types -----------------------------------------------------------------------------------------

    @cached_property
    def numerals(self) -> Numerals | None:
        """The number format of all text cells; None if some are not numbers, or are codes such as 00123."""
        watch = self.watch
        if watch.family != "text" or watch.is_code or (self.date_form == "%Y%m%d" and self.untyped):
            return None
        order = sorted(watch.writings, key=lambda way: way.decimal != self.mark)
        return next((way.numerals for way in order if way.odd is None and way.n and not way.mixed), None)

    @property
    def is_mixed(self) -> bool:
        """Whether all text cells are numbers, but in different units."""
        return self.numerals is None and any(way.odd is None and way.n and way.mixed for way in self.watch.writings)

    @cached_property
    def date_form(self) -> str | None:
        """The date format of all text cells, "" for ISO; None if none fits, or more than one."""
        watch = self.watch
        if watch.family != "text" or self.n_cells <= 0 or watch.asked in FORMS:
            return watch.asked if watch.asked in watch.date_forms else None
        if watch.odd_date is None:
            return ""
        return watch.date_forms[0] if len(watch.date_forms) == 1 else None

    @property
    def n_cells(self) -> int:
        """Number of cells that are neither missing nor, in text, a missing marker."""
        return self.watch.n_words if self.watch.family == "text" else self.watch.n_seen

    @property
    def is_number_text(self) -> bool:
        """Whether all cells are numbers written as text; codes such as 00123 do not count."""
        return self.numerals is not None

    @property
    def is_number(self) -> bool:
        """Whether the cells are numbers, or text that is parsed as numbers."""
        return self.watch.family in ("number", "boolean") or self.is_number_text

    @property
    def is_date(self) -> bool:
        """Whether the cells are dates, or text that is parsed as dates."""
        return self.watch.family == "date" or self.date_form is not None

    @property
    def is_truth(self) -> bool:
        """Whether the cells are booleans, or the words true and false."""
        words = {str(value).strip().lower() for value in self.values if self.watch.family in ("text", "boolean")}
        return self.watch.family == "boolean" or (bool(words) and words <= {"true", "false"})

    @property
    def holes(self) -> bool:
        """Whether some cells are missing."""
        return self.watch.n_rows > self.n_cells

    @cached_property
    def values(self) -> Counter[Any]:
        """The distinct values with their counts, empty if there are too many; numbers as floats."""
        watch = self.watch
        if self.date_form:
            return watch.words if len(watch.words) == 1 else Counter()
        if watch.family == "date" or (self.is_date and not self.is_number):
            return Counter({watch.low: 1} if watch.low == watch.high else {})
        if self.numerals is None:
            return watch.words if watch.family == "text" else watch.counts or Counter[Any]()
        merged, words = Counter[Any](), list(watch.words)
        for word, value in zip(words, self._parsed(words), strict=True):
            merged[value] += watch.words[word]
        return merged

    def _parsed(self, words: list[str]) -> list[float]:
        """Words parsed as numbers in the format of this column."""
        values: list[float] = parse_numbers(trimmed(pa.array(words, pa.string())), self.numerals or PLAIN).tolist()
        return values

    def _as_numbers(self, cells: Cells) -> np.ndarray:
        return numbers(cells, self.numerals or PLAIN)

    def _as_moments(self, cells: Cells) -> np.ndarray:
        return moments(cells, self.date_form or "")

    @property
    def is_whole(self) -> bool:
        """Whether all counted or sampled numbers are integers."""
        if self.watch.arrow.startswith(("int", "uint", "bool")) or not self.is_number:
            return self.is_number
        values = self.values or self.watch.sampled(self._as_numbers, self.errors)
        return all(float(value).is_integer() for value in values)

    # -- the kind ------------------------------------------------------------------------------------------------

    def kind(self) -> str:
        """The inferred kind."""
        if self.watch.ordered is not None:
            return "ordinal"
        if self.is_truth:
            return "binary"
        if self.is_number:
            return self._kind_of_numbers()
        if self.is_date:
            return "datetime"
        return self._kind_of_text()

    def _kind_of_numbers(self) -> str:
        values, n_seen = self.values, self.watch.n_seen
        many_each = n_seen >= ROWS_PER_LEVEL * len(values)
        if len(values) == 2 and (set(values) == {0.0, 1.0} or many_each):
            return "binary"
        if self.watch.consecutive and n_seen >= 2 * ROWS_PER_LEVEL:
            return "row number"
        few = 0 < len(values) <= ORDINAL_LEVELS and many_each
        return "ordinal" if few and self.is_whole else "numeric"

    def _kind_of_text(self) -> str:
        watch, n_different = self.watch, len(self.watch.words)
        varied = watch.counts is None or n_different > FEW or n_different > self.n_cells / 2
        way = max(watch.writings, key=lambda way: way.n)
        n_dates = watch.n_dates - watch.n_blank
        for what, odd, n in (("number", way.odd, way.n), ("date", watch.odd_date, n_dates)):
            if odd is not None and varied and n >= NEARLY_ALL * self.n_cells and not watch.date_forms:
                self._mixture(what, odd)
                return "numeric"
        if watch.counts is None or watch.pruned or n_different > max(20, self.n_cells / 2):
            return "identifier"
        return "binary" if n_different == 2 else "categorical"

    def _mixture(self, what: str, odd: tuple[str, int]) -> None:
        name = self.watch.name
        remedy = f"correct or empty these cells, or pass kinds={{{name!r}: 'categorical'}}"
        self.errors.add(name, f"contains {what}s, but also text such as {odd[0]!r}", odd[1], remedy=remedy)

    # -- columns -------------------------------------------------------------------------------------------------

    def _common(self, family: str | None = None, note: str = "") -> dict[str, Any]:
        """Arguments of all column classes."""
        watch = self.watch
        return {
            "name": watch.name,
            "family": family or watch.family,
            "holes": self.holes,
            "arrow": watch.arrow,
            "note": note,
            "numerals": self.numerals or PLAIN,
        }

    def _as_number(self) -> dict[str, Any]:
        """The same for numbers; numbers written as text are decoded as numbers."""
        if not self.is_number:
            self._refuse("numbers", self.watch.point.odd)
        if self.watch.family != "text":
            return self._common()
        note = "" if self.untyped else "contains numbers written as text, which are read as numbers"
        return self._common("number", note) | {"arrow": "int64" if self.is_whole else "double"}

    def _refuse(self, needed: str, odd: tuple[str, int] | None) -> None:
        """Record that the requested kind does not fit."""
        if self.watch.asked is None:
            return  # a mixture, which is already recorded
        got = plural(self.watch.family) if odd is None else f"text such as {odd[0]!r}"
        self.errors.add(
            self.watch.name,
            f"was requested as {self.watch.asked}, which needs {needed}, but contains {got}",
            odd and odd[1],
            remedy="correct these cells, or request another kind",
        )

    def _ignored(self, note: str, reason: str, constant: Any = None) -> Ignored:
        return Ignored(**self._common(note=f"{note}; it is not used"), reason=reason, constant=constant)

    def _constant(self) -> Ignored:
        value = next(iter(self.values))
        if self.is_date and not self.is_number:
            return self._ignored("has the same date everywhere", "constant")
        family = "number" if self.is_number_text else self.watch.family
        shown = bool(value) if family == "boolean" else int(value) if family == "number" and self.is_whole else value
        return self._ignored(f"is constant ({shown!r})", "constant", shown)

    def numeric(self) -> Column:
        """Numbers, transformed by asinh if they have heavy tails."""
        given = self._as_number()
        values = self.watch.sampled(self._as_numbers, self.errors) if self.is_number else np.zeros(1)
        return learn_numeric(values, heavy_tails=self.heavy_tails, decimals=_decimals(values), **given)

    def ordinal(self) -> Column:
        """Levels in numeric order, in the order of the categorical dtype, or in the user's order."""
        asked, watch = self.watch.asked, self.watch
        if isinstance(asked, list | tuple):
            levels = tuple(asked)
        elif watch.ordered is not None:
            levels = watch.ordered
        elif self.is_number:
            levels = tuple(sorted(map(float, self.values)))
        else:
            text = (
                "was requested as ordinal, but contains text; pass its values in order: "
                f"kinds={{{watch.name!r}: ['low', 'high']}}"
            )
            self.errors.add(watch.name, text)
            levels = ("",)
        return self._ordinal(levels)

    def _ordinal(self, levels: tuple[Any, ...]) -> Ordinal:
        words = any(isinstance(level, str) for level in levels)
        counts = self.values
        strange = [value for value in counts if value not in levels]
        if strange:
            what = f"has values that are not among its levels, such as {strange[0]!r}"
            self.errors.add(self.watch.name, what, remedy="add them to the levels, or correct these cells")
        places = np.arange(len(levels)) if words else np.asarray(levels, float)
        weights = np.array([counts.get(level, 0) for level in levels], float) + (0 if counts else 1)
        mean, deviation = _weighted(places, weights)
        given = self._common("text") | {"holes": True} if words else self._as_number()
        kept = tuple(map(str, levels)) if words else tuple(map(float, levels))
        return Ordinal(**given, levels=kept, mean=mean, deviation=deviation)

    def categorical(self) -> Column:
        """Frequent levels, and one level for all others."""
        counts = self._levels_to_count()
        frequent = [level for level, n in counts if n >= _rare_below(self.watch.n_seen)][: self.max_levels]
        if not frequent:
            return self._ignored("has only rare values", "rare values")
        note = ""
        if len(frequent) < len(counts):
            share = sum(n for level, n in counts if level in set(frequent)) / max(1, sum(n for _, n in counts))
            different = f"{'more than ' if self.watch.pruned else ''}{len(counts):,}"
            note = f"has {different} values; the {len(frequent)} most frequent are kept ({share:.1%} of its cells), "
            note += "all others are '(other)'"
        return Categorical(**self._levelled(note), levels=tuple(frequent))

    def binary(self) -> Column:
        """Two levels."""
        if len(self.values) > 2 or not self.values:
            text = f"was requested as binary, which needs 2 values, but has {len(self.values) or 'many'} different ones"
            self.errors.add(self.watch.name, text, remedy="request it as categorical or numeric")
        if self.is_truth:
            return Binary(**self._levelled("") | {"family": "boolean", "arrow": "bool"}, levels=(0.0, 1.0))
        return Binary(**self._levelled(""), levels=tuple(sorted(level for level, _ in self._levels_to_count())))

    def _levels_to_count(self) -> list[tuple[Any, int]]:
        """Levels with their counts, the most frequent first; ties are sorted by value."""
        if self.watch.family == "date":
            self.errors.add(self.watch.name, "contains dates, which cannot be categories; convert them to text")
            return []
        text = self.watch.words if self.watch.family == "text" else self.watch.counts
        counts = self.values if self._number_levels else (text or Counter[Any]())
        typed = ((float(value) if self._number_levels else str(value), n) for value, n in counts.items())
        return sorted(typed, key=lambda pair: (-pair[1], pair[0]))

    @property
    def _number_levels(self) -> bool:
        return self.watch.family != "text" or (self.is_number_text and self.watch.asked is None)

    def _levelled(self, note: str) -> dict[str, Any]:
        if not self._number_levels:
            return self._common("text", note)
        given = self._as_number()
        return given | {"note": note or given["note"]}

    def datetime(self) -> Column:
        """Timestamps with the cycles that they cover."""
        if not self.is_date:
            self._refuse("dates such as 2024-12-31 23:59:59", self.watch.odd_date)
            return Datetime(**self._common())
        values = self.watch.sampled(self._as_moments, self.errors)
        return learn_datetime(values, self.watch, form=self.date_form or "", **self._common())

    def identifier(self) -> Column:
        """Text that is unique to nearly every row, such as identifiers."""
        name, forms = self.watch.name, self.watch.date_forms
        if len(forms) > 1 and self.n_cells:
            note = f"has ambiguous dates: {' or '.join(forms)} (pass kinds={{{name!r}: {forms[0]!r}}} to use it)"
        else:
            note = f"is text that differs in nearly every row (pass kinds={{{name!r}: 'categorical'}} to use it)"
        return self._ignored(note, "identifier")

    def mixed_units(self) -> Column:
        """Numbers in different units, which cannot be compared."""
        way = next(way for way in self.watch.writings if way.odd is None and way.mixed)
        units = " and ".join(unit or "plain numbers" for unit in sorted(way.units))
        name = self.watch.name
        text = f"has numbers in different units ({units}); convert them to one, or pass kinds={{{name!r}: 'ignore'}}"
        self.errors.add(name, text)
        return Ignored(**self._common())

    def row_number(self) -> Column:
        """Numbers that count the rows."""
        note = f"counts the rows (pass kinds={{{self.watch.name!r}: 'numeric'}} to use it)"
        return self._ignored(note, "row number")

    def unreadable(self) -> Column:
        """A type that no kind supports."""
        text = f"is of type {self.watch.arrow}, which is not supported; convert it, or pass "
        self.errors.add(self.watch.name, text + f"kinds={{{self.watch.name!r}: 'ignore'}}")
        return Ignored(**self._common())


_MAKERS: dict[str, Callable[[Decision], Column]] = {
    "numeric": Decision.numeric,
    "binary": Decision.binary,
    "categorical": Decision.categorical,
    "ordinal": Decision.ordinal,
    "datetime": Decision.datetime,
    "identifier": Decision.identifier,
    "row number": Decision.row_number,
}


def _rare_below(n_seen: int) -> int:
    """Minimum count of a level: 1 for few rows, 3 for hundreds, up to 20 for many.

    >>> [_rare_below(n) for n in (40, 500, 5000, 10**6)]
    [1, 3, 5, 20]
    """
    return 1 if n_seen < FEW else max(3, min(20, n_seen // 1000))


def _weighted(places: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Weighted mean and standard deviation; a standard deviation of 0 is replaced by 1."""
    mean = float(np.average(places, weights=weights)) if weights.sum() else float(places.mean())
    variance = float(np.average((places - mean) ** 2, weights=weights)) if weights.sum() else 0.0
    return mean, variance**0.5 or 1.0


def learn_numeric(values: np.ndarray, *, heavy_tails: bool | str = "auto", **common: Any) -> Numeric:
    """Learn the scaling of numbers, (k,): standardised, after asinh for `heavy_tails`; ``"auto"``: if they are."""
    centre, spread = float(np.median(values)), _spread(values)
    if heavy_tails == "auto":
        wide = np.diff(np.quantile(values, [0.005, 0.995]))[0] / (2 * 2.5758 * spread)
        far = float(np.abs(values - centre).max()) / spread
        heavy_tails = bool(wide > HEAVY or far > FAR)
    if not heavy_tails:
        centre, spread = float(values.mean()), 1.0
    away = (values - centre) / spread
    bent = np.arcsinh(away) if heavy_tails else away
    mean, deviation = float(bent.mean()), float(bent.std())
    deviation = deviation if deviation > 1e-12 * max(1.0, abs(centre)) else 1.0
    return Numeric(
        centre=centre, spread=spread, heavy_tails=bool(heavy_tails), mean=mean, deviation=deviation, **common
    )


def _decimals(values: np.ndarray) -> int | None:
    """Number of decimals with which all numbers are exact, up to 6; None: more.

    >>> _decimals(np.array([1.25, 3.5])), _decimals(np.array([1 / 3]))
    (2, None)
    """
    return next((digits for digits in range(7) if (np.round(values, digits) == values).all()), None)


def _spread(values: np.ndarray) -> float:
    """Standard deviation of a Gaussian with the same quartiles, or wider quantiles if the quartiles nearly coincide."""
    deviation = float(values.std()) or 1.0
    for share, width in ((0.25, 1.349), (0.05, 3.2897), (0.01, 4.6527)):
        low, high = np.quantile(values, [share, 1 - share])
        if high - low > 1e-12 * deviation:
            return float(high - low) / width
    return deviation


def learn_datetime(values: np.ndarray, watch: Watch, **common: Any) -> Datetime:
    """Learn the scaling of timestamps, (k,) in microseconds, and which cycles the data cover."""
    # The exact range is tracked only for ISO dates; for other formats it is taken from the sample.
    span = watch.high - watch.low if watch.high > watch.low else float(np.ptp(values))
    varies = {"time of day": _varies(values % DAY), "weekday": span >= 2 * WEEK, "season": span >= 2 * YEAR}
    cycles = tuple(name for name in CYCLES if varies[name])
    mean, deviation = float(values.mean()), float(values.std()) or DAY
    return Datetime(mean=mean, deviation=deviation, cycles=cycles, step=_step(values), **common)


def _varies(values: np.ndarray) -> bool:
    return bool((values != values[0]).any())


def _step(values: np.ndarray) -> float:
    """The coarsest of day, minute, second, millisecond and microsecond that divides all timestamps."""
    steps: Sequence[float] = (DAY, 60 * SECOND, SECOND, SECOND / 1000)
    return next((step for step in steps if not (values % step).any()), 1.0)
