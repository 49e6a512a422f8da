"""Pickles of models: they are model files, answer bit for bit alike, go on training alike, and are checked as files."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tests.tasks.test_contract import CASES, LABELS, TABLE, fitted
from torch import nn

import isthmus
from isthmus.exceptions import ModelFileError

QUICK: dict[str, Any] = {"max_epochs": 2, "random_state": 0}
KINDS: dict[str, dict[str, Any]] = {name: {} for name in isthmus.KINDS}
KINDS["convolutional"] = {"network": isthmus.Convolutional((4,), dimensions=1)}
FITTED: dict[str, Any] = {}
NAMES = [*CASES, *KINDS, "SearchIndex"]
every_model = pytest.mark.parametrize("name", NAMES)
FILE = "model.safetensors"


def model_of(name: str) -> Any:
    if name in CASES:
        return fitted(name)
    if name not in FITTED:
        base = "autoencoder" if name == "SearchIndex" else name
        model = isthmus.KINDS[base](**({"code_size": 2} | QUICK | KINDS[base])).fit(TABLE)
        FITTED[name] = isthmus.SearchIndex(model).add(TABLE) if name == "SearchIndex" else model
    return FITTED[name]


def copied(model: Any) -> Any:
    return pickle.loads(pickle.dumps(model))


# -- all that a model has ----------------------------------------------------------------------------------------------

PASSING = {
    *("_double", "_lengths", "_by_name", "feature_names", "models", "single", "item_index", "user_index"),
    *("progress", "seconds"),
}
"""Attributes that are computed when they are needed, and those of one run: its place in the schedule, its time."""


def lasting(one: Any) -> dict[str, Any]:
    """The attributes of an object without those that are computed when they are needed."""
    kinds = type(one).__mro__
    lazy = {name for kind in kinds for name, each in vars(kind).items() if isinstance(each, cached_property)}
    return {name: value for name, value in vars(one).items() if name not in lazy}


def differences(  # noqa: PLR0911  # one line a type
    one: Any, other: Any, at: str, seen: Any = None
) -> list[str]:
    """Where two objects differ, down to the bits and types of what they hold."""
    seen = set() if seen is None else seen
    if one is other or (id(one), id(other)) in seen:
        return []
    seen.add((id(one), id(other)))
    if type(one) is not type(other):
        return [f"{at}: {type(one)} and {type(other)}"]
    if isinstance(one, torch.Tensor):
        same = one.requires_grad == other.requires_grad
        return differences(one.detach().numpy(), other.detach().numpy(), at, seen) if same else [f"{at}: requires_grad"]
    if isinstance(one, np.ndarray) and one.dtype != object:
        same = one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
        return [] if same else [f"{at}: arrays"]
    if isinstance(one, Mapping):
        return [f"{at}: {set(one) ^ set(other)}"] * (set(one) - PASSING != set(other) - PASSING) + [
            text
            for key in set(one) & set(other) - PASSING
            for text in differences(one[key], other[key], f"{at}.{key}", seen)
        ]
    if isinstance(one, list | tuple | np.ndarray):
        pairs = enumerate(zip(one, other, strict=True)) if len(one) == len(other) else [(0, (len(one), len(other)))]
        return [text for place, pair in pairs for text in differences(pair[0], pair[1], f"{at}[{place}]", seen)]
    if (
        hasattr(one, "__dict__")
        and not isinstance(one, type | np.dtype)
        and not callable(getattr(one, "__wrapped__", None))
    ):
        return differences(lasting(one), lasting(other), at, seen)
    return [] if one == other or one != one else [f"{at}: {one!r} and {other!r}"]  # noqa: PLR0124  # NaN


@every_model
def test_a_pickle_restores_all_that_a_model_has(name: str) -> None:
    model = model_of(name)
    found = differences(model, copied(model), name)
    given = ["SignalDetector.fitted_.detector.threshold: "]  # the number that was given is a Contamination in its file
    assert [text for text in found if not text.startswith(tuple(given))] == []


@every_model
def test_a_pickle_is_the_model_file_and_reading_it_looks_up_the_class_alone(name: str, tmp_path: Path) -> None:
    model = model_of(name)
    assert model.__getstate__()[FILE] == model.save(tmp_path / "m.safetensors").read_bytes()

    class Watched(pickle.Unpickler):
        asked: set[str] = set()  # noqa: RUF012

        def find_class(self, module: str, name: str) -> Any:
            self.asked.add(f"{module}.{name}")
            return super().find_class(module, name)

    Watched(io.BytesIO(pickle.dumps(model))).load()
    assert Watched.asked == {f"{type(model).__module__}.{type(model).__name__}"}
    assert pickle.dumps(model) == pickle.dumps(model)


@every_model
def test_every_way_of_pickling_answers_bit_for_bit_alike(name: str, tmp_path: Path) -> None:
    model = model_of(name)
    joblib.dump(model, tmp_path / "m.joblib", compress=3)
    others = [pickle.loads(pickle.dumps(model, protocol)) for protocol in (2, 5)]
    others += [cloudpickle.loads(cloudpickle.dumps(model)), joblib.load(tmp_path / "m.joblib"), copied(copied(model))]
    for other in others:
        assert type(other) is type(model)
        if name in CASES:
            np.testing.assert_array_equal(CASES[name].ask(other), CASES[name].ask(model))
        elif name == "SearchIndex":
            assert differences(other.query(TABLE, 3), model.query(TABLE, 3), name) == []
        else:
            for verb in ("transform", "reconstruct", "score_samples", "score"):
                np.testing.assert_array_equal(getattr(other, verb)(TABLE), getattr(model, verb)(TABLE))
            assert [*other.history_] == [*model.history_]


@every_model
def test_damaged_pickles_are_refused(name: str) -> None:
    model = model_of(name)
    whole, state = pickle.dumps(model), model.__getstate__()
    for end in (10, len(whole) // 2, len(whole) - 1):
        with pytest.raises((pickle.UnpicklingError, EOFError)):
            pickle.loads(whole[:end])
    flipped = bytearray(state[FILE])
    flipped[len(flipped) // 2] ^= 1
    empty: Any = object.__new__(type(model))
    for wrong in (bytes(flipped), state[FILE][:-3], b""):
        for part in (FILE, "run.safetensors"):
            with pytest.raises(ModelFileError, match=f"'the pickle of {type(model).__name__}'"):
                empty.__setstate__({**state, part: wrong})
    for gone in ("run.safetensors", "attributes"):
        with pytest.raises(ModelFileError, match=f"'the pickle of {type(model).__name__}'"):
            empty.__setstate__({key: value for key, value in state.items() if key != gone})
    assert vars(empty) == {}
    foreign = model_of("linear" if name == "autoencoder" else "autoencoder").__getstate__()[FILE]
    if name != "autoencoder":
        with pytest.raises(ModelFileError, match="contains the file of Autoencoder"):
            empty.__setstate__({**state, FILE: foreign})


# -- going on ----------------------------------------------------------------------------------------------------------

LOG = pd.DataFrame({"user": np.arange(80) % 16, "item": np.arange(80) % 11})
GOING_ON: dict[str, tuple[Callable[[], Any], tuple[Any, ...], Callable[[Any], Any]]] = {
    "detector": (
        lambda: isthmus.AnomalyDetector(isthmus.FalseAlarmRate(0.2), max_steps=20, memory_size=16, random_state=0),
        (TABLE,),
        lambda m: [m.score_samples(TABLE), m.threshold_, m.calibration_scores_],
    ),
    "classifier": (
        lambda: isthmus.EncoderClassifier(
            isthmus.Autoencoder(2, network=(6, 4), **QUICK),
            freeze=1,
            corruption="masking",
            max_epochs=2,
            random_state=0,
        ),
        (TABLE, LABELS),
        lambda m: m.predict_proba(TABLE),
    ),
    "recommender": (
        lambda: isthmus.Recommender(code_size=2, network=(4,), **QUICK),
        (LOG,),
        lambda m: m.rank(m.fitted_.log.matrix),
    ),
}


def add_kind(kind: str, optimizer: str) -> None:
    settings: dict[str, Any] = {"code_size": 2, "optimizer": optimizer} | QUICK | KINDS[kind]
    GOING_ON[f"{kind} {optimizer}"] = (
        lambda: isthmus.KINDS[kind](**settings),
        (TABLE,),
        lambda m: m.transform(TABLE),
    )


for each in KINDS:
    add_kind(each, "adam")
add_kind("autoencoder", "adamw")
add_kind("variational", "rmsprop")


@pytest.mark.parametrize("name", GOING_ON)
def test_training_goes_on_from_a_pickle_as_from_the_model(name: str) -> None:
    make, given, ask = GOING_ON[name]
    model = make().fit(*given)
    loaded, deep = copied(model), copy.deepcopy(model)
    for one in (model, loaded, deep):
        one.partial_fit(*given)
    loaded = copied(loaded)
    for one in (model, loaded, deep):
        one.partial_fit(*given)
    for other in (loaded, deep):
        assert differences(ask(model), ask(other), name) == []
        assert differences(model, other, name) == []


def test_a_warm_start_from_a_pickle_is_that_of_the_model() -> None:
    model = isthmus.Autoencoder(2, warm_start=True, pretraining="layer-wise", network=(4,), **QUICK).fit(TABLE)
    loaded = copied(model)
    assert [len(history) for history in loaded.pretraining_history_] == [1, 1]
    np.testing.assert_array_equal(model.fit(TABLE).transform(TABLE), loaded.fit(TABLE).transform(TABLE))


def test_a_detector_goes_on_with_all_the_rows_it_remembers_not_those_of_its_file(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).normal(size=(300, 4))
    model = isthmus.AnomalyDetector(0.1, max_steps=20, memory_size=32, random_state=0).fit(rows)
    assert len(isthmus.load(model.save(tmp_path / "m.safetensors")).fitted_.reservoir) == 32
    assert torch.equal(copied(model).fitted_.reservoir, model.fitted_.reservoir)


# -- what files do not hold --------------------------------------------------------------------------------------------


class Counting(isthmus.Callback):
    """A callback of one's own."""

    epochs = 0

    def on_epoch_end(self, run: Any) -> None:
        self.epochs += 1


