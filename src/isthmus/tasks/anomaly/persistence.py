"""A detector as a state, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from isthmus.estimators import params_json, persistence
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
from isthmus.tasks.anomaly.models import SingleModel, ensemble_from_arrays
from isthmus.tasks.anomaly.neighbours import WIDEST_WHITENED
from isthmus.tasks.anomaly.scoring import DISTANCES, PARTS, WEIGHTS, Grouping, Scorer
from isthmus.tasks.anomaly.thresholds import THRESHOLDS
from isthmus.training import choose_device

params_json.add_kind(THRESHOLDS)


class SingleValues(Record, frozen=True):
    """The autoencoder of a detector that has one of the user's choice."""

    kind: str
    values: Json


class EnsembleValues(Record, frozen=True):
    """The sizes of an ensemble."""

    code_sizes: list[Size]
    hidden_size: Size


class DetectorValues(Record, frozen=True):
    """What a file of a detector holds besides arrays."""

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
    curves = {"marginal": ("low", "high"), "reconstruction": ("error",)}
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
        }
        declared |= {"local.usual": Numbers("f", ("remembered",))} if part == "local" else {}
    if "density" in parts:
        declared |= {
            "memory.codes": Numbers("f", ("members", None, "code")),
            "memory.unit": Numbers("f", ("members",)),
        }
    return declared


RESERVOIR = 2048
"""Rows in a file with which a loaded detector can go on learning, at most."""


def to_state(detector: Any) -> State:
    """All that is needed to make the detector again."""
    params = detector.get_params(deep=False)
    schema = getattr(detector, "schema_", None)
    places = detector.grouping_.places
    fitted = detector.model_.autoencoder if isinstance(detector.model_, SingleModel) else None
    given, given_arrays = persistence.keep_estimator(params.pop("autoencoder"), fitted)
    values = DetectorValues(
        params=params_json.params_to_json({**params, "threshold": "auto"}),
        threshold=params_json.params_to_json({"threshold": THRESHOLDS.resolve(detector.threshold)}),
        cut=float(detector.threshold_),
        schema=None if schema is None else schema.to_json(),
        feature_shape=list(map(int, detector.feature_shape_)),
        n_features_in=int(detector.n_features_in_),
        feature_names=[*map(str, detector.feature_names_in_)] if hasattr(detector, "feature_names_in_") else None,
        context=persistence.context_values(detector.context_),
        scaling=detector.scaling_.name,
        parts=list(detector.scorer_.parts),
        columns_shape=list(map(int, detector.columns_shape_)),
        missing_allowed=bool(detector.missing_allowed_),
        n_rows_seen=int(detector.n_rows_seen_),
        model=_model_values(detector.model_),
        loss=params_json.params_to_json({"loss": detector.loss_}),
        n_neighbors=None if detector.scorer_.memory is None else int(detector.scorer_.memory.n_neighbors),
        autoencoder=given,
        rule=detector.scorer_.rule,
    )
    learned = ("decision_scores_", "calibration_scores_", "sample_")
    arrays = {
        **grouped(detector.model_.to_arrays(), "model."),
        **grouped(detector.scorer_.to_arrays(), "scorer."),
        **grouped(detector.scaling_.to_arrays(), "scaling."),
        **grouped({name: getattr(detector, name) for name in learned if hasattr(detector, name)}, "learned."),
        **grouped(given_arrays, "given."),
        "ranges": np.asarray(detector.context_.ranges),
        "reservoir": _remembered(detector),
        **({} if places is None else {"places": places.numpy()}),
        **({"left_out": detector.left_out_} if hasattr(detector, "left_out_") else {}),
    }
    return pack(type(detector).__name__, values, arrays, DECLARED)


def _remembered(detector: Any) -> np.ndarray:
    """An even sample of the rows seen, with which a loaded detector can go on learning."""
    rows: np.ndarray = detector.reservoir_.numpy()
    places = np.linspace(0, len(rows) - 1, min(len(rows), detector.memory_size, RESERVOIR)).round().astype(int)
    kept: np.ndarray = rows[places].astype(np.float32)
    return kept


def _model_values(model: Any) -> Json:
    if isinstance(model, SingleModel):
        inner = model.autoencoder._to_state()  # noqa: SLF001  # its file within the detector's
        return {"kind": inner.kind, "values": dict(inner.values)}
    return {"code_sizes": list(map(int, model.ensemble.code_sizes)), "hidden_size": int(model.ensemble.hidden_size)}


