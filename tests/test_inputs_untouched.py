"""No public function writes to what it is given, and nothing that was learned shares memory with it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from sklearn.base import BaseEstimator

import isthmus

DRAW = np.random.default_rng(0)
TABLE = DRAW.random((24, 6))
IMAGES = DRAW.random((24, 8, 8))
SPARSE: Any = scipy.sparse.random(30, 20, 0.3, random_state=0, format="csr")
HOLES = np.where(DRAW.random((24, 6)) < 0.1, np.nan, TABLE)
SIGNALS = DRAW.random((400, 2))
LABELS = np.arange(24) % 2
FRAME = pd.DataFrame({"user": np.arange(60) % 12, "item": np.arange(60) % 11, "rating": 1.0 + np.arange(60) % 5,
                      "time": pd.date_range("2020-01-01", periods=60)})  # fmt: skip
QUICK: dict[str, Any] = {"max_epochs": 1, "random_state": 0}
SHORT = isthmus.AnomalyDetector(0, max_steps=20, random_state=0)
SMALL: dict[str, Any] = {**QUICK, "network": (4,), "code_size": 2}


def unsorted_csr() -> scipy.sparse.csr_matrix:
    """CSR whose columns do not ascend and with a duplicate entry, as products and permutations make them."""
    permuted = scipy.sparse.csr_matrix(SPARSE[:, np.random.default_rng(1).permutation(20)])
    permuted.indices[1] = permuted.indices[0]
    return permuted


# -- the containers ----------------------------------------------------------------------------------------------------


def arrays_of(data: Any) -> Iterator[np.ndarray]:
    """Every array that a container is made of."""
    if isinstance(data, np.ndarray):
        yield data
    elif isinstance(data, torch.Tensor):
        yield data.numpy()
    elif scipy.sparse.issparse(data):
        yield from (getattr(data, part) for part in ("data", "indices", "indptr", "row", "col") if hasattr(data, part))
    elif isinstance(data, isthmus.Interactions):
        for part in (data.matrix, data.users, data.items, data.times):
            yield from arrays_of(part)
    elif isinstance(data, isthmus.HeldOut):
        yield from (array for part in (data.given, data.held) for array in arrays_of(part))
    elif isinstance(data, pd.DataFrame):
        yield from (data[column].to_numpy() for column in data.columns)
    elif isinstance(data, list | tuple):
        for part in data:
            yield from arrays_of(part)


def arguments(call: tuple[Any, ...]) -> list[np.ndarray]:
    return [array for part in call for array in arrays_of(part)]


def same(first: np.ndarray, second: np.ndarray) -> bool:
    if first.dtype == object:
        return bool(first.tolist() == second.tolist())
    return bool(np.array_equal(first, second, equal_nan=first.dtype.kind in "fM"))


def spoil(array: np.ndarray) -> None:
    """Overwrite an array of the caller's; places of sparse entries stay places."""
    if not array.flags.writeable:
        array.setflags(write=True)
    array[...] = array[::-1].copy() if array.dtype.kind in "OUSM" else np.zeros_like(array)


# -- what is fitted ----------------------------------------------------------------------------------------------------

Make = Callable[[], BaseEstimator]
Ask = Callable[[Any], np.ndarray]


def rows(model: Any, X: Any) -> np.ndarray:
    return np.asarray(model.reconstruct(X))


def lists(model: Any) -> np.ndarray:
    answers = model.recommend_batch(n=5, exclude_seen=False)
    return np.asarray([[*answer.items.tolist(), *answer.scores.tolist()] for answer in answers], object)


Fit = tuple[Make, Callable[[], tuple[Any, ...]], Callable[[Any], Any]]
PLAIN = [
    kind for kind in isthmus.estimators.__all__ if kind.endswith("Autoencoder") and kind != "ConvolutionalAutoencoder"
]


def plain(kind: str) -> Fit:
    """A kind of autoencoder on a table."""
    return lambda: getattr(isthmus, kind)(2, **QUICK), lambda: (TABLE.copy(),), lambda m: rows(m, TABLE)


