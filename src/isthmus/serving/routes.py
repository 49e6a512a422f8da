"""What a fitted model can be asked, as routes: each answers a table of rows, alone or stacked with those of others."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.utils.validation import check_is_fitted

from isthmus.data import as_source
from isthmus.estimators import Autoencoder
from isthmus.estimators.inference import units_checks
from isthmus.estimators.targets import output_names, target_of
from isthmus.estimators.validation import Given, observed_loss
from isthmus.serving.bodies import read_table
from isthmus.serving.limits import Limits
from isthmus.serving.recommending import reader, recommender
from isthmus.serving.replies import Columns
from isthmus.serving.stacking import Stacking, of_numbers, of_schema
from isthmus.tasks import (
    AnomalyDetector,
    EncoderClassifier,
    EncoderRegressor,
    Imputer,
    Recommender,
    SignalDetector,
    verdicts,
)
from isthmus.tasks.apply import column_names

ROUNDING = 1e-12
"""By how much scores differ between batch sizes, relatively, at most."""


@dataclass(frozen=True)
class Route:
    """One thing that a model can be asked.

    Attributes
    ----------
    name, summary
        Of the path, and what it gives.
    alone
        Answers one table by the library's public methods, which check it: what an answer is by definition.
    stacking
        How tables are stacked with those of other requests; None: never.
    options
        Whole numbers that the query may set, with what they mean.
    read
        Reads what is asked from a body; its `len` is the number of rows.
    """

    name: str
    summary: str
    alone: Callable[..., Columns]
    stacking: Stacking | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    read: Callable[[bytes, str, Limits], Any] = read_table


def routes_of(model: Any) -> dict[str, Route]:
    """The routes of a model by name.

    Raises
    ------
    TypeError
        The model cannot be served.
    NotFittedError
        It is not fitted.
    """
    for kind, make in MAKERS.items():
        if isinstance(model, kind):
            check_is_fitted(model)
            return {route.name: route for route in make(model)}
    known = ", ".join(kind.__name__ for kind in MAKERS)
    raise TypeError(f"A {type(model).__name__} cannot be served; a fitted model of these kinds can: {known}.")


def _answers(model: Any, method: str, table: Any) -> Columns:
    """One method's answers, (n,) or (n, …), as columns with the names that `Apply` gives them."""
    return _named(model, method, np.asarray(getattr(model, method)(table)))


def _named(model: Any, method: str, values: np.ndarray) -> Columns:
    flat = values.reshape(len(values), -1)
    names = output_names(model) if method == "reconstruct" else None
    names = column_names(model, method, values) if names is None else names
    return dict(zip(names, flat.T, strict=True))


# -- rows of numbers ---------------------------------------------------------------------------------------------------


def _numeric(owner: Any, name: str, summary: str, alone: Callable[[Any], Columns], device: str) -> Route:
    """A route of a model of numbers; `owner` is the estimator that takes the rows.

    Only rows of doubles on the CPU are stacked: single precision differs by 1e-7 between batch sizes, double precision
    by less than 1e-12.
    """
    observed = observed_loss(owner) if isinstance(owner, Autoencoder) else None
    if device != "cpu" or observed is not None:
        return Route(name, summary, alone)

    def check(rows: np.ndarray) -> None:
        for each in units_checks(owner, Given(as_source(rows), rows)) if isinstance(owner, Autoencoder) else ():
            each.look(rows)
            each.finish()

    names = getattr(owner, "feature_names_in_", None)
    texts = None if names is None else [*map(str, names)]
    return Route(name, summary, alone, of_numbers(texts, tuple(owner.feature_shape_), check, alone))


def _of_autoencoder(model: Autoencoder) -> list[Route]:
    if model.conditional:
        raise TypeError(
            "A conditional model needs a label for each row and cannot be served; serve a model that is not "
            "conditional."
        )

    def score(table: Any) -> Columns:
        return {
            "score": model.score_samples(table),
            "reconstruction_error": np.asarray(model.reconstruction_error(table)),
        }

    numeric = functools.partial(_numeric, model, device=model.device_)
    found = [
        numeric("encode", "The codes of rows.", lambda table: _answers(model, "transform", table)),
        numeric("reconstruct", "The reconstructions of rows.", lambda table: _answers(model, "reconstruct", table)),
    ]
    if target_of(model) is None:  # otherwise a score needs the target of each row
        found.append(numeric("score", "The score (higher is better) and the squared error of rows.", score))
    return found


