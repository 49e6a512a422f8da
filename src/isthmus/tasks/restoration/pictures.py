"""Reading of images (arrays, lists of arrays of different sizes, folders), and their conversion to one unit."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from isthmus.data.image_decoding import UNREADABLE, as_displayed, read_image
from isthmus.data.images import folder_files
from isthmus.data.numeric import as_numeric
from isthmus.exceptions import ConversionWarning, DataError
from isthmus.wording import counted

LARGEST = float(np.finfo(np.float32).max)
FAR = 4.0
"""The largest distance from the range, in widths of it: noise exceeds the range a little, pixels in another unit by
far."""


MOST_CHANNELS = 4
"""The largest number of channels of ordinary images."""
NOISY_BEYOND = 3.0
"""The largest distance of noisy pixels from [0, 1]: six standard deviations of the strongest usable noise."""


@dataclass(frozen=True)
class Pictures:
    """Images with channels last, and the form in which they were given.

    Attributes
    ----------
    arrays
        One array per image, (h, w, c), in the dtype in which it was given.
    names
        The name of each image in messages.
    flat
        Whether each image was given without an axis of channels, (h, w).
    stacked
        Whether they were one array, (n, h, w) or (n, h, w, c).
    pages
        The number of images of each file, if they come from files.
    """

    arrays: Sequence[np.ndarray]
    names: Sequence[str]
    flat: Sequence[bool]
    stacked: bool = False
    pages: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.arrays)

    def like_given(self, arrays: Sequence[np.ndarray]) -> Any:
        """Images, (h, w, c), in the form of these: one array or a list, without an axis for a single channel."""
        shaped = [
            array[..., 0] if flat and array.shape[2] == 1 else array
            for array, flat in zip(arrays, self.flat, strict=True)
        ]
        return np.stack(shaped) if self.stacked else shaped


def as_pictures(X: Any, what: str = "X", *, each_as_it_is: bool = False) -> Pictures:
    """Read images.

    Parameters
    ----------
    X
        An array, (n, h, w) or (n, h, w, c); a list of arrays, (h, w) or (h, w, c), of any sizes; a list of images
        of Pillow or of paths; or the path of a folder. Files are read as viewers display them. The numbers are
        integers, booleans or floats.
    what
        The name of X in messages.
    each_as_it_is
        Whether images may have different channels, and transparency of files is a further channel. Otherwise all need
        the same channels; files are composited over white, and grey ones become colour if others are coloured.

    Raises
    ------
    DataError
        The images have different numbers of channels, are empty, hold numbers that are not finite, or cannot be read.
    TypeError
        X is none of these.
    """
    if isinstance(X, str | Path):
        return _of_files(_files_of(Path(X)), f"'{X}'", each_as_it_is=each_as_it_is)
    if isinstance(X, np.ndarray | torch.Tensor) or hasattr(X, "__array_interface__"):
        return _of_array(X, what)
    if not isinstance(X, Sequence):
        raise TypeError(
            f"{what} is a {type(X).__name__}; pass an array (n, h, w) or (n, h, w, c), a list of images or the path of "
            "a folder."
        )
    if X and all(isinstance(part, str | Path) for part in X):
        return _of_files([Path(part) for part in X], what, each_as_it_is=each_as_it_is)
    return _of_list(X, what, each_as_it_is=each_as_it_is)


def _files_of(folder: Path) -> list[Path]:
    """The images of a folder; a warning names those of formats that cannot be read."""
    others = folder_files(folder, readable=False)
    if others:
        named = ", ".join(file.name for file in others[:3]) + (", …" if len(others) > 3 else "")
        warnings.warn(
            f"{counted(len(others), 'image')} in '{folder}' of formats that cannot be read left out ({named}); convert "
            "them to PNG or TIFF.",
            ConversionWarning,
            stacklevel=2,
        )
    return folder_files(folder)


def _of_array(X: Any, what: str) -> Pictures:
    array = _array_of(X, what)
    if array.ndim not in (3, 4):
        raise DataError(
            f"{what} has the shape {array.shape}, but images need (n, h, w) or (n, h, w, c), with n >= 1. For one "
            f"image pass a list, [image]{'; for flat rows, X.reshape(n, h, w)' if array.ndim == 2 else ''}."
        )
    if array.ndim == 3 and array.shape[2] in (3, 4) and array.shape[1] > array.shape[2]:
        raise DataError(
            f"{what} has the shape {array.shape}, which may be one colour image or {array.shape[0]} grey ones of "
            f"{array.shape[1]}×{array.shape[2]} pixels. Pass {what}[None] for one image, {what}[..., None] for several."
        )
    if array.ndim == 4:
        _check_layout(array.shape[1:], what, f"{what}.transpose(0, 2, 3, 1)")
    _check_numbers(array, what, "numbers")
    arrays = array[..., None] if array.ndim == 3 else array
    if not arrays.size:
        raise DataError(
            f"{what} is empty: its shape, {array.shape}, has no images or no pixels; at least one is needed."
        )
    names = [f"{what}[{place}]" for place in range(len(arrays))]
    return Pictures(list(arrays), names, [array.ndim == 3] * len(arrays), stacked=True)


def _array_of(image: Any, name: str) -> np.ndarray:
    """An array in its own dtype if that is of numbers; an image of Pillow as viewers display it."""
    if isinstance(image, np.ndarray) and not isinstance(image, np.ma.MaskedArray) and image.dtype.kind in "buif":
        return image
    if isinstance(image, str | bytes | Path):
        raise TypeError(f"{name} is a path or text, but others are images; pass only paths, or only images.")
    try:
        if isinstance(image, Image.Image):
            return as_displayed(image)  # as an array, an image with a palette would be its numbers of colours
        return np.asarray(as_numeric(image))
    except UNREADABLE as error:
        raise DataError(f"{name} is no image ({error}); pass an array of numbers, (h, w) or (h, w, c).") from None


def _check_layout(shape: tuple[int, ...], what: str, remedy: str) -> None:
    """Raise an error if channels seem to be the first axis; shapes are (h, w, c)."""
    if len(shape) == 3 and shape[0] <= MOST_CHANNELS < shape[2]:
        raise DataError(
            f"{what} would be read as images of {shape[0]}×{shape[1]} pixels with {shape[2]} channels. Channels go "
            f"last here; pass {remedy}."
        )


def _of_list(X: Iterable[Any], what: str, *, each_as_it_is: bool) -> Pictures:
    arrays, names, flat = [], [], []
    for place, image in enumerate(X):
        name = f"{what}[{place}]"
        array = _array_of(image, name)
        if array.ndim not in (2, 3) or not array.size:
            raise DataError(f"{name} has the shape {array.shape}; an image needs (h, w) or (h, w, c), with h, w >= 1.")
        _check_layout(array.shape, name, "image.transpose(1, 2, 0)")
        _check_numbers(array, name, "numbers")
        flat.append(array.ndim == 2)
        arrays.append(array[..., None] if array.ndim == 2 else array)
        names.append(name)
    return _checked(Pictures(arrays, names, flat), what, each_as_it_is=each_as_it_is)


def _of_files(files: Sequence[Path], what: str, *, each_as_it_is: bool) -> Pictures:
    arrays, names, flat, counts, bad = [], [], list[bool](), list[int](), list[str]()
    for file in files:
        try:
            pages = read_image(file, keep_alpha=each_as_it_is)
            for number, page in enumerate(pages, start=1):
                name = f"'{file}'" + (f" (page {number})" if len(pages) > 1 else "")
                _check_numbers(page, name, "pixels")
                flat.append(page.ndim == 2)
                arrays.append(page[..., None] if page.ndim == 2 else page)
                names.append(name)
        except DataError as error:
            bad.append(str(error))
            continue
        counts.append(len(pages))
    if bad:
        raise DataError(bad[0] if len(bad) == 1 else f"{len(bad)} images cannot be used: " + " ".join(bad[:5]))
    if not each_as_it_is:
        widest = max(array.shape[2] for array in arrays)
        arrays = [np.repeat(array, widest, axis=2) if array.shape[2] == 1 else array for array in arrays]
    return _checked(Pictures(arrays, names, flat, pages=counts), what, each_as_it_is=each_as_it_is)


def _checked(pictures: Pictures, what: str, *, each_as_it_is: bool) -> Pictures:
    if not pictures.arrays:
        raise DataError(f"{what} is empty; at least one image is needed.")
    if each_as_it_is:
        return pictures
    first = pictures.arrays[0]
    for array, name in zip(pictures.arrays, pictures.names, strict=True):
        if array.shape[2] != first.shape[2]:
            raise DataError(
                f"{name} has {array.shape[2]} channels, but {pictures.names[0]} has {first.shape[2]}; all images need "
                "the same number; convert them."
            )
    return pictures


def _check_numbers(array: np.ndarray, what: str, noun: str) -> None:
    if array.dtype.kind not in "buif":
        raise DataError(f"{what} is of the dtype {array.dtype}; images need integers, booleans or floats.")
    if array.dtype.kind == "f" and array.size and not np.isfinite(array).all():
        bad = ~np.isfinite(array)
        place = tuple(map(int, np.argwhere(bad)[0]))
        word = "NaN" if np.isnan(array[place]) else "infinite"
        raise DataError(
            f"{what} has {int(bad.sum())} {noun} that are not finite, the first {word} at {place}; replace them."
        )
    if array.dtype == np.float64 and array.size and max(float(array.max()), -float(array.min())) > LARGEST:
        raise DataError(f"{what} has {noun} beyond {LARGEST:.2g}, the largest of single precision; divide them.")


# -- units -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Range:
    """The range of the images of a fit, which becomes [0, 1].

    Bytes and 16-bit images have the range of their dtype, whatever values occur. Floats and other integers have
    [0, 1] if they lie in it, otherwise their minimum and maximum at fit, and bytes among them count as such numbers.
    Noise exceeds the range of an image, so noisy images count as [0, 1] if their means lie in it.
    """

    low: float
    high: float

    @classmethod
    def of(cls, pictures: Pictures, *, noisy: bool = False) -> Range:
        """The range of the images that a model is fitted to."""
        if all(full_scale(array.dtype) for array in pictures.arrays):
            return cls(0.0, 1.0)
        units = [as_unit(array, None) for array in pictures.arrays]
        low, high = min(float(part.min()) for part in units), max(float(part.max()) for part in units)
        beyond = NOISY_BEYOND if noisy and all(-0.1 <= float(part.mean()) <= 1.1 for part in units) else 0.0
        if low >= -beyond and high <= 1.0 + beyond:
            return cls(0.0, 1.0)
        low = min(float(array.min()) for array in pictures.arrays)
        high = max(float(array.max()) for array in pictures.arrays)
        return cls(low, high if high > low else low + 1.0)

    @property
    def is_unit(self) -> bool:
        """Whether it is [0, 1], which is also the range of bytes and 16-bit images."""
        return self.low == 0.0 and self.high == 1.0

    def scaled(self, array: np.ndarray) -> Tensor:
        """Pixels as single-precision numbers, [0, 1] for the range."""
        unit = as_unit(array, None if self.is_unit else self)
        if self.is_unit:
            return torch.from_numpy(unit)
        return torch.from_numpy((unit - np.float32(self.low)) / np.float32(self.high - self.low))

    def unscaled(self, values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
        """The inverse, in a dtype: integers are rounded, and clipped to what the dtype holds."""
        limit = full_scale(dtype)
        if limit and self.is_unit:
            whole: np.ndarray = np.rint(np.clip(values, 0.0, 1.0) * np.float32(limit))
            return whole.astype(dtype)
        values = values if self.is_unit else values * np.float32(self.high - self.low) + np.float32(self.low)
        if dtype.kind == "f":
            return values.astype(dtype)
        info = np.iinfo(dtype)
        return np.clip(np.rint(values.astype(np.float64)), info.min, info.max).astype(dtype)

    def check(self, array: np.ndarray, name: str) -> None:
        """Raise an error if pixels lie so far outside that they must have another unit."""
        if full_scale(array.dtype) and self.is_unit:
            return
        low, high = float(array.min()), float(array.max())
        width = FAR * (self.high - self.low)
        if low < self.low - width or high > self.high + width:
            raise DataError(
                f"{name} has pixels from {low:g} to {high:g} ({array.dtype}), but the images of fit lie between "
                f"{self.low:g} and {self.high:g}{', or are bytes' if self.is_unit else ''}; convert it to that unit."
            )


def full_scale(dtype: np.dtype[Any]) -> int:
    """The value of white in images of this dtype; 0 if the dtype does not define it."""
    return {"bool": 1, "uint8": 255, "uint16": 65_535}.get(dtype.name, 0)


def as_unit(array: np.ndarray, own: Range | None) -> np.ndarray:
    """Single-precision pixels, divided by the value of white unless the range defines another unit."""
    limit = full_scale(array.dtype) if own is None else 0
    return array.astype(np.float32) / np.float32(limit) if limit else np.array(array, np.float32)