def test_parameters_come_back_with_their_types_whatever_they_are() -> None:
    params: dict[str, Any] = {
        "code_size": np.int64(2),
        "learning_rate": np.float32(0.01),
        "callbacks": [Counting()],
        "random_state": np.random.RandomState(3),
        "optimizer": torch.optim.Adagrad,
        "corruption": ["masking", isthmus.GaussianNoise(0.1)],
        "network": isthmus.Dense((np.int64(4),)),
        "device": "cpu",
        "max_epochs": 2,
    }
    model: Any = isthmus.Autoencoder(**params).fit(TABLE)
    model.note = "mine"
    model.set_output(transform="pandas")
    loaded = copied(model)
    assert FILE in model.__getstate__()
    assert loaded.callbacks[0].epochs == 2
    assert loaded.note == "mine"
    assert isinstance(loaded.transform(TABLE), pd.DataFrame)
    draws = [vars(each).pop("random_state").randint(1 << 30) for each in (model, loaded)]
    assert draws[0] == draws[1]
    assert differences(vars(model).keys(), vars(loaded).keys(), "model") == []
    one, other = ({name: vars(each).get(name) for name in each.get_params(deep=False)} for each in (model, loaded))
    assert differences(one, other, "model") == []
    assert "objective_" not in vars(clone(copied(fitted("AnomalyDetector"))))


