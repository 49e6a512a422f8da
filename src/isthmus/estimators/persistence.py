"""An estimator as a state, and back: JSON for what it was told and learned, arrays for its weights."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch.overrides import TorchFunctionMode

from isthmus import choices, training
from isthmus.choices.corruptions import Chain
from isthmus.choices.networks import NETWORKS, Modules
from isthmus.choices.penalties import Sum
from isthmus.choices.registry import Choice, Context, Registry, unknown
from isthmus.data import Scaling
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

KINDS: dict[str, Registry[Any]] = {
    registry.noun: registry
    for registry in (
        choices.NETWORKS,
        choices.CODES,
        choices.CORRUPTIONS,
        choices.PENALTIES,
        choices.LOSSES,
        training.SCHEDULES,
        training.OPTIMIZERS,
        training.PRETRAININGS,
    )
}
"""The registries of choices by what a member is called, which is the name of the parameter that holds it."""
COMPOSED: Mapping[str, tuple[type[Choice], ...]] = {"corruption": (Chain,), "penalty": (Sum,)}
"""Members that have no short name, because a list of members means them."""


E = TypeVar("E")
M = TypeVar("M", bound=torch.nn.Module)


def add_kind(registry: Registry[Any]) -> None:
    """Let files hold the members of one more registry, such as that of a task."""
    KINDS[registry.noun] = registry


# -- parameters --------------------------------------------------------------------------------------------------------


def encode(value: Any) -> Any:
    """A parameter as plain data for people: choices become their class and parameters."""
    return _encode(value, qualified=False)


def params_to_json(params: Mapping[str, Any]) -> Json:
    """Parameters for a file, from which `params_from_json` makes them again.

    Values of types that a file does not keep, such as callbacks and generators, become None.
    """
    return {name: _encode(() if name == "callbacks" else value, qualified=True) for name, value in params.items()}


def _encode(value: Any, *, qualified: bool) -> Any:  # noqa: PLR0911  # one line a type
    def each(params: Mapping[Any, Any]) -> Json:
        return {name: _encode(part, qualified=qualified) for name, part in params.items()}

    if isinstance(value, Modules | torch.nn.Module):
        named: Json = {"class": "Modules", "params": {}}  # code is never written to a file
        return {"choice": NETWORKS.noun, **named} if qualified else named
    if isinstance(value, Choice):
        origin = _origin(type(value)) if qualified else {}
        return {**origin, "class": type(value).__name__, "params": each(value.get_params(deep=False))}
    if isinstance(value, BaseEstimator):
        return {"estimator": type(value).__name__, "params": params_to_json(value.get_params(deep=False))}
    if isinstance(value, Mapping):
        # Pairs in a file: a column may be called "class", and the names of columns need not be texts.
        return {"mapping": [[plain(name), part] for name, part in each(value).items()]} if qualified else each(value)
    if isinstance(value, tuple):
        return {"tuple": [_encode(part, qualified=qualified) for part in value]}
    if isinstance(value, list):
        return [_encode(part, qualified=qualified) for part in value]
    return plain(value)


def plain(value: Any) -> Any:
    """A number, text or truth value as JSON has it; None for all else."""
    found = value.item() if isinstance(value, np.generic) else value
    return found if isinstance(found, str | int | float | bool | None) else None


def _origin(member: type[Choice]) -> Json:
    """Which choice a class is a member of, and the module of one that is not the library's own."""
    kind = next((noun for noun, registry in KINDS.items() if issubclass(member, registry.base)), None)
    return {"choice": kind} | ({} if _is_ours(member) else {"module": member.__module__})


def _is_ours(member: type) -> bool:
    return member.__module__.partition(".")[0] == "isthmus"


class _Member(Record, frozen=True):
    """A choice as it stands in a file; `choice` and `module` are not in files of format 1."""

    name: str = msgspec.field(name="class")
    params: Json
    choice: str | None = None
    module: str | None = None


class _Estimator(Record, frozen=True):
    """An estimator that is a parameter of another one."""

    estimator: str
    params: Json


