"""Conversion of a recommender to a state and back; merging of logs."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import numpy as np
import scipy.sparse

from isthmus.estimators import params_json, persistence
from isthmus.exceptions import ModelFileError
from isthmus.files.model_file import State
from isthmus.files.records import Arrays, Json, Numbers, Real, Record, check_arrays, group, grouped, pack, unpack
from isthmus.tasks.recommendation.biases import Biases
from isthmus.tasks.recommendation.ease import ShallowPath
from isthmus.tasks.recommendation.factors import Factors
from isthmus.tasks.recommendation.identifiers import as_names
from isthmus.tasks.recommendation.interactions import Interactions
from isthmus.tasks.recommendation.liking import Liking
from isthmus.tasks.recommendation.names import array_to_names, names_to_array

R = TypeVar("R")


def joined(names: np.ndarray, new: Sequence[Hashable]) -> np.ndarray:
    """Append new names.

    >>> joined(np.array([3, 5]), [4]).tolist()
    [3, 5, 4]
    """
    return as_names([*names.tolist(), *new])


def overlaid(old: Any, new: Any, rows: np.ndarray, columns: np.ndarray, n_rows: int) -> Any:
    """Overwrite entries of a CSR matrix with those of another, at the given rows and columns.

    >>> old, new = scipy.sparse.csr_array([[1, 2]]), scipy.sparse.csr_array([[5]])
    >>> overlaid(old, new, np.array([0]), np.array([1]), 2).toarray()
    array([[1, 5],
           [0, 0]])
    """
    n_columns = np.int64(old.shape[1])
    of_old = np.repeat(np.arange(old.shape[0]), np.diff(old.indptr))
    of_new = rows[np.repeat(np.arange(new.shape[0]), np.diff(new.indptr))]
    keys = np.concatenate([of_old * n_columns + old.indices, of_new * n_columns + columns[new.indices]])
    values = np.concatenate([old.data, new.data])[::-1]
    kept, place = np.unique(keys[::-1], return_index=True)  # keeps the last of equal keys
    indptr = np.concatenate([[0], np.cumsum(np.bincount(kept // n_columns, minlength=n_rows))])
    return scipy.sparse.csr_array((values[place], (kept % n_columns).astype(np.int32), indptr), (n_rows, old.shape[1]))


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


def to_state(model: Any) -> State:
    """The state of a fitted recommender."""
    inner = model.model_._to_state()  # noqa: SLF001  # the state of the autoencoder is part of the file
    matrix = model.log_.matrix
    arrays = {
        "log.data": matrix.data,
        "log.indices": matrix.indices,
        "log.indptr": matrix.indptr,
        "users": names_to_array(model.users_),
        "items": names_to_array(model.items_),
    }
    if model.titles_:
        arrays["titled"] = names_to_array(as_names(list(model.titles_)))
        arrays["titles"] = names_to_array(as_names(list(model.titles_.values())))
    if model.path_ is not None:
        arrays |= {"path.items": model.path_.items, "path.weights": model.path_.weights}
    if model.biases_ is not None:
        arrays["biases.items"] = model.biases_.items
    if model.factors_ is not None:
        arrays |= {"factors.loadings": model.factors_.loadings, "factors.seconds": model.factors_.seconds}
    values = RecommenderValues(
        params=params_json.params_to_json(model.get_params(deep=False)),
        deep=DeepValues(kind=inner.kind, values=dict(inner.values)),
        rated=model.log_.rated,
        rating_range=None if model.rating_range_ is None else list(model.rating_range_),
        feedback=model.feedback_,
        path_weight=model.path_weight_,
        values_are=model.liking_.values,
        positive_from=model.positive_from_,
        mean=None if model.biases_ is None else model.biases_.mean,
        noise=None if model.factors_ is None else model.factors_.noise,
    )
    return pack(type(model).__name__, values, arrays | grouped(inner.arrays, "deep."), DECLARED)


def from_state(cls: type[R], state: State, network: Any, device: str) -> R:
    """Build a recommender from a state."""
    values, arrays = unpack(state, RecommenderValues, DECLARED), state.arrays
    users, items = (array_to_names(arrays[name]) for name in ("users", "items"))
    check_arrays(arrays, DECLARED, {"items": len(items)})
    log = _read_log(arrays, users, items, rated=values.rated)
    model: Any = params_json.make_estimator(cls, params_json.with_modules(values.params, network), device=device)
    inner = State(values.deep.kind, values.deep.values, group(arrays, "deep."))
    model.model_ = persistence.from_state(inner, network=network, device=device)
    if model.model_.n_features_in_ != len(items):
        raise ModelFileError(
            f"its arrays do not fit: {len(items)} items, {model.model_.n_features_in_} in the network."
        )
    model.history_ = model.model_.history_
    model.rating_range_ = None if values.rating_range is None else tuple(values.rating_range)
    # files of isthmus 0.1 lack the last three fields; their parameters have the values used at fit
    model.feedback_ = values.feedback or model.feedback
    weight = values.path_weight
    model.path_weight_ = float(model._path_weight() if weight is None else weight)  # noqa: SLF001
    least = values.positive_from
    model.liking_ = Liking(values.values_are or ("ones" if least is None else "ratings"), least)
    model._keep(log)  # noqa: SLF001
    titled = "titles" in arrays and "titled" in arrays
    keys, titles = ((array_to_names(arrays[name]).tolist() if titled else []) for name in ("titled", "titles"))
    model.titles_ = dict(zip(keys, titles, strict=True))
    model.path_ = _read_path(arrays, len(items)) if "path.items" in arrays else None
    model.biases_ = None if values.mean is None else Biases(values.mean, arrays["biases.items"])
    loadings, seconds, noise = arrays.get("factors.loadings"), arrays.get("factors.seconds"), values.noise
    model.factors_ = None
    if loadings is not None and seconds is not None and noise is not None:
        model.factors_ = Factors(loadings, seconds, noise)
    return model  # type: ignore[no-any-return]


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
