"""The model file of an autoencoder: its declared contents, and conversion to and from a state."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from isthmus.choices.registry import Context
from isthmus.estimators import params_json, persistence, torch_modules
from isthmus.estimators.code_mixture import CodeMixture
from isthmus.estimators.saved import as_arrays, as_tensors
from isthmus.estimators.targets import Target, target_of
from isthmus.estimators.units import Known
from isthmus.exceptions import ModelFileError
from isthmus.files.model_file import State
from isthmus.files.records import (
    Arrays,
    Count,
    Json,
    Losses,
    Numbers,
    Real,
    Record,
    Size,
    check_arrays,
    group,
    grouped,
    pack,
    unpack,
)
from isthmus.training import History, choose_device
from isthmus.training.engines import EngineChoice
from isthmus.training.objective import count_parameters

if TYPE_CHECKING:
    from isthmus.estimators.autoencoder import Autoencoder

A = TypeVar("A", bound="Autoencoder")


class Settled(Record, frozen=True):
    """Training parameters, with the values that replaced ``"auto"`` at fit."""

    batch_size: Size
    learning_rate: Real
    max_epochs: Count

    def as_dict(self) -> dict[str, Any]:
        """The values by name."""
        return {name: getattr(self, name) for name in self.__struct_fields__}


class EngineValues(Record, frozen=True):
    """Which engine trained a model, and the reason of each that refused, by name."""

    name: str
    refused: dict[str, str]


class SamplerValues(Record, frozen=True):
    """The labels of the mixture on codes, or None, and whether `fit_sampler` was called."""

    classes: persistence.Labels | list[str | int | float | bool] | None
    asked: bool


class TargetValues(Record, frozen=True):
    """What is known of the targets of pairs, besides their context and arrays."""

    dtype: str
    scaling: str
    names: list[str] | None


class AutoencoderValues(Record, frozen=True):
    """The contents of an autoencoder's file besides arrays."""

    params: Json
    choices: Json
    context: persistence.ContextValues
    classes: persistence.Labels | list[str | int | float | bool] | None
    feature_names: list[str] | None
    scaling: str
    history: list[Losses]
    n_epochs: Count
    stop_reason: str
    settled: Settled
    fitted: Json | None = None
    engine: EngineValues | None = None
    sampler: SamplerValues | None = None
    target: TargetValues | None = None

    def check(self, context: Context) -> None:
        """Raise an error for lists of wrong length."""
        if (self.target is None) != (context.target is None):
            raise ModelFileError("its header does not fit: it has one of the two parts that describe a target.")
        wanted = (
            ("target.names", None if self.target is None else self.target.names, context.output.n_features),
            ("classes", None if self.classes is None else persistence.labels_of(self.classes), context.n_conditions),
            ("feature_names", self.feature_names, context.n_features),
        )
        for name, found, length in wanted:
            if found is not None and len(found) != length:
                raise ModelFileError(
                    f"its header does not fit: {name} has {len(found)} entries, but {length} are needed."
                )


KNOWN: Mapping[str, tuple[int | str, ...]] = {"ranges": (2, "target"), "mean": ("target",), "scale": ("target",)}
"""Statistics of a target; NaN or infinite where all cells were missing."""


def declared(cls: type[Autoencoder]) -> dict[str, Numbers]:
    """The arrays of a file; statistics of training rows may be NaN, if all cells of a row were missing."""
    learned = {f"learned.{name}": Numbers("f", finite=False, optional=True) for name in cls.learned_arrays}
    target = {f"target.{name}": Numbers("f", shape, 64, finite=False, optional=True) for name, shape in KNOWN.items()}
    scalings = {"scaling.*": Numbers("f"), "target_scaling.*": Numbers("f")}
    return {"weights.*": Numbers("fiub"), **scalings, **target, **learned, **MIXTURE}


ATTRIBUTES: frozenset[str] = frozenset(
    {
        *("objective_", "scaling_", "target_", "classes_", "code_mixture_", "_asked"),
        *("feature_shape_", "n_features_in_", "feature_names_in_", "n_parameters_", "device_"),
        *("history_", "n_epochs_", "stop_reason_", "settled_", "engine_"),
        *("pretraining_history_", "optimizer_state_", "_faults"),
    }
)
"""Attributes that the file or the run state of a pickle restores, besides parameters and `learned_arrays`."""

