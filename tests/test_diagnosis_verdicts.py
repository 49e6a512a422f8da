"""Each verdict on a model with exactly that fault, made on purpose; and healthy models, which are cleared."""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_sample_image

import isthmus
from isthmus import (
    L1,
    Autoencoder,
    DenoisingAutoencoder,
    Dense,
    Gaussian,
    Masking,
    MaxSteps,
    MeanSquaredError,
    SparseAutoencoder,
    VariationalAutoencoder,
    diagnose,
)
from isthmus.cli import main
from isthmus.exceptions import FitWarning

DIGITS = load_digits().data / 16.0
LEARN, TEST = DIGITS[:1500], DIGITS[1500:]


def fitted(kind: Callable[..., Autoencoder] = Autoencoder, size: int = 16, **settings: Any) -> Autoencoder:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        warnings.simplefilter("ignore", isthmus.DivergenceWarning)
        return kind(size, **({"max_epochs": 30, "random_state": 0} | settings)).fit(LEARN)


@functools.cache
def healthy() -> Autoencoder:
    return fitted()


@pytest.mark.parametrize("X_train", [None, LEARN], ids=["alone", "with training rows"])
def test_a_healthy_model_is_cleared(X_train: Any) -> None:
    assert diagnose(healthy(), TEST, X_train=X_train).faults == ()


@pytest.mark.parametrize(
    ("kind", "size", "settings"),
    [
        (DenoisingAutoencoder, 16, {"max_epochs": 40}),
        (VariationalAutoencoder, 4, {"max_epochs": 40}),
        (Autoencoder, 100, {"corruption": Masking(0.5), "max_epochs": 40}),
        (Autoencoder, 24, {"code": "top-k", "max_epochs": 40}),
    ],
)
def test_healthy_models_of_other_kinds_are_cleared(kind: Any, size: int, settings: dict[str, Any]) -> None:
    assert diagnose(fitted(kind, size, **settings), TEST, X_train=LEARN).faults == ()


def test_dead_units_are_named() -> None:
    model = fitted(max_epochs=3)
    layer = [part for part in model.objective_.encoder.modules() if isinstance(part, torch.nn.Linear)][-1]
    layer.weight.data[[3, 7]] = 0.0
    finding = diagnose(model, TEST)["dead-units"]
    assert finding.found
    assert "2 of 16 code units have the same value for every row: 3, 7." in finding.text
    assert "code='plain'" in finding.remedy


def test_a_collapsed_posterior_is_named() -> None:
    model = fitted(VariationalAutoencoder, 8, code=Gaussian(beta=100.0))
    finding = diagnose(model, TEST)["collapsed-posterior"]
    assert finding.found
    assert "8 of 8 code units carry less than 0.01 nats" in finding.text


def test_codes_on_a_line_are_named() -> None:
    line = np.linspace(0, 1, 400)[:, None] * np.ones(20) + 0.001 * np.random.default_rng(0).random((400, 20))
    model = Autoencoder(16, network=(), max_epochs=30, random_state=0).fit(line)
    finding = diagnose(model, line)["unused-directions"]
    assert finding.found
    assert finding.value < 1.6


def test_copying_is_named_and_regularised_overcomplete_codes_are_cleared() -> None:
    copier = fitted(size=128, network=(), max_epochs=40)
    assert "copying" in diagnose(copier, TEST).faults
    for settings in ({"corruption": Masking(0.5)}, {"code": "relu", "penalty": L1(1e-3)}):
        kept = fitted(size=128, max_epochs=40, **settings)
        assert "copying" not in diagnose(kept, TEST).faults


def test_over_fitting_is_named_with_and_without_the_training_rows() -> None:
    settings: dict[str, Any] = {"scaling": "none", "max_epochs": 200, "random_state": 0}
    model = Autoencoder(32, network=(512, 256), **settings).fit(LEARN[:60], X_val=TEST)
    assert "over-fitting" in diagnose(model, TEST, X_train=LEARN[:60]).faults
    assert "over-fitting" in diagnose(model, TEST).faults


def test_worse_than_pca_is_named() -> None:
    model = fitted(network=Dense((4,)), max_epochs=20)
    finding = diagnose(model, TEST, X_train=LEARN)["worse-than-pca"]
    assert finding.found
    pca = isthmus.diagnosis.pca_error(LEARN, 16, TEST)
    assert finding.value == pytest.approx(model.reconstruction_error(TEST).mean() / pca, rel=0.01)


@pytest.mark.parametrize("rate", [0.3, 1.0, 30.0])
def test_a_learning_rate_too_high_is_named(rate: float) -> None:
    finding = diagnose(fitted(learning_rate=rate), TEST)["learning-rate-too-high"]
    assert finding.found
    assert f"which was {rate:g}" in finding.remedy


def test_stopping_too_early_is_named() -> None:
    assert "stopped-too-early" in diagnose(fitted(max_epochs=2), TEST).faults
    stopped = fitted(callbacks=(MaxSteps(500),))
    assert "stopped-too-early" in diagnose(stopped, TEST).faults


def test_a_saturated_output_is_named() -> None:
    model = fitted(loss=MeanSquaredError(activation="sigmoid"), scaling="standard")
    assert "saturated-output" in diagnose(model, TEST).faults


