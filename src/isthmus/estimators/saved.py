"""`save`, and pickles that are model files: what every model has, from one place."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from isthmus import training
from isthmus.estimators import params_json
from isthmus.exceptions import IsthmusError, ModelFileError
from isthmus.files.model_file import State, reading, state_of_bytes, state_to_bytes, write_state
from isthmus.files.records import Arrays, Json, group, grouped

MODEL, RUN, OTHERS = "model.safetensors", "run.safetensors", "attributes"
"""The three parts of a pickle. The first two are not valid names of attributes, which distinguishes older pickles."""


class Saved:
    """Mixin of every model: writes a model file, and pickles as the bytes of that file.

    ``pickle``, ``cloudpickle``, ``joblib`` and ``skops`` move a fitted model as its model file, plus what `partial_fit`
    continues from (such as the state of the optimiser) in a second one, plus attributes that files do not hold (such as
    callbacks) as they are. Loading checks both files as `isthmus.load` does. A model that has not been fitted, an own
    subclass, and a model with members of your own, whose code no file holds, are pickled as Python objects.

    ``copy.copy`` and ``copy.deepcopy`` copy the attributes and involve no file.
    """

    learned_in: ClassVar[str] = "fitted_"
    """The attribute that a model has as soon as it was fitted."""
    in_file: ClassVar[frozenset[str]] = frozenset({"fitted_"})
    """The attributes besides parameters that a pickle restores from its two files."""

    def save(self, path: str | Path) -> Path:
        """Write the model to one file atomically; `isthmus.load` reads it.

        Raises
        ------
        OutputError
            The file cannot be written; an existing file is not changed.
        """
        if not hasattr(self, self.learned_in):
            check_is_fitted(self, self.learned_in)
        return write_state(path, self._to_state())

    def _to_state(self) -> State:
        """All that a model file holds."""
        raise NotImplementedError

    @classmethod
    def _from_state(cls, state: State, *, network: Any = None, device: str = "auto") -> Self:
        """The inverse of `_to_state`."""
        raise NotImplementedError

    def _run_state(self) -> tuple[Json, dict[str, np.ndarray]]:
        """What continued training needs besides the file, as JSON values and arrays."""
        return {}, {}

    def _put_run_state(self, values: Json, arrays: Arrays) -> None:
        """The inverse of `_run_state`."""

    def _learned_members(self) -> Iterable[Any]:
        """The choices and estimators that were learned with, which a loaded model must make again."""
        return ()

    # -- pickles -------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """The parts of a pickle; the attributes alone where a file cannot hold the model."""
        members = dict(vars(self))
        if not (hasattr(self, self.learned_in) and params_json.is_ours(type(self)) and self._fits_in_a_file(members)):
            return members
        try:
            model = state_to_bytes(self._to_state())
            values, arrays = self._run_state()
            run = state_to_bytes(State(type(self).__name__, values, arrays))
        except (IsthmusError, TypeError, ValueError):  # labels or weights that no file holds: only pickles move these
            return members
        others = {name: value for name, value in members.items() if not self._is_in_file(name, value)}
        return {MODEL: model, RUN: run, OTHERS: others}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Load the files of a pickle, with the checks of `isthmus.load`."""
        if MODEL not in state:
            parent = getattr(super(), "__setstate__", self.__dict__.update)
            parent(state)
            return
        origin = f"the pickle of {type(self).__name__}"
        with reading(origin):
            others = dict(state[OTHERS])
            made = self._from_state(_checked(self, state[MODEL], origin), device=_place(others.get("device", "auto")))
            run = _checked(self, state[RUN], origin)
            made._put_run_state(dict(run.values), run.arrays)  # noqa: SLF001  # of this class
        self.__dict__.update(vars(made) | others)

    def _fits_in_a_file(self, members: Mapping[str, Any]) -> bool:
        names = self._parameter_names()
        given = (value for name, value in members.items() if name in names and params_json.has_members(value))
        return all(map(params_json.fits, (*given, *self._learned_members())))

    def _is_in_file(self, name: str, value: Any) -> bool:
        if name in self._parameter_names():
            return params_json.has_members(value) and params_json.is_restored(value)  # others are kept as they are
        return name in self.in_file

    @classmethod
    def _parameter_names(cls) -> list[str]:
        return list(getattr(cls, "_get_param_names", list)())

    # -- copies --------------------------------------------------------------------------------------------------

    def __copy__(self) -> Self:
        return self._with(self._attributes())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        memo[id(self)] = made = type(self).__new__(type(self))
        return made._with(copy.deepcopy(self._attributes(), memo), made)  # noqa: SLF001  # of this class

    def _attributes(self) -> dict[str, Any]:
        """What a copy copies; an own subclass may say so itself by `__getstate__`."""
        return dict(vars(self)) if params_json.is_ours(type(self)) else self.__getstate__()

    def _with(self, attributes: Mapping[str, Any], made: Self | None = None) -> Self:
        made = type(self).__new__(type(self)) if made is None else made
        made.__setstate__(attributes)
        return made


def run_of(model: Saved | None, prefix: str) -> tuple[Json, dict[str, np.ndarray]]:
    """What a model inside another one continues from, as parts of the `_run_state` of the other one."""
    values, arrays = ({}, {}) if model is None else model._run_state()  # noqa: SLF001  # of the same mixin
    return {prefix: values}, grouped(arrays, f"{prefix}.")


def put_run_of(model: Saved | None, prefix: str, values: Json, arrays: Arrays) -> None:
    """The inverse of `run_of`."""
    if model is not None:
        model._put_run_state(values[prefix], group(arrays, f"{prefix}."))  # noqa: SLF001  # of the same mixin


def as_arrays(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, np.ndarray]:
    """Tensors as arrays, such as the state of an optimiser."""
    return grouped({name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}, prefix)


def as_tensors(arrays: Arrays, prefix: str) -> dict[str, Tensor]:
    """The inverse of `as_arrays`, on the CPU."""
    return {name: torch.from_numpy(np.array(array)) for name, array in group(arrays, prefix).items()}


def _checked(model: Saved, blob: bytes, origin: str) -> State:
    state = state_of_bytes(blob, origin)
    if state.kind != type(model).__name__:
        raise ModelFileError(
            f"it contains the file of {state.kind}; the pickle was changed since it was written; pickle the model "
            "again."
        )
    return state


def _place(device: str) -> str:
    """The device of a pickled model; the usual one where this machine lacks it."""
    try:
        training.choose_device(device)
    except (ValueError, RuntimeError):
        return "auto"
    return device
