"""Pictures of the benchmark: before, after and clean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from benchmarks.restoration.harness import Sheet
from isthmus.plots import plot_restorations, save

LARGEST = 200_000
"""Bytes of a picture of the docs, at most."""


Images = Sequence[np.ndarray] | np.ndarray


def keep(sheet: Sheet, name: str, before: Images, after: Images, clean: Images) -> None:
    """Draw images beside each other, a row each, and keep them as a picture for the docs."""
    rows = [list(images) for images in zip(before, after, clean, strict=True)]
    path = sheet.folder / f"restoration-{name}.png"
    for dots in (110, 80, 60):
        save(plot_restorations(rows, columns=("before", "after", "clean")), path, dots_per_inch=dots)
        reduced = Image.open(path).convert("RGB").quantize(128)  # a third of the bytes
        reduced.save(path, optimize=True)
        if path.stat().st_size <= LARGEST:
            return
