"""Compiled steps beside those of the general path."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from isthmus import ByColumn, Dense, Huber, MeanAbsoluteError, MeanSquaredError, Normal, Poisson
from isthmus.choices import CORRUPTIONS, LOSSES, Context, Plain
from isthmus.training import Adam, Choices, Objective
from isthmus.training.compiled.engine import StepChunk
from isthmus.training.steps import Step

FOREVER = 10**9
LOSS: dict[str, Any] = {
    "bernoulli": "binary-cross-entropy",
    "squares": MeanSquaredError(activation=None),
    "squares of sigmoids": MeanSquaredError(activation="sigmoid"),
    "squares of tanh": MeanSquaredError(activation="tanh"),
    "absolute": MeanAbsoluteError(activation=None),
    "huber": Huber(delta=0.2, activation="sigmoid"),
    "poisson": Poisson(),
    "normal": Normal(0.3),
    "normal of learned scale": Normal(),
    "by column": ByColumn((("normal", 4), ("binary-cross-entropy", 9), ("mean-absolute-error", 7))),
}


def objective(
    n_features: int = 20, sizes: tuple[int, ...] = (9,), code_size: int = 3, loss: Any = "bernoulli", **chosen: Any
) -> Objective:
    """An objective of these sizes."""
    context = Context((n_features,), code_size, 0.0, 1.0)
    plain = {"network": Dense(sizes, activation=chosen.pop("activation", "relu")), "code": Plain()} | chosen
    if "corruption" in plain:
        plain["corruption"] = CORRUPTIONS.resolve(plain["corruption"])
    choices = Choices(loss=LOSSES.resolve(LOSS.get(loss, loss)), **plain).resolve(context)
    torch.manual_seed(0)
    return Objective(choices, context).train()


def rows(n_rows: int, n_features: int = 20) -> Tensor:
    """Rows between zero and one."""
    return torch.rand(n_rows, n_features, generator=torch.Generator().manual_seed(1))


def step_chunk(x: Tensor, order: Tensor, rates: list[float]) -> StepChunk:
    """Steps that draw nothing."""
    return StepChunk(x, x, order, len(order) // len(rates), rates, [0.0] * len(rates), torch.zeros(len(rates)).long())


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
            parts = [step(batch, 0.1, None) for step in (compiled, general)]
            torch.testing.assert_close(torch.stack(parts[0]), torch.stack(parts[1]).detach(), rtol=2e-5, atol=1e-6)
    finally:
        torch.set_num_threads(before)
    after, wanted = compiled.flat.portable(compiled.flat.values), general.flat.portable(general.flat.values)
    way = float((wanted - general.flat.portable(start)).abs().max())
    torch.testing.assert_close(after, wanted, rtol=1e-6, atol=2e-5 * way)
    assert compiled.state["step"] == general.state["step"]
    for name in ("exp_avg", "exp_avg_sq"):
        one, other = (step.flat.portable(step.state[name]) for step in (compiled, general))
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-5 * float(other.abs().max()))
