"""VAECF, EASE and BPR of cornac.

VAECF and EASE score test users from their histories. BPR cannot: it is given the test users' histories in training.
"""

from __future__ import annotations

import cornac
import numpy as np
import scipy.sparse
import torch
from protocol import run


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


def vaecf(seed, train, given):
    data, _, items = as_dataset(train)
    model = cornac.models.VAECF(k=200, autoencoder_structure=[600], act_fn="tanh", likelihood="mult", n_epochs=100,
                                batch_size=250, learning_rate=0.001, beta=0.2, seed=seed, use_gpu=False)  # fmt: skip
    model.fit(data)

    def score():
        with torch.no_grad():
            z, _ = model.vae.encode(torch.tensor(given[:, items].toarray(), dtype=torch.float32))
            return spread(model.vae.decode(z).numpy(), items, given.shape[1])

    return score


def ease(seed, train, given):
    data, _, items = as_dataset(train)
    model = cornac.models.EASE(lamb=500, posB=False, seed=seed)
    model.fit(data)
    return lambda: spread(np.asarray(given[:, items] @ model.B), items, given.shape[1])


def bpr(seed, train, given):
    together = scipy.sparse.vstack([given, train]).tocsr()
    data, users, items = as_dataset(together)
    model = cornac.models.BPR(k=100, max_iter=200, learning_rate=0.01, lambda_reg=0.01, seed=seed, num_threads=1)
    model.fit(data)
    place = {user: row for row, user in enumerate(users.tolist())}
    wanted = [place[user] for user in range(given.shape[0])]
    return lambda: spread(model.u_factors[wanted] @ model.i_factors.T + model.i_biases, items, given.shape[1])


def job(who, seed, train, given):
    torch.set_num_threads(1)
    return {"cornac-VAECF": vaecf, "cornac-EASE": ease, "cornac-BPR": bpr}[who](seed, train, given)


run(job)
