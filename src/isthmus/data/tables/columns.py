"""The kinds of columns: their learned parameters, and the encoding and decoding of cells."""

from __future__ import annotations

import datetime as dt
import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from isthmus.data.tables.cells import MISSING, Cells, level_numbers, moments, numbers
from isthmus.data.tables.numerals import PLAIN, Numerals

OTHER = "(other)"
MISSING_MARK = "missing"


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table with its learned parameters.

    Attributes
    ----------
    name
        Name of the column.
    family
        Family of its cells: ``"number"``, ``"text"``, ``"date"`` or ``"boolean"``.
    holes
        Whether a flag marks missing cells, because cells were missing in the training data.
    arrow
        Arrow type of its cells.
    note
        A remark for the user.
    numerals
        Number format of its cells if they are text.
    """

    name: str
    family: str = "number"
    holes: bool = False
    arrow: str = "double"
    note: str = ""
    numerals: Numerals = PLAIN

    kind: ClassVar[str] = ""
    one_hot: ClassVar[bool] = False

    @property
    def parts(self) -> list[str]:
        """Names of the values that encode a cell, without the missing flag."""
        return []

    @property
    def width(self) -> int:
        """Number of values that encode a cell; 0 for an unused column."""
        return len(self.parts) + self.marked

    @property
    def marked(self) -> bool:
        """Whether one of them is a missing flag."""
        return self.holes and bool(self.parts)

    @abstractmethod
    def encode(self, cells: Cells, out: np.ndarray) -> None:
        """Encode cells into `out`, zeros (n, len(parts)); missing cells become NaN."""

    @abstractmethod
    def decode(self, block: np.ndarray) -> pa.Array:
        """Decode values to cells, (n, len(parts)) → n cells; NaN becomes a missing cell."""

    @abstractmethod
    def expected(self, block: np.ndarray) -> list[str]:
        """A model's expected cells, from its reconstruction (n, len(parts)), as n strings."""

    def seen(self, cells: Cells) -> list[str]:
        """The cells as strings."""
        read_as_numbers = self.family == "number" and cells.family == "text"
        return [_shown(cell) for cell in (self.numbers(cells) if read_as_numbers else cells.array).tolist()]

    def numbers(self, cells: Cells) -> np.ndarray:
        """Cells as float64, (n,), NaN for missing cells; text is parsed in this column's number format."""
        return numbers(cells, self.numerals)

    def to_json(self) -> dict[str, Any]:
        """The column as JSON."""
        return {"kind": self.kind, **asdict(self)}


def _shown(cell: Any) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return MISSING_MARK
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        return rounded(cell, digits=6)
    return str(cell)


def rounded(value: float, digits: int = 3) -> str:
    """A number rounded to `digits` significant digits, with thousands separators.

    >>> rounded(119.62), rounded(9800), rounded(0.000123456), rounded(1234567.0)
    ('120', '9,800', '0.000123', '1,230,000')
    """
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    near = round(value, places)
    if 1e-4 <= abs(near) < 1e15:
        return f"{near:,.{max(0, places)}f}".rstrip("0").rstrip(".") if places > 0 else f"{near:,.0f}"
    return f"{near:.{digits}g}"


def _duration(value: float, arrow: str) -> str:
    """A duration as text, rounded to seconds if it is at least one second.

    >>> _duration(900.4e6, "duration[us]")
    '0:15:00'
    """
    if not math.isfinite(value):
        return MISSING_MARK
    seconds = value / {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}[arrow[9:-1]]
    return str(dt.timedelta(seconds=round(seconds) if abs(seconds) >= 1 else seconds))


def _restored(values: np.ndarray, arrow: str) -> pa.Array:
    """Convert floats, NaN for missing, to an Arrow type; integers are clipped to the range of the type."""
    plain = pa.array(values, from_pandas=True)
    if arrow.startswith(("int", "uint")):
        limits = np.iinfo(arrow)
        return pa.array(np.clip(np.round(values), limits.min, limits.max), from_pandas=True).cast(
            pa.type_for_alias(arrow), safe=False
        )
    if arrow.startswith("duration["):
        return pa.array(np.round(values), from_pandas=True).cast(pa.int64()).cast(pa.duration(arrow[9:-1]))
    if arrow.startswith("decimal"):
        scale = int(arrow.rpartition(" ")[2].rstrip(")"))
        exact = [None if math.isnan(value) else Decimal(f"{value:.{scale}f}") for value in values.tolist()]
        return pa.array(exact, pa.decimal128(38, scale))
    if arrow == "bool":
        return pa.array(np.nan_to_num(values) >= 0.5, mask=np.isnan(values))
    return plain.cast(pa.float32()) if arrow == "float" else plain


