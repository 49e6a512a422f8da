"""Models fitted together are those fitted one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid

import isthmus
from isthmus import L1, Adam, AdamW, Autoencoder, Callback, Dense, Gaussian, GaussianNoise, MaxSteps, fit_many
from isthmus.training import Run
from isthmus.training.engines.compiled import engine, refusals
from isthmus.training.parallel_runs import Team

GRIDS: dict[str, dict[str, list[Any]]] = {
    "seeds": {"random_state": [0, 1, 2]},
    "learning rates": {"learning_rate": [0.001, 0.003]},
    "penalties": {"penalty": [None, L1(1e-3), L1(1e-2)]},
    "noises": {"corruption": [None, GaussianNoise(0.1), GaussianNoise(0.5)]},
    "code sizes": {"code_size": [2, 3, 7], "random_state": [0, 1]},
    "codes": {"code": ["plain", Gaussian(), Gaussian(warm_up=0.5)]},
    "losses": {"loss": ["binary-cross-entropy", "mean-squared-error", "huber"]},
    "epochs": {"max_epochs": [1, 3, 4]},
    "optimisers": {"optimizer": [Adam(), AdamW()]},
}


@pytest.fixture
def base() -> Autoencoder:
    return Autoencoder(3, network=(16, 8), batch_size=64, learning_rate=0.002, max_epochs=3, random_state=0)


def together(
    model: Autoencoder, X: np.ndarray, grid: Any, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[Autoencoder], int]:
    """The models and how many of them took their steps in a team."""
    sizes, begin = [], Team.__init__

    def counted(team: Team, runs: Any) -> None:
        sizes.append(len(runs))
        begin(team, runs)

    monkeypatch.setattr(Team, "__init__", counted)
    return fit_many(model, X, grid), max(sizes, default=0)


@pytest.fixture
def compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    """However short a run is, it is compiled."""
    monkeypatch.setattr(refusals, "WORTH", 0.0)


@pytest.mark.usefixtures("compiling")
@pytest.mark.parametrize("name", GRIDS)
def test_models_fitted_together_are_exactly_those_fitted_one_by_one(
    base: Autoencoder, digits: np.ndarray, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "OPERATIONS_AT_ONCE", 1e6)  # several times an epoch
    models, n_together = together(base, digits, GRIDS[name], monkeypatch)
    points = list(ParameterGrid(GRIDS[name]))
    assert n_together == len(points) == len(models)
    for model, point in zip(models, points, strict=True):
        alone = clone(base).set_params(**point).fit(digits)
        assert model.stop_reason_ == alone.stop_reason_
        np.testing.assert_array_equal(model.history_["loss"], alone.history_["loss"])
        np.testing.assert_array_equal(model.transform(digits), alone.transform(digits))


@pytest.mark.usefixtures("compiling")
def test_early_stopping_ends_each_on_its_own(
    base: Autoencoder, digits: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    # one-cycle counts patience only where the rate falls; at 0.2 the code collapses, and rounding decides what is left
    base = base.set_params(max_epochs=30, early_stopping=2, min_delta=0.002, schedule="constant", random_state=1)
    grid = {"learning_rate": [0.0005, 0.02, 0.05]}
    models, n_together = together(base, digits, grid, monkeypatch)
    assert n_together == 3
    alone = [clone(base).set_params(learning_rate=rate).fit(digits) for rate in grid["learning_rate"]]
    assert len({model.n_epochs_ for model in alone}) > 1
    assert [model.n_epochs_ for model in models] == [model.n_epochs_ for model in alone]
    for model, other in zip(models, alone, strict=True):
        np.testing.assert_array_equal(model.transform(digits[:50]), other.transform(digits[:50]))


def test_what_cannot_go_together_is_fitted_one_by_one(
    base: Autoencoder, digits: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = [
        {"network": [(16, 8), (4,), Dense((16, 8), tied=True)]},
        {"batch_size": [32]},
        {"callbacks": [(MaxSteps(3),)]},
    ]
    models, n_together = together(base, digits, grid, monkeypatch)
    assert n_together == 0
    assert [model.n_epochs_ for model in models] == [3, 3, 3, 3, 1]


def test_models_share_the_rows_they_have_in_common(base: Autoencoder, digits: np.ndarray) -> None:
    seen: list[int] = []

    class Look(Callback):
        def on_epoch_end(self, run: Run) -> None:
            seen.append(run.train.rows.data_ptr())  # type: ignore[attr-defined]

    fit_many(base.set_params(callbacks=(Look(),)), digits, {"random_state": [0, 1, 2]})
    assert len(seen) == 9
    assert len(set(seen)) == 1


@pytest.mark.usefixtures("compiling")
def test_a_team_can_be_interrupted(base: Autoencoder, digits: np.ndarray) -> None:
    class Interrupt(Callback):
        def on_epoch_end(self, run: Run) -> None:
            if run.epoch == 2:
                raise KeyboardInterrupt

    base = base.set_params(callbacks=(Interrupt(),))
    with pytest.warns(UserWarning, match="interrupted"):
        models = fit_many(base, digits, {"random_state": [0, 1]})
    assert {model.stop_reason_ for model in models} == {"interrupted"}


def test_the_estimator_stays_as_it_is(base: Autoencoder, digits: np.ndarray) -> None:
    before = base.get_params()
    models = fit_many(base, digits[:200], {"random_state": [5]}, X_val=digits[200:300])
    assert base.get_params() == before
    assert not hasattr(base, "objective_")
    assert "val_loss" in models[0].history_.columns


def test_nothing_is_trained_where_one_point_cannot_be_used(base: Autoencoder, digits: np.ndarray) -> None:
    with pytest.raises(ValueError, match="learning_rate"):
        fit_many(base, digits[:300], {"learning_rate": [0.1, -1.0]})


@pytest.mark.usefixtures("compiling")
def test_fitted_together_a_model_is_saved_and_trained_further(
    base: Autoencoder, digits: np.ndarray, tmp_path: Any
) -> None:
    model = fit_many(base, digits, {"random_state": [0, 1]})[1]
    loaded = isthmus.load(model.save(tmp_path / "m.safetensors"))
    np.testing.assert_array_equal(loaded.transform(digits[:50]), model.transform(digits[:50]))
    before = model.score(digits)
    assert model.partial_fit(digits).score(digits) > before - 0.01
    assert torch.is_tensor(next(iter(model.objective_.parameters())))
