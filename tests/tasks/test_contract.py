"""The contract that every task keeps; a task that `isthmus.tasks.TASKS` lists and that has no case here is an error."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError

import isthmus
from isthmus.exceptions import DivergenceError
from isthmus.tasks import TASKS

DRAW = np.random.default_rng(0)
TABLE = DRAW.normal(size=(40, 5)) @ DRAW.normal(size=(5, 5))
HOLES = np.where(DRAW.random(TABLE.shape) < 0.15, np.nan, TABLE)
LABELS = np.arange(40) % 2
TARGETS = TABLE @ [1.0, -2.0, 0.5, 0.0, 1.0]
SIGNALS = DRAW.normal(size=(300, 2))
LOG = pd.DataFrame({"user": np.arange(80) % 16, "item": np.arange(80) % 11})
PHOTOS = np.kron(DRAW.integers(0, 256, (3, 6, 6)), np.ones((4, 4))).astype(np.uint8)
ENCODER = isthmus.Autoencoder(2, max_epochs=2, random_state=0)
SHORT: dict[str, Any] = {"max_steps": 20}
IMAGES = DRAW.random((12, 9, 10)).astype(np.float32)
BRIEF: dict[str, Any] = {"network": isthmus.UNet((4, 4)), "max_steps": 5}
SMALL: dict[str, Any] = {"code_size": 2, "network": (4,), "max_epochs": 2}


@dataclass(frozen=True)
class Case:
    """How a task is made, what it learns from, and what it is asked."""

    make: Callable[..., Any]
    given: tuple[Any, ...]
    ask: Callable[[Any], np.ndarray]
    fewer: Callable[[Any], np.ndarray] | None = None
    """The answer for the first sample alone; equal to the first of `ask`."""
    bad: tuple[str, ...] = ("infinite", "no rows", "missing")
    """What `fit` refuses."""


def lists(model: Any, users: Any = None) -> np.ndarray:
    answers = model.recommend_batch(users, n=3, exclude_seen=False)
    return np.asarray([[*answer.items.tolist(), *answer.scores.tolist()] for answer in answers])


CASES = {
    "AnomalyDetector": Case(
        lambda **more: isthmus.AnomalyDetector(0, **(SHORT | more)),
        (TABLE,),
        lambda m: m.score_samples(TABLE),
        lambda m: m.score_samples(TABLE[:1]),
    ),
    "SignalDetector": Case(
        lambda **more: isthmus.SignalDetector(16, detector=isthmus.AnomalyDetector(0, **(SHORT | more))),
        (SIGNALS,),
        lambda m: m.score_samples(SIGNALS),
        bad=("infinite", "no rows"),  # a gap in a series is left out
    ),
    "EncoderClassifier": Case(
        lambda **more: isthmus.EncoderClassifier(ENCODER, max_epochs=3, **more),
        (TABLE, LABELS),
        lambda m: m.predict_proba(TABLE),
        lambda m: m.predict_proba(TABLE[:1]),
    ),
    "EncoderRegressor": Case(
        lambda **more: isthmus.EncoderRegressor(ENCODER, **({"max_epochs": 3} | more)),
        (TABLE, TARGETS),
        lambda m: m.predict(TABLE),
        lambda m: m.predict(TABLE[:1]),
    ),
    "ImageCodec": Case(
        lambda **more: isthmus.ImageCodec("25 dB", n_steps=3, **more),
        (PHOTOS,),
        lambda m: np.frombuffer(m.compress(PHOTOS), np.uint8),
        bad=("no rows",),  # bytes are never infinite or missing
    ),
    "Imputer": Case(
        lambda **more: isthmus.Imputer(hidden_sizes=(8,), code_size=2, n_members=2, max_epochs=1, **more),
        (HOLES,),
        lambda m: m.transform(HOLES),
        lambda m: m.transform(HOLES[:1]),
        ("infinite", "no rows"),  # missing cells are what it is for
    ),
    "Restorer": Case(
        lambda **more: isthmus.Restorer("gaussian-noise", **(BRIEF | more)),
        (IMAGES,),
        lambda m: m.restore(IMAGES),
        lambda m: m.restore(IMAGES[:1]),
    ),
    "Recommender": Case(
        lambda **more: isthmus.Recommender(**(SMALL | more)), (LOG,), lists, lambda m: lists(m, [m.users_[0]]), ()
    ),
    "TableSampler": Case(
        lambda **more: isthmus.TableSampler(hidden_sizes=(8,), code_size=2, **({"max_epochs": 2} | more)),
        (TABLE,),
        lambda m: m.sample(20, random_state=0),
        bad=("infinite", "no rows"),  # missing cells are made too
    ),
}
every_task = pytest.mark.parametrize("name", CASES)
FITTED: dict[str, Any] = {}


def fitted(name: str) -> Any:
    if name not in FITTED:
        FITTED[name] = CASES[name].make(random_state=0).fit(*CASES[name].given)
    return FITTED[name]


def test_every_task_is_listed_and_has_a_case() -> None:
    public = (getattr(isthmus, name) for name in dir(isthmus))
    estimators = {
        each.__name__
        for each in public
        if inspect.isclass(each) and issubclass(each, BaseEstimator) and each.__module__.startswith("isthmus.tasks.")
        if hasattr(each, "fit")
    }
    assert estimators == set(TASKS) == set(CASES)
    assert all(task.__name__ == name for name, task in TASKS.items())


@every_task
def test_files_pickles_and_copies_answer_alike(name: str, tmp_path: Path) -> None:
    model, ask = fitted(name), CASES[name].ask
    wanted = ask(model)
    loaded = isthmus.load(model.save(tmp_path / "model.safetensors"))
    again = isthmus.load(loaded.save(tmp_path / "again.safetensors"))
    for other in (loaded, again, pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):  # our own
        assert type(other) is TASKS[name]
        np.testing.assert_array_equal(ask(other), wanted)
        assert other.get_params(deep=False).keys() == model.get_params(deep=False).keys()


@every_task
def test_the_same_seed_answers_alike_alone_again_and_in_threads(name: str) -> None:
    case, wanted = CASES[name], CASES[name].ask(fitted(name))

    def fit(seed: int) -> np.ndarray:
        return case.ask(case.make(random_state=seed).fit(*case.given))

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(fit, (0, 1))
    np.testing.assert_array_equal(one, wanted)
    assert not np.array_equal(other, wanted)
    twice = case.make(random_state=0).fit(*case.given).fit(*case.given)
    np.testing.assert_array_equal(case.ask(twice), wanted)


@every_task
def test_fit_keeps_the_parameters_and_a_clone_has_learned_nothing(name: str) -> None:
    case = CASES[name]
    model = case.make(random_state=0)
    before = repr(model)
    assert repr(fitted(name)) == before
    assert repr(clone(fitted(name))) == before
    for fresh in (model, clone(fitted(name))):
        with pytest.raises(NotFittedError):
            case.ask(fresh)
        with pytest.raises(NotFittedError):
            fresh.save("nowhere.safetensors")


@every_task
def test_one_sample_is_answered_as_among_others(name: str) -> None:
    case, model = CASES[name], fitted(name)
    if case.fewer is not None:
        np.testing.assert_allclose(case.fewer(model)[0], case.ask(model)[0], rtol=1e-5, atol=1e-6)


SPOILED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "infinite": lambda X: np.where(np.arange(X.size).reshape(X.shape) == 7, np.inf, X),
    "missing": lambda X: np.where(np.arange(X.size).reshape(X.shape) == 7, np.nan, X),
    "no rows": lambda X: X[:0],
}


@pytest.mark.parametrize(("name", "how"), [(name, how) for name, case in CASES.items() for how in case.bad])
def test_bad_rows_are_refused_by_fit(name: str, how: str) -> None:
    X, *others = CASES[name].given
    rows = SPOILED[how](X)
    words = {"infinite": "inf", "missing": "NaN|missing", "no rows": "0 |no rows|empty"}[how]
    with pytest.raises(ValueError, match=f"(?i){words}") as error:
        CASES[name].make().fit(rows, *(other[: len(rows)] for other in others))
    assert len(str(error.value)) > 20


OF_ROWS = [name for name, case in CASES.items() if case.fewer is not None and case.bad and name != "Restorer"]
"""Tasks on rows of one width; a restorer takes images of any size."""


@pytest.mark.parametrize("name", OF_ROWS)
def test_rows_of_another_width_are_refused(name: str) -> None:
    model, narrow = fitted(name), TABLE[:, :4]
    verb = next(
        getattr(model, verb)
        for verb in ("score_samples", "predict_proba", "transform", "predict")
        if hasattr(model, verb)
    )
    with pytest.raises(ValueError, match=r"4 features, but .* is expecting 5 features"):
        verb(narrow)


@pytest.mark.parametrize("rate", [1e4, 1e30])
@pytest.mark.parametrize(
    "name", ["EncoderClassifier", "EncoderRegressor", "Imputer", "Recommender", "Restorer", "TableSampler"]
)
def test_a_learning_rate_that_is_far_too_high_is_an_error(name: str, rate: float) -> None:
    case = CASES[name]
    with pytest.raises(DivergenceError, match=f"Use a lower learning_rate than {re.escape(f'{rate:g}')}"):
        case.make(random_state=0, learning_rate=rate).fit(*case.given)
