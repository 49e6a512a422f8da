"""ALS of implicit; users are folded in from their histories."""

from __future__ import annotations

import numpy as np
from implicit.als import AlternatingLeastSquares
from protocol import run

SETTINGS = ((100, 1.0, 0.01), (128, 5.0, 20.0), (128, 20.0, 50.0), (256, 20.0, 100.0))
"""Factors, weight of what was had (alpha), regularisation: the library's own, then more of all (Rendle et al. 2022)."""


def als(_, seed, split):
    for factors, alpha, regularization in SETTINGS:
        model = AlternatingLeastSquares(
            factors=factors, regularization=regularization, alpha=alpha, iterations=15, random_state=seed, num_threads=1
        )
        model.fit(split.train, show_progress=False)

        def score(which, model=model):
            given = getattr(split, which)
            return model.recalculate_user(np.arange(given.shape[0]), given) @ model.item_factors.T

        yield f"factors {factors}, alpha {alpha:g}, regularization {regularization:g}", score


run(als)
