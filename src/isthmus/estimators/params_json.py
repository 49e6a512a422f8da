"""Conversion of parameters and choices to JSON and back; choices are identified by kind, class and module."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec
import numpy as np
import torch
from sklearn.base import BaseEstimator

from isthmus import choices, training
from isthmus.choices.corruptions import Chain
from isthmus.choices.networks import NETWORKS, Modules
from isthmus.choices.penalties import Sum
from isthmus.choices.registry import Choice, Registry, unknown
from isthmus.exceptions import ModelFileError
from isthmus.files.records import Json, Record, convert

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
"""The registries of choices by noun, which is the name of the parameter that holds the choice."""
COMPOSED: Mapping[str, tuple[type[Choice], ...]] = {"corruption": (Chain,), "penalty": (Sum,)}
"""Members without a short name, because they are given as a list of members."""


E = TypeVar("E")


def add_kind(registry: Registry[Any]) -> None:
    """Add a registry whose members may be stored in files, such as the registry of a task."""
    KINDS[registry.noun] = registry


# -- parameters --------------------------------------------------------------------------------------------------------


def encode(value: Any) -> Any:
    """A parameter as plain data for display; choices become class and parameters."""
    return _encode(value, qualified=False)


def params_to_json(params: Mapping[str, Any]) -> Json:
    """Parameters in stored form; `make_estimator` is the inverse.

    Values of types that a file cannot store, such as callbacks and generators, become None.
    """
    return {name: _encode(() if name == "callbacks" else value, qualified=True) for name, value in params.items()}


def to_json(value: Any) -> Any:
    """A parameter in stored form; `decode` is the inverse."""
    return _encode(value, qualified=True)


def _encode(value: Any, *, qualified: bool) -> Any:  # noqa: PLR0911  # one line per type
    def each(params: Mapping[Any, Any]) -> Json:
        return {name: _encode(part, qualified=qualified) for name, part in params.items()}

    if isinstance(value, Modules | torch.nn.Module):
        named: Json = {"class": "Modules", "params": {}}  # code is never written to a file
        return {"choice": NETWORKS.noun, **named} if qualified else named
    if isinstance(value, Choice):
        origin = _origin(type(value)) if qualified else {}
        return {**origin, "class": type(value).__name__, "params": each(value.get_params(deep=False))}
    if isinstance(value, type) and issubclass(value, torch.optim.Optimizer):
        return value.__name__  # the name means the same optimiser
    if isinstance(value, BaseEstimator):
        return {"estimator": type(value).__name__, "params": params_to_json(value.get_params(deep=False))}
    if isinstance(value, Mapping):
        # Stored as pairs: a column may be called "class", and column names need not be strings.
        return {"mapping": [[plain(name), part] for name, part in each(value).items()]} if qualified else each(value)
    if isinstance(value, tuple):
        return {"tuple": [_encode(part, qualified=qualified) for part in value]}
    if isinstance(value, list):
        return [_encode(part, qualified=qualified) for part in value]
    return plain(value)


def has_members(value: Any) -> bool:
    """Whether a parameter is or contains a choice, an estimator or a module.

    >>> has_members("masking"), has_members([choices.Masking()])
    (False, True)
    """
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return isinstance(value, Choice | BaseEstimator | torch.nn.Module) or any(map(has_members, parts))


def fits(value: Any) -> bool:
    """Whether a file holds all that makes a value: False for your own classes, modules, activations and objects.

    >>> fits((choices.Dense((8,)), 3)), fits(torch.nn.Linear(2, 2)), fits([object()])
    (True, False, False)
    """
    if isinstance(value, Choice | BaseEstimator):
        if not is_ours(type(value)) or isinstance(value, Modules):
            return False
        learned: Iterable[Any] = getattr(value, "_learned_members", tuple)()  # of a model
        return all(map(fits, (*value.get_params(deep=False).values(), *learned)))
    if isinstance(value, Mapping):
        return all(map(fits, value.values()))
    if isinstance(value, list | tuple):
        return all(map(fits, value))
    if isinstance(value, type):
        return value is getattr(torch.optim, value.__name__, None)
    return _is_ours_if_activation(value) and (value is None or plain(value) is not None)


def _is_ours_if_activation(value: Any) -> bool:
    known = choices.ACTIVATIONS.get(value) if isinstance(value, str) else None
    return known is None or is_ours(known.function)


def is_restored(value: Any) -> bool:
    """Whether `decode` of `to_json` gives an equal value, with all its types.

    >>> is_restored((choices.Dense((8,)), 3)), is_restored([np.float64(1.0)])
    (True, False)
    """
    if isinstance(value, Choice | BaseEstimator):
        params = value.get_params(deep=False)
        return fits(value) and vars(value) == params and all(map(is_restored, params.values()))
    if type(value) in (list, tuple):
        return all(map(is_restored, value))
    return value is None or type(value) in (str, int, float, bool)


def plain(value: Any) -> Any:
    """A number, string or boolean as a JSON value; None for all other values."""
    found = value.item() if isinstance(value, np.generic) else value
    return found if isinstance(found, str | int | float | bool | None) else None


def _origin(member: type[Choice]) -> Json:
    """The kind of choice of a class, and its module if it is not part of the library."""
    kind = next((noun for noun, registry in KINDS.items() if issubclass(member, registry.base)), None)
    return {"choice": kind} | ({} if is_ours(member) else {"module": member.__module__})


def is_ours(member: Any) -> bool:
    """Whether a class or function is part of the library."""
    return str(member.__module__).partition(".")[0] == "isthmus"


class _Member(Record, frozen=True):
    """A choice in stored form; files of format 1 have no `choice` and `module`."""

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
        The stored value.
    kind
        The kind of choice of a member of format 1, known from its parameter.
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
        return _made(public_class(estimator.estimator), estimator.params)
    return {name: decode(part) for name, part in value.items()}


def with_modules(value: Any, network: Any) -> Any:
    """Stored parameters with the user's modules inserted where the file marks them."""
    if network is None or not isinstance(value, Mapping | list):
        return value
    if isinstance(value, list):
        return [with_modules(part, network) for part in value]
    if value.get("class") == "Modules" and "params" in value:
        return NETWORKS.resolve(network)
    return {name: with_modules(part, network) for name, part in value.items()}


