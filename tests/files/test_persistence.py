"""What a model is after it was saved and loaded: the fitted one, with the parameters that were set."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from torch import Tensor

from isthmus import (
    AnomalyDetector,
    Autoencoder,
    DenoisingAutoencoder,
    EncoderClassifier,
    Imputer,
    Masking,
    SignalDetector,
    load,
)
from isthmus.choices import CORRUPTIONS, PENALTIES, Corruption, Penalty
from isthmus.choices.registry import Context
from isthmus.estimators import persistence
from isthmus.estimators.autoencoder_state import AutoencoderValues, SamplerValues, Settled, declared
from isthmus.exceptions import ModelFileError
from isthmus.files import read_state
from isthmus.tasks.anomaly import persistence as anomaly
from isthmus.tasks.anomaly.signals import SignalValues
from isthmus.tasks.generation.table_sampler import DECLARED as TABLE_SAMPLER
from isthmus.tasks.generation.table_sampler import TableSamplerValues
from isthmus.tasks.imputation.imputer import ImputerValues
from isthmus.tasks.recommendation import persistence as recommendation
from isthmus.tasks.restoration import persistence as restoration
from isthmus.tasks.search import DECLARED as SEARCH
from isthmus.tasks.search import SearchIndexValues
from isthmus.tasks.transfer.classifier import DECLARED as TRANSFER
from isthmus.tasks.transfer.classifier import ClassifierValues
from isthmus.tasks.transfer.regressor import DECLARED as REGRESSOR
from isthmus.tasks.transfer.regressor import RegressorValues
from isthmus.training.checkpoint import DECLARED as CHECKPOINT
from isthmus.training.checkpoint import RunValues

X = np.random.default_rng(0).normal(size=(80, 6))
HOLES = np.where(np.random.default_rng(1).random(X.shape) < 0.1, np.nan, X)
Y = np.where(X[:, 0] > 0, "high", "low")


def autoencoder(**changes: Any) -> Autoencoder:
    usual: dict[str, Any] = {"network": (5,), "max_epochs": 2, "batch_size": 16, "learning_rate": 0.01}
    return Autoencoder(2, **{**usual, "random_state": 0, **changes})


def detector(**changes: Any) -> AnomalyDetector:
    usual: dict[str, Any] = {"n_members": 2, "hidden_size": 6, "max_steps": 10, "random_state": 0}
    return AnomalyDetector(0.1, **{**usual, **changes})


def imputer(**changes: Any) -> Imputer:
    usual: dict[str, Any] = {"n_members": 2, "hidden_sizes": (5,), "code_size": 2, "max_epochs": 1, "random_state": 0}
    return Imputer(**{**usual, **changes})


# -- parameters set after fit ------------------------------------------------------------------------------------------

SET: list[tuple[Callable[[], Any], str, dict[str, Any]]] = [
    (lambda: autoencoder().fit(X), "transform", {"code": "relu"}),
    (lambda: autoencoder().fit(X), "reconstruct", {"network": (3,), "code_size": 4}),
    (lambda: autoencoder().fit(X), "score_samples", {"loss": "huber"}),
    (lambda: autoencoder().fit(X), "reconstruct", {"scaling": "minmax", "penalty": "l1", "corruption": "masking"}),
    (
        lambda: autoencoder(penalty="l1", corruption="masking").fit(X),
        "transform",
        {"penalty": None, "corruption": None},
    ),
    (lambda: autoencoder(network="dense").fit(X), "transform", {"network__hidden_sizes": (4, 3)}),
    (lambda: detector().fit(X), "score_samples", {"n_neighbors": 20}),
    (lambda: detector().fit(X), "contributions", {"hidden_size": 3, "n_members": 5, "parts": ("density",)}),
    (lambda: detector().fit(X), "score_samples", {"loss": "huber", "scaling": "minmax"}),
    (lambda: imputer().fit(HOLES), "transform", {"hidden_sizes": (4, 4)}),
    (lambda: imputer().fit(HOLES), "transform", {"code_size": 7, "n_members": 1}),
]


@pytest.mark.parametrize(("fit", "verb", "params"), SET)
def test_a_loaded_model_answers_like_the_one_in_memory(
    fit: Callable[[], Any], verb: str, params: dict[str, Any], tmp_path: Path
) -> None:
    model = fit()
    rows = HOLES if isinstance(model, Imputer) else X
    before = getattr(model, verb)(rows)
    model.set_params(**params)
    in_memory = getattr(model, verb)(rows)
    loaded = load(model.save(tmp_path / "m.safetensors"))
    np.testing.assert_array_equal(getattr(loaded, verb)(rows), in_memory)
    np.testing.assert_array_equal(in_memory, before)
    for name, value in params.items():
        assert str(loaded.get_params()[name]) == str(value), name


def test_a_loaded_model_is_saved_as_it_was_loaded(tmp_path: Path) -> None:
    models: list[Any] = [autoencoder().fit(X), detector().fit(X), imputer().fit(HOLES)]
    for number, model in enumerate(models):
        first = model.save(tmp_path / f"{number}.safetensors")
        second = load(first).save(tmp_path / f"{number}-again.safetensors")
        again = load(second).save(tmp_path / f"{number}-third.safetensors")
        one, other = read_state(second), read_state(again)
        assert one.values == other.values
        assert {name: array.tobytes() for name, array in one.arrays.items()} == {
            name: array.tobytes() for name, array in other.arrays.items()
        }


# -- estimators that are parameters ------------------------------------------------------------------------------------


def test_a_classifier_keeps_the_encoder_that_it_was_given(tmp_path: Path) -> None:
    model = EncoderClassifier(autoencoder(code="tanh"), max_epochs=2, random_state=0).fit(X, Y)
    loaded = load(model.save(tmp_path / "m.safetensors"))
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert loaded.encoder.get_params() == autoencoder(code="tanh").get_params()
    again, original = clone(loaded).fit(X, Y), clone(model).fit(X, Y)
    np.testing.assert_array_equal(again.predict_proba(X), original.predict_proba(X))


def test_a_classifier_keeps_an_encoder_that_was_fitted_before(tmp_path: Path) -> None:
    encoder = autoencoder().fit(X)
    model = EncoderClassifier(encoder, max_epochs=2, random_state=0).fit(X, Y)
    path = model.save(tmp_path / "m.safetensors")
    loaded = load(path)
    np.testing.assert_array_equal(loaded.encoder.transform(X), encoder.transform(X))
    np.testing.assert_array_equal(loaded.fit(X, Y).predict_proba(X), model.predict_proba(X))
    other = autoencoder(random_state=5).fit(X)
    loaded = load(model.set_params(encoder=other).save(path))
    np.testing.assert_array_equal(loaded.encoder.transform(X), other.transform(X))
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))


def test_a_classifier_without_an_encoder_and_of_a_frame(tmp_path: Path) -> None:
    frame = pd.DataFrame(X, columns=list("abcdef"))
    model = EncoderClassifier(autoencoder(), max_epochs=1, random_state=0).fit(frame, Y)
    loaded = load(model.save(tmp_path / "m.safetensors"))
    assert loaded.feature_names_in_.tolist() == list("abcdef")
    assert load(model.set_params(encoder=None).save(tmp_path / "m.safetensors")).encoder is None


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "bool", "float32", "str", "object"])
def test_labels_keep_their_dtype(dtype: str, tmp_path: Path) -> None:
    labels = (Y == "high").astype(int) if dtype not in ("str", "object") else Y
    model = EncoderClassifier(autoencoder(), max_epochs=1, random_state=0).fit(X, labels.astype(dtype))
    predicted, loaded = model.predict(X), load(model.save(tmp_path / "m.safetensors")).predict(X)
    assert loaded.dtype == predicted.dtype
    np.testing.assert_array_equal(loaded, predicted)


def test_a_detector_keeps_the_autoencoder_that_it_was_given(tmp_path: Path) -> None:
    model = detector(autoencoder=autoencoder()).fit(X)
    loaded = load(model.save(tmp_path / "m.safetensors"))
    np.testing.assert_array_equal(loaded.score_samples(X), model.score_samples(X))
    assert not hasattr(loaded.autoencoder, "objective_")
    np.testing.assert_array_equal(clone(loaded).fit(X).score_samples(X), model.score_samples(X))
    fitted = detector(autoencoder=autoencoder().fit(X)).fit(X)
    loaded = load(fitted.save(tmp_path / "m.safetensors"))
    np.testing.assert_array_equal(loaded.autoencoder.transform(X), fitted.autoencoder.transform(X))


def test_a_signal_detector_keeps_its_detector(tmp_path: Path) -> None:
    signal = np.sin(np.arange(200) / 5.0)
    model = SignalDetector(16, detector=detector()).fit(signal)
    loaded = load(model.save(tmp_path / "m.safetensors"))
    np.testing.assert_array_equal(loaded.scores(signal), model.scores(signal))
    np.testing.assert_array_equal(clone(loaded).fit(signal).scores(signal), model.scores(signal))
    assert load(SignalDetector(16).fit(signal).save(tmp_path / "m.safetensors")).detector is None


def test_estimators_with_modules_of_ones_own_load_when_these_are_given(tmp_path: Path) -> None:
    network = (torch.nn.Linear(6, 2), torch.nn.Linear(2, 6))
    path = tmp_path / "m.safetensors"
    own = autoencoder(network=network)
    odd = detector(autoencoder=own).fit(X)
    for fitted, verb in (
        (odd, "score_samples"),
        (EncoderClassifier(own, max_epochs=1, random_state=0).fit(X, Y), "predict_proba"),
        (EncoderClassifier(autoencoder(network=network).fit(X), max_epochs=1).fit(X, Y), "predict_proba"),
    ):
        fitted.save(path)
        with pytest.raises(ModelFileError, match=r"pass them again: isthmus\.load\(path, network="):
            load(path)
        loaded = load(path, network=network)
        np.testing.assert_array_equal(getattr(loaded, verb)(X), getattr(fitted, verb)(X))
    signals = SignalDetector(3, step=3, detector=detector(autoencoder=own)).fit(X[:, :2])
    loaded = load(signals.save(path), network=network)
    np.testing.assert_array_equal(loaded.scores(X[:, :2]), signals.scores(X[:, :2]))


def test_kinds_of_columns_with_awkward_names_come_back(tmp_path: Path) -> None:
    table = pd.DataFrame({"class": [1, 2, 3] * 20, "params": np.arange(60.0), "tuple": [1.5, 2.5, np.nan] * 20})
    kinds = {"class": "categorical", "params": "numeric", "tuple": [1.5, 2.5]}
    model = imputer(kinds=kinds).fit(table)
    loaded = load(model.save(tmp_path / "m.safetensors"))
    assert loaded.kinds == kinds
    pd.testing.assert_frame_equal(loaded.transform(table), model.transform(table))


# -- members of one's own ----------------------------------------------------------------------------------------------


@pytest.fixture
def registries() -> Iterator[None]:
    """Members that a test registers are gone after it."""
    kept = [(registry, dict(registry.members)) for registry in (CORRUPTIONS, PENALTIES)]
    yield
    for registry, members in kept:
        registry.members.clear()
        registry.members.update(members)


@pytest.mark.usefixtures("registries")
def test_members_of_one_class_name_in_two_choices_stay_apart(tmp_path: Path) -> None:
    path = (
        DenoisingAutoencoder(2, corruption=Masking(0.4), max_epochs=1, random_state=0)
        .fit(X)
        .save(tmp_path / "m.safetensors")
    )
    old = Path(__file__).parent / "golden" / "0.1.0" / "denoising.safetensors"

    @PENALTIES.register("masking")
    @dataclass(eq=False, repr=False)
    class Masking_(Penalty):  # noqa: N801  # renamed below to clash
        fraction: float = 0.3

        def penalize(self, encoding: Any) -> Tensor:
            return encoding.z.sum() * 0  # type: ignore[no-any-return]

    Masking_.__name__ = "Masking"
    assert type(load(path).corruption) is Masking
    assert load(path).corruption.fraction == 0.4
    assert type(load(old).corruption[0]) is Masking
    mine = autoencoder(penalty=Masking_(0.7)).fit(X)
    loaded = load(mine.save(path))
    assert type(loaded.penalty) is Masking_
    assert (loaded.penalty.fraction, loaded.corruption) == (0.7, None)


@pytest.mark.usefixtures("registries")
def test_an_own_member_is_never_taken_for_one_of_the_library(tmp_path: Path) -> None:
    @CORRUPTIONS.register("my-masking")
    @dataclass(eq=False, repr=False)
    class Mine(Corruption):
        fraction: float = 0.3

        def corrupt(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
            return x / 2

    Mine.__name__ = "Masking"
    path = autoencoder(corruption=Mine(0.9)).fit(X).save(tmp_path / "m.safetensors")
    assert type(load(path).corruption) is Mine
    del CORRUPTIONS.members["my-masking"]
    with pytest.raises(ModelFileError, match=r"Unknown corruption in the model file 'Masking'\. If it is your own"):
        load(path)


OWN = """
    from dataclasses import dataclass
    from isthmus.choices import CORRUPTIONS, Corruption

    @CORRUPTIONS.register("half")
    @dataclass(eq=False, repr=False)
    class Half(Corruption):
        share: float = 0.5

        def corrupt(self, x, generator):
            return x * self.share
