"""Large products go to another matrix library where that is faster, and the numbers do not change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from isthmus.training import onednn

OPERATION: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
pytestmark = pytest.mark.skipif(OPERATION is None, reason="this torch has no linear layer of oneDNN")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Take oneDNN for every product, on any processor; the number of calls."""
    counted: list[int] = []

    def linear(*arguments: object) -> torch.Tensor:
        counted.append(1)
        answer: torch.Tensor = OPERATION.default(*arguments)
        return answer

    monkeypatch.setattr(onednn, "onednn_linear", lambda: linear)
    monkeypatch.setattr(onednn, "LEARNED_PRODUCT", 0.0)
    monkeypatch.setattr(onednn, "SHARED_PRODUCT", 0.0)
    monkeypatch.setattr(onednn, "LARGE_PRODUCT", 0.0)
    return counted


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 20), nn.Tanh(), nn.Linear(20, 31, bias=False))


def test_values_and_gradients_are_those_of_torch(calls: list[int]) -> None:
    ours, theirs = network(), network()
    x = torch.randn(17, 12, generator=torch.Generator().manual_seed(1))
    given = x.clone().requires_grad_(), x.clone().requires_grad_()
    for output in (onednn.through(ours, given[0]), theirs(given[1])):
        output.square().sum().backward()
    assert len(calls) == 2
    torch.testing.assert_close(given[0].grad, given[1].grad, rtol=1e-5, atol=1e-5)
    for mine, wanted in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, wanted.grad, rtol=1e-5, atol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(onednn.through(ours, x), theirs(x), rtol=1e-5, atol=1e-5)


def test_gradients_of_gradients_are_those_of_torch(calls: list[int]) -> None:
    x = torch.randn(5, 12, generator=torch.Generator().manual_seed(1))
    found = []
    ways: list[Callable[[nn.Sequential, torch.Tensor], torch.Tensor]] = [onednn.through, lambda net, rows: net(rows)]
    for apply in ways:
        made, rows = network(), x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(apply(made, rows).square().sum(), rows, create_graph=True)
        slope.square().sum().backward()
        found.append(made[0].get_parameter("weight").grad)
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)
    assert calls


def test_hooks_half_precision_and_other_networks_are_left_alone(calls: list[int]) -> None:
    x, watched = torch.randn(5, 12), network()
    seen: list[int] = []
    watched[0].register_forward_hook(lambda *_: seen.append(1))
    onednn.through(watched, x)
    onednn.through(nn.Linear(12, 3), x)
    onednn.through(network().double(), x.double())
    with torch.autocast("cpu", torch.bfloat16):
        assert onednn.through(network(), x).dtype == torch.bfloat16
    assert seen == [1]
    assert not calls
