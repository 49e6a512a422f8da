"""How often the alarm of a normal row is wrong: ``python -m benchmarks.anomaly.alarms [--splits 200]``.

On the five sets with the most normal rows: the detector learns from 5,000 of them, once. The other normal rows are
split at random 200 times, half to calibrate and half to count alarms. The share of alarms over all splits stands
beside what exact promises give for so many rows, and the sampling error of that.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from isthmus import AnomalyDetector, FalseAlarmRate

ALPHAS = (0.01, 0.05, 0.1)
N_SETS, N_LEARNED, MOST_HELD_OUT = 5, 5_000, 10_000


def normal_rows(file: Path) -> np.ndarray:
    """The normal rows of a set, in random order."""
    with np.load(file, allow_pickle=False) as data:
        X, y = np.asarray(data["X"], dtype=np.float64), np.asarray(data["y"]).ravel()
    normal = X[y == 0]
    rows: np.ndarray = normal[np.random.default_rng(0).permutation(len(normal))[: N_LEARNED + MOST_HELD_OUT]]
    return rows


def false_alarms(scores: np.ndarray, alpha: float, n_splits: int) -> np.ndarray:
    """The share of alarms among normal rows that did not calibrate, for each split."""
    draw, half, shares = np.random.default_rng(0), len(scores) // 2, []
    for _ in range(n_splits):
        mixed = draw.permutation(scores)
        cut = FalseAlarmRate(alpha).cut(mixed[:half], mixed[:half])
        shares.append(float(np.mean(mixed[half:] > cut)))
    return np.array(shares)


def expected(n_calibration: int, n_tested: int, alpha: float) -> tuple[float, float]:
    """Mean and deviation of the share of alarms over random splits of distinct scores.

    The number of tested rows above the k-th smallest of m scores among m + t is negative hypergeometric.
    """
    m, t = n_calibration, n_tested
    above = m + 1 - np.ceil((m + 1) * (1 - alpha) - 1e-9)  # calibration rows above the cut, and one
    mean = above / (m + 1)
    variance = mean * (1 - mean) * (m + t + 1) / (t * (m + 2))
    return float(mean), float(np.sqrt(variance))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ISTHMUS_DATA", ".")) / "adbench")
    parser.add_argument("--splits", type=int, default=200)
    told = parser.parse_args(arguments)
    torch.set_num_threads(1)
    files = sorted(told.data.glob("*.npz"), key=lambda file: -len(normal_rows(file)))[:N_SETS]
    print(
        "| set | normal rows held out | " + " | ".join(f"promised {a:.0%}, expected, measured" for a in ALPHAS) + " |"
    )
    print("|---" * (2 + len(ALPHAS)) + "|")
    for file in files:
        X = normal_rows(file)
        n_learned = min(N_LEARNED, len(X) // 2)
        detector = AnomalyDetector(random_state=0).fit(X[:n_learned])
        scores = -detector.score_samples(X[n_learned:])
        cells = [_cell(scores, alpha, told.splits) for alpha in ALPHAS]
        print(f"| {file.stem} | {len(scores):,} | " + " | ".join(cells) + " |", flush=True)


def _cell(scores: np.ndarray, alpha: float, n_splits: int) -> str:
    shares = false_alarms(scores, alpha, n_splits)
    mean, deviation = expected(len(scores) // 2, len(scores) - len(scores) // 2, alpha)
    error = deviation / np.sqrt(n_splits)
    off = (shares.mean() - mean) / error
    return f"{mean:.3%} ± {error:.3%}, {shares.mean():.3%} ({off:+.1f} σ)"


if __name__ == "__main__":
    main()