LARGEST_ENCODED = float(np.finfo(np.float32).max)


def _in_single(scaled: np.ndarray) -> np.ndarray:
    """Scaled numbers within the range of single precision; NaN stays NaN.

    Finite numbers far outside the training rows would become infinite. Detectors would then refuse the row, although
    it is an anomaly.
    """
    clipped: np.ndarray = np.clip(scaled, -LARGEST_ENCODED, LARGEST_ENCODED)
    return clipped


# -- numbers -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Numeric(Column):
    """Numbers: ``(f((x - centre) / spread) - mean) / deviation``, where f is asinh for heavy tails, else the identity.

    asinh is linear near zero and logarithmic far from it, so that outliers neither stretch the scale of the other
    values nor are clipped. Numbers are decoded with their original number of decimals, up to 6.
    """

    centre: float = 0.0
    spread: float = 1.0
    heavy_tails: bool = False
    mean: float = 0.0
    deviation: float = 1.0
    decimals: int | None = None

    kind: ClassVar[str] = "numeric"

    @property
    def parts(self) -> list[str]:
        return [self.name]

    def encode(self, cells: Cells, out: np.ndarray) -> None:
        out[:, 0] = _in_single(self._scaled(self.numbers(cells)))

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        away = (values - self.centre) / self.spread
        bent = np.arcsinh(away) if self.heavy_tails else away
        scaled: np.ndarray = (bent - self.mean) / self.deviation
        return scaled

    def values(self, block: np.ndarray) -> np.ndarray:
        """Values in the original units, (n, 1) → (n,)."""
        bent = block[:, 0].astype(np.float64) * self.deviation + self.mean
        away = np.sinh(np.clip(bent, -700.0, 700.0)) if self.heavy_tails else bent
        exact = away * self.spread + self.centre
        return exact if self.decimals is None else np.round(exact, self.decimals)

    def decode(self, block: np.ndarray) -> pa.Array:
        return _restored(self.values(block), self.arrow)

    def expected(self, block: np.ndarray) -> list[str]:
        values = self.values(block).tolist()
        if self.arrow.startswith("duration["):
            return [f"about {_duration(value, self.arrow)}" for value in values]
        return [f"about {rounded(value)}" for value in values]


@dataclass(frozen=True, kw_only=True)
class Ordinal(Column):
    """Ordered levels: numbers keep their distances, strings are equally spaced with a step of one.

    An unknown string counts as missing and sets the missing flag.
    """

    levels: tuple[Any, ...] = ()
    mean: float = 0.0
    deviation: float = 1.0

    kind: ClassVar[str] = "ordinal"

    @property
    def parts(self) -> list[str]:
        return [self.name]

    @cached_property
    def _steps(self) -> np.ndarray:
        if self.family == "text":
            return np.arange(len(self.levels), dtype=np.float64)
        return np.asarray(self.levels, dtype=np.float64)

    def encode(self, cells: Cells, out: np.ndarray) -> None:
        out[:, 0] = _in_single((self.steps_of(cells) - self.mean) / self.deviation)

    def steps_of(self, cells: Cells) -> np.ndarray:
        """Positions of the cells in the order, (n,); NaN for missing cells."""
        if self.family != "text":
            return self.numbers(cells)
        found = level_numbers(cells, pa.array(self.levels, pa.string()))
        return np.where((found == MISSING) | (found == len(self.levels)), np.nan, found)

    def _nearest(self, block: np.ndarray) -> list[Any]:
        steps = block[:, :1].astype(np.float64) * self.deviation + self.mean
        nearest = np.abs(np.nan_to_num(steps) - self._steps).argmin(axis=1)
        missing = np.isnan(steps[:, 0])
        return [None if gone else self.levels[place] for place, gone in zip(nearest, missing, strict=True)]

    def decode(self, block: np.ndarray) -> pa.Array:
        if self.family == "text":
            return pa.array(self._nearest(block), pa.string())
        return _restored(np.array([math.nan if v is None else v for v in self._nearest(block)], float), self.arrow)

    def expected(self, block: np.ndarray) -> list[str]:
        return [f"about {_shown(level)}" for level in self._nearest(block)]


