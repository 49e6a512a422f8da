"""Clusters of rows: codes, UMAP, and a Gaussian mixture."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import confusion_matrix
from sklearn.mixture import GaussianMixture

from isthmus.choices.registry import unknown
from isthmus.choices.rules import Whole
from isthmus.estimators import Autoencoder
from isthmus.estimators.kinds import require_autoencoder
from isthmus.exceptions import DataError
from isthmus.seeds import seed_from
from isthmus.tasks.maps import label_names, make_umap

METHODS = ("umap", "codes")
N_UMAP = 10
"""Dimensions between codes and mixture, as in N2D (McConville et al. 2021) for ten clusters."""


@dataclass(frozen=True)
class Clusters:
    """Rows in clusters.

    Attributes
    ----------
    labels
        The most probable cluster of each row, (n,), the largest cluster first: 0, 1, ….
    probabilities
        Of each cluster for each row, (n, clusters).
    model
        The autoencoder whose codes are clustered.
    method
        ``"umap"`` or ``"codes"``.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    model: Autoencoder
    method: str
    _place: Callable[[np.ndarray], np.ndarray] = field(repr=False, default=lambda codes: codes)

    def predict(self, X: Any, y: Any = None) -> np.ndarray:
        """The most probable cluster of new rows, (k,), without a new fit; a conditional model needs their labels y."""
        codes = np.asarray(self.model.transform(X, y), np.float64)
        return np.asarray(self._place(codes).argmax(axis=1))


def cluster_codes(
    model: Autoencoder, X: Any, n_clusters: int, method: str = "umap", *, y: Any = None, random_state: Any = 0
) -> Clusters:
    """Cluster rows by a Gaussian mixture on their codes, or on a UMAP embedding of the codes.

    UMAP pulls dense regions of codes together and others apart, so that Gaussians fit the clusters (N2D, McConville et
    al. 2021). Without it, clusters are where the codes themselves have dense regions.

    Parameters
    ----------
    model
        A fitted autoencoder.
    X
        Rows, (n, *feature_shape).
    n_clusters
        Number of clusters, >= 1, at most the number of rows.
    method
        ``"umap"``: codes, UMAP to 10 dimensions, mixture; needs ``pip install 'isthmus[maps]'``. ``"codes"``: the
        mixture on the codes.
    y
        Labels of the rows, for a conditional model only.
    random_state
        Seed or RandomState.

    Raises
    ------
    ValueError
        The method is unknown or `n_clusters` is not in range.
    ImportError
        UMAP is not installed.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(90, 4)) + np.repeat([0, 20, 40], 30)[:, None]
    >>> model = Autoencoder(2, network=(), max_epochs=10, random_state=0).fit(X)
    >>> found = cluster_codes(model, X, 3, "codes")
    >>> matched_accuracy(np.repeat(["a", "b", "c"], 30), found.labels)
    1.0
    """
    require_autoencoder(model, "cluster_codes", compares=False)
    if method not in METHODS:
        raise ValueError(unknown("method", str(method), METHODS))
    if not Whole(1).admits(n_clusters):
        raise ValueError(f"n_clusters={n_clusters!r} must be an integer >= 1.")
    codes = np.asarray(model.transform(X, y), np.float64)
    if n_clusters > len(codes):
        raise ValueError(f"n_clusters={n_clusters} is more than the {len(codes)} rows of X; ask for fewer clusters.")
    if not np.isfinite(codes).all():
        raise DataError("The codes contain NaN or infinite values; the weights of the model are damaged.")
    seed = seed_from(random_state)
    centre, scale = codes.mean(axis=0), codes.std(axis=0)
    embed: Callable[[np.ndarray], np.ndarray] = lambda Z: (Z - centre) / np.where(scale > 0, scale, 1.0)  # noqa: E731
    if method == "umap":
        embed = _by_umap(codes, n_clusters, seed)
    points = embed(codes)
    mixture = GaussianMixture(n_clusters, reg_covar=1e-4, n_init=5, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # repeated rows
        probabilities = mixture.fit(points).predict_proba(points)
    order = np.argsort(-np.bincount(probabilities.argmax(axis=1), minlength=n_clusters), kind="stable")

    def place(Z: np.ndarray) -> np.ndarray:
        return np.asarray(mixture.predict_proba(embed(Z))[:, order])

    ordered = probabilities[:, order]
    return Clusters(ordered.argmax(axis=1), ordered, model, method, place)


def _by_umap(codes: np.ndarray, n_clusters: int, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    n_components = max(2, min(N_UMAP, n_clusters))
    fitted = make_umap(n_components, len(codes), seed, min_dist=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its remarks about threads and its own dependencies
        fitted.fit(codes)

    def embed(Z: np.ndarray) -> np.ndarray:
        if Z.shape == codes.shape and np.array_equal(Z, codes):
            return np.asarray(fitted.embedding_, np.float64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(fitted.transform(Z), np.float64)

    return embed


def matched_accuracy(labels: Any, clusters: Any) -> float:
    """Accuracy of clusters if each is matched with one label, in [0, 1], by the best assignment (Kuhn 1955).

    Rows without a label (None, NaN) are left out.

    >>> matched_accuracy(["a", "a", "b", "b"], [1, 1, 0, 1])
    0.75
    """
    found = np.asarray(clusters)
    names, known = label_names(labels, len(found))
    if not known.any():
        raise ValueError("No row has a label, but at least one is needed; pass labels of some rows.")
    _, one = np.unique(names[known], return_inverse=True)
    _, other = np.unique(found[known], return_inverse=True)
    counts = confusion_matrix(one, other)
    rows, columns = linear_sum_assignment(-counts)
    return float(counts[rows, columns].sum() / counts.sum())
