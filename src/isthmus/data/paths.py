"""Checks of a path before it is opened."""

from __future__ import annotations

import stat
from pathlib import Path

from isthmus.exceptions import DataError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_regular_file(path: str | Path) -> None:
    """Raise a `DataError` unless a path is a regular file.

    The file is not opened: opening a pipe blocks until it has a writer, and a device such as /dev/zero never ends.
    """
    try:
        mode = Path(path).stat().st_mode
    except OSError as error:
        why = "" if isinstance(error, FileNotFoundError) else f" ({error.strerror})"
        raise DataError(f"There is no file '{path}'{why}; check the path.") from None
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "not a regular file")
        raise DataError(f"'{path}' is {kind}, but a regular file is needed; write the rows to a file and use its path.")
