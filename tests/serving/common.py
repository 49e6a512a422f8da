"""Models that are served, and a client that needs no network."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa

from isthmus.serving import Limits, app

ARROW = "application/vnd.apache.arrow.stream"
rng = np.random.default_rng(0)
N = 160
NUMBERS = pd.DataFrame(rng.normal(size=(N, 3)) * [1.0, 10.0, 0.1], columns=["a", "b", "c"])
MIXED = pd.DataFrame(
    {
        "amount": rng.normal(50, 9, N).round(2),
        "country": rng.choice(["Chile", "Peru", "Togo"], N),
        "day": pd.date_range("2024-01-01", periods=N).astype(str),
        "paid": rng.random(N) < 0.5,
    }
)
IMAGES = rng.integers(0, 256, (40, 8, 8)).astype(np.uint8)
SERIES = np.sin(np.arange(300) / 5)[:, None] + 0.05 * rng.normal(size=(300, 1))
LOG = pd.DataFrame({"user": np.repeat(np.arange(30), 5), "item": rng.integers(0, 12, 150)}).drop_duplicates()


def as_json(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as records that JSON has, None for missing cells."""
    records: list[Any] = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return records


def as_arrow(frame: pd.DataFrame) -> bytes:
    table = pa.Table.from_pandas(frame, preserve_index=False)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def of_arrow(body: bytes) -> pd.DataFrame:
    frame: pd.DataFrame = pa.ipc.open_stream(body).read_pandas()
    return frame


class Client:
    """Sends requests to the application of a model, several at once if there are several."""

    def __init__(self, model: Any, limits: Limits | None = None) -> None:
        self.app = app(model, limits=limits)

    def send(self, *requests: tuple[str, str, dict[str, Any]]) -> list[httpx.Response]:
        """Replies to requests (verb, path, arguments of httpx) that are all sent before the first reply."""
        return asyncio.run(self._send(requests))

    async def _send(self, requests: Sequence[tuple[str, str, dict[str, Any]]]) -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://isthmus") as client:
            return list(await asyncio.gather(*(client.request(verb, path, **more) for verb, path, more in requests)))

    def get(self, path: str) -> httpx.Response:
        return self.send(("GET", path, {}))[0]

    def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        """The reply to one body: JSON, or bytes that are sent as they are."""
        content = {"content": body} if isinstance(body, bytes) else {"json": body}
        return self.send(("POST", path, {**content, **more}))[0]

    def columns(self, path: str, body: Any, **more: Any) -> dict[str, Any]:
        """The columns of an answer."""
        reply = self.post(path, body, **more)
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()["columns"]
        return found
