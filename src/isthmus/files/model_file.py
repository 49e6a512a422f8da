"""The model file: named arrays in safetensors, and everything else as JSON in its header.

This room knows states only: a class's name, JSON values and arrays. Nothing is pickled and nothing is executed at load.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from safetensors.numpy import save_file

from isthmus import __version__
from isthmus.atomic import atomic
from isthmus.exceptions import ModelFileError

FORMAT_VERSION = 1
HEADER_KEY = "isthmus"


@dataclass(frozen=True)
class State:
    """All that is needed to make an object again.

    Attributes
    ----------
    kind
        Public name of the object's class, such as ``"Autoencoder"``.
    values
        Anything JSON can hold; NaN and infinities included.
    arrays
        Numbers by name.
    library_version
        Of the library that wrote the state.
    """

    kind: str
    values: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    library_version: str = __version__


def write_state(path: str | Path, state: State, *, overwrite: bool = True) -> Path:
    """Write a state to one file, whole or not at all.

    Parameters
    ----------
    path
        Where to. The state is written beside it under a temporary name and then renamed.
    state
        What to write.
    overwrite
        Replace a file that is there.

    Raises
    ------
    OutputError
        The file is there and may not be replaced, its folder is missing, or the disk is full; an old file stays whole.
    """
    header = {
        "format": FORMAT_VERSION,
        "library": state.library_version,
        "kind": state.kind,
        "values": dict(state.values),
    }
    arrays = {name: np.ascontiguousarray(array).reshape(np.shape(array)) for name, array in state.arrays.items()}
    with atomic(path, overwrite=overwrite) as temporary:
        save_file(arrays, str(temporary), metadata={HEADER_KEY: json.dumps(header, separators=(",", ":"))})
    return Path(path)


def read_state(path: str | Path) -> State:
    """Read a state back.

    Raises
    ------
    ModelFileError
        The file is missing, truncated, not one of ours, or from a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"There is no model file at '{path}'; check the path, or write one with model.save(path).")
    try:
        with safetensors.safe_open(str(path), framework="np") as file:
            header = (file.metadata() or {}).get(HEADER_KEY)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(
            f"'{path}' cannot be read as a model file ({error}): it is truncated or of another kind; "
            "copy it again, or train and save the model anew."
        ) from None
    return _state_of(path, header, arrays)


def _state_of(path: Path, header: str | None, arrays: dict[str, np.ndarray]) -> State:
    if header is None:
        raise ModelFileError(
            f"'{path}' is a safetensors file, but not one of isthmus: its header has no {HEADER_KEY!r} entry; "
            "give a file written by model.save(path)."
        )
    try:
        known = json.loads(header)
        version = int(known["format"])
        if version <= FORMAT_VERSION:
            return State(known["kind"], known["values"], arrays, known["library"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"The header of '{path}' is damaged ({error!r}); train and save the model anew.") from None
    raise ModelFileError(
        f"'{path}' has format {version}, but this isthmus {__version__} reads up to {FORMAT_VERSION}; "
        f"install isthmus {known.get('library', '')} or newer."
    )
