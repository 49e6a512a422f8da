"""Searches in a given time on three data sets, beside the default and scikit-learn's random search."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.model_selection import ParameterSampler

import isthmus
from isthmus import Autoencoder, choose
from isthmus.tasks.choosing.deadline import Deadline, seconds_of
from isthmus.tasks.choosing.space import WIDTHS, settings_of


def sets() -> dict[str, np.ndarray]:
    """The three sets: digits, and two tables."""
    return {
        "digits": load_digits().data,
        "breast cancer": load_breast_cancer().data,
        "wine": load_wine().data,
    }


def lines(budget: str, seed: int) -> Iterator[tuple[str, float]]:
    """Test error of the chosen model, of the default of the same code size, and of a random search in the same time."""
    for name, X in sets().items():
        order = np.random.default_rng(seed).permutation(len(X))
        train, test = X[order[len(X) // 4 :]], X[order[: len(X) // 4]]
        began = time.perf_counter()
        found = choose(train, budget, random_state=seed)
        taken = time.perf_counter() - began
        yield f"{name}: share of the budget used", taken / seconds_of(budget)
        yield f"{name}: code size", found.code_size
        yield f"{name}: trials", len(found.table)
        epochs = int(found.estimator.max_epochs)
        part = train[: int(0.8 * len(train))]
        default = Autoencoder(found.code_size, max_epochs=epochs, random_state=seed).fit(part)
        yield f"{name}: test error, default", _error(default, test)
        yield f"{name}: test error, chosen", _error(found.estimator, test)
        yield f"{name}: test error, random search", _random_search(train, test, found.estimator, taken, seed)


def _error(model: Autoencoder, X: np.ndarray) -> float:
    return float(np.sqrt(max(0.0, 1.0 - model.restored_variance(X))))


def _random_search(train: np.ndarray, test: np.ndarray, kept: Autoencoder, seconds: float, seed: int) -> float:
    """The test error of the best of random points of the same space, in the same time."""
    code_size, epochs = kept.code_size, kept.max_epochs
    rows, held_out = train[: int(0.8 * len(train))], train[int(0.8 * len(train)) :]
    end, best = time.monotonic() + seconds, (np.inf, np.inf)
    draw = np.random.default_rng(seed)
    names: dict[str, Any] = {
        "depth": [0, 1, 2, 3],
        "width": WIDTHS,
        "corruption": ["none", "gaussian-noise", "masking"],
    }
    names |= {"loss": ["auto", "mean-squared-error", "mean-absolute-error", "huber"], "penalty": ["none", "l1", "l2"]}
    for point in ParameterSampler(names, 10**6, random_state=seed):
        if time.monotonic() >= end:
            break
        scales = {"noise": (0.02, 0.5), "penalty_weight": (1e-6, 1e-2), "learning_rate": (5e-4, 2e-2)}
        drawn = {name: float(np.exp(draw.uniform(*np.log(limits)))) for name, limits in scales.items()}
        model = Autoencoder(
            code_size,
            **settings_of({**point, **drawn}),
            max_epochs=epochs,
            callbacks=(Deadline(end),),
            random_state=seed,
        )
        try:
            error = _error(model.fit(rows), held_out)
        except isthmus.DivergenceError:
            continue
        best = min(best, (error, _error(model, test)))
    return best[1]
