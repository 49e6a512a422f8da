"""What people bring from other libraries: early stopping, schedules, optimisers, callbacks, history, warm starts."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.decomposition import PCA

import isthmus
from isthmus import (
    SGD,
    Autoencoder,
    Callback,
    Checkpoint,
    Cosine,
    LinearAutoencoder,
    OneCycle,
    ReduceOnPlateau,
    RMSprop,
    TorchOptimizer,
)
from isthmus.choices.codes import Plain
from isthmus.exceptions import FitWarning
from isthmus.training import History
from isthmus.training.callbacks import MaxSteps
from isthmus.training.early_stopping import CoolDown, cool_down
from isthmus.training.initial_output import begin_as_plain, begin_at_mean

X = np.random.default_rng(0).random((120, 6)).astype(np.float32)


def small(**more: Any) -> Autoencoder:
    return Autoencoder(2, **{"network": (8,), "max_epochs": 4, "batch_size": 16, "random_state": 0, **more})


# -- early stopping ----------------------------------------------------------------------------------------------------


def test_patience_begins_where_the_rate_has_come_down_and_ends_in_a_cool_down() -> None:
    flat = [1.0] * 40
    assert cool_down(flat[:2], 3, 0.0, 100) is None
    assert cool_down(flat, 3, 0.0, 100) == CoolDown(4, 3)
    assert cool_down(flat, 3, 0.0, 40, restless=0.5) == CoolDown(23, 6)
    assert cool_down(flat, 3, 0.0, 25, restless=0.8) == CoolDown(23, 2)
    assert cool_down([1 / n for n in range(1, 40)], 3, 0.0, 100) is None


def test_a_fall_within_min_delta_is_no_better_loss() -> None:
    slow = [1.0 - 0.001 * n for n in range(20)]
    assert cool_down(slow, 4, 0.0, 100) is None
    assert cool_down(slow, 4, 0.01, 100) == CoolDown(5, 4)


@pytest.mark.parametrize("schedule", [OneCycle(), Cosine()])
def test_the_rate_falls_to_its_end_in_the_cool_down(schedule: Any) -> None:
    stalled = np.vstack([X, X])
    model = small(schedule=schedule, early_stopping=2, max_epochs=60, learning_rate=0.5, min_delta=10.0).fit(stalled)
    begin = math.floor(schedule.restless * 60) + 2
    assert model.stop_reason_ == "early stopping"
    assert model.n_epochs_ == begin + math.ceil(begin / 4)
    rates = model.history_["learning_rate"]
    assert (np.diff(rates[begin:]) < 0).all()
    assert rates[begin] < 0.5 * schedule.factor(begin / 60) + 1e-9
    n_steps = (model.n_epochs_ - begin) * math.ceil(len(stalled) * 0.9 / 16)
    last = schedule.cooled(schedule.factor(begin / 60), (n_steps - 1) / n_steps)
    assert last < 0.01


def test_a_run_that_is_resumed_in_its_cool_down_ends_the_same(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"early_stopping": 2, "max_epochs": 30, "min_delta": 10.0}
    whole = small(**settings).fit(X)
    path = tmp_path / "run.safetensors"

    class Dies(Callback):
        def on_epoch_end(self, run: Any) -> None:
            if run.epoch == whole.n_epochs_ - 2:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        small(**settings, callbacks=[Checkpoint(path), Dies()]).fit(X)
    again = small(**settings).fit(X, resume=path)
    assert again.n_epochs_ == whole.n_epochs_
    np.testing.assert_array_equal(again.transform(X), whole.transform(X))


# -- warnings of useless models ----------------------------------------------------------------------------------------


class Useless(Callback):
    """Sets all weights to zero, so that the model restores nothing."""

    def on_epoch_end(self, run: Any) -> None:
        run.engine.flat.values.data.zero_()
        run.best.weights = None


@pytest.mark.parametrize("more", [{"early_stopping": 60}, {"callbacks": [MaxSteps(250), Useless()]}])
def test_useless_models_are_told_however_the_run_ended(more: dict[str, Any]) -> None:
    more = {"callbacks": [Useless()], **more}
    with pytest.warns(FitWarning, match="code units are dead") as told:
        small(**more, max_epochs=60, schedule="constant", code="relu").fit(X - 0.5)
    assert len([each for each in told if each.category is FitWarning]) == 1


def test_partial_fit_tells_a_fault_once() -> None:
    model = small(callbacks=[Useless()], batch_size=1, code="relu")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(5):
            model.partial_fit(X)
    assert [each.category for each in told] == [FitWarning]


# -- schedules, optimisers, callbacks ----------------------------------------------------------------------------------


def test_the_rate_is_reduced_where_the_loss_stands_still() -> None:
    schedule = ReduceOnPlateau(by=0.1, patience=2, smallest=0.005)
    losses = [1.0, 0.9, 0.9, 0.9, 0.9, 0.8, 0.9, 0.9, 0.9, 0.9]
    assert [schedule.reduction(losses[:n]) for n in (3, 4, 6, 8, 10)] == pytest.approx([1, 0.1, 0.1, 0.01, 0.005])
    model = small(schedule=ReduceOnPlateau(patience=1, min_delta=10.0), learning_rate=0.01, max_epochs=4).fit(X)
    np.testing.assert_allclose(model.history_["learning_rate"], [0.01, 0.005, 0.0025, 0.00125])


def stepped(optimizer: Any, by: torch.optim.Optimizer, parameter: torch.nn.Parameter, n_steps: int = 5) -> None:
    mine = torch.nn.Parameter(parameter.detach().clone())
    own = optimizer.build(mine)
    own.param_groups[0]["lr"] = 0.1
    for step in range(n_steps):
        for each in (parameter, mine):
            each.grad = torch.cos(each.detach() + step)
        by.step()
        own.step()
    torch.testing.assert_close(mine, parameter)


def test_optimisers_are_those_of_torch() -> None:
    start = torch.arange(5.0)
    nesterov = {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}
    pairs: list[tuple[Any, Any, dict[str, Any]]] = [
        (SGD(0.9, nesterov=True, weight_decay=0.01), torch.optim.SGD, nesterov),
        (RMSprop(0.9, momentum=0.5), torch.optim.RMSprop, {"alpha": 0.9, "momentum": 0.5}),
        (TorchOptimizer("Adagrad", {"eps": 0.1}), torch.optim.Adagrad, {"eps": 0.1}),
    ]
    for member, kind, named in pairs:
        parameter = torch.nn.Parameter(start.clone())
        stepped(member, kind([parameter], lr=0.1, **named), parameter)


@pytest.mark.parametrize("optimizer", ["sgd", SGD(0.9), "rmsprop", "NAdam", torch.optim.Adagrad, torch.optim.SGD])
def test_models_learn_by_other_optimisers_and_are_kept(optimizer: Any, tmp_path: Path) -> None:
    model = small(optimizer=optimizer, learning_rate=0.02, max_epochs=10).fit(X)
    assert model.history_["loss"][-1] < model.history_["loss"][0]
    assert isthmus.load(model.save(tmp_path / "model")).describe()["optimizer"] == model.describe()["optimizer"]


def test_names_and_classes_of_torch_mean_the_members_here() -> None:
    models = [small(optimizer=each).fit(X) for each in ("adam", "Adam", torch.optim.Adam)]
    for model in models[1:]:
        np.testing.assert_array_equal(model.transform(X), models[0].transform(X))


def test_optimisers_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(ValueError, match="learning_rate='auto' is tuned for Adam and does not suit SGD"):
        small(optimizer="sgd").fit(X)
    with pytest.raises(ValueError, match=r"torch.optim.NAdam refuses parameters=\{'momentum': 1\}"):
        small(optimizer=TorchOptimizer("NAdam", {"momentum": 1})).fit(X)
    with pytest.raises(ValueError, match=r"pass learning_rate instead"):
        small(optimizer=TorchOptimizer("NAdam", {"lr": 1})).fit(X)
    with pytest.raises(ValueError, match="kind='LBFGS'"):
        small(optimizer=torch.optim.LBFGS, learning_rate=0.1).fit(X)
    with pytest.raises(ValueError, match="nesterov=True needs momentum > 0"):
        small(optimizer=SGD(nesterov=True), learning_rate=0.1).fit(X)


class Steers(Callback):
    """Writes a column, and halves the rate after the second epoch."""

    def on_epoch_end(self, run: Any) -> None:
        run.log("double", 2 * run.history[-1]["loss"])
        if run.epoch == 2:
            run.learning_rate /= 2


@pytest.mark.parametrize("compiled", [False, True])
def test_callbacks_write_columns_and_set_the_rate(
    compiled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isthmus.training.engines.compiled.refusals.WORTH", -1.0 if compiled else math.inf)
    settings: dict[str, Any] = {"schedule": "constant", "learning_rate": 0.01, "max_epochs": 5}
    path = tmp_path / "run.safetensors"
    model = small(**settings, callbacks=[Steers(), Checkpoint(path)]).fit(X)
    np.testing.assert_array_equal(model.history_["double"], 2 * model.history_["loss"])
    np.testing.assert_allclose(model.history_["learning_rate"][2:], 0.005)
    free = small(**settings).fit(X)
    np.testing.assert_array_equal(free.history_["loss"][:2], model.history_["loss"][:2])
    assert free.history_["loss"][2] != model.history_["loss"][2]


def test_a_rate_that_a_callback_set_holds_in_a_run_that_is_resumed(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"

    class Dies(Callback):
        def on_epoch_end(self, run: Any) -> None:
            if run.epoch == 3:
                raise ZeroDivisionError

    whole = small(callbacks=[Steers()]).fit(X)
    with pytest.raises(ZeroDivisionError):
        small(callbacks=[Steers(), Checkpoint(path), Dies()]).fit(X)
    np.testing.assert_array_equal(small(callbacks=[Steers()]).fit(X, resume=path).transform(X), whole.transform(X))


class Wrong(Callback):
    def __init__(self, event: str) -> None:
        self.event = event

    def on_epoch_start(self, run: Any) -> None:
        if self.event == "log":
            run.log("early", 1.0)
        run.learning_rate = -1.0


def test_wrong_calls_of_callbacks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"log\('early'\) needs a finished epoch"):
        small(callbacks=[Wrong("log")]).fit(X)
    with pytest.raises(ValueError, match=r"learning_rate=-1\.0 must be a number > 0"):
        small(callbacks=[Wrong("rate")]).fit(X)


# -- history -----------------------------------------------------------------------------------------------------------


def test_history_is_read_by_row_and_as_a_frame() -> None:
    history = History([{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0, "val_loss": 3.0}])
    assert history[-1] == {"epoch": 2, "loss": 1.0, "val_loss": 3.0}
    assert [row["loss"] for row in history] == [2.0, 1.0]
    assert ("val_loss" in history, "lost" in history) == (True, False)
    assert history[:1].rows == ({"epoch": 1, "loss": 2.0},)
    frame = pd.DataFrame(history)
    assert list(frame.columns) == ["epoch", "loss", "val_loss"]
    assert frame["loss"].tolist() == [2.0, 1.0]
    history.rows[-1]["mine"] = 5.0
    assert history["mine"][-1] == 5.0
    with pytest.raises(IndexError, match="has 2 epochs, so there is no epoch 2; count from 0"):
        history[2]


# -- where training begins ---------------------------------------------------------------------------------------------


def test_warm_start_begins_with_the_weights_learned_before() -> None:
    model = small(warm_start=True, learning_rate=1e-12, schedule="constant").fit(X)
    before = model.transform(X)
    np.testing.assert_allclose(model.set_params(random_state=5).fit(X).transform(X), before, atol=1e-6)
    with pytest.raises(ValueError, match=r"belong to another network: .* has shape \(8,\) instead of \(9,\)"):
        model.set_params(network=(9,)).fit(X)
    cold = small(learning_rate=1e-12, schedule="constant").fit(X)
    assert np.abs(cold.set_params(random_state=5).fit(X).transform(X) - before).max() > 0.01


@pytest.mark.parametrize("loss", ["binary-cross-entropy", "mean-squared-error", isthmus.Huber()])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_a_bounded_code_begins_at_the_mean_row(activation: str, loss: Any) -> None:
    model = small(code=activation, loss=loss, scaling="none", learning_rate=1e-9, schedule="constant", max_epochs=1)
    objective = model.fit(X).objective_
    centre = 0.5 if activation == "sigmoid" else 0.0
    with torch.no_grad():
        restored = objective.decode(torch.full((1, 2), centre))[0].numpy()
    np.testing.assert_allclose(restored, X.mean(0), atol=1e-3)


def test_a_bounded_code_begins_as_a_plain_one_to_first_order() -> None:
    plain, bounded = (torch.nn.Sequential(torch.nn.Linear(3, 5)) for _ in range(2))
    bounded.load_state_dict(plain.state_dict())
    begin_as_plain(bounded, Plain("sigmoid"))
    h = 0.01 * torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(bounded(torch.sigmoid(h)), plain(h), atol=1e-5, rtol=0.0)


def test_the_mean_of_a_channel_goes_to_its_bias() -> None:
    decoder = torch.nn.Sequential(torch.nn.ConvTranspose2d(3, 2, 1))
    mean = torch.tensor([0.2, 0.6]).repeat(9)  # 3 × 3 places, channels last
    begin_at_mean(decoder, isthmus.BinaryCrossEntropy(), mean)
    torch.testing.assert_close(torch.sigmoid(decoder[0].bias.detach()), torch.tensor([0.2, 0.6]))  # type: ignore[operator]


def test_the_linear_autoencoder_has_the_attributes_of_pca() -> None:
    rows = np.random.default_rng(0).normal(size=(200, 5)) * [5, 3, 1, 1, 1] + [1, 2, 3, 4, 5]
    model = LinearAutoencoder(2, max_epochs=3, random_state=0).fit(rows)
    pca = PCA(2).fit(rows)
    np.testing.assert_allclose(model.mean_, rows.mean(0), atol=1e-5)
    np.testing.assert_allclose(model.explained_variance_ratio_, pca.explained_variance_ratio_, rtol=1e-4)
    np.testing.assert_allclose(model.singular_values_, pca.singular_values_, rtol=1e-4)
