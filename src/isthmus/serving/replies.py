"""Answers of the server: tables as JSON or as an Arrow stream, and refusals as JSON."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

JSON, ARROW = "application/json", "application/vnd.apache.arrow.stream"
FORMATS = (JSON, ARROW)

Columns = Mapping[str, Any]
"""A table: for each column an array or a list with one value a row."""


@dataclass(frozen=True)
class Reply:
    """What is sent back."""

    body: bytes
    media_type: str = JSON
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class RefusedError(Exception):
    """A request that is not answered, with the HTTP status that says why."""

    def __init__(self, status: int, text: str, **headers: str) -> None:
        super().__init__(text)
        self.status, self.headers = status, {name.replace("_", "-"): value for name, value in headers.items()}

    def reply(self) -> Reply:
        """The refusal as a reply."""
        return Reply(msgspec.json.encode({"error": str(self)}), JSON, self.status, self.headers)


def as_reply(columns: Columns, warnings: Sequence[str], media_type: str) -> Reply:
    """A table as a reply; in JSON, numbers that are not finite become null."""
    if media_type == ARROW:
        return Reply(_as_arrow(columns, warnings), ARROW)
    lists = {name: _listed(values) for name, values in columns.items()}
    return Reply(msgspec.json.encode({"columns": lists, "warnings": list(warnings)}, enc_hook=_readable))


def _listed(values: Any) -> Any:
    return values.tolist() if isinstance(values, np.ndarray) else values


def _readable(value: Any) -> Any:
    """What JSON does not have: numpy's scalars as numbers, missing times as null, all else as text."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dt.timedelta | dt.datetime | dt.date):
        return str(value)
    return None if value != value else str(value)  # noqa: PLR0124  # NaT and NA


def _as_arrow(columns: Columns, warnings: Sequence[str]) -> bytes:
    table = pa.table({name: _to_array(values) for name, values in columns.items()})
    if warnings:
        table = table.replace_schema_metadata({"isthmus.warnings": json.dumps(list(warnings))})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def _to_array(values: Any) -> pa.Array:
    """Arrays of numbers keep NaN, which is not a missing cell; in lists None is one."""
    return pa.array(np.ascontiguousarray(values)) if isinstance(values, np.ndarray) else pa.array(values)
