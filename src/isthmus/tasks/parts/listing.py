"""Which files are the parts of a table, and which files hold their answers."""

from __future__ import annotations

import glob
import itertools
import os
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from isthmus.data.images import IMAGE_SUFFIXES
from isthmus.exceptions import DataError, IsthmusWarning, OutputError

SUFFIX = ".parquet"
SHOWN = 3
"""Number of files that a message names."""


def names_parts(data: str | Path) -> bool:
    """Whether a text names several Parquet files: a folder of them, or a glob pattern such as ``"2024-*.parquet"``.

    Subfolders such as ``year=2026/`` are a sign of parts. A folder of images is not one, even with a table beside them.

    >>> names_parts("table/2024-*.parquet"), names_parts("table.parquet")
    (True, False)
    """
    path = Path(data)
    if not path.is_dir():
        return glob.has_magic(str(data)) and not path.exists()
    visible = [each for each in path.iterdir() if not _is_hidden(each)]
    return any(each.suffix == SUFFIX or "=" in each.name for each in visible) and not _has_images(path)


def _has_images(folder: Path) -> bool:
    """Whether a folder or its subfolders hold an image; asked only where there are parts too."""
    files = itertools.chain(folder.iterdir(), folder.glob("*/*"))
    return any(file.suffix.lower() in IMAGE_SUFFIXES for file in files)


def list_files(data: str | Path, out: str | Path) -> list[Path]:
    """The parts of a folder or a glob pattern, by name; each can have an output file of its name in the folder `out`.

    Raises
    ------
    DataError
        There are no such files, two have the same name, or it is not clear which files are meant.
    OutputError
        `out` is a file, cannot be made or written to, or is the folder of the parts.
    """
    _check_folder(Path(out))
    files = sorted(_in_folder(Path(data), Path(out)) if Path(data).is_dir() else _by_pattern(str(data)))
    _refuse_equal_names(files)
    inside = next((file for file in files if os.path.realpath(file.parent) == os.path.realpath(out)), None)
    if inside is not None:
        raise OutputError(f"'{out}' is the folder of the input '{inside.name}'; write to another folder.")
    return files


def _in_folder(folder: Path, out: Path) -> Iterator[Path]:
    files = [each for each in folder.iterdir() if each.suffix == SUFFIX and each.is_file() and not _is_hidden(each)]
    nested = next(_nested(folder, out), None)
    if nested is not None:
        within = Path(*("*" for _ in nested.relative_to(folder).parts[1:]), f"*{SUFFIX}")
        raise DataError(
            f"'{folder}' has Parquet files in subfolders, such as '{nested.relative_to(folder)}'; name the files that "
            f"are meant by a pattern, '{folder / f'*{SUFFIX}'}' or '{folder / within}'."
        )
    if not files:
        raise DataError(f"The folder '{folder}' has no {SUFFIX} files; at least one is needed.")
    return iter(files)


def _nested(folder: Path, out: Path) -> Iterator[Path]:
    """Parquet files below the first level, but for those in the output folder."""
    for each in folder.glob(f"*/**/*{SUFFIX}"):
        within = each.relative_to(folder).parts
        if not any(_is_hidden(Path(name)) for name in within) and not each.resolve().is_relative_to(out.resolve()):
            yield each


def _by_pattern(pattern: str) -> Iterator[Path]:
    files = [Path(each) for each in glob.glob(pattern, recursive=True)]  # noqa: PTH207  # the pattern may be absolute
    if not files:
        if glob.has_magic(pattern):
            raise DataError(f"No file matches '{pattern}'; check the pattern.")
        raise DataError(f"There is no folder '{pattern}'; check the path.")
    for file in files:
        if file.is_dir():
            raise DataError(f"'{file}' is a folder, but '{pattern}' must match files; use '{pattern}/*{SUFFIX}'.")
        if file.suffix != SUFFIX:
            raise DataError(f"'{pattern}' matches '{file}', but only {SUFFIX} files can be read in parts.")
    return iter(files)


def _is_hidden(path: Path) -> bool:
    """Whether readers of Parquet folders pass over a name: temporary files, and notes such as ``_SUCCESS``."""
    return path.name.startswith((".", "_"))


def _refuse_equal_names(files: Sequence[Path]) -> None:
    alike = defaultdict[str, list[Path]](list)
    for file in files:
        alike[file.name].append(file)
    same = next((found for found in alike.values() if len(found) > 1), None)
    if same is not None:
        raise DataError(
            f"'{same[0]}' and '{same[1]}' have the same name, and so would their outputs; run them one after the other "
            "into two folders."
        )


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise OutputError(f"'{out}' is a file, but a folder is needed, with one output file for each part.")
    parent = out if out.is_dir() else out.absolute().parent
    if not parent.is_dir():
        raise OutputError(f"'{out}' cannot be made: there is no folder '{parent}'; create it first.")
    if not os.access(parent, os.W_OK):
        raise OutputError(f"'{out}' cannot be written: the folder '{parent}' is not writable; choose another folder.")


def warn_of_others(files: Sequence[Path], out: Path) -> None:
    """Warn if the output folder holds files of other parts: a reader of the folder would read their rows too."""
    own = {file.name for file in files}
    others = sorted(file.name for file in out.glob(f"*{SUFFIX}") if file.name not in own and not _is_hidden(file))
    if others:
        warnings.warn(
            f"'{out}' also has {named(others)} from elsewhere; readers of the folder read {_them(others)} too.",
            IsthmusWarning,
            stacklevel=3,
        )


def _them(others: Sequence[str]) -> str:
    return "it" if len(others) == 1 else "them"


def named(names: Sequence[str]) -> str:
    """Some names in quotes, and how many more there are.

    >>> named(["a", "b", "c", "d", "e"])
    "'a', 'b', 'c' and 2 more"
    """
    shown, rest = ", ".join(f"'{name}'" for name in names[:SHOWN]), len(names) - SHOWN
    return f"{shown} and {rest} more" if rest > 0 else shown