FITS: dict[str, Fit] = {kind: plain(kind) for kind in PLAIN}
FITS |= {
    "ConvolutionalAutoencoder": (
        lambda: isthmus.ConvolutionalAutoencoder(2, **QUICK), lambda: (IMAGES.copy(),), lambda m: rows(m, IMAGES)),
    "float32": (
        lambda: isthmus.Autoencoder(2, **QUICK), lambda: (TABLE.astype("f4"),), lambda m: rows(m, TABLE.astype("f4"))),
    "tensor": (
        lambda: isthmus.Autoencoder(2, **QUICK), lambda: (torch.tensor(TABLE),), lambda m: rows(m, TABLE)),
    "frame": (
        lambda: isthmus.Autoencoder(2, **QUICK), lambda: (pd.DataFrame(TABLE.copy(), columns=list("abcdef")),),
        lambda m: rows(m, pd.DataFrame(TABLE, columns=list("abcdef")))),
    "csr": (
        lambda: isthmus.Autoencoder(2, **QUICK), lambda: (unsorted_csr(),), lambda m: rows(m, SPARSE)),
    "AnomalyDetector": (
        lambda: isthmus.AnomalyDetector(random_state=0), lambda: (TABLE.copy(),), lambda m: m.score_samples(TABLE)),
    "AnomalyDetector, frame with words": (
        lambda: isthmus.AnomalyDetector(random_state=0),
        lambda: (pd.DataFrame(TABLE.copy()).rename(columns=str).assign(word=list("ab") * 12),),
        lambda m: m.score_samples(pd.DataFrame(TABLE).rename(columns=str).assign(word="a"))),
    "SignalDetector": (
        lambda: isthmus.SignalDetector(16, detector=SHORT), lambda: (SIGNALS.copy(),), lambda m: m.predict(SIGNALS)),
    "ImageCodec": (
        lambda: isthmus.ImageCodec("20 dB", n_steps=2, random_state=0), lambda: ((IMAGES * 255).astype("u1"),),
        lambda m: np.frombuffer(m.compress((IMAGES * 255).astype("u1")), "u1")),
    "Imputer": (
        lambda: isthmus.Imputer(random_state=0), lambda: (HOLES.copy(),), lambda m: m.transform(HOLES)),
    "Restorer": (
        lambda: isthmus.Restorer("masking", network=isthmus.UNet((4,)), max_steps=3, random_state=0),
        lambda: (IMAGES.copy(),), lambda m: m.restore(IMAGES)),
    "EncoderClassifier": (
        lambda: isthmus.EncoderClassifier(isthmus.Autoencoder(2, **QUICK)), lambda: (TABLE.copy(), LABELS.copy()),
        lambda m: m.predict_proba(TABLE)),
    "EncoderRegressor": (
        lambda: isthmus.EncoderRegressor(isthmus.Autoencoder(2, **QUICK)), lambda: (TABLE.copy(), TABLE[:, 0].copy()),
        lambda m: m.predict(TABLE)),
    "TableSampler": (
        lambda: isthmus.TableSampler(hidden_sizes=(4,), **QUICK), lambda: (TABLE.copy(),),
        lambda m: m.sample(5, random_state=0)),
    "Recommender, csr": (lambda: isthmus.Recommender(**SMALL), lambda: (unsorted_csr(),), lists),
    "Recommender, csc": (lambda: isthmus.Recommender(**SMALL), lambda: (SPARSE.copy().tocsc(),), lists),
    "Recommender, coo": (lambda: isthmus.Recommender(**SMALL), lambda: (SPARSE.copy().tocoo(),), lists),
    "Recommender, float32 csr": (
        lambda: isthmus.Recommender(**SMALL, positive_from=None), lambda: (SPARSE.astype("f4"),), lists),
    "Recommender, frame": (lambda: isthmus.Recommender(**SMALL), lambda: (FRAME.copy(),), lists),
    "Recommender, explicit": (
        lambda: isthmus.Recommender(feedback="explicit", **SMALL), lambda: (FRAME.copy(),), lists),
    "Recommender, Interactions": (
        lambda: isthmus.Recommender(**SMALL), lambda: (isthmus.read_interactions(FRAME),), lists),
}  # fmt: skip


