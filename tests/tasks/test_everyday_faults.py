"""Everyday inputs of the tasks: cells missing later, numbers of numpy, targets, interrupts, another default type."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

import isthmus
from isthmus import AnomalyDetector, Autoencoder, Callback, EncoderClassifier, Imputer, LinearAutoencoder, Recommender
from isthmus.exceptions import DataError, InterruptedWarning
from isthmus.tasks.anomaly import detector_fit
from isthmus.tasks.imputation import imputer_fit
from isthmus.training import Run

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(300, 4))
X[:, 3] = X[:, 0] + 0.1 * X[:, 3]
FRAME = pd.DataFrame(X, columns=["a", "b", "c", "d"])
LIKED = scipy.sparse.csr_array((DRAW.random((40, 12)) < 0.3).astype(float))
DETECTING: dict[str, Any] = {"max_steps": 40, "n_members": 2, "hidden_size": 16, "random_state": 0}
FILLING: dict[str, Any] = {"n_members": 3, "hidden_sizes": (8,), "code_size": 2, "max_epochs": 2, "random_state": 0}


def with_holes(table: pd.DataFrame, column: int) -> pd.DataFrame:
    return table.assign(**{table.columns[column]: np.nan})


# -- a cell that is missing later --------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [False, True], ids=["numbers only", "with a column of words"])
def test_a_missing_cell_is_odd_in_a_table_whether_or_not_words_stand_beside_it(words: bool, tmp_path: Path) -> None:
    table = FRAME.assign(k=["x", "y", "z"] * 100) if words else FRAME
    detector = AnomalyDetector(0.05, **DETECTING).fit(table)
    rows, holes = table[:50], with_holes(table[:50], 1)
    scores = detector.score_samples(holes)
    assert np.isfinite(scores).all()
    assert (scores < detector.score_samples(rows)).mean() > 0.9
    reasons = [
        reason for told in detector.explain(holes, n_columns=5) for reason in told.reasons if reason.column == "b"
    ]
    assert {reason.seen for reason in reasons} == {"missing"}
    np.testing.assert_array_equal(isthmus.load(detector.save(tmp_path / "d.safetensors")).score_samples(holes), scores)
    only_one = rows.copy()
    only_one.iloc[7, 1] = np.nan
    np.testing.assert_array_equal(
        np.delete(detector.score_samples(only_one), 7), np.delete(detector.score_samples(rows), 7)
    )


def test_a_missing_cell_of_an_array_is_refused_with_its_place() -> None:
    detector, holes = AnomalyDetector(0.05, **DETECTING).fit(X), X[:5].copy()
    holes[2, 1] = np.nan
    for verb in (detector.score_samples, detector.predict, detector.explain):
        with pytest.raises(DataError, match=r"1 NaN value, at row 2, column 1"):
            verb(holes)
    admitting = AnomalyDetector(0.05, loss="observed", **DETECTING).fit(X)
    assert np.isfinite(admitting.score_samples(holes)).all()
    assert admitting.explain(holes[2:3], n_columns=4)[0].reasons[0].seen == "missing"


def test_numbers_without_holes_do_not_go_on_learning_from_holes() -> None:
    detector = AnomalyDetector(0.05, **DETECTING).fit(FRAME)
    with pytest.raises(DataError, match="NaN"):
        detector.partial_fit(with_holes(FRAME[:20], 1))
    np.testing.assert_array_equal(detector.decision_scores_, AnomalyDetector(0.05, **DETECTING).fit(X).decision_scores_)


def test_an_imputer_fills_a_column_that_had_no_holes_at_fit() -> None:
    imputer = Imputer(**FILLING).fit(FRAME)
    filled = imputer.transform(with_holes(FRAME[:50], 3))
    assert np.corrcoef(filled["d"], FRAME["d"][:50])[0, 1] > 0.9


# -- numbers, targets --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [np.float32(0.25), np.float64(0.25), np.float16(0.25)])
def test_a_share_may_be_a_number_of_numpy(share: Any, tmp_path: Path) -> None:
    detector = AnomalyDetector(share, **DETECTING).fit(X)
    assert detector.labels_.sum() == 75
    assert isthmus.load(detector.save(tmp_path / "d.safetensors")).threshold.get_params() == {"rate": 0.25}
    assert AnomalyDetector(np.int64(0), **DETECTING).fit(X).labels_.sum() == 0
    with pytest.raises(ValueError, match="threshold"):
        AnomalyDetector(np.True_, **DETECTING).fit(X)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Imputer(**FILLING).fit(X, X), "Imputer takes no targets.*give the table with its holes"),
        (lambda: Imputer(**FILLING).fit_transform(FRAME, FRAME), "Imputer takes no targets"),
        (lambda: Recommender(max_epochs=1).fit(LIKED, LIKED), "Recommender takes no targets.*column rating"),
        (lambda: Recommender(max_epochs=1).partial_fit(LIKED, LIKED), "Recommender takes no targets"),
        (lambda: Recommender(max_epochs=1).fit(LIKED).score(LIKED, LIKED.toarray()), "Recommender takes no targets"),
    ],
)
def test_targets_are_refused_by_imputer_and_recommender(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize("loss", ["poisson", "multinomial", isthmus.Observed("poisson")])
def test_counts_need_no_scaling_of_their_own(loss: Any) -> None:
    counts = DRAW.poisson(DRAW.uniform(0.2, 3.0, (400, 1)) * [[0.5, 2.0, 6.0, 20.0]])
    model = Autoencoder(1, network=(16,), loss=loss, max_epochs=60, random_state=0).fit(counts)
    assert model.scaling_.name == "none"
    restored = model.reconstruct(counts).mean(axis=0)
    wanted = counts.mean(axis=0) if loss != "multinomial" else (counts / counts.sum(1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(restored, wanted, rtol=0.05, atol=0.01)
    with pytest.raises(ValueError, match=r"must be >= 0 \(counts\), but range from .*scaling='minmax' or 'none'"):
        Autoencoder(1, loss=loss, max_epochs=1).fit(counts - 3)


# -- interrupts --------------------------------------------------------------------------------------------------------


class Interrupting(Callback):
    """Sends a signal to this process at a step."""

    def __init__(self, number: int, step: int) -> None:
        self.number, self.step = number, step

    def on_step_end(self, run: Run) -> None:
        if run.step == self.step:
            os.kill(os.getpid(), self.number)


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_interrupt_ends_all_members_of_an_imputer(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Run] = []

    def make_run(objective: Any, settings: Any, train: Any, validation: Any, _: Any, n_runs: int) -> Run:
        callbacks = [Interrupting(number, 3)] if len(trained) == 1 else []
        trained.append(Run(objective, settings, train, validation, callbacks, n_runs=n_runs))
        return trained[-1]

    monkeypatch.setattr(imputer_fit, "Run", make_run)
    holes = X.copy()
    holes[DRAW.random(X.shape) < 0.1] = np.nan
    with pytest.warns(InterruptedWarning, match=r"interrupted in member 2 of 3"):
        imputer = Imputer(**FILLING).fit(holes)
    assert [run.stop_reason for run in trained] == ["finished", "interrupted"]
    assert imputer.model_ is not None
    assert len(imputer.model_.members) == 2
    assert np.isfinite(imputer.transform(holes)).all()


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_a_detector_whose_fit_breaks_off_answers_as_before(error: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted, fresh = AnomalyDetector(0.05, **DETECTING).fit(X), AnomalyDetector(0.05, **DETECTING)
    before = fitted.score_samples(X)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(detector_fit, "learn_scorer", fail)
    for detector in (fitted, fresh):
        with pytest.raises(error):
            detector.fit(10.0 * X + 5.0)
    np.testing.assert_array_equal(fitted.score_samples(X), before)
    assert not [name for name in vars(fresh) if name.endswith("_")]


# -- another default type ----------------------------------------------------------------------------------------------


@pytest.fixture
def doubles() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


SMALL: dict[str, Any] = {"max_epochs": 2, "batch_size": 50, "random_state": 0, "device": "cpu"}
MODELS: dict[str, Any] = {
    "Autoencoder": lambda: Autoencoder(2, network=(8,), **SMALL).fit(X).transform(X),
    "LinearAutoencoder": lambda: LinearAutoencoder(2, **SMALL).fit(X).transform(X),
    "VariationalAutoencoder": lambda: isthmus.VariationalAutoencoder(2, network=(8,), **SMALL).fit(X).transform(X),
    "SparseAutoencoder": lambda: isthmus.SparseAutoencoder(2, network=(8,), **SMALL).fit(X).transform(X),
    "ContractiveAutoencoder": lambda: isthmus.ContractiveAutoencoder(2, network=(8,), **SMALL).fit(X).transform(X),
    "ConvolutionalAutoencoder": lambda: (
        isthmus.ConvolutionalAutoencoder(2, **SMALL).fit(X[:40].reshape(-1, 4, 4)).transform(X[:40].reshape(-1, 4, 4))
    ),
    "AnomalyDetector": lambda: AnomalyDetector(0.05, **DETECTING).fit(X).score_samples(X),
    "Imputer": lambda: Imputer(**FILLING).fit(X).transform(np.where(X > 1, np.nan, X)),
    "Restorer": lambda: (
        isthmus.Restorer("noise:0.1", network=isthmus.UNet((4, 4)), max_steps=2, random_state=0)
        .fit(X[:40].reshape(-1, 4, 4))
        .restore(X[:40].reshape(-1, 4, 4))
    ),
    "Recommender": lambda: Recommender(max_epochs=2, random_state=0).fit(LIKED).recommend(0, 3).scores,
    "EncoderClassifier": lambda: (
        EncoderClassifier(Autoencoder(2, network=(8,), **SMALL), max_epochs=1, random_state=0)
        .fit(X, X[:, 0] > 0)
        .predict_proba(X)
    ),
}
SINGLE = {name: np.asarray(make()) for name, make in MODELS.items()}


@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize("name", MODELS)
def test_torchs_default_type_changes_no_model(name: str) -> None:
    found = np.asarray(MODELS[name]())
    assert found.dtype == SINGLE[name].dtype
    np.testing.assert_array_equal(found, SINGLE[name])
    assert torch.get_default_dtype() == torch.float64


@pytest.mark.usefixtures("doubles")
def test_a_file_loads_in_single_precision_under_another_default(tmp_path: Path) -> None:
    loaded = isthmus.load(Autoencoder(2, network=(8,), **SMALL).fit(X).save(tmp_path / "m.safetensors"))
    assert {value.dtype for value in loaded.objective_.parameters()} == {torch.float32}
    np.testing.assert_array_equal(loaded.transform(X), SINGLE["Autoencoder"])
