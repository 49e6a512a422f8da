"""Codes as features for classifiers, beside the raw features and principal components."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin, clone
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from isthmus.choices.rules import Whole
from isthmus.data import Source
from isthmus.diagnosis import take_rows
from isthmus.estimators import Autoencoder
from isthmus.estimators.kinds import require_autoencoder
from isthmus.exceptions import DataError
from isthmus.seeds import seed_from
from isthmus.wording import counted


def usual_classifiers(seed: int = 0) -> dict[str, ClassifierMixin]:
    """The classifiers of `compare_features` by name: neighbours, logistic regression, a tree, boosted trees."""
    return {
        "k nearest neighbours": KNeighborsClassifier(5),
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)),
        "tree": DecisionTreeClassifier(random_state=seed),
        "boosted trees": HistGradientBoostingClassifier(max_iter=50, min_samples_leaf=5, random_state=seed),
    }


def compare_features(
    models: Mapping[str, Autoencoder],
    X: Any,
    y: Any,
    X_test: Any,
    y_test: Any,
    *,
    n_labels: Sequence[int | None] = (100, 1_000, None),
    classifiers: Mapping[str, Any] | None = None,
    random_state: Any = 0,
) -> pd.DataFrame:
    """Accuracy of classifiers on the raw features, on principal components, and on codes.

    All features are computed once; PCA has as many components as the longest code.

    Parameters
    ----------
    models
        Fitted autoencoders by name; they learned from rows without labels, usually X.
    X, y
        Rows and labels to learn from, (n, *feature_shape) and (n,).
    X_test, y_test
        Rows and labels to measure on.
    n_labels
        Numbers of labelled rows that the classifiers learn from, drawn at random with every class among them; None: all
        rows. Numbers above the number of rows are left out.
    classifiers
        scikit-learn classifiers by name, which are cloned; None: `usual_classifiers`.
    random_state
        Seed or RandomState of the labelled rows.

    Returns
    -------
    pandas frame
        One row for each of features, classifier and number of labels: ``features``, ``width``, ``classifier``,
        ``n_labels``, ``accuracy`` in [0, 1], ``seconds``.

    Raises
    ------
    ValueError
        Labels are missing, are too few, or do not fit the rows.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> models = {"code of 2": Autoencoder(2, max_epochs=20, random_state=0).fit(X)}
    >>> found = compare_features(models, X[::2], y[::2], X[1::2], y[1::2], n_labels=[30])
    >>> best = found.groupby("features")["accuracy"].max()
    >>> list(best.index), bool((best > 0.8).all())
    (['PCA of 2', 'code of 2', 'raw'], True)
    """
    if not models:
        raise ValueError("models is empty; give at least one fitted autoencoder.")
    for model in models.values():
        require_autoencoder(model, "compare_features", compares=False)
    labels, known = _labels(y, X, "y"), _labels(y_test, X_test, "y_test")
    seed = seed_from(random_state)
    sizes = _sizes(n_labels, len(labels), len(np.unique(labels)))
    rows = {number: _chosen(labels, number, seed) for number in sizes}
    tried = usual_classifiers(seed) if classifiers is None else dict(classifiers)
    found = []
    for name, train, test in _features(models, X, X_test):
        for kind, classifier in tried.items():
            for number, chosen in rows.items():
                began = time.perf_counter()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ConvergenceWarning)  # raw features may need more steps
                    fitted = clone(classifier).fit(train[chosen], labels[chosen])
                accuracy = float(np.mean(fitted.predict(test) == known))
                seconds = time.perf_counter() - began
                found.append((name, train.shape[1], kind, number, accuracy, seconds))
    return pd.DataFrame(found, columns=["features", "width", "classifier", "n_labels", "accuracy", "seconds"])


def _features(models: Mapping[str, Autoencoder], X: Any, X_test: Any) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name and values of each set of features."""
    raw = [_flat(rows) for rows in (X, X_test)]
    yield "raw", raw[0], raw[1]
    longest = max(model.objective_.context.code_size for model in models.values())
    pca = PCA(min(longest, *raw[0].shape), random_state=0).fit(raw[0])
    yield f"PCA of {pca.n_components_}", pca.transform(raw[0]), pca.transform(raw[1])
    for name, model in models.items():
        yield name, np.asarray(model.transform(X)), np.asarray(model.transform(X_test))


def _flat(X: Any) -> np.ndarray:
    n_rows = X.n_rows if isinstance(X, Source) else X.shape[0] if hasattr(X, "shape") else len(X)
    rows = np.asarray(take_rows(X, np.arange(n_rows)), np.float32)
    return rows.reshape(n_rows, -1)


def _labels(y: Any, X: Any, name: str) -> np.ndarray:
    labels = np.asarray(y)
    n_rows = X.n_rows if isinstance(X, Source) else X.shape[0] if hasattr(X, "shape") else len(X)
    if labels.shape != (n_rows,):
        raise ValueError(f"{name} has shape {labels.shape}, but ({n_rows},) is needed: one label for each row.")
    missing = pd.isna(labels)
    if missing.any():
        raise ValueError(
            f"{name} has {counted(int(missing.sum()), 'missing label')}, the first at row {missing.argmax()}; drop "
            "these "
            "rows."
        )
    return labels


def _sizes(n_labels: Sequence[int | None], n_rows: int, n_classes: int) -> list[int]:
    wrong = [number for number in n_labels if number is not None and not Whole(1).admits(number)]
    if wrong or not len(n_labels):
        raise ValueError(f"n_labels={list(n_labels)!r} must be integers >= 1 or None.")
    few = [number for number in n_labels if number is not None and number < n_classes]
    if few or n_rows < n_classes:
        raise ValueError(
            f"n_labels={few[0] if few else n_rows} is below the number of classes; give at least {n_classes}."
        )
    if n_classes < 2:
        raise DataError(f"y has {n_classes} class, but classifiers need at least 2; pass rows of more classes.")
    return list(dict.fromkeys(n_rows if number is None else number for number in n_labels if (number or 0) <= n_rows))


def _chosen(labels: np.ndarray, number: int, seed: int) -> np.ndarray:
    """Indices of some rows at random, with every class among them."""
    order = np.random.default_rng(seed).permutation(len(labels))
    _, first = np.unique(labels[order], return_index=True)
    rest = np.setdiff1d(np.arange(len(order)), first)
    return np.asarray(order[np.concatenate([first, rest[: number - len(first)]])])
