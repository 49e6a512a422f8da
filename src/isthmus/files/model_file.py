"""The model file: arrays in safetensors, all other values as JSON in the header, and a digest of both.

This module handles states only: a class name, JSON values and arrays. Nothing is pickled, and loading executes no code.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import safetensors
from safetensors.numpy import load as load_bytes
from safetensors.numpy import save as save_bytes
from safetensors.numpy import save_file

from isthmus import __version__
from isthmus.atomic import atomic
from isthmus.exceptions import ModelFileError

FORMAT_VERSION = 2
"""Format 1 (isthmus 0.1) has no digest, stores choices by class name only, and writes NaN and Infinity as JavaScript
does."""
HEADER_KEY, DIGEST_KEY = "isthmus", "isthmus.sha256"
MOST_CHARACTERS, MOST_DEPTH = 2**26, 100
"""Limits of the JSON header. The library writes at most 20 levels; Python's parser fails at 1,000."""


class Header(msgspec.Struct, frozen=True):
    """The header; files of newer formats may have further fields."""

    format: Annotated[int, msgspec.Meta(ge=1)]
    library: str
    kind: str
    values: dict[str, Any]


@dataclass(frozen=True)
class State:
    """The data from which an object can be restored.

    Attributes
    ----------
    kind
        Public name of the object's class, such as ``"Autoencoder"``.
    values
        Any JSON values, plus NaN and infinity.
    arrays
        Arrays by name.
    library_version
        Version of the library that wrote the state.
    """

    kind: str
    values: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    library_version: str = __version__


def write_state(path: str | Path, state: State, *, overwrite: bool = True) -> Path:
    """Write a state to one file atomically.

    Parameters
    ----------
    path
        The output path. The state is written under a temporary name in the same folder and then renamed.
    state
        The state.
    overwrite
        Whether to replace an existing file.

    Raises
    ------
    OutputError
        The file exists and `overwrite` is False, its folder is missing, or the disk is full; an existing file is not
        changed.
    TypeError
        A value has a type that JSON cannot represent.
    """
    arrays, metadata = _parts(state)
    with atomic(path, overwrite=overwrite) as temporary:
        save_file(arrays, str(temporary), metadata=metadata)
        with temporary.open("r+b") as file:
            head = file.read(int.from_bytes(file.read(8), "little"))
            file.seek(8)
            file.write(_ordered(head))
    return Path(path)


def state_to_bytes(state: State) -> bytes:
    """The bytes of the file that `write_state` writes; equal states give equal bytes.

    Raises
    ------
    TypeError
        A value has a type that JSON cannot represent.
    """
    arrays, metadata = _parts(state)
    written = save_bytes(arrays, metadata=metadata)
    end = 8 + int.from_bytes(written[:8], "little")
    head = _ordered(written[8:end])
    return written if head == written[8:end] else written[:8] + head + written[end:]


def _parts(state: State) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and metadata of a state as the file has them."""
    header = _header_text(state)
    arrays = {name: _portable(array) for name, array in state.arrays.items()}
    return arrays, {HEADER_KEY: header, DIGEST_KEY: digest(header, arrays)}


def _ordered(head: bytes) -> bytes:
    """The head of a safetensors file with our text before its digest.

    The library writes the two in random order. With a fixed one, equal models have equal files and equal pickles, which
    caches such as ``joblib.Memory`` compare.
    """
    start = b'{"__metadata__":{'
    last = re.compile(rb'("isthmus\.sha256":"[0-9a-f]{64}"),("isthmus":"[^"\\]*(?:\\.[^"\\]*)*")').match(
        head, len(start)
    )
    if not head.startswith(start) or last is None:
        return head
    return start + last[2] + b"," + last[1] + head[last.end() :]


def _portable(array: np.ndarray) -> np.ndarray:
    """The array in C order and little-endian, as safetensors stores it; scalars keep their shape."""
    plain = np.asarray(array)
    return np.ascontiguousarray(plain, plain.dtype.newbyteorder("<")).reshape(plain.shape)


def digest(header: str, arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256, in hexadecimal, of the header and of the name, dtype, shape and bytes of every array, by sorted name."""
    hashed = hashlib.sha256()
    for name in ("", *sorted(arrays)):
        array = arrays[name] if name else np.frombuffer(header.encode(), np.uint8)
        hashed.update(json.dumps([name, array.dtype.name, list(array.shape)]).encode())
        hashed.update(array.reshape(-1).view(np.uint8).data)
    return hashed.hexdigest()


def read_state(path: str | Path) -> State:
    """Read a state from a file.

    Raises
    ------
    ModelFileError
        The file is missing, truncated, modified, from another program, or of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        reason = "it is a folder or device" if path.exists() else "check the path"
        raise ModelFileError(f"There is no model file at '{path}': {reason}, or write one with model.save(path).")
    with _of_safetensors(path), safetensors.safe_open(str(path), framework="np") as file:
        metadata = file.metadata() or {}
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
    return _state_of(path, metadata, arrays)


def state_of_bytes(blob: bytes, origin: str) -> State:
    """The inverse of `state_to_bytes`, with the checks of `read_state`.

    Parameters
    ----------
    blob
        The bytes of a model file.
    origin
        Where they come from, for error messages, such as ``"the pickle of an Autoencoder"``.

    Raises
    ------
    ModelFileError
        The bytes are truncated, modified, of another kind of file, or of a newer format.
    """
    with _of_safetensors(origin):
        arrays = load_bytes(blob)
        head = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
    return _state_of(origin, head.get("__metadata__", {}), arrays)


@contextmanager
def _of_safetensors(path: str | Path) -> Iterator[None]:
    """Context manager: the errors of the library that reads the arrays, as a `ModelFileError`."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # the library raises SafetensorError, OSError, TypeError and more
        raise ModelFileError(
            f"'{path}' cannot be read as a model file ({error}): it is truncated, damaged or not a model file; "
            "copy it again, or train and save the model again."
        ) from None


