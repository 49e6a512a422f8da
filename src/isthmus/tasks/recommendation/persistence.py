"""The file of a recommender: its declared contents, and conversion to and from a state."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import msgspec
import numpy as np
import scipy.sparse

from isthmus.choices.parameters import is_auto
from isthmus.estimators import Autoencoder, params_json, persistence
from isthmus.estimators.saved import put_run_of, run_of
from isthmus.exceptions import ModelFileError
from isthmus.files.model_file import State
from isthmus.files.records import Arrays, Json, Numbers, Real, Record, check_arrays, group, grouped, pack, unpack
from isthmus.tasks.recommendation.biases import Biases
from isthmus.tasks.recommendation.ease import ShallowPath
from isthmus.tasks.recommendation.factors import Factors
from isthmus.tasks.recommendation.fitted import FittedRecommender
from isthmus.tasks.recommendation.identifiers import as_names
from isthmus.tasks.recommendation.interactions import Interactions
from isthmus.tasks.recommendation.liking import Liking, without_zeros
from isthmus.tasks.recommendation.names import array_to_names, names_to_array
from isthmus.tasks.recommendation.recommender_fit import path_weight

if TYPE_CHECKING:
    from isthmus.tasks.recommendation.recommender import Recommender

R = TypeVar("R", bound="Recommender")


class DeepValues(Record, frozen=True):
    """The autoencoder in the file of a recommender."""

    kind: str
    values: Json


class RecommenderValues(Record, frozen=True):
    """The contents of a recommender's file besides arrays."""

    params: Json
    deep: DeepValues
    rated: bool
    rating_range: Annotated[list[Real], msgspec.Meta(min_length=2, max_length=2)] | None
    positive_from: Real | None
    mean: Real | None
    noise: Real | None
    feedback: Literal["implicit", "explicit"] | None = None
    path_weight: Real | None = None
    values_are: Literal["ones", "counts", "ratings"] | None = None


DECLARED = {
    "deep.*": Numbers("fiub"),
    "log.data": Numbers("f", ("entries",), 32),
    "log.indices": Numbers("i", ("entries",)),
    "log.indptr": Numbers("i", (None,)),
    "users": Numbers("iu", (None,)),
    "items": Numbers("iu", (None,)),
    "titled": Numbers("iu", (None,), optional=True),
    "titles": Numbers("iu", (None,), optional=True),
    "path.items": Numbers("i", ("path",), optional=True),
    "path.weights": Numbers("f", ("path", "path"), optional=True),
    "biases.items": Numbers("f", ("items",), optional=True),
    "factors.loadings": Numbers("f", ("items", "factors"), optional=True),
    "factors.seconds": Numbers("f", ("items", None), optional=True),
}


def to_state(model: Recommender, fitted: FittedRecommender) -> State:
    """The state of a recommender: its parameters, and what it has learned."""
    inner = fitted.model._to_state()  # noqa: SLF001  # the state of the autoencoder is part of the file
    values = RecommenderValues(
        params=params_json.params_to_json(model.get_params(deep=False)),
        deep=DeepValues(kind=inner.kind, values=dict(inner.values)),
        rated=fitted.log.rated,
        rating_range=None if fitted.rating_range is None else list(fitted.rating_range),
        feedback="explicit" if fitted.rates else "implicit",
        path_weight=fitted.path_weight,
        values_are=fitted.liking.values,
        positive_from=fitted.liking.positive_from,
        mean=None if fitted.biases is None else fitted.biases.mean,
        noise=None if fitted.factors is None else fitted.factors.noise,
    )
    return pack(type(model).__name__, values, _arrays(fitted) | grouped(inner.arrays, "deep."), DECLARED)


def _arrays(fitted: FittedRecommender) -> dict[str, np.ndarray]:
    """All arrays but those of the autoencoder."""
    log, titles = fitted.log, fitted.titles
    arrays = {
        "log.data": log.matrix.data,
        "log.indices": log.matrix.indices,
        "log.indptr": log.matrix.indptr,
        "users": names_to_array(log.users),
        "items": names_to_array(log.items),
    }
    if titles:
        arrays["titled"] = names_to_array(as_names(list(titles)))
        arrays["titles"] = names_to_array(as_names(list(titles.values())))
    if fitted.path is not None:
        arrays |= {"path.items": fitted.path.items, "path.weights": fitted.path.weights}
    if fitted.biases is not None:
        arrays["biases.items"] = fitted.biases.items
    if fitted.factors is not None:
        arrays |= {"factors.loadings": fitted.factors.loadings, "factors.seconds": fitted.factors.seconds}
    return arrays