def decode(value: Any, kind: str | None = None) -> Any:  # noqa: PLR0911  # one line a type
    """The inverse of `_encode`.

    Parameters
    ----------
    value
        What stands in the file.
    kind
        The choice that a member of format 1 belongs to, by the parameter that holds it.
    """
    if isinstance(value, list):
        return [decode(part, kind) for part in value]
    if not isinstance(value, Mapping):
        return value
    if set(value) == {"tuple"}:
        return tuple(decode(part, kind) for part in _listed(value["tuple"]))
    if set(value) == {"mapping"}:
        pairs = [_listed(pair) for pair in _listed(value["mapping"])]
        if not all(len(pair) == 2 and isinstance(pair[0], str | int | float | None) for pair in pairs):
            raise ModelFileError("its header has a mapping that is not a list of names with their values.")
        return {name: decode(part) for name, part in pairs}
    if {"class", "params"} <= set(value) <= {"class", "params", "choice", "module"}:
        member = convert(value, _Member, "choice")
        kind = member.choice or kind
        return _made(_class_of(member, kind), member.params, kind)
    if set(value) == {"estimator", "params"}:
        estimator = convert(value, _Estimator, "estimator")
        return _made(_public(estimator.estimator), estimator.params)
    return {name: decode(part) for name, part in value.items()}


def _made(cls: type[E], values: Json, kind: str | None = None, **others: Any) -> E:
    """An object of its parameters; for an estimator each parameter says by its name what choice it holds."""
    known = cls._get_param_names()  # type: ignore[attr-defined]  # scikit-learn's, of every estimator and choice
    wrong = [unknown(f"parameter of {cls.__name__}", name, known) for name in values if name not in known]
    if wrong:
        raise ModelFileError(f"its header does not fit: {wrong[0]}")
    given = {name: value for name, value in values.items() if name not in others}
    params = {name: decode(value, kind or (name if name in KINDS else None)) for name, value in given.items()}
    return cls(**params, **others)


def make_estimator(cls: type[E], params: Json, **others: Any) -> E:
    """An estimator with the parameters of a file, some of them replaced by others."""
    return _made(cls, params, **others)


def _class_of(member: _Member, kind: str | None) -> type[Choice]:
    """The class of a member: of its choice where that is known, and of the module that it came from."""
    if member.name == "Modules":
        raise ModelFileError(
            "the model was built from modules of your own, and their code is not in the file; "
            "give them again: isthmus.load(path, network=(encoder, decoder))."
        )
    if member.choice is not None and member.choice not in KINDS:
        raise ModelFileError(f"its header does not fit: {unknown('kind of choice', member.choice, KINDS)}")
    nouns = [member.choice] if member.choice else sorted(KINDS, key=lambda noun: noun != kind)
    found = [cls for noun in nouns for cls in _classes(noun) if cls.__name__ == member.name]
    if member.choice:  # a member of one's own is never taken for one of the library, nor the other way round
        found = [cls for cls in found if _is_ours(cls) == (member.module is None)]
    found.sort(key=lambda cls: cls.__module__ != member.module)
    if not found:
        raise ModelFileError(_missing_member(member, kind))
    return found[0]


def _classes(noun: str) -> list[type[Choice]]:
    return [*KINDS[noun].members.values(), *COMPOSED.get(noun, ())]


def _missing_member(member: _Member, kind: str | None) -> str:
    noun, home = (
        kind or "choice",
        f"the module {member.module!r}" if member.module not in (None, "__main__") else "the module with its class",
    )
    known = ", ".join(
        sorted(cls.__name__ for registry in ([kind] if kind in KINDS else KINDS) for cls in _classes(registry))
    )
    return (
        f"Unknown {noun} in the model file {member.name!r}. If it is a member of your own, import {home}, where "
        f"@register makes it known, before isthmus.load(path). Known: {known}."
    )


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ModelFileError(f"its header has {str(value)[:40]!r} where a list is needed.")
    return value


