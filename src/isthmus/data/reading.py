"""Reading whatever a user names: a set, a file or a folder of images."""

from __future__ import annotations

from pathlib import Path

from isthmus.choices.registry import unknown
from isthmus.data import datasets
from isthmus.data.datasets import Dataset
from isthmus.data.formats import read_frame, read_idx, read_npy, read_npz
from isthmus.data.images import ImageFolder
from isthmus.exceptions import DataError

SUFFIXES = (".csv", ".gz", ".npy", ".npz", ".parquet", ".idx3-ubyte", ".idx1-ubyte")


def read(path_or_name: str | Path, *, skip_bad: bool = False) -> Dataset:
    """Rows from a named set, a file, or a folder of images.

    Parameters
    ----------
    path_or_name
        A name such as ``"digits"`` (see `isthmus.datasets.names`); a .csv, .parquet, .npy (memory-mapped), .npz (arrays
        X and y) or idx .gz file; or a folder of images, whose sub-folders become the labels `y`.
    skip_bad
        Leave out images that cannot be read or differ in size.

    Returns
    -------
    Dataset
        With the rows as `X`: an array, a frame, or a `Source` that reads when needed.

    Raises
    ------
    DataError
        There is nothing of that name, or the file cannot be read.

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
    if path.is_file():
        return _read_file(path)
    raise DataError(f"There is no file, folder or dataset {name!r}. {unknown('dataset', name, datasets.names())}")


def _read_file(path: Path) -> Dataset:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"'{path}' has the ending {suffix!r}, but one of {', '.join(SUFFIXES)} is needed.")
    if suffix in (".csv", ".parquet"):
        frame = read_frame(path)
        return Dataset(path.stem, frame, feature_names=[str(column) for column in frame.columns])
    if suffix == ".npz":
        X, y = read_npz(path)
        return Dataset(path.stem, X, y)
    return Dataset(path.stem, read_npy(path) if suffix == ".npy" else read_idx(path))
