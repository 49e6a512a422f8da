"""Shared parts of model files: contexts, scalings, labels, weights, nested estimators; and `load`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from isthmus import training
from isthmus.choices.networks import NETWORKS, Modules
from isthmus.choices.precision import single_precision
from isthmus.choices.registry import Context
from isthmus.data import Scaling
from isthmus.estimators import params_json
from isthmus.estimators.params_json import public_class
from isthmus.exceptions import ModelFileError
from isthmus.files.model_file import State, read_state, reading
from isthmus.files.records import (
    Arrays,
    Count,
    Json,
    Numbers,
    Record,
    Size,
    check_arrays,
    check_fields,
    check_finite,
    convert,
)
from isthmus.training.checkpoint import KIND, model_state

if TYPE_CHECKING:
    from isthmus.data.tables import Schema

M = TypeVar("M", bound=torch.nn.Module)


class _Kept(Record, frozen=True):
    """A fitted estimator that is a parameter: its kind and values."""

    kind: str
    values: Json


def keep_estimator(given: Any, fitted: Any) -> tuple[Json | None, dict[str, np.ndarray]]:
    """Convert an estimator that is a parameter to JSON and arrays.

    Parameters
    ----------
    given
        The parameter: None, an estimator that is not fitted, or a fitted one.
    fitted
        The fitted estimator that the file contains anyway; if `given` is the same, it is not stored twice.
    """
    if given is None or not hasattr(given, "objective_"):
        return (None if given is None else {"unfitted": params_json.to_json(given)}), {}
    own = given._to_state()  # noqa: SLF001  # the state of an isthmus estimator
    if fitted is not None and _same(own, fitted._to_state()):  # noqa: SLF001
        return {"same": True}, {}
    return {"kind": own.kind, "values": dict(own.values)}, dict(own.arrays)


def _same(one: State, other: State) -> bool:
    equal = one.kind == other.kind and one.values == other.values and one.arrays.keys() == other.arrays.keys()
    return equal and all(np.array_equal(array, other.arrays[name]) for name, array in one.arrays.items())


def kept_estimator(kept: Json | None, arrays: Arrays, fitted: Any, network: Any, device: str) -> Any:
    """The inverse of `keep_estimator`."""
    if kept is None or kept == {"same": True}:
        return None if kept is None else fitted
    if set(kept) == {"unfitted"}:
        return params_json.decode(params_json.with_modules(kept["unfitted"], network))
    own = convert(kept, _Kept, "estimator")
    return from_state(State(own.kind, own.values, arrays), network=network, device=device)


# -- learned values ----------------------------------------------------------------------------------------------------


class ContextValues(Record, frozen=True):
    """The context of fit; the ranges of the features are stored separately, as an array."""

    feature_shape: list[Size]
    code_size: Size
    lower: float = -math.inf
    upper: float = math.inf
    n_conditions: Count = 0
    target: ContextValues | None = None


def context_values(context: Context) -> ContextValues:
    """Convert a context to its stored form."""
    return ContextValues(
        target=None if context.target is None else context_values(context.target),
        feature_shape=list(map(int, context.feature_shape)),
        code_size=int(context.code_size),
        lower=context.lower,
        upper=context.upper,
        n_conditions=context.n_conditions,
    )


def context_of(values: ContextValues, ranges: np.ndarray | None = None) -> Context:
    """The inverse of `context_values`."""
    shape, target = tuple(values.feature_shape), None if values.target is None else context_of(values.target)
    context = Context(shape, values.code_size, values.lower, values.upper, values.n_conditions, ranges, target)
    if target is not None and (target.code_size, target.n_conditions) != (context.code_size, context.n_conditions):
        raise ModelFileError("its header does not fit: the target has another code than the rows.")
    if target is not None and target.target is not None:
        raise ModelFileError("its header does not fit: a target has no target.")
    if math.isnan(values.lower) or math.isnan(values.upper) or values.lower > values.upper:
        raise ModelFileError(f"its header does not fit: the data lie between {values.lower} and {values.upper}.")
    if context.n_features > 2**53:
        raise ModelFileError(f"its header does not fit: a row of shape {shape} is too large.")
    return context


def scaling_of(name: str, arrays: Arrays, n_features: int) -> Scaling:
    """Check the arrays of a scaling and build it."""
    shape: tuple[int, ...] = (n_features,) if any(array.ndim for array in arrays.values()) else ()
    check_arrays(arrays, {part: Numbers("f", None, 64) for part in ("shift", "factor")})
    for part, array in arrays.items():
        if array.shape not in ((), (n_features,)):
            raise ModelFileError(f"its array 'scaling.{part}' has shape {array.shape}, but () or {shape} is needed.")
    return Scaling.from_arrays(name, arrays)


class Labels(Record, frozen=True):
    """Labels with their dtype, which JSON does not store."""

    dtype: str
    values: list[str | int | float | bool]


def labels_to_json(labels: np.ndarray) -> Labels:
    """Convert labels to their stored form."""
    return Labels(dtype="str" if labels.dtype.kind == "U" else labels.dtype.name, values=labels.tolist())


def labels_of(kept: Labels | list[str | int | float | bool]) -> np.ndarray:
    """The inverse of `labels_to_json`; format 1 has only the values."""
    if isinstance(kept, list):
        return np.asarray(kept)
    if kept.dtype not in ("str", "object", "bool") and not re.fullmatch(r"(u?int|float)(8|16|32|64)", kept.dtype):
        raise ModelFileError(f"its header does not fit: labels have no dtype {kept.dtype!r}.")
    return np.asarray(kept.values, dtype=kept.dtype)


FIVE = ("network", "code", "corruption", "penalty", "loss")


class SchemaValues(Record, frozen=True):
    """The columns of a table, each with the fields of its kind."""

    n_rows: Count
    columns: list[Json]


def schema_of(values: Json) -> Schema:
    """Check the type of every field of every column, and build the schema."""
    from isthmus.data.tables import Schema  # noqa: PLC0415  # the table modules are slow to import
    from isthmus.data.tables.columns import KINDS as COLUMNS  # noqa: PLC0415
    from isthmus.data.tables.columns import current_names  # noqa: PLC0415

    for place, column in enumerate(convert(values, SchemaValues, "schema").columns):
        where = f"schema.columns[{place}]"
        if not isinstance(column.get("kind"), str) or column["kind"] not in COLUMNS:
            raise ModelFileError(f"its header does not fit: {where} has an unknown kind of column.")
        named = {name: part for name, part in current_names(column).items() if name != "kind"}
        check_fields(named, COLUMNS[column["kind"]], where)
    return Schema.from_json(values)


def fitted_choices(objective: training.Objective) -> Json:
    """The five choices as used at fit; the estimator's parameters may have changed since."""
    return params_json.params_to_json({name: getattr(objective.choices, name) for name in FIVE})