class _Kept(Record, frozen=True):
    """A fitted estimator that is a parameter: its own state, or a mark that it is the one that was learned from."""

    kind: str
    values: Json


def keep_estimator(given: Any, fitted: Any) -> tuple[Json | None, dict[str, np.ndarray]]:
    """An estimator that is a parameter, as JSON and arrays.

    Parameters
    ----------
    given
        The parameter: None, an estimator that is not fitted, or a fitted one.
    fitted
        The fitted estimator that the file holds anyhow; where `given` is the same, nothing is kept twice.
    """
    if given is None or not hasattr(given, "objective_"):
        return (None if given is None else {"unfitted": _encode(given, qualified=True)}), {}
    own = given._to_state()  # noqa: SLF001  # its file within that of another
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
        return decode(kept["unfitted"])
    own = convert(kept, _Kept, "estimator")
    return from_state(State(own.kind, own.values, arrays), network=network, device=device)


# -- what was learned --------------------------------------------------------------------------------------------------


class ContextValues(Record, frozen=True):
    """What was known of the data at fit; the ranges of the features are an array, where a file has them."""

    feature_shape: list[Size]
    code_size: Size
    lower: float = -math.inf
    upper: float = math.inf
    n_conditions: Count = 0


def context_values(context: Context) -> ContextValues:
    """A context as a file keeps it."""
    return ContextValues(
        feature_shape=list(map(int, context.feature_shape)),
        code_size=int(context.code_size),
        lower=context.lower,
        upper=context.upper,
        n_conditions=context.n_conditions,
    )


def context_of(values: ContextValues, ranges: np.ndarray | None = None) -> Context:
    """The inverse of `context_values`."""
    shape = tuple(values.feature_shape)
    context = Context(shape, values.code_size, values.lower, values.upper, values.n_conditions, ranges)
    if math.isnan(values.lower) or math.isnan(values.upper) or values.lower > values.upper:
        raise ModelFileError(f"its header does not fit: the data lie between {values.lower} and {values.upper}.")
    if context.n_features > 2**53:
        raise ModelFileError(f"its header does not fit: a row of shape {shape} is too large.")
    return context


def scaling_of(name: str, arrays: Arrays, n_features: int) -> Scaling:
    """The scaling of a file, after its arrays were checked."""
    shape: tuple[int, ...] = (n_features,) if any(array.ndim for array in arrays.values()) else ()
    check_arrays(arrays, {part: Numbers("f", None, 64) for part in ("shift", "factor")})
    for part, array in arrays.items():
        if array.shape not in ((), (n_features,)):
            raise ModelFileError(f"its array 'scaling.{part}' has shape {array.shape}, but () or {shape} is needed.")
    return Scaling.from_arrays(name, arrays)


FIVE = ("network", "code", "corruption", "penalty", "loss")


class SchemaValues(Record, frozen=True):
    """The columns of a table, each with the fields of its kind."""

    n_rows: Count
    columns: list[Json]


def schema_of(values: Json) -> Schema:
    """The schema of a file, after every field of every column was checked against its type."""
    from isthmus.data.tables import Schema  # noqa: PLC0415  # reading tables takes a while to load
    from isthmus.data.tables.columns import KINDS as COLUMNS  # noqa: PLC0415

    for place, column in enumerate(convert(values, SchemaValues, "schema").columns):
        where = f"schema.columns[{place}]"
        if not isinstance(column.get("kind"), str) or column["kind"] not in COLUMNS:
            raise ModelFileError(f"its header does not fit: {where} is of no known kind of column.")
        check_fields({name: part for name, part in column.items() if name != "kind"}, COLUMNS[column["kind"]], where)
    return Schema.from_json(values)


def fitted_choices(objective: training.Objective) -> Json:
    """The five choices as they were in force at fit; the parameters may have been set since."""
    return params_to_json({name: getattr(objective.choices, name) for name in FIVE})


