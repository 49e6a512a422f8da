"""Exported graphs give in onnxruntime, from raw input, what the models give."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

import isthmus
from isthmus import (
    AnomalyDetector,
    Autoencoder,
    Contamination,
    ConvolutionalAutoencoder,
    FalseAlarmRate,
    LinearAutoencoder,
    OutputError,
    Quantile,
    Restorer,
    SparseAutoencoder,
    UNet,
    VariationalAutoencoder,
    export_onnx,
    onnx_inputs,
)
from isthmus.cli import main

DRAW = np.random.default_rng(0)
SHORT: dict[str, Any] = {"max_steps": 20, "n_members": 4, "random_state": 0}
BRIEF: dict[str, Any] = {"max_epochs": 1, "random_state": 0}
SMALL = DRAW.normal(5.0, 2.0, size=(60, 6))
IMAGES = DRAW.integers(0, 256, size=(40, 6, 7), dtype=np.uint8)


def answers(path: Path, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)  # type: ignore[no-any-return]


def agrees(detector: AnomalyDetector, X: Any, path: Path) -> None:
    scores, labels = answers(export_onnx(detector, path), onnx_inputs(detector, X))
    np.testing.assert_allclose(scores, detector.score_samples(X), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(labels, detector.predict(X))
    assert set(labels.tolist()) == {1, -1}


def mixed(n: int) -> pd.DataFrame:
    """Every kind of column, with holes."""
    group = DRAW.integers(0, 3, n)
    return pd.DataFrame(
        {
            "age": DRAW.normal(10.0 * group, 1.0),
            "pay": np.exp(2.0 * DRAW.normal(size=n) + group),
            "town": np.array(["Ulm", "Bonn", "Rome"])[group],
            "flag": DRAW.random(n) < 0.3 + 0.2 * group,
            "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(DRAW.integers(0, 365 * 86400, n), unit="s"),
            "hole": np.where(DRAW.random(n) < 0.1, np.nan, DRAW.normal(size=n)),
            "n": DRAW.poisson(3, n),
            "two": DRAW.integers(0, 2, n) * 5.0,
            "size": np.array(["S", "M", "L"])[group],
            "constant": "same",
        }
    )


def test_a_detector_of_numbers_gives_the_same_scores_and_labels(tmp_path: Path) -> None:
    X = DRAW.normal(size=(300, 5)) * [1, 10, 100, 1e4, 1e-3] + 7.0
    detector = AnomalyDetector(0.05, **SHORT).fit(X)
    path = tmp_path / "d.onnx"
    agrees(detector, np.concatenate([X, 3.0 * X]), path)
    scores, labels = answers(path, {"X": np.array([[np.nan, 7, 7, 7, 7]])})
    assert np.isnan(scores).all()
    assert labels.tolist() == [-1]  # never taken for normal


def test_a_detector_of_a_mixed_table_takes_cells_by_the_names_of_their_columns(tmp_path: Path) -> None:
    detector = AnomalyDetector(0.05, kinds={"size": ["S", "M", "L"]}, **SHORT).fit(mixed(400))
    new = mixed(300)
    new.loc[:4, "town"] = ["Paris", None, "Ulm", "Ulm", "Ulm"]
    odd: Any = {"size": "XL", "two": 3.0, "age": np.nan, "when": pd.NaT}
    new = pd.concat([new, new.tail(1).assign(**odd)], ignore_index=True)
    agrees(detector, new[list(reversed(new.columns))], tmp_path / "d.onnx")
    assert "constant" in onnx_inputs(detector, new)  # a change in it is an anomaly


def test_a_detector_around_an_autoencoder_of_images_is_exported(tmp_path: Path) -> None:
    X = DRAW.normal(size=(40, 8, 8))
    inner = ConvolutionalAutoencoder(4, **BRIEF)
    agrees(AnomalyDetector(0.1, autoencoder=inner, random_state=0).fit(X), X, tmp_path / "d.onnx")


@pytest.mark.parametrize(
    ("model", "X", "what"),
    [
        (Autoencoder(3, network=(8,), **BRIEF), SMALL, "reconstruct"),
        (LinearAutoencoder(3, **BRIEF), SMALL, "transform"),
        (SparseAutoencoder(9, network=(8,), **BRIEF), SMALL, "score_samples"),
        (Autoencoder(9, network=(8,), code="top-k", **BRIEF), SMALL, "transform"),
        (VariationalAutoencoder(2, network=(8,), **BRIEF), SMALL, "reconstruct"),
        (ConvolutionalAutoencoder(4, **BRIEF), IMAGES, "transform"),
        (ConvolutionalAutoencoder(4, **BRIEF), IMAGES, "reconstruct"),
        (Autoencoder(3, network=(8,), loss="observed", **BRIEF), np.where(SMALL > 8.0, np.nan, SMALL), "reconstruct"),
    ],
    ids=lambda value: (
        type(value).__name__ if isinstance(value, Autoencoder) else value if isinstance(value, str) else ""
    ),
)
def test_the_verbs_of_autoencoders_are_exported(model: Autoencoder, X: np.ndarray, what: str, tmp_path: Path) -> None:
    model.fit(X)
    single = X if X.dtype == np.uint8 else X.astype(np.float32)
    (got,) = answers(export_onnx(model, tmp_path / "m.onnx", what=what), onnx_inputs(model, X))
    wanted = getattr(model, what)(single)
    assert got.dtype == wanted.dtype
    np.testing.assert_allclose(got.astype(float), wanted, rtol=1e-5, atol=1 if X.dtype == np.uint8 else 1e-5)
    assert len(np.unique(got)) > 1


@pytest.mark.parametrize("self_ensemble", [False, True])
def test_a_restorer_takes_images_of_any_size(tmp_path: Path, self_ensemble: bool) -> None:
    small, large = DRAW.random((6, 9, 10)), DRAW.random((6, 18, 20, 3))
    made = Restorer(network=UNet((3, 4)), max_steps=2, random_state=0, self_ensemble=self_ensemble)
    restorer = made.fit(small, target=large)
    path = export_onnx(restorer, tmp_path / "r.onnx")
    for shape in ((1, 9, 10, 1), (3, 2, 31, 1), (1, 40, 7, 1)):
        images = DRAW.random(shape).astype(np.float32)
        (got,) = answers(path, {"X": images})
        np.testing.assert_allclose(got, restorer.restore(images), atol=1e-5)
    with pytest.raises(ValueError, match="must be 'auto' for a restorer"):
        export_onnx(restorer, tmp_path / "s.onnx", what="transform")


def test_codes_of_a_conditional_model_are_decoded_with_the_place_of_their_label(tmp_path: Path) -> None:
    y = np.array(["a", "b", "c"])[np.arange(60) % 3]
    model = Autoencoder(2, network=(8,), conditional=True, **BRIEF).fit(SMALL, y)
    Z = DRAW.normal(size=(60, 2)).astype(np.float32)
    path = export_onnx(model, tmp_path / "m.onnx", what="inverse_transform")
    (got,) = answers(path, {"Z": Z, "y": np.searchsorted(model.classes_, y)})
    np.testing.assert_allclose(got, model.inverse_transform(Z, y), rtol=1e-5, atol=1e-5)


def test_what_cannot_be_exported_says_why(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with pytest.raises(NotFittedError):
        export_onnx(Autoencoder(2), path)
    with pytest.raises(TypeError, match="A SignalDetector cannot be exported; pass an AnomalyDetector or an"):
        export_onnx(isthmus.SignalDetector(5), path)
    with pytest.raises(OutputError, match=r"has the suffix '.pb'; a graph needs the suffix .onnx"):
        export_onnx(Autoencoder(2), tmp_path / "m.pb")
    model = Autoencoder(2, network=(5,), **BRIEF).fit(SMALL)
    with pytest.raises(ValueError, match=r"'transfrom'.*'transform'"):
        export_onnx(model, path, what="transfrom")
    detector = AnomalyDetector(**SHORT).fit(SMALL)
    with pytest.raises(ValueError, match="what='transform' must be 'auto' for a detector"):
        export_onnx(detector, path, what="transform")
    with pytest.raises(isthmus.DataError, match="All columns of the detector's table are constant"):
        export_onnx(AnomalyDetector(**SHORT).fit({"x": ["a", "a"]}), path)
    with pytest.raises(isthmus.DataError, match="Column 'predict' has the name of an output"):
        export_onnx(AnomalyDetector(**SHORT).fit({"predict": ["a", "b", "a"]}), path)
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    model = Autoencoder(2, network=(5,), **BRIEF).fit(SMALL)
    with pytest.raises(ImportError, match=r"onnxscript, which is not installed; pip install 'isthmus\[onnx\]'"):
        export_onnx(model, tmp_path / "m.onnx")


def test_the_command_writes_a_graph_and_keeps_one_that_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = LinearAutoencoder(2, **BRIEF).fit(SMALL)
    words = ["export", str(model.save(tmp_path / "m.safetensors")), "--out", str(tmp_path / "m.onnx")]
    for code, told in ((0, "graph: "), (1, "exists; choose another name")):
        with pytest.raises(SystemExit) as stopped:
            main([*words, "--what", "transform"])
        assert int(stopped.value.code or 0) == code
        assert told in "".join(capsys.readouterr())
    (codes,) = answers(tmp_path / "m.onnx", onnx_inputs(model, SMALL))
    np.testing.assert_allclose(codes, model.transform(SMALL), atol=1e-5)


def test_an_empty_word_is_a_missing_cell_in_a_table_and_in_a_graph(tmp_path: Path) -> None:
    words = ["x", "y", "zz", "w"] * 20
    asked = pd.DataFrame({"k": ["x", "", None, "new"], "v": [1, 2, 2, 2]})
    for level in ("x", ""):  # the second table has empty words itself
        table = pd.DataFrame({"k": [level, *words[1:]], "v": range(80)})
        for frame in (table, table.astype({"k": "category"})):
            detector = AnomalyDetector(0.1, max_steps=20, n_members=2, random_state=0).fit(frame)
            scores, _ = answers(export_onnx(detector, tmp_path / "d.onnx"), onnx_inputs(detector, asked))
            np.testing.assert_allclose(scores, detector.score_samples(asked), atol=1e-9)
            assert scores[1] == scores[2] != scores[3]


@pytest.mark.parametrize("autoencoder", [None, Autoencoder(2, network=(4,), max_epochs=2, random_state=0)])
def test_a_calibration_row_on_the_cut_has_one_label_in_python_and_in_the_graph(
    autoencoder: Autoencoder | None, tmp_path: Path
) -> None:
    X = np.random.default_rng(0).normal(size=(80, 5))
    for threshold in (FalseAlarmRate(0.1), Contamination(0), Quantile(1.0)):
        detector = AnomalyDetector(threshold, autoencoder=autoencoder, max_steps=20, n_members=2, random_state=0).fit(X)
        scores, labels = answers(export_onnx(detector, tmp_path / "d.onnx"), onnx_inputs(detector, X))
        np.testing.assert_array_equal(labels, detector.predict(X))
        kept = detector.calibration_scores_ if threshold.needs_calibration else detector.decision_scores_
        assert (np.abs(kept - detector.threshold_) < 1e-3).any()  # a row lies on the cut
        assert np.isfinite(scores).all()
