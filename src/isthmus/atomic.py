"""Atomic writing of files."""

from __future__ import annotations

import errno
import os
import re
import secrets
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from isthmus.exceptions import OutputError

_OS_ERROR = re.compile(r"\(os error (\d+)\)")
"""The error number in exceptions of Rust libraries such as safetensors."""


@contextmanager
def atomic(path: str | Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Context manager: yields a temporary path in the folder of `path`, and renames it to `path` on success.

    If the block raises, the temporary file is deleted and an existing file at `path` is not changed. A replaced file
    keeps its permissions; a new file gets the default ones. If `path` is a symbolic link, its target is replaced and
    the link is kept.

    Raises
    ------
    OutputError
        The file exists and `overwrite` is False, the folder is missing or not writable, the disk is full, or the file
        exceeds the size limit of the process.
    """
    check_writable(path, overwrite=overwrite)
    target = _target(Path(path))
    _sweep(target.parent)
    temporary = _name_beside(target)
    try:  # from before the file is there: an interrupt between making it and this line would leave it behind
        _create(temporary, target)
        yield temporary
        _commit(temporary, target)
    except OutputError:
        raise
    except Exception as error:
        reason = _reason(error, temporary)
        if reason is None:
            raise
        raise OutputError(f"'{path}' cannot be written: {reason}.") from None
    finally:
        temporary.unlink(missing_ok=True)


def _target(path: Path) -> Path:
    """The file that is written: `path`, or the target of the link."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _name_beside(target: Path) -> Path:
    """A path in the same folder, so that renaming is one step; it holds host and process, for `_sweep`."""
    stem = os.fsencode(target.stem)[:80].decode(errors="ignore")  # file systems limit the bytes of a name
    name = f".{stem}.isthmus-{_host()}-{os.getpid()}-{secrets.token_hex(4)}{target.suffix}"
    return target.with_name(name)


def _create(temporary: Path, target: Path) -> None:
    """Make an empty file for `target`.

    ``os.open`` lets the system apply the umask; `tempfile.mkstemp` makes files that nobody else can read, and asking
    for the umask means to set it, which other threads would see.
    """
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise OutputError(f"'{target}' cannot be written: {error.strerror or error}.") from None


def _commit(temporary: Path, target: Path) -> None:
    if target.exists():
        temporary.chmod(stat.S_IMODE(target.stat().st_mode))
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(target)


_TEMPORARY = re.compile(r"\..*\.isthmus-(?P<host>[0-9a-z]+)-(?P<process>\d+)-[0-9a-f]{8}(\.[^.]*)?")


def _host() -> str:
    return re.sub("[^0-9a-z]", "", socket.gethostname().lower()) or "host"


def _sweep(folder: Path) -> None:
    """Delete temporary files in a folder that killed processes of this host left behind.

    Files of other hosts are kept, because their processes cannot be checked here, and so are files whose process number
    is in use again.
    """
    if os.name != "posix":
        return  # on other systems there is no harmless test whether a process exists
    with suppress(OSError), os.scandir(folder) as entries:
        left = [(entry.path, _TEMPORARY.fullmatch(entry.name)) for entry in entries if entry.name.startswith(".")]
        for path, match in left:
            if match is not None and match["host"] == _host() and not _lives(int(match["process"])):
                Path(path).unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def check_writable(path: str | Path, *, overwrite: bool = True) -> None:
    """Raise an `OutputError` if a file cannot be created at `path`; creates nothing."""
    path = Path(path)
    target = _target(path)
    if target.is_symlink():
        raise OutputError(f"'{path}' is a link that leads to itself; remove it or choose another path.")
    if target.is_dir():
        raise OutputError(f"'{path}' is a folder; use the name of a file in it.")
    if target.exists() and not target.is_file():
        raise OutputError(f"'{path}' is a device or pipe, but a regular file is needed; use the path of a file.")
    if target.exists() and not overwrite:
        raise OutputError(
            f"'{path}' exists; choose another name, or allow it to be replaced (overwrite=True, --force)."
        )
    if not target.parent.is_dir():
        raise OutputError(f"'{path}' cannot be written: there is no folder '{target.parent}'; create it first.")
    if not os.access(target.parent, os.W_OK):
        raise OutputError(
            f"'{path}' cannot be written: the folder '{target.parent}' is not writable; choose another folder or "
            "change its permissions."
        )


_REASONS = {
    errno.ENOSPC: "the disk is full; free some space or choose another path",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another path",
    errno.EFBIG: "the file exceeds the size limit of this process; raise the limit (ulimit -f)",
    errno.EROFS: "the file system is read-only; choose another path",
    errno.EIO: "the disk reports an error; choose another path",
}


def _reason(error: Exception, temporary: Path) -> str | None:
    """The reason of a system error; None for other errors, such as errors in the data."""
    numbered = _OS_ERROR.search(str(error))
    number = error.errno if isinstance(error, OSError) else int(numbered[1]) if numbered else None
    if number in _REASONS:
        return _REASONS[number]
    by_text = [reason for code, reason in _REASONS.items() if os.strerror(code) in str(error)]
    if by_text:
        return by_text[0]
    if isinstance(error, OSError) and error.filename in (None, str(temporary)):
        return error.strerror or str(error)
    return None