def objective_of(fitted: Json, context: Context, arrays: Arrays, network: Any = None) -> training.Objective:
    """The trained objective of a file: its choices as they were at fit, with its weights."""
    made: Json = {name: decode(fitted.get(name), name) for name in FIVE if name != "network" or network is None}
    made = {"network": NETWORKS.resolve(network)} | made if network is not None else made
    wrong = [name for name, member in made.items() if not isinstance(member, KINDS[name].base)]
    wrong = [name for name in wrong if made[name] is not None or name not in ("corruption", "penalty")]
    mistakes = [f"it has no {name}." for name in wrong] or [text for c in made.values() if c for text in c.mistakes()]
    if mistakes:
        raise ModelFileError(f"its header does not fit: {mistakes[0]}")
    five = training.Choices(**made)
    return load_module(
        lambda: training.Objective(five, context), arrays, own_modules=isinstance(made["network"], Modules)
    )


def weights(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """All that a module has learned, by name; a weight that two layers share is kept once.

    Raises
    ------
    ModelFileError
        A weight is NaN or infinite: a file of it would be refused when it is loaded.
    """
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in _unshared(module).items()}
    _check_learned(module, arrays)
    return arrays


def _check_learned(module: torch.nn.Module, arrays: Arrays) -> None:
    """Parameters are finite; buffers, such as the mask of an attention layer, may be infinite, but not NaN."""
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
    """Within the block, tensors are made with a shape and no memory.

    ``with torch.device("meta")`` does the same, but writes a variable that all threads share. A network of which a file
    asks for far more tensors than it holds is refused while it is built.
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
                raise ModelFileError("its header asks for a network of more layers than the file has arrays.")
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def load_module(make: Callable[[], M], arrays: Arrays, *, own_modules: bool = False) -> M:
    """A module with the weights of a file.

    It is made without memory at first and compared with the arrays, so that a damaged header cannot ask for more
    memory than the file has numbers.

    Parameters
    ----------
    make
        Makes the module with any weights.
    arrays
        Its weights, as `weights` gave them.
    own_modules
        Whether it is made of modules that the user gave and that exist already.
    """
    if not own_modules:
        with _WithoutNumbers(64 + 8 * len(arrays)):
            _compare(_unshared(make()), arrays)
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


# -- the door ----------------------------------------------------------------------------------------------------------


def load(path: str | Path, *, network: Any = None, device: str = "auto") -> Any:
    """Give back the estimator that `save` wrote.

    Parameters
    ----------
    path
        A model file, or a checkpoint, which gives the model as it was when it was written.
    network
        Only for a model built from modules of your own: the same pair of modules.
    device
        Where the model shall work from now on; a model trained on one device loads on any.

    Returns
    -------
    A fitted estimator of the class that was saved.

    Raises
    ------
    ModelFileError
        The file is missing, truncated, changed since it was written, foreign, newer, or holds no model.

    Examples
    --------
    >>> import isthmus, numpy, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> model = isthmus.Autoencoder(2, max_epochs=1, random_state=0).fit(numpy.random.default_rng(0).random((20, 4)))
    >>> _ = model.save(path)
    >>> isthmus.load(path).code_size
    2
    """
    training.choose_device(device)  # what is wrong with the arguments is no fault of the file
    if network is not None:
        NETWORKS.resolve(network)
    state = read_state(path)
    with reading(path):
        return from_state(state, network=network, device=device)


def from_state(state: State, *, network: Any = None, device: str = "auto") -> Any:
    """The object of a state, found by the public name of its class; of a checkpoint, the model in it."""
    if state.kind == KIND:
        state = model_state(state)
    return _public(state.kind, state.library_version)._from_state(  # noqa: SLF001  # the other half of `save`
        state, network=network, device=device
    )


def _public(kind: str, library: str = "") -> Any:
    """The class of the library that has this public name and can be loaded."""
    public = importlib.import_module("isthmus")
    cls = getattr(public, kind) if kind in public.__all__ else None
    if not hasattr(cls, "_from_state"):
        raise ModelFileError(
            f"it holds a {kind!r}, which this isthmus {public.__version__} cannot load as a model"
            + (f"; it was written by isthmus {library}." if library else ".")
        )
    return cls
