"""Conversion of a detector to and from a state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from isthmus.choices import Loss
from isthmus.choices.registry import Context
from isthmus.estimators import Autoencoder, params_json, persistence
from isthmus.estimators.saved import put_run_of, run_of
from isthmus.exceptions import ModelFileError
from isthmus.files.model_file import State
from isthmus.files.records import (
    Arrays,
    Count,
    Json,
    Numbers,
    Record,
    Size,
    check_arrays,
    convert,
    group,
    grouped,
    pack,
    unpack,
)
from isthmus.tasks.anomaly import detector_fit
from isthmus.tasks.anomaly.fitted import FittedDetector
from isthmus.tasks.anomaly.grouping import Grouping
from isthmus.tasks.anomaly.inputs import RowFormat, scoring_type
from isthmus.tasks.anomaly.models import EnsembleModel, SingleModel, ensemble_from_arrays
from isthmus.tasks.anomaly.neighbours import WIDEST_WHITENED
from isthmus.tasks.anomaly.scoring import DISTANCES, PARTS, RULES, Scorer
from isthmus.tasks.anomaly.thresholds import THRESHOLDS
from isthmus.training import choose_device

if TYPE_CHECKING:
    from isthmus.data.tables import Schema
    from isthmus.tasks.anomaly.detector import AnomalyDetector

params_json.add_kind(THRESHOLDS)


class SingleValues(Record, frozen=True):
    """The autoencoder of a detector with the user's own autoencoder."""

    kind: str
    values: Json


class EnsembleValues(Record, frozen=True):
    """The sizes of an ensemble."""

    code_sizes: list[Size]
    hidden_size: Size


class DetectorValues(Record, frozen=True):
    """The contents of a detector's file besides arrays."""

    params: Json
    threshold: Json
    cut: float
    schema: Json | None
    feature_shape: list[Size]
    n_features_in: Size
    feature_names: list[str] | None
    context: persistence.ContextValues
    scaling: str
    parts: list[str]
    columns_shape: list[Count]
    missing_allowed: bool
    n_rows_seen: Count
    model: Json
    loss: Json | None = None
    n_neighbors: Size | None = None
    autoencoder: Json | None = None
    rule: str = "mean"


DECLARED: dict[str, Numbers] = {
    "model.*": Numbers("fiub"),
    "scorer.*": Numbers("fi"),
    "scaling.*": Numbers("f"),
    "given.*": Numbers("fiub"),
    "learned.decision_scores_": Numbers("f", ("rows",), finite=False),
    "learned.calibration_scores_": Numbers("f", (None,), finite=False, optional=True),
    "learned.sample_": Numbers("i", ("rows",), optional=True),
    "ranges": Numbers("f", (2, "features")),
    "reservoir": Numbers("f", (None, "features"), finite=False),
    "places": Numbers("i", ("features",), optional=True),
    "left_out": Numbers("b", ("features",), optional=True),
}
"""Scores and curves may hold infinities, of rows that overflowed; the reservoir holds NaN where its rows miss cells."""


def _declared_scorer(parts: Sequence[str], width: int) -> dict[str, Numbers]:
    """The arrays of a scorer of these parts for rows of `width` numbers."""
    curves = {"marginal": ("low", "high"), "reconstruction": ("error",), "relation": ("residual",)}
    declared = {"missing": Numbers("f", (1,)), "whole_columns": Numbers("f", ("columns",), optional=True)}
    for part in parts:
        for curve in (part, *curves.get(part, ())):
            length, knots = f"{curve} columns", f"{curve} knots"
            declared[f"{curve}.scale"] = Numbers("f", (length,), finite=False)
            declared[f"{curve}.tolerance"] = Numbers("f", (length,), optional=True)
            declared |= {
                f"{curve}.{each}": Numbers("f", (length, knots), finite=False) for each in ("knots", "heights")
            }
    for part in [part for part in DISTANCES if part in parts]:
        white = part == "local" and width <= WIDEST_WHITENED
        declared["remembered"] = Numbers("f", ("remembered", "width"), finite=False)
        declared |= {
            f"{part}.shift": Numbers("f", ("width",)),
            f"{part}.factor": Numbers("f", ("width", "width") if white else ("width",)),
            f"{part}.n_rows": Numbers("i", (1,)),
            f"{part}.first": Numbers("i", (1,), optional=True),
        }
        declared |= {"local.usual": Numbers("f", (None,))} if part == "local" else {}
    if "relation" in parts:
        white = width <= WIDEST_WHITENED
        declared |= {
            "relation.shift": Numbers("f", ("width",)),
            "relation.factor": Numbers("f", ("width", "width") if white else ("width",)),
        }
    if "density" in parts:
        declared |= {
            "memory.codes": Numbers("f", ("members", None, "code")),
            "memory.unit": Numbers("f", ("members",)),
        }
    return declared