@pytest.mark.parametrize("name", FITS)
def test_fit_changes_nothing_and_keeps_no_memory(name: str) -> None:
    make, give, ask = FITS[name]
    given = give()
    before = copy.deepcopy(arguments(given))
    model: Any = make()
    model.fit(*given)
    for array, old in zip(arguments(given), before, strict=True):
        assert same(array, old)
    answer = copy.deepcopy(ask(model))
    for array in arguments(given):
        spoil(array)
    assert same(np.asarray(ask(model)), np.asarray(answer))


# -- what is called ----------------------------------------------------------------------------------------------------

CALLS: dict[str, tuple[str, Callable[..., Any], Callable[[], tuple[Any, ...]]]] = {}
"""The fit that a call needs (or nothing), the call, and its arguments."""


def on_table(method: str, form: Any) -> tuple[str, Callable[..., Any], Callable[[], tuple[Any, ...]]]:
    """A method of an autoencoder on a table in some form."""
    return "Autoencoder", lambda m, X: getattr(m, method)(X), lambda: (form.copy(),)


for method in ("transform", "reconstruct", "score_samples", "score", "reconstruction_error", "partial_fit"):
    for form in (TABLE, TABLE.astype("f4"), scipy.sparse.csr_array(TABLE)):
        CALLS[f"Autoencoder.{method}, {type(form).__name__} {form.dtype}"] = on_table(method, form)
CALLS |= {
    "restorer.restore": ("Restorer", lambda m, X: m.restore(X), lambda: (IMAGES.copy(),)),
    "restorer.damage_images": ("Restorer", lambda m, X: m.damage_images(X), lambda: (IMAGES.copy(),)),
    "restorer.score": ("Restorer", lambda m, X: m.score(X), lambda: (IMAGES.copy(),)),
    "inverse_transform": ("Autoencoder", lambda m, Z: m.inverse_transform(Z), lambda: (np.ones((3, 2)),)),
    "detector.score_samples": ("AnomalyDetector", lambda m, X: m.score_samples(X), lambda: (TABLE.copy(),)),
    "detector.predict": ("AnomalyDetector", lambda m, X: m.predict(X), lambda: (TABLE.copy(),)),
    "imputer": ("Imputer", lambda m, X: m.transform(X), lambda: (HOLES.copy(),)),
    "classifier": ("EncoderClassifier", lambda m, X: m.predict(X), lambda: (TABLE.copy(),)),
    "signals": ("SignalDetector", lambda m, X: m.predict(X), lambda: (SIGNALS.copy(),)),
    "recommend": (
        "Recommender, csr", lambda m, *a: m.recommend(history=a[0], filter=a[1], exclude=a[2]),
        lambda: (np.array([3, 5]), np.arange(20) > 3, np.array([7, 9]))),
    "recommend, row": ("Recommender, csr", lambda m, x: m.recommend(history=x), lambda: (unsorted_csr()[:1],)),
    "recommend_batch": ("Recommender, csr", lambda m, *a: m.recommend_batch(*a), lambda: (np.array([3, 5]),)),
    "histories, csr": ("Recommender, csr", lambda m, x: m.recommend_batch(histories=x), lambda: (unsorted_csr(),)),
    "histories, csc": ("Recommender, csr", lambda m, x: m.rank(x), lambda: (SPARSE.copy().tocsc(),)),
    "histories, dense": ("Recommender, csr", lambda m, x: m.rank(x), lambda: (SPARSE.toarray(),)),
    "histories, lists": (
        "Recommender, csr", lambda m, *a: m.recommend_batch(histories=list(a)),
        lambda: (np.array([1, 2]), np.array([3]))),
    "rank": ("Recommender, csr", lambda m, x: m.rank(x), lambda: (unsorted_csr(),)),
    "relevant": ("Recommender, csr", lambda m, x: m.relevant(x), lambda: (unsorted_csr(),)),
    "predict": ("Recommender, csr", lambda m, *a: m.predict(*a), lambda: (np.array([3, 5]), np.array([1, 2]))),
    "predict_held": ("Recommender, csr", lambda m, *a: m.predict_held(*a), lambda: (unsorted_csr(), unsorted_csr())),
    "user_embeddings": ("Recommender, csr", lambda m, x: m.user_embeddings(histories=x), lambda: (unsorted_csr(),)),
    "similar_items": ("Recommender, csr", lambda m, x: m.similar_items_batch(x), lambda: (np.array([3, 5]),)),
    "score": ("Recommender, csr", lambda m, x: m.score(x), lambda: (unsorted_csr(),)),
    "recommender.partial_fit": ("Recommender, csr", lambda m, x: m.partial_fit(x), lambda: (unsorted_csr(),)),
    "read_interactions": ("", isthmus.read_interactions, lambda: (unsorted_csr(),)),
    "read_interactions, names": (
        "", lambda x, u, i: isthmus.read_interactions(x, users=u, items=i),
        lambda: (unsorted_csr(), np.arange(30) + 5, np.array([f"i{k}" for k in range(20)], object))),
    "read_interactions, frame": ("", isthmus.read_interactions, lambda: (FRAME.copy(),)),
    "read_interactions, Interactions": ("", isthmus.read_interactions, lambda: (isthmus.read_interactions(FRAME),)),
    "leave_out": ("", lambda x: isthmus.leave_out(x, random_state=0), lambda: (unsorted_csr(),)),
    "leave_out, Interactions": (
        "", lambda x: isthmus.leave_out(x, random_state=0), lambda: (isthmus.read_interactions(FRAME),)),
    "leave_k_out": ("", lambda x: isthmus.leave_k_out(x, random_state=0), lambda: (unsorted_csr(),)),
    "leave_latest": ("", isthmus.leave_latest, lambda: (isthmus.read_interactions(FRAME),)),
    "leave_after": ("", isthmus.leave_after, lambda: (FRAME.copy(),)),
    "strong_generalization": (
        "", lambda x: isthmus.strong_generalization(x, n_validation=3, n_test=3, random_state=0),
        lambda: (unsorted_csr(),)),
    "evaluate_recommender": (
        "Recommender, frame", isthmus.evaluate_recommender,
        lambda: (isthmus.leave_out(FRAME, random_state=0),)),
    "nearest": ("", isthmus.nearest, lambda: (TABLE.copy(), TABLE[:3] * 1e-30)),
    "nearest, float32": ("", isthmus.nearest, lambda: (TABLE.astype("f4"), TABLE[:3].astype("f4"))),
    "benjamini_hochberg": ("", lambda p: isthmus.benjamini_hochberg(p, 0.1), lambda: (DRAW.random(9),)),
    "conformal_p_values": ("", isthmus.conformal_p_values, lambda: (DRAW.random(9), DRAW.random(20))),
}  # fmt: skip

