"""Folders of damaged images: paired with their clean versions by name, or restored file by file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus.atomic import check_writable
from isthmus.data.image_writing import read_image_file, write_image_file
from isthmus.data.images import folder_files
from isthmus.exceptions import DataError, OutputError
from isthmus.tasks.restoration.pictures import Pictures, as_pictures
from isthmus.wording import counted

NAMED = 5
"""Files that a message names."""


@dataclass(frozen=True)
class RestoredFile:
    """The result of one file.

    Attributes
    ----------
    name
        Its path within the folder.
    damaged
        The file.
    path
        The restored file, or None.
    n_files
        Number of files in all.
    error
        The reason if there is no restored file, or "".
    """

    name: str
    damaged: Path
    path: Path | None
    n_files: int
    error: str = ""


def restore_folder(
    restorer: Any, folder: str | Path, out: str | Path, *, overwrite: bool = False
) -> Iterator[RestoredFile]:
    """Restore every image of a folder and its sub-folders into another folder, file by file.

    Names, sizes, formats, transparency, depths and pages are kept. Images are rotated by their EXIF data, and restored
    ones have no EXIF data. Palettes, CMYK and pure black and white become grey or RGB; lossy formats are written at
    high quality; colours have 8 bits. A file that cannot be restored is reported, also one of an image format that is
    not read, and the others are continued.

    Parameters
    ----------
    restorer
        A fitted `Restorer`.
    folder
        The damaged images.
    out
        The folder of the restored images, which is created if it is missing.
    overwrite
        Whether files in it are replaced.

    Yields
    ------
    RestoredFile
        After each file.

    Raises
    ------
    DataError
        There are no images.
    OutputError
        The output folder is the input folder or lies in it, or files of these names exist in it.
    """
    folder, out = Path(folder), Path(out)
    files, others = folder_files(folder), folder_files(folder, readable=False)
    _check_out(folder, out, files, overwrite=overwrite)
    n_files = len(files) + len(others)
    for file in files:
        name = file.relative_to(folder)
        try:
            image = read_image_file(file)
            restored = [restorer.restore([page])[0] for page in image.pages]
            _make_folder((out / name).parent)
            write_image_file(out / name, image, restored, overwrite=overwrite)
        except DataError as error:
            text = str(error).replace("X[0]", f"'{file}'")
            yield RestoredFile(name.as_posix(), file, None, n_files, text)
        except MemoryError:
            yield RestoredFile(name.as_posix(), file, None, n_files, f"'{file}' does not fit into memory.")
        else:
            yield RestoredFile(name.as_posix(), file, out / name, n_files)
    for file in others:
        text = f"'{file}' is of a format that cannot be read; convert it to PNG or TIFF."
        yield RestoredFile(file.relative_to(folder).as_posix(), file, None, n_files, text)


def _check_out(folder: Path, out: Path, files: list[Path], *, overwrite: bool) -> None:
    if out.resolve() == folder.resolve() or folder.resolve() in out.resolve().parents:
        raise OutputError(
            f"The output folder '{out}' is the folder of the images or lies in it, so that a second run would restore "
            "its own output; choose a folder beside it."
        )
    targets = [out / file.relative_to(folder) for file in files]
    for parent in dict.fromkeys(target.parent for target in targets):
        _check_folder(parent)
    for target in targets:
        if target.parent.is_dir():
            check_writable(target, overwrite=overwrite)


def _check_folder(folder: Path) -> None:
    """Raise an error if a folder cannot be made, or nothing can be made in it; makes nothing."""
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise OutputError(f"'{there}' is a file, but a folder for the restored images is needed; choose another name.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(
            f"The folder '{there}' is not writable; choose another output folder or change its permissions."
        )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder '{folder}' cannot be made: {error.strerror or error}.") from None


def pairs_of(X: Any, target: Any, what: str = "target") -> tuple[Pictures, Pictures]:
    """Damaged images and their targets, which messages call `what`: matched by name in two folders, else in order."""
    if isinstance(X, str | Path) and isinstance(target, str | Path):
        given, wanted = paired_folders(Path(X), Path(target))
    else:
        given, wanted = as_pictures(X), as_pictures(target, what)
    _check_pages(given, wanted)
    return given, wanted


def _check_pages(given: Pictures, wanted: Pictures) -> None:
    """Raise an error if a file and its partner have different numbers of pages, which would shift all pairs below."""
    if len(given.pages) != len(wanted.pages):
        return  # not files, or the numbers of files differ, which `scale_of` reports
    first = other = 0
    for n_given, n_wanted in zip(given.pages, wanted.pages, strict=True):
        if n_given != n_wanted:
            raise DataError(
                f"{given.names[first]} is of a file of {counted(n_given, 'page')}, but {wanted.names[other]} of one of "
                f"{counted(n_wanted, 'page')}; the two files of a pair need as many pages."
            )
        first, other = first + n_given, other + n_wanted


def paired_folders(damaged: Path, clean: Path) -> tuple[Pictures, Pictures]:
    """Damaged images and their clean versions, which have the same names, from two folders.

    Suffixes may differ, but no two images of a folder may differ only by their suffix.

    Raises
    ------
    DataError
        A name is in one folder only, or an image cannot be read.
    """
    sides = {folder: _by_name(folder) for folder in (damaged, clean)}
    alone = [
        f"{len(lonely)} of {len(sides[here])} images in '{here}' without a partner in '{there}': {_named(lonely)}"
        for here, there in ((damaged, clean), (clean, damaged))
        if (lonely := [name for name in sides[here] if name not in sides[there]])
    ]
    if alone:
        raise DataError(
            f"{'; '.join(alone)}. Pairs need the same file names in both folders; rename or remove these images."
        )
    names = list(sides[damaged])
    return (
        as_pictures([sides[damaged][name] for name in names], "damaged images"),
        as_pictures([sides[clean][name] for name in names], "clean images"),
    )


def _by_name(folder: Path) -> dict[str, Path]:
    """The images of a folder by their path in it, without the suffix."""
    found = dict[str, Path]()
    for file in folder_files(folder):
        name = file.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise DataError(
                f"'{found[name]}' and '{file}' differ only by their suffix; keep one of them, because pairs are "
                "matched by name."
            )
        found[name] = file
    return found


def _named(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