"""


def test_an_own_member_loads_in_another_process_once_its_module_is_imported(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(textwrap.dedent(OWN))

    def run(code: str) -> str:
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout

    run(
        "import mine, numpy as np, isthmus\n"
        "X = np.random.default_rng(0).random((50, 6))\n"
        "isthmus.DenoisingAutoencoder(2, corruption=mine.Half(0.25), max_epochs=1, random_state=0).fit(X).save('m.st')"
    )
    refused = "import isthmus\ntry: isthmus.load('m.st')\nexcept isthmus.ModelFileError as error: print(error)"
    said = run(refused)
    assert "Unknown corruption in the model file 'Half'" in said
    assert "import the module 'mine', which registers it with @register, before isthmus.load(path)" in said
    assert "did you mean" not in said
    assert run("import mine, isthmus; print(isthmus.load('m.st').corruption)").strip() == "Half(share=0.25)"


# -- what is declared --------------------------------------------------------------------------------------------------


def test_everything_known_of_the_data_is_declared() -> None:
    known = {field.name for field in fields(Context)} - {"ranges"}
    assert known == set(persistence.ContextValues.__struct_fields__)


def test_the_page_on_the_model_file_names_every_declared_field_and_array() -> None:
    page = (Path(__file__).parents[2] / "docs" / "model-file.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([^`]+)`", page))
    records = (
        AutoencoderValues,
        Settled,
        persistence.ContextValues,
        anomaly.DetectorValues,
        SignalValues,
        ImputerValues,
        ClassifierValues,
        recommendation.RecommenderValues,
        restoration.RestorerValues,
        RunValues,
        SamplerValues,
        RegressorValues,
        TableSamplerValues,
        SearchIndexValues,
    )
    fields_ = {name for record in records for name in record.__struct_fields__}
    arrays = {
        *declared(Autoencoder),
        *anomaly.DECLARED,
        *TRANSFER,
        *recommendation.DECLARED,
        *restoration.DECLARED,
        *CHECKPOINT,
    }
    arrays |= {*REGRESSOR, *TABLE_SAMPLER, *SEARCH}
    prefixes = {name.partition(".")[0] for name in named}
    assert not fields_ - named - {"batch_size", "learning_rate"}
    assert not {name.partition(".")[0] for name in arrays} - prefixes


def test_a_wrong_device_or_network_is_no_fault_of_the_file(tmp_path: Path) -> None:
    path = autoencoder().fit(X).save(tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="device") as error:
        load(path, device="gpu")
    assert not isinstance(error.value, ModelFileError)
    with pytest.raises(TypeError, match="network"):
        load(path, network=5)
