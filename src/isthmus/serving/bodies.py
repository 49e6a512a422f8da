"""Bodies of requests: JSON or an Arrow stream, read as the library would be given them, within the limits.

A body is foreign input. Whatever could make a small one large in memory is refused before it is read: deep nesting,
text among rows of numbers, compressed Arrow buffers, and Arrow types whose cells may share their bytes.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn, TypeVar

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa

from isthmus.data.numeric import as_numeric
from isthmus.serving.limits import Limits
from isthmus.serving.replies import ARROW, JSON, RefusedError
from isthmus.wording import counted

Cell = bool | int | float | str | None
T = TypeVar("T")

FORMS = '{"rows": [[…], …]}, {"columns": {"name": […], …}} or {"records": [{"name": …, …}, …]}'
SHOWN = 5
"""Number of columns that an error names."""


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """A table in JSON, in one of three forms."""

    rows: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    columns: dict[str, list[Cell]] | msgspec.UnsetType = msgspec.UNSET
    records: list[dict[str, Cell]] | msgspec.UnsetType = msgspec.UNSET


_BODY = msgspec.json.Decoder(Body)
_ROWS: dict[int, msgspec.json.Decoder[Any]] = {
    2: msgspec.json.Decoder(list[list[float | None]]),
    3: msgspec.json.Decoder(list[list[list[float | None]]]),
    4: msgspec.json.Decoder(list[list[list[list[float | None]]]]),
    5: msgspec.json.Decoder(list[list[list[list[list[float | None]]]]]),
}
"""Rows by their nesting: of numbers, and images with and without channels. Typed, as text among numbers would cost
numpy the width of the longest text in every cell."""


@dataclass(frozen=True, eq=False)
class Sent:
    """The table of a request, in one of three forms.

    Attributes
    ----------
    array
        Rows of numbers without names, doubles.
    columns
        Cells by name, from JSON.
    arrow
        An Arrow table.
    """

    array: np.ndarray | None = None
    columns: Mapping[str, list[Cell]] | None = None
    arrow: pa.Table | None = None

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of columns."""
        if self.array is not None:
            return len(self.array), self.array.shape[1]
        if self.arrow is not None:
            return self.arrow.num_rows, self.arrow.num_columns
        columns = self.columns or {}
        return len(next(iter(columns.values()), ())), len(columns)

    def __len__(self) -> int:
        return self.shape[0]

    @cached_property
    def table(self) -> Any:
        """What the library is given: an array, or a pandas frame."""
        if self.array is not None:
            return self.array
        return pd.DataFrame(self.columns) if self.arrow is None else _as_frame(self.arrow)

    @cached_property
    def cells(self) -> Mapping[str, list[Cell]] | None:
        """The cells by name; None without names, and for Arrow types that a list of cells does not keep."""
        if self.arrow is None:
            return self.columns
        if not all(kind in KEPT for kind in self.arrow.schema.types):
            return None
        return dict(zip(self.arrow.column_names, (column.to_pylist() for column in self.arrow.columns), strict=True))

    def numbers(self, names: Sequence[str]) -> np.ndarray | None:
        """The rows as doubles, with these columns; None if there are others, or cells that are not numbers."""
        cells = self.cells
        if cells is None or len(cells) != len(names) or not all(name in cells for name in names):
            return None
        rows = [cells[name] for name in names]
        if not all(type(cell) is float or type(cell) is int for row in rows for cell in row):
            return None
        return np.array(rows, np.float64).T


KEPT = (pa.float64(), pa.int64(), pa.int32(), pa.bool_(), pa.string(), pa.large_string())
"""Arrow types whose cells mean the same as those of JSON; smaller numbers are computed in single precision."""


def read_table(body: bytes, media_type: str, limits: Limits) -> Sent:
    """The table of a request.

    Raises
    ------
    RefusedError
        The body is not a table, or too large.
    DataError
        It is one, but its rows have different lengths.
    """
    if not body:
        raise RefusedError(400, f"The body is empty; send {FORMS}, or an Arrow stream as {ARROW}.")
    sent = _of_arrow(body, limits) if media_type == ARROW else _of_json(body)
    n_rows, n_columns = sent.shape
    if n_rows > limits.max_rows:
        too_many(n_rows, limits)
    if not n_rows or not n_columns:
        raise RefusedError(422, f"The table has {n_rows} rows and {n_columns} columns; send at least 1 of each.")
    return sent


