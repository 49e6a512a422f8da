"""Callbacks that log runs: what trackers are given, by their own libraries where these are installed."""

from __future__ import annotations

import copy
import math
import pickle
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from isthmus import Autoencoder, Callback, LogToMLflow, LogToTensorBoard, LogToWandb, load

X = np.random.default_rng(0).normal(size=(60, 4))


def model(callback: Callback, **more: Any) -> Autoencoder:
    settings: dict[str, Any] = {"max_epochs": 3, "validation_fraction": 0.2, "random_state": 7, "corruption": "masking"}
    return Autoencoder(2, callbacks=[callback], **(settings | more))


def rows(fitted: Autoencoder) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "epoch"} for row in fitted.history_]


PARAMETERS = {"code_size": "2", "max_epochs": "3", "n_rows": "48", "corruption": "Masking()"}


# -- TensorBoard -------------------------------------------------------------------------------------------------------


def test_tensorboard_reads_the_losses_of_every_epoch_and_the_parameters(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415

    fitted = model(LogToTensorBoard(tmp_path / "run")).fit(X).partial_fit(X)
    read = EventAccumulator(str(tmp_path / "run")).Reload()
    for name in ("loss", "val_loss"):
        found = {event.step: event.value for event in read.Scalars(name)}
        wanted = {int(row["epoch"]): row[name] for row in fitted.history_ if name in row}
        assert found == pytest.approx(wanted)
    text = read.Tensors("parameters/text_summary")[0].tensor_proto.string_val[0].decode()
    assert all(f"| {name} | {value} |" in text for name, value in PARAMETERS.items())


def test_an_open_log_is_not_copied(tmp_path: Path) -> None:
    callback = LogToTensorBoard(tmp_path)
    callback._writer = open  # anything that cannot be copied
    for other in (copy.deepcopy(callback), pickle.loads(pickle.dumps(callback))):
        assert vars(other) == {"folder": tmp_path}


# -- MLflow ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    found = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    found.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    return found


@pytest.mark.filterwarnings("default")
def test_mlflow_has_parameters_losses_and_files(mlflow: Any, tmp_path: Path) -> None:
    callback = LogToMLflow()
    fitted = model(callback).fit(X)
    callback.log_file(fitted.save(tmp_path / "model.safetensors"))
    client = mlflow.MlflowClient()
    run = client.get_run(callback.run_id)
    assert run.info.status == "FINISHED"
    assert mlflow.active_run() is None
    assert PARAMETERS.items() <= run.data.params.items()
    for name in ("loss", "val_loss"):
        history = {metric.step: metric.value for metric in client.get_metric_history(callback.run_id, name)}
        assert history == {place + 1: row[name] for place, row in enumerate(rows(fitted))}
    path = mlflow.artifacts.download_artifacts(run_id=callback.run_id, artifact_path="model.safetensors")
    np.testing.assert_array_equal(load(path).transform(X), fitted.transform(X))
    fitted.partial_fit(X)
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 4
    first = callback.run_id
    fitted.fit(X)
    assert callback.run_id != first


@pytest.mark.filterwarnings("default")
def test_an_active_run_of_mlflow_is_used_and_stays_open(mlflow: Any) -> None:
    callback = LogToMLflow()
    with mlflow.start_run() as run:
        model(callback).fit(X)
        assert mlflow.active_run().info.run_id == run.info.run_id == callback.run_id
    assert mlflow.get_run(run.info.run_id).data.metrics["loss"] > 0


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("how", ["skops", "cloudpickle"])
def test_a_model_logged_by_mlflow_answers_alike(mlflow: Any, how: str) -> None:
    import mlflow.sklearn as flavour  # noqa: PLC0415

    fitted = Autoencoder(2, max_epochs=2, random_state=0).fit(X)
    trusted = {"skops_trusted_types": ["isthmus.estimators.autoencoder.Autoencoder"]} if how == "skops" else {}
    with mlflow.start_run():
        given = {"serialization_format": how, "pip_requirements": ["isthmus"]}
        logged = flavour.log_model(fitted, name="model", **given, **trusted)
    np.testing.assert_array_equal(flavour.load_model(logged.model_uri).transform(X), fitted.transform(X))


# -- without the libraries ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("callback", "package"),
    [(LogToMLflow(), "mlflow"), (LogToTensorBoard("nowhere"), "tensorboard"), (LogToWandb(), "wandb")],
)
def test_a_missing_tracker_is_named(callback: Callback, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("mlflow", "torch.utils.tensorboard", "wandb"):
        monkeypatch.setitem(sys.modules, module, None)
    words = f"{type(callback).__name__} needs {package}, which is not installed; run pip install {package}"
    with pytest.raises(ImportError, match=words):
        model(callback).fit(X)


def test_files_need_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="LogToMLflow has no run yet; fit a model with this callback first"):
        LogToMLflow().log_file("model.safetensors")
    monkeypatch.setitem(sys.modules, "wandb", recorder([]))
    with pytest.raises(ValueError, match=r"wandb has no active run; call wandb\.init\(\) before fit"):
        LogToWandb().log_file("model.safetensors")


def recorder(calls: list[tuple[str, Any]]) -> Any:
    """A stand-in for wandb that writes down what it is told, with wandb's active run."""
    wandb: Any = ModuleType("wandb")

    def init(project: str | None = None) -> Any:
        config = SimpleNamespace(update=lambda params, allow_val_change: calls.append(("config", params)))
        wandb.run = SimpleNamespace(
            config=config, log_artifact=lambda path, **more: calls.append(("file", (path, *more.values())))
        )
        calls.append(("init", project))
        return wandb.run

    def finish() -> None:
        wandb.run = None
        calls.append(("finish", None))

    wandb.run, wandb.init, wandb.finish = None, init, finish
    wandb.log = lambda values: calls.append(("log", values))
    return wandb


def test_wandb_is_given_parameters_and_losses_in_a_run_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, Any]] = []
    monkeypatch.setitem(sys.modules, "wandb", recorder(calls))
    fitted = model(LogToWandb("digits")).fit(X)
    assert [name for name, _ in calls] == ["init", "config", "log", "log", "log", "finish"]
    assert calls[0][1] == "digits"
    assert {name: str(calls[1][1][name]) for name in PARAMETERS} == PARAMETERS
    assert [values for name, values in calls if name == "log"] == [*fitted.history_]
    assert all(math.isfinite(row["loss"]) for row in fitted.history_)


def test_an_active_run_of_wandb_is_used_and_takes_files(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, Any]] = []
    wandb = recorder(calls)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    wandb.init("mine")
    callback = LogToWandb("digits")
    model(callback).fit(X)
    callback.log_file(Path("reports/report.html"))
    assert [name for name, _ in calls] == ["init", "config", "log", "log", "log", "file"]
    assert calls[-1][1] == ("reports/report.html", "report.html", "file")
