"""What is tried: code sizes, and the other hyper-parameters at the chosen size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from isthmus.choices import L1, L2, GaussianNoise, Masking
from isthmus.choices.registry import Context
from isthmus.estimators import Autoencoder

LARGEST_CODE = 64
WIDTHS = (32, 64, 128, 256, 512)


def code_sizes_for(n_features: int, n_rows: int) -> list[int]:
    """Powers of two up to 64, below the number of features and of rows.

    >>> code_sizes_for(784, 1000), code_sizes_for(6, 1000)
    ([1, 2, 4, 8, 16, 32, 64], [1, 2, 4])
    """
    most = max(1, min(LARGEST_CODE, n_features - 1, n_rows - 1))
    return [size for size in (2**power for power in range(7)) if size <= most]


def space_for(context: Context, optuna: Any) -> dict[str, Any]:
    """The distribution of each hyper-parameter, by name."""
    made = optuna.distributions
    losses = ["mean-squared-error", "mean-absolute-error"]
    losses += ["binary-cross-entropy"] if context.in_unit_interval else ["huber"]
    space = {
        "depth": made.IntDistribution(0, 3),
        "width": made.CategoricalDistribution(WIDTHS),
        "loss": made.CategoricalDistribution(("auto", *losses)),
        "corruption": made.CategoricalDistribution(("none", "gaussian-noise", "masking")),
        "noise": made.FloatDistribution(0.02, 0.5, log=True),
        "penalty": made.CategoricalDistribution(("none", "l1", "l2")),
        "penalty_weight": made.FloatDistribution(1e-6, 1e-2, log=True),
        "learning_rate": made.FloatDistribution(5e-4, 2e-2, log=True),
    }
    if len(context.feature_shape) in (2, 3):
        space["network"] = made.CategoricalDistribution(("dense", "convolutional"))
    return space


def settings_of(point: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of an `Autoencoder` for a point of the space."""
    sizes = tuple(max(2, int(point["width"]) >> layer) for layer in range(int(point["depth"])))
    noise, weight = float(point["noise"]), float(point["penalty_weight"])
    corruptions = {"none": None, "gaussian-noise": GaussianNoise(noise), "masking": Masking(noise)}
    penalties = {"none": None, "l1": L1(weight), "l2": L2(weight)}
    return {
        "network": "convolutional" if point.get("network") == "convolutional" else sizes,
        "loss": point["loss"],
        "corruption": corruptions[point["corruption"]],
        "penalty": penalties[point["penalty"]],
        "learning_rate": float(point["learning_rate"]),
    }


def pca_errors(train: np.ndarray, test: np.ndarray, model: Autoencoder, sizes: list[int]) -> list[float]:
    """The error of PCA with as many components as each code size, in the units of `restored_variance`'s root."""
    scale = np.where(model.feature_scale_ > 0, model.feature_scale_, np.inf)
    rows, held_out = ((part.reshape(len(part), -1) - model.feature_mean_) / scale for part in (train, test))
    rows, held_out = np.nan_to_num(rows), np.nan_to_num(held_out)
    centre = rows.mean(axis=0)
    values, vectors = np.linalg.eigh((rows - centre).T @ (rows - centre))
    turned = (held_out - centre) @ vectors[:, np.argsort(-values)]
    energy = np.square(turned).sum(axis=0)
    left, whole = energy.sum() - np.cumsum(energy), float(np.square(held_out).sum())
    found = [float(left[min(size, len(left)) - 1]) for size in sizes]
    return [float(np.sqrt(max(value, 0.0) / whole)) if whole > 0 else 0.0 for value in found]
