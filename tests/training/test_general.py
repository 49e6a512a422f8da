"""The general engine: any objective, by autograd."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.training.comparing import general_engine, objective, one_step, rows
from torch import Tensor, nn

import isthmus
from isthmus import Autoencoder, TopK
from isthmus.training import Adam, onednn
from isthmus.training.engines import StepChunk
from isthmus.training.engines.compiled import refusals
from isthmus.training.engines.compiled.dense_layers import is_chain


def test_vanishing_running_means_are_set_to_zero() -> None:
    engine = general_engine(objective())
    for _ in range(128):
        engine.state["exp_avg"][0], engine.state["exp_avg"][1] = 1e-33, 1e-20
        assert engine.fused is not None
        engine.fused(engine.flat.values.detach(), torch.zeros_like(engine.flat.values), engine.state, 0.0)
    assert float(engine.state["exp_avg"][0]) == 0.0
    assert float(engine.state["exp_avg"][1]) > 0.0


def test_without_its_fused_kernel_adam_trains_the_same(digits: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    fused = Autoencoder(4, max_epochs=3, random_state=0).fit(digits)
    monkeypatch.setattr(Adam, "kernel", "_no_such_kernel")
    by_torch = Autoencoder(4, max_epochs=3, random_state=0).fit(digits)
    np.testing.assert_allclose(fused.history_["loss"], by_torch.history_["loss"], rtol=1e-5)


def test_a_step_moves_weights_as_plain_torch_does() -> None:
    made, x = objective(), rows(8)
    engine = general_engine(made, n_rows=8)
    plain = torch.optim.Adam(made.parameters(), lr=0.01)
    for _ in range(3):
        parts = one_step(engine, x, 0.01)
        plain.zero_grad()
        loss = made(x).total
        loss.backward()
        plain.step()
        torch.testing.assert_close(parts.total, loss.detach())
    for mine, theirs in zip(engine.objective.parameters(), made.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_many_steps_at_once_are_the_same_steps() -> None:
    made, x = objective(corruption="masking"), rows(20)
    ends = []
    for at_once in (1, 3):
        engine, generator = general_engine(made, n_rows=8), torch.Generator().manual_seed(0)
        chunk = torch.arange(20)
        parts = [engine.take(_chunk(x, part, generator)) for part in chunk.split(8 * at_once)]
        ends.append((torch.cat(parts), engine.flat.values.detach().clone()))
    assert torch.equal(ends[0][0], ends[1][0])
    assert torch.equal(ends[0][1], ends[1][1])
    assert ends[0][0].shape == (3, 4)


def _chunk(x: Tensor, order: Tensor, generator: torch.Generator) -> Any:
    n_steps = -(-len(order) // 8)
    return StepChunk(x, order, 8, [0.01] * n_steps, [1.0] * n_steps, generator)


def test_a_model_says_which_engine_trained_it_and_why(
    digits: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Autoencoder(4, code=TopK(2), max_epochs=1, random_state=0).fit(digits)
    told = "general (compiled: the code TopK has no formula with these parameters)"
    assert model.describe()["engine"] == str(model.engine_) == told
    assert "Trained by the general engine (compiled: the code TopK has no formula" in str(model.summary())
    loaded = isthmus.load(model.save(tmp_path / "model"))
    assert loaded.engine_ == model.engine_
    assert loaded.describe() == model.describe()
    monkeypatch.setattr(refusals, "WORTH", -1.0)
    other = Autoencoder(4, max_epochs=1, random_state=0).fit(digits)
    assert other.describe()["engine"] == "compiled"
    assert str(other.summary()).endswith("Trained by the compiled engine.")
    monkeypatch.setattr(refusals, "WORTH", math.inf)
    assert other.partial_fit(digits).engine_.name == "general"
    assert "engine" not in Autoencoder(4).describe()


def test_only_linear_layers_with_known_activations_are_chains() -> None:
    assert is_chain(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)))
    assert is_chain(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2), nn.GELU()))
    assert not is_chain(nn.Sequential(nn.Linear(2, 3), nn.Dropout(), nn.Linear(3, 2)))
    assert not is_chain(nn.Sequential(nn.ReLU(), nn.Linear(3, 2)))
    assert not is_chain(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.ReLU()))
    assert not is_chain(nn.Sequential(nn.Linear(2, 3, bias=False)))
    assert not is_chain(nn.Linear(2, 2))
    assert not is_chain(nn.Sequential(nn.Linear(2, 3), nn.GELU(approximate="tanh"), nn.Linear(3, 2)))


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch is without oneDNN")
@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", None])
@pytest.mark.parametrize("is_large", [True, False])
def test_what_is_only_applied_goes_to_onednn(
    activation: str | None, is_large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def linear(*given: Any) -> Tensor:
        calls.append(given)
        out: Tensor = torch.ops.mkldnn._linear_pointwise.default(*given)
        return out

    monkeypatch.setattr(onednn, "onednn_linear", lambda: linear)
    monkeypatch.setattr(onednn, "prefers_onednn", lambda weight, n_rows: is_large)
    network, x = objective(300, (120, 5), activation=activation).encoder, torch.rand(64, 300)
    with torch.inference_mode():
        torch.testing.assert_close(onednn.through(network, x), network(x), rtol=1e-5, atol=1e-6)
    assert len(calls) == (3 if is_large else 0)
    seen: list[Any] = []
    list(network.children())[-1].register_forward_hook(lambda *given: seen.append(given))
    with torch.inference_mode():
        onednn.through(network, x)
    assert len(seen) == 1  # hooks see every layer
    onednn.through(network, x)  # where something may be learned
    assert len(calls) == (3 if is_large else 0)