def objective_of(fitted: Json, context: Context, arrays: Arrays, network: Any = None) -> training.Objective:
    """Build the trained objective of a file: its choices at fit, with its weights."""
    made: Json = {
        name: params_json.decode(fitted.get(name), name) for name in FIVE if name != "network" or network is None
    }
    made = {"network": NETWORKS.resolve(network)} | made if network is not None else made
    wrong = [name for name, member in made.items() if not isinstance(member, params_json.KINDS[name].base)]
    wrong = [name for name in wrong if made[name] is not None or name not in ("corruption", "penalty")]
    mistakes = [f"it has no {name}." for name in wrong] or [text for c in made.values() if c for text in c.mistakes()]
    if mistakes:
        raise ModelFileError(f"its header does not fit: {mistakes[0]}")
    five = training.Choices(**made)
    return load_module(
        lambda: training.Objective(five, context), arrays, own_modules=isinstance(made["network"], Modules)
    )


def weights(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """The weights of a module by name; a weight that two layers share is stored once.

    Raises
    ------
    ModelFileError
        A weight is NaN or infinite: `load` would reject the file.
    """
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in _unshared(module).items()}
    _check_learned(module, arrays)
    return arrays


def _check_learned(module: torch.nn.Module, arrays: Arrays) -> None:
    """Check values: parameters must be finite; buffers, such as attention masks, may be infinite, but not NaN."""
    parameters = {name for name, _ in module.named_parameters()}
    for name, array in arrays.items():
        check_finite(name, array if name in parameters else np.where(np.isinf(array), 0.0, array))


