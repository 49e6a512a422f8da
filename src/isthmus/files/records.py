"""Typed declarations of the contents of model files, which are checked on writing and on reading.

A `Record` declares the JSON values of a kind of file, and a mapping of `Numbers` its arrays. `pack` builds a state, and
`unpack` is its inverse; both raise an error that names the field if something does not match the declaration. Every
written state can therefore be read, and every state that was read has fields of the declared types and shapes.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np

from isthmus.exceptions import ModelFileError
from isthmus.files.model_file import State

Size = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
"""A count that is at least 1."""
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Real = Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
"""A finite number; plain ``float`` may be infinite or NaN."""
Losses = dict[str, int | float]
"""A row of a history; the number of an epoch stays a whole number."""
Json = dict[str, Any]
"""Names and values that are checked by their reader, such as parameters."""


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The JSON values of a state, as typed fields; fields with a default are optional."""


R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Numbers:
    """The declaration of an array in a state.

    Attributes
    ----------
    kinds
        Allowed numpy kinds: ``"f"`` floats, ``"i"`` integers, ``"u"`` unsigned integers, ``"b"`` booleans.
    shape
        For each axis an integer (a known length), a string (a length that all arrays with this string share), or None
        (any length). None instead of a tuple: any shape.
    bits
        Bits per value, or None for any.
    finite
        Whether NaN and infinite values are rejected. Weights, and all arrays from which results are computed, must be
        finite. Only statistics of training rows, and stored rows with missing cells, may contain NaN or infinity.
    optional
        Whether it may be missing.
    """

    kinds: str
    shape: tuple[int | str | None, ...] | None = None
    bits: int | None = None
    finite: bool = True
    optional: bool = False


Arrays = Mapping[str, np.ndarray]
Declared = Mapping[str, Numbers]


def pack(
    kind: str, values: Record, arrays: Arrays, declared: Declared, sizes: Mapping[str, int] | None = None
) -> State:
    """Build a state from values and arrays.

    Parameters
    ----------
    kind
        Public name of the class.
    values
        The JSON values.
    arrays
        Arrays by name.
    declared
        Declarations by name. ``"part.*"`` accepts every name that starts with ``part.``: arrays that are declared
        elsewhere.
    sizes
        Known lengths, by their string in shapes.

    Raises
    ------
    ModelFileError
        The arrays do not match their declarations, such as weights that are NaN.
    """
    check_arrays(arrays, declared, sizes)
    plain = _plain(values)
    convert(plain, type(values))
    return State(kind, plain, arrays)


def _plain(value: Any) -> Any:
    """Convert records to dictionaries; ``msgspec.to_builtins`` would also convert dates and other types to strings."""
    if isinstance(value, Record):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value


def unpack(state: State, record: type[R], declared: Declared, sizes: Mapping[str, int] | None = None) -> R:
    """Check the arrays of a state, and return its values as the declared record.

    Raises
    ------
    ModelFileError
        A value or an array is missing, unknown, of another type or out of range.
    """
    values = convert(state.values, record)
    check_arrays(state.arrays, declared, sizes)
    return values


def convert(values: Any, record: type[R], where: str = "values") -> R:
    """Convert JSON values to a record; errors name the field."""
    try:
        return msgspec.convert(values, record)
    except msgspec.ValidationError as error:
        text = str(error).replace("`$", f"`{where}").replace("object", "record")
        raise ModelFileError(f"its header does not fit: {text} (kind {record.__name__}).") from None


def check_fields(values: Json, cls: type[Any], where: str) -> None:
    """Raise if values do not match the fields of a dataclass by name and type, or if numbers are not finite."""
    unknown = sorted(values.keys() - {field.name for field in dataclasses.fields(cls)})
    infinite = [name for name, value in values.items() if isinstance(value, float) and not math.isfinite(value)]
    try:
        if unknown or infinite:
            raise msgspec.ValidationError(f"`{(unknown or infinite)[0]}` is unknown or not finite - at `$`")  # noqa: TRY301
        msgspec.convert(values, cls)
    except msgspec.ValidationError as error:
        text = str(error).replace("`$", f"`{where}")
        raise ModelFileError(f"its header does not fit: {text} (kind {cls.__name__}).") from None


def check_arrays(arrays: Arrays, declared: Declared, sizes: Mapping[str, int] | None = None) -> None:
    """Raise if arrays are missing, unknown, or not of the declared type and shape."""
    parts = tuple(name[:-1] for name in declared if name.endswith(".*"))
    missing = [name for name, spec in declared.items() if not (spec.optional or name in arrays or name.endswith(".*"))]
    unknown = [name for name in arrays if name not in declared and not name.startswith(parts)]
    if missing or unknown:
        raise ModelFileError(f"its arrays do not fit: missing {sorted(missing)}, unknown {sorted(unknown)}.")
    known = dict(sizes or {})
    for name, spec in declared.items():
        if name in arrays:
            _check_array(name, arrays[name], spec, known)


def _check_array(name: str, array: np.ndarray, spec: Numbers, sizes: dict[str, int]) -> None:
    wanted = array.shape if spec.shape is None else spec.shape
    fits = len(wanted) == array.ndim
    for length, want in zip(array.shape, wanted, strict=False):
        fits &= want is None or length == (sizes.setdefault(want, length) if isinstance(want, str) else want)
    fits &= array.dtype.kind in spec.kinds and spec.bits in (None, 8 * array.dtype.itemsize)
    if not fits:
        lengths = ", ".join(str(sizes.get(want, want)) if isinstance(want, str) else str(want) for want in wanted)
        numbers = f"{'/'.join(spec.kinds)}{spec.bits or ''}"
        raise ModelFileError(
            f"its array {name!r} is {array.dtype} of shape {array.shape}, but {numbers} of shape ({lengths}) is needed."
        )
    if spec.finite:
        check_finite(name, array)


def check_finite(name: str, array: np.ndarray) -> None:
    """Raise if an array contains NaN or infinite values.

    The sum is tested first: it takes a tenth of the time of a mask, and is finite for nearly every finite array.
    """
    if array.dtype.kind != "f":
        return
    with np.errstate(over="ignore", invalid="ignore"):
        if math.isfinite(float(array.sum(dtype=np.float64))):
            return
    bad = ~np.isfinite(array)
    if bad.any():
        raise ModelFileError(
            f"its array {name!r} has {int(bad.sum())} values that are NaN or infinite; the model was damaged or its "
            "training diverged; train it again."
        )


def group(arrays: Arrays, prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names start with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def grouped(arrays: Arrays, prefix: str) -> dict[str, np.ndarray]:
    """The inverse of `group`."""
    return {f"{prefix}{name}": array for name, array in arrays.items()}
