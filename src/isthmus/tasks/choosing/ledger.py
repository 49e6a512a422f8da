"""The ledger of a search: its results in a folder, from which an interrupted search continues."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.exceptions import DataError, OutputError

NAME, BEST = "trials.jsonl", "best.safetensors"


def digest_of(rows: np.ndarray, labels: Any) -> str:
    """A digest of rows and labels, by which a ledger knows its data."""
    found = hashlib.sha256(repr((rows.shape, rows.dtype.str)).encode())
    found.update(np.ascontiguousarray(rows).tobytes() if rows.dtype != object else repr(rows.tolist()).encode())
    if labels is not None:
        found.update(repr(np.asarray(labels).tolist()).encode())
    return found.hexdigest()


class Ledger:
    """Finished measurements in order; with a folder, each is on disk before the next begins.

    Parameters
    ----------
    folder
        Where to keep them, or None for memory only.
    identity
        What the search must have in common with the one that wrote the ledger, by name.

    Raises
    ------
    DataError
        The folder's ledger is of other data or settings, or damaged.
    OutputError
        The folder cannot be written.
    """

    def __init__(self, folder: Path | None, identity: Mapping[str, Any]) -> None:
        self.folder, self.entries = folder, list[dict[str, Any]]()
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"The folder '{folder}' cannot be made ({error.strerror}); choose another one.") from None
        self._path = folder / NAME
        lines = self._read() if self._path.exists() else []
        if not lines:
            self._path.unlink(missing_ok=True)
            self._append({"identity": dict(identity)})
            return
        wrong = sorted(name for name in identity if lines[0].get("identity", {}).get(name) != identity[name])
        if wrong:
            raise DataError(
                f"The search in '{folder}' was begun with another {', '.join(wrong)}; use the same data and settings "
                "to go on with it, or another folder."
            )
        self.entries = lines[1:]

    def _read(self) -> list[dict[str, Any]]:
        """All whole lines; a last line that a kill cut off is removed from the file."""
        text = self._path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            with self._path.open("r+", encoding="utf-8") as file:
                file.truncate(len(whole.encode()))
        try:
            found = [json.loads(line) for line in whole.splitlines()]
        except json.JSONDecodeError as error:
            raise DataError(f"The ledger '{self._path}' is damaged ({error}); use another folder.") from None
        if not all(isinstance(line, dict) for line in found):
            raise DataError(f"The ledger '{self._path}' is damaged; use another folder.")
        return found

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """The entries of one kind, in order."""
        return [entry for entry in self.entries if entry.get("kind") == kind]

    def add(self, kind: str, **values: Any) -> None:
        """Keep a finished measurement."""
        entry = {"kind": kind, **values}
        self.entries.append(entry)
        if self.folder is not None:
            self._append(entry)

    def _append(self, entry: Mapping[str, Any]) -> None:
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(f"'{self._path}' cannot be written ({error.strerror}).") from None

    @property
    def best_path(self) -> Path | None:
        """The file of the best model so far, or None."""
        return None if self.folder is None else self.folder / BEST
