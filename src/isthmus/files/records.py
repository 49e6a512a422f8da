"""Declared states: what a file of one kind holds, as types, which are checked when it is written and when it is read.

A `Record` declares the JSON values of a kind, a mapping of `Numbers` its arrays. `pack` makes a state of both, `unpack`
gives them back; whatever does not fit the declaration is refused with the name of the field. So a state that is written
can be read, and one that is read has every field in the type and shape that the code behind it counts on.
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
"""How many there are of something of which there is one at least."""
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Real = Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
"""A finite number; ``float`` is one that may be infinite or NaN."""
Json = dict[str, Any]
"""Names and values that are checked by what reads them: parameters."""


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The JSON values of a state: typed fields, of which those with a default may be left out."""


R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Numbers:
    """An array of a state.

    Attributes
    ----------
    kinds
        Which numpy kinds it may have: ``"f"`` floats, ``"i"`` integers, ``"u"`` unsigned ones, ``"b"`` booleans.
    shape
        A number for a length that is known, a text for one that is the same in every array where the text stands, None
        for any. None in place of the whole: any shape.
    bits
        The size of a number, or None for any.
    finite
        Whether NaN and infinities are refused. The rule: weights and whatever answers are computed from are finite.
        Only measurements of the training rows may be NaN or infinite, and rows that are kept with their holes.
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
    """A state of these values and arrays.

    Parameters
    ----------
    kind
        Public name of the class.
    values
        What JSON holds.
    arrays
        Numbers by name.
    declared
        What the arrays are to be, by name. ``"part.*"`` lets every name pass that begins with ``part.``: the arrays of
        a part that has a declaration of its own.
    sizes
        Lengths that are known, by the text that stands for them in shapes.

    Raises
    ------
    ModelFileError
        The arrays do not fit what is declared, such as weights that are NaN.
    """
    check_arrays(arrays, declared, sizes)
    plain = _plain(values)
    convert(plain, type(values))
    return State(kind, plain, arrays)


def _plain(value: Any) -> Any:
    """Records as dictionaries. ``msgspec.to_builtins`` would turn dates and the like into texts on the way."""
    if isinstance(value, Record):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value


def unpack(state: State, record: type[R], declared: Declared, sizes: Mapping[str, int] | None = None) -> R:
    """The values of a state as they were declared, after its arrays were checked.

    Raises
    ------
    ModelFileError
        A value is missing, unknown, of another type or out of range; or an array is.
    """
    values = convert(state.values, record)
    check_arrays(state.arrays, declared, sizes)
    return values


def convert(values: Any, record: type[R], where: str = "values") -> R:
    """JSON values as a record; the error names the field."""
    try:
        return msgspec.convert(values, record)
    except msgspec.ValidationError as error:
        text = str(error).replace("`$", f"`{where}").replace("object", "record")
        raise ModelFileError(f"its header does not fit: {text} (kind {record.__name__}).") from None


def check_fields(values: Json, cls: type[Any], where: str) -> None:
    """Refuse values that are not the fields of a dataclass, by name and type, or numbers that are not finite."""
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
    """Refuse arrays that are missing, unknown, or not of the declared type and shape."""
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
    """Refuse an array that holds NaN or infinities.

    The sum is looked at first: it costs a tenth of a mask, and is finite for nearly every array that is.
    """
    if array.dtype.kind != "f":
        return
    with np.errstate(over="ignore", invalid="ignore"):
        if math.isfinite(float(array.sum(dtype=np.float64))):
            return
    bad = ~np.isfinite(array)
    if bad.any():
        raise ModelFileError(
            f"its array {name!r} holds {int(bad.sum())} numbers that are NaN or infinite; the model was damaged or "
            "never learned; train it again."
        )


def group(arrays: Arrays, prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with a prefix, by what stands behind it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def grouped(arrays: Arrays, prefix: str) -> dict[str, np.ndarray]:
    """The inverse of `group`."""
    return {f"{prefix}{name}": array for name, array in arrays.items()}
