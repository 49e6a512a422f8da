"""Rows that break a close relation, by the default alarm at 1 %: ``python -m benchmarks.anomaly.broken_relations``.

Columns are drawn from a normal distribution, but for the last, which follows the first to a tenth of a deviation. In
300 rows that relation is broken by some deviations of its usual error; every cell is ordinary. Printed is the share of
these rows that raise the alarm, and of 3,000 rows that break nothing.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence

import numpy as np
import torch

from isthmus import AnomalyDetector

ERROR, N_ODD, N_FRESH = 0.1, 300, 3000
BROKEN_BY = (4, 6, 9, 15)


def following(n: int, n_columns: int, draw: np.random.Generator) -> np.ndarray:
    """Rows whose last column follows the first, (n, columns)."""
    X = draw.normal(size=(n, n_columns))
    X[:, -1] = X[:, 0] + ERROR * X[:, -1]
    return X


def broken(n_columns: int, by: float, draw: np.random.Generator) -> np.ndarray:
    """The same with an error of so many deviations, up or down, (300, columns)."""
    X = following(N_ODD, n_columns, draw)
    X[:, -1] = X[:, 0] + by * ERROR * draw.choice([-1.0, 1.0], N_ODD)
    return X


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="*", type=int, default=[1000, 4000])
    parser.add_argument("--columns", nargs="*", type=int, default=[2, 4, 8])
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print("| columns | rows learned from | " + " | ".join(f"by {by}" for by in BROKEN_BY) + " | not broken |")
    print("|---" * (len(BROKEN_BY) + 3) + "|")
    for n_columns, n_rows in itertools.product(told.columns, told.rows):
        draw = np.random.default_rng(told.seed)
        detector = AnomalyDetector(random_state=told.seed).fit(following(n_rows, n_columns, draw))
        tables = [broken(n_columns, by, draw) for by in BROKEN_BY] + [following(N_FRESH, n_columns, draw)]
        shares = [f"{np.mean(detector.predict(X) == -1):.1%}" for X in tables]
        print(f"| {n_columns} | {n_rows:,} | " + " | ".join(shares) + " |", flush=True)


if __name__ == "__main__":
    main()
