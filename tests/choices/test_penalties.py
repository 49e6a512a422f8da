"""Penalties against independent oracles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from isthmus import Autoencoder, SparseAutoencoder
from isthmus.choices import Contractive, Dense, Gaussian, KLSparsity, MeanSquaredError, Plain, TopK
from isthmus.choices.penalties import Encoding
from isthmus.choices.registry import Context
from isthmus.training import Choices, Objective

CONTEXT = Context((7,), code_size=6)


def objective(hidden: tuple[int, ...], activation: str | None, penalty: Contractive) -> Objective:
    torch.manual_seed(0)
    network = Dense(hidden, activation="tanh")
    return Objective(Choices(network, Plain(activation), MeanSquaredError(activation=None), penalty=penalty), CONTEXT)


def squared_norm(made: Objective, x: torch.Tensor) -> torch.Tensor:
    """The oracle: the Jacobian of every row by torch.func."""
    jacobian = torch.func.vmap(torch.func.jacrev(lambda row: made.encode(row[None])[0]))(x)
    norm: torch.Tensor = jacobian.square().sum((1, 2)).mean()
    return norm


@pytest.mark.parametrize("activation", [None, "relu", "sigmoid", "tanh", "gelu"])
@pytest.mark.parametrize("hidden", [(), (9,), (9, 8)])
def test_the_contractive_penalty_is_the_jacobian_of_an_independent_computation(
    hidden: tuple[int, ...], activation: str | None
) -> None:
    x = torch.randn(20, 7, generator=torch.Generator().manual_seed(1))
    made = objective(hidden, activation, Contractive(1.0, method="exact"))
    torch.testing.assert_close(made(x).penalty, squared_norm(made, x), rtol=1e-5, atol=1e-6)


def test_the_estimate_is_unbiased() -> None:
    x = torch.randn(20, 7, generator=torch.Generator().manual_seed(1))
    made = objective((9,), "tanh", Contractive(1.0, method="hutchinson", n_probes=4000))
    estimate = made(x, torch.Generator().manual_seed(2)).penalty
    torch.testing.assert_close(estimate, squared_norm(made, x), rtol=0.01, atol=0)


@pytest.mark.parametrize("method", ["exact", "hutchinson"])
def test_the_penalty_reaches_the_weights(method: str) -> None:
    x = torch.randn(20, 7, generator=torch.Generator().manual_seed(1))
    made = objective((9,), "tanh", Contractive(1.0, method=method, n_probes=2000))
    (gradient,) = torch.autograd.grad(made(x, torch.Generator().manual_seed(2)).penalty, [made.encoder[0].weight])  # type: ignore[index]
    (expected,) = torch.autograd.grad(squared_norm(made, x), [made.encoder[0].weight])  # type: ignore[index]
    torch.testing.assert_close(gradient, expected, rtol=0.1, atol=0.05 * float(expected.abs().max()))


def test_a_contractive_model_is_less_sensitive_to_small_changes(digits: np.ndarray) -> None:
    def movement(weight: float) -> float:
        model = Autoencoder(8, penalty=Contractive(weight), max_epochs=60, random_state=0).fit(digits)
        Z = model.transform(digits)
        noise = np.random.default_rng(0).normal(0, 0.02, digits.shape)
        return float(np.square(model.transform(digits + noise) - Z).sum() / np.square(Z - Z.mean(0)).sum())

    assert movement(1e-2) < 0.7 * movement(0.0)


def test_the_rate_of_a_sparse_code_comes_near_its_target(digits: np.ndarray) -> None:
    model = Autoencoder(
        20, code="sigmoid", penalty=KLSparsity(0.1, weight=0.1), batch_size=100, max_epochs=150, random_state=0
    ).fit(digits)
    assert model.transform(digits).mean() == pytest.approx(0.1, rel=0.2)


def test_kl_sparsity_agrees_with_the_divergence_of_bernoullis() -> None:
    z = torch.rand(30, 4, generator=torch.Generator().manual_seed(0))
    target, rate = torch.distributions.Bernoulli(0.2), torch.distributions.Bernoulli(z.mean(0))
    expected = 3.0 * torch.distributions.kl_divergence(target, rate).sum()
    found = KLSparsity(0.2, weight=3.0).penalize(Encoding(z, z, lambda x: x))
    torch.testing.assert_close(found, expected)


def test_penalties_that_do_not_fit_the_code_are_refused_with_the_remedy(digits: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"activations must lie in \(0, 1\).*use code='sigmoid'"):
        Autoencoder(4, penalty="kl-sparsity", max_epochs=1).fit(digits)
    with pytest.raises(ValueError, match="is not differentiable with respect to the input; use code='plain' or"):
        Autoencoder(4, code=TopK(2), penalty=["l1", "contractive"], max_epochs=1).fit(digits)
    Autoencoder(4, code=Gaussian(), penalty="contractive", max_epochs=1).fit(digits)


def test_a_sparse_autoencoder_takes_the_code_that_its_penalty_needs() -> None:
    X = np.random.default_rng(0).random((40, 6))
    for penalty, activation in (
        ("l1", "relu"),
        (None, "relu"),
        ("kl-sparsity", "sigmoid"),
        (["l2", KLSparsity(0.1)], "sigmoid"),
    ):
        model = SparseAutoencoder(3, penalty=penalty, max_epochs=2, random_state=0).fit(X)
        assert model.objective_.choices.code.get_params() == {"activation": activation}
        assert model.describe()["code"]["params"] == {"activation": activation}
    assert Autoencoder(3, code="auto", max_epochs=1).fit(X).objective_.choices.code.activation is None
    with pytest.raises(ValueError, match="KLSparsity: activations must lie in"):
        SparseAutoencoder(3, code="relu", penalty="kl-sparsity").fit(X)


def test_values_that_are_no_member_are_shown_in_one_line() -> None:
    with pytest.raises(ValueError, match="An object of type Sequential is not a penalty; use one of"):
        Autoencoder(3, penalty=torch.nn.Sequential(torch.nn.Linear(2, 2))).fit(np.eye(3))
    with pytest.raises(
        ValueError,
        match=r"optimizer is a torch.optim.Adam that already holds parameters.*optimizer=torch\.optim\.Adam, and",
    ):
        Autoencoder(3, optimizer=torch.optim.Adam([torch.zeros(1)])).fit(np.eye(3))


@pytest.mark.parametrize("penalty", [KLSparsity(0.1), ["l2", KLSparsity(0.1)]])
def test_units_start_at_the_rate_that_the_penalty_asks_for(penalty: object) -> None:
    X = np.random.default_rng(0).random((200, 12))
    model = SparseAutoencoder(6, penalty=penalty, max_epochs=1, learning_rate=1e-9, random_state=0).fit(X)
    assert np.allclose(model.transform(X).mean(axis=0), 0.1, atol=0.03)
    np.testing.assert_allclose(model.reconstruct(X).mean(), X.mean(), atol=0.02)  # the start is the mean row still


def test_kl_sparsity_restores_as_much_as_l1_by_default_and_holds_its_rate() -> None:
    X = load_digits().data / 16.0
    models = [
        SparseAutoencoder(32, penalty=each, max_epochs=15, random_state=0).fit(X) for each in ("l1", "kl-sparsity")
    ]
    l1, kl = (model.restored_variance(X) for model in models)
    assert kl > l1 - 0.01
    assert models[1].transform(X).mean() == pytest.approx(0.05, rel=0.2)
