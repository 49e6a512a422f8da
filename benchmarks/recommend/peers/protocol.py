"""What every peer shares: read the split, tell the lists. Runs in the peer's environment, without isthmus."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

Job = Callable[[str, int, Any, Any], Callable[[], np.ndarray]]


def run(job: Job) -> None:
    """Fit, timed; then write the best 100 items that are not given, and what it took."""
    who, seed, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    train, given = (
        scipy.sparse.csr_matrix(scipy.sparse.load_npz(folder / f"{name}.npz")) for name in ("train", "given")
    )
    began = time.perf_counter()
    score = job(who, seed, train, given)
    seconds = time.perf_counter() - began
    scores = np.asarray(score(), dtype=np.float64)
    scores[given.nonzero()] = -np.inf
    np.save(folder / "lists.npy", np.argsort(-scores, axis=1, kind="stable")[:, :100])
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    (folder / "told.json").write_text(json.dumps({"seconds": seconds, "gigabytes": used}))
