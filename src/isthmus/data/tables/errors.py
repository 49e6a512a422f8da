"""Collection of errors in a table, so that one exception reports all of them with column and row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from isthmus.exceptions import DataError

SHOWN = 20


@dataclass
class TableErrors:
    """The errors found in a table so far; rows count from 0.

    >>> found = TableErrors()
    >>> found.add("age", "has infinite values", 3, n=2, remedy="correct or empty these cells")
    >>> found.refuse()
    Traceback (most recent call last):
        ...
    isthmus.exceptions.DataError: Column 'age' has infinite values (2 cells, the first at row 3); correct or empty \
these cells.
    """

    found: dict[tuple[str, str, str], tuple[int | None, int]] = field(default_factory=dict)

    def add(self, column: str, what: str, row: int | None = None, *, n: int = 1, remedy: str = "") -> None:
        """Record an error of a column with its first row and number of cells; repeated errors add to the count."""
        first, before = self.found.get((column, what, remedy), (row, 0))
        self.found[column, what, remedy] = (first, before + n)

    def sentences(self) -> Iterator[str]:
        """One sentence per error."""
        for (column, what, remedy), (row, n) in self.found.items():
            cells = f"{n:,} cells, the first at row {row}" if n > 1 else f"row {row}"
            where = "" if row is None else f" ({cells})"
            yield f"Column {column!r} {what}{where}{remedy and '; ' + remedy}."

    def refuse(self) -> None:
        """Raise a `DataError` that lists all errors, if there are any."""
        refuse_all(list(self.sentences()))


def refuse_all(sentences: Sequence[str]) -> None:
    """Raise one `DataError` with all sentences, if there are any."""
    if len(sentences) == 1:
        raise DataError(sentences[0])
    if sentences:
        more = [f"… and {len(sentences) - SHOWN} more."] if len(sentences) > SHOWN else []
        count = f"The table has {len(sentences)} errors:"
        raise DataError("\n  ".join([count, *sentences[:SHOWN], *more]))


@contextmanager
def raised_together() -> Iterator[TableErrors]:
    """Context manager: collect errors in a block and raise them together at its end."""
    found = TableErrors()
    yield found
    found.refuse()
