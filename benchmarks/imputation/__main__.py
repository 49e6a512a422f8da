"""Errors of imputed cells on mixed tables, compared with scikit-learn's imputers.

    python -m benchmarks.imputation [NAME ...] [--share 0.2] [--seeds 2] [--out FILE]

A share of all cells is knocked out at random. The first number is the root of the mean squared error of numbers in
deviations of their column, the second the share of wrong words; both are means over columns, and lower is better.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from benchmarks.imputation.peers import PEERS, fill
from benchmarks.imputation.sets import errors, knocked_out, mixed_tables

WHO = [*PEERS, "isthmus"]
Results = dict[str, dict[str, tuple[float, float, float]]]


def measure(wanted: list[str], share: float, n_seeds: int, out: Path | None) -> Results:
    """For each table and imputer: error of numbers, error of categories and seconds; means over seeds."""
    results: Results = {}
    for name, frame in mixed_tables():
        if wanted and name not in wanted:
            continue
        runs: dict[str, list[tuple[float, float, float]]] = {who: [] for who in WHO}
        for seed in range(n_seeds):
            holed, gone = knocked_out(frame, share, seed)
            for who in WHO:
                start = time.perf_counter()
                filled = fill(who, holed)
                seconds = time.perf_counter() - start
                runs[who].append((*errors(frame, gone, filled), seconds))
        results[name] = {who: tuple(np.mean(runs[who], axis=0).tolist()) for who in WHO}
        shape = f"{name} ({frame.shape[0]}×{frame.shape[1]})"
        print(f"{shape:<30}" + "".join(_cell(results[name][who]) for who in WHO), flush=True)
        if out is not None:
            out.write_text(json.dumps(results, indent=1), encoding="utf-8")
    return results


def _cell(found: tuple[float, ...]) -> str:
    return f"{found[0]:9.3f} {found[1]:6.3f} {found[2]:5.1f}s"


def main() -> None:
    """Measure and print the results, with means and the number of tables on which each imputer is best."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")  # of peers that have not converged
    print(f"{'table':<30}" + "".join(f"{who:>23}" for who in WHO))
    results = measure(given.names, given.share, given.seeds, given.out)
    table = np.array([[found[who] for who in WHO] for found in results.values()])  # (tables, imputers, 3)
    print(f"{'mean':<30}" + "".join(_cell(tuple(row)) for row in np.nanmean(table, axis=0).tolist()))
    for place, what in enumerate(("numbers", "words")):
        best = table[:, :, place] <= np.nanmin(table[:, :, place], axis=1, keepdims=True) + 1e-12
        print(f"best on {what}: " + ", ".join(f"{who} {n}" for who, n in zip(WHO, best.sum(axis=0), strict=True)))


if __name__ == "__main__":
    main()
