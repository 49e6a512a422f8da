"""Records: groups of images that are coded together."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from isthmus.exceptions import StreamError
from isthmus.tasks.compression.coding import Decoder, Encoder
from isthmus.tasks.compression.container import Entry
from isthmus.tasks.compression.model import CodecModel
from isthmus.tasks.compression.targets import TRADE, Outcome

SMALL = 64 * 64
"""Images with at most this number of pixels share a record with adjacent images of the same size."""
TOGETHER = 1 << 18
"""Pixels of a shared record."""


def uniform_channels(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Images with equal numbers of channels: grey ones are repeated in three if any image is coloured."""
    most = max(image.shape[2] for image in images)
    return [np.repeat(image, most, axis=2) if image.shape[2] < most else image for image in images]


def batches_of(images: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Images, (h, w, c), as records in the same order, (n, h, w, c)."""
    batches = []
    for (height, width, _), alike in groupby(images, key=lambda image: image.shape):
        run_of = list(alike)
        size = max(1, TOGETHER // (height * width)) if height * width <= SMALL else 1
        batches += [np.stack(run_of[start : start + size]) for start in range(0, len(run_of), size)]
    return batches


def measured(model: CodecModel, batches: Sequence[np.ndarray], code: int) -> Outcome:
    """Bits per pixel of all images together, and the mean of their PSNR, at a step."""
    bits, pixels, psnr = 0.0, 0, list[float]()
    for batch in batches:
        encoder = Encoder(model.tables, TRADE, writes=False)
        restored = model.pixels(encoder, batch.shape, code, batch)
        bits += encoder.bits
        pixels += math.prod(batch.shape[:3])
        psnr += [peak_signal_to_noise(one, other) for one, other in zip(batch, restored, strict=True)]
    return Outcome(bits / pixels, float(np.mean(psnr)))


def peak_signal_to_noise(one: np.ndarray, other: np.ndarray) -> float:
    """PSNR of two uint8 images in decibels; 99 for equal ones.

    >>> round(peak_signal_to_noise(np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8)), 1)
    0.0
    """
    error = float(np.mean((one.astype(np.float64) - other) ** 2))
    return 10 * math.log10(255**2 / error) if error else 99.0


def compressed(model: CodecModel, batch: np.ndarray, code: int) -> Entry:
    """A record of images, (n, h, w, c) uint8."""
    encoder = Encoder(model.tables, TRADE)
    pixels = model.pixels(encoder, batch.shape, code, batch)
    n_images, height, width, n_channels = batch.shape
    return Entry(n_images, height, width, n_channels, code, zlib.crc32(pixels.tobytes()), encoder.payload())


def decompressed(model: CodecModel, entry: Entry) -> np.ndarray:
    """The images of a record, (n, h, w, c) uint8.

    Raises
    ------
    StreamError
        The payload does not give the pixels that were compressed.
    """
    shape = entry.n_images, entry.height, entry.width, entry.n_channels
    try:
        pixels = model.pixels(Decoder(model.tables, entry.payload), shape, entry.code)
    except (AssertionError, ValueError, OverflowError) as error:  # the coder ran out of data
        raise StreamError(f"A record of the stream cannot be decoded ({error}). Copy the file again.") from None
    if zlib.crc32(pixels.tobytes()) != entry.data_check:
        raise StreamError("A record of the stream gives other pixels than were compressed. Copy the file again.")
    return pixels


def silent(done: int, total: int) -> None:
    """Shows no progress."""


def shown(verbose: int | bool, verb: str) -> Callable[[int, int], None]:
    """A function that shows progress on stderr, or does nothing."""
    if not verbose:
        return silent
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = bar.add_task(verb)

    def tell(done: int, total: int) -> None:
        if done == 1:
            bar.start()
        bar.update(task, completed=done, total=total)
        if done >= total:
            bar.stop()

    return tell