# -- levels ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Categorical(Column):
    """Unordered levels, one-hot encoded, with one more value for all rare and unknown levels."""

    levels: tuple[Any, ...] = ()

    kind: ClassVar[str] = "categorical"
    one_hot: ClassVar[bool] = True

    @property
    def parts(self) -> list[str]:
        return [f"{self.name}={_level(level)}" for level in (*self.levels, OTHER)]

    @cached_property
    def _words(self) -> list[str]:
        shown = [str(bool(level)) for level in self.levels] if self.family == "boolean" else map(_level, self.levels)
        return [*shown, "another value"]

    @cached_property
    def _set(self) -> pa.Array:
        return pa.array(self.levels, pa.string() if self.family == "text" else pa.float64())

    def encode(self, cells: Cells, out: np.ndarray) -> None:
        found = level_numbers(cells, self._set, self.numerals)
        out[np.arange(len(found)), found] = 1.0
        missing = found == MISSING
        if missing.any():
            out[missing] = np.nan

    def decode(self, block: np.ndarray) -> pa.Array:
        missing = np.isnan(block).any(axis=1)
        best = np.nan_to_num(block).argmax(axis=1)
        unknown = missing | (best == len(self.levels))
        if self.family == "text":
            return pa.DictionaryArray.from_arrays(
                pa.array(best, pa.int32(), mask=unknown), self._set
            ).dictionary_decode()
        levels = np.append(np.asarray(self.levels, dtype=np.float64), np.nan)
        return _restored(np.where(unknown, np.nan, levels[best]), self.arrow)

    def known(self, block: np.ndarray) -> np.ndarray:
        """The same without the value of rare and unknown levels, which cannot fill a cell."""
        return np.where(np.arange(block.shape[1]) < len(self.levels), block, -1.0)

    def expected(self, block: np.ndarray) -> list[str]:
        order = np.argsort(-block, axis=1)[:, :2]
        top = np.take_along_axis(block, order, axis=1)
        close = top[:, 1] >= 0.5 * top[:, 0]
        pairs = zip(order.tolist(), close.tolist(), strict=True)
        return [" or ".join(self._words[place] for place in places[: 1 + both]) for places, both in pairs]


@dataclass(frozen=True, kw_only=True)
class Binary(Categorical):
    """Two levels, one-hot encoded, with one more value for all other levels."""

    kind: ClassVar[str] = "binary"


def _level(level: Any) -> str:
    return f"{level:.15g}" if isinstance(level, float) else str(level)


# -- moments -----------------------------------------------------------------------------------------------------------

SECOND = 1e6
DAY, WEEK, YEAR = 86400 * SECOND, 7 * 86400 * SECOND, 365.2425 * 86400 * SECOND
CYCLES = {"time of day": DAY, "weekday": WEEK, "season": YEAR}
MONDAY = 4 * DAY
"""The first Monday after 1970-01-01, a Thursday."""


