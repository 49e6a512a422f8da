"""How a file of text is written: its encoding, the separator of its cells, whether a line of names stands first."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from isthmus.data.tables.numerals import MISSING_WORDS, number_of
from isthmus.exceptions import DataError

SAMPLE_BYTES = 2**18
SAMPLE_ROWS = 1000
DELIMITERS = ",;\t|"
WINDOWS = "cp1252"
"""What a file that is not UTF-8 is read as: Latin-1 with the quotes, dashes and euro sign of Windows."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DATE = re.compile(r"^\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T].*)?$")


@dataclass(frozen=True)
class TextFormat:
    """What a user says of a file of text; None, or nothing said: it is found out.

    Attributes
    ----------
    header
        Whether the first line holds the names of the columns.
    delimiter
        Between cells: one character.
    encoding
        A name that Python knows, such as ``"utf-8"`` or ``"cp1252"``.
    """

    header: bool | None = None
    delimiter: str | None = None
    encoding: str | None = None

    def __post_init__(self) -> None:
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise ValueError(f"delimiter={self.delimiter!r} must be one character, such as ';' or '\\t'.")
        if self.encoding is not None:
            try:
                codecs.lookup(self.encoding)
            except LookupError:
                raise ValueError(
                    f"encoding={self.encoding!r} is unknown; give one such as 'utf-8' or 'cp1252'."
                ) from None


FOUND_OUT = TextFormat()
"""Nothing is said, and all is found out."""


@dataclass(frozen=True)
class Dialect:
    """How a file of text is written.

    Attributes
    ----------
    encoding, delimiter
        As Python calls them.
    skipped
        Lines before the names, or before the first row where there are no names.
    header
        Whether a line of names stands first.
    names
        A name for each cell of a row; None for a cell that is none, behind a separator at the end of each line.
    index
        The place of a column that only numbers the rows, or None.
    notes
        What was decided that a user may want to know.
    """

    encoding: str
    delimiter: str
    skipped: int
    header: bool
    names: tuple[str | None, ...]
    index: int | None
    notes: tuple[str, ...]


