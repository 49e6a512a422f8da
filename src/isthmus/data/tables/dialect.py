"""Detection of the format of a text file: encoding, delimiter, header and index column."""

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
"""Encoding of files that are not UTF-8: Latin-1 plus the quotes, dashes and euro sign of Windows."""
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
    """The format of a text file as given by the user; None: detected.

    Attributes
    ----------
    header
        Whether the first line contains the column names.
    delimiter
        The cell separator, one character.
    encoding
        A Python encoding name, such as ``"utf-8"`` or ``"cp1252"``.
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
"""Detect everything."""


@dataclass(frozen=True)
class Dialect:
    """The format of a text file.

    Attributes
    ----------
    encoding, delimiter
        Python's names of the encoding and the delimiter.
    skipped
        Number of lines before the header, or before the first row if there is none.
    header
        Whether the first line contains the column names.
    names
        A name for each cell of a row; None for the empty cell after a trailing delimiter.
    index
        The position of the index column, or None.
    notes
        Decisions that are reported to the user.
    """

    encoding: str
    delimiter: str
    skipped: int
    header: bool
    names: tuple[str | None, ...]
    index: int | None
    notes: tuple[str, ...]


def open_bytes(path: Path) -> BinaryIO:
    """Open a text file as bytes; gzipped files are decompressed."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rb")  # type: ignore[return-value]  # has the interface of a binary file
    return path.open("rb")


def find_dialect(path: Path, asked: TextFormat) -> Dialect:
    """Detect the format from the start of a file, and the encoding from the whole file.

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
        notes.append(
            f"its first line ({shown}) is read as a row, not as column names; if it has names, pass header=True "
            "(--header)"
        )
    names, index = _names(rows, header, path)
    return Dialect(encoding, delimiter, skipped, header, names, index, tuple(notes))


# -- encoding ----------------------------------------------------------------------------------------------------------


def _encoding(path: Path, sample: bytes, asked: str | None) -> tuple[str, list[str]]:
    if asked is not None:
        if not _decodes(path, asked):
            raise DataError(f"'{path}' cannot be decoded as {asked}; pass the encoding it was written in.")
        return asked, []
    marked = next((name for mark, name in _MARKS if sample.startswith(mark)), None) or _unmarked_utf16(sample)
    if marked is not None:
        if not _decodes(path, marked):
            raise DataError(f"'{path}' starts like {marked}, but cannot be decoded as such; {_REMEDY}")
        return marked, []
    if b"\0" in sample:
        raise DataError(f"'{path}' contains null bytes (0x00), so it is not a text file; check its suffix.")
    # The whole file is decoded: the only accented letter may be in row 900,000. charset-normalizer was rejected,
    # because its answer for short Latin-1 files depends on their words.
    if _decodes(path, "utf-8"):
        return "utf-8", []
    if not _decodes(path, WINDOWS) or not _looks_western(path):
        raise DataError(f"'{path}' is neither UTF-8 nor Western European text (Windows-1252); {_REMEDY}")
    return WINDOWS, [
        "it is not UTF-8 and is read as Windows-1252 (Latin-1); if letters are wrong, pass encoding= (--encoding)"
    ]


_REMEDY = "pass its encoding, such as encoding='cp1251' (--encoding cp1251), or save it as UTF-8."


def _unmarked_utf16(sample: bytes) -> str | None:
    """UTF-16 without a byte order mark: every other byte of Western text is zero."""
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
    """Whether non-ASCII bytes are in short runs, as accented letters are; other scripts have long runs."""
    n_runs = n_long = 0
    for block in _blocks(path):
        runs = [len(run) for run in re.findall(rb"[\x80-\xff]+", block)]
        n_runs, n_long = n_runs + len(runs), n_long + sum(length > 3 for length in runs)
    return n_long <= 0.2 * n_runs


def _decoded(sample: bytes, encoding: str, path: Path) -> str:
    """The decoded sample, without a last character that was cut in the middle."""
    text = codecs.getincrementaldecoder(encoding)().decode(sample)
    if "\0" in text:
        raise DataError(f"'{path}' contains null characters (U+0000); pass its encoding, or save it again as text.")
    return text.removeprefix("\ufeff")


# -- cells -------------------------------------------------------------------------------------------------------------


def _preamble(text: str, asked: str | None) -> tuple[str, int, str | None]:
    """The text without leading empty lines and Excel's ``sep=;``; the number of skipped lines; the delimiter."""
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
    """The first rows of a text, without empty lines and without an incomplete last line."""
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    rows = []
    try:
        for row in reader:
            rows += [row] if any(row) or len(row) > 1 else []
            if len(rows) > SAMPLE_ROWS:
                return rows
    except csv.Error:  # a quoted cell longer than csv allows
        return rows
    return rows if whole or len(rows) < 2 else rows[:-1]


