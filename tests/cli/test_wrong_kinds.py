"""Models of another kind than a command takes, words of other tools, and JSON that every reader takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

import isthmus
from isthmus import (
    AnomalyDetector,
    Autoencoder,
    EncoderClassifier,
    Imputer,
    Recommender,
    Restorer,
    SignalDetector,
    UNet,
)
from isthmus.cli import main
from isthmus.cli.show import to_json

X = np.random.default_rng(0).normal(size=(60, 4))
SMALL = Autoencoder(2, network=(4,), max_epochs=1, random_state=0).fit(X)
FEW = AnomalyDetector(0.1, max_steps=5, n_members=2, random_state=0)
LOG = pd.DataFrame({"user": np.repeat(range(20), 3), "item": np.tile([1, 2, 3, 2, 3, 4], 10)})
OTHERS: dict[str, Any] = {
    "AnomalyDetector": FEW.fit(X),
    "SignalDetector": SignalDetector(20, detector=FEW).fit(np.sin(np.arange(200) / 8)),
    "EncoderClassifier": EncoderClassifier(SMALL, max_epochs=1, random_state=0).fit(X, (X[:, 0] > 0).astype(int)),
    "Recommender": Recommender(code_size=2, network=(4,), max_epochs=2, random_state=0).fit(LOG),
    "Restorer": Restorer("masking", network=UNet((4,)), max_steps=2, random_state=0).fit(X.reshape(-1, 2, 2)),
    "Imputer": Imputer(n_members=2, hidden_sizes=(4,), code_size=2, max_epochs=1, random_state=0).fit(X),
}


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    return int(stopped.value.code or 0), *capsys.readouterr()


@pytest.mark.parametrize("kind", OTHERS)
def test_commands_for_autoencoders_refuse_other_models(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, table = OTHERS[kind].save(tmp_path / "m.safetensors"), tmp_path / "t.csv"
    pd.DataFrame(X, columns=list("abcd")).to_csv(table, index=False)
    out = tmp_path / "out.csv"
    for words in (
        ("encode", path, table, "--out", out),
        ("reconstruct", path, table, "--out", out),
        ("score", path, table),
        ("score", path, table, "--out", out),
        ("report", path, table, "--out", tmp_path / "r.html"),
        ("diagnose", path, table),
    ):
        code, _, told = run(capsys, *words)
        assert code == 1
        if kind == "Restorer" and words[0] in ("report", "diagnose"):  # which take restorers, but no rows of a table
            assert "images need (n, h, w) or (n, h, w, c)" in told
            continue
        assert f"contains a model of the kind {kind}, but `isthmus {words[0]}` needs an autoencoder" in told
        assert "attribute" not in told
    assert not out.exists()


@pytest.mark.parametrize("kind", OTHERS)
def test_info_tells_of_every_kind(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = OTHERS[kind].save(tmp_path / "m.safetensors")
    code, told, _ = run(capsys, "info", path)
    assert code == 0
    assert kind in told
    code, told, _ = run(capsys, "info", path, "--json")
    facts = json.loads(told, parse_constant=pytest.fail)
    assert code == 0
    assert facts["kind"] == kind
    assert "random_state" in facts["settings"] or kind == "SignalDetector"


def test_numbers_that_are_not_finite_are_null_in_json() -> None:
    facts = {"a": [float("nan"), 1.5], "b": {"c": float("-inf")}, "d": np.float64("nan"), "e": (1, "x", None)}
    assert json.loads(to_json(facts)) == {"a": [None, 1.5], "b": {"c": None}, "d": None, "e": [1, "x", None]}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["train", "t.csv"], "No such command 'train'; use 'fit'."),
        (["predict"], "No such command 'predict'; use 'reconstruct'."),
        (["encod"], "No such command 'encod'. Did you mean 'encode'?"),
        (["fit", "t.csv", "--latent-dim", "2"], "No such option: --latent-dim; use --code-size."),
        (["fit", "t.csv", "--hidden-layer-sizes", "2"], "use --set network=128,64."),
    ],
)
def test_words_of_other_tools_are_named_as_they_are_here(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, told = run(capsys, *words)
    assert code == 2
    assert text in told


def test_python_refuses_other_models_too(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"diagnose needs a fitted autoencoder, but got AnomalyDetector"):
        isthmus.diagnose(OTHERS["AnomalyDetector"], X)
    with pytest.raises(TypeError, match=r"write_report needs .* got EncoderClassifier; .* model.encoder_"):
        isthmus.write_report(OTHERS["EncoderClassifier"], X, tmp_path / "r.html")
    with pytest.raises(TypeError, match="got the class Autoencoder instead of a fitted object"):
        isthmus.diagnose(Autoencoder, X)  # type: ignore[arg-type]
    with pytest.raises(NotFittedError):
        isthmus.diagnose(Autoencoder(2), X)
    with pytest.raises(ValueError, match="got scalar array instead"):
        isthmus.diagnose(SMALL, np.array(5.0))


def test_the_summary_has_the_way_of_a_row_and_the_totals() -> None:
    model = Autoencoder(16, network=(128,), max_epochs=1, random_state=0).fit(np.random.default_rng(0).random((40, 64)))
    summary = model.summary()
    assert summary.path == "64 → 128 → 16 → 128 → 64"
    assert summary.n_parameters == model.n_parameters_ == sum(layer.n_parameters for layer in summary.layers)
    *_, totals, engine = str(summary).splitlines()
    assert totals == f"{model.n_parameters_:,} parameters"
    assert engine.startswith("Trained by the general engine (compiled: a run of 3 steps gains less")
    assert summary.note == ""
    images = isthmus.ConvolutionalAutoencoder(3, max_epochs=1, random_state=0).fit(np.zeros((10, 8, 8)) + np.eye(8))
    assert images.summary().path.startswith("8×8 → ")
    gaussian = isthmus.VariationalAutoencoder(2, network=(4,), max_epochs=1, random_state=0).fit(X)
    assert gaussian.summary().path == "4 → 4 → 2 → 4 → 4"


def test_more_code_units_than_columns_get_a_word() -> None:
    wide = Autoencoder(9, network=(8,), max_epochs=1, random_state=0)
    assert "The code has 9 units and a row has 4 features, so the model can copy" in str(wide.fit(X).summary())
    for more in ({"corruption": "masking"}, {"penalty": "l1"}, {"code": "top-k"}):
        assert wide.set_params(**{"corruption": None, "penalty": None, **more}).fit(X).summary().note == ""
