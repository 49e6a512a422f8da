"""Callbacks that write runs to experiment trackers: parameters, losses, files. The trackers are imported when used."""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Any

from isthmus.choices.registry import Choice
from isthmus.training.callbacks import Callback
from isthmus.training.loop import Run


def run_parameters(run: Run) -> dict[str, str | int | float]:
    """The resolved parameters of a run: the five choices, the settings, the sizes of data and model."""
    found = {**vars(run.objective.choices), "code_size": run.objective.context.code_size, **vars(run.settings)}
    found |= {"n_rows": run.train.n_rows, "n_parameters": run.engine.flat.values.numel(), "device": str(run.device)}
    return {name: value if isinstance(value, int | float | str) else _words(value) for name, value in found.items()}


def _words(value: object) -> str:
    """A choice as one line of code."""
    return " ".join(repr(value).split()) if isinstance(value, Choice) else str(value)


def _losses(run: Run) -> dict[str, float]:
    """The last row of the history without the number of the epoch, which trackers call the step."""
    return {name: float(value) for name, value in run.history[-1].items() if name != "epoch"}


def _imported(module: str, package: str, callback: Callback) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        name = type(callback).__name__
        raise ImportError(f"{name} needs {package}, which is not installed; run pip install {package}.") from None


class LogToMLflow(Callback):
    """Logs parameters and the losses of every epoch to an MLflow run.

    It uses the active run. Without one, each `fit` starts a run in the current experiment.
    ``mlflow.sklearn.autolog()`` logs only estimators of scikit-learn, not models of isthmus.

    Attributes
    ----------
    run_id : str or None
        The run of the last `fit`.

    Raises
    ------
    ImportError
        At `fit`: mlflow is not installed.

    Examples
    --------
    >>> from isthmus import Autoencoder
    >>> model = Autoencoder(8, callbacks=[LogToMLflow()])  # then fit, and log_file(model.save("model.safetensors"))
    """

    run_id: str | None = None

    def on_fit_start(self, run: Run) -> None:
        mlflow = _imported("mlflow", "mlflow", self)
        active = mlflow.active_run()
        self._ends = active is None
        if active is None and (self.run_id is None or not run.epoch):  # `partial_fit` continues its run
            active = mlflow.start_run()
            mlflow.end_run("RUNNING")  # deactivated here, so that an error in training leaves no active run
        if active is not None:
            self.run_id = active.info.run_id
            params = [mlflow.entities.Param(name, str(value)) for name, value in run_parameters(run).items()]
            mlflow.MlflowClient().log_batch(self.run_id, params=params)

    def on_epoch_end(self, run: Run) -> None:
        mlflow, now = _imported("mlflow", "mlflow", self), int(1000 * time.time())
        metrics = [mlflow.entities.Metric(name, value, now, run.epoch) for name, value in _losses(run).items()]
        mlflow.MlflowClient().log_batch(self.run_id, metrics=metrics)

    def on_fit_end(self, run: Run) -> None:
        if self._ends:
            _imported("mlflow", "mlflow", self).MlflowClient().set_terminated(self.run_id)

    def log_file(self, path: str | Path) -> None:
        """Add a file to the run of the last `fit`, such as a model file or a report."""
        if self.run_id is None:
            raise ValueError("LogToMLflow has no run yet; fit a model with this callback first.")
        _imported("mlflow", "mlflow", self).MlflowClient().log_artifact(self.run_id, str(path))


class LogToTensorBoard(Callback):
    """Writes parameters as a text, and the losses of every epoch as scalars, for TensorBoard.

    Parameters
    ----------
    folder
        Folder of the event files of one run; ``tensorboard --logdir FOLDER`` shows them.

    Raises
    ------
    ImportError
        At `fit`: tensorboard is not installed.

    Examples
    --------
    >>> from isthmus import Autoencoder
    >>> model = Autoencoder(8, callbacks=[LogToTensorBoard("runs/first")])
    """

    _writer: Any = None

    def __init__(self, folder: str | Path) -> None:
        self.folder = folder

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}  # open files are not copied

    def on_fit_start(self, run: Run) -> None:
        self._writer = _imported("torch.utils.tensorboard", "tensorboard", self).SummaryWriter(str(self.folder))
        rows = [f"| {name} | {value} |" for name, value in run_parameters(run).items()]
        self._writer.add_text("parameters", "\n".join(["| parameter | value |", "|---|---|", *rows]), run.epoch)

    def on_epoch_end(self, run: Run) -> None:
        for name, value in _losses(run).items():
            self._writer.add_scalar(name, value, run.epoch)

    def on_fit_end(self, run: Run) -> None:
        self._writer.close()
        self._writer = None


class LogToWandb(Callback):
    """Logs parameters and the losses of every epoch to Weights & Biases.

    It uses the active run. Without one, each `fit` starts a run.

    Parameters
    ----------
    project
        Project of the runs that this callback starts; None: the one in the settings of wandb.

    Raises
    ------
    ImportError
        At `fit`: wandb is not installed.

    Examples
    --------
    >>> from isthmus import Autoencoder
    >>> model = Autoencoder(8, callbacks=[LogToWandb("digits")])
    """

    def __init__(self, project: str | None = None) -> None:
        self.project = project

    def on_fit_start(self, run: Run) -> None:
        wandb = _imported("wandb", "wandb", self)
        self._ends = wandb.run is None
        active = wandb.run or wandb.init(project=self.project)
        active.config.update(run_parameters(run), allow_val_change=True)

    def on_epoch_end(self, run: Run) -> None:
        _imported("wandb", "wandb", self).log({"epoch": run.epoch, **_losses(run)})

    def on_fit_end(self, run: Run) -> None:
        if self._ends:
            _imported("wandb", "wandb", self).finish()

    def log_file(self, path: str | Path) -> None:
        """Add a file to the active run, such as a model file or a report."""
        active = _imported("wandb", "wandb", self).run
        if active is None:
            raise ValueError("wandb has no active run; call wandb.init() before fit and wandb.finish() at the end.")
        active.log_artifact(str(path), name=Path(path).name, type="file")
