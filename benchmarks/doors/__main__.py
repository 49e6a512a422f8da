"""Share of the variance restored by default and by every explicit scaling, and the memory of rows.

    python -m benchmarks.doors [tables|memory] [--seeds 0 1] [--only NAME ...] [--out docs]

Every table is split at random, two thirds to learn from. The share is that of held-out rows: squared errors over
squared distances from the mean of the training rows, columns weighed by one over their variance (pixels and signals
alike).
The rule of ``scaling="auto"`` was chosen on every other table; the rest confirm it, and both are printed.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.doors.memory import memory_lines
from benchmarks.doors.tables import ROWS, Table, halves, make
from isthmus import Autoencoder
from isthmus.data import as_source, learn_scaling, summarise

EXPLICIT = ("none", "minmax", "standard", "global")
STEPS = 1_500
BATCH = 64
"""Smaller batches take longer and changed no order of the settings."""
LOST = 0.01


def restored(table: Table, scaling: str, seed: int) -> float:
    """Share of the variance of held-out rows that a model restores."""
    X, X_test = split(table.X, seed)
    flat, test = X.reshape(len(X), -1).astype(float), X_test.reshape(len(X_test), -1).astype(float)
    mean, variance = flat.mean(axis=0), flat.var(axis=0)
    varies = variance > (1e-10 * np.abs(flat).max(axis=0)) ** 2
    weight = np.where(varies, 1.0 if table.one_unit else 1.0 / np.where(varies, variance, 1.0), 0.0)
    epochs = STEPS * BATCH // len(X)
    model = Autoencoder(table.code_size, scaling=scaling, max_epochs=epochs, batch_size=BATCH, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some explicit scalings learn nothing, which the table shows
        try:
            X_hat = model.fit(X).reconstruct(X_test.astype(float) if X.dtype.kind in "bu" else X_test)
        except (ValueError, RuntimeError):
            return float("nan")
    errors = np.square(np.asarray(X_hat, dtype=float).reshape(test.shape) - test).sum(axis=0)
    spread = np.square(test - mean).sum(axis=0)
    return float(1.0 - (weight * errors).sum() / (weight * spread).sum())


def taken_by_default(table: Table, seed: int) -> str:
    """The scaling that the default takes; the model is then that of the explicit setting, bit for bit."""
    X, _ = split(table.X, seed)
    return learn_scaling("auto", summarise(as_source(X)), X.dtype, feature_shape=X.shape[1:]).name


def split(X: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two thirds to learn from and a third to test on, at most 900 rows of a narrow table and 3,000 of a wide one."""
    order = np.random.default_rng(seed).permutation(len(X))[: ROWS if X.shape[1] < 100 else 3000]
    cut = 2 * len(order) // 3
    return X[order[:cut]], X[order[cut:]]


def compare(names: Sequence[str], seeds: Sequence[int]) -> list[tuple[str, dict[str, float]]]:
    """The mean share of every setting on every table."""
    found = []
    for name in names:
        table = make(name)
        settings = (*EXPLICIT, *(("pixels",) if table.X.dtype == np.uint8 else ()))
        shares = {setting: float(np.mean([restored(table, setting, seed) for seed in seeds])) for setting in settings}
        shares["auto"] = float(np.mean([shares[taken_by_default(table, seed)] for seed in seeds]))
        found.append((name, shares))
        print(line(*found[-1]), flush=True)
    return found


def line(name: str, shares: dict[str, float]) -> str:
    """One row of the table."""
    best = best_of(shares)
    cells = [f"{shares.get(setting, float('nan')):.3f}" for setting in ("auto", *EXPLICIT, "pixels")]
    lost = best[0] - shares["auto"]
    verdict = "" if lost <= LOST else " **"
    return f"| {name} | {' | '.join(cells)} | {best[1]} | {lost:+.3f}{verdict} |".replace("nan", "–")


HEAD = "| table | default | none | minmax | standard | global | pixels | best | lost |\n" + "|---" * 9 + "|"


def report(title: str, found: Sequence[tuple[str, dict[str, float]]]) -> str:
    """A table with its count."""
    lost = [best_of(shares)[0] - shares["auto"] for _, shares in found]
    many = sum(loss > LOST for loss in lost)
    count = f"{many} of {len(lost)} tables lose more than {LOST:.0%}; the mean loss is {np.mean(lost):+.4f}."
    return "\n".join([f"## {title}", "", HEAD, *(line(*row) for row in found), "", count])


def best_of(shares: dict[str, float]) -> tuple[float, str]:
    """The best explicit setting, and its share."""
    return max((share, setting) for setting, share in shares.items() if setting != "auto" and not np.isnan(share))


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.doors", description=__doc__)
    parser.add_argument("part", nargs="?", choices=("tables", "memory"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="+", default=None, help="names of tables")
    parser.add_argument("--out", type=Path, default=None, help="folder for doors.md")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    pages = []
    if asked.part in (None, "tables"):
        for title, names in zip(("Tables chosen on", "Tables that confirm"), halves(), strict=True):
            chosen = [name for name in names if asked.only is None or name in asked.only]
            if chosen:
                pages.append(report(title, compare(chosen, asked.seeds)))
    if asked.part in (None, "memory"):
        pages.append("\n".join(memory_lines()))
    print("\n\n".join(["", *pages]))
    if asked.out:
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / "doors.md").write_text("# Doors, measured\n\n" + "\n\n".join(pages) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
