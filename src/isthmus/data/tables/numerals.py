"""Numbers as spreadsheets write them: decimal comma, thousands, currency, percent, brackets for negative ones.

A column is written in one way, which is decided over all its cells and kept with the column, so that a later file is
read the same way. A cell that could mean two numbers is never guessed alone: see `Numerals.grouped`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from pyarrow import compute

MISSING_WORDS = ["", "#N/A", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null", "NaT", "<NA>"]
"""What stands for a missing cell in text."""
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
CODE = r"^(0\d+|\+\d{7,}|\d{20,})$"
"""Texts of which a number would lose something: 007, telephone numbers, integers beyond 64 bits."""
EXPONENT_CODE, WITH_POINT = r"^\d+[eE]\d+$", r"[.,-]|[eE]\+"
"""Codes such as 12e3. Programs write 1e+05 or 1.5e5 for a number, not 1e5, which is a number beside such cells only."""

_ISO_CODES = (
    "USD|EUR|GBP|CHF|JPY|CNY|INR|AUD|CAD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|BRL|MXN|ZAR|KRW|TRY|CLP|PEN|COP|ARS|RUB|SGD"
)
_CURRENCY = rf"(?:R\$|US\$|S/|kr\.?|zł|Kč|Ft|[$€£¥₹₽₩₺₪₫฿]|{_ISO_CODES})"
_EXPONENT = r"(?:[eE][+-]?\d+)?"
# Groups are of three, or as in India of two before the last three (12,34,567).
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
    """How the numbers of a column are written.

    Attributes
    ----------
    decimal
        The decimal mark, ``"."`` or ``","``.
    grouped
        Whether a single separator before three digits separates thousands, as in 1,234 where the decimal mark is a
        point. Learned at fit; where it was not seen there, such a cell is an error, since it may come from a file with
        another decimal mark.
    unit
        ``"%"``, a currency, or nothing. A percentage is divided by 100, as spreadsheets do.
    """

    decimal: str = "."
    grouped: bool = False
    unit: str = ""


PLAIN = Numerals()


def trimmed(array: pa.Array) -> pa.Array:
    """Text without white space around it; words for a missing cell are missing."""
    plain = array if array.type == pa.string() else array.cast(pa.string())
    text = compute.utf8_trim_whitespace(plain)
    words = compute.is_in(text, value_set=pa.array(MISSING_WORDS, text.type))
    return compute.if_else(words, pa.scalar(None, text.type), text)


def matches(text: pa.Array, pattern: str) -> np.ndarray:
    """Which texts match, (n,); missing ones do not."""
    found: np.ndarray = compute.match_substring_regex(text, pattern).fill_null(False).to_numpy(zero_copy_only=False)
    return found


def _normal(text: pa.Array) -> pa.Array:
    """Typographic minus signs and spaces as plain ones."""
    return compute.replace_substring_regex(
        compute.replace_substring_regex(text, "[−–]", "-"), "[\u00a0\u202f\u2009]", " "
    )


def is_number(text: pa.Array, decimal: str = ".") -> np.ndarray:
    """Which trimmed texts are numbers with that decimal mark, (n,); missing ones are not."""
    return ~np.isnan(_values(text, decimal)[0]) if len(text) else np.zeros(0, bool)


def _values(text: pa.Array, decimal: str) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of trimmed texts, (n,), NaN where there is none; and their units, (n,)."""
    parts = compute.extract_regex(_normal(text), _PATTERNS[decimal])
    get = {name: parts.field(place) for place, name in enumerate(f.name for f in parts.type)}
    digits = compute.replace_substring_regex(get["number"], "[, '’]" if decimal == "." else "[. '’]", "")
    plain = compute.replace_substring(digits, ",", ".") if decimal == "," else digits
    filled = {name: compute.fill_null(column, "") for name, column in get.items()}
    percent = compute.equal(filled["after"], "%")
    # "12.3%" becomes 12.3e-2, which is the nearest double to 0.123; a division would round twice.
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
    """Trimmed texts as float64, (n,); NaN where a cell is missing, is not a number, or could mean another one.

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
    """Whether one text is a number; for the few cells by which a file is recognised."""
    return bool(_COMPILED[decimal].match(word.strip().replace("\u00a0", " ")))


# -- what was seen -----------------------------------------------------------------------------------------------------


@dataclass
class Writing:
    """What is known of how the cells of a column write numbers, with one decimal mark.

    Attributes
    ----------
    decimal
        The decimal mark that is tried.
    n, n_plain
        Cells that are numbers, and those of digits, point and sign alone.
    odd
        The first cell that is not a number and its row, or None.
    grouped
        Whether thousands are separated.
    units
        Units that were seen; "" for a number other than 0 without one.
    """

    decimal: str
    n: int = 0
    n_plain: int = 0
    odd: tuple[str, int] | None = None
    grouped: bool = False
    units: set[str] = field(default_factory=set)

    def look(self, text: pa.Array, counts: np.ndarray, blank: np.ndarray, row_of: Callable[[int], int]) -> None:
        """Take note of different trimmed texts, how often each occurs, which are missing, and where each stands."""
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
        """Whether cells have different units, which no number can tell apart."""
        return len(self.units - {""}) > 1 or {"", "%"} <= self.units

    @property
    def numerals(self) -> Numerals:
        """How the cells are written, if all are numbers with this mark."""
        return Numerals(self.decimal, self.grouped, next(iter(self.units - {""}), ""))


def decide_mark(columns: Iterable[tuple[Writing, Writing]], delimiter: str | None) -> str:
    """The decimal mark of a table, for columns such as 1,234 and 5,678 that could have either.

    Columns that can be read in one way only decide. If there are none, a file with ``;`` between its cells comes from a
    program that writes decimal commas; all others have points.
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
    """Whether trimmed texts hold one of which a number would lose something: 007, or an integer beyond 64 bits."""
    long = text.filter(pa.array(matches(text, r"^\d{19}$")))
    beyond = compute.any(compute.greater(long, pa.scalar("9223372036854775807", long.type))).as_py()
    return bool(matches(text, CODE).any() or beyond)
