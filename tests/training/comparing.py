"""Compiled steps beside those of the general engine."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from isthmus import ByColumn, Dense, Huber, MeanAbsoluteError, MeanSquaredError, Normal, Poisson
from isthmus.choices import CORRUPTIONS, LOSSES, Context, Plain
from isthmus.training import Adam, Choices, LossParts, Objective
from isthmus.training.engines import Engine, Job, StepChunk
from isthmus.training.engines.compiled.engine import CompiledEngine
from isthmus.training.engines.general import GeneralEngine

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


def job(made: Objective, optimizer: Any = None, n_rows: int = 1, precision: str = "float32") -> Job:
    """A run that is long enough to be compiled."""
    return Job(made, optimizer or Adam(), precision, n_rows, FOREVER)


def compiled_engine(made: Objective, optimizer: Any = None, n_rows: int = 1) -> CompiledEngine:
    """The compiled engine of a copy of an objective, which it must not refuse."""
    asked = job(copy.deepcopy(made), optimizer, n_rows)
    assert CompiledEngine.refuses(asked) is None
    return CompiledEngine.of(asked)


def general_engine(made: Objective, optimizer: Any = None, n_rows: int = 1) -> GeneralEngine:
    """The general engine of a copy of an objective."""
    return GeneralEngine.of(job(copy.deepcopy(made), optimizer, n_rows))


def step_chunk(x: Tensor, order: Tensor, rates: list[float]) -> StepChunk:
    """Steps that draw nothing."""
    return StepChunk(x, order, len(order) // len(rates), rates, [1.0] * len(rates), None)


def one_step(engine: Engine, x: Tensor, rate: float, seed: int | None = None, progress: float = 1.0) -> LossParts:
    """One step on all rows."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    order = torch.arange(len(x))
    return LossParts(*engine.take(StepChunk(x, order, len(x), [rate], [progress], generator))[0].unbind())


def compare(made: Objective, x: Tensor, optimizer: Any = None, n_threads: int = 1) -> None:
    """Four steps, the last on fewer rows, move the parameters as the general engine does, to 2e-5 of the way."""
    optimizer = optimizer or Adam(epsilon=1.0)  # with which a step is nearly proportional to the gradient
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(n_threads)
        compiled, general = compiled_engine(made, optimizer, len(x)), general_engine(made, optimizer, len(x))
        start = general.flat.values.detach().clone()
        for batch in (x, x.flip(0), x[: len(x) // 2], x[:1]):
            parts = [one_step(engine, batch, 0.1) for engine in (compiled, general)]
            torch.testing.assert_close(torch.stack(parts[0]), torch.stack(parts[1]), rtol=2e-5, atol=1e-6)
    finally:
        torch.set_num_threads(before)
    after, wanted = compiled.flat.portable(compiled.flat.values), general.flat.portable(general.flat.values)
    way = float((wanted - general.flat.portable(start)).abs().max())
    torch.testing.assert_close(after, wanted, rtol=1e-6, atol=2e-5 * way)
    assert compiled.state["step"] == general.state["step"]
    for name in ("exp_avg", "exp_avg_sq"):
        one, other = (engine.flat.portable(engine.state[name]) for engine in (compiled, general))
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-5 * float(other.abs().max()))
