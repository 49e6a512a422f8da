"""Flags for the format of tables, and for columns that are copied to the result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli.errors import WrongUsageError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    import isthmus

Keep = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN",
        help="A column that is not a feature, such as an id; it is copied to the result. `index` is an unnamed first "
        "column. May be repeated.",
    ),
]
Header = Annotated[
    bool | None,
    typer.Option(
        "--header/--no-header", help="Whether the first line of a .csv file has column names; default: detect."
    ),
]
Encoding = Annotated[
    str | None, typer.Option(metavar="NAME", help="Encoding of a .csv file, such as cp1251; default: detect.")
]
Delimiter = Annotated[
    str | None, typer.Option(metavar="SIGN", help="Delimiter of a .csv file, or `tab`; default: detect.")
]
EscapeFormulas = Annotated[
    bool, typer.Option("--escape-formulas", metavar="", help="In a .csv file, prefix text that Excel would run with '.")
]


@dataclass(frozen=True)
class TextFlags:
    """The format of a text file, as given by flags."""

    header: bool | None = None
    encoding: str | None = None
    delimiter: str | None = None

    def known(self) -> dict[str, Any]:
        """Arguments of `isthmus.read`."""
        return asdict(self) | ({"delimiter": "\t"} if self.delimiter in ("tab", "\\t") else {})

    def given(self) -> list[tuple[str, Any]]:
        """The flags with their values."""
        return [("--header", self.header), ("--encoding", self.encoding), ("--delimiter", self.delimiter)]

    def format(self) -> isthmus.tables.TextFormat:
        """The format for the table readers."""
        import isthmus  # noqa: PLC0415  # tables are slow to import

        return isthmus.tables.TextFormat(**self.known())


def beside(kept: Any, chunks: Iterator[np.ndarray], names: Sequence[str]) -> Iterator[pa.Table]:
    """Tables of the kept columns followed by the result columns, in chunks."""
    import numpy as np  # noqa: PLC0415  # slow to import; needed only here
    import pyarrow as pa  # noqa: PLC0415

    table = pa.Table.from_pandas(kept, preserve_index=False)
    both = sorted(set(table.column_names) & set(names))
    if both:
        raise WrongUsageError(f"--keep {both[0]} has the same name as a column of the result; rename it in the data.")
    start = 0
    for chunk in chunks:
        flat = chunk.reshape(len(chunk), -1)
        part = table.slice(start, len(chunk))
        for place, name in enumerate(names):
            part = part.append_column(name, pa.array(np.ascontiguousarray(flat[:, place])))
        yield part
        start += len(chunk)