def _state_of(path: str | Path, metadata: Mapping[str, str], arrays: dict[str, np.ndarray]) -> State:
    if HEADER_KEY not in metadata:
        raise ModelFileError(
            f"'{path}' is a safetensors file, but not a model file of isthmus: its header has no {HEADER_KEY!r} entry; "
            "use a file written by model.save(path)."
        )
    try:
        header = msgspec.convert(_parse(metadata[HEADER_KEY]), Header)
    except (msgspec.MsgspecError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ModelFileError(f"The header of '{path}' is damaged ({error}); train and save the model again.") from None
    if header.format > FORMAT_VERSION:
        raise ModelFileError(
            f"'{path}' has format {header.format}, but this isthmus {__version__} reads up to {FORMAT_VERSION}; "
            f"install isthmus {header.library} or newer."
        )
    _check_digest(path, header.format, metadata, arrays)
    return State(header.kind, header.values, arrays, header.library)


def _check_digest(
    path: str | Path, version: int, metadata: Mapping[str, str], arrays: Mapping[str, np.ndarray]
) -> None:
    """Raise if the digest is wrong or missing; only files of format 1 have none."""
    written = metadata.get(DIGEST_KEY)
    if written is None and version == 1:
        return
    if written is None:
        raise ModelFileError(f"The header of '{path}' is damaged: it has no {DIGEST_KEY!r} entry; copy the file again.")
    if written != digest(metadata[HEADER_KEY], arrays):
        raise ModelFileError(
            f"'{path}' has changed since it was written: its SHA-256 digest is not the one in its header; "
            "copy it again, or train and save the model again."
        )


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Context manager: convert every error of the block to a `ModelFileError` that names the file.

    The readers check all fields, so that messages name the invalid one. This conversion handles the errors of damaged
    files that those checks do not cover.
    """
    try:
        yield
    except ModelFileError as error:
        if str(path) in str(error):
            raise
        damaged = " Copy the file again, or train and save the model again." if str(error).startswith("its ") else ""
        raise ModelFileError(f"'{path}' cannot be loaded: {error}{damaged}") from None
    except Exception as error:
        raise ModelFileError(
            f"'{path}' is damaged or does not fit this version of isthmus ({type(error).__name__}: {error}); "
            "copy it again, or train and save the model again."
        ) from error


# -- JSON --------------------------------------------------------------------------------------------------------------

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def _header_text(state: State) -> str:
    """The header as JSON; NaN and infinity, which JSON does not have, are written as ``{"number": "NaN"}``."""
    header = {
        "format": FORMAT_VERSION,
        "library": state.library_version,
        "kind": state.kind,
        "values": _with_finite(dict(state.values)),
    }
    text = json.dumps(header, separators=(",", ":"), allow_nan=False, default=_refuse_type)
    if len(text) > MOST_CHARACTERS:
        raise ValueError(
            f"The {state.kind} has {len(text):,} characters of names and settings, but a model file can store "
            f"{MOST_CHARACTERS:,}; use shorter names or fewer levels."
        )
    return text


def _with_finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"number": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    if isinstance(value, Mapping):
        return {name: _with_finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_with_finite(part) for part in value]
    return value


def _refuse_type(value: object) -> Any:
    raise TypeError(
        f"{value!r} is a {type(value).__name__}, which a model file cannot store; use strings, numbers and booleans "
        "for labels and parameters."
    )


def _parse(text: str) -> dict[str, Any]:
    """Parse the header; headers that are too long or too deeply nested are rejected before parsing."""
    if len(text) > MOST_CHARACTERS or _depth(text) > MOST_DEPTH:
        raise ValueError(f"it has more than {MOST_CHARACTERS:,} characters or {MOST_DEPTH} levels")
    constants: list[str] = []

    def constant(name: str) -> float:
        constants.append(name)
        return _NON_FINITE[name]

    known = json.loads(text, parse_constant=constant, parse_float=_finite, object_pairs_hook=_object)
    if not isinstance(known, dict):
        raise TypeError("it is not an object")
    if constants and known.get("format") != 1:
        raise ValueError(f"it contains {constants[0]}, which is not JSON")
    return known


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"the number {digits[:20]} is too large")
    return number


def _object(pairs: list[tuple[str, Any]]) -> Any:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    if set(made) == {"number"} and isinstance(made["number"], str):
        return _NON_FINITE[made["number"]]
    return made


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)
"""A string or a bracket. An unterminated string matches to the end, so that the search takes linear time."""


def _depth(text: str) -> int:
    """Nesting depth of brackets outside strings."""
    deepest = depth = 0
    for token in _TOKEN.finditer(text):
        first = token[0][0]
        depth += (first in "[{") - (first in "]}")
        deepest = max(deepest, depth)
    return deepest
