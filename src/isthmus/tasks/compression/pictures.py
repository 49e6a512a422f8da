"""Images for compression: bytes with one or three channels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from isthmus.data.image_decoding import read_image
from isthmus.data.images import folder_files
from isthmus.exceptions import ConversionWarning, DataError


@dataclass(frozen=True)
class Pictures:
    """Images and the form in which they were given.

    Attributes
    ----------
    arrays
        One array per image, (h, w, 1) or (h, w, 3) uint8.
    names
        Names of the files, or nothing.
    stacked, flat
        Whether they were one array, and whether they had no axis of channels.
    """

    arrays: Sequence[np.ndarray]
    names: Sequence[str] = ()
    stacked: bool = False
    flat: bool = False


def as_pictures(X: Any, *, skip_bad: bool = False) -> Pictures:
    """Read images: an array (n, h, w) or (n, h, w, c), a list of (h, w) or (h, w, c), or a folder.

    Raises
    ------
    DataError
        They are not bytes, not of one or three channels, empty, or cannot be read.
    TypeError
        X is none of these.
    """
    if isinstance(X, str | Path):
        return _of_folder(Path(X), skip_bad=skip_bad)
    if isinstance(X, np.ndarray | torch.Tensor):
        array = np.asarray(X)
        if array.ndim not in (3, 4) or (array.ndim == 3 and array.shape[2] == 3 and array.shape[1] > 3):
            raise DataError(
                f"X has the shape {array.shape}, but images need (n, h, w) or (n, h, w, c). Pass a single image as a "
                "list, [image]."
            )
        flat = array.ndim == 3
        arrays = [_checked(image, f"X[{place}]") for place, image in enumerate(array)]
        if not arrays:
            raise DataError(f"X is empty, of shape {array.shape}: there are no images; at least one is needed.")
        return Pictures(arrays, stacked=True, flat=flat)
    if not isinstance(X, Sequence):
        raise TypeError(
            f"X is a {type(X).__name__}; pass an array (n, h, w) or (n, h, w, c), a list of images or the path of a "
            "folder."
        )
    arrays = [_checked(np.asarray(image), f"X[{place}]") for place, image in enumerate(X)]
    if not arrays:
        raise DataError("X is an empty list; at least one image is needed.")
    return Pictures(arrays, flat=all(np.ndim(image) == 2 for image in X))


def _checked(image: np.ndarray, name: str) -> np.ndarray:
    if image.dtype != np.uint8:
        raise DataError(
            f"{name} is of the dtype {image.dtype}, but the codec takes bytes; convert it, as in "
            "(image * 255).round().astype('uint8') for floats in [0, 1] and (image >> 8).astype('uint8') for 16 bits."
        )
    shaped = image[..., None] if image.ndim == 2 else image
    if shaped.ndim != 3 or not shaped.size or shaped.shape[2] not in (1, 3):
        raise DataError(
            f"{name} has the shape {image.shape}; an image needs (h, w), (h, w, 1) or (h, w, 3); reshape it."
        )
    return shaped


def _of_folder(folder: Path, *, skip_bad: bool) -> Pictures:
    """All images of a folder at any depth; each page of a file is one."""
    arrays, names, bad, reduced = [], [], list[str](), 0
    for file in folder_files(folder):
        try:
            pages = read_image(file)
        except DataError as error:
            bad.append(str(error))
            continue
        name = file.relative_to(folder).as_posix()
        for number, page in enumerate(pages, start=1):
            if page.dtype not in (np.uint8, np.uint16):
                bad.append(f"'{file}' has {page.dtype} pixels; convert it to 8 bits.")
                break
            reduced += page.dtype == np.uint16
            eight = (page >> 8).astype(np.uint8) if page.dtype == np.uint16 else page
            arrays.append(_checked(eight, f"'{file}'"))
            names.append(name if len(pages) == 1 else f"{name}#{number}")
    if bad and (not skip_bad or not arrays):
        shown = bad[0] if len(bad) == 1 else f"{len(bad)} images cannot be used: " + " ".join(bad[:5])
        raise DataError(f"{shown} Skip them with skip_bad=True, --skip-bad.")
    if reduced or bad:
        parts = [f"{reduced} with 16 bits reduced to 8"] * bool(reduced) + [f"{len(bad)} left out"] * bool(bad)
        warnings.warn(f"Images in '{folder}': {'; '.join(parts)}.", ConversionWarning, stacklevel=2)
    return Pictures(arrays, names)
