"""The backward pass by hand against autograd, for every network, code, penalty, corruption and loss."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from isthmus import Autoencoder, ByColumn, Dense, Gaussian, Normal, TopK
from isthmus.choices import CODES, CORRUPTIONS, LOSSES, PENALTIES, Context, Contractive, Plain
from isthmus.choices.layers import ACTIVATIONS
from isthmus.training import Adam, Choices, Objective, chains
from isthmus.training.chains import is_chain
from isthmus.training.explicit import is_explicit
from isthmus.training.steps import Step

CONTEXT = Context((12,), 3, 0.0, 1.0)
X = (torch.rand(9, 12, generator=torch.Generator().manual_seed(0)) > 0.5).float()
NETWORKS = {
    "one layer": Dense(()),
    "deep": Dense((8, 5)),
    "asymmetric": Dense((8,), decoder_sizes=(4, 6, 7)),
    **{activation: Dense((6,), activation=activation) for activation in ACTIVATIONS},
}
LOSS: dict[str, Any] = {name: LOSSES.resolve(name) for name in LOSSES.names()}
LOSS["by-column"] = ByColumn((("normal", 4), ("binary-cross-entropy", 2), ("categorical-cross-entropy", 6)))
LOSS["normal, fixed"] = Normal(0.5)
CODE: dict[str, Any] = {name: CODES.resolve(name) for name in CODES.names()} | {
    "top-k": TopK(2),
    "sigmoid": Plain("sigmoid"),
    "free bits": Gaussian(beta=3.0, free_bits=0.05),
}
PENALTY: dict[str, Any] = {"none": None, **{name: PENALTIES.resolve(name) for name in PENALTIES.names()}}
PENALTY["sum"] = PENALTIES.resolve(["l1", "l2"])


def objective(**chosen: Any) -> Objective | None:
    """The objective of these choices, or None where they are illegal."""
    plain: dict[str, Any] = {"network": Dense((6,)), "code": Plain(), "loss": LOSS["binary-cross-entropy"]}
    choices = Choices(**(plain | chosen)).resolve(CONTEXT)
    torch.manual_seed(0)
    return None if choices.mistakes(CONTEXT) else Objective(choices, CONTEXT).train()


def compare(made: Objective, x: Tensor = X, n_threads: int = 1) -> list[str]:
    """One step by hand and one by autograd give the same parts, and the same gradient to 1e-5; by which products."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(n_threads)
        steps = [Step(each, Adam(), n_rows=len(x)) for each in (made, copy.deepcopy(made))]
        by_hand, steps[1].explicit = steps[0].explicit, None
        assert by_hand is not None
        parts = [step(x, 0.0, torch.Generator().manual_seed(5)) for step in steps]
    finally:
        torch.set_num_threads(before)
    for one, other in zip(*parts, strict=True):
        torch.testing.assert_close(one, other.detach(), rtol=1e-5, atol=1e-6)
    scale = float(steps[1].flat.gradients.abs().max())
    torch.testing.assert_close(steps[0].flat.gradients, steps[1].flat.gradients, rtol=1e-5, atol=1e-5 * scale)
    return [type(product).__name__ for chain in by_hand.chains_for(len(x)) for product in chain.products]


def wide(loss: str, activation: Any = "relu") -> Objective:
    """An objective of 300 features with layers of 120 and 5."""
    context = Context((300,), 3, 0.0, 1.0)
    network = Dense((120, 5), activation=activation)
    choices = Choices(network=network, code=Plain("relu"), loss=LOSSES.resolve(loss)).resolve(context)
    torch.manual_seed(0)
    return Objective(choices, context).train()


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_loss_and_penalty(network: str) -> None:
    tried = 0
    for loss, penalty, code in itertools.product(LOSS.values(), PENALTY.values(), CODE.values()):
        made = objective(network=NETWORKS[network], loss=loss, penalty=penalty, code=code)
        is_closed = network == "one layer" and isinstance(code, Plain)
        if made is not None and (is_closed or not isinstance(penalty, Contractive)):
            compare(made)
            tried += 1
    assert tried >= 100


@pytest.mark.parametrize("corruption", CORRUPTIONS.names())
def test_every_corruption(corruption: str) -> None:
    made = objective(corruption=CORRUPTIONS.resolve(corruption))
    assert made is not None
    compare(made)


def test_missing_entries() -> None:
    made = objective(loss=LOSS["observed"])
    assert made is not None
    steps = [Step(each, Adam()) for each in (made, copy.deepcopy(made))]
    steps[1].explicit = None
    holes = torch.where(X * torch.rand(X.shape) > 0.5, torch.nan, X)
    for step in steps:
        step(holes, 0.0, None)
    torch.testing.assert_close(steps[0].flat.gradients, steps[1].flat.gradients)


