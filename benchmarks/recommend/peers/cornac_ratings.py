"""Ratings by the MF of cornac: settings by a part of what is given, then all of it."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import cornac
import numpy as np
import scipy.sparse

SETTINGS = ((10, 0.02, 20), (50, 0.05, 50), (50, 0.1, 50), (100, 0.1, 100))
"""Factors, regularisation, passes: the library's own first."""


def fit(matrix, factors, weight, passes, seed):
    rows, columns = matrix.nonzero()
    triples = zip(rows.tolist(), columns.tolist(), matrix.data.tolist(), strict=True)
    data = cornac.data.Dataset.from_uir(list(triples))
    model = cornac.models.MF(
        k=factors, max_iter=passes, learning_rate=0.01, lambda_reg=weight, use_bias=True, seed=seed, num_threads=1
    )
    return model.fit(data), data


def predict(fitted, matrix, low, high):
    model, data = fitted
    rows, columns = matrix.nonzero()
    users = np.array([data.uid_map.get(row, -1) for row in rows.tolist()])
    items = np.array([data.iid_map.get(column, -1) for column in columns.tolist()])
    value = np.full(len(rows), model.global_mean, float)
    value += np.where(users >= 0, model.u_biases[users], 0) + np.where(items >= 0, model.i_biases[items], 0)
    both = (users >= 0) & (items >= 0)
    value[both] += (model.u_factors[users[both]] * model.i_factors[items[both]]).sum(1)
    return value.clip(low, high)


def main():
    seed, folder = int(sys.argv[1]), Path(sys.argv[2])
    names = ("train", "chosen", "all", "test")
    train, chosen, whole, test = (scipy.sparse.csr_matrix(scipy.sparse.load_npz(folder / f"{n}.npz")) for n in names)
    began = time.process_time()
    low, high = whole.data.min(), whole.data.max()

    def error(settings):
        predicted = predict(fit(train, *settings, seed), chosen, low, high)
        return float(np.sqrt(np.mean((predicted - chosen.data) ** 2)))

    best = min(SETTINGS, key=error)
    np.save(folder / "predicted.npy", predict(fit(whole, *best, seed), test, low, high))
    words = "k {}, lambda_reg {:g}, max_iter {}".format(*best)
    (folder / "told.json").write_text(json.dumps({"seconds": time.process_time() - began, "settings": words}))


main()
