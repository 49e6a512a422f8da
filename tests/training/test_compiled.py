"""Compiled steps against the general path, for every activation, loss, optimiser, size and number of threads."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from isthmus import Autoencoder, Callback, Dense, Huber, MeanAbsoluteError, MeanSquaredError
from isthmus.choices import CODES, LOSSES, PENALTIES, Context, Contractive, Plain
from isthmus.training import Adam, AdamW, Choices, Objective
from isthmus.training.compiled import running
from isthmus.training.compiled.running import Stretch
from isthmus.training.products import SLOPES
from isthmus.training.steps import Step

program = pytest.importorskip("isthmus.training.compiled.program", reason="llvmlite is not installed")
passes = pytest.importorskip("isthmus.training.compiled.passes")
formulas = pytest.importorskip("isthmus.training.compiled.formulas")

FOREVER = 10**9
LOSS: dict[str, Any] = {
    "bernoulli": "binary-cross-entropy",
    "squares": MeanSquaredError(activation=None),
    "squares of sigmoids": MeanSquaredError(activation="sigmoid"),
    "squares of tanh": MeanSquaredError(activation="tanh"),
    "absolute": MeanAbsoluteError(activation=None),
    "huber": Huber(delta=0.2, activation="sigmoid"),
}
MACHINES = {"widest": {}, "eight": {"width": 8, "rows": 4}, "four": {"width": 4, "rows": 8}}


def objective(
    n_features: int = 20, sizes: tuple[int, ...] = (9,), code_size: int = 3, loss: Any = "bernoulli", **chosen: Any
) -> Objective:
    """An objective of these sizes."""
    context = Context((n_features,), code_size, 0.0, 1.0)
    plain = {"network": Dense(sizes, activation=chosen.pop("activation", "relu")), "code": Plain()} | chosen
    choices = Choices(loss=LOSSES.resolve(LOSS.get(loss, loss)), **plain).resolve(context)
    torch.manual_seed(0)
    return Objective(choices, context).train()


def rows(n_rows: int, n_features: int = 20) -> Tensor:
    """Rows between zero and one."""
    return torch.rand(n_rows, n_features, generator=torch.Generator().manual_seed(1))


def compare(made: Objective, x: Tensor, optimizer: Any = None, n_threads: int = 1) -> None:
    """Four steps, the last on fewer rows, move the parameters as the general path does, to 2e-5 of the way."""
    optimizer = optimizer or Adam(epsilon=1.0)  # with which a step is nearly proportional to the gradient
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(n_threads)
        compiled = Step(made, optimizer, n_rows=len(x), n_steps=FOREVER)
        general = Step(copy.deepcopy(made), optimizer, n_rows=1)
        assert compiled.compiled is not None
        assert general.compiled is None
        general.explicit = None
        start = general.flat.values.detach().clone()
        for batch in (x, x.flip(0), x[: len(x) // 2], x[:1]):
            losses = [step(batch, 0.1, None).total for step in (compiled, general)]
            torch.testing.assert_close(losses[0], losses[1].detach(), rtol=2e-5, atol=1e-6)
    finally:
        torch.set_num_threads(before)
    after, wanted = compiled.flat.portable(compiled.flat.values), general.flat.portable(general.flat.values)
    way = float((wanted - general.flat.portable(start)).abs().max())
    torch.testing.assert_close(after, wanted, rtol=1e-6, atol=2e-5 * way)
    for name in ("step", "exp_avg", "exp_avg_sq"):
        one, other = compiled.state[name], general.state[name]
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-5 * float(other.abs().max()))


@pytest.fixture(params=MACHINES)
def each_machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs as they are written for processors with narrower registers, too."""
    narrow = program.machine()._replace(**MACHINES[request.param])
    monkeypatch.setattr(program, "machine", lambda: narrow)
    program.program_for.cache_clear()


@pytest.mark.usefixtures("each_machine")
@pytest.mark.parametrize("loss", LOSS)
def test_every_loss(loss: str) -> None:
    compare(objective(loss=loss), rows(11))


@pytest.mark.usefixtures("each_machine")
@pytest.mark.parametrize("activation", ["gelu", "silu", "sigmoid", "tanh", None])
def test_every_activation(activation: str | None) -> None:
    compare(objective(activation=activation, code=Plain(activation)), rows(11))


@pytest.mark.usefixtures("each_machine")
@pytest.mark.parametrize(("n_features", "sizes", "code_size"), [(1, (), 1), (16, (40,), 2), (67, (5, 33), 17)])
def test_every_size(n_features: int, sizes: tuple[int, ...], code_size: int) -> None:
    compare(objective(n_features, sizes, code_size), rows(16, n_features))


@pytest.mark.parametrize("optimizer", [Adam(beta1=0.5, epsilon=1.0), AdamW(0.3, beta2=0.9, epsilon=1.0)])
def test_every_optimiser(optimizer: Any) -> None:
    compare(objective(), rows(6), optimizer)