def _made(cls: type[E], values: Json, kind: str | None = None, **others: Any) -> E:
    """Build an object from stored parameters; for an estimator the parameter's name is the kind of choice."""
    known = cls._get_param_names()  # type: ignore[attr-defined]  # scikit-learn's, of every estimator and choice
    wrong = [unknown(f"parameter of {cls.__name__}", name, known) for name in values if name not in known]
    if wrong:
        raise ModelFileError(f"its header does not fit: {wrong[0]}")
    given = {name: value for name, value in values.items() if name not in others}
    params = {name: decode(value, kind or (name if name in KINDS else None)) for name, value in given.items()}
    return cls(**params, **others)


def make_estimator(cls: type[E], params: Json, **others: Any) -> E:
    """Build an estimator from stored parameters, some of them replaced by others."""
    return _made(cls, params, **others)


def _class_of(member: _Member, kind: str | None) -> type[Choice]:
    """The class of a stored member, by its kind of choice and its module."""
    if member.name == "Modules":
        raise ModelFileError(
            "the model was built from your own modules, and their code is not in the file; "
            "pass them again: isthmus.load(path, network=(encoder, decoder))."
        )
    if member.choice is not None and member.choice not in KINDS:
        raise ModelFileError(f"its header does not fit: {unknown('kind of choice', member.choice, KINDS)}")
    nouns = [member.choice] if member.choice else sorted(KINDS, key=lambda noun: noun != kind)
    found = [cls for noun in nouns for cls in _classes(noun) if cls.__name__ == member.name]
    if member.choice:  # a user's member never matches one of the library with the same name, or vice versa
        found = [cls for cls in found if is_ours(cls) == (member.module is None)]
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
        f"Unknown {noun} in the model file {member.name!r}. If it is your own class, import {home}, which registers it "
        f"with @register, before isthmus.load(path). Known: {known}."
    )


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ModelFileError(f"its header has {str(value)[:40]!r} where a list is needed.")
    return value


def public_class(kind: str, library: str = "") -> Any:
    """The public class of the library with this name, if it can be loaded."""
    public = importlib.import_module("isthmus")
    cls = getattr(public, kind) if kind in public.__all__ else None
    if not hasattr(cls, "_from_state"):
        raise ModelFileError(
            f"it contains a {kind!r}, which this isthmus {public.__version__} cannot load as a model"
            + (f"; it was written by isthmus {library}." if library else ".")
        )
    return cls