def open_bytes(path: Path) -> BinaryIO:
    """A file of text as bytes, unpacked where it is gzipped."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rb")  # type: ignore[return-value]  # it reads as a binary file does
    return path.open("rb")


def find_dialect(path: Path, asked: TextFormat) -> Dialect:
    """Look at the begin of a file, and at all of it for its encoding.

    Raises
    ------
    DataError
        The file cannot be decoded, or its lines have different numbers of cells.
    """
    with open_bytes(path) as stream:
        sample = stream.read(SAMPLE_BYTES)
    encoding, notes = _encoding(path, sample, asked.encoding)
    lines, skipped, delimiter = _preamble(_decoded(sample, encoding, path), asked.delimiter)
    if not lines.strip():
        return Dialect(encoding, delimiter or ",", skipped, header=True, names=(), index=None, notes=())
    delimiter = delimiter or _delimiter(lines, path)
    rows = _rows(lines, delimiter, whole=len(sample) < SAMPLE_BYTES)
    header = _has_header(rows) if asked.header is None else asked.header
    if not header and asked.header is None:
        shown = ", ".join(rows[0][:3]) + (", …" if len(rows[0]) > 3 else "")
        notes.append(f"its first line ({shown}) is read as a row and not as names; give header=True (--header) if not")
    names, index = _names(rows, header, path)
    return Dialect(encoding, delimiter, skipped, header, names, index, tuple(notes))


# -- encoding ----------------------------------------------------------------------------------------------------------


def _encoding(path: Path, sample: bytes, asked: str | None) -> tuple[str, list[str]]:
    if asked is not None:
        if not _decodes(path, asked):
            raise DataError(f"'{path}' cannot be decoded as {asked}; give the encoding that it was written in.")
        return asked, []
    marked = next((name for mark, name in _MARKS if sample.startswith(mark)), None) or _unmarked_utf16(sample)
    if marked is not None:
        if not _decodes(path, marked):
            raise DataError(f"'{path}' begins as {marked} but cannot be decoded so; {_REMEDY}")
        return marked, []
    if b"\0" in sample:
        raise DataError(f"'{path}' holds bytes that no text has (0x00), so it is not a CSV file; check its ending.")
    # The whole file is looked at: one accented letter in row 900,000 decides as much as one in row 1.
    if _decodes(path, "utf-8"):
        return "utf-8", []
    if not _decodes(path, WINDOWS) or not _looks_western(path):
        raise DataError(f"'{path}' is neither UTF-8 nor Western European text (Windows-1252); {_REMEDY}")
    return WINDOWS, [
        "it is not UTF-8 and is read as Windows-1252 (Latin-1); give encoding= (--encoding) if letters are wrong"
    ]


_REMEDY = "give its encoding, such as encoding='cp1251' (--encoding cp1251), or save it as UTF-8."


def _unmarked_utf16(sample: bytes) -> str | None:
    """UTF-16 without a mark: every other byte of Western text is zero."""
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if max(even, odd) < len(sample) / 4:
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def _decodes(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for block in _blocks(path):
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeError:
        return False
    return True


def _blocks(path: Path) -> Iterator[bytes]:
    with open_bytes(path) as stream:
        while block := stream.read(2**20):
            yield block


def _looks_western(path: Path) -> bool:
    """Whether letters beyond ASCII stand alone or in pairs, as accents do; other scripts have them in long runs."""
    n_runs = n_long = 0
    for block in _blocks(path):
        runs = [len(run) for run in re.findall(rb"[\x80-\xff]+", block)]
        n_runs, n_long = n_runs + len(runs), n_long + sum(length > 3 for length in runs)
    return n_long <= 0.2 * n_runs


def _decoded(sample: bytes, encoding: str, path: Path) -> str:
    """The sample without the last letter, if that was cut in two."""
    text = codecs.getincrementaldecoder(encoding)().decode(sample)
    if "\0" in text:
        raise DataError(f"'{path}' holds characters that no text has (U+0000); give its encoding, or save it again.")
    return text.removeprefix("\ufeff")


# -- cells -------------------------------------------------------------------------------------------------------------


def _preamble(text: str, asked: str | None) -> tuple[str, int, str | None]:
    """Text without empty lines at its begin and Excel's ``sep=;``; the number of lines left out; the separator."""
    skipped, delimiter = 0, asked
    while text:
        line, _, rest = text.partition("\n")
        told = re.fullmatch(r'"?sep=(.)"?', line.strip("\r\n "), re.IGNORECASE)
        if told is None and line.strip():
            break
        if told is not None:
            delimiter = delimiter or told[1]
        text, skipped = rest, skipped + 1
    return text, skipped, delimiter


def _rows(text: str, delimiter: str, *, whole: bool) -> list[list[str]]:
    """The first rows of a text, without empty lines and, if the text goes on, without the last line."""
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    rows = []
    try:
        for row in reader:
            rows += [row] if any(row) or len(row) > 1 else []
            if len(rows) > SAMPLE_ROWS:
                return rows
    except csv.Error:  # a quoted cell longer than a cell may be
        return rows
    return rows if whole or len(rows) < 2 else rows[:-1]


def _delimiter(text: str, path: Path) -> str:
    """The separator with which all rows have as many cells as the first, and cells look most like cells."""
    best, grade = ",", (0.0, 0.0)
    for delimiter in DELIMITERS:
        rows = _rows(text, delimiter, whole=True)
        width = len(rows[0])
        if width < 2:
            continue
        alike = sum(abs(len(row) - width) <= 1 for row in rows) / len(rows)
        cells = [cell for row in rows[:100] for cell in row]
        clean = sum(_is_clean(cell, delimiter) for cell in cells) / len(cells)
        if (alike, clean) > grade:
            best, grade = delimiter, (alike, clean)
    if grade == (0.0, 0.0):
        _refuse_title(text, path)
    return best


def _is_clean(cell: str, delimiter: str) -> bool:
    """Whether a cell is a number or date, or text without other separators and without half a pair of quotes."""
    stray = any(other in cell for other in DELIMITERS if other != delimiter) or cell.count('"') % 2
    return not stray or number_of(cell) or number_of(cell, ",")


