"""Public data sets by name: locating, downloading and reading them.

Files are searched in ``$ISTHMUS_DATA``, then in the user's cache folder (``$ISTHMUS_CACHE``, else the platform's, such
as ``~/.cache/isthmus``), and verified by hash. Missing files are downloaded if their publisher offers them. This
library contains none of the data; each data set has its own licence.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from isthmus.choices.registry import unknown
from isthmus.data.formats import read_idx
from isthmus.exceptions import DataError

__all__ = [
    "Dataset",
    "DatasetInfo",
    "available",
    "data_folders",
    "load",
    "load_binarized_mnist",
    "load_cifar10",
    "load_digits",
    "load_ecg5000",
    "load_fashion_mnist",
    "load_frey_faces",
    "load_mnist",
    "load_olivetti",
    "names",
]


@dataclass(frozen=True)
class Dataset:
    """A data set in memory.

    Attributes
    ----------
    name
        Its short name.
    X, y
        Training rows, and their labels or None.
    X_test, y_test
        Held-out rows and labels, or None.
    feature_names
        Names of the columns of a table, or None.
    kept
        The columns of a table that are not features (a pandas frame), or None.
    """

    name: str
    X: Any
    y: np.ndarray | None = None
    X_test: Any = None
    y_test: np.ndarray | None = None
    feature_names: list[str] | None = None
    kept: Any = None


@dataclass(frozen=True)
class File:
    """One file of a data set: its path below the data folder, its hash, and its download URL (or "")."""

    path: str
    digest: str
    url: str = ""
    algorithm: str = "sha256"


@dataclass(frozen=True)
class DatasetInfo:
    """Description of a data set, available without reading it.

    Attributes
    ----------
    name, shape, licence, home
        Short name; shape in words; terms of use; web page.
    path
        Its local folder or file; None if it is not on this machine.
    size_bytes
        Size of its local files.
    """

    name: str
    shape: str
    licence: str
    home: str
    path: Path | None
    size_bytes: int

    @property
    def present(self) -> bool:
        """Whether it is on this machine."""
        return self.path is not None


@dataclass(frozen=True)
class _Entry:
    """A row of the table of data sets."""

    name: str
    files: tuple[File, ...]
    parse: Callable[[str, list[Path]], Dataset]
    shape: str
    licence: str
    home: str


def data_folders() -> list[Path]:
    """The folders that are searched for data sets, in order; downloads go to the last."""
    cache = os.environ.get("ISTHMUS_CACHE") or platformdirs.user_cache_dir("isthmus")
    given = os.environ.get("ISTHMUS_DATA")
    return [*([Path(given).expanduser()] if given else []), Path(cache).expanduser()]


def names() -> list[str]:
    """Short names of all data sets."""
    return ["digits", *_TABLE]


def available() -> list[DatasetInfo]:
    """All data sets, with their local paths."""
    return [_info(entry) for entry in (_DIGITS, *_TABLE.values())]


def load(name: str) -> Dataset:
    """Load a data set by its short name; download it first if it is missing and its publisher offers it.

    Raises
    ------
    ValueError
        No data set has that name.
    DataError
        The data set is missing and cannot be downloaded, or a file differs from the published one.

    Examples
    --------
    >>> load("digits").X.shape
    (1797, 8, 8)
    """
    if name == "digits":
        return _digits(name, [])
    if name not in _TABLE:
        raise ValueError(unknown("dataset", name, names()))
    entry = _TABLE[name]
    return entry.parse(name, [_fetch(file, entry) for file in entry.files])


def load_digits() -> Dataset:
    """1,797 handwritten digits, 8×8, in [0, 1], bundled with scikit-learn."""
    return load("digits")


def load_mnist() -> Dataset:
    """MNIST: 60,000 + 10,000 handwritten digits, 28×28 bytes."""
    return load("mnist")


def load_fashion_mnist() -> Dataset:
    """Fashion-MNIST: 60,000 + 10,000 images of clothing, 28×28 bytes."""
    return load("fashion-mnist")


def load_binarized_mnist() -> Dataset:
    """Statically binarised MNIST (Larochelle): 50,000 + 10,000 validation rows in X, 10,000 in X_test; 784 bits."""
    return load("binarized-mnist")


def load_cifar10() -> Dataset:
    """CIFAR-10, first training batch and first 1,000 test images: 32×32×3 bytes."""
    return load("cifar10")


def load_olivetti() -> Dataset:
    """Olivetti faces: 400 faces of 40 people, 64×64 bytes."""
    return load("olivetti")


def load_frey_faces() -> Dataset:
    """Frey faces: 1,965 frames of one face, 28×20 bytes."""
    return load("frey-faces")


def load_ecg5000() -> Dataset:
    """ECG5000: 5,000 heart beats of 140 samples; y is 1 for an abnormal beat."""
    return load("ecg5000")


def _fetch(file: File, entry: _Entry) -> Path:
    for folder in data_folders():
        path = folder / file.path
        if path.is_file():
            _check(path, file, path.stat().st_mtime_ns)
            return path
    if not file.url:
        raise DataError(_absent(file, entry, "it has no direct download"))
    target = data_folders()[-1] / file.path
    try:
        _download(file, target)
    except OSError as error:
        raise DataError(_absent(file, entry, f"the download from {file.url} failed: {error}")) from None
    return target


def _absent(file: File, entry: _Entry, reason: str) -> str:
    where = " or ".join(f"'{folder / file.path}'" for folder in data_folders())
    return (
        f"The dataset {entry.name} needs the file {file.path}, which is not on this machine, and {reason}. "
        f"Get it from {entry.home} and put it at {where} (ISTHMUS_DATA names the first folder)."
    )


@functools.cache
def _check(path: Path, file: File, _modified: int) -> None:
    """Raise if a file differs from the published one; each file is hashed once per process."""
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, file.algorithm).hexdigest()
    if found != file.digest:
        raise DataError(
            f"'{path}' is not the published file: its {file.algorithm} is {found}, not {file.digest}; "
            "delete it and get it again."
        )


def _download(file: File, target: Path) -> None:
    """Download with a progress bar; the file gets its final name only after its hash is verified.

    Raises
    ------
    OSError
        The server cannot be reached or does not have the file, or the file cannot be written.
    DataError
        The downloaded file differs from the published one.
    """
    import pooch  # noqa: PLC0415  # imports requests, which only a download needs

    bar, known_hash = _DownloadBar(target.name), f"{file.algorithm}:{file.digest}"
    downloader = pooch.HTTPDownloader(progressbar=bar, timeout=60)
    try:
        pooch.retrieve(file.url, known_hash, target.name, target.parent, downloader=downloader)
    except ValueError as error:  # pooch raises it for a wrong hash
        raise DataError(f"The file at {file.url} is not the published file: {error}") from None
    finally:
        bar.close()


class _DownloadBar:
    """A rich progress bar with the interface that pooch expects: `total` is set, then `update` adds bytes."""

    def __init__(self, name: str) -> None:
        from rich.progress import Progress  # noqa: PLC0415  # slow to import, and only a download needs it

        self._progress = Progress(transient=True)
        self._task = self._progress.add_task(name, total=None)
        self._progress.start()

    @property
    def total(self) -> float | None:
        """Size of the file in bytes."""
        return self._progress.tasks[0].total

    @total.setter
    def total(self, n_bytes: int) -> None:
        self._progress.update(self._task, total=n_bytes or None)

    def update(self, n_bytes: int) -> None:
        """Add to the number of downloaded bytes."""
        self._progress.advance(self._task, n_bytes)

    def reset(self) -> None:
        """Restart at zero."""
        self._progress.update(self._task, completed=0)

    def close(self) -> None:
        """Remove the bar."""
        self._progress.stop()


def _info(entry: _Entry) -> DatasetInfo:
    if not entry.files:
        return DatasetInfo(entry.name, entry.shape, entry.licence, entry.home, Path("scikit-learn"), 0)
    for folder in data_folders():
        paths = [folder / file.path for file in entry.files]
        if all(path.is_file() for path in paths):
            size = sum(path.stat().st_size for path in paths)
            return DatasetInfo(entry.name, entry.shape, entry.licence, entry.home, paths[0].parent, size)
    return DatasetInfo(entry.name, entry.shape, entry.licence, entry.home, None, 0)


# -- reading each data set ---------------------------------------------------------------------------------------------


def _digits(name: str, _: list[Path]) -> Dataset:
    from sklearn.datasets import load_digits as bundled  # noqa: PLC0415  # takes a second to import; only this set needs it

    bunch = bundled()
    return Dataset(name, bunch.images / 16.0, bunch.target)


def _four_idx(name: str, paths: list[Path]) -> Dataset:
    X, y, X_test, y_test = (read_idx(path) for path in paths)
    return Dataset(name, X, y.astype(int), X_test, y_test.astype(int))


def _binarized(name: str, paths: list[Path]) -> Dataset:
    with np.load(paths[0], allow_pickle=False) as packed:
        train, valid, test = (np.unpackbits(packed[key], axis=1)[:, :784] for key in _three_keys(packed.files))
    as_float = np.concatenate([train, valid]).astype(np.float32)
    return Dataset(name, as_float, None, test.astype(np.float32))


def _three_keys(keys: list[str]) -> list[str]:
    """The keys of the training, validation and test part; published copies spell them differently."""
    return [next(key for key in keys if part in key) for part in ("train", "val", "test")]


def _cifar(name: str, paths: list[Path]) -> Dataset:
    parts = [np.fromfile(path, np.uint8).reshape(-1, 3073) for path in paths]
    images = [np.ascontiguousarray(part[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)) for part in parts]
    return Dataset(name, images[0], parts[0][:, 0].astype(int), images[1], parts[1][:, 0].astype(int))


def _olivetti(name: str, paths: list[Path]) -> Dataset:
    from scipy.io import loadmat  # noqa: PLC0415  # only this set needs it

    faces = loadmat(paths[0])["faces"].T.reshape(400, 64, 64).transpose(0, 2, 1)
    return Dataset(name, np.ascontiguousarray(faces), np.repeat(np.arange(40), 10))


def _frey(name: str, paths: list[Path]) -> Dataset:
    return Dataset(name, np.load(paths[0], allow_pickle=False))


def _ecg(name: str, paths: list[Path]) -> Dataset:
    signals, labels = (np.load(path, allow_pickle=False) for path in paths)
    return Dataset(name, signals, labels.astype(int).ravel())


def _idx_files(folder: str, base: str, digests: tuple[str, ...], algorithm: str) -> tuple[File, ...]:
    stems = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return tuple(
        File(f"{folder}/{stem}-ubyte.gz", digest, f"{base}{stem}-ubyte.gz", algorithm)
        for stem, digest in zip(stems, digests, strict=True)
    )


_DIGITS = _Entry("digits", (), _digits, "1,797 × 8×8", "BSD-3-Clause", "https://scikit-learn.org")
_TABLE = {
    entry.name: entry
    for entry in (
        _Entry(
            "mnist",
            _idx_files(
                "mnist",
                "https://ossci-datasets.s3.amazonaws.com/mnist/",
                (
                    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                ),
                "sha256",
            ),
            _four_idx,
            "60,000 + 10,000 × 28×28",
            "CC BY-SA 3.0",
            "http://yann.lecun.com/exdb/mnist/",
        ),
        _Entry(
            "fashion-mnist",
            _idx_files(
                "fashion-mnist",
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
                (
                    "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                    "25c81989df183df01b3e8a0aad5dffbe",
                    "bef4ecab320f06d8554ea6380940ec79",
                    "bb300cfdad3c16e7a12a480ee83cd310",
                ),
                "md5",
            ),
            _four_idx,
            "60,000 + 10,000 × 28×28",
            "MIT",
            "https://github.com/zalandoresearch/fashion-mnist",
        ),
        _Entry(
            "binarized-mnist",
            (
                File(
                    "binarized-mnist/binarized_mnist_packbits.npz",
                    "8b4aca87821bf8d1d98bf488d6029e206885841ec51f43c41c7c052fa6807726",
                ),
            ),
            _binarized,
            "60,000 + 10,000 × 784 bits",
            "CC BY-SA 3.0",
            "https://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/",
        ),
        _Entry(
            "cifar10",
            (
                File("cifar10/data_batch_1.bin", "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
                File(
                    "cifar10/test_batch_first1000.bin",
                    "8314c96d7cd65618193bab23acdd5d4c4af15bf6dd00a1781d55beedf3be1ef5",
                ),
            ),
            _cifar,
            "10,000 + 1,000 × 32×32×3",
            "no stated licence",
            "https://www.cs.toronto.edu/~kriz/cifar.html",
        ),
        _Entry(
            "olivetti",
            (File("olivetti/olivettifaces.mat", "b1988d02c72fe5b8ee82b5ef3bb7982eafc74f1e1ff0ae0ade35061ad0af534d"),),
            _olivetti,
            "400 × 64×64",
            "AT&T Laboratories Cambridge, with acknowledgement",
            "https://cs.nyu.edu/~roweis/data.html",
        ),
        _Entry(
            "frey-faces",
            (
                File(
                    "freyfaces/freyfaces_uint8.npy", "2177ea074dc1d5ce35294c687dfce79ced65db6d7b745d95a2e1757fcfbe41c0"
                ),
            ),
            _frey,
            "1,965 × 28×20",
            "no stated licence",
            "https://cs.nyu.edu/~roweis/data.html",
        ),
        _Entry(
            "ecg5000",
            (
                File(
                    "ecg5000/ecg5000_signals_f32.npy",
                    "434509ebcff00b67fd539a91b5b1454292a29a6bd9607f936be26eddd70a52cc",
                ),
                File(
                    "ecg5000/ecg5000_labels_binary.npy",
                    "843108b3647491e2f890070f798b3fdc3efb85213c076ed1698ecf5c8967cffc",
                ),
            ),
            _ecg,
            "5,000 × 140",
            "UCR archive, research use",
            "https://www.timeseriesclassification.com/description.php?Dataset=ECG5000",
        ),
    )
}
