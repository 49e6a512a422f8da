"""VAECF, EASE and BPR of cornac.

VAECF and EASE score users from their histories. BPR cannot: it is given these histories in training.
"""

from __future__ import annotations

import cornac
import numpy as np
import scipy.sparse
import torch
from protocol import run

RIDGES = (200, 500, 1000)
EPOCHS, ROUNDS = 20, 5
"""VAECF trains on while validation gets better, so many epochs at a time."""
BPR_SETTINGS = ((0.01, 0.01), (0.05, 0.01), (0.05, 0.001))
"""Learning rate and regularisation."""


def as_dataset(matrix):
    rows, columns = matrix.nonzero()
    data = cornac.data.Dataset.from_uir(
        [(user, item, 1.0) for user, item in zip(rows.tolist(), columns.tolist(), strict=True)]
    )
    users, items = (np.array(sorted(ids, key=ids.get)) for ids in (data.uid_map, data.iid_map))
    return data, users, items


def spread(scores, items, width):
    whole = np.full((len(scores), width), -np.inf)
    whole[:, items] = scores
    return whole


def vaecf(seed, split):
    """The layers, code, beta and learning rate of Liang et al. (2018), who stop when validation falls."""
    data, _, items = as_dataset(split.train)
    model = cornac.models.VAECF(k=200, autoencoder_structure=[600], act_fn="tanh", likelihood="mult", n_epochs=EPOCHS,
                                batch_size=250, learning_rate=0.001, beta=0.2, seed=seed, use_gpu=False)  # fmt: skip

    def score(which):
        given = getattr(split, which)
        with torch.no_grad():
            z, _ = model.vae.encode(torch.tensor(given[:, items].toarray(), dtype=torch.float32))
            return spread(model.vae.decode(z).numpy(), items, given.shape[1])

    for turn in range(1, ROUNDS + 1):
        model.fit(data)  # goes on from where it was
        yield f"{turn * EPOCHS} epochs", score


def ease(seed, split):
    data, _, items = as_dataset(split.train)
    for ridge in RIDGES:
        model = cornac.models.EASE(lamb=ridge, posB=False, seed=seed, verbose=False)
        model.fit(data)

        def score(which, model=model):
            given = getattr(split, which)
            return spread(np.asarray(given[:, items] @ model.B), items, given.shape[1])

        yield f"lamb {ridge}", score


def bpr(seed, split):
    together = scipy.sparse.vstack([split.test, split.validation, split.train]).tocsr()
    data, users, items = as_dataset(together)
    place = {user: row for row, user in enumerate(users.tolist())}
    first = {"test": 0, "validation": split.test.shape[0]}
    for rate, weight in BPR_SETTINGS:
        model = cornac.models.BPR(k=100, max_iter=100, learning_rate=rate, lambda_reg=weight, seed=seed, num_threads=1)
        model.fit(data)

        def score(which, model=model):
            wanted = [place[first[which] + row] for row in range(getattr(split, which).shape[0])]
            return spread(model.u_factors[wanted] @ model.i_factors.T + model.i_biases, items, together.shape[1])

        yield f"learning_rate {rate:g}, lambda_reg {weight:g}", score


def job(who, seed, split):
    torch.set_num_threads(1)
    return {"cornac-VAECF": vaecf, "cornac-EASE": ease, "cornac-BPR": bpr}[who](seed, split)


run(job, until_worse=("cornac-VAECF", "cornac-EASE"))