def from_state(cls: type, state: State, *, network: Any = None, device: str = "auto") -> Any:
    """The inverse of `to_state`."""
    values = unpack(state, DetectorValues, DECLARED)
    threshold = params_json.decode(values.threshold.get("threshold", values.threshold), "threshold")
    detector: Any = params_json.make_estimator(cls, values.params, threshold=threshold, device=device)
    _restore_rows(detector, values, state.arrays)
    _restore_model(detector, values, state.arrays, network)
    _restore_scorer(detector, values, group(state.arrays, "scorer."))
    detector.threshold_, detector.offset_ = values.cut, -values.cut
    for name, array in group(state.arrays, "learned.").items():
        setattr(detector, name, array)
    return detector


def _restore_rows(detector: Any, values: DetectorValues, arrays: Arrays) -> None:
    detector.device_ = str(choose_device(detector.device))
    if values.schema is not None:
        detector.schema_ = persistence.schema_of(values.schema)
    if values.feature_names is not None:
        detector.feature_names_in_ = np.asarray(values.feature_names, dtype=object)
    detector.feature_shape_, detector.columns_shape_ = tuple(values.feature_shape), tuple(values.columns_shape)
    detector.n_features_in_, detector.n_rows_seen_ = values.n_features_in, values.n_rows_seen
    detector.missing_allowed_ = values.missing_allowed
    context = persistence.context_of(values.context, arrays["ranges"])
    _check_sizes(detector, values, context.n_features, arrays)
    detector.context_ = context
    detector.scaling_ = persistence.scaling_of(values.scaling, group(arrays, "scaling."), context.n_features)
    detector.reservoir_ = torch.from_numpy(np.array(arrays["reservoir"]))
    if "left_out" in arrays:
        detector.left_out_ = np.array(arrays["left_out"])
    places = torch.from_numpy(np.array(arrays["places"])) if "places" in arrays else None
    detector.grouping_ = Grouping(places, math.prod(detector.columns_shape_))


def _check_sizes(detector: Any, values: DetectorValues, width: int, arrays: Arrays) -> None:
    """Refuse numbers of features and columns that contradict each other."""
    schema = getattr(detector, "schema_", None)
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


def _restore_model(detector: Any, values: DetectorValues, arrays: Arrays, network: Any) -> None:
    own = group(arrays, "model.")
    fitted = None
    if values.loss is None:  # format 1: as the parameters and the schema say
        detector.loss_ = detector_fit.loss_of(detector).resolve(detector.context_)
    else:
        detector.loss_ = params_json.decode(values.loss.get("loss"), "loss")
    if "kind" in values.model:
        inner = convert(values.model, SingleValues, "values.model")
        fitted = persistence.from_state(State(inner.kind, inner.values, own), network=network, device=detector.device)
        detector.model_ = SingleModel(fitted)
    else:
        sizes = convert(values.model, EnsembleValues, "values.model")
        detector.model_ = ensemble_from_arrays(
            own, sizes.code_sizes, sizes.hidden_size, detector.loss_, detector.context_
        )
        detector.model_.ensemble.to(detector.device_)
    given = group(arrays, "given.")
    if values.loss is None:
        detector.autoencoder = fitted  # format 1 kept the fitted one alone
    else:
        detector.autoencoder = persistence.kept_estimator(values.autoencoder, given, fitted, network, detector.device)


def _restore_scorer(detector: Any, values: DetectorValues, arrays: Arrays) -> None:
    if not set(values.parts) <= set(PARTS):
        raise ModelFileError(f"its header does not fit: parts {values.parts} must be some of {', '.join(PARTS)}.")
    model, grouping, width = detector.model_, detector.grouping_, detector.context_.n_features
    with torch.inference_mode():
        codes = model.encode(torch.zeros(1, width, device=detector.device_))
    sizes = {f"{name} columns": 1 for name in PARTS} | {f"{name} columns": width for name in ("low", "high")}
    sizes |= {"error columns": model.n_members * grouping.n_columns, "columns": grouping.n_columns}
    sizes |= {"members": model.n_members, "code": codes.shape[2]}
    check_arrays(arrays, _declared_scorer(values.parts, width), sizes | {"width": width})
    if values.rule not in WEIGHTS or not set(values.parts) <= set(WEIGHTS[values.rule]):
        raise ModelFileError(f"its header does not fit: rule {values.rule!r} does not combine {values.parts}.")
    counts = [int(arrays[f"{part}.n_rows"][0]) for part in DISTANCES if part in values.parts]
    if not all(1 <= count <= len(arrays["remembered"]) for count in counts):
        raise ModelFileError(f"its arrays do not fit: {counts} rows of {len(arrays['remembered'])} are compared with.")
    n_neighbors = detector.n_neighbors if values.n_neighbors is None else values.n_neighbors
    detector.scorer_ = Scorer.from_arrays(arrays, grouping, values.parts, n_neighbors, values.rule)