def test_rows_wider_than_a_logarithm_may_wait() -> None:
    compare(objective(16 * passes.LOGARITHM_EVERY + 5), rows(4, 16 * passes.LOGARITHM_EVERY + 5))


def test_threads_change_nothing() -> None:
    made, ends = objective(300, (120, 40)), []
    x = rows(50, 300)
    for n_threads in (1, 2, 3, 4):
        step = Step(copy.deepcopy(made), Adam(), n_rows=16, n_steps=FOREVER)
        assert step.compiled is not None
        step.compiled.operations = 1e9  # so that it is worth the threads
        before = torch.get_num_threads()
        torch.set_num_threads(n_threads)
        losses = step.take(Stretch(x, x, torch.arange(48), 16, [0.01] * 3))
        torch.set_num_threads(before)
        ends.append((losses, step.flat.values.detach().clone()))
    for losses, values in ends[1:]:
        assert torch.equal(losses, ends[0][0])
        assert torch.equal(values, ends[0][1])


def test_many_steps_at_once_are_the_same_steps() -> None:
    made, x = objective(), rows(50)
    order, rates = torch.randperm(50, generator=torch.Generator().manual_seed(0))[:48], [0.01, 0.02, 0.03]
    one, other = (Step(copy.deepcopy(made), AdamW(), n_rows=16, n_steps=FOREVER) for _ in range(2))
    at_once = one.take(Stretch(x, x, order, 16, rates))
    single = [other.take(Stretch(x, x, part, 16, [rate]))[0] for part, rate in zip(order.split(16), rates, strict=True)]
    assert torch.equal(at_once, torch.stack(single))
    assert torch.equal(one.flat.values, other.flat.values)


def test_what_is_no_number_is_not_lost() -> None:
    for loss, activation in zip(LOSS, ("relu", "gelu", "silu", "sigmoid", "tanh", "relu"), strict=True):
        x = rows(9)
        x[4, 7] = torch.nan
        step = Step(objective(loss=loss, activation=activation), Adam(), n_rows=9, n_steps=FOREVER)
        assert bool(step(x, 0.01, None).total.isnan())


def test_silent_units_leave_nothing_denormal() -> None:
    step = Step(objective(), Adam(), n_rows=8, n_steps=FOREVER)
    step.state["exp_avg"].fill_(2e-38)
    step.state["exp_avg_sq"].fill_(2e-38)
    step(torch.zeros(8, 20), 0.0, None)
    for name in ("exp_avg", "exp_avg_sq"):
        means = step.state[name].abs()
        assert float(means[means > 0].min()) > 1e-31


@pytest.mark.parametrize(
    "chosen",
    [
        {"penalty": PENALTIES.resolve("l1")},
        {"penalty": Contractive()},
        {"code": CODES.resolve("gaussian")},
        {"loss": "poisson"},
        {"activation": "elu"},
        {"network": Dense((6,), tied=True)},
    ],
)
def test_the_rest_takes_the_other_paths(chosen: dict[str, Any]) -> None:
    assert Step(objective(**chosen), Adam(), n_rows=8, n_steps=FOREVER).compiled is None


def test_so_do_clipped_gradients_short_runs_and_those_who_do_not_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Step(objective(), Adam(clip_norm=1.0), n_rows=8, n_steps=FOREVER).compiled is None
    assert Step(objective(), Adam(), n_rows=8, n_steps=10).compiled is None
    assert Step(objective(), Adam(), precision="bf16", n_rows=8, n_steps=FOREVER).compiled is None
    monkeypatch.setenv("ISTHMUS_COMPILE", "0")
    assert Step(objective(), Adam(), n_rows=8, n_steps=FOREVER).compiled is None


class EveryStep(Callback):
    """Counts steps, one at a time."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_step_end(self, run: Any) -> None:
        self.steps.append(run.step)


@pytest.mark.parametrize("chosen", [{}, {"corruption": "masking"}, {"callbacks": [EveryStep()]}])
def test_a_fit_ends_where_it_does_without(
    digits: np.ndarray, monkeypatch: pytest.MonkeyPatch, chosen: dict[str, Any]
) -> None:
    ends, settings = {}, {"max_epochs": 5, "random_state": 0, "batch_size": 100} | chosen
    for seconds in (0.0, float("inf")):
        monkeypatch.setattr(running, "WORTH", seconds)
        ends[seconds] = Autoencoder(4, **settings).fit(digits)
    compiled, general = ends.values()
    np.testing.assert_allclose(compiled.history_["loss"], general.history_["loss"], rtol=1e-4)
    np.testing.assert_allclose(compiled.transform(digits), general.transform(digits), atol=0.02)
    if "callbacks" in chosen:
        assert chosen["callbacks"][0].steps == 2 * list(range(1, 5 * 3 + 1))


def test_every_activation_that_has_a_slope_is_written() -> None:
    assert set(formulas.ACTIVATIONS) == {kind.__name__ for kind in SLOPES}
