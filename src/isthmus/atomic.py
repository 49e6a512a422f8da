"""Writing a file whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isthmus.exceptions import OutputError


@contextmanager
def atomic(path: str | Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well the file there takes the name of `path`.

    When the block raises, the temporary file goes and an old file at `path` stays as it was.

    Raises
    ------
    OutputError
        The file is there and may not be replaced, the folder is missing or cannot be written, or the disk is full.
    """
    path = Path(path)
    check_writable(path, overwrite=overwrite)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _commit(temporary, path)
    except OutputError:
        raise
    except Exception as error:
        if _is_full(error):
            raise OutputError(
                f"'{path}' cannot be written: the disk is full; make room or choose another path."
            ) from None
        if isinstance(error, OSError) and error.filename in (None, name):
            raise OutputError(f"'{path}' cannot be written: {error.strerror or error}.") from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _commit(temporary: Path, path: Path) -> None:
    umask = os.umask(0)
    os.umask(umask)
    temporary.chmod(0o666 & ~umask)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def check_writable(path: str | Path, *, overwrite: bool = True) -> None:
    """Raise an `OutputError` if a file cannot be made at `path`; makes nothing."""
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"'{path}' is a folder; give the name of a file in it.")
    if path.exists() and not overwrite:
        raise OutputError(
            f"'{path}' exists; choose another name, or allow it to be replaced (overwrite=True, --force)."
        )
    if not path.parent.is_dir():
        raise OutputError(f"'{path}' cannot be written: there is no folder '{path.parent}'; make it first.")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"'{path}' cannot be written: the folder '{path.parent}' is not writable.")


def _is_full(error: BaseException) -> bool:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or "No space left on device" in str(error)
