"""Losses against torch.distributions, closed forms, and their own definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Laplace, Normal, Poisson

import isthmus
from isthmus import Autoencoder, ByColumn, Observed, VariationalAutoencoder
from isthmus.choices import LOSSES, CategoricalCrossEntropy, Context, Huber
from isthmus.choices import Normal as NormalLoss
from isthmus.exceptions import DataError

DRAW = torch.Generator().manual_seed(0)
OUTPUT = torch.randn(20, 6, generator=DRAW)
UNIT = torch.rand(20, 6, generator=DRAW)
BITS = (UNIT > 0.5).float()
COUNTS = torch.poisson(3 * UNIT, generator=DRAW)
CONTEXT = Context((6,), 2, 0.0, 1.0)


def per_feature(name: str, target: torch.Tensor) -> torch.Tensor:
    return LOSSES.resolve(name).resolve(Context((6,), 2)).per_feature(OUTPUT, target)


def test_likelihoods_agree_with_torch_distributions() -> None:
    torch.testing.assert_close(per_feature("binary-cross-entropy", BITS), -Bernoulli(logits=OUTPUT).log_prob(BITS))
    torch.testing.assert_close(per_feature("poisson", COUNTS), -Poisson(OUTPUT.exp()).log_prob(COUNTS))
    fixed = NormalLoss(0.3).per_feature(OUTPUT, UNIT)
    torch.testing.assert_close(fixed, -Normal(OUTPUT, 0.3).log_prob(UNIT))
    both = torch.randn(20, 12, generator=DRAW)
    scale = torch.nn.functional.softplus(both[:, 6:]) + 0.01
    torch.testing.assert_close(NormalLoss().per_feature(both, UNIT), -Normal(both[:, :6], scale).log_prob(UNIT))


def test_distances_agree_with_their_definitions() -> None:
    torch.testing.assert_close(per_feature("mean-squared-error", UNIT), (OUTPUT - UNIT) ** 2)
    torch.testing.assert_close(per_feature("mean-absolute-error", UNIT), (OUTPUT - UNIT).abs())
    laplace = -Laplace(OUTPUT, 1.0).log_prob(UNIT) - math.log(2)
    torch.testing.assert_close(per_feature("mean-absolute-error", UNIT), laplace)
    huber = Huber(0.5, activation=None).per_feature(OUTPUT, UNIT)
    error = (OUTPUT - UNIT).abs()
    torch.testing.assert_close(huber, torch.where(error < 0.5, error**2 / 2, 0.5 * (error - 0.25)))


def test_a_logarithm_of_a_row_is_its_likelihood_with_its_own_variance() -> None:
    loss = isthmus.LogMeanSquaredError(floor=1e-12, activation=None)
    deviation = (OUTPUT - UNIT).square().mean(1, keepdim=True).sqrt()
    expected = -Normal(OUTPUT, deviation).log_prob(UNIT).mean(1)
    torch.testing.assert_close(loss.per_row(OUTPUT, UNIT) + loss.normaliser, expected)
    psnr = -10 * torch.log10((OUTPUT - UNIT).square().mean(1))
    torch.testing.assert_close(loss.mean(OUTPUT, UNIT), -psnr.mean() * math.log(10) / 20)
    assert torch.isfinite(loss.mean(UNIT, UNIT))


def test_a_loss_of_whole_rows_takes_no_missing_entries() -> None:
    (found,) = Observed("log-mean-squared-error").mistakes()
    assert "needs whole rows" in found
    with pytest.raises(ValueError, match="needs whole rows"):
        Autoencoder(2, loss=Observed("log-mean-squared-error"), max_epochs=1).fit(UNIT.numpy())


def test_categories_in_groups_agree_with_categorical_distributions() -> None:
    loss = CategoricalCrossEntropy((2, 4))
    classes = torch.tensor([1, 3]).repeat(20, 1)
    one_hot = torch.cat([torch.nn.functional.one_hot(c, n) for c, n in zip(classes.T, (2, 4), strict=True)], dim=1)
    groups = zip(OUTPUT.split((2, 4), dim=1), classes.T, strict=True)
    expected = -sum(Categorical(logits=logits).log_prob(c) for logits, c in groups)
    torch.testing.assert_close(loss.per_feature(OUTPUT, one_hot.float()).sum(1), expected)
    torch.testing.assert_close(loss.link(OUTPUT).split((2, 4), dim=1)[1].sum(1), torch.ones(20))


@pytest.mark.parametrize("name", sorted(set(LOSSES.names()) - {"by-column"}))
def test_mean_row_and_feature_agree(name: str) -> None:
    loss = LOSSES.resolve(name).resolve(CONTEXT)
    output = torch.randn(20, loss.output_width(6), generator=DRAW)
    each = loss.per_feature(output, BITS)
    torch.testing.assert_close(loss.per_row(output, BITS), each.mean(1))
    torch.testing.assert_close(loss.mean(output, BITS), each.mean())
    assert loss.link(output).shape == BITS.shape
    assert loss.unit


def test_only_observed_entries_count() -> None:
    holes = torch.where(UNIT < 0.3, torch.nan, UNIT)
    loss = Observed("mean-squared-error").resolve(Context((6,), 2))
    seen = ~torch.isnan(holes)
    torch.testing.assert_close(loss.mean(OUTPUT, holes), ((OUTPUT - UNIT) ** 2)[seen].mean())
    output = OUTPUT.clone().requires_grad_()
    loss.mean(output, holes).backward()
    assert output.grad is not None
    assert torch.equal(output.grad != 0, seen)


def test_holes_in_a_table_are_filled_better_than_by_the_mean(table: np.ndarray) -> None:
    draw = np.random.default_rng(0)
    low_rank = draw.normal(size=(400, 2)) @ draw.normal(size=(2, 8))
    hidden = draw.random(low_rank.shape) < 0.2
    X = np.where(hidden, np.nan, low_rank)
    model = Autoencoder(2, network=(), loss=Observed(), max_epochs=100, random_state=0).fit(X)
    filled = model.reconstruct(X)
    assert np.isfinite(filled).all()
    error = np.square(filled - low_rank)[hidden].mean()
    assert error < 0.5 * np.square(low_rank - np.nanmean(X, axis=0))[hidden].mean()
    per_feature = model.reconstruction_error(X, per_feature=True)
    assert np.array_equal(np.isnan(per_feature), hidden)
    np.testing.assert_allclose(model.reconstruction_error(X), np.nanmean(per_feature, axis=1), rtol=1e-6)


def test_a_value_may_stand_for_what_is_missing() -> None:
    ratings = np.array([[5.0, 0, 3], [0, 4, 4], [1, 0, 0], [5, 5, 0]])
    as_zero = Autoencoder(1, loss=Observed(missing=0), max_epochs=3, random_state=0).fit(ratings)
    as_nan = Autoencoder(1, loss="observed", max_epochs=3, random_state=0).fit(np.where(ratings == 0, np.nan, ratings))
    np.testing.assert_array_equal(as_zero.scaling_.shift, np.nanmean(np.where(ratings == 0, np.nan, ratings), axis=0))
    np.testing.assert_allclose(
        as_zero.transform(ratings), as_nan.transform(np.where(ratings == 0, np.nan, ratings)), rtol=1e-6
    )


def test_missing_entries_are_refused_where_the_loss_does_not_know_them(digits: np.ndarray) -> None:
    bad = digits.copy()
    bad[2, 2] = np.nan
    with pytest.raises(DataError, match="or use loss='observed'"):
        Autoencoder(2).fit(bad)
    infinite = digits.copy()
    infinite[2, 2] = np.inf
    with pytest.raises(DataError, match="1 infinite"):
        Autoencoder(2, loss="observed").fit(infinite)


def mixed_table() -> tuple[np.ndarray, ByColumn]:
    draw = np.random.default_rng(0)
    kind = draw.integers(0, 3, 300)
    numbers = np.column_stack([kind * 10 + draw.normal(size=300), draw.normal(size=300) + 100])
    X = np.column_stack([numbers, (kind == 1) | (draw.random(300) < 0.1), np.eye(3)[kind]])
    return X, ByColumn((("mean-squared-error", 2), ("binary-cross-entropy", 1), ("categorical-cross-entropy", 3)))


def test_each_column_goes_by_its_own_loss(tmp_path: object) -> None:
    X, loss = mixed_table()
    model = Autoencoder(2, loss=loss, max_epochs=60, random_state=0).fit(X)
    restored = model.reconstruct(X)
    assert (restored[:, 3:].argmax(1) == X[:, 3:].argmax(1)).mean() > 0.95
    np.testing.assert_allclose(restored[:, 3:].sum(1), 1, rtol=1e-5)
    assert ((restored[:, 2] >= 0) & (restored[:, 2] <= 1)).all()
    np.testing.assert_array_equal(model.scaling_.factor[2:], 1)
    path = model.save(f"{tmp_path}/m.safetensors")
    np.testing.assert_array_equal(isthmus.load(path).reconstruct(X), restored)


def test_every_column_of_a_table_weighs_the_same() -> None:
    _, loss = mixed_table()
    made = loss.resolve(Context((6,), 2))
    target = torch.cat([UNIT[:, :2], BITS[:, :1], torch.eye(3)[torch.arange(20) % 3]], dim=1)
    torch.testing.assert_close(made.per_row(OUTPUT, target), made.per_feature(OUTPUT, target).sum(1) / 4)


def test_wrong_parts_are_refused_together() -> None:
    X, _ = mixed_table()
    with pytest.raises(ValueError, match="the parts take 4 features, but there are 6"):
        Autoencoder(2, loss=ByColumn((("mean-squared-error", 4),))).fit(X)
    with pytest.raises(ValueError, match="not a pair of a loss and a number of features"):
        Autoencoder(2, loss=ByColumn((("mean-squared-error", 0),))).fit(X)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        Autoencoder(2, loss=ByColumn((("binary-cross-entropy", 6),)), scaling="none").fit(X)
    with pytest.raises(ValueError, match="did you mean 'binary-cross-entropy'"):
        Autoencoder(2, loss=ByColumn((("binary-cros-entropy", 6),))).fit(X)


def test_a_variational_model_of_a_mixed_table_has_a_likelihood() -> None:
    X, _ = mixed_table()
    loss = ByColumn((("normal", 2), ("binary-cross-entropy", 1), ("categorical-cross-entropy", 3)))
    model = VariationalAutoencoder(2, loss=loss, max_epochs=20, random_state=0).fit(X)
    assert np.isfinite(model.log_likelihood(X, random_state=0)).all()
    assert model.sample(5, random_state=0).shape == (5, 6)


def test_a_mixed_table_may_have_holes_where_its_parts_may() -> None:
    X, _ = mixed_table()
    holed = X.astype(np.float32)
    holed[::3, 0] = np.nan
    holed[1::4, 3:] = np.nan
    loss = ByColumn(((Observed(), 2), ("binary-cross-entropy", 1), (Observed("categorical-cross-entropy"), 3)))
    made = loss.resolve(Context((6,), 2))
    assert (loss.admits_missing, ByColumn().admits_missing) == (True, False)
    assert made.n_terms(6) == 4
    assert made.kept_unscaled(6) == [False, False, True, True, True, True]
    rows = torch.from_numpy(holed)
    assert torch.isfinite(made.per_row(torch.zeros(len(holed), 6), rows)).all()
