"""Every pair of members of the five choices goes through the contract, and every combination learns."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone

import isthmus
from isthmus import Autoencoder, ByColumn, Convolutional, Dense, Normal, TopK, UNet, VariationalAutoencoder
from isthmus.choices import CODES, CORRUPTIONS, LOSSES, NETWORKS, PENALTIES, Context
from isthmus.training import Choices, Objective

IMAGES = (np.random.default_rng(0).random((24, 5, 4)) > 0.6).astype(np.float32)
CONTEXT = Context((5, 4), 3, 0.0, 1.0)
SPECIAL: dict[str, Any] = {  # members whose defaults are made for larger data
    "dense": Dense((6,)),
    "convolutional": Convolutional((2,)),
    "unet": UNet((2, 2)),
    "top-k": TopK(2),
    "by-column": ByColumn((("normal", 4), ("binary-cross-entropy", 6), ("categorical-cross-entropy", 10))),
}
REGISTRIES = {"network": NETWORKS, "code": CODES, "corruption": CORRUPTIONS, "penalty": PENALTIES, "loss": LOSSES}
MEMBERS: dict[str, dict[str, Any]] = {
    choice: {name: SPECIAL.get(name) or registry.resolve(name) for name in registry.names()}
    for choice, registry in REGISTRIES.items()
}
MEMBERS["network"]["tied"] = Dense((6,), tied=True)
MEMBERS["code"]["sigmoid"] = isthmus.Plain("sigmoid")
PLAIN: dict[str, Any] = {"network": Dense((6,)), "code": "plain", "corruption": None, "penalty": None, "loss": "auto"}
USUAL = ("drop-entries", "gaussian-noise", "masking", "salt-and-pepper", "block-mask")
"""Corruptions that are combined with all else. What a corruption gives is data to the others, so a few stand for all;
each of them goes through every pair."""
PAIRS = [
    {one: first, other: second}
    for one, other in itertools.combinations(MEMBERS, 2)
    for first, second in itertools.product(MEMBERS[one], MEMBERS[other])
]


def make(names: dict[str, str]) -> Autoencoder:
    chosen = {choice: MEMBERS[choice][name] for choice, name in names.items()}
    return Autoencoder(3, **(PLAIN | chosen), max_epochs=2, batch_size=8, random_state=0)


def mistakes(names: dict[str, str]) -> list[str]:
    plain = {"network": Dense((6,)), "code": isthmus.Plain(), "loss": isthmus.BinaryCrossEntropy()}
    members = plain | {choice: MEMBERS[choice][name] for choice, name in names.items()}
    return Choices(**members).resolve(CONTEXT).mistakes(CONTEXT)


LEGAL = [pair for pair in PAIRS if not mistakes(pair)]
ILLEGAL = [pair for pair in PAIRS if mistakes(pair)]


def words(names: dict[str, str]) -> str:
    return " × ".join(names.values())


@pytest.mark.parametrize("pair", LEGAL, ids=words)
def test_a_pair_keeps_the_contract(pair: dict[str, str], tmp_path: Path) -> None:
    model = make(pair).fit(IMAGES)
    codes = model.transform(IMAGES)
    assert codes.shape == (24, 3)
    assert np.isfinite(codes).all()
    restored = model.reconstruct(IMAGES)
    assert restored.shape == IMAGES.shape
    np.testing.assert_allclose(model.inverse_transform(codes), restored, rtol=1e-5, atol=1e-6)
    if pair.get("code") != "gaussian":
        assert model.score(IMAGES) == pytest.approx(model.restored_variance(IMAGES))
    one_hot = {"categorical-cross-entropy", "by-column"} & set(pair.values())  # these rows are not: outside its support
    assert np.isfinite(model.score_samples(IMAGES)).all() or one_hot
    assert model.reconstruction_error(IMAGES).shape == (24,)
    assert np.array_equal(clone(model).fit(IMAGES).transform(IMAGES), codes)
    loaded = isthmus.load(model.save(tmp_path / "m.safetensors"))
    assert np.array_equal(loaded.transform(IMAGES), codes)
    assert loaded.describe() == model.describe()
    assert len(model.partial_fit(IMAGES).history_) == 3


@pytest.mark.parametrize("pair", ILLEGAL, ids=words)
def test_a_pair_that_cannot_go_together_is_refused(pair: dict[str, str]) -> None:
    model = make(pair)
    with pytest.raises(ValueError, match="use "):
        model.fit(IMAGES)
    assert not hasattr(model, "objective_")


def test_only_pairs_with_a_reason_are_refused() -> None:
    for pair in PAIRS:
        names = set(pair.values())
        refused = (
            ("kl-sparsity" in names and "sigmoid" not in names)
            or ("rate" in names and "quantized" not in names)
            or names in ({"contractive", "top-k"}, {"contractive", "quantized"})
            or names in ({"convolutional", "by-column"}, {"unet", "by-column"})
            or ("tied" in names and bool(names & {"gaussian", "normal", "by-column"}))
            or "grayscale" in names  # the images have one channel
        )
        assert (pair in ILLEGAL) == refused, pair


@pytest.mark.parametrize("network", MEMBERS["network"])
def test_every_combination_has_a_finite_gradient_that_reaches_all_weights(network: str) -> None:
    x = torch.from_numpy(IMAGES.reshape(24, 20))
    rest = [[None, *(MEMBERS["corruption"][name] for name in USUAL)], [None, *MEMBERS["penalty"].values()]]
    tried = 0
    for code, corruption, penalty, loss in itertools.product(MEMBERS["code"].values(), *rest, MEMBERS["loss"].values()):
        choices = Choices(MEMBERS["network"][network], code, loss, corruption, penalty).resolve(CONTEXT)
        if choices.mistakes(CONTEXT):
            continue
        torch.manual_seed(0)
        objective = Objective(choices, CONTEXT).train()
        parts = objective(x, torch.Generator().manual_seed(0))
        parts.total.backward()
        torch.testing.assert_close(parts.total, parts.reconstruction + parts.penalty + parts.prior)
        gradients = [parameter.grad for parameter in objective.parameters()]
        assert all(gradient is not None and bool(torch.isfinite(gradient).all()) for gradient in gradients), choices
        tried += 1
    assert tried > 100


def test_four_choices_at_once_from_one_line(tmp_path: Path) -> None:
    model = VariationalAutoencoder(
        3, network=Convolutional((4,)), corruption="masking", penalty="l1", max_epochs=3, random_state=0
    )
    model.fit(IMAGES)
    assert model.sample(4, random_state=0).shape == (4, 5, 4)
    assert np.isfinite(model.log_likelihood(IMAGES, n_importance_samples=3, random_state=0)).all()
    loaded = isthmus.load(model.save(tmp_path / "m.safetensors"))
    assert np.array_equal(loaded.sample(4, random_state=0), model.sample(4, random_state=0))


def test_all_illegal_combinations_are_told_in_one_error() -> None:
    model = VariationalAutoencoder(
        2,
        network=Dense((4,), tied=True, decoder_sizes=(5,)),
        code=TopK(3),
        penalty=["contractive", "kl-sparsity"],
        loss="binary-cross-entropy",
        scaling="none",
        conditional=True,
    )
    with pytest.raises(ValueError, match="6 parameters are invalid") as caught:
        model.fit(IMAGES * 5 - 1)
    text = str(caught.value)
    reasons = (
        "conditional=True needs labels",
        "tied=True needs a decoder that mirrors",
        "k=3 must be at most the code size, 2",
        "is not differentiable",
        "activations must lie in (0, 1)",
        "must lie in [0, 1], but range from -1 to 4",
    )
    for reason in reasons:
        assert reason in text
    fitted = VariationalAutoencoder(2, max_epochs=1, random_state=0).fit(IMAGES)
    with pytest.raises(ValueError, match="n_importance_samples=0 must be an integer >= 1"):
        fitted.log_likelihood(IMAGES, n_importance_samples=0)
    with pytest.raises(ValueError, match="n_samples=0 must be an integer >= 1"):
        VariationalAutoencoder(2, code=isthmus.Gaussian(n_samples=0)).fit(IMAGES)


def test_only_gaussian_codes_have_likelihoods() -> None:
    assert not hasattr(Autoencoder(2), "log_likelihood")
    with pytest.raises(AttributeError, match="no attribute 'posterior'") as caught:
        Autoencoder(2).posterior(IMAGES)
    assert "this needs code='gaussian'" in str(caught.value.__cause__)
    model = VariationalAutoencoder(2, loss="mean-squared-error", max_epochs=1, random_state=0).fit(IMAGES)
    with pytest.raises(ValueError, match="needs a loss that is a likelihood"):
        model.log_likelihood(IMAGES)


def test_a_conditional_model_draws_what_the_label_says(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    y = np.repeat(["low", "high"], 200)
    X = draw.normal(size=(400, 3)) + np.where(y == "high", 8.0, 0.0)[:, None]
    model = VariationalAutoencoder(2, conditional=True, network=(16,), max_epochs=40, random_state=0).fit(X, y)
    assert model.sample(50, "high", random_state=0).mean() == pytest.approx(8.0, abs=1.5)
    assert model.sample(50, "low", random_state=0).mean() == pytest.approx(0.0, abs=1.5)
    assert model.reconstruct(X, y).shape == X.shape
    assert (
        model.log_likelihood(X, y, random_state=0).mean() > model.log_likelihood(X, y[::-1], random_state=0).mean() + 1
    )
    loaded = isthmus.load(model.save(tmp_path / "m.safetensors"))
    assert np.array_equal(loaded.transform(X, y), model.transform(X, y))
    with pytest.raises(ValueError, match="needs the labels y"):
        model.transform(X)
    with pytest.raises(ValueError, match="'middle', which was not among the labels"):
        model.transform(X[:1], ["middle"])
    with pytest.raises(ValueError, match=r"labels of shape \(400,\) are needed"):
        model.transform(X, y[:3])


def test_log_likelihood_agrees_with_a_closed_form_in_the_units_of_the_data() -> None:
    """A linear decoder with a fixed scale: p(x) is a Normal whose covariance is known."""
    draw = np.random.default_rng(0)
    X = (draw.normal(size=(2000, 2)) @ draw.normal(size=(2, 5)) + 0.3 * draw.normal(size=(2000, 5))) * 10 + 3
    model = VariationalAutoencoder(2, network=(), loss=Normal(0.4), max_epochs=30, random_state=0).fit(X)
    weight, bias = (part.detach().double() for part in model.objective_.decoder.parameters())
    covariance = weight @ weight.T + 0.16 * torch.eye(5, dtype=torch.float64)
    scaled = torch.from_numpy((X - model.scaling_.shift) * model.scaling_.factor)
    exact = torch.distributions.MultivariateNormal(bias, covariance).log_prob(scaled).numpy()
    exact = exact + np.log(model.scaling_.factor).sum()
    estimated = model.log_likelihood(X, n_importance_samples=300, random_state=0)
    assert estimated.mean() == pytest.approx(exact.mean(), abs=0.02)
    np.testing.assert_allclose(estimated, exact, atol=0.5)