def _of_classifier(model: EncoderClassifier) -> list[Route]:
    def predict(table: Any) -> Columns:
        probabilities = model.predict_proba(table)
        labels = model.classes_[probabilities.argmax(axis=1)]
        return {"predict": labels.tolist(), **_named(model, "predict_proba", probabilities)}

    summary = "The label of rows, and the probability of each class."
    return [_numeric(model.encoder_, "predict", summary, predict, model.encoder_.device_)]


def _of_regressor(model: EncoderRegressor) -> list[Route]:
    summary = "The targets of rows."
    predict = functools.partial(_answers, model, "predict")
    return [_numeric(model.encoder_, "predict", summary, predict, model.encoder_.device_)]


# -- detectors ---------------------------------------------------------------------------------------------------------


def _of_detector(model: AnomalyDetector) -> list[Route]:
    summary = "The anomaly score of rows (higher is more anomalous), whether each is an anomaly, and its p-value."

    def alone(table: Any) -> Columns:
        return verdicts(model, -model.score_samples(table))

    form = model.fitted_.format
    if form.dtype != torch.float64:  # of an autoencoder of the user, or on MPS
        score = Route("score", summary, alone)
    elif form.schema is None:
        score = _numeric(model, "score", summary, alone, form.device.type)
    else:
        score = Route("score", summary, alone, of_schema(form.schema, alone))
    if score.stacking is not None:
        score = replace(score, stacking=replace(score.stacking, unsure=lambda found: _on_the_edge(model, found)))
    if len(model.feature_shape_) > 1:
        return [score]
    reasons = "Why rows are anomalous: the columns that count most, with the value seen and the value expected."
    return [score, Route("explain", reasons, _explainer(model), options={"n_columns": "columns to name for a row"})]


def _on_the_edge(model: AnomalyDetector, found: Columns) -> np.ndarray:
    """Which rows have a score that lies, within rounding, on that of a calibration row, or on the threshold."""
    scores = found["anomaly_score"]
    slack = ROUNDING * np.maximum(1.0, np.abs(scores))
    low, high = verdicts(model, scores - slack), verdicts(model, scores + slack)
    different = [low[name] != high[name] for name in ("anomaly", "p_value") if name in low]
    return np.asarray(np.logical_or.reduce(different))


def _explainer(model: AnomalyDetector) -> Callable[..., Columns]:
    def explain(table: Any, n_columns: int = 3) -> Columns:
        found = model.explain(table, n_columns=n_columns)
        return {
            "anomaly_score": [each.score for each in found],
            "anomaly": [each.anomaly for each in found],
            "explanation": [str(each) for each in found],
            "reasons": [[dict(vars(reason)) for reason in each.reasons] for each in found],
        }

    return explain


def _of_signal_detector(model: SignalDetector) -> list[Route]:
    def score(table: Any) -> Columns:
        return verdicts(model, model.scores(table))

    summary = "The anomaly score of each time stamp of one series, whether it is an anomaly, and its p-value."
    return [Route("score", summary, score)]


# -- tables ------------------------------------------------------------------------------------------------------------


def _of_imputer(model: Imputer) -> list[Route]:
    def columns_of(filled: Any) -> Columns:
        if isinstance(filled, np.ndarray):
            return dict(zip(model.schema_.names, filled.T, strict=True))
        return {str(name): _cells(filled[name]) for name in filled.columns}

    summary = "The rows with their missing cells filled; other cells do not change."
    return [Route("impute", summary, lambda table: columns_of(model.transform(table)))]


def _cells(column: pd.Series) -> Any:
    """A column as an array of numbers, or as a list with None for missing cells."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "buif":
        return column.to_numpy()
    return column.astype(object).where(column.notna(), None).tolist()


# -- recommending ------------------------------------------------------------------------------------------------------


def _of_recommender(model: Recommender) -> list[Route]:
    return [
        Route(
            "recommend",
            "The best items for histories, or for users of the log.",
            recommender(model),
            read=reader(model),
        )
    ]


MAKERS: dict[type, Callable[[Any], list[Route]]] = {
    Autoencoder: _of_autoencoder,
    AnomalyDetector: _of_detector,
    EncoderClassifier: _of_classifier,
    EncoderRegressor: _of_regressor,
    Imputer: _of_imputer,
    Recommender: _of_recommender,
    SignalDetector: _of_signal_detector,
}