MIXTURE = {
    "mixture.weights": Numbers("f", ("components",), optional=True),
    "mixture.means": Numbers("f", ("components", "code"), optional=True),
    "mixture.factors": Numbers("f", ("components", "code", "code"), optional=True),
    "mixture.low": Numbers("f", ("code",), optional=True),
    "mixture.high": Numbers("f", ("code",), optional=True),
    "mixture.owners": Numbers("i", ("components",), optional=True),
}
"""The arrays of the mixture on codes, all of them or none."""


def to_state(model: Autoencoder) -> State:
    """All that is needed to make a fitted model again; what it answers does not depend on parameters set since."""
    named, engine, target = hasattr(model, "feature_names_in_"), getattr(model, "engine_", None), target_of(model)
    mixture: CodeMixture | None = getattr(model, "code_mixture_", None)
    values = AutoencoderValues(
        target=None if target is None else _target_values(target),
        params=params_json.params_to_json(model.get_params(deep=False)),
        choices={name: value for name, value in model.describe().items() if name not in ("engine", "target")},
        fitted=persistence.fitted_choices(model.objective_),
        context=persistence.context_values(model.objective_.context),
        classes=persistence.labels_to_json(model.classes_) if model.objective_.context.n_conditions else None,
        feature_names=[*map(str, model.feature_names_in_)] if named else None,
        scaling=model.scaling_.name,
        history=list(model.history_.rows),
        n_epochs=model.n_epochs_,
        stop_reason=model.stop_reason_,
        settled=Settled(**model.settled_),
        engine=engine and EngineValues(name=engine.name, refused=dict(engine.refused)),
        sampler=None if mixture is None else _sampler_values(mixture, asked=model._asked),  # noqa: SLF001  # its state
    )
    learned = {name: getattr(model, name) for name in model.learned_arrays if hasattr(model, name)}
    probed = torch_modules.probe(model.objective_)
    learned |= {} if probed is None else {"probe_": probed}
    arrays = {
        **grouped(persistence.weights(model.objective_), "weights."),
        **grouped(model.scaling_.to_arrays(), "scaling."),
        **grouped(learned, "learned."),
        **({} if mixture is None else grouped(mixture.to_arrays(), "mixture.")),
        **({} if target is None else _target_arrays(target)),
    }
    return pack(type(model).__name__, values, arrays, declared(type(model)))


def run_state(model: Autoencoder) -> tuple[Json, dict[str, np.ndarray]]:
    """What `partial_fit` continues from, besides the file."""
    values = {
        "pretraining": [list(history.rows) for history in model.pretraining_history_],
        "faults": getattr(model, "_faults", None),
    }
    context = model.objective_.context
    ranges = {"ranges": context.ranges, "target_ranges": None if context.target is None else context.target.ranges}
    known = {name: array for name, array in ranges.items() if array is not None}
    return values, as_arrays(getattr(model, "optimizer_state_", {}), "optimizer.") | known


def put_run_state(model: Autoencoder, values: Json, arrays: Arrays) -> None:
    """The inverse of `run_state`."""
    model.pretraining_history_ = [History(rows) for rows in values["pretraining"]]
    if values["faults"] is not None:
        model._faults = values["faults"]  # noqa: SLF001  # its state
    model.optimizer_state_ = as_tensors(arrays, "optimizer.")
    context = model.objective_.context
    target = None if context.target is None else replace(context.target, ranges=arrays.get("target_ranges"))
    model.objective_.context = replace(context, ranges=arrays.get("ranges"), target=target)


def _sampler_values(mixture: CodeMixture, *, asked: bool) -> SamplerValues:
    classes = None if mixture.classes is None else persistence.labels_to_json(mixture.classes)
    return SamplerValues(classes=classes, asked=asked)


