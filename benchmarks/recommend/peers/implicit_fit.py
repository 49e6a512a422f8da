"""ALS of implicit; test users are folded in from their histories."""

from __future__ import annotations

import numpy as np
from implicit.als import AlternatingLeastSquares
from protocol import run


def als(_, seed, train, given):
    model = AlternatingLeastSquares(factors=100, regularization=0.01, iterations=30, random_state=seed, num_threads=1)
    model.fit(train.tocsr(), show_progress=False)
    return lambda: model.recalculate_user(np.arange(given.shape[0]), given) @ model.item_factors.T


run(als)