RESERVOIR = 2048
"""Rows in a file with which a loaded detector can go on learning, at most."""
LEARNED = ("decision_scores", "calibration_scores", "sample")
"""Arrays of `FittedDetector` that a file holds under ``learned.``, with an underscore behind the name."""


def to_state(detector: AnomalyDetector) -> State:
    """The state of a detector."""
    fitted = detector.fitted_
    params = detector.get_params(deep=False)
    own = fitted.model.autoencoder if isinstance(fitted.model, SingleModel) else None
    given, given_arrays = persistence.keep_estimator(params.pop("autoencoder"), own)
    names, schema, memory = getattr(detector, "feature_names_in_", None), fitted.format.schema, fitted.scorer.memory
    values = DetectorValues(
        params=params_json.params_to_json({**params, "threshold": "auto"}),
        threshold=params_json.params_to_json({"threshold": THRESHOLDS.resolve(detector.threshold)}),
        cut=float(detector.threshold_),
        schema=None if schema is None else schema.to_json(),
        feature_shape=list(map(int, fitted.format.feature_shape)),
        n_features_in=int(detector.n_features_in_),
        feature_names=None if names is None else [*map(str, names)],
        context=persistence.context_values(fitted.context),
        scaling=fitted.format.scaling.name,
        parts=list(fitted.scorer.parts),
        columns_shape=list(map(int, fitted.columns_shape)),
        missing_allowed=bool(fitted.format.missing_allowed),
        n_rows_seen=int(fitted.n_rows_seen),
        model=_model_values(fitted.model),
        loss=params_json.params_to_json({"loss": fitted.loss}),
        n_neighbors=None if memory is None else int(memory.n_neighbors),
        autoencoder=given,
        rule=fitted.scorer.rule,
    )
    arrays = {
        **_arrays(fitted),
        **grouped(given_arrays, "given."),
        "reservoir": _remembered(fitted.reservoir, detector.memory_size),
    }
    return pack(type(detector).__name__, values, arrays, DECLARED)


def _arrays(fitted: FittedDetector) -> dict[str, np.ndarray]:
    places, left_out = fitted.scorer.grouping.places, fitted.format.left_out
    learned = {f"{name}_": getattr(fitted, name) for name in LEARNED if getattr(fitted, name) is not None}
    return {
        **grouped(fitted.model.to_arrays(), "model."),
        **grouped(fitted.scorer.to_arrays(), "scorer."),
        **grouped(fitted.format.scaling.to_arrays(), "scaling."),
        **grouped(learned, "learned."),
        "ranges": np.asarray(fitted.context.ranges),
        **({} if places is None else {"places": places.numpy()}),
        **({} if left_out is None else {"left_out": left_out}),
    }


def run_state(fitted: FittedDetector) -> tuple[Json, dict[str, np.ndarray]]:
    """The state of further training, besides the file: all rows of the reservoir, and those of the calibration."""
    own = fitted.model.autoencoder if isinstance(fitted.model, SingleModel) else None
    values, arrays = run_of(own, "model")
    rows = {"reservoir": fitted.reservoir.numpy(), "calibration_rows": fitted.calibration_rows}
    return values, arrays | {name: array for name, array in rows.items() if array is not None}


