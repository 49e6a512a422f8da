"""Decoding of image files as viewers display them: with their rotation, palette and transparency."""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from isthmus.exceptions import DataError

ORIENTATION = 0x0112
"""EXIF tag of the camera orientation."""
SUBFILE_TYPE, THUMBNAIL_OR_MASK = 254, 0b101
"""TIFF tag of the page type, and its bits for a thumbnail and for a mask."""
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)
"""What Pillow raises on damaged files."""


def as_displayed(image: Image.Image) -> np.ndarray:
    """An image of Pillow as viewers display it, (h, w) or (h, w, c): with the colours of its palette, over white."""
    return np.asarray(as_seen(image, keep_alpha=False)[0])


def read_image(file: Path, *, keep_alpha: bool = False) -> list[np.ndarray]:
    """The pages of an image file as viewers display them, in the natural depth of each.

    Parameters
    ----------
    file
        A file in one of the formats that Pillow reads.
    keep_alpha
        Whether transparency is kept, as a second channel of grey images and a fourth of coloured ones; otherwise
        images are composited over white.

    Returns
    -------
    One array per page, (h, w) for grey and (h, w, c) for others.

    Raises
    ------
    DataError
        The file is not there, is not a regular file, or cannot be read; the message names it.
    """
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise DataError(f"'{file}' is not a regular file; remove it, or put an image in its place.")
        with opened(file) as image:
            pages = []
            for number in page_numbers(image):
                image.seek(number)
                pages.append(np.asarray(as_seen(image, keep_alpha)[0]))
            return pages
    except UNREADABLE as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"The image '{file}' cannot be read ({error}); repair or remove it.") from None


@contextmanager
def opened(file: Path) -> Iterator[Image.Image]:
    """Context manager: an image file, opened as a stream."""
    # Opened as a stream: given a name, Pillow 13 memory-maps uncompressed files and scrambles rotated TIFF files (4 of
    # 16 combinations of type and orientation correct by name, all correct from a stream).
    with file.open("rb") as stream, Image.open(stream) as image:
        yield image


def page_numbers(image: Image.Image) -> list[int]:
    """The pages of a file that are images: no thumbnails or masks."""
    n_pages = getattr(image, "n_frames", 1)
    if n_pages == 1 or image.format == "MPO":
        return [0]
    numbers = []
    for number in range(n_pages):
        image.seek(number)
        kind = int(getattr(image, "tag_v2", {}).get(SUBFILE_TYPE, 0))
        if number == 0 or not kind & THUMBNAIL_OR_MASK:
            numbers.append(number)
    return numbers


def as_seen(image: Image.Image, keep_alpha: bool) -> tuple[Image.Image, set[str]]:
    """A page as viewers display it, in mode L, LA, RGB, RGBA, I;16, I or F, and the conversions applied."""
    raw = _raw_mode(image)
    turned = image.getexif().get(ORIENTATION, 1) not in (0, 1)
    original = image.mode
    image.load()
    seen, done = ImageOps.exif_transpose(image), {"rotated"} if turned else set()
    if original.startswith(("I", "F")):
        # Pillow returns 16-bit PNM and PNG as 32-bit integers; 32-bit integers of TIFF are real.
        if seen.mode == "I" and image.format in ("PPM", "PNG"):
            seen = Image.fromarray(np.asarray(seen).astype(np.uint16))
        clear = image.info.get("transparency")
        if isinstance(clear, int):  # PNG's transparent grey value; Pillow cannot composite 16-bit images
            seen = Image.fromarray(np.where(np.asarray(seen) == clear, 65_535, np.asarray(seen)).astype(np.uint16))
            done.add("composited")
        return seen, done
    done |= {"reduced"} if ";16" in raw else set()
    done |= {"cmyk"} if original == "CMYK" else set()
    seen, transparent = _with_alpha(seen)
    if transparent and not keep_alpha:
        done.add("composited")
        seen = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")
    if original in ("P", "PA", "LA", "La") or image.format == "GIF" or raw.startswith("LA"):
        return _one_channel_if_grey(seen, done | ({"palette"} if original in ("P", "PA") else set()))
    if seen.mode in ("L", "LA", "RGB", "RGBA"):
        grey = seen.mode == "RGB" and original in ("1", "L")  # compositing made it RGB
        return (seen.getchannel(0) if grey else seen), done
    return seen.convert("L" if original == "1" else "RGB"), done


def _raw_mode(image: Image.Image) -> str:
    """The pixel format in the file, such as ``RGB;16B``; available only before the pixels are loaded."""
    tile = getattr(image, "tile", None)
    arguments = tile[0][3] if tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _with_alpha(image: Image.Image) -> tuple[Image.Image, bool]:
    """The image, as RGBA if some pixels are transparent, else without alpha; and whether some are transparent."""
    if not image.has_transparency_data:
        return (image.convert("RGB") if image.mode == "P" else image), False
    whole = image.convert("RGBA")
    low, _ = whole.getchannel("A").getextrema()
    if float(low) < 255:  # type: ignore[arg-type]  # one band has one (low, high) pair
        return whole, True
    return whole.convert("RGB") if image.mode not in ("L", "1") else image.convert("L"), False


def _one_channel_if_grey(image: Image.Image, done: set[str]) -> tuple[Image.Image, set[str]]:
    """Convert to one channel if all pixels are grey; unused colours of a palette do not count."""
    bands = image.convert("RGBA" if image.mode in ("LA", "RGBA") else "RGB").split()
    red, green, blue = (np.asarray(band) for band in bands[:3])
    if not (np.array_equal(red, green) and np.array_equal(green, blue)):
        return image, done - {"palette"}
    return (Image.merge("LA", (bands[0], bands[3])) if len(bands) == 4 else bands[0]), done


def dtype_of(image: Image.Image) -> np.dtype[np.generic]:
    """The dtype of the pixels of a decoded page."""
    if image.mode.startswith("I;16"):
        return np.dtype(np.uint16)
    return np.dtype({"I": np.int32, "F": np.float32}.get(image.mode, np.uint8))