def run_state(fitted: FittedRecommender) -> tuple[Json, dict[str, np.ndarray]]:
    """What more learning starts from, besides the file; the log of a fitted recommender has no times."""
    values, arrays = run_of(fitted.model, "deep")
    return values | {"counted": fitted.log.counted}, arrays


def with_run_state(fitted: FittedRecommender, values: Json, arrays: Arrays) -> FittedRecommender:
    """The inverse of `run_state`."""
    put_run_of(fitted.model, "deep", values, arrays)
    return replace(fitted, log=replace(fitted.log, counted=values["counted"]))


def from_state(cls: type[R], state: State, network: Any, device: str) -> tuple[R, FittedRecommender]:
    """The recommender of a state, not fitted yet, and what it had learned."""
    values, arrays = unpack(state, RecommenderValues, DECLARED), state.arrays
    users, items = (array_to_names(arrays[name]) for name in ("users", "items"))
    check_arrays(arrays, DECLARED, {"items": len(items)})
    log = _read_log(arrays, users, items, rated=values.rated)
    model = params_json.make_estimator(cls, params_json.with_modules(values.params, network), device=device)
    inner = State(values.deep.kind, values.deep.values, group(arrays, "deep."))
    deep: Autoencoder = persistence.from_state(inner, network=network, device=device)
    if deep.n_features_in_ != len(items):
        raise ModelFileError(f"its arrays do not fit: {len(items)} items, {deep.n_features_in_} in the network.")
    # files of isthmus 0.1 lack the feedback, the weight and the kind of values; their parameters have those of fit
    feedback, least = values.feedback or model.feedback, values.positive_from
    liking = Liking(values.values_are or ("ones" if least is None else "ratings"), least)
    rating_range = None if values.rating_range is None else (values.rating_range[0], values.rating_range[1])
    given = None if is_auto(model.shallow_weight) else float(model.shallow_weight)
    weight = path_weight(given, rates=feedback == "explicit") if values.path_weight is None else values.path_weight
    fitted = FittedRecommender(
        feedback,
        rating_range,
        liking,
        _without_zeros(log, feedback, liking),
        _read_titles(arrays),
        model=deep,
        biases=None if values.mean is None else Biases(values.mean, arrays["biases.items"]),
        path=_read_path(arrays, len(items)) if "path.items" in arrays else None,
        factors=_read_factors(arrays, values.noise),
        path_weight=float(weight),
    )
    return model, fitted


def _without_zeros(log: Interactions, feedback: str, liking: Liking) -> Interactions:
    """The log of a file; files of isthmus 0.1 may have stored zeros that mean no interaction."""
    drops = liking.drops_zeros and feedback != "explicit"
    return replace(log, matrix=without_zeros(log.matrix)[0]) if drops else log


def _read_titles(arrays: Arrays) -> dict[Hashable, str]:
    titled = "titles" in arrays and "titled" in arrays
    keys, titles = ((array_to_names(arrays[name]).tolist() if titled else []) for name in ("titled", "titles"))
    return dict(zip(keys, titles, strict=True))


def _read_factors(arrays: Arrays, noise: float | None) -> Factors | None:
    loadings, seconds = arrays.get("factors.loadings"), arrays.get("factors.seconds")
    if loadings is None or seconds is None or noise is None:
        return None
    return Factors(loadings, seconds, noise)


def _read_log(arrays: Arrays, users: np.ndarray, items: np.ndarray, *, rated: bool) -> Interactions:
    """Read the log; indices are checked first, because scipy accepts any and allocates memory for the largest."""
    data, indices, indptr = (arrays[f"log.{name}"] for name in ("data", "indices", "indptr"))
    rows_fit = len(indptr) == len(users) + 1 and indptr[0] == 0 and indptr[-1] == len(data)
    if not (rows_fit and bool((np.diff(indptr) >= 0).all())):
        raise ModelFileError(f"its array 'log.indptr' does not divide {len(data)} entries among {len(users)} users.")
    if len(indices) and not 0 <= indices.min() <= indices.max() < len(items):
        raise ModelFileError(f"its array 'log.indices' names items beyond the {len(items)} there are.")
    for what, names in (("users", users), ("items", items)):
        if len(set(names.tolist())) < len(names):
            raise ModelFileError(f"its array {what!r} holds a name twice.")
    matrix = scipy.sparse.csr_array((data, indices, indptr), (len(users), len(items)))
    return Interactions(matrix, users, items, rated=rated)


def _read_path(arrays: Arrays, n_items: int) -> ShallowPath:
    items = arrays["path.items"]
    if len(items) and not (bool((np.diff(items) > 0).all()) and items[0] >= 0 and items[-1] < n_items):
        raise ModelFileError(f"its array 'path.items' is not ascending or names items beyond the {n_items} there are.")
    return ShallowPath(items, arrays["path.weights"])
