"""Folders of images: in natural order, decoded as viewers display them, labelled by sub-folder."""

from __future__ import annotations

import os
import re
import stat
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from isthmus.data.image_decoding import UNREADABLE, as_seen, dtype_of, opened, page_numbers
from isthmus.data.sources import Rows, Source
from isthmus.exceptions import ConversionWarning, DataError

IMAGE_SUFFIXES = frozenset(
    {".apng", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"}
    | {".tif", ".tiff", ".webp"}
)
OTHER_SUFFIXES = frozenset(
    {".arw", ".avif", ".cr2", ".cr3", ".dng", ".exr", ".heic", ".heif", ".jp2", ".jxl", ".nef", ".psd", ".svg"}
)
"""Image formats that are not read; they are reported, because skipping them silently would lose rows."""
MODES = {"L": 1, "RGB": 3, "RGBA": 4}
"""Number of channels of each output mode."""

CONVERSIONS = {
    "rotated": "{n} rotated according to their EXIF data",
    "composited": "{n} with transparency composited over white (mode='RGBA' keeps it as a fourth channel)",
    "palette": "{n} with a palette of greys read as one channel",
    "cmyk": "{n} converted from CMYK to RGB",
    "reduced": "{n} with 16 bits a colour channel read with 8",
    "mpo": "{n} with further pictures of the camera (MPO), of which the first is read",
    "pages": "{n} rows are pages or frames of files with several (pages='first' takes one a file)",
    "widened": "{n} grey ones repeated in three channels, because others are coloured (mode='L' makes all grey)",
    "greyed": "{n} coloured ones made grey",
    "deepened": "{n} with 8 bits multiplied by 257, because others have 16",
    "other": "{n} images of formats that cannot be read left out ({names})",
}
"""Possible conversions, in the words of the warning."""


@dataclass(frozen=True)
class _Page:
    """Properties of one page of a file, found by the survey."""

    file: Path
    number: int
    size: tuple[int, int]
    coloured: bool
    dtype: np.dtype[np.generic]
    done: frozenset[str]


class ImageFolder(Source):
    """The images of a folder as viewers display them, decoded by worker threads on demand.

    * Order: natural, and the same on every machine: ``img2`` before ``img10``. Hidden files (``.x``, ``._x``) are
      skipped.
    * Sub-folders are classes, as in torchvision's ``ImageFolder``: their names are the `labels` of the images below.
    * Depth: 8-bit images give uint8 (0–255), 16-bit grey images uint16 (0–65,535), 32-bit integers int32, floats
      float32; values are never clipped. If a folder mixes 8 and 16 bits, 8-bit values are multiplied by 257, which maps
      black to black and white to white. 32-bit integers and floats mixed with other types raise an error, because they
      have no common scale.
    * Rotation from EXIF is applied. Transparent pixels are composited over white, unless ``mode="RGBA"`` keeps them.
    * Every page of a TIFF file and every frame of an animation is a row.

    All conversions are reported in one `ConversionWarning` and listed in `conversions`.

    Parameters
    ----------
    path
        A folder.
    size
        (height, width) to which every image is resized (bilinear, with antialiasing); None requires that all have the
        same size.
    crop
        With `size`: crop the centre to the target aspect ratio before resizing, instead of stretching.
    mode
        ``"L"`` (grey), ``"RGB"`` or ``"RGBA"``; None: grey if all images are grey, else RGB.
    pages
        Whether ``"all"`` pages of a file are rows, or only the ``"first"``.
    subfolders
        ``"auto"``: images are either in the folder itself, or in sub-folders that are classes; a mixture raises an
        error. ``"labels"``: only images in sub-folders, with labels. ``"all"``: all images at any depth, without
        labels. ``"ignore"``: only images in the folder itself.
    skip_bad
        Skip files that cannot be read or differ in size, instead of raising an error.
    n_workers
        Number of decoding threads; None: one per core, at most 8.

    Attributes
    ----------
    files
        The file of each row.
    labels
        The sub-folder of each row, (n,), or None without classes.
    conversions
        Descriptions of the conversions.

    Raises
    ------
    DataError
        The folder has no images, or some cannot be read, are not regular files, or differ in size or type; the message
        names them.
    """

    random_access = False

    def __init__(
        self,
        path: str | Path,
        *,
        size: tuple[int, int] | None = None,
        crop: bool = False,
        mode: str | None = None,
        pages: str = "all",
        subfolders: str = "auto",
        skip_bad: bool = False,
        n_workers: int | None = None,
    ) -> None:
        _check_parameters(size, crop, mode, pages, subfolders)
        self.path, self._size, self._crop = Path(path), size, crop
        self._keep_alpha, self._only_first = mode == "RGBA", pages == "first"
        self._n_workers = n_workers or min(8, os.cpu_count() or 1)
        files, names, others = _image_files(self.path, subfolders)
        self._pages = self._survey(files, skip_bad)
        self.files = [page.file for page in self._pages]
        self.labels = None if names is None else np.array([names[file] for file in self.files])
        self._mode = mode or ("RGB" if any(page.coloured for page in self._pages) else "L")
        self.dtype = _common_dtype(self.path, self._pages, self._mode)
        shape, channels = size or self._pages[0].size, MODES[self._mode]
        self.n_rows, self.feature_shape = len(self._pages), shape if channels == 1 else (*shape, channels)
        self.conversions = _conversions(self._pages, self._mode, self.dtype, others)
        if self.conversions:
            text = f"Images in '{self.path}' were converted: {'; '.join(self.conversions)}."
            warnings.warn(text, ConversionWarning, stacklevel=2)

    def _survey(self, files: Sequence[Path], skip_bad: bool) -> list[_Page]:
        """Inspect every page of every file once; unusable files raise an error or are skipped."""
        with ThreadPoolExecutor(self._n_workers) as pool:
            found = list(pool.map(lambda file: _survey_file(file, self._keep_alpha, self._only_first), files))
        sizes = [page.size for pages in found if not isinstance(pages, str) for page in pages]
        common = max(sorted(set(sizes)), key=sizes.count) if sizes and self._size is None else None
        keep: list[_Page] = []
        bad: list[str] = []
        for file, pages in zip(files, found, strict=True):
            name = file.relative_to(self.path).as_posix()
            odd = [] if isinstance(pages, str) else [page.size for page in pages if common not in (None, page.size)]
            if isinstance(pages, str):
                bad.append(f"{name} ({pages})")
            elif odd:
                bad.append(f"{name} ({odd[0][0]}×{odd[0][1]})")
            else:
                keep += pages
        if not keep or (bad and not skip_bad):
            raise DataError(_bad_files_text(self.path, bad, len(files), common))
        return keep

    def read(self, rows: Rows) -> np.ndarray:
        pages = self._pages[rows] if isinstance(rows, slice) else [self._pages[index] for index in rows]
        # Each file is opened once: opening an animation of n frames for each frame would decode n²/2 frames.
        visits = [(file, [page.number for page in run]) for file, run in groupby(pages, key=lambda page: page.file)]
        with ThreadPoolExecutor(self._n_workers) as pool:
            images = [image for decoded in pool.map(lambda visit: self._decode(*visit), visits) for image in decoded]
        return np.stack(images) if images else np.empty((0, *self.feature_shape), self.dtype)

    def _decode(self, file: Path, numbers: Sequence[int]) -> list[np.ndarray]:
        try:
            with opened(file) as image:
                arrays = []
                for number in numbers:
                    image.seek(number)
                    seen, _ = as_seen(image, self._keep_alpha)
                    arrays.append(_to_array(self._resized(seen), self._mode, self.dtype))
        except UNREADABLE as error:
            raise DataError(f"The image '{file}' cannot be decoded ({error}); repair or remove it.") from None
        for array in arrays:
            if array.shape != self.feature_shape:
                raise DataError(f"The image '{file}' changed after the folder was opened; open the folder again.")
        return arrays

    def _resized(self, image: Image.Image) -> Image.Image:
        if self._size is None:
            return image
        # 16-bit modes are resampled as 32-bit integers: Pillow then rounds once, at full depth.
        image = image.convert("I") if image.mode.startswith("I;16") else image
        width_first = self._size[::-1]
        if self._crop:
            return ImageOps.fit(image, width_first, Image.Resampling.BILINEAR)
        return image.resize(width_first, Image.Resampling.BILINEAR)


def _check_parameters(size: tuple[int, int] | None, crop: bool, mode: str | None, pages: str, subfolders: str) -> None:
    if mode is not None and mode not in MODES:
        raise ValueError(f"mode={mode!r} must be 'L' (grey), 'RGB', 'RGBA' or None.")
    if pages not in ("all", "first"):
        raise ValueError(f"pages={pages!r} must be 'all' or 'first'.")
    if subfolders not in ("auto", "labels", "all", "ignore"):
        raise ValueError(f"subfolders={subfolders!r} must be 'auto', 'labels', 'all' or 'ignore'.")
    if size is not None and not (len(size) == 2 and all(int(side) == side and side >= 1 for side in size)):
        raise ValueError(f"size={size!r} must be (height, width), two integers >= 1.")
    if crop and size is None:
        raise ValueError("crop=True needs size=(height, width).")


# -- single images -----------------------------------------------------------------------------------------------------


def folder_files(path: Path, *, readable: bool = True) -> list[Path]:
    """The images of a folder and its sub-folders, in natural order, or those of formats that cannot be read.

    Raises
    ------
    DataError
        There is no such folder, or no image in it.
    """
    files, _, others = _image_files(path, "all")
    return files if readable else others


# -- finding files ---------------------------------------------------------------------------------------------------


def natural_key(path: Path) -> list[tuple[list[tuple[int, int, str]], str]]:
    """Sort key for natural order: numbers by value, letters without case, ties by the exact name.

    >>> [path.name for path in sorted([Path("img10"), Path("Img2"), Path("img1")], key=natural_key)]
    ['img1', 'Img2', 'img10']
    """
    return [
        (
            [
                (0, int(part), "") if part.isdecimal() else (1, 0, part.casefold())
                for part in re.split(r"(\d+)", name)
                if part
            ],
            name,
        )
        for name in path.parts
    ]


def _image_files(path: Path, subfolders: str) -> tuple[list[Path], dict[Path, str] | None, list[Path]]:
    """The images of a folder in order, the class of each or None, and the images of unsupported formats."""
    if not path.is_dir():
        is_file = f"'{path}' is a file, but a folder of images is needed; pass the folder that holds it."
        raise DataError(is_file if path.exists() else f"There is no folder '{path}'; check the path.")
    found = sorted(
        _visible_files(path, deep=subfolders != "ignore"), key=lambda file: natural_key(file.relative_to(path))
    )
    others = [file for file in found if file.suffix.lower() in OTHER_SUFFIXES]
    files = [file for file in found if file.suffix.lower() in IMAGE_SUFFIXES]
    inside = [file for file in files if file.parent != path]
    labelled = subfolders == "labels" or (subfolders == "auto" and bool(inside))
    if subfolders == "auto" and inside and len(inside) < len(files):
        raise DataError(
            f"The folder '{path}' contains {len(files) - len(inside)} images itself and {len(inside)} in sub-folders, "
            "so it is unclear whether sub-folders are classes. Move the images, or pass subfolders='labels', 'all' or "
            "'ignore' to isthmus.ImageFolder."
        )
    files = inside if labelled else files
    if not files:
        remedy = f"convert {others[0].name} and the like" if others else "check the path"
        raise DataError(f"The folder '{path}' has no images ({', '.join(sorted(IMAGE_SUFFIXES))}); {remedy}.")
    names = {file: file.relative_to(path).parts[0] for file in files} if labelled else None
    return files, names, others


def _visible_files(path: Path, *, deep: bool) -> Iterator[Path]:
    """All visible files; also folders named like images, so that they raise an error instead of being overlooked."""
    visited: set[str] = set()
    for folder, subfolders, names in os.walk(path, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:  # a link to a parent folder
            subfolders.clear()
            continue
        visited.add(real)
        hidden = [name for name in subfolders if name.startswith(".") or name == "__MACOSX"]
        like_images = [name for name in subfolders if Path(name).suffix.lower() in IMAGE_SUFFIXES]
        subfolders[:] = [name for name in subfolders if deep and name not in (*hidden, *like_images)]
        for name in (*names, *like_images):
            if not name.startswith("."):
                yield Path(folder) / name


# -- inspecting one file -----------------------------------------------------------------------------------------------


def _survey_file(file: Path, keep_alpha: bool, only_first: bool) -> list[_Page] | str:
    """The pages of a file, or the reason why it cannot be used; pixels are decoded once and not kept."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            return "not a regular file"  # opening a pipe would block forever
        with opened(file) as image:
            numbers = page_numbers(image)[: 1 if only_first else None]
            return [_survey_page(image, file, number, keep_alpha, len(numbers)) for number in numbers]
    except UNREADABLE:
        return "unreadable"


def _survey_page(image: Image.Image, file: Path, number: int, keep_alpha: bool, n_pages: int) -> _Page:
    image.seek(number)
    several = (
        {"pages"} if n_pages > 1 else {"mpo"} if image.format == "MPO" and getattr(image, "n_frames", 1) > 1 else set()
    )
    seen, done = as_seen(image, keep_alpha)
    return _Page(file, number, seen.size[::-1], seen.mode.startswith("RGB"), dtype_of(seen), frozenset(done | several))


# -- converting to one type --------------------------------------------------------------------------------------------


def _common_dtype(path: Path, pages: Sequence[_Page], mode: str) -> np.dtype[np.generic]:
    """One dtype for all pages: 8 and 16 bits share black and white; other types have no common scale."""
    kinds = {page.dtype: page.file.relative_to(path).as_posix() for page in reversed(pages)}
    if set(kinds) == {np.dtype(np.uint8), np.dtype(np.uint16)}:
        return np.dtype(np.uint16)
    if len(kinds) > 1:
        named = ", ".join(f"{dtype} (such as {name})" for dtype, name in sorted(kinds.items(), key=str))
        raise DataError(
            f"The images in '{path}' have pixels of different types: {named}. These have no common scale; put each "
            "type in a separate folder, or convert them."
        )
    (dtype,) = kinds
    if mode == "RGBA" and dtype not in (np.dtype(np.uint8), np.dtype(np.uint16)):
        raise DataError(f"mode='RGBA' needs images of 8 or 16 bits, but those in '{path}' are {dtype}; use mode='L'.")
    return dtype


def _to_array(image: Image.Image, mode: str, dtype: np.dtype[np.generic]) -> np.ndarray:
    """Pixels in the mode and dtype of the folder: (h, w), (h, w, 3) or (h, w, 4)."""
    if image.mode in ("L", "LA", "RGB", "RGBA"):
        array = np.asarray(image.convert(mode))
        return array.astype(np.uint16) * np.uint16(257) if dtype == np.uint16 else array
    array = np.asarray(image).astype(dtype)
    if mode == "L":
        return array
    opaque = [np.full_like(array, np.iinfo(np.uint16).max)] if mode == "RGBA" else []
    return np.stack([array, array, array, *opaque], axis=-1)


def _conversions(
    pages: Sequence[_Page], mode: str, dtype: np.dtype[np.generic], others: Sequence[Path]
) -> tuple[str, ...]:
    counts = Counter(name for page in pages for name in page.done)
    if mode != "L" and any(page.coloured for page in pages):
        counts["widened"] = sum(not page.coloured for page in pages)
    if mode == "L":
        counts["greyed"] = sum(page.coloured for page in pages)
    counts["deepened"] = sum(page.dtype != dtype for page in pages)
    counts["other"] = len(others)
    named = ", ".join(file.name for file in others[:3]) + (", …" if len(others) > 3 else "")
    return tuple(text.format(n=counts[name], names=named) for name, text in CONVERSIONS.items() if counts[name])


def _bad_files_text(path: Path, bad: Sequence[str], n_files: int, common: tuple[int, int] | None) -> str:
    named = ", ".join(bad[:5]) + (", …" if len(bad) > 5 else "")
    size = f"; most are {common[0]}×{common[1]}" if common else ""
    return (
        f"{len(bad)} of {n_files} images in '{path}' cannot be used: {named}{size}. Repair or remove them, pass "
        "size=(height, width) to resize them if sizes differ, or skip them (skip_bad=True, --skip-bad)."
    )