def too_many(n_rows: int, limits: Limits) -> NoReturn:
    """Refuse a request with too many rows."""
    raise RefusedError(
        413,
        f"The request has {counted(n_rows, 'row')}, but at most {limits.max_rows:,} are accepted; send it in parts.",
    )


# -- JSON --------------------------------------------------------------------------------------------------------------


def decoded(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw, forms: str) -> T:
    """JSON by its type; errors say what is wrong, where, and what is needed."""
    try:
        return decoder.decode(body)
    except RecursionError:
        raise RefusedError(400, f"The JSON is nested too deeply; send {forms}.") from None
    except msgspec.ValidationError as error:
        raise RefusedError(422, f"The JSON has another form than needed: {error}; send {forms}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusedError(
            400, f"The body is not valid JSON: {error}. NaN and Infinity are not JSON: write null for a missing cell."
        ) from None


def _of_json(body: bytes) -> Sent:
    found = decoded(_BODY, body, FORMS)
    given = [name for name in ("rows", "columns", "records") if getattr(found, name) is not msgspec.UNSET]
    if len(given) != 1:
        raise RefusedError(422, f"The JSON has {' and '.join(given) or 'no rows'}; send exactly one of {FORMS}.")
    if isinstance(found.rows, msgspec.Raw):
        return Sent(array=_array_of(found.rows))
    return Sent(columns=_of_records(found.records) if isinstance(found.records, list) else _equally_long(found.columns))


def _array_of(raw: msgspec.Raw) -> np.ndarray:
    head = bytes(raw)[:64].translate(None, b" \t\r\n")
    depth = len(head) - len(head.lstrip(b"["))
    if head.startswith(b"[]"):
        return np.empty((0, 1))
    nested = decoded(_ROWS[min(max(depth, 2), 5)], raw, '{"rows": [[…], …]} with numbers and null in lists')
    try:
        return np.array(nested, np.float64)  # None becomes NaN
    except ValueError:
        as_numeric(nested)  # which says what is wrong
        raise


def _equally_long(columns: Any) -> dict[str, list[Cell]]:
    lengths = {len(cells) for cells in columns.values()}
    if len(lengths) > 1:
        told = ", ".join(f"{name!r} {len(cells)}" for name, cells in [*columns.items()][:SHOWN])
        raise RefusedError(422, f"The columns have different lengths ({told}); send one cell for every row.")
    found: dict[str, list[Cell]] = columns
    return found


def _of_records(records: list[dict[str, Cell]]) -> dict[str, list[Cell]]:
    names = (records[0] if records else {}).keys()
    for row, record in enumerate(records):
        if record.keys() != names:
            other = sorted(record.keys() ^ names)[:SHOWN]
            raise RefusedError(
                422,
                f"Record {row} differs from record 0 in {', '.join(map(repr, other))}; give every record the same "
                "names, and null for a missing cell.",
            )
    return {name: [record[name] for record in records] for name in names}


# -- Arrow -------------------------------------------------------------------------------------------------------------


def _of_arrow(body: bytes, limits: Limits) -> Sent:
    try:
        _refuse_compressed(body)
        with pa.ipc.open_stream(body) as reader:
            _refuse_types(reader.schema)
            batches, n_rows = [], 0
            for batch in reader:
                n_rows += batch.num_rows
                if n_rows > limits.max_rows:  # before a column of nulls, which takes no bytes, is made into cells
                    too_many(n_rows, limits)
                batch.validate(full=True)
                batches.append(batch)
        return Sent(arrow=pa.Table.from_batches(batches, reader.schema).replace_schema_metadata(None))
    except (pa.ArrowException, OSError, ValueError, TypeError, OverflowError, struct.error, IndexError) as error:
        told = str(error).split("\n", maxsplit=1)[0]
        raise RefusedError(400, f"The body is not a whole Arrow IPC stream: {told}.") from None


