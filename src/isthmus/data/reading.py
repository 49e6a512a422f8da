"""Read a data set by name, a file, or a folder of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isthmus.choices.registry import unknown
from isthmus.data import datasets
from isthmus.data.datasets import Dataset
from isthmus.data.formats import read_idx, read_npy, read_npz
from isthmus.data.images import ImageFolder
from isthmus.data.paths import check_regular_file
from isthmus.exceptions import DataError

ARRAY_SUFFIXES = (".npy", ".npz", ".gz", ".idx3-ubyte", ".idx1-ubyte")


def read(
    path_or_name: str | Path,
    *,
    skip_bad: bool = False,
    keep: Sequence[str] = (),
    header: bool | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
) -> Dataset:
    """Read rows from a named data set, a file, or a folder of images.

    Parameters
    ----------
    path_or_name
        A name such as ``"digits"`` (see `isthmus.datasets.names`); a table in a .csv, .tsv, .txt, .parquet, .feather or
        .arrow file (text files may be gzipped); a .npy (memory-mapped), .npz (arrays X and y) or idx .gz file; or a
        folder of images, whose sub-folders become the labels `y`.
    skip_bad
        Skip images that cannot be read or differ in size.
    keep
        Columns of a table that are not features, such as identifiers; they are returned in `Dataset.kept` instead of
        `X`. ``"index"`` is an unnamed first column, which is never a feature.
    header
        Whether the first line of a text file contains the column names; None: detected, with a warning if there are
        none.
    delimiter
        Cell separator of a text file; None: detected among ``,``, ``;``, tab and ``|``.
    encoding
        Encoding of a text file; None: detected among UTF-8, UTF-16 and Windows-1252 (Latin-1).

    Returns
    -------
    Dataset
        Its `X` is an array, a frame, or a `Source` that reads rows on demand.

    Raises
    ------
    DataError
        No file, folder or data set has that name, or the file cannot be read.

    Examples
    --------
    >>> read("digits").X.shape
    (1797, 8, 8)
    """
    name = str(path_or_name)
    path = Path(path_or_name)
    if name in datasets.names():
        return datasets.load(name)
    if path.is_dir():
        folder = ImageFolder(path, skip_bad=skip_bad)
        return Dataset(path.name, folder, folder.labels)
    if path.exists():
        check_regular_file(path)
        return _read_file(path, keep, {"header": header, "delimiter": delimiter, "encoding": encoding})
    raise DataError(f"There is no file, folder or dataset {name!r}. {unknown('dataset', name, datasets.names())}")


def _read_file(path: Path, keep: Sequence[str], text: dict[str, Any]) -> Dataset:
    # The table modules take a third of a second to import; arrays and images do not need them.
    from isthmus.data.tables.dialect import TextFormat  # noqa: PLC0415
    from isthmus.data.tables.frames import read_frame  # noqa: PLC0415
    from isthmus.data.tables.stored import SUFFIXES  # noqa: PLC0415

    suffix = path.suffix.lower()
    if path.name.lower().endswith(SUFFIXES):
        frame, kept = read_frame(path, TextFormat(**text), keep=keep)
        return Dataset(path.stem, frame, feature_names=[str(name) for name in frame.columns], kept=kept)
    if suffix not in ARRAY_SUFFIXES:
        known = ", ".join((*SUFFIXES, *ARRAY_SUFFIXES))
        raise DataError(
            f"'{path}' has the suffix {path.suffix!r}, but one of {known} is needed; save it in one of these formats."
        )
    if keep:
        raise DataError(f"'{path}' contains an array without column names; keep={list(keep)!r} needs a table.")
    if suffix == ".npz":
        X, y = read_npz(path)
        return Dataset(path.stem, X, y)
    return Dataset(path.stem, read_npy(path) if suffix == ".npy" else read_idx(path))