def _unshared(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    kept, seen = dict[str, torch.Tensor](), set[int]()
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            kept[name] = tensor
    return kept


class _WithoutNumbers(TorchFunctionMode):
    """Context manager: new tensors have a shape but no memory.

    The context manager of torch's device "meta" does the same, but writes a variable that all threads share. A header
    that requests far more tensors than the file contains raises an error while the network is built.
    """

    MAKERS = frozenset(
        {
            torch.empty,
            torch.zeros,
            torch.ones,
            torch.full,
            torch.eye,
            torch.arange,
            torch.rand,
            torch.randn,
            torch.tensor,
        }
    )

    def __init__(self, most: int) -> None:
        super().__init__()
        self.left = most

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in self.MAKERS:
            self.left -= 1
            if self.left < 0:
                raise ModelFileError("its header requests a network with more layers than the file has arrays.")
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def load_module(make: Callable[[], M], arrays: Arrays, *, own_modules: bool = False) -> M:
    """Build a module with the weights of a file.

    The module is first built without memory and compared with the arrays, so that a damaged header cannot allocate
    more memory than the file has values.

    Parameters
    ----------
    make
        Builds the module with any weights.
    arrays
        Its weights, as returned by `weights`.
    own_modules
        Whether the module consists of existing modules from the user, which are not built again.
    """
    if not own_modules:
        with _WithoutNumbers(64 + 8 * len(arrays)):
            _compare(_unshared(make()), arrays)
    with single_precision():
        module = make()
    put_weights(module, arrays)
    return module


def _compare(wanted: Mapping[str, torch.Tensor], arrays: Arrays) -> None:
    missing, unexpected = sorted(wanted.keys() - arrays.keys()), sorted(arrays.keys() - wanted.keys())
    if missing or unexpected:
        raise ModelFileError(
            f"The weights in the file do not fit its network: missing {missing}, unexpected {unexpected}."
        )
    for name, tensor in wanted.items():
        shape, array = tuple(tensor.shape), arrays[name]
        if array.shape != shape or (array.dtype.kind == "f") != tensor.is_floating_point():
            raise ModelFileError(
                f"The weights in the file do not fit its network: {name!r} is {array.dtype} of shape {array.shape}, "
                f"but {tensor.dtype} of shape {shape} is needed."
            )


def put_weights(module: torch.nn.Module, arrays: Arrays) -> None:
    """The inverse of `weights`."""
    _compare(_unshared(module), arrays)
    _check_learned(module, arrays)
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    try:
        module.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise ModelFileError(f"The weights in the file do not fit its network: {error}") from None


# -- loading -----------------------------------------------------------------------------------------------------------


def load(path: str | Path, *, network: Any = None, device: str = "auto") -> Any:
    """Load an estimator that `save` wrote.

    Parameters
    ----------
    path
        A model file, or a checkpoint, which contains the model at that epoch.
    network
        Only for a model built from your own modules: the same pair of modules.
    device
        The device of the loaded model, which may differ from the device of training.

    Returns
    -------
    A fitted estimator of the class that was saved.

    Raises
    ------
    ModelFileError
        The file is missing, truncated, modified, from another program or a newer version, or contains no model.

    Examples
    --------
    >>> import isthmus, numpy, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> model = isthmus.Autoencoder(2, max_epochs=1, random_state=0).fit(numpy.random.default_rng(0).random((20, 4)))
    >>> _ = model.save(path)
    >>> isthmus.load(path).code_size
    2
    """
    training.choose_device(device)  # check the arguments before the file
    if network is not None:
        NETWORKS.resolve(network)
    state = read_state(path)
    with reading(path):
        return from_state(state, network=network, device=device)


def from_state(state: State, *, network: Any = None, device: str = "auto") -> Any:
    """Build the object of a state, whose class is found by its public name; for a checkpoint, the model in it."""
    if state.kind == KIND:
        state = model_state(state)
    return public_class(state.kind, state.library_version)._from_state(  # noqa: SLF001  # the counterpart of `save`
        state, network=network, device=device
    )
