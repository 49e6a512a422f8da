"""Parsing of numbers as spreadsheets write them: decimal commas, thousands separators, currencies, percent signs, and
parentheses for negative numbers.

A column has one number format, which is inferred from all its cells and stored with the column, so that later files are
read the same way. A cell with two possible values is never guessed by itself: see `Numerals.grouped`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from pyarrow import compute

MISSING_WORDS = ["", "#N/A", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null", "NaT", "<NA>"]
"""Missing markers in text."""
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
CODE = r"^(0\d+|\+\d{7,}|\d{20,})$"
"""Texts that a number cannot represent exactly: 007, telephone numbers, integers beyond 64 bits."""
EXPONENT_CODE, WITH_POINT = r"^\d+[eE]\d+$", r"[.,-]|[eE]\+"
"""Codes such as 12e3. Programs write numbers as 1e+05 or 1.5e5; 1e5 is a number only if its column has such cells."""

_ISO_CODES = (
    "USD|EUR|GBP|CHF|JPY|CNY|INR|AUD|CAD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|BRL|MXN|ZAR|KRW|TRY|CLP|PEN|COP|ARS|RUB|SGD"
)
_CURRENCY = rf"(?:R\$|US\$|S/|kr\.?|zł|Kč|Ft|[$€£¥₹₽₩₺₪₫฿]|{_ISO_CODES})"
_EXPONENT = r"(?:[eE][+-]?\d+)?"
# Groups have three digits, or as in India two before the last three (12,34,567).
_POINT = (
    r"[1-9]\d{0,2}(?:[, '’]\d{3})+(?:\.\d+)?|[1-9]\d?(?:,\d{2})+,\d{3}(?:\.\d+)?"
    rf"|\d+\.?\d*{_EXPONENT}|\.\d+{_EXPONENT}"
)
_COMMA = rf"[1-9]\d{{0,2}}(?:[. '’]\d{{3}})+(?:,\d+)?|\d+,?\d*{_EXPONENT}|,\d+{_EXPONENT}"


def _written(number: str) -> str:
    return (
        rf"^(?P<open>\()?\s*(?P<sign>[+-])?\s*(?P<before>{_CURRENCY})?\s*(?P<inner>[+-])?(?P<number>{number})"
        rf"\s*(?P<after>{_CURRENCY}|%)?\s*(?P<minus>-)?(?P<close>\))?$"
    )


_PATTERNS = {".": _written(_POINT), ",": _written(_COMMA)}
_COMPILED = {decimal: re.compile(pattern) for decimal, pattern in _PATTERNS.items()}
_AMBIGUOUS = r"^\D*[1-9]\d{0,2}[.,]\d{3}\D*$"


@dataclass(frozen=True)
class Numerals:
    """The number format of a column.

    Attributes
    ----------
    decimal
        The decimal mark, ``"."`` or ``","``.
    grouped
        Whether thousands are separated, so that 1,234 means 1234 if the decimal mark is a point. Learned at fit. If no
        cell had a thousands separator at fit, a later cell such as 1,234 is an error, because it may come from a file
        with another decimal mark.
    unit
        ``"%"``, a currency, or "". Percentages are divided by 100, as spreadsheets do.
    """

    decimal: str = "."
    grouped: bool = False
    unit: str = ""


PLAIN = Numerals()


def trimmed(array: pa.Array) -> pa.Array:
    """Text without surrounding white space; missing markers become nulls."""
    plain = array if array.type == pa.string() else array.cast(pa.string())
    text = compute.utf8_trim_whitespace(plain)
    words = compute.is_in(text, value_set=pa.array(MISSING_WORDS, text.type))
    return compute.if_else(words, pa.scalar(None, text.type), text)


def matches(text: pa.Array, pattern: str) -> np.ndarray:
    """Whether each text matches, (n,); nulls do not."""
    found: np.ndarray = compute.match_substring_regex(text, pattern).fill_null(False).to_numpy(zero_copy_only=False)
    return found


def _normal(text: pa.Array) -> pa.Array:
    """Replace typographic minus signs and spaces by plain ones."""
    return compute.replace_substring_regex(
        compute.replace_substring_regex(text, "[−–]", "-"), "[\u00a0\u202f\u2009]", " "
    )


def is_number(text: pa.Array, decimal: str = ".") -> np.ndarray:
    """Whether each trimmed text is a number with that decimal mark, (n,); nulls are not."""
    return ~np.isnan(_values(text, decimal)[0]) if len(text) else np.zeros(0, bool)


def _values(text: pa.Array, decimal: str) -> tuple[np.ndarray, np.ndarray]:
    """The values of trimmed texts, (n,), NaN for texts that are not numbers; and their units, (n,)."""
    parts = compute.extract_regex(_normal(text), _PATTERNS[decimal])
    get = {name: parts.field(place) for place, name in enumerate(f.name for f in parts.type)}
    digits = compute.replace_substring_regex(get["number"], "[, '’]" if decimal == "." else "[. '’]", "")
    plain = compute.replace_substring(digits, ",", ".") if decimal == "," else digits
    filled = {name: compute.fill_null(column, "") for name, column in get.items()}
    percent = compute.equal(filled["after"], "%")
    # "12.3%" is parsed as 12.3e-2, the nearest double to 0.123; a division by 100 would round twice.
    text_of = compute.if_else(percent, compute.binary_join_element_wise(plain, "e-2", ""), plain)
    whole = parts.is_valid() if hasattr(parts, "is_valid") else compute.is_valid(parts)
    values = np.where(
        whole.to_numpy(zero_copy_only=False),
        compute.if_else(whole, text_of, "nan").cast(pa.float64()).to_numpy(zero_copy_only=False),
        np.nan,
    )
    signs = [filled[name].to_numpy(zero_copy_only=False) for name in ("sign", "inner", "minus")]
    brackets = [filled[name].to_numpy(zero_copy_only=False) == end for name, end in (("open", "("), ("close", ")"))]
    n_minus = sum((sign == "-").astype(int) for sign in signs) + brackets[0]
    values = np.where((n_minus > 1) | (brackets[0] != brackets[1]), np.nan, np.where(n_minus == 1, -values, values))
    before, after = filled["before"].to_numpy(zero_copy_only=False), filled["after"].to_numpy(zero_copy_only=False)
    return values, np.where(before != "", before, after)


def parse_numbers(text: pa.Array, numerals: Numerals) -> np.ndarray:
    """Trimmed texts as float64, (n,); NaN for missing cells, other text, and ambiguous numbers.

    >>> parse_numbers(pa.array(["1.234,50", "-2", "(3,5)"]), Numerals(","))
    array([1234.5,   -2. ,   -3.5])
    """
    values, units = _values(text, numerals.decimal)
    if not numerals.grouped:
        other = "," if numerals.decimal == "." else "."
        single = matches(text, _AMBIGUOUS) & matches(text, f"[{other}]")
        values = np.where(single, np.nan, values)
    strange = (units != numerals.unit) & (units != "") if numerals.unit != "%" else (units != "%") & (values != 0)
    return np.where(strange, np.nan, values)


def number_of(word: str, decimal: str = ".") -> bool:
    """Whether a single text is a number; used for the few cells that decide the format of a file."""
    return bool(_COMPILED[decimal].match(word.strip().replace("\u00a0", " ")))


# -- profile -----------------------------------------------------------------------------------------------------------


@dataclass
class Writing:
    """How the cells of a column parse as numbers with one decimal mark.

    Attributes
    ----------
    decimal
        The decimal mark.
    n, n_plain
        Number of cells that are numbers, and of those with only digits, point and sign.
    odd
        The first cell that is not a number, and its row; or None.
    grouped
        Whether a thousands separator occurred.
    units
        Units that occurred; "" for a nonzero number without a unit.
    """

    decimal: str
    n: int = 0
    n_plain: int = 0
    odd: tuple[str, int] | None = None
    grouped: bool = False
    units: set[str] = field(default_factory=set)

    def look(self, text: pa.Array, counts: np.ndarray, blank: np.ndarray, row_of: Callable[[int], int]) -> None:
        """Update with distinct trimmed texts, their counts, which of them are blank, and a lookup of their rows."""
        plain = matches(text, NUMBER if self.decimal == "." else r"^[+-]?\d+$")
        fits, rest = plain.copy(), ~plain & ~blank
        if plain.any() and "" not in self.units:
            self.units |= {""} if bool((~matches(text, r"^[+-]?0+\.?0*$") & plain).any()) else set()
        if rest.any():
            others = text.filter(pa.array(rest))
            values, units = _values(others, self.decimal)
            good = ~np.isnan(values)
            fits[rest] = good
            mark = r",\d{3}" if self.decimal == "." else r"\.\d{3}"
            self.grouped |= bool((matches(others, mark) & good).any())
            self.units |= set(units[good & (values != 0)].tolist())
        self.n += int(counts[fits].sum())
        self.n_plain += int(counts[plain].sum())
        odd = ~fits & ~blank
        if self.odd is None and odd.any():
            place = int(odd.argmax())
            self.odd = text[place].as_py(), row_of(place)

    @property
    def mixed(self) -> bool:
        """Whether cells have different units, which plain numbers cannot represent."""
        return len(self.units - {""}) > 1 or {"", "%"} <= self.units

    @property
    def numerals(self) -> Numerals:
        """The number format, provided that all cells are numbers with this mark."""
        return Numerals(self.decimal, self.grouped, next(iter(self.units - {""}), ""))


def decide_mark(columns: Iterable[tuple[Writing, Writing]], delimiter: str | None) -> str:
    """The decimal mark of a table, used for ambiguous columns such as 1,234 and 5,678.

    Unambiguous columns decide. Without any, a file with the delimiter ``;`` uses decimal commas, because programs that
    write decimal commas use it; all other files use points.
    """
    clear = {
        point.decimal if point.odd is None else comma.decimal
        for point, comma in columns
        if (point.odd is None) != (comma.odd is None)
    }
    if len(clear) == 1:
        return clear.pop()
    return "," if delimiter == ";" and not clear else "."


def holds_codes(text: pa.Array) -> bool:
    """Whether some trimmed text cannot be represented exactly by a number: 007, or an integer beyond 64 bits."""
    long = text.filter(pa.array(matches(text, r"^\d{19}$")))
    beyond = compute.any(compute.greater(long, pa.scalar("9223372036854775807", long.type))).as_py()
    return bool(matches(text, CODE).any() or beyond)