def with_run_state(fitted: FittedDetector, values: Json, arrays: Arrays) -> FittedDetector:
    """The inverse of `run_state`."""
    put_run_of(fitted.model.autoencoder if isinstance(fitted.model, SingleModel) else None, "model", values, arrays)
    reservoir = torch.from_numpy(np.array(arrays["reservoir"]))
    return replace(fitted, reservoir=reservoir, calibration_rows=arrays.get("calibration_rows"))


def _remembered(reservoir: Tensor, memory_size: int) -> np.ndarray:
    """An even sample of the rows seen, with which a loaded detector can continue to learn."""
    rows: np.ndarray = reservoir.numpy()
    places = np.linspace(0, len(rows) - 1, min(len(rows), memory_size, RESERVOIR)).round().astype(int)
    kept: np.ndarray = rows[places].astype(np.float32)
    return kept


def _model_values(model: EnsembleModel | SingleModel) -> Json:
    if isinstance(model, SingleModel):
        inner = model.autoencoder._to_state()  # noqa: SLF001  # its file within the detector's
        return {"kind": inner.kind, "values": dict(inner.values)}
    return {"code_sizes": list(map(int, model.ensemble.code_sizes)), "hidden_size": int(model.ensemble.hidden_size)}


# -- back --------------------------------------------------------------------------------------------------------------

D = TypeVar("D", bound="AnomalyDetector")


def from_state(cls: type[D], state: State, *, network: Any = None, device: str = "auto") -> D:
    """The inverse of `to_state`."""
    values = unpack(state, DetectorValues, DECLARED)
    threshold = params_json.decode(values.threshold.get("threshold", values.threshold), "threshold")
    detector: D = params_json.make_estimator(cls, values.params, threshold=threshold, device=device)
    schema = None if values.schema is None else persistence.schema_of(values.schema)
    context = persistence.context_of(values.context, state.arrays["ranges"])
    _check_sizes(values, schema, context.n_features, state.arrays)
    loss = _loss(values, schema, detector.loss, context)
    place = choose_device(detector.device)
    model, detector.autoencoder = _models(values, state.arrays, network, Placed(context, loss, place))
    scorer_arrays = group(state.arrays, "scorer.")
    grouping = _checked_grouping(values, model, context, place, state.arrays)
    n_neighbors = detector.n_neighbors if values.n_neighbors is None else values.n_neighbors
    learned = group(state.arrays, "learned.")
    detector.fitted_ = FittedDetector(
        format=RowFormat(
            scaling=persistence.scaling_of(values.scaling, group(state.arrays, "scaling."), context.n_features),
            feature_shape=tuple(values.feature_shape),
            schema=schema,
            left_out=np.array(state.arrays["left_out"]) if "left_out" in state.arrays else None,
            missing_allowed=values.missing_allowed,
            device=place,
            dtype=scoring_type(place, own_autoencoder=detector.autoencoder is not None),
        ),
        context=context,
        loss=loss,
        columns_shape=tuple(values.columns_shape),
        model=model,
        scorer=Scorer.from_arrays(scorer_arrays, grouping, values.parts, n_neighbors, values.rule),
        reservoir=torch.from_numpy(np.array(state.arrays["reservoir"])),
        n_rows_seen=values.n_rows_seen,
        decision_scores=learned["decision_scores_"],
        calibration_scores=learned.get("calibration_scores_"),
        sample=learned.get("sample_"),
    )
    detector.feature_shape_ = detector.fitted_.format.feature_shape
    detector.n_features_in_ = values.n_features_in
    if values.feature_names is not None:
        detector.feature_names_in_ = np.asarray(values.feature_names, dtype=object)
    detector.threshold_, detector.offset_ = values.cut, -values.cut
    return detector