def _put_mixture(model: Autoencoder, values: SamplerValues, arrays: Arrays) -> None:
    classes = None if values.classes is None else persistence.labels_of(values.classes)
    n_labels, weights = 1 if classes is None else len(classes), arrays.get("weights", np.empty(0))
    if arrays.keys() != {name.partition(".")[2] for name in MIXTURE} or not len(weights):
        raise ModelFileError("its arrays do not fit: those of the mixture on codes are not complete.")
    owners = arrays["owners"]
    if (weights < 0).any() or not weights.sum() > 0 or owners.min() < 0 or set(owners.tolist()) != set(range(n_labels)):
        raise ModelFileError("its arrays do not fit: the weights or labels of the mixture on codes are out of range.")
    if arrays["means"].shape[1] != model.objective_.context.code_size:
        raise ModelFileError("its arrays do not fit: the mixture on codes is of another code size.")
    model.code_mixture_, model._asked = CodeMixture.from_arrays(arrays, classes), values.asked  # noqa: SLF001


def _target_values(target: Target) -> TargetValues:
    names = None if target.names is None else list(target.names)
    return TargetValues(dtype=target.dtype.str, scaling=target.scaling.name, names=names)


def _target_arrays(target: Target) -> dict[str, np.ndarray]:
    known = {name: np.asarray(getattr(target.known, name), dtype=np.float64) for name in KNOWN}
    return {**grouped(target.scaling.to_arrays(), "target_scaling."), **grouped(known, "target.")}


def _target_of_state(values: TargetValues, context: Context, arrays: Arrays) -> Target:
    """The inverse of `_target_values` and `_target_arrays`."""
    if not re.fullmatch(r"[<>|]([fiu][1248]|b1)", values.dtype):
        raise ModelFileError(f"its header does not fit: a target has no dtype {values.dtype!r}.")
    width, known = context.output.n_features, group(arrays, "target.")
    check_arrays(
        known, {name: Numbers("f", shape, 64, finite=False) for name, shape in KNOWN.items()}, {"target": width}
    )
    return Target(
        context.output.feature_shape,
        np.dtype(values.dtype),
        persistence.scaling_of(values.scaling, group(arrays, "target_scaling."), width),
        Known(**known),
        None if values.names is None else tuple(values.names),
    )


def from_state(cls: type[A], state: State, *, network: Any = None, device: str = "auto") -> A:
    """The inverse of `to_state`."""
    values = unpack(state, AutoencoderValues, declared(cls))
    own_modules = {} if network is None else {"network": network}
    model = params_json.make_estimator(cls, values.params, **own_modules, device=device)
    context = persistence.context_of(values.context)
    values.check(context)
    fitted = values.choices if values.fitted is None else values.fitted  # not in files of format 1
    objective = persistence.objective_of(fitted, context, group(state.arrays, "weights."), network)
    used = choose_device(model.device)
    model.objective_ = objective.to(used).eval()
    scaling = group(state.arrays, "scaling.")
    model.scaling_ = persistence.scaling_of(values.scaling, scaling, context.n_features)
    target = values.target
    model.target_ = None if target is None else _target_of_state(target, context, state.arrays)
    for name, array in group(state.arrays, "learned.").items():
        setattr(model, name, array[()])  # a number where it was one
    kept = model.__dict__.pop("probe_", None)
    if kept is not None and not torch_modules.agrees(torch_modules.probe(model.objective_), kept):
        raise ModelFileError(
            "The given modules compute other results than those that were saved, although the weights fit; pass an "
            "encoder and a decoder with the same forward as at fit."
        )
    model.history_, model.pretraining_history_ = History(values.history), []
    model.feature_shape_, model.n_features_in_ = context.feature_shape, context.n_features
    if values.classes is not None:
        model.classes_ = persistence.labels_of(values.classes)
    if values.feature_names is not None:
        model.feature_names_in_ = np.asarray(values.feature_names, dtype=object)
    model.n_epochs_, model.stop_reason_ = values.n_epochs, values.stop_reason
    model.settled_ = values.settled.as_dict()
    if values.sampler is not None:
        _put_mixture(model, values.sampler, group(state.arrays, "mixture."))
    if values.engine is not None:  # not in files of 0.1.0
        model.engine_ = EngineChoice(values.engine.name, values.engine.refused)
    model.n_parameters_, model.device_ = count_parameters(model.objective_), str(used)
    return model
