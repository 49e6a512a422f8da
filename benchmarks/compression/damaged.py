"""Damaged streams: flipped, cut, extended and foreign; each must be an error or the exact images."""

from __future__ import annotations

import resource
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.sheet import Sheet
from isthmus import ImageCodec, StreamError
from isthmus.tasks.compression import container

N_STREAMS = 10_000


def run(sheet: Sheet, folder: Path, docs: Path | None) -> None:  # noqa: ARG001  # as all parts
    """10,000 damaged streams of small images, with damage before and behind the checksums."""
    draw = np.random.default_rng(0)
    images = [np.kron(draw.integers(0, 256, (4, 5, c), np.uint8), np.ones((4, 4, 1), np.uint8)) for c in (3, 1, 3)]
    codec = ImageCodec("25 dB", n_steps=20, random_state=0).fit(images)
    blob = codec.compress(images, names=["one", "two", "three"])
    wanted = codec.decompress(blob)
    clean = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts = {"refused": 0, "exact": 0, "wrong": 0, "other error": 0}
    for number in range(N_STREAMS):
        counts[_outcome(codec, _damaged(blob, number, draw), wanted)] += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name in ("refused", "exact"):
        sheet.add("damaged", f"streams {name}", counts[name])
    for name in ("wrong", "other error"):
        sheet.add("damaged", f"streams that gave: {name}", counts[name], "0", counts[name] == 0)
    sheet.add("damaged", "peak memory over that of the clean run", peak / clean, "≤ 2", peak <= 2 * clean)


def _damaged(blob: bytes, number: int, draw: np.random.Generator) -> bytes:
    place = int(draw.integers(len(blob)))
    kind = number % 6
    if kind == 0:
        return blob[:place]
    if kind == 1:
        return blob + draw.bytes(1 + place % 50)
    if kind == 2:
        return draw.bytes(place + 1)
    changed = bytearray(blob)
    for _ in range(1 + number % 3):
        changed[int(draw.integers(len(blob)))] ^= 1 << int(draw.integers(8))
    if kind == 3:
        return bytes(changed)
    return _forged(blob, draw) if kind == 4 else _with_checks(bytes(changed))


def _forged(blob: bytes, draw: np.random.Generator) -> bytes:
    """A payload of other bytes, with right checksums of the file."""
    stream = container.read(blob)
    payload = bytearray(stream.entries[0].payload)
    payload[int(draw.integers(len(payload)))] ^= 1 << int(draw.integers(8))
    first = replace(stream.entries[0], payload=bytes(payload))
    return container.write(replace(stream, entries=[first, *stream.entries[1:]]))


def _with_checks(changed: bytes) -> bytes:
    """The checksum of the index is made right again, so that a changed index is read."""
    size = int.from_bytes(changed[15:19], "little")
    front = container.HEAD.size + size
    if front + 4 > len(changed):
        return changed
    return changed[:front] + container.CHECK.pack(zlib.crc32(changed[:front])) + changed[front + 4 :]


def _outcome(codec: ImageCodec, blob: bytes, wanted: list[np.ndarray]) -> str:
    try:
        found = codec.decompress(blob)
    except StreamError:
        return "refused"
    except Exception as error:  # noqa: BLE001  # that is what is looked for
        print(type(error).__name__, error)
        return "other error"
    same = len(found) == len(wanted) and all(map(np.array_equal, found, wanted))
    return "exact" if same else "wrong"
