"""The flags that say how tables are read and what stands beside a result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli.errors import WrongUsageError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from isthmus.data.tables import TextFormat

Keep = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN",
        help="A column of a table that is not a feature, such as an id; it stands beside the result. `index` is a "
        "first column without a name. May be repeated.",
    ),
]
Header = Annotated[
    bool | None,
    typer.Option("--header/--no-header", help="Whether the first line of a .csv file holds names; else found out."),
]
Encoding = Annotated[
    str | None, typer.Option(metavar="NAME", help="Of a .csv file, such as cp1251; else UTF-8, UTF-16 or Latin-1.")
]
Delimiter = Annotated[
    str | None, typer.Option(metavar="SIGN", help="Between the cells of a .csv file, or `tab`; else found out.")
]
EscapeFormulas = Annotated[
    bool, typer.Option("--escape-formulas", metavar="", help="In a .csv file, put ' before text that Excel would run.")
]


@dataclass(frozen=True)
class TextFlags:
    """How a file of text is written, as far as the flags say."""

    header: bool | None = None
    encoding: str | None = None
    delimiter: str | None = None

    def known(self) -> dict[str, Any]:
        """What `isthmus.read` is given."""
        return asdict(self) | ({"delimiter": "\t"} if self.delimiter in ("tab", "\\t") else {})

    def format(self) -> TextFormat:
        """What the readers of tables are given."""
        from isthmus.data.tables import TextFormat  # noqa: PLC0415  # the command line starts without it

        return TextFormat(**self.known())


def beside(kept: Any, chunks: Iterator[np.ndarray], names: Sequence[str]) -> Iterator[pa.Table]:
    """Tables of the kept columns and, behind them, rows that come some at a time."""
    import numpy as np  # noqa: PLC0415  # both are slow to import, and no other flag needs them
    import pyarrow as pa  # noqa: PLC0415

    table = pa.Table.from_pandas(kept, preserve_index=False)
    both = sorted(set(table.column_names) & set(names))
    if both:
        raise WrongUsageError(f"--keep {both[0]} has the name of a column of the result; rename it in the data.")
    start = 0
    for chunk in chunks:
        flat = chunk.reshape(len(chunk), -1)
        part = table.slice(start, len(chunk))
        for place, name in enumerate(names):
            part = part.append_column(name, pa.array(np.ascontiguousarray(flat[:, place])))
        yield part
        start += len(chunk)