def _delimiter(text: str, path: Path) -> str:
    """The delimiter that gives the most rows of equal length and, among those, the cleanest cells.

    ``csv.Sniffer`` was rejected: it fails on quoted delimiters if a single column is quoted.
    """
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
    """Whether a cell is a number, or text without other delimiters and without an unpaired quote."""
    stray = any(other in cell for other in DELIMITERS if other != delimiter) or cell.count('"') % 2
    return not stray or number_of(cell) or number_of(cell, ",")


def _refuse_title(text: str, path: Path) -> None:
    """Raise if the first line is a title: one cell above rows of many, unless those are decimal commas."""
    for delimiter in DELIMITERS:
        rows = _rows(text, delimiter, whole=True)[1:]
        width = Counter(map(len, rows)).most_common(1)[0][0] if rows else 1
        decimals = delimiter == "," and width == 2 and all(number_of(",".join(row), ",") for row in rows)
        if width > 1 and not decimals and sum(len(row) == width for row in rows) > 0.9 * len(rows):
            raise DataError(
                f"The first line of '{path}' has one cell, but most other lines have {width} (separated by "
                f"{delimiter!r}); remove the lines above the column names."
            )


# -- names -------------------------------------------------------------------------------------------------------------


def _is_value(cell: str) -> bool:
    return bool(number_of(cell) or number_of(cell, ",") or _DATE.match(cell.strip()))


def _is_missing(cell: str) -> bool:
    return cell.strip() in MISSING_WORDS


def _has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row contains names. A first row that could be numeric data is kept as data.

    Names differ in type from the cells below them: words above numbers. A first row of numbers contains names only if
    they count (0, 1, 2, … or years) and none recurs in its column. If all cells are text, the first row is data if one
    of its cells recurs in its column.
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
    """Whether cells are 0, 1, 2, … or 1, 2, 3, … or consecutive years."""
    if not all(re.fullmatch(r"\d+", cell) for cell in cells):
        return False
    numbers = [int(cell) for cell in cells]
    start = numbers[0]
    return numbers == list(range(start, start + len(numbers))) and (start in (0, 1) or 1900 <= start < 2100)


def _names(rows: Sequence[Sequence[str]], header: bool, path: Path) -> tuple[tuple[str | None, ...], int | None]:
    """A name for each cell of a row, and the position of the index column or None."""
    width = _width(rows, header)
    if not header:
        last = rows[0][-1] == "" and all(len(row) == width and row[-1] == "" for row in rows) and width > 1
        return tuple(None if last and place == width - 1 else f"x{place}" for place in range(width)), None
    names = [name.strip() for name in rows[0]]
    empty_end = all(row[-1] == "" for row in rows[1:] if len(row) == width)
    if width == len(names) + 1 and len(rows) > 1 and not empty_end:
        names.insert(0, "")  # R writes no name above its row names
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
            f"'{path}' has {len(names)} names in its first line, but rows of {width} cells; make the numbers equal."
        )
    return tuple(found), index


def _width(rows: Sequence[Sequence[str]], header: bool) -> int:
    """Number of cells per row: that of the first row if rows differ, so that the others are reported as errors."""
    rest = rows[1:] if header else rows
    widths = Counter(map(len, rest))
    if not widths:
        return len(rows[0])
    usual, n = widths.most_common(1)[0]
    return usual if n == len(rest) else len(rows[0])
