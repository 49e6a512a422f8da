"""A recommender as a state, and back; and logs put together."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, TypeVar

import numpy as np
import scipy.sparse

from isthmus.estimators import persistence
from isthmus.files.model_file import State
from isthmus.tasks.recommendation.biases import Biases
from isthmus.tasks.recommendation.factors import Factors
from isthmus.tasks.recommendation.identifiers import as_names
from isthmus.tasks.recommendation.interactions import Interactions
from isthmus.tasks.recommendation.liking import Liking
from isthmus.tasks.recommendation.names import array_to_names, names_to_array
from isthmus.tasks.recommendation.shallow import ShallowPath

R = TypeVar("R")


def joined(names: np.ndarray, new: Sequence[Hashable]) -> np.ndarray:
    """Names with new ones behind them.

    >>> joined(np.array([3, 5]), [4]).tolist()
    [3, 5, 4]
    """
    return as_names([*names.tolist(), *new])


def overlaid(old: Any, new: Any, rows: np.ndarray, columns: np.ndarray, n_rows: int) -> Any:
    """A CSR matrix with the entries of another laid over it; its rows and columns have these numbers.

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
    kept, place = np.unique(keys[::-1], return_index=True)  # of equal keys the last
    indptr = np.concatenate([[0], np.cumsum(np.bincount(kept // n_columns, minlength=n_rows))])
    return scipy.sparse.csr_array((values[place], (kept % n_columns).astype(np.int32), indptr), (n_rows, old.shape[1]))


def to_state(model: Any) -> State:
    """All of a fitted recommender."""
    inner = model.model_._to_state()  # noqa: SLF001  # the file of the deep path within the recommender's
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
    values = {
        "params": persistence.encode(model.get_params(deep=False)),
        "deep": {"kind": inner.kind, "values": inner.values},
        "rated": model.log_.rated,
        "rating_range": None if model.rating_range_ is None else list(model.rating_range_),
        "feedback": model.feedback_,
        "path_weight": model.path_weight_,
        "values_are": model.liking_.values,
        "positive_from": model.positive_from_,
        "mean": None if model.biases_ is None else model.biases_.mean,
        "noise": None if model.factors_ is None else model.factors_.noise,
    }
    return State(type(model).__name__, values, arrays | {f"deep.{name}": array for name, array in inner.arrays.items()})


def from_state(cls: type[R], state: State, network: Any, device: str) -> R:
    """The recommender of a state."""
    values, arrays = state.values, state.arrays
    params = persistence.decode({"params": values["params"]})["params"]
    model: Any = cls(**{**params, "device": device})
    deep = {name[5:]: array for name, array in arrays.items() if name.startswith("deep.")}
    inner = State(values["deep"]["kind"], values["deep"]["values"], deep)
    model.model_ = persistence.from_state(inner, network=network, device=device)
    model.history_ = model.model_.history_
    bounds, least = values["rating_range"], values["positive_from"]
    model.rating_range_ = None if bounds is None else tuple(bounds)
    # files of isthmus 0.1 have neither of these three, and learned with what the parameters said
    model.feedback_ = values.get("feedback", params["feedback"])
    model.path_weight_ = float(values.get("path_weight", model._path_weight()))  # noqa: SLF001
    model.liking_ = Liking(values.get("values_are", "ones" if least is None else "ratings"), least)
    users, items = (array_to_names(arrays[name]) for name in ("users", "items"))
    parts = tuple(arrays[f"log.{name}"] for name in ("data", "indices", "indptr"))
    matrix = scipy.sparse.csr_array(parts, (len(users), len(items)))
    model._keep(Interactions(matrix, users, items, rated=values["rated"]))  # noqa: SLF001
    titled = "titles" in arrays
    keys, titles = ((array_to_names(arrays[name]).tolist() if titled else []) for name in ("titled", "titles"))
    model.titles_ = dict(zip(keys, titles, strict=True))
    model.path_ = ShallowPath(arrays["path.items"], arrays["path.weights"]) if "path.items" in arrays else None
    rated = values["mean"] is not None
    model.biases_ = Biases(values["mean"], arrays["biases.items"]) if rated else None
    known = "factors.loadings" in arrays
    model.factors_ = Factors(arrays["factors.loadings"], arrays["factors.seconds"], values["noise"]) if known else None
    return model  # type: ignore[no-any-return]
