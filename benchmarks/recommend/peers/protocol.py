"""What every peer shares: read the split, choose, tell the lists. Runs in the peer's environment, without isthmus."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

PLACES = 100


@dataclass
class Split:
    """Training users, what is given of validation and test users, and what is held out of the validation users."""

    train: Any
    validation: Any
    held: Any
    test: Any


Scores = Callable[[str], np.ndarray]
"""From ``"validation"`` or ``"test"`` to the scores of those users, (users, items)."""
Job = Callable[[str, int, Split], Iterator[tuple[str, Scores]]]
"""Yields candidates, one after the other: their settings in words, and their scores."""


def run(job: Job, until_worse: Collection[str] = ()) -> None:
    """Fit, keep what is best for the validation users, and write its lists for the test users.

    Of those `until_worse`, candidates are tried only as long as they get better. Times are those of the processor.
    """
    who, seed, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    parts = (scipy.sparse.load_npz(folder / f"{name}.npz") for name in ("train", "validation", "held", "test"))
    split = Split(*(scipy.sparse.csr_matrix(part) for part in parts))
    began = time.process_time()
    highest, chosen, answer, asked = -1.0, "", np.empty(0), 0.0
    for words, scores in job(who, seed, split):
        reached = ndcg(lists(scores("validation"), split.validation), split.held)
        print(f"{who} {words}: validation {reached:.4f}", file=sys.stderr, flush=True)
        if reached > highest:
            started = time.process_time()
            highest, chosen, answer = reached, words, lists(scores("test"), split.test)
            asked += time.process_time() - started
        elif who in until_worse:
            break
    told = {
        "seconds": time.process_time() - began - asked,
        "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "settings": chosen,
    }
    np.save(folder / "lists.npy", answer)
    (folder / "told.json").write_text(json.dumps(told))


def lists(scores: np.ndarray, given: Any) -> np.ndarray:
    """The best items that are not given."""
    scores = np.array(scores, dtype=np.float64)
    scores[given.nonzero()] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :PLACES]


def ndcg(recommended: np.ndarray, held: Any) -> float:
    """Mean over the users with something held out, to choose settings by."""
    wanted = held.toarray() > 0
    gains = np.take_along_axis(wanted, recommended, axis=1) / np.log2(np.arange(2, PLACES + 2))
    ideal = np.concatenate([[1.0], np.cumsum(1 / np.log2(np.arange(2, PLACES + 2)))])
    counts = wanted.sum(axis=1)
    return float((gains.sum(axis=1) / ideal[counts.clip(max=PLACES)])[counts > 0].mean())
