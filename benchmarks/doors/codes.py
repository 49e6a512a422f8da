"""What codes of every kind restore with nothing else set: bounded, sparse, and the two numbers of a deep network."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

import isthmus
from isthmus import Autoencoder, Dense, SparseAutoencoder

LEAST = 0.65
"""Share of the variance of the rows learned from that a code of 16 numbers must restore in 8 epochs."""
ACTIVATIONS = ("plain", "relu", "sigmoid", "tanh")
DEEP = (128, 64, 32, 16, 8, 4)


def digits(n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The first training rows of MNIST, flat, in [0, 1], and 2,000 held-out ones."""
    data = isthmus.datasets.load_mnist()
    parts = data.X[:n_rows], data.X_test[:2000]
    flat, held_out = (rows.reshape(len(rows), -1).astype(np.float32) / 255 for rows in parts)
    return flat, held_out


def code_lines(seeds: Iterable[int]) -> list[str]:
    """Three tables, a row for each kind of code, with every seed's figures."""
    X, X_test = digits(5000)
    lines = [
        "## Codes",
        "",
        "MNIST, the first 5,000 training rows, 8 epochs, code of 16 numbers, all else by default.",
        "",
    ]
    lines += ["| code | restored, rows learned from | restored, held-out rows |", "|---|---|---|"]
    for code in ACTIVATIONS:
        models = [fitted(Autoencoder(16, code=code, max_epochs=8, random_state=seed), X) for seed in seeds]
        shares = [[model.restored_variance(rows) for model in models] for rows in (X, X_test)]
        mark = "" if min(shares[0]) >= LEAST else " **"
        lines.append(f"| {code} | {figures(shares[0])}{mark} | {figures(shares[1])} |")
    lines += ["", '`SparseAutoencoder(64)` by default and with `penalty="kl-sparsity"`, 8 epochs.', ""]
    lines += ["| penalty | restored, held-out rows | numbers of a code above 0.1 of its largest |", "|---|---|---|"]
    for penalty in ("l1", "kl-sparsity"):
        models = [fitted(SparseAutoencoder(64, penalty=penalty, max_epochs=8, random_state=seed), X) for seed in seeds]
        restored = [model.restored_variance(X_test) for model in models]
        lines.append(f"| {penalty} | {figures(restored)} | {figures([active(model, X_test) for model in models])} |")
    lines += ["", f"A code of two numbers behind {DEEP}, 6,000 rows, 4 epochs.", ""]
    lines += [
        "| activation | correlation of the two | second of the first singular value | restored |",
        "|---|---|---|---|",
    ]
    X, X_test = digits(6000)
    for activation in ("gelu", "relu"):
        network = Dense(DEEP, activation=activation)
        models = [fitted(Autoencoder(2, network=network, max_epochs=4, random_state=seed), X) for seed in seeds]
        lines.append(
            f"| {activation} | {' | '.join(map(figures, zip(*(line_of(m, X_test) for m in models), strict=True)))} |"
        )
    return lines


def fitted(model: Any, X: np.ndarray) -> Any:
    """The model, fitted in silence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a useless code is what the table would show
        return model.fit(X)


def active(model: Autoencoder, X: np.ndarray) -> float:
    """Share of the numbers of codes that are above a tenth of the largest of their unit."""
    codes = np.abs(model.transform(X))
    return float((codes > 0.1 * codes.max(axis=0)).mean())


def line_of(model: Autoencoder, X: np.ndarray) -> tuple[float, float, float]:
    """Correlation of two code units, ratio of the singular values of the codes, and the share restored."""
    codes = model.transform(X)
    singular = np.linalg.svd(codes - codes.mean(axis=0), compute_uv=False)
    return float(np.corrcoef(codes.T)[0, 1]), float(singular[1] / singular[0]), model.restored_variance(X)


def figures(each: Iterable[float]) -> str:
    """One figure a seed."""
    return ", ".join(f"{value:.3f}" for value in each)
