"""Images of the benchmark, as bytes or floats in [0, 1], split as the page says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from isthmus.data import datasets
from isthmus.data.images import natural_key

N_DOCUMENTS = 84
"""Documents to learn from, the first by number; the other 24 show texts that these do not."""


def folder(name: str) -> Path:
    """The folder of a set of image files below the data folders."""
    for place in datasets.data_folders():
        if (place / name).is_dir():
            return place / name
    raise FileNotFoundError(f"There is no folder {name!r} in {datasets.data_folders()}; set ISTHMUS_DATA.")


def documents() -> tuple[list[np.ndarray], list[np.ndarray], list[str]]:
    """Scanned pages, their clean versions and their names, in the order of their numbers."""
    names = [file.name for file in sorted((folder("noisy-documents") / "clean").iterdir(), key=natural_key)]
    noisy, clean = (
        [np.asarray(Image.open(folder("noisy-documents") / part / name)) for name in names]
        for part in ("noisy", "clean")
    )
    return noisy, clean, names


def kodak(first: int, last: int, *, mode: str = "L") -> list[np.ndarray]:
    """Photographs kodim{first} to kodim{last}, bytes."""
    files = [folder("kodak") / f"kodim{number:02}.png" for number in range(first, last + 1)]
    return [np.asarray(Image.open(file).convert(mode)) for file in files]


def noisy_kodak(images: list[np.ndarray], sigma: float, seed: int) -> list[np.ndarray]:
    """Photographs in [0, 1] with Gaussian noise of a strength in shares of 255; not clipped."""
    draw = np.random.default_rng(seed)
    return [(image / 255 + sigma / 255 * draw.normal(size=image.shape)).astype(np.float32) for image in images]


def psnr(images: list[np.ndarray], clean: list[np.ndarray]) -> float:
    """Mean peak signal-to-noise ratio in decibels; clean images are bytes, restored ones in [0, 1], clipped here."""
    errors = [np.square(np.clip(one, 0, 1) - other / 255).mean() for one, other in zip(images, clean, strict=True)]
    return float(np.mean([-10 * np.log10(error) for error in errors]))
