"""Array file formats: idx, npy, npz."""

from __future__ import annotations

import gzip
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from isthmus.exceptions import DataError

_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def read_idx(path: str | Path) -> np.ndarray:
    """Read an array from an idx file, gzipped or not (the format of MNIST).

    Raises
    ------
    DataError
        The file is truncated or not an idx file.
    """
    path = Path(path)
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as stream:
            raw = stream.read()
        kind, n_dims = _IDX_TYPES[raw[2]], raw[3]
        shape = struct.unpack_from(f">{n_dims}I", raw, 4)
        array = np.frombuffer(raw, kind, offset=4 + 4 * n_dims).reshape(shape)
    except (OSError, EOFError, KeyError, IndexError, ValueError, struct.error, zlib.error) as error:
        raise DataError(
            f"'{path}' cannot be read as an idx file ({error}); it is truncated or not an idx file; get it again, or "
            "check its suffix."
        ) from None
    return array.astype(array.dtype.newbyteorder("="))


def read_npy(path: str | Path) -> np.ndarray:
    """Memory-map an array in a .npy file; values are read on access."""
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"'{path}' cannot be read as a .npy file ({error}); write it again with numpy.save.") from None
    return array


def read_npz(path: str | Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Read rows and labels from a .npz file: the arrays X and y, or its only array."""
    try:
        with np.load(path, allow_pickle=False) as file:
            keys = list(file.files)
            if "X" not in keys and len(keys) != 1:
                raise DataError(
                    f"'{path}' contains the arrays {', '.join(keys)}; name one of them X (and the labels y)."
                )
            return file["X" if "X" in keys else keys[0]], file["y"] if "y" in keys else None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"'{path}' cannot be read as a .npz file ({error}); write it again with numpy.savez.") from None
