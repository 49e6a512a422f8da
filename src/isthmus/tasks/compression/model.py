"""What every transform of the codec is: images through a coder, with arrays that a file keeps."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import ClassVar, Protocol

import numpy as np

from isthmus.files.records import Numbers
from isthmus.tasks.compression.coding import TOTAL, Coder, Tables
from isthmus.tasks.compression.scale_network import N_SCALES
from isthmus.tasks.compression.symbols import N_TOKENS

Shape = tuple[int, int, int, int]
"""Images, height, width, channels."""


class CodecModel(Protocol):
    """A learned transform. Nothing that it decodes with depends on a floating-point rounding."""

    transform: ClassVar[str]
    """Its name in `transforms.TRANSFORMS`."""

    @property
    def n_channels(self) -> int:
        """Channels of the images it was learned from."""

    @property
    def fingerprint(self) -> bytes:
        """Eight bytes that differ between models."""

    @property
    def tables(self) -> Tables:
        """Entropy tables."""

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name, as they are stored."""

    def misfit(self, height: int, width: int, n_channels: int) -> str | None:
        """Why images of this size cannot be coded, or None."""

    def pixels(self, coder: Coder, shape: Shape, code: int, images: np.ndarray | None = None) -> np.ndarray:
        """Put images, (n, h, w, c) uint8, through a coder, or read them from it (None); gives the restored pixels."""


TABLES_DECLARED: Mapping[str, Numbers] = {
    "tables.frequencies": Numbers("u", (N_SCALES, N_TOKENS), 32),
    "tables.offsets": Numbers("i", (N_SCALES, 3), 32),
}
"""The arrays of entropy tables in a file."""
TABLES_LIMITS = {"tables.frequencies": (1, TOTAL), "tables.offsets": (-128, 128)}


def out_of_range(arrays: Mapping[str, np.ndarray], limits: Mapping[str, tuple[int, int]]) -> list[str]:
    """Names of arrays with values beyond limits, those of the entropy tables included."""
    bounds = {**limits, **TABLES_LIMITS}
    wrong = [name for name, (low, high) in bounds.items() if arrays[name].min() < low or arrays[name].max() > high]
    if not (arrays["tables.frequencies"].sum(axis=1, dtype=np.int64) == TOTAL).all():
        wrong.append("tables.frequencies")
    return wrong


def fingerprint_of(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The first eight bytes of a SHA-256 of names, shapes and values."""
    hashed = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        hashed.update(f"{name} {array.shape}".encode())
        hashed.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return hashed.digest()[:8]
