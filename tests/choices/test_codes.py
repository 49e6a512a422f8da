"""Codes against closed forms and independent oracles."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from isthmus import Autoencoder, Plain
from isthmus.choices import Context, Dense, Gaussian, Normal, TopK
from isthmus.choices.codes import log_normal, standard_divergence
from isthmus.training import Choices, Objective

CONTEXT = Context((6,), code_size=5)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_divergence_agrees_with_torch_distributions() -> None:
    mean, log_var = torch.randn(50, 3, generator=generator()), torch.randn(50, 3, generator=generator(1))
    q = torch.distributions.Normal(mean, torch.exp(0.5 * log_var))
    expected = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(standard_divergence(mean, log_var), expected)


def test_log_normal_agrees_with_torch_distributions() -> None:
    x, mean, log_var = torch.randn(3, 20, 4, generator=generator())
    expected = torch.distributions.Normal(mean, torch.exp(0.5 * log_var)).log_prob(x).sum(-1)
    torch.testing.assert_close(log_normal(x, mean, log_var), expected)


def test_gaussian_draws_have_the_stated_mean_and_spread() -> None:
    h = torch.tensor([[1.0, -2.0, math.log(4.0), math.log(0.25)]]).repeat(40_000, 1)
    module = Gaussian().build(Context((6,), code_size=2))
    z = module(h, generator()).z
    torch.testing.assert_close(z.mean(0), torch.tensor([1.0, -2.0]), atol=0.03, rtol=0)
    torch.testing.assert_close(z.std(0), torch.tensor([2.0, 0.5]), atol=0.03, rtol=0.03)
    torch.testing.assert_close(module.deterministic(h[:1]), h[:1, :2])


def test_beta_free_bits_and_warm_up_weigh_the_divergence() -> None:
    h = torch.randn(30, 10, generator=generator())
    mean, log_var = Gaussian().build(CONTEXT).posterior(h)  # type: ignore[operator]
    full = standard_divergence(mean, log_var)

    def charged(**settings: float) -> float:
        module = Gaussian(**settings).build(CONTEXT)  # type: ignore[arg-type]
        module.progress = 0.1
        prior = module(h, generator()).prior
        assert prior is not None
        return float(prior.mean())

    assert charged() == pytest.approx(float(full.sum(1).mean()), rel=1e-5)
    assert charged(beta=4.0) == pytest.approx(4 * charged(), rel=1e-5)
    assert charged(warm_up=0.5) == pytest.approx(0.2 * charged(), rel=1e-5)
    assert charged(free_bits=50.0) == pytest.approx(5 * 50.0, rel=1e-5)


def linear_gaussian(n_samples: int = 1) -> Objective:
    """p(x) = N(b, W Wᵀ + s²) in closed form: a linear decoder with a fixed scale; the encoder is arbitrary."""
    torch.manual_seed(0)
    choices = Choices(Dense((), activation=None), Gaussian(n_samples=n_samples), Normal(0.7))
    return Objective(choices, Context((4,), code_size=2))


def exact_log_likelihood(objective: Objective, x: torch.Tensor) -> torch.Tensor:
    (layer,) = objective.decoder.children()
    assert isinstance(layer, torch.nn.Linear)
    covariance = layer.weight @ layer.weight.T + 0.49 * torch.eye(4)
    log_likelihood: torch.Tensor = torch.distributions.MultivariateNormal(layer.bias, covariance).log_prob(x)
    return log_likelihood


def test_the_bound_lies_below_the_exact_likelihood_and_more_samples_bring_it_nearer() -> None:
    x = torch.randn(500, 4, generator=generator())
    exact = float(exact_log_likelihood(linear_gaussian(), x).mean().detach())
    bounds = [-4 * float(linear_gaussian(k)(x, generator(1)).total.detach()) for k in (1, 10, 100, 1000)]
    assert bounds == sorted(bounds)
    assert bounds[-1] < exact + 0.01
    assert bounds[-1] == pytest.approx(exact, abs=0.3)  # an encoder that was not trained is a poor proposal


def test_the_bound_is_tight_when_the_encoder_is_the_exact_posterior() -> None:
    objective = linear_gaussian()
    (decoder,), (encoder,) = objective.decoder.children(), objective.encoder.children()
    assert isinstance(decoder, torch.nn.Linear)
    assert isinstance(encoder, torch.nn.Linear)
    with torch.no_grad():
        decoder.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0], [0.0, 0.0]]))
        precision = 1 + decoder.weight.square().sum(0) / 0.49  # of the posterior, diagonal for this weight
        encoder.weight.zero_()
        encoder.weight[:2] = (decoder.weight / 0.49 / precision).T
        log_var = -precision.log()
        encoder.bias[2:] = 10 * torch.atanh(log_var / 10)
    x = torch.randn(4000, 4, generator=generator())
    bound = -4 * float(objective(x, generator(1)).total.detach())
    assert bound == pytest.approx(float(exact_log_likelihood(objective, x).mean().detach()), abs=0.08)


def test_importance_weighting_refuses_weighted_divergences() -> None:
    (found,) = Gaussian(0.5, n_samples=3).mistakes(CONTEXT)
    assert "needs beta=1, free_bits=0 and warm_up=0, not 0.5, 0 and 0" in found


@pytest.mark.parametrize("k", [1, 3, 5])
def test_exactly_k_units_are_kept_and_they_are_the_largest(k: int) -> None:
    h = torch.randn(40, 5, generator=generator())
    z = TopK(k, normalize=False).build(CONTEXT).deterministic(h)
    assert ((z != 0).sum(1) == k).all()
    np.testing.assert_allclose(z.sum(1), h.sort(dim=1, descending=True).values[:, :k].sum(1), rtol=1e-5, atol=1e-6)


def test_a_k_larger_than_the_code_is_refused() -> None:
    (found,) = TopK(6).mistakes(CONTEXT)
    assert found == "TopK: k=6 must be at most the code size, 5; lower k or raise code_size."


def test_normalised_units_stay_alive(digits: np.ndarray) -> None:
    def n_used(normalize: bool) -> int:
        code = TopK(2, normalize=normalize)
        model = Autoencoder(40, network=(), code=code, max_epochs=60, random_state=0).fit(digits)
        return int((model.transform(digits) != 0).any(axis=0).sum())

    assert n_used(True) > n_used(False)
    assert n_used(True) >= 36


def test_plain_code_applies_its_activation() -> None:
    h = torch.tensor([[-1.0, 0.0, 2.0]])
    torch.testing.assert_close(Plain("sigmoid").build(CONTEXT).deterministic(h), torch.sigmoid(h))
