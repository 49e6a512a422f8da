"""A detector as a state, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from isthmus.data import Scaling
from isthmus.estimators import persistence
from isthmus.files.model_file import State
from isthmus.tasks.anomaly import fitting
from isthmus.tasks.anomaly.members import SingleModel, ensemble_from_arrays
from isthmus.tasks.anomaly.scoring import Grouping, Scorer
from isthmus.tasks.anomaly.thresholds import THRESHOLDS
from isthmus.training import choose_device

LEARNED = ("decision_scores_", "calibration_scores_", "sample_")
APART = ("threshold", "autoencoder")


def to_state(detector: Any) -> State:
    """All that is needed to make the detector again."""
    params = {name: value for name, value in detector.get_params(deep=False).items() if name not in APART}
    threshold = THRESHOLDS.resolve(detector.threshold)
    schema = getattr(detector, "schema_", None)
    values: dict[str, Any] = {
        "params": persistence.encode(params),
        "threshold": {"class": type(threshold).__name__, "params": threshold.get_params()},
        "cut": detector.threshold_,
        "schema": None if schema is None else schema.to_json(),
        "feature_shape": list(detector.feature_shape_),
        "n_features_in": detector.n_features_in_,
        "feature_names": [*map(str, detector.feature_names_in_)] if hasattr(detector, "feature_names_in_") else None,
        "context": persistence.context_to_json(detector.context_),
        "scaling": detector.scaling_.name,
        "parts": list(detector.scorer_.parts),
        "columns_shape": list(detector.columns_shape_),
        "missing_allowed": detector.missing_allowed_,
        "n_rows_seen": detector.n_rows_seen_,
        "model": _model_values(detector.model_),
    }
    places = detector.grouping_.places
    arrays = {f"model.{name}": array for name, array in detector.model_.to_arrays().items()}
    arrays |= {f"scorer.{name}": array for name, array in detector.scorer_.to_arrays().items()}
    arrays |= {f"scaling.{name}": array for name, array in detector.scaling_.to_arrays().items()}
    arrays |= {f"learned.{name}": getattr(detector, name) for name in LEARNED if hasattr(detector, name)}
    arrays |= {"ranges": np.asarray(detector.context_.ranges), "reservoir": _remembered(detector)}
    arrays |= {} if places is None else {"places": places.numpy()}
    return State(type(detector).__name__, values, arrays)


def _remembered(detector: Any) -> np.ndarray:
    """An even sample of the rows seen, with which a loaded detector can go on learning."""
    rows: np.ndarray = detector.reservoir_.numpy()
    places = np.linspace(0, len(rows) - 1, min(len(rows), detector.memory_size)).round().astype(int)
    kept: np.ndarray = rows[places]
    return kept


def _model_values(model: Any) -> dict[str, Any]:
    if isinstance(model, SingleModel):
        inner = model.autoencoder._to_state()  # noqa: SLF001  # its file within the detector's
        return {"kind": inner.kind, "values": inner.values}
    return {"code_sizes": list(model.ensemble.code_sizes), "hidden_size": model.ensemble.hidden_size}


def from_state(cls: type, state: State, *, network: Any = None, device: str = "auto") -> Any:
    """The inverse of `to_state`."""
    values = state.values
    threshold = THRESHOLDS.find(values["threshold"]["class"])(**values["threshold"]["params"])
    params = persistence.decode({"params": values["params"]})["params"]
    detector = cls(threshold, **(params | {"device": device}))
    _restore_rows(detector, state)
    _restore_model(detector, state, network)
    grouping = detector.grouping_
    scorer = Scorer.from_arrays(_group(state, "scorer."), grouping, values["parts"], detector.n_neighbors)
    detector.scorer_ = scorer
    detector.threshold_, detector.offset_ = values["cut"], -values["cut"]
    for name, array in _group(state, "learned.").items():
        setattr(detector, name, array)
    return detector


def _restore_rows(detector: Any, state: State) -> None:
    values = state.values
    detector.device_ = str(choose_device(detector.device))
    if values["schema"] is not None:
        from isthmus.data.tables import Schema  # noqa: PLC0415  # reading tables takes a while to load

        detector.schema_ = Schema.from_json(values["schema"])
    if values["feature_names"] is not None:
        detector.feature_names_in_ = np.asarray(values["feature_names"], dtype=object)
    detector.feature_shape_, detector.columns_shape_ = tuple(values["feature_shape"]), tuple(values["columns_shape"])
    detector.n_features_in_, detector.n_rows_seen_ = values["n_features_in"], values["n_rows_seen"]
    detector.missing_allowed_ = values["missing_allowed"]
    detector.scaling_ = Scaling.from_arrays(values["scaling"], _group(state, "scaling."))
    detector.reservoir_ = torch.from_numpy(np.array(state.arrays["reservoir"]))
    places = torch.from_numpy(np.array(state.arrays["places"])) if "places" in state.arrays else None
    n_columns = int(np.prod(detector.columns_shape_))
    detector.grouping_ = Grouping(places, n_columns)


def _restore_model(detector: Any, state: State, network: Any) -> None:
    values, arrays = state.values, _group(state, "model.")
    context = persistence.context_from_json(values["context"])
    detector.context_ = type(context)(**{**vars(context), "ranges": state.arrays["ranges"]})
    detector.loss_ = fitting.loss_of(detector).resolve(detector.context_)
    if "kind" in values["model"]:
        inner = State(values["model"]["kind"], values["model"]["values"], arrays)
        detector.autoencoder = persistence.from_state(inner, network=network, device=detector.device)
        detector.model_ = SingleModel(detector.autoencoder)
        return
    detector.model_ = ensemble_from_arrays(arrays, values["model"], detector.loss_, detector.context_)
    detector.model_.ensemble.to(detector.device_)


def _group(state: State, prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in state.arrays.items() if name.startswith(prefix)}