def _refuse_title(text: str, path: Path) -> None:
    """A first line of one cell above lines of many is a title, unless these are numbers with decimal commas."""
    for delimiter in DELIMITERS:
        rows = _rows(text, delimiter, whole=True)[1:]
        width = Counter(map(len, rows)).most_common(1)[0][0] if rows else 1
        decimals = delimiter == "," and width == 2 and all(number_of(",".join(row), ",") for row in rows)
        if width > 1 and not decimals and sum(len(row) == width for row in rows) > 0.9 * len(rows):
            raise DataError(
                f"The first line of '{path}' has one cell, but most others have {width} (separated by {delimiter!r}); "
                "remove the lines above the names of the columns."
            )


# -- names -------------------------------------------------------------------------------------------------------------


def _is_value(cell: str) -> bool:
    return bool(number_of(cell) or number_of(cell, ",") or _DATE.match(cell.strip()))


def _is_missing(cell: str) -> bool:
    return cell.strip() in MISSING_WORDS


def _has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row holds names. It is never given up as such where it could be a row of numbers.

    Names differ in kind from what stands below: words above numbers. A first row of numbers is one of names only where
    these count the columns (0, 1, 2, … or years) and none stands in its own column below. Where all is text, the first
    row is a row if one of its cells stands in its own column again.
    """
    first, rest = rows[0], rows[1:]
    if not rest:
        return not any(map(_is_value, first))
    columns = [
        [row[place] for row in rest if place < len(row) and not _is_missing(row[place])] for place in range(len(first))
    ]
    valued = [bool(column) and sum(map(_is_value, column)) >= 0.9 * len(column) for column in columns]
    cells = [cell.strip() for cell in first]
    numbers = [cell for cell in cells if _is_value(cell)]
    words = sum(
        is_valued and not _is_value(cell) and not _is_missing(cell)
        for cell, is_valued in zip(cells, valued, strict=True)
    )
    again = any(cell in column for cell, column in zip(cells, columns, strict=True) if not _is_missing(cell))
    if not numbers:
        return bool(words) or not again
    return (_counts_on(numbers) and not again and len(cells) > 2) or (words > len(numbers))


def _counts_on(cells: Sequence[str]) -> bool:
    """Whether cells are 0, 1, 2, … or 1, 2, 3, … or years one after the other."""
    if not all(re.fullmatch(r"\d+", cell) for cell in cells):
        return False
    numbers = [int(cell) for cell in cells]
    start = numbers[0]
    return numbers == list(range(start, start + len(numbers))) and (start in (0, 1) or 1900 <= start < 2100)


def _names(rows: Sequence[Sequence[str]], header: bool, path: Path) -> tuple[tuple[str | None, ...], int | None]:
    """A name for each cell of a row, and the place of the column that numbers the rows."""
    width = _width(rows, header)
    if not header:
        last = rows[0][-1] == "" and all(len(row) == width and row[-1] == "" for row in rows) and width > 1
        return tuple(None if last and place == width - 1 else f"x{place}" for place in range(width)), None
    names = [name.strip() for name in rows[0]]
    empty_end = all(row[-1] == "" for row in rows[1:] if len(row) == width)
    if width == len(names) + 1 and len(rows) > 1 and not empty_end:
        names.insert(0, "")  # as R writes it: no name above the numbers of the rows
    if width == len(names) - 1 and names[-1] == "":
        names.pop()
    names += [""] * (width - len(names))
    index = 0 if width > 1 and names[0] == "" and any(names[1:]) else None
    found: list[str | None] = [name or f"column {place}" for place, name in enumerate(names)]
    if index == 0:
        found[0] = ""
    if empty_end and width > 1 and names[-1] == "" and index != width - 1 and len(rows) > 1:
        found[-1] = None
    if len(names) > width:
        raise DataError(
            f"'{path}' has {len(names)} names in its first line, but rows of {width} cells; make them as many."
        )
    return tuple(found), index


def _width(rows: Sequence[Sequence[str]], header: bool) -> int:
    """Cells of a row: as most have, or as the first where rows differ, so that others are told as wrong."""
    rest = rows[1:] if header else rows
    widths = Counter(map(len, rest))
    if not widths:
        return len(rows[0])
    usual, n = widths.most_common(1)[0]
    return usual if n == len(rest) else len(rows[0])