def landscapes() -> np.ndarray:
    """8×8 pieces of a photograph, grey, in [0, 1]."""
    grey = load_sample_image("china.jpg").mean(axis=2) / 255.0
    pieces = grey[: 8 * (grey.shape[0] // 8), : 8 * (grey.shape[1] // 8)]
    tall, wide = pieces.shape[0] // 8, pieces.shape[1] // 8
    rows: np.ndarray = pieces.reshape(tall, 8, wide, 8).swapaxes(1, 2).reshape(-1, 64)[:600]
    return rows


@pytest.mark.parametrize("name", ["landscapes", "noise", "inverted", "blank"])
def test_data_of_another_kind_are_told_as_a_whole_and_row_by_row(name: str) -> None:
    others = {
        "landscapes": landscapes(),
        "noise": np.random.default_rng(0).random((300, 64)),
        "inverted": 1 - TEST,
        "blank": np.full((300, 64), 0.5),
    }
    found = diagnose(healthy(), others[name])
    assert "unlike-training-data" in found.faults
    assert len(found.unlike_rows) > 0.3 * min(2000, len(others[name]))
    mixed = np.vstack([TEST[:200], others[name][:20]])
    rows = np.asarray(diagnose(healthy(), mixed).unlike_rows)
    assert (rows >= 200).mean() > 0.7


def test_a_model_that_learned_nothing_is_named() -> None:
    noise = np.random.default_rng(0).random((400, 60))
    model = Autoencoder(1, max_epochs=5, random_state=0).fit(noise)
    assert "nothing-learned" in diagnose(model, noise).faults


def test_answers_come_as_words_and_as_data(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = diagnose(healthy(), TEST)
    assert str(found).startswith(f"0 of {len(found.findings)} checks found a fault.\nok     nothing-learned:")
    assert json.loads(json.dumps(found.to_dict()))["faults"] == []
    with pytest.raises(KeyError, match="was not checked"):
        found["rust"]
    with pytest.raises(ValueError, match="needs at least 20"):
        diagnose(healthy(), TEST[:5])
    healthy().save(tmp_path / "m.safetensors")
    np.save(tmp_path / "x.npy", TEST)
    with pytest.raises(SystemExit) as ended:
        main(["diagnose", str(tmp_path / "m.safetensors"), str(tmp_path / "x.npy"), "--json"])
    assert not ended.value.code
    assert json.loads(capsys.readouterr().out) == found.to_dict()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"code": Gaussian(beta=1000.0)}, "The posterior has collapsed"),
        ({"learning_rate": 3.0}, "code units are dead|no better than their mean"),
    ],
)
def test_fit_warns_of_useless_models_once(settings: dict[str, Any], message: str) -> None:
    with pytest.warns(FitWarning, match=message) as caught:
        Autoencoder(8, max_epochs=10, random_state=0, **settings).fit(LEARN)
    assert len(caught) == 1


@pytest.mark.parametrize("kind", [Autoencoder, DenoisingAutoencoder, SparseAutoencoder, VariationalAutoencoder])
def test_fit_is_silent_on_healthy_models(kind: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kind(8, max_epochs=10, random_state=0).fit(LEARN)


def along_one_direction(model: Autoencoder, noise: float) -> Autoencoder:
    """The same model with its second code unit near a multiple of its first."""
    with torch.no_grad():
        *_, layer = model.objective_.encoder.children()
        assert isinstance(layer, torch.nn.Linear)
        layer.weight[1] = -2.0 * layer.weight[0] + noise * layer.weight[1]
    return model


@pytest.mark.parametrize(("noise", "fault"), [(0.0, True), (0.05, True), (1.0, False)])
def test_a_code_of_two_numbers_that_is_a_line_is_a_fault(noise: float, fault: bool, digits: np.ndarray) -> None:
    model = along_one_direction(Autoencoder(2, network=(), max_epochs=20, random_state=0).fit(digits), noise)
    finding, Z = diagnose(model, digits)["collapsed-code"], model.transform(digits)
    correlation = float(np.corrcoef(Z.T)[0, 1])
    assert finding.found is fault
    assert finding.value == pytest.approx(np.sqrt((1 - abs(correlation)) / (1 + abs(correlation))), abs=1e-3)
    assert f"strongest correlation is {correlation:+.3f}, of units 0 and 1" in finding.text
    assert ("code_size=1" in finding.remedy) is fault


def test_a_code_on_a_line_is_only_noted_where_the_data_are_a_line() -> None:
    line = np.linspace(-1, 1, 200)[:, None] * [1.0, 2.0, -3.0] + 5.0
    model = Autoencoder(2, network=(), max_epochs=60, random_state=0).fit(line)
    finding = diagnose(model, line)["collapsed-code"]
    assert (finding.found, finding.verdict) == (False, "note")


def test_a_large_code_with_one_repeated_unit_is_no_line(digits: np.ndarray) -> None:
    model = along_one_direction(Autoencoder(8, network=(), max_epochs=20, random_state=0).fit(digits), 0.0)
    finding = diagnose(model, digits)["collapsed-code"]
    assert (finding.found, finding.verdict) == (False, "ok")
    assert "strongest correlation is -1.000, of units 0 and 1" in finding.text
