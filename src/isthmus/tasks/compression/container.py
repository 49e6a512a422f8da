"""The container: images as records of one file, which can be read one by one.

``docs/compressed-file.md`` describes the format byte by byte.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from isthmus.exceptions import StreamError

MAGIC = b"\x89ISH"
VERSION = 1
HEAD = struct.Struct("<4sBBB8sI")
"""Magic, version, mode, flags, fingerprint, bytes of the index."""
CHECKS = struct.Struct("<II")
"""Of a record: CRC-32 of its payload and of the decoded bytes."""
CHECK = struct.Struct("<I")
MODES = {"images": 0, "rows": 1}
STACKED, FLAT = 1, 2
MOST_PIXELS = 1 << 28
"""Most numbers of one record that are decoded by default: 256 Mi."""
FIELDS = 6
"""Numbers of a record in the index: images, height, width, channels, code, bytes of the payload."""


@dataclass(frozen=True)
class Entry:
    """One record: an image, or several small ones of one size.

    Attributes
    ----------
    n_images, height, width, n_channels
        What it holds.
    code
        Quantisation step of images; for rows, the kind of the data.
    data_check
        CRC-32 of the decoded bytes.
    payload
        The compressed bytes.
    """

    n_images: int
    height: int
    width: int
    n_channels: int
    code: int
    data_check: int
    payload: bytes

    @property
    def n_values(self) -> int:
        """Numbers in the decoded record."""
        return self.n_images * self.height * self.width * self.n_channels


@dataclass(frozen=True)
class Container:
    """A compressed file in memory.

    Attributes
    ----------
    mode
        ``"images"``, or ``"rows"`` for lossless streams.
    fingerprint
        8 bytes that identify the model.
    entries
        The records in order.
    names
        A name for each image, or none.
    flags
        `STACKED`: the images were one array; `FLAT`: they had no axis of channels.
    """

    mode: str
    fingerprint: bytes
    entries: Sequence[Entry]
    names: Sequence[str] = ()
    flags: int = 0

    @property
    def n_images(self) -> int:
        """Images in all records."""
        return sum(entry.n_images for entry in self.entries)

    def find(self, image: int) -> tuple[Entry, int]:
        """The record of an image, and its place in it."""
        if not 0 <= image < self.n_images:
            raise IndexError(
                f"There is no image {image}: the stream holds {self.n_images}, numbered from 0 to {self.n_images - 1}."
            )
        for entry in self.entries:
            if image < entry.n_images:
                break
            image -= entry.n_images
        return entry, image


def write(container: Container) -> bytes:
    """The bytes of a container."""
    names = zlib.compress(json.dumps(list(container.names)).encode(), 9) if container.names else b""
    records = b"".join(_packed(entry) for entry in container.entries)
    index = varint(len(container.entries)) + records + names
    head = HEAD.pack(MAGIC, VERSION, MODES[container.mode], container.flags, container.fingerprint, len(index))
    front = head + index
    return b"".join([front, CHECK.pack(zlib.crc32(front)), *(entry.payload for entry in container.entries)])


def _packed(entry: Entry) -> bytes:
    sizes = entry.n_images, entry.height, entry.width, entry.n_channels, entry.code, len(entry.payload)
    return b"".join(map(varint, sizes)) + CHECKS.pack(zlib.crc32(entry.payload), entry.data_check)


def varint(number: int) -> bytes:
    r"""A whole number in groups of seven bits, lowest first; the high bit says that more follow.

    >>> varint(5), varint(300)
    (b'\x05', b'\xac\x02')
    """
    groups = []
    while number > 127:
        groups.append(number & 127 | 128)
        number >>= 7
    return bytes([*groups, number])


def read(blob: bytes, *, max_pixels: int = MOST_PIXELS) -> Container:
    """Read a container, and check everything but the decoded data.

    Parameters
    ----------
    blob
        The whole stream.
    max_pixels
        Most numbers of a record that may be decoded.

    Raises
    ------
    StreamError
        It is not such a stream, of a newer version, shorter or longer than it says, damaged, or larger than the limit.
    """
    data = memoryview(blob)
    mode, flags, fingerprint, index_size = _head(data)
    front = HEAD.size + index_size
    if len(data) < front + CHECK.size:
        raise StreamError(f"The stream ends in its index, after {len(data):,} bytes: it is truncated or damaged.")
    if zlib.crc32(data[:front]) != CHECK.unpack_from(data, front)[0]:
        raise StreamError("The index of the stream is damaged: its checksum is wrong. Copy the file again.")
    records, names_from = _index(bytes(data[HEAD.size : front]), max_pixels)
    wanted = front + CHECK.size + sum(size for _, size, _ in records)
    if wanted != len(data):
        raise StreamError(
            f"The stream has {len(data):,} bytes, but its index says {wanted:,}: it is "
            f"{'truncated' if wanted > len(data) else 'followed by other data'}. Copy the file again."
        )
    names = _names(data[HEAD.size + names_from : front], sum(entry.n_images for entry, _, _ in records))
    return Container(mode, fingerprint, _with_payloads(data, front + CHECK.size, records), names, flags)


def _head(data: memoryview) -> tuple[str, int, bytes, int]:
    if len(data) < HEAD.size or bytes(data[: len(MAGIC)]) != MAGIC:
        raise StreamError(
            "This is not a compressed stream of isthmus: its first bytes are others. Use a file that `compress` wrote."
        )
    _, version, mode, flags, fingerprint, index_size = HEAD.unpack_from(data)
    if version != VERSION:
        raise StreamError(
            f"The stream has version {version}, but this isthmus reads version {VERSION}; install a newer isthmus."
        )
    named = {number: name for name, number in MODES.items()}
    if mode not in named or flags > STACKED + FLAT:
        raise StreamError("The head of the stream is damaged: it has an unknown mode. Copy the file again.")
    return named[mode], flags, fingerprint, index_size


Record = tuple[Entry, int, int]
"""A record without its payload, the bytes of that, and their checksum."""


def _index(index: bytes, max_pixels: int) -> tuple[list[Record], int]:
    """All records, and where the names begin."""
    try:
        count, place = _varint_at(index, 0)
        records = []
        for _ in range(count):  # each takes bytes of the index, which ends long before a false count does
            numbers = []
            for _ in range(FIELDS):
                number, place = _varint_at(index, place)
                numbers.append(number)
            check, data_check = CHECKS.unpack_from(index, place)
            place += CHECKS.size
            records.append((_entry(numbers, data_check, max_pixels), numbers[-1], check))
    except (IndexError, struct.error):
        raise StreamError("The index of the stream is damaged: it ends in a record. Copy the file again.") from None
    return records, place


def _varint_at(index: bytes, place: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 63, 7):
        byte = index[place]
        place += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, place
    raise StreamError("The index of the stream is damaged: it has a number of more than 63 bits. Copy the file again.")


def _entry(numbers: Sequence[int], data_check: int, max_pixels: int) -> Entry:
    n_images, height, width, n_channels, code, _ = numbers
    entry = Entry(n_images, height, width, n_channels, code, data_check, b"")
    if min(n_images, height, width, n_channels) < 1:
        raise StreamError("The index of the stream is damaged: a record is empty. Copy the file again.")
    if entry.n_values > max_pixels:
        raise StreamError(
            f"A record holds {n_images} × {height} × {width} × {n_channels} numbers, more than the limit of "
            f"{max_pixels:,}; pass max_pixels={entry.n_values} if the file is yours."
        )
    return entry


def _names(packed: memoryview, n_images: int) -> list[str]:
    if not packed:
        return []
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(packed, 4096 * (n_images + 1))  # names of files are shorter
        names = json.loads(text)
    except (zlib.error, ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or len(names) != n_images or not all(isinstance(name, str) for name in names):
        raise StreamError("The names in the stream are damaged. Copy the file again.")
    return names


def _with_payloads(data: memoryview, start: int, entries: Sequence[Record]) -> list[Entry]:
    found = []
    for place, (entry, size, check) in enumerate(entries):
        payload = bytes(data[start : start + size])
        if zlib.crc32(payload) != check:
            raise StreamError(f"Record {place} of the stream is damaged: its checksum is wrong. Copy the file again.")
        found.append(replace(entry, payload=payload))
        start += size
    return found
