"""The linear autoencoder against principal component analysis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA

import isthmus
from isthmus import LinearAutoencoder


def tables() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    skewed = draw.exponential(size=(500, 12)) @ draw.normal(size=(12, 12))
    return {"skewed": skewed * 40 + 7, "wide": draw.normal(size=(80, 150)) * np.linspace(1, 5, 150)}


@pytest.mark.parametrize("name", ["digits", *tables()])
def test_it_agrees_with_pca(name: str, digits: np.ndarray) -> None:
    X = digits if name == "digits" else tables()[name]
    model, pca = LinearAutoencoder(6, max_epochs=20, random_state=0).fit(X), PCA(6).fit(X)
    assert subspace_angles(model.components_.T, pca.components_.T).max() < 1e-2
    np.testing.assert_allclose(np.abs((model.components_ * pca.components_).sum(1)), 1, atol=1e-3)
    np.testing.assert_allclose(model.explained_variance_ratio_, pca.explained_variance_ratio_, rtol=1e-3)
    for each in ("explained_variance_", "singular_values_", "noise_variance_"):
        np.testing.assert_allclose(getattr(model, each), getattr(pca, each), rtol=1e-3)
    np.testing.assert_allclose(model.mean_, pca.mean_, atol=1e-4 * np.abs(X).max())
    assert model.n_components_ == pca.n_components_ == 6
    ours = model.reconstruction_error(X).mean()
    assert ours == pytest.approx(np.square(pca.inverse_transform(pca.transform(X)) - X).mean(), rel=1e-3)
    codes = model.transform(X)
    np.testing.assert_allclose(codes.mean(0), 0, atol=1e-3)
    variances = model.explained_variance_ * model.scaling_.factor**2
    np.testing.assert_allclose(np.cov(codes.T), np.diag(variances), atol=1e-2 * codes.var(0).max())


def test_without_alignment_training_alone_comes_near(digits: np.ndarray) -> None:
    pca = PCA(6).fit(digits)
    error = np.square(pca.inverse_transform(pca.transform(digits)) - digits).mean()
    free = LinearAutoencoder(6, align=False, max_epochs=60, random_state=0).fit(digits)
    assert free.reconstruction_error(digits).mean() == pytest.approx(error, rel=0.05)
    assert not hasattr(free, "explained_variance_")


def test_components_survive_saving(digits: np.ndarray, tmp_path: Path) -> None:
    model = LinearAutoencoder(3, max_epochs=2, random_state=0).fit(digits)
    loaded = isthmus.load(model.save(tmp_path / "m.safetensors"))
    np.testing.assert_array_equal(loaded.components_, model.components_)
    np.testing.assert_array_equal(loaded.explained_variance_ratio_, model.explained_variance_ratio_)


def test_more_components_than_features_are_zero(table: np.ndarray) -> None:
    model = LinearAutoencoder(8, max_epochs=2, random_state=0).fit(table)
    assert (model.components_[5:] == 0).all()
    np.testing.assert_allclose(model.reconstruct(table), table, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("share", [0.3, 0.8, 0.95])
@pytest.mark.parametrize("name", ["digits", "fewer rows than columns"])
def test_a_share_of_the_variance_takes_as_many_components_as_pca(name: str, share: float, digits: np.ndarray) -> None:
    X = digits if name == "digits" else digits[:30]
    model, pca = LinearAutoencoder(share, max_epochs=2, random_state=0).fit(X), PCA(share).fit(X)
    assert model.n_components_ == pca.n_components_ == model.transform(X).shape[1]
    assert model.explained_variance_ratio_.sum() > share
    np.testing.assert_allclose(model.explained_variance_ratio_, pca.explained_variance_ratio_, rtol=1e-3)
    np.testing.assert_allclose(model.noise_variance_, pca.noise_variance_, rtol=1e-3)


def test_a_share_of_weighted_rows_and_of_other_scalings(table: np.ndarray) -> None:
    weights = np.arange(60) % 3
    pca = PCA(0.9).fit(np.repeat(table, weights, axis=0))
    model = LinearAutoencoder(0.9, max_epochs=2, random_state=0).fit(table, sample_weight=weights)
    assert model.n_components_ == pca.n_components_ == 1
    standard = LinearAutoencoder(0.9, scaling="standard", max_epochs=2, random_state=0).fit(table)
    theirs = PCA(0.9).fit((table - table.mean(0)) / table.std(0))
    assert standard.n_components_ == theirs.n_components_ > 1
    np.testing.assert_allclose(standard.explained_variance_, theirs.explained_variance_, rtol=1e-3)


def test_a_share_survives_saving_and_no_noise_is_left_where_all_components_are_kept(
    table: np.ndarray, tmp_path: Path
) -> None:
    model = LinearAutoencoder(0.5, scaling="standard", max_epochs=2, random_state=0).fit(table)
    loaded = isthmus.load(model.save(tmp_path / "m.safetensors"))
    assert (loaded.code_size, loaded.n_components_) == (0.5, model.n_components_)
    assert loaded.noise_variance_ == model.noise_variance_ > 0
    assert LinearAutoencoder(5, max_epochs=2, random_state=0).fit(table).noise_variance_ == 0


@pytest.mark.parametrize("share", [0.0, 1.0, 1.5, -1, True, "mle"])
def test_shares_outside_0_to_1_are_refused(share: object, table: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"code_size=.* must be an integer >= 1 or a number in \(0, 1\)"):
        LinearAutoencoder(share).fit(table)  # type: ignore[arg-type]


def test_a_share_of_too_many_variances_is_refused() -> None:
    with pytest.raises(ValueError, match="needs all 5001 variances, but at most 5000 are computed; give a number"):
        LinearAutoencoder(0.9).fit(np.zeros((5001, 5001), np.uint8))
