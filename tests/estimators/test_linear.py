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
    np.testing.assert_allclose(model.explained_variance_ / model.scaling_.factor**2, pca.explained_variance_, rtol=1e-3)
    ours = model.reconstruction_error(X).mean()
    assert ours == pytest.approx(np.square(pca.inverse_transform(pca.transform(X)) - X).mean(), rel=1e-3)
    codes = model.transform(X)
    np.testing.assert_allclose(codes.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(codes.T), np.diag(model.explained_variance_), atol=1e-2 * codes.var(0).max())


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
