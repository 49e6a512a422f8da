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
from isthmus.training.engines.cuda_graphs import WARM_UP, RecordedStep
from isthmus.training.engines.general import GeneralEngine

CONTEXT = Context((6,), code_size=2, lower=0.0, upper=1.0)
BATCHES = torch.rand(8, 5, 6, generator=torch.Generator().manual_seed(0))
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")


def engine(**chosen: Any) -> GeneralEngine:
    torch.manual_seed(0)
    parts: dict[str, Any] = {"network": Dense((4,)), "code": Plain(), "loss": BinaryCrossEntropy()}
    return GeneralEngine.of(Job(Objective(Choices(**(parts | chosen)), CONTEXT), Adam(), n_rows=5))


def recorded(plain: GeneralEngine, tape: Tape) -> RecordedStep:
    return RecordedStep(plain.step, torch.empty(5, 6), tape)


class Tape:
    """Does again what it was given, as a graph does: on the buffers that the work was recorded with."""

    def __init__(self) -> None:
        self.n_recorded, self.n_replayed = 0, 0

    def warm_up(self, work: Callable[[], LossParts]) -> LossParts:
        return work()

    def record(
        self, work: Callable[[], LossParts], generator: torch.Generator | None
    ) -> tuple[Callable[[], object], LossParts]:
        self.n_recorded += 1

        def replay() -> None:
            self.n_replayed += 1
            work()

        return replay, LossParts(*torch.zeros(4).unbind())


class Refusing(Tape):
    def record(
        self, work: Callable[[], LossParts], generator: torch.Generator | None
    ) -> tuple[Callable[[], object], LossParts]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")


def train(run: Callable[..., LossParts], noise: torch.Generator) -> Tensor:
    batches = [*BATCHES, BATCHES[0][:3], BATCHES[1]]
    return torch.tensor([float(run(x, 0.01 / (1 + i), noise).total.detach()) for i, x in enumerate(batches)])


def test_a_recorded_step_trains_as_the_step_does() -> None:
    plain, again, tape = engine(corruption=GaussianNoise(0.1)), engine(corruption=GaussianNoise(0.1)), Tape()
    losses = [train(run, torch.Generator().manual_seed(1)) for run in (plain.step, recorded(again, tape))]
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(plain.flat.values, again.flat.values)
    assert (tape.n_recorded, tape.n_replayed) == (1, 9 - WARM_UP)


def test_a_step_that_cannot_be_recorded_is_taken_without() -> None:
    refused = recorded(engine(), Refusing())
    expected = train(engine().step, torch.Generator())
    with pytest.warns(
        UserWarning, match="cannot be captured as a CUDA graph and runs without: operation not permitted"
    ):
        losses = train(refused, torch.Generator())
    torch.testing.assert_close(losses, expected)


def test_only_steps_on_cuda_are_recorded() -> None:
    made = engine(code=Gaussian(warm_up=0.5))
    assert made._step == made.step


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
    monkeypatch.setattr("isthmus.training.engines.general.RecordedStep", lambda step, rows, recorder: step)
    np.testing.assert_allclose(by_graph, model.fit(digits).history_["loss"], rtol=1e-3)
