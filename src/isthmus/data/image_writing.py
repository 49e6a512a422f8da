"""Image files read with what belongs to them besides pixels, and written in the same format and mode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageSequence

from isthmus.atomic import atomic
from isthmus.data.image_decoding import opened, read_image
from isthmus.exceptions import DataError

KEPT = ("icc_profile", "dpi", "duration", "loop")
"""What is kept of a file besides pixels: the colour profile, the resolution, and the times of an animation."""
PROFILES = {"L": b"GRAY", "LA": b"GRAY", "I;16": b"GRAY", "RGB": b"RGB ", "RGBA": b"RGB "}
"""The colour space of a profile, its bytes 16 to 20, by the mode of its image."""
BEST_QUALITY: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
    "TIFF": {"compression": "tiff_deflate"},
}
"""How formats are written that would lose something by default, or take much space."""


@dataclass(frozen=True)
class ImageFile:
    """The pages of an image file, as viewers display them, and how it is to be written.

    Attributes
    ----------
    pages
        One array per page, (h, w) for grey, (h, w, 2) for grey with alpha, (h, w, 3) and (h, w, 4) for colour.
    format
        Pillow's name of the format, such as ``"PNG"``.
    has_alpha
        Whether the file has a channel of transparency, which `pages` lack where all of it is opaque.
    info
        Colour profile, resolution and times.
    """

    pages: Sequence[np.ndarray]
    format: str
    has_alpha: bool = False
    info: dict[str, Any] = field(default_factory=dict)


def read_image_file(file: Path) -> ImageFile:
    """Read an image file with all that is needed to write it again.

    Raises
    ------
    DataError
        The file cannot be read; the message names it.
    """
    pages = read_image(file, keep_alpha=True)
    with opened(file) as image:
        image.load()  # some formats tell the times of their frames only now
        name = "JPEG" if image.format == "MPO" else str(image.format)
        info = {key: image.info[key] for key in KEPT if key in image.info}
        has_alpha = image.mode in ("LA", "RGBA", "PA")
        if len(pages) > 1 and "duration" in info:
            info["duration"] = [*_durations(image)]
        return ImageFile(pages, name, has_alpha, info)


def _durations(image: Image.Image) -> Iterator[float]:
    """The time of each frame of an animation."""
    for frame in ImageSequence.Iterator(image):
        frame.load()
        yield frame.info.get("duration", 0)


def write_image_file(path: Path, image: ImageFile, pages: Sequence[np.ndarray], *, overwrite: bool = False) -> None:
    """Write pages in the format of a file, with its colour profile, resolution and times.

    Parameters
    ----------
    path
        The new file.
    image
        The file of the pages.
    pages
        Its pages in their new form, in arrays like those of `ImageFile.pages`.
    overwrite
        Whether to replace an existing file.

    Raises
    ------
    OutputError
        The file cannot be written; nothing is left half-written.
    DataError
        The format cannot hold such pixels.
    """
    pictures = [_picture(page, path, has_alpha=image.has_alpha) for page in pages]
    settings = {**BEST_QUALITY.get(image.format, {}), **image.info}
    if (settings.get("icc_profile") or b"")[16:20] != PROFILES.get(pictures[0].mode):
        settings.pop("icc_profile", None)  # of a colour space that the image has no more, such as CMYK
    if len(pictures) > 1:
        settings |= {"save_all": True, "append_images": pictures[1:]}
    with atomic(path, overwrite=overwrite) as temporary:
        try:
            pictures[0].save(temporary, format=image.format, **settings)
        except (ValueError, KeyError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the disk; Pillow's own errors of modes have no number
            raise DataError(f"'{path}' cannot be written as {image.format}: {error}.") from None


def _picture(page: np.ndarray, path: Path, *, has_alpha: bool) -> Image.Image:
    """An array as an image of Pillow, with an opaque channel of transparency where the file had one."""
    if has_alpha and page.dtype == np.uint8 and (page.ndim == 2 or page.shape[2] in (1, 3)):
        colour = page.reshape(*page.shape[:2], -1)
        page = np.concatenate([colour, np.full_like(colour[..., :1], 255)], axis=2)
    if page.dtype == np.uint16 and page.ndim == 3:  # Pillow has no colour of 16 bits
        page = (page >> 8).astype(np.uint8)
    try:
        return Image.fromarray(np.ascontiguousarray(page))
    except TypeError:
        shape = "×".join(map(str, page.shape))
        raise DataError(
            f"'{path}' cannot be written: no image file holds {shape} numbers of the type {page.dtype}; restore its "
            "image in Python, restorer.restore([image])."
        ) from None
