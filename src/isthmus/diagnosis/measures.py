"""What a model does with data, in numbers: what the pictures show and the report tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from isthmus.data import Source, as_source
from isthmus.estimators import Autoencoder

SAMPLE = 10_000
"""Rows that are looked at where all would take long and tell no more."""


@dataclass(frozen=True)
class CodeStatistics:
    """How the units of a code are used.

    Attributes
    ----------
    mean, deviation
        Of each unit over the rows, (code,).
    share_of_zeros
        Of all code numbers, in [0, 1].
    dead_units
        Units that are the same for every row.
    effective_dimension
        Participation ratio of the variances of the principal components of the codes: code_size for codes that use all
        directions alike, 1 for codes on a line.
    """

    mean: np.ndarray
    deviation: np.ndarray
    share_of_zeros: float
    dead_units: tuple[int, ...]
    effective_dimension: float

    @property
    def mean_activation(self) -> float:
        """Mean over rows and units."""
        return float(self.mean.mean())


def code_statistics(Z: np.ndarray) -> CodeStatistics:
    """Statistics of codes, (n, code).

    Examples
    --------
    >>> code_statistics(np.array([[0.0, 1.0], [0.0, 3.0]])).dead_units
    (0,)
    """
    Z = np.asarray(Z, dtype=np.float64)
    deviation = Z.std(axis=0)
    dead = tuple(np.flatnonzero(deviation < 1e-6 * max(1e-12, float(deviation.max()))).tolist())
    variances = np.linalg.eigvalsh(np.atleast_2d(np.cov(Z.T))) if len(Z) > 1 else np.zeros(1)
    effective = float(variances.sum() ** 2 / max(float(np.square(variances).sum()), 1e-300))
    return CodeStatistics(Z.mean(axis=0), deviation, float((Z == 0).mean()), dead, effective)


def pca_error(X: Any, code_size: int, X_test: Any = None, *, random_state: int = 0) -> float:
    """Mean squared error of principal component analysis with the same code size, in squared units of X.

    Parameters
    ----------
    X
        Rows that the components are learned from, at most 10,000 of them, evenly spread.
    code_size
        Number of components; no more are used than X has rows or features.
    X_test
        Rows that the error is measured on; None: the same rows.
    random_state
        Seed of the randomised solver.
    """
    rows = sample_rows(X)
    test = rows if X_test is None else sample_rows(X_test)
    pca = PCA(min(code_size, *rows.shape), random_state=random_state).fit(rows)
    return float(np.square(pca.inverse_transform(pca.transform(test)) - test).mean())


def sample_rows(X: Any, n: int = SAMPLE) -> np.ndarray:
    """At most n rows of X, evenly spread, flat and as double: (k, d)."""
    source = _source(X)
    rows = source.read(np.unique(np.linspace(0, source.n_rows - 1, min(n, source.n_rows)).astype(int)))
    return rows.reshape(len(rows), -1).astype(np.float64)


@dataclass(frozen=True)
class WorstRows:
    """The rows that a model restores worst.

    Attributes
    ----------
    index
        Their places in X, the worst first, (n,).
    X, X_hat
        The rows and their reconstructions, (n, *feature_shape).
    error
        Mean squared error of each, (n,).
    """

    index: np.ndarray
    X: np.ndarray
    X_hat: np.ndarray
    error: np.ndarray


def worst_rows(model: Autoencoder, X: Any, n: int = 10, *, y: Any = None) -> WorstRows:
    """The n rows of X with the largest reconstruction error; y are their labels, for a conditional model."""
    error = model.reconstruction_error(X, y)
    index = np.argsort(error)[::-1][:n]
    rows, labels = take_rows(X, index), None if y is None else np.asarray(y)[index]
    return WorstRows(index, np.asarray(rows), np.asarray(model.reconstruct(rows, labels)), error[index])


def take_rows(X: Any, index: np.ndarray) -> Any:
    """Some rows of anything that a model takes: a frame of a frame, else an array (k, *feature_shape)."""
    if hasattr(X, "columns"):
        return X.iloc[index] if hasattr(X, "iloc") else X[index]
    return _source(X).read(index)


def _source(X: Any) -> Source:
    return as_source(X if isinstance(X, Source) or scipy.sparse.issparse(X) else np.asanyarray(X))


def code_map(Z: np.ndarray, method: str = "auto", *, random_state: int = 0) -> np.ndarray:
    """Codes on a plane, (n, 2).

    Parameters
    ----------
    Z
        Codes, (n, code).
    method
        ``"pca"``, ``"tsne"`` (scikit-learn's, slow over some thousand rows), or ``"auto"``: codes of two numbers as
        they are, PCA for fewer than 50 rows and over 3,000, else t-SNE.
    random_state
        Seed of t-SNE.
    """
    if method not in ("auto", "pca", "tsne"):
        raise ValueError(f"method={method!r} must be 'auto', 'pca' or 'tsne'.")
    if Z.shape[1] < 3 and method == "auto":
        return np.column_stack([Z[:, 0], Z[:, -1] if Z.shape[1] == 2 else np.zeros(len(Z))])
    if method == "tsne" or (method == "auto" and 50 <= len(Z) <= 3_000):
        return np.asarray(TSNE(random_state=random_state, perplexity=min(30, (len(Z) - 1) / 3)).fit_transform(Z))
    return np.asarray(PCA(2, random_state=random_state).fit_transform(Z))


@dataclass(frozen=True)
class Density:
    """The density of the code numbers of one model.

    Attributes
    ----------
    centres, density
        Middle of each bin, and share of the numbers in it by its width, (bins,).
    mean
        Mean over all rows and units.
    """

    centres: np.ndarray
    density: np.ndarray
    mean: float


def code_densities(models: Mapping[str, Autoencoder], X: Any, *, bins: int = 60) -> dict[str, Density]:
    """The density of the codes of each model over rows X, on common bins."""
    return densities_of({name: np.asarray(model.transform(X)) for name, model in models.items()}, bins=bins)


def densities_of(codes: Mapping[str, np.ndarray], *, bins: int = 60) -> dict[str, Density]:
    """The density of several sets of codes, on common bins."""
    codes = {name: Z.ravel() for name, Z in codes.items()}
    together = np.concatenate(list(codes.values()))
    edges = np.histogram_bin_edges(together, bins=bins, range=tuple(np.quantile(together, [0.0005, 0.9995])))
    centres = (edges[1:] + edges[:-1]) / 2
    return {
        name: Density(centres, np.histogram(Z, edges, density=True)[0], float(Z.mean())) for name, Z in codes.items()
    }
