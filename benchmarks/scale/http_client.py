"""A client of plain sockets: many connections, each with one request at a time, and what came back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

CUT = (ConnectionError, asyncio.IncompleteReadError)


@dataclass(frozen=True)
class Ask:
    """One request as bytes, and which of the different ones it is."""

    number: int
    data: bytes


@dataclass
class Got:
    """What came back for one request; status 0 if the connection was closed before a byte of it."""

    number: int
    status: int
    body: bytes
    media_type: str
    seconds: float


@dataclass
class Answers:
    """All that came back, and how many answers were cut off."""

    got: list[Got] = field(default_factory=list)
    torn: int = 0
    refused: int = 0
    seconds: float = 0.0


def ask(number: int, path: str, body: bytes, content_type: str = "application/json") -> Ask:
    """A request that can be sent."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: isthmus\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return Ask(number, head.encode() + body)


async def send_all(port: int, asks: Sequence[Ask], connections: int, *, stop: asyncio.Event | None = None) -> Answers:
    """Send requests over connections that each take the next one when they have their answer.

    With `stop`, a connection that is closed is not opened again: the server is ending.
    """
    answers, left = Answers(), iter(asks)
    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(_one_connection(port, left, answers, stop))
    answers.seconds = time.perf_counter() - start
    return answers


async def _one_connection(port: int, left: object, answers: Answers, stop: asyncio.Event | None) -> None:
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    for one in left:  # type: ignore[attr-defined]  # one iterator for all connections
        if streams is None:
            try:
                streams = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                answers.refused += 1
                if stop is not None:
                    return
                raise
        keep = await _exchange(one, streams, answers)
        if not keep:
            streams[1].close()
            streams = None
            if stop is not None and stop.is_set():
                return
    if streams is not None:
        streams[1].close()


async def _exchange(one: Ask, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], answers: Answers) -> bool:
    """Send one request and keep what comes back; whether the connection can be used again."""
    reader, writer = streams
    start, head = time.perf_counter(), b""
    try:
        writer.write(one.data)
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode("latin-1").lower().split("\r\n")[1:-2])
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    except CUT as error:
        begun = head or getattr(error, "partial", b"")
        answers.torn += bool(begun)
        answers.got.append(Got(one.number, 0, b"", "", time.perf_counter() - start))
        return False
    status = int(head.split(b" ", 2)[1])
    media = headers.get("content-type", "")
    answers.got.append(Got(one.number, status, body, media, time.perf_counter() - start))
    return headers.get("connection") != "close"