def test_unfitted_models_are_pickled_by_their_parameters() -> None:
    model = isthmus.AnomalyDetector(0.1, autoencoder=isthmus.Autoencoder(3, network=isthmus.Dense((8,))))
    assert model.__getstate__() == vars(model)
    assert differences(model, copied(model), "model") == []


def test_a_fitted_encoder_that_is_a_parameter_keeps_all_that_it_has() -> None:
    encoder = isthmus.Autoencoder(2, **QUICK).fit(TABLE)
    model: Any = isthmus.EncoderClassifier(encoder, max_epochs=2, random_state=0).fit(TABLE, LABELS)
    loaded = copied(model)
    assert differences(model, loaded, "model") == []
    a, b = (each.encoder.partial_fit(TABLE).transform(TABLE) for each in (model, loaded))
    np.testing.assert_array_equal(a, b)


class Narrow(nn.Module):
    """A module of one's own."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.layer = nn.Linear(n_in, n_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.layer(x))


class Doubled(isthmus.MeanSquaredError):
    """A loss of one's own."""

    def per_feature(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return 2.0 * super().per_feature(output, target)


class Noted(isthmus.Autoencoder):
    """An estimator of one's own, with an attribute of its own."""

    def fit(self, X: Any, *args: Any, **more: Any) -> Noted:
        super().fit(X, *args, **more)
        self.seen_ = len(X)
        return self


def own(name: str) -> Any:
    modules = (Narrow(5, 2), nn.Linear(2, 5))
    models: dict[str, Callable[[], Any]] = {
        "module": lambda: isthmus.Autoencoder(2, network=modules, **QUICK),
        "loss": lambda: isthmus.Autoencoder(2, loss=Doubled(), **QUICK),
        "subclass": lambda: Noted(2, **QUICK),
        "module in a detector": lambda: isthmus.AnomalyDetector(
            0.1, autoencoder=isthmus.Autoencoder(2, network=modules, **QUICK)
        ),
        "module in a classifier": lambda: isthmus.EncoderClassifier(
            isthmus.Autoencoder(2, network=modules, **QUICK), max_epochs=1
        ),
        "subclass in an index": lambda: Noted(2, **QUICK),
    }
    model = models[name]()
    model.fit(TABLE, LABELS) if "classifier" in name else model.fit(TABLE)
    return isthmus.SearchIndex(model).add(TABLE) if "index" in name else model


@pytest.mark.parametrize(
    "name",
    ["module", "loss", "subclass", "module in a detector", "module in a classifier", "subclass in an index"],
)
def test_models_with_code_of_ones_own_are_pickled_as_objects(name: str) -> None:
    model = own(name)
    assert FILE not in model.__getstate__()
    for other in (copied(model), cloudpickle.loads(cloudpickle.dumps(model)), copy.deepcopy(model)):
        verb = next(verb for verb in ("score_samples", "predict_proba", "query") if hasattr(other, verb))
        assert differences(getattr(model, verb)(TABLE), getattr(other, verb)(TABLE), name) == []
        assert getattr(other, "seen_", 40) == 40


def test_weights_that_no_file_holds_are_pickled_as_objects(tmp_path: Path) -> None:
    model = isthmus.Autoencoder(2, **QUICK).fit(TABLE)
    with torch.no_grad():
        next(model.objective_.parameters())[0] = torch.nan
    with pytest.raises(ModelFileError):
        model.save(tmp_path / "m.safetensors")
    assert FILE not in model.__getstate__()
    assert np.isnan(copied(model).transform(TABLE)).any()


def test_pickles_of_the_attributes_as_older_versions_wrote_them_load() -> None:
    model = model_of("autoencoder")
    old = isthmus.Autoencoder.__new__(isthmus.Autoencoder)
    old.__setstate__(dict(vars(model)))
    np.testing.assert_array_equal(old.transform(TABLE), model.transform(TABLE))


def test_copies_share_or_copy_attributes_and_involve_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("denoising")
    monkeypatch.setattr(type(model), "_to_state", None)
    shallow, deep = copy.copy(model), copy.deepcopy([model, model])
    assert shallow.objective_ is model.objective_
    assert vars(shallow).keys() == vars(model).keys()
    assert deep[0] is deep[1]
    assert deep[0].objective_ is not model.objective_
    assert differences(model, deep[0], "model") == []
    shallow.code_size = 9
    assert model.code_size == 2


def test_a_device_that_is_not_there_is_replaced_and_stays_the_parameter() -> None:
    model = copy.copy(model_of("autoencoder"))
    model.device = "cuda:77"
    loaded = copied(model)
    assert (loaded.device, loaded.device_) == ("cuda:77", model.device_)


# -- in other hands ----------------------------------------------------------------------------------------------------


def test_grid_search_in_two_processes_takes_own_modules_and_pipelines() -> None:
    model = make_pipeline(StandardScaler(), isthmus.Autoencoder(2, **QUICK))
    grid = {"autoencoder__network": [(Narrow(5, 2), nn.Linear(2, 5)), (4,)]}
    scores = [GridSearchCV(model, grid, cv=2, n_jobs=n).fit(TABLE).cv_results_["mean_test_score"] for n in (1, 2)]
    np.testing.assert_array_equal(*scores)
    models = [model_of("variational"), own("module"), fitted("Imputer")]
    others = joblib.Parallel(n_jobs=2)(joblib.delayed(answered)(each) for each in models)  # by the same two workers
    for one, (other, codes) in zip(models, others, strict=True):
        np.testing.assert_array_equal(codes, one.transform(TABLE))
        np.testing.assert_array_equal(codes, other.transform(TABLE))


def answered(model: Any) -> tuple[Any, np.ndarray]:
    return model, model.transform(TABLE)


def test_equal_models_have_equal_hashes() -> None:
    model = model_of("autoencoder")
    assert joblib.hash(model) == joblib.hash(copied(model)) == joblib.hash(copy.deepcopy(model))
    assert joblib.hash(model) != joblib.hash(model_of("denoising"))


@every_model
def test_skops_needs_one_trusted_type(name: str) -> None:
    skops = pytest.importorskip("skops.io")
    model = model_of(name)
    blob = skops.dumps(model)
    trusted = f"{type(model).__module__}.{type(model).__name__}"
    assert skops.get_untrusted_types(data=blob) == [trusted]
    assert differences(model, skops.loads(blob, trusted=[trusted]), name)[1:] == []