def _check_sizes(values: DetectorValues, schema: Schema | None, width: int, arrays: Arrays) -> None:
    """Raise if the numbers of features and columns contradict each other."""
    n_columns = math.prod(values.columns_shape)
    places = arrays.get("places")
    grouped_right = n_columns == width if places is None else bool(((places >= 0) & (places < n_columns)).all())
    n_names = values.n_features_in if schema is None else len(schema.names)
    fits = (
        arrays["ranges"].shape[1] == width
        and grouped_right
        and n_columns <= max(width, 1)
        and math.prod(values.feature_shape) == width
        and (schema is None or max(schema.width, 1) == width)
        and (values.feature_names is None or len(values.feature_names) == n_names)
        and not math.isnan(values.cut)
    )
    if not fits:
        raise ModelFileError(
            "its header does not fit: the numbers of features, columns and names contradict each other."
        )


def _loss(values: DetectorValues, schema: Schema | None, given: str | Loss, context: Context) -> Loss:
    if values.loss is None:  # format 1: as the parameters and the schema say
        return detector_fit.loss_of(given, schema).resolve(context)
    loss: Loss = params_json.decode(values.loss.get("loss"), "loss")
    return loss


@dataclass(frozen=True)
class Placed:
    """Inputs of a model's construction: shapes of the data, its loss, and its device."""

    context: Context
    loss: Loss
    device: torch.device


def _models(
    values: DetectorValues, arrays: Arrays, network: Any, placed: Placed
) -> tuple[EnsembleModel | SingleModel, Autoencoder | None]:
    """The model that reconstructs rows, and the autoencoder that is the detector's parameter."""
    own, device = group(arrays, "model."), str(placed.device)
    fitted: Autoencoder | None = None
    model: EnsembleModel | SingleModel
    if "kind" in values.model:
        inner = convert(values.model, SingleValues, "values.model")
        fitted = persistence.from_state(State(inner.kind, inner.values, own), network=network, device=device)
        model = SingleModel(fitted)
    else:
        sizes = convert(values.model, EnsembleValues, "values.model")
        model = ensemble_from_arrays(own, sizes.code_sizes, sizes.hidden_size, placed.loss, placed.context)
        model.ensemble.to(placed.device)
    if values.loss is None:
        return model, fitted  # format 1 kept the fitted one alone
    return model, persistence.kept_estimator(values.autoencoder, group(arrays, "given."), fitted, network, device)


def _checked_grouping(
    values: DetectorValues,
    model: EnsembleModel | SingleModel,
    context: Context,
    device: torch.device,
    state_arrays: Arrays,
) -> Grouping:
    """The column of each number, after the scorer's arrays were checked against all other contents."""
    if not set(values.parts) <= set(PARTS):
        raise ModelFileError(f"its header does not fit: parts {values.parts} must be some of {', '.join(PARTS)}.")
    places = torch.from_numpy(np.array(state_arrays["places"])) if "places" in state_arrays else None
    grouping, width = Grouping(places, math.prod(values.columns_shape)), context.n_features
    with torch.inference_mode():
        codes = model.encode(torch.zeros(1, width, device=device))
    sizes = {f"{name} columns": 1 for name in PARTS} | {f"{name} columns": width for name in ("low", "high")}
    sizes |= {"error columns": model.n_members * grouping.n_columns, "columns": grouping.n_columns}
    sizes["residual columns"] = grouping.n_columns
    sizes |= {"members": model.n_members, "code": codes.shape[2]}
    arrays = group(state_arrays, "scorer.")
    check_arrays(arrays, _declared_scorer(values.parts, width), sizes | {"width": width})
    if values.rule not in RULES or not set(values.parts) <= set(RULES[values.rule].weights):
        raise ModelFileError(f"its header does not fit: rule {values.rule!r} does not combine {values.parts}.")
    for part in [part for part in DISTANCES if part in values.parts]:
        _check_rows(part, arrays)
    return grouping


def _check_rows(part: str, arrays: Arrays) -> None:
    """Raise for indices of remembered rows that do not exist."""
    count, there = int(arrays[f"{part}.n_rows"][0]), len(arrays["remembered"])
    first = int(arrays.get(f"{part}.first", [0])[0])
    usual = arrays.get(f"{part}.usual")
    if not (count >= 1 and first >= 0 and first + count <= there) or (usual is not None and len(usual) != count):
        raise ModelFileError(f"its arrays do not fit: {part} compares with {count} rows from {first} of {there}.")
