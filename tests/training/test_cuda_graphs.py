"""Steps that are recorded once and replayed: by a recorder that plays on the CPU, and on CUDA where there is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from isthmus import Autoencoder, GaussianNoise
from isthmus.choices import BinaryCrossEntropy, Context, Dense, Gaussian, Plain
from isthmus.training import Adam, Choices, LossParts, Objective
from isthmus.training.devices import precision_for
from isthmus.training.engines import Job
from isthmus.training.engines.cuda_graphs import WARM_UP, RecordedSteps
from isthmus.training.engines.general import GeneralEngine

CONTEXT = Context((6,), code_size=2, lower=0.0, upper=1.0)
BATCHES = torch.rand(8, 5, 6, generator=torch.Generator().manual_seed(0))
N_AT_ONCE = 4
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")


def engine(**chosen: Any) -> GeneralEngine:
    torch.manual_seed(0)
    parts: dict[str, Any] = {"network": Dense((4,)), "code": Plain(), "loss": BinaryCrossEntropy()}
    return GeneralEngine.of(Job(Objective(Choices(**(parts | chosen)), CONTEXT), Adam(), n_rows=5))


def recorded(plain: GeneralEngine, tape: Tape) -> RecordedSteps:
    return RecordedSteps(plain.step, torch.empty(N_AT_ONCE, 5, 6), tape)


class Tape:
    """Does again what it was given, as a graph does: on the buffers that the work was recorded with."""

    def __init__(self) -> None:
        self.n_recorded, self.n_replayed = 0, 0

    def warm_up(self, work: Callable[[], LossParts]) -> LossParts:
        return work()

    def record(self, work: Callable[[], None], generator: torch.Generator | None) -> Callable[[], object]:
        self.n_recorded += 1

        def replay() -> None:
            self.n_replayed += 1
            work()

        return replay


class Refusing(Tape):
    def record(self, work: Callable[[], None], generator: torch.Generator | None) -> Callable[[], object]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")


CHUNKS = (
    torch.cat([*BATCHES[:4]]),  # warm-up, then by the graph of one step
    torch.cat([*BATCHES[4:]]),  # by the graph of four
    torch.cat([BATCHES[0], BATCHES[1], BATCHES[2], BATCHES[3][:3]]),  # the last is short: one by one
    torch.cat([*BATCHES[1:3]]),
    torch.cat([*BATCHES[2:6]]),
)


def rates(chunk: int) -> list[float]:
    return [0.01 / (1 + chunk + step) for step in range(-(-len(CHUNKS[chunk]) // 5))]


def plainly(made: GeneralEngine, noise: torch.Generator) -> Tensor:
    steps = [(x, rate) for i, rows in enumerate(CHUNKS) for x, rate in zip(rows.split(5), rates(i), strict=True)]
    return torch.stack([torch.stack(made.step(x, rate, noise)).detach() for x, rate in steps])


def by_graphs(run: RecordedSteps, noise: torch.Generator) -> Tensor:
    return torch.cat([run(rows, rates(i), noise) for i, rows in enumerate(CHUNKS)])


def test_recorded_steps_train_as_the_step_does() -> None:
    plain, again, tape = engine(corruption=GaussianNoise(0.1)), engine(corruption=GaussianNoise(0.1)), Tape()
    expected = plainly(plain, torch.Generator().manual_seed(1))
    torch.testing.assert_close(by_graphs(recorded(again, tape), torch.Generator().manual_seed(1)), expected)
    torch.testing.assert_close(plain.flat.values, again.flat.values)
    singles = (4 - WARM_UP) + 3 + 2
    assert (tape.n_recorded, tape.n_replayed) == (2, singles + 2)  # a replay of four is one


def test_a_step_that_cannot_be_recorded_is_taken_without() -> None:
    refused = recorded(engine(), Refusing())
    expected = plainly(engine(), torch.Generator())
    with pytest.warns(
        UserWarning, match="cannot be captured as a CUDA graph and runs without: operation not permitted"
    ):
        losses = by_graphs(refused, torch.Generator())
    torch.testing.assert_close(losses, expected)


def test_only_steps_on_cuda_are_recorded() -> None:
    made = engine(code=Gaussian(warm_up=0.5))
    assert made.recorded is None


@pytest.mark.parametrize(("name", "expected"), [("tf32", "tf32"), ("float32", "ieee"), ("bf16", "ieee")])
def test_the_precision_is_set_and_put_back(name: str, expected: str) -> None:
    before = torch.backends.cuda.matmul.fp32_precision
    with precision_for(name, torch.device("cuda")):
        assert torch.backends.cuda.matmul.fp32_precision == expected
    assert torch.backends.cuda.matmul.fp32_precision == before


@needs_cuda
@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
@pytest.mark.parametrize("kind", ["plain", "noisy", "variational"])
def test_a_graph_trains_as_the_eager_step_does(
    digits: np.ndarray, kind: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    more: dict[str, Any] = {"plain": {}, "noisy": {"corruption": "gaussian-noise"}, "variational": {"code": "gaussian"}}
    model = Autoencoder(4, max_epochs=3, random_state=0, device="cuda", precision=precision, **more[kind])
    by_graph = model.fit(digits).history_["loss"]
    monkeypatch.setattr("isthmus.training.engines.general.RecordedSteps", lambda step, rows, recorder: None)
    np.testing.assert_allclose(by_graph, model.fit(digits).history_["loss"], rtol=1e-3)
