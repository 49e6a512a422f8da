"""Quantised codes and their rate: values against closed forms, and bits that fall when they cost."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import logistic

import isthmus
from isthmus import Autoencoder, Quantized, Rate, datasets
from isthmus.choices import PENALTIES, Context
from isthmus.choices.codes import CodeModule
from isthmus.choices.penalties import Encoding
from isthmus.choices.quantized import unit_bits

DRAW = torch.Generator().manual_seed(0)


def build(code: Quantized) -> CodeModule:
    return code.build(Context((4,), code_size=3))


@pytest.mark.parametrize("step", [1.0, 0.25])
def test_codes_are_the_nearest_multiples_of_the_step(step: float) -> None:
    h = torch.randn(200, 3, generator=DRAW) * 3
    module = build(Quantized(step))
    z = module.deterministic(h)
    assert torch.equal(z, (z / step).round() * step)
    assert float((z - h).abs().max()) <= step / 2
    module.eval()
    assert torch.equal(module(h, DRAW).z, z)


def test_noise_in_training_is_uniform_over_a_step() -> None:
    h = torch.zeros(20_000, 3)
    noise = build(Quantized(0.5)).train()(h, DRAW).z
    assert float(noise.abs().max()) <= 0.25
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.003)
    assert float(noise.var()) == pytest.approx(0.5**2 / 12, rel=0.02)


def test_straight_through_rounds_and_passes_the_gradient_on() -> None:
    h = torch.tensor([[0.2, 0.6, -1.7]], requires_grad=True)
    z = build(Quantized(training="straight-through")).train()(h, DRAW).z
    assert z.tolist() == [[0.0, 1.0, -2.0]]
    (z * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert h.grad is not None
    assert h.grad.tolist() == [[1.0, 2.0, 3.0]]


@pytest.mark.parametrize("step", [1.0, 0.5])
def test_the_rate_is_that_of_a_logistic_with_the_moments_of_the_batch(step: float) -> None:
    z = (torch.randn(64, 3, generator=DRAW) * torch.tensor([0.5, 2.0, 8.0]) + 1.0) / step
    z = z.round() * step
    mean, scale = z.mean(0).numpy(), z.std(0, unbiased=False).numpy() * np.sqrt(3) / np.pi
    upper, lower = (logistic.cdf(z.numpy() + side, mean, scale) for side in (step / 2, -step / 2))
    np.testing.assert_allclose(unit_bits(z, step).numpy(), -np.log2(upper - lower), rtol=1e-3)
    wanted = 0.01 * -np.log2(upper - lower).sum(1).mean()
    assert float(Rate(0.01, step=step).penalize(Encoding(z, z, lambda x: x))) == pytest.approx(wanted, rel=1e-3)


def test_the_rate_bounds_the_entropy_of_the_codes_from_above() -> None:
    z = (torch.randn(5000, 1, generator=DRAW) * 2).round()
    _, counts = np.unique(z.numpy(), return_counts=True)
    share = counts / counts.sum()
    entropy = -(share * np.log2(share)).sum()
    assert entropy <= float(unit_bits(z, 1.0).mean()) < entropy + 0.05


def test_constant_and_single_codes_have_finite_rates_and_gradients() -> None:
    for z in (torch.zeros(5, 2), torch.ones(1, 2), torch.tensor([[0.0, 1e6], [0.0, -1e6]])):
        z.requires_grad_()
        cost = Rate(1.0).penalize(Encoding(z, z, lambda x: x))
        cost.backward()
        assert z.grad is not None
        assert torch.isfinite(cost)
        assert torch.isfinite(z.grad).all()


def entropy_of(Z: np.ndarray) -> float:
    """Bits of a row, each unit by its own frequencies."""
    bits = 0.0
    for unit in Z.T:
        _, counts = np.unique(unit, return_counts=True)
        share = counts / counts.sum()
        bits -= float((share * np.log2(share)).sum())
    return bits


def test_bits_fall_when_they_cost() -> None:
    X = datasets.load_digits().X[:600]
    found = {}
    for weight in (0.0, 2e-4):
        model = Autoencoder(
            8, code=Quantized(0.5), penalty=Rate(weight, step=0.5), loss="mse", max_epochs=30, random_state=0
        )
        Z = model.fit(X).transform(X)
        assert np.array_equal(np.rint(Z / 0.5) * 0.5, Z)
        found[weight] = entropy_of(Z)
    assert found[2e-4] < 0.8 * found[0.0]


def test_rate_needs_the_code_it_counts() -> None:
    X = datasets.load_digits().X[:50]
    with pytest.raises(
        ValueError, match=r"Rate: it counts the bits of codes with step 0.5, but the code is Quantized\(\)"
    ):
        Autoencoder(2, code="quantized", penalty=Rate(step=0.5)).fit(X)
    with pytest.raises(ValueError, match="use code='quantized'"):
        Autoencoder(2, code="top-k", penalty="rate").fit(X)
    with pytest.raises(ValueError, match=r"Quantized: step=0 must be a finite number > 0"):
        Autoencoder(2, code=Quantized(0)).fit(X)
    assert isinstance(PENALTIES.resolve("rate"), Rate)


def test_every_network_carries_it() -> None:
    images = datasets.load_digits().X[:80].reshape(-1, 8, 8)
    model = isthmus.ConvolutionalAutoencoder(
        4, code=Quantized(0.25), penalty=Rate(step=0.25), max_epochs=1, random_state=0
    )
    Z = model.fit(images).transform(images)
    assert np.array_equal(np.rint(Z * 4), Z * 4)