@pytest.mark.parametrize(
    "chosen",
    [
        {"network": Dense((6,), tied=True)},
        {"penalty": Contractive()},
        {"code": Gaussian(n_samples=3)},
    ],
)
def test_what_cannot_be_written_out_takes_the_general_path(chosen: dict[str, Any]) -> None:
    made = objective(**chosen)
    assert made is not None
    assert not is_explicit(made)
    assert Step(made, Adam()).explicit is None


def test_only_linear_layers_with_known_activations_are_chains() -> None:
    assert is_chain(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)))
    assert is_chain(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2), nn.GELU()))
    assert not is_chain(nn.Sequential(nn.Linear(2, 3), nn.Dropout(), nn.Linear(3, 2)))
    assert not is_chain(nn.Sequential(nn.ReLU(), nn.Linear(3, 2)))
    assert not is_chain(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.ReLU()))
    assert not is_chain(nn.Sequential(nn.Linear(2, 3, bias=False)))
    assert not is_chain(nn.Linear(2, 2))
    assert not is_chain(nn.Sequential(nn.Linear(2, 3), nn.GELU(approximate="tanh"), nn.Linear(3, 2)))


def test_training_by_hand_ends_where_training_by_autograd_does(
    digits: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand = Autoencoder(4, max_epochs=5, random_state=0).fit(digits)
    monkeypatch.setattr("isthmus.training.steps.is_explicit", lambda _: False)
    by_autograd = Autoencoder(4, max_epochs=5, random_state=0).fit(digits)
    np.testing.assert_allclose(by_hand.history_["loss"], by_autograd.history_["loss"], rtol=1e-4)
    np.testing.assert_allclose(by_hand.transform(digits), by_autograd.transform(digits), atol=0.02)


@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize("loss", ["binary-cross-entropy", "mean-squared-error", "huber", "multinomial"])
def test_wide_layers_are_dealt_out_to_threads(n_threads: int, loss: str) -> None:
    kinds = compare(wide(loss), torch.rand(7, 300), n_threads)
    split_output = n_threads > 1 and loss != "multinomial"
    assert kinds[0] == ("SplitInput" if n_threads > 1 else "Product")
    assert kinds[-1] == ("SplitOutput" if split_output else "Product")


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch is without oneDNN")
@pytest.mark.parametrize("activation", ["relu", "gelu", "sigmoid", "tanh"])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_large_products_go_to_onednn(n_threads: int, activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    linear = torch.ops.mkldnn._linear_pointwise.default
    monkeypatch.setattr("isthmus.training.products.onednn_linear", lambda: linear)
    kinds = compare(wide("huber", activation), torch.rand(640, 300), n_threads)
    assert kinds[0] == kinds[-1] == "OneDnnProduct"
    assert kinds[1] == "Product"


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch is without oneDNN")
@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", None])
@pytest.mark.parametrize("is_large", [True, False])
def test_what_is_only_applied_goes_to_onednn_too(
    activation: str | None, is_large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def linear(*given: Any) -> Tensor:
        calls.append(given)
        out: Tensor = torch.ops.mkldnn._linear_pointwise.default(*given)
        return out

    monkeypatch.setattr(chains, "onednn_linear", lambda: linear)
    monkeypatch.setattr(chains, "prefers_onednn", lambda weight, n_rows: is_large)
    network, x = wide("huber", activation).encoder, torch.rand(64, 300)
    with torch.inference_mode():
        torch.testing.assert_close(chains.through(network, x), network(x), rtol=1e-5, atol=1e-6)
    assert len(calls) == (3 if is_large else 0)
    seen: list[Any] = []
    list(network.children())[-1].register_forward_hook(lambda *given: seen.append(given))
    with torch.inference_mode():
        chains.through(network, x)
    assert len(seen) == 1  # who watches a layer sees it at work
    chains.through(network, x)  # where something may be learned
    assert len(calls) == (3 if is_large else 0)


def test_vanishing_running_means_are_set_to_zero() -> None:
    made = objective()
    assert made is not None
    step = Step(made, Adam())
    for _ in range(128):
        step.state["exp_avg"][0], step.state["exp_avg"][1] = 1e-33, 1e-20
        step.flat.gradients.zero_()
        step.follow(0.0)
    assert float(step.state["exp_avg"][0]) == 0.0
    assert float(step.state["exp_avg"][1]) > 0.0


def test_without_its_fused_kernel_adam_trains_the_same(digits: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    fused = Autoencoder(4, max_epochs=3, random_state=0).fit(digits)
    monkeypatch.setattr(Adam, "kernel", "_no_such_kernel")
    by_torch = Autoencoder(4, max_epochs=3, random_state=0).fit(digits)
    np.testing.assert_allclose(fused.history_["loss"], by_torch.history_["loss"], rtol=1e-5)
