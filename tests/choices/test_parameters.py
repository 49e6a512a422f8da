"""Names that people bring: spellings, other libraries' parameters and verbs, and names that reach into a choice."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from isthmus import (
    AnomalyDetector,
    Autoencoder,
    BinaryCrossEntropy,
    Dense,
    EncoderClassifier,
    Gaussian,
    Imputer,
    KLSparsity,
    MeanAbsoluteError,
    MeanSquaredError,
    Multinomial,
    Observed,
    Plain,
    Recommender,
    SignalDetector,
    VariationalAutoencoder,
)
from isthmus.choices import CODES, LOSSES, PENALTIES

X = np.random.default_rng(0).random((40, 6))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mse", MeanSquaredError),
        ("MSE", MeanSquaredError),
        ("mean_squared_error", MeanSquaredError),
        ("mae", MeanAbsoluteError),
        ("bce", BinaryCrossEntropy),
        ("binary_crossentropy", BinaryCrossEntropy),
    ],
)
def test_a_loss_may_be_spelled_as_elsewhere(name: str, kind: type) -> None:
    assert type(LOSSES.resolve(name)) is kind


def test_two_spellings_are_one_model() -> None:
    models = [Autoencoder(2, loss=loss, max_epochs=2, random_state=0).fit(X) for loss in ("mse", "mean-squared-error")]
    assert np.array_equal(*(model.transform(X) for model in models))


def test_penalties_and_codes_may_be_spelled_as_elsewhere() -> None:
    assert isinstance(PENALTIES.resolve("kl"), KLSparsity)
    for name in ("ReLU", "relu", "RELU"):
        assert CODES.resolve(name).get_params() == Plain("relu").get_params()
    assert CODES.resolve("LeakyReLU").get_params() == {"activation": "leaky-relu"}
    assert hasattr(VariationalAutoencoder(code="Gaussian"), "posterior")
    assert not hasattr(Autoencoder(), "posterior")
    assert np.isfinite(Autoencoder(2, loss="Observed", max_epochs=1).fit(np.where(X > 0.9, np.nan, X)).score(X))


def test_an_activation_in_another_spelling_gets_the_right_one_as_a_hint() -> None:
    with pytest.raises(ValueError, match=r"Dense: activation='ReLU' must be .*; did you mean 'relu'\?"):
        Autoencoder(2, network=Dense((4,), activation="ReLU")).fit(X)


def test_one_size_is_no_network_but_the_remedy_is_named() -> None:
    with pytest.raises(ValueError, match=re.escape("for one hidden layer of that size write network=(128,)")):
        Autoencoder(2, network=128).fit(X)


@pytest.mark.parametrize(
    ("kind", "name", "hint"),
    [
        (Autoencoder, "epochs", "max_epochs"),
        (Autoencoder, "latent_dim", "code_size"),
        (Autoencoder, "encoding_dim", "code_size"),
        (VariationalAutoencoder, "latent_dim", "code_size"),
        (Autoencoder, "hidden_layer_sizes", "network=(128, 64)"),
        (Autoencoder, "lr", "learning_rate"),
        (AnomalyDetector, "contamination", "threshold"),
        (EncoderClassifier, "epochs", "max_epochs"),
        (Recommender, "n_factors", "code_size"),
        (Imputer, "epochs", "max_epochs"),
    ],
)
def test_parameters_of_other_libraries_are_named_as_they_are_here(kind: type, name: str, hint: str) -> None:
    text = f"{kind.__name__}() got an unexpected keyword argument '{name}' (use {hint}). Known: "
    with pytest.raises(TypeError, match=re.escape(text)):
        kind(**{name: 2})
    with pytest.raises(ValueError, match=re.escape(f"'{name}'; use {hint}. Known: ")):
        kind().set_params(**{name: 2})


def test_all_wrong_keywords_are_named_at_once() -> None:
    with pytest.raises(TypeError, match=r"keyword arguments 'epochs' \(use max_epochs\), 'swoosh'\. Known"):
        Autoencoder(epochs=3, swoosh=1)  # type: ignore[call-arg]


def test_the_hint_leaves_constructor_copies_and_pickles_as_they_are() -> None:
    assert "code_size" in inspect.signature(Autoencoder).parameters
    model = Autoencoder(3, network=Dense((4,)))
    for other in (copy.deepcopy(model), clone(model), pickle.loads(pickle.dumps(model))):
        assert repr(other) == repr(model)


@pytest.mark.parametrize(
    ("estimator", "name", "right"),
    [
        (Autoencoder(), "encode", "transform"),
        (Autoencoder(), "decode", "inverse_transform"),
        (Autoencoder(), "predict", "reconstruct"),
        (Autoencoder(), "evaluate", "score"),
        (Imputer(), "predict", "transform"),
    ],
)
def test_verbs_of_other_libraries_are_named_as_they_are_here(estimator: Any, name: str, right: str) -> None:
    assert not hasattr(estimator, name)
    with pytest.raises(AttributeError, match=f"{type(estimator).__name__} has no '{name}'; use '{right}'"):
        getattr(estimator, name)


@pytest.mark.parametrize(
    ("estimator", "name", "value"),
    [
        (Autoencoder(corruption="masking"), "corruption__fraction", 0.3),
        (AnomalyDetector(), "corruption__fraction", 0.3),
        (AnomalyDetector(), "schedule__warm_up", 0.3),
        (AnomalyDetector("auto"), "threshold__rate", 0.3),
        (EncoderClassifier(), "optimizer__weight_decay", 0.3),
        (EncoderClassifier(corruption="masking"), "corruption__fraction", 0.3),
        (EncoderClassifier(Autoencoder(corruption="masking")), "encoder__corruption__fraction", 0.3),
        (SignalDetector(detector=AnomalyDetector()), "detector__corruption__fraction", 0.3),
        (Recommender(), "code__beta", 0.3),
        (Recommender(), "corruption__fraction", 0.3),
        (Observed("huber"), "loss__delta", 0.3),
    ],
)
def test_nested_names_reach_into_a_choice_given_by_name(estimator: Any, name: str, value: float) -> None:
    held = estimator.set_params(**{name: value})
    for part in name.split("__"):
        held = getattr(held, part)
    assert held == value


def test_auto_becomes_what_it_stands_for() -> None:
    model = Recommender().set_params(code__beta=0.3)
    assert isinstance(model.code, Gaussian)
    assert model.code.warm_up == 0.5
    assert isinstance(Recommender().set_params(loss="auto")._member_to_set("loss", "auto"), Multinomial)


@pytest.mark.parametrize(
    ("estimator", "name", "text"),
    [
        (Autoencoder(), "corruption__fraction", "corruption=None has no parameters to set; choose a member first"),
        (Autoencoder(), "loss__delta", "loss='auto' has no parameters to set; choose a member first"),
        (Autoencoder(), "code_size__x", "code_size=32 has no parameters to set."),
        (AnomalyDetector(), "corruption__share", "Unknown parameter of Masking 'share'"),
    ],
)
def test_nested_names_that_lead_nowhere_are_refused(estimator: Any, name: str, text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        estimator.set_params(**{name: 0.3})


@pytest.mark.parametrize(
    ("estimator", "named", "advice"),
    [
        (
            Autoencoder(2),
            {"epochs": 3},
            r"'epochs'; pass it to the constructor: Autoencoder\(max_epochs=…\)\. fit takes X, y,",
        ),
        (Autoencoder(2), {"batch_size": 3}, r"pass it to the constructor: Autoencoder\(batch_size=…\)"),
        (Autoencoder(2), {"activation": "relu"}, r"Autoencoder\(network=Dense\(activation='relu'\)\)"),
        (Autoencoder(2), {"validation_data": None}, r"'validation_data'; use X_val\. fit takes"),
        (Autoencoder(2), {"swoosh": 1}, r"'swoosh'\. fit takes X, y, sample_weight, target, X_val"),
        (AnomalyDetector(), {"lr": 0.1}, r"AnomalyDetector\.fit\(\) .* AnomalyDetector\(learning_rate=…\)"),
        (Imputer(), {"validation_data": None}, r"'validation_data'\. fit takes X"),  # it has no X_val to suggest
    ],
)
def test_unknown_keywords_of_fit_are_explained(estimator: Any, named: dict[str, Any], advice: str) -> None:
    with pytest.raises(TypeError, match=advice):
        estimator.fit(np.zeros((20, 3)), **named)
    assert not [name for name in vars(estimator) if name.endswith("_")]  # nothing was learned


def test_fit_keeps_its_signature() -> None:
    assert list(inspect.signature(VariationalAutoencoder.fit).parameters)[:3] == ["self", "X", "y"]
    assert list(inspect.signature(Autoencoder(2).fit).parameters)[:2] == ["X", "y"]
