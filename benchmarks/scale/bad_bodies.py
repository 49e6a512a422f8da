"""Bodies that no server should take: each gets a 4xx with a sentence that says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.scale.http_client import Ask, ask

ARROW = "application/vnd.apache.arrow.stream"
Row = Mapping[str, Any]
Draw = np.random.Generator


def text(body: Any) -> bytes:
    return json.dumps(body).encode()


def arrow_of(row: Row) -> bytes:
    """One row as an Arrow stream."""
    table, sink = pa.table({name: [value] for name, value in row.items()}), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    stream: bytes = sink.getvalue().to_pybytes()
    return stream


def _without(row: Row, draw: Draw) -> bytes:
    gone = str(draw.choice([*row]))
    return text({"records": [{name: value for name, value in row.items() if name != gone}]})


def _renamed(row: Row, draw: Draw) -> bytes:
    changed = str(draw.choice([*row]))
    return text({"records": [{name.upper() if name == changed else name: value for name, value in row.items()}]})


def _wrong_cell(row: Row, draw: Draw) -> bytes:
    numbers = [name for name, value in row.items() if isinstance(value, float)]
    return text({"records": [{**row, str(draw.choice(numbers)): str(draw.choice(["many", "12a", "-", "1/2"]))}]})


def _token(row: Row, draw: Draw) -> bytes:
    numbers = [name for name, value in row.items() if isinstance(value, float)]
    bad = {**row, str(draw.choice(numbers)): float(draw.choice([np.nan, np.inf, -np.inf]))}
    return text({"records": [bad]})  # Python's json writes NaN and Infinity, which JSON does not have


def _ragged(row: Row, _draw: Draw) -> bytes:
    return text({"columns": {name: [value] * int(1 + (place == 0)) for place, (name, value) in enumerate(row.items())}})


def _cut(row: Row, draw: Draw) -> bytes:
    whole = text({"records": [dict(row)]})
    return whole[: int(draw.integers(1, len(whole) - 1))]


def _cut_arrow(row: Row, draw: Draw) -> bytes:
    whole = arrow_of(row)
    return whole[: int(draw.integers(1, len(whole) // 2))]


def _huge(row: Row, _draw: Draw) -> bytes:
    return text({"columns": {name: [value] * 40_000 for name, value in row.items()}})


def _many_rows(_row: Row, _draw: Draw) -> bytes:
    return text({"rows": [[0]] * 2_001})


KINDS: dict[str, tuple[Callable[[Row, Draw], bytes], str]] = {
    "empty": (lambda _row, _draw: b"", "application/json"),
    "not JSON": (lambda _row, draw: draw.bytes(int(draw.integers(1, 200))), "application/json"),
    "cut JSON": (_cut, "application/json"),
    "deep nesting": (lambda _row, draw: b"[" * int(draw.integers(2_000, 200_000)), "application/json"),
    "deep rows": (lambda _row, _draw: b'{"rows":' + b"[" * 50_000 + b"]" * 50_000 + b"}", "application/json"),
    "NaN or Infinity": (_token, "application/json"),
    "missing column": (_without, "application/json"),
    "extra column": (lambda row, _draw: text({"records": [{**row, "other": 1}]}), "application/json"),
    "renamed column": (_renamed, "application/json"),
    "text among numbers": (_wrong_cell, "application/json"),
    "lengths differ": (_ragged, "application/json"),
    "no rows": (lambda _row, _draw: text({"records": []}), "application/json"),
    "another form": (lambda row, _draw: text([dict(row)]), "application/json"),
    "wrong type": (lambda row, _draw: text({"records": [dict(row)]}), "text/csv"),
    "cut Arrow": (_cut_arrow, ARROW),
    "JSON as Arrow": (lambda row, _draw: text({"records": [dict(row)]}), ARROW),
    "many rows": (_many_rows, "application/json"),
    "huge": (_huge, "application/json"),
}


def bad_asks(row: Row, path: str, count: int, seed: int) -> list[tuple[str, Ask]]:
    """Requests with bad bodies, all kinds in turn, each with its name; the huge ones are a fiftieth."""
    draw, found = np.random.default_rng(seed), list[tuple[str, Ask]]()
    names = [name for name in KINDS if name != "huge"]
    for number in range(count):
        name = "huge" if number % 50 == 49 else names[number % len(names)]
        make, content_type = KINDS[name]
        found.append((name, ask(number, path, make(row, draw), content_type)))
    return found
