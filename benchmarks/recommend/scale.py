"""Speed and memory: ``python -m benchmarks.recommend.scale answers | similar | index | epoch``."""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import scipy.sparse

import isthmus
from benchmarks.recommend.logs import positives
from isthmus import Recommender, nearest


def gigabytes() -> float:
    """Peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def answers() -> None:
    """Recommendations per second for 1,000 users of MovieLens 1M."""
    log = positives("ml-1m")
    model = Recommender(max_epochs=1, random_state=0).fit(log)
    users = model.users_[:1000].tolist()
    model.recommend_batch(users[:10], 10)
    began = time.perf_counter()
    model.recommend_batch(users, 10)
    seconds = time.perf_counter() - began
    print(f"{len(model.items_):,} items: {1000 / seconds:,.0f} users a second")


def directions(n_rows: int = 1_000_000, width: int = 128) -> np.ndarray:
    """Vectors like those of recommenders: a few dozen factors plus noise."""
    draw = np.random.default_rng(0)
    tastes = draw.standard_normal((32, width), dtype=np.float32)
    made = np.empty((n_rows, width), np.float32)
    for start in range(0, n_rows, 50_000):
        part = made[start : start + 50_000]
        part[:] = draw.standard_normal((len(part), 32), dtype=np.float32) @ tastes
        part += draw.standard_normal(part.shape, dtype=np.float32)
    return made


def similar() -> None:
    """The exact neighbours of one item among a million, in bounded memory."""
    vectors = directions()
    before = gigabytes()
    began = time.perf_counter()
    nearest(vectors, vectors[:1], 11)
    one = time.perf_counter() - began
    began = time.perf_counter()
    nearest(vectors, vectors[:100], 11)
    hundred = time.perf_counter() - began
    used = gigabytes() - before
    print(f"1,000,000 × 128: {one:.2f} s for one, {hundred:.2f} s for 100, {used:.2f} GB above the vectors")


def index() -> None:
    """The index: build time, query time and recall."""
    vectors = directions()
    exact = nearest(vectors, vectors[:200], 11)[0]
    began = time.perf_counter()
    made = isthmus.SimilarityIndex(vectors)
    built = time.perf_counter() - began
    began = time.perf_counter()
    found = [made.nearest(vectors[[row]], 11)[0][0] for row in range(200)]
    asked = (time.perf_counter() - began) / 200
    recall = np.mean([len(set(one) & set(other)) / 11 for one, other in zip(found, exact, strict=True)])
    print(f"index: built in {built:.0f} s, {1000 * asked:.2f} ms a query, recall {recall:.3f}, {gigabytes():.2f} GB")


def epoch(n_users: int = 200_000, n_items: int = 50_000, each: int = 100) -> None:
    """One epoch on a synthetic log of 20 million interactions."""
    before = gigabytes()
    matrix = synthetic(n_users, n_items, each)
    made = gigabytes()
    began = time.perf_counter()
    model = Recommender(max_epochs=1, random_state=0).fit(matrix)
    seconds = time.perf_counter() - began
    steps, trained = -(-n_users // model.model_.settled_["batch_size"]), model.history_.rows[-1]["seconds"]
    print(
        f"{matrix.nnz:,} interactions, {n_users:,} × {n_items:,}: {seconds:.0f} s, {trained:.0f} of them in "
        f"{steps} steps; at the peak {gigabytes() - before:.2f} GB above the interpreter (log {made - before:.2f} GB)"
    )


def synthetic(n_users: int, n_items: int, each: int) -> scipy.sparse.csr_array:
    """Users with `each` distinct items, drawn by popularity."""
    draw = np.random.default_rng(0)
    indices = np.empty((n_users, each), np.int32)
    strides = draw.integers(1, 300, n_users)[:, None]
    starts = (n_items * draw.random((n_users, 1)) ** 2).astype(np.int64)
    for start in range(0, n_users, 10_000):
        rows = slice(start, start + 10_000)
        indices[rows] = np.sort((starts[rows] + strides[rows] * np.arange(each)) % n_items, axis=1)
    indptr = np.arange(0, n_users * each + 1, each)
    return scipy.sparse.csr_array((np.ones(n_users * each, np.float32), indices.ravel(), indptr), (n_users, n_items))


JOBS = {"answers": answers, "similar": similar, "index": index, "epoch": epoch}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recommend.scale", description=__doc__)
    parser.add_argument("job", nargs="+", choices=JOBS)
    for job in parser.parse_args().job:
        JOBS[job]()
