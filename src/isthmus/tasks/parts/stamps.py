"""Stamps in output files, by which a later run knows that a file is complete."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from isthmus.exceptions import ModelFileError

KEY = b"isthmus.part"
"""Where the stamp is kept in the metadata of the Parquet schema."""


@dataclass(frozen=True)
class Part:
    """One file, as it was at the start, and the file of its answers.

    Attributes
    ----------
    source, target
        Absolute paths: a worker's current folder is another one.
    size, changed, n_rows
        The input: bytes, time of the last change in nanoseconds, rows.
    """

    source: str
    target: str
    size: int
    changed: int
    n_rows: int

    @property
    def name(self) -> str:
        """The name of both files."""
        return Path(self.source).name


@dataclass(frozen=True)
class Making:
    """What all answers depend on, besides the input.

    Attributes
    ----------
    version
        The version of isthmus.
    model
        SHA-256 of the model file.
    function
        The function and its settings, without the path of the model.
    """

    version: str
    model: str
    function: str

    def stamp(self, part: Part) -> dict[str, Any]:
        """Everything that the answers for a part depend on; a file with this stamp need not be written again.

        The input counts by size and time, as for rsync: reading it to compare its bytes costs as much as the work
        that a later run saves.
        """
        return vars(self) | {"size": part.size, "changed": part.changed, "n_rows": part.n_rows}


def settings_of(function: Any) -> str:
    """A function with its settings as text, equal for equal settings; the path of the model is left out."""
    if not is_dataclass(function) or not hasattr(function, "path"):
        raise TypeError(
            f"The function is a {type(function).__name__}, but an isthmus.Apply is needed, or a dataclass with the "
            "`path` of a model file that answers Arrow tables."
        )
    named = ", ".join(
        f"{each.name}={getattr(function, each.name)!r}" for each in fields(function) if each.name != "path"
    )
    return f"{type(function).__qualname__}({named})"


def digest_of(path: str | Path) -> str:
    """The SHA-256 digest of a model file, read once as long as the file does not change.

    Raises
    ------
    ModelFileError
        There is no such file.
    """
    try:
        found = Path(path).stat()
        return _digest(str(path), found.st_size, found.st_mtime_ns)
    except OSError as error:
        raise ModelFileError(f"There is no model file at '{path}' ({error.strerror}); check the path.") from None


@functools.lru_cache(maxsize=16)
def _digest(path: str, size: int, changed: int) -> str:  # noqa: ARG001  # they are part of the key
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def as_metadata(stamp: Mapping[str, Any]) -> dict[bytes, bytes]:
    """A stamp as metadata of a Parquet schema."""
    return {KEY: json.dumps(stamp, sort_keys=True).encode()}


def written_stamp(target: str | Path) -> Mapping[str, Any] | None:
    """The stamp in a file of answers; None if the file is damaged or was written by something else."""
    try:
        with parquet.ParquetFile(target) as file:
            kept = (file.schema_arrow.metadata or {}).get(KEY)
            found = None if kept is None else json.loads(kept)
            return found if isinstance(found, dict) and found.get("n_rows") == file.metadata.num_rows else None
    except (pa.ArrowException, OSError, ValueError):
        return None