def _as_frame(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    return frame


def _refuse_types(schema: pa.Schema) -> None:
    repeated = sorted(name for name, count in Counter(schema.names).items() if count > 1)
    if repeated:
        raise RefusedError(
            422, f"The table has several columns named {', '.join(map(repr, repeated[:SHOWN]))}; rename them."
        )
    wrong = [f"{field.name!r} ({field.type})" for field in schema if not _is_plain(field.type)]
    if wrong:
        raise RefusedError(
            422,
            f"The types of {counted(len(wrong), 'column')} are not accepted: {', '.join(wrong[:SHOWN])}; send numbers, "
            "booleans, strings, dates, or dictionaries of them.",
        )


def _is_plain(kind: pa.DataType) -> bool:
    """Whether cells are values; a view or a list may use the same bytes many times."""
    if pa.types.is_dictionary(kind):
        return not pa.types.is_dictionary(kind.value_type) and _is_plain(kind.value_type)
    tests = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
    words = (pa.types.is_string, pa.types.is_large_string, pa.types.is_temporal)
    return any(test(kind) for test in (*tests, *words))


def _refuse_compressed(body: bytes) -> None:
    """Refuse compressed buffers by the metadata of each message: a few bytes may expand to gigabytes."""
    reader = pa.ipc.MessageReader.open_stream(body)
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            return
        if _Flat(memoryview(message.metadata)).compressed():
            raise RefusedError(415, "The Arrow stream has compressed buffers; write it without compression.")


class _Flat:
    """Reads fields of Arrow's message metadata, which pyarrow does not show: a flatbuffer (Message.fbs, format 1.x)."""

    RECORD_BATCH, DICTIONARY_BATCH = 3, 2

    def __init__(self, view: memoryview) -> None:
        self._view = view

    def compressed(self) -> bool:
        message = self._at(0)
        kind_place, header = self._field(message, 1), self._field(message, 2)
        kind = self._view[kind_place] if kind_place else 0
        if kind not in (self.RECORD_BATCH, self.DICTIONARY_BATCH) or header is None:
            return False
        batch: int | None = self._at(header)
        if kind == self.DICTIONARY_BATCH:
            data = self._field(self._at(header), 1)
            batch = None if data is None else self._at(data)
        return batch is not None and self._field(batch, 3) is not None

    def _at(self, place: int) -> int:
        """Where the table is that an offset leads to."""
        return place + int(struct.unpack_from("<I", self._view, place)[0])

    def _field(self, table: int, slot: int) -> int | None:
        """Where a field of a table is; None if it has its default."""
        vtable = table - struct.unpack_from("<i", self._view, table)[0]
        size = struct.unpack_from("<H", self._view, vtable)[0]
        place = 4 + 2 * slot
        offset = struct.unpack_from("<H", self._view, vtable + place)[0] if place < size else 0
        return table + offset if offset else None


# -- headers -----------------------------------------------------------------------------------------------------------


def sent_format(content_type: str | None, encoding: str | None) -> str:
    """The format of a body by its headers; without a type it is JSON."""
    if encoding not in (None, "", "identity"):
        raise RefusedError(415, f"Content-Encoding {encoding!r} is not accepted; send the body as it is.")
    kind = (content_type or JSON).split(";")[0].strip().casefold()
    if kind not in (JSON, ARROW):
        raise RefusedError(415, f"Content-Type {kind!r} is not accepted; send {JSON} or {ARROW}.")
    return kind


def wanted_format(accept: str | None, sent: str) -> str:
    """The format of an answer by the header Accept; without one, or if all will do, that of the request."""
    ranked = sorted(map(_preference, (accept or "*/*").split(",")), key=lambda pair: -pair[1])
    for kind, weight in ranked:
        if weight > 0 and kind in ("*/*", "application/*"):
            return sent
        if weight > 0 and kind in (JSON, ARROW):
            return kind
    raise RefusedError(406, f"Accept {accept!r} has no format of this server; accept {JSON} or {ARROW}.")


def _preference(word: str) -> tuple[str, float]:
    kind, *parts = (part.strip().casefold() for part in word.split(";"))
    try:
        return kind, next((float(part[2:]) for part in parts if part.startswith("q=")), 1.0)
    except ValueError:
        return kind, 0.0