FITTED: dict[str, Any] = {}


def fitted(name: str) -> Any:
    """A fresh copy of a fitted model."""
    if name not in FITTED:
        make, give, _ = FITS[name]
        FITTED[name] = make().fit(*give())
    return copy.deepcopy(FITTED[name])


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("name", CALLS)
def test_calls_change_nothing_and_share_no_memory(name: str, read_only: bool) -> None:
    needs, call, give = CALLS[name]
    given = give()
    before = copy.deepcopy(arguments(given))
    for array in arguments(given) if read_only else ():
        array.setflags(write=False)
    answer = call(*([fitted(needs)] if needs else []), *given)
    for array, old in zip(arguments(given), before, strict=True):
        assert same(array, old)
    kept = list(arrays_of(answer)) + [
        array for part in ("given", "held") for array in arrays_of(getattr(answer, part, None))
    ]
    shared = [array for array in kept for old in arguments(given) if old.size and np.shares_memory(array, old)]
    assert not shared


def test_partial_fit_keeps_no_memory_of_what_came_later() -> None:
    model = fitted("Recommender, csr")
    new = unsorted_csr()
    model.partial_fit(new)
    answer = lists(model)
    for array in arrays_of(new):
        spoil(array)
    assert same(lists(model), answer)


def test_a_saved_recommender_does_not_share_with_the_callers_names(tmp_path: Path) -> None:
    names = np.arange(20)
    model = isthmus.Recommender(**SMALL).fit(SPARSE, items=names)
    names[:] = 0
    assert isthmus.load(model.save(tmp_path / "r.safetensors")).items_.tolist() == list(range(20))