@dataclass(frozen=True, kw_only=True)
class Datetime(Column):
    """Timestamps: elapsed time, and sine and cosine of the cycles that the data cover, with the total weight of one
    column.

    Cycles refer to UTC. `form` is the date format of text cells, in `strftime` notation; "" for ISO 8601.
    """

    mean: float = 0.0
    deviation: float = 1.0
    cycles: tuple[str, ...] = ()
    step: float = SECOND
    form: str = ""

    kind: ClassVar[str] = "datetime"

    @property
    def parts(self) -> list[str]:
        waves = [f"{self.name} ({cycle}, {wave})" for cycle in self.cycles for wave in ("sine", "cosine")]
        return [f"{self.name} (elapsed)", *waves]

    @property
    def _share(self) -> float:
        return 1.0 / math.sqrt(1 + len(self.cycles))

    def encode(self, cells: Cells, out: np.ndarray) -> None:
        values = self.moments(cells)
        out[:, 0] = (values - self.mean) / self.deviation * self._share
        for place, cycle in enumerate(self.cycles):
            angle = (values - MONDAY) % CYCLES[cycle] * (2 * math.pi / CYCLES[cycle])
            out[:, 1 + 2 * place] = np.sin(angle) * self._share
            out[:, 2 + 2 * place] = np.cos(angle) * self._share

    def moments(self, cells: Cells) -> np.ndarray:
        """Cells as microseconds since 1970, (n,), NaN for missing cells; text is parsed in this column's format."""
        return moments(cells, self.form)

    def values(self, block: np.ndarray) -> np.ndarray:
        """Microseconds since 1970, (n, parts) → (n,); the time of day comes from its sine and cosine (finer)."""
        elapsed = block[:, 0].astype(np.float64) / self._share * self.deviation + self.mean
        if "time of day" in self.cycles:
            place = 1 + 2 * self.cycles.index("time of day")
            within = np.arctan2(block[:, place].astype(np.float64), block[:, place + 1]) / (2 * math.pi) % 1.0 * DAY
            elapsed = np.round((elapsed - within) / DAY) * DAY + within
        inside: np.ndarray = np.clip(np.round(elapsed / self.step) * self.step, -9.2e15, 9.2e15)
        return inside

    def decode(self, block: np.ndarray) -> pa.Array:
        values = self.values(block)
        whole = pa.array(np.nan_to_num(values).astype(np.int64), mask=np.isnan(values))
        if self.family == "text" or self.arrow.startswith("date"):
            stamps = whole.cast(pa.timestamp("us"))
            return self._as_text(stamps) if self.family == "text" else stamps.cast(pa.date32(), safe=False)
        return whole.cast(pa.timestamp("us", _zone(self.arrow)))

    def _as_text(self, stamps: pa.Array) -> pa.Array:
        return pa.array([None if stamp is None else self._word(stamp) for stamp in stamps.to_pylist()], pa.string())

    def _word(self, stamp: Any) -> str:
        if self.form:
            clock = "" if self.step >= DAY else " %H:%M" if self.step >= 60 * SECOND else " %H:%M:%S"
            return f"{stamp:{self.form}{clock}}"
        if self.step >= DAY:
            return f"{stamp:%Y-%m-%d}"
        return stamp.isoformat(" ", "minutes" if self.step >= 60 * SECOND else "auto")  # type: ignore[no-any-return]

    def expected(self, block: np.ndarray) -> list[str]:
        whole = pa.array(np.nan_to_num(self.values(block)).astype(np.int64))
        stamps = whole.cast(pa.timestamp("us", _zone(self.arrow)))  # of the column's own zone, as its cells are shown
        short = "%Y-%m-%d" if self.step >= DAY else "%Y-%m-%d %H:%M"
        return [f"about {stamp:{short}}" for stamp in stamps.to_pylist()]


def _zone(arrow: str) -> str | None:
    """The time zone in the name of an Arrow type.

    >>> _zone("timestamp[ns, tz=Europe/Berlin]"), _zone("timestamp[us]")
    ('Europe/Berlin', None)
    """
    return arrow.partition("tz=")[2].rstrip("]") or None


# -- unused columns ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Ignored(Column):
    """A column that is not used: by request, constant, all missing, or different in every row."""

    constant: Any = None
    reason: str = "asked for"

    kind: ClassVar[str] = "ignore"

    def encode(self, cells: Cells, out: np.ndarray) -> None:
        """Writes nothing."""

    def decode(self, block: np.ndarray) -> pa.Array:
        return pa.array([self.constant] * len(block))

    def expected(self, block: np.ndarray) -> list[str]:
        return [_shown(self.constant)] * len(block)


KINDS: dict[str, type[Column]] = {
    member.kind: member for member in (Numeric, Binary, Categorical, Ordinal, Datetime, Ignored)
}
"""Kinds of columns by name."""


FORMER_NAMES = {"tame": "heavy_tails"}
"""Attributes of columns that files of 0.1.0 store by another name."""


def current_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a stored column by the names of today."""
    return {FORMER_NAMES.get(name, name): value for name, value in values.items()}


def column_from_json(values: dict[str, Any]) -> Column:
    """The inverse of `Column.to_json`."""
    given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in current_names(values).items()}
    given["numerals"] = Numerals(**given.get("numerals", {}))
    return KINDS[str(given.pop("kind"))](**given)
