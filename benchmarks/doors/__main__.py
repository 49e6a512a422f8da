"""Share of the variance restored by default and by every explicit scaling, and the memory of rows.

    python -m benchmarks.doors [tables|codes|memory] [--seeds 0 1] [--more 6] [--only NAME ...] [--out docs]

Every table is split at random, two thirds to learn from. Shares are squared errors over squared distances from the mean
of the training rows, columns weighed by one over their variance (pixels alike), of the rows that were learned from and
of held-out ones: the first is what a scaling makes possible, the second also depends on over-fitting.
Epochs and batch size are those of the default. A table where the default seems to lose more than one percent is split
some more times, so that the standard error of the difference is known.
The rule of ``scaling="auto"`` was chosen on every other table; the rest confirm it, and both are printed.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.doors.codes import code_lines
from benchmarks.doors.memory import memory_lines
from benchmarks.doors.tables import ROWS, Table, halves, make
from isthmus import Autoencoder
from isthmus.data import as_source, learn_scaling, summarise

EXPLICIT = ("none", "minmax", "standard", "global")
LOST = 0.01
Shares = dict[str, np.ndarray]
"""By setting, (splits, 2): the share of the variance restored of rows that were learned from, and of held-out ones."""


def restored(table: Table, scaling: str, seed: int) -> tuple[float, float]:
    """Both shares of one model; NaN where the setting cannot be fitted."""
    X, X_test = split(table.X, seed)
    model = Autoencoder(table.code_size, scaling=scaling, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some explicit scalings learn nothing, which the table shows
        try:
            model.fit(X)
        except (ValueError, RuntimeError):
            return float("nan"), float("nan")
        return share(table, X, X, model), share(table, X, X_test, model)


def share(table: Table, X: np.ndarray, rows: np.ndarray, model: Autoencoder) -> float:
    """Share of the variance of rows that is restored, with mean and deviation of the rows that were learned from."""
    learned, given = X.astype(float), rows.astype(float)
    mean, variance = learned.mean(axis=0), learned.var(axis=0)
    varies = variance > (1e-10 * np.abs(learned).max(axis=0)) ** 2
    weight = np.where(varies, 1.0 if table.one_unit else 1.0 / np.where(varies, variance, 1.0), 0.0)
    errors = np.square(np.asarray(model.reconstruct(rows), dtype=float) - given).sum(axis=0)
    return float(1.0 - (weight * errors).sum() / (weight * np.square(given - mean).sum(axis=0)).sum())


def split(X: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two thirds to learn from and a third to test on, of at most 900 rows."""
    order = np.random.default_rng(seed).permutation(len(X))[:ROWS]
    cut = 2 * len(order) // 3
    return X[order[:cut]], X[order[cut:]]


def taken_by_default(table: Table, seed: int) -> str:
    """The scaling that the default takes; the model is then that of the explicit setting, bit for bit."""
    X, _ = split(table.X, seed)
    return learn_scaling("auto", summarise(as_source(X)), X.dtype, feature_shape=X.shape[1:]).name


def compare(names: Sequence[str], seeds: Sequence[int], more: int) -> list[tuple[str, Shares]]:
    """The shares of every setting on every table; a table where the default seems to lose is split `more` times."""
    found = []
    for name in names:
        table = make(name)
        shares = measure(table, seeds)
        if more and max(loss.mean for loss in lost(shares)) > LOST:
            further = measure(table, range(max(seeds) + 1, max(seeds) + 1 + more))
            shares = {setting: np.concatenate([each, further[setting]]) for setting, each in shares.items()}
        found.append((name, shares))
        print(line(name, shares), flush=True)
    return found


def measure(table: Table, seeds: Iterable[int]) -> Shares:
    """The shares of every setting on one table."""
    settings = (*EXPLICIT, *(("pixels",) if table.X.dtype == np.uint8 else ()))
    each = [{setting: restored(table, setting, seed) for setting in settings} for seed in seeds]
    for shares, seed in zip(each, seeds, strict=True):
        shares["auto"] = shares[taken_by_default(table, seed)]
    return {setting: np.array([shares[setting] for shares in each]) for setting in (*settings, "auto")}


class Loss(NamedTuple):
    """How much more the best explicit setting restores than the default."""

    mean: float
    error: float
    """Standard error of the mean over the splits, of paired differences; NaN of a single split."""

    @property
    def holds(self) -> bool:
        """Whether it is above one percent by more than two standard errors."""
        return bool(self.mean - 2.0 * np.nan_to_num(self.error) > LOST)


def lost(shares: Shares) -> tuple[Loss, Loss]:
    """Of rows learned from, and of held-out ones. The best setting is the one of the best mean."""
    found = []
    for part in (0, 1):
        explicit = {setting: each[:, part] for setting, each in shares.items() if setting != "auto"}
        best = max(explicit.values(), key=lambda each: np.nan_to_num(each.mean(), nan=-np.inf))
        less = best - shares["auto"][:, part]
        error = less.std(ddof=1) / np.sqrt(len(less)) if len(less) > 1 else float("nan")
        found.append(Loss(float(less.mean()), float(error)))
    return found[0], found[1]


def line(name: str, shares: Shares) -> str:
    """One row of the table."""
    cells = [
        "{:.3f} / {:.3f}".format(*shares[setting].mean(axis=0)) if setting in shares else "–"
        for setting in ("auto", *EXPLICIT, "pixels")
    ]
    cells += [f"{loss.mean:+.3f} ± {loss.error:.3f}{' **' if loss.holds else ''}" for loss in lost(shares)]
    return f"| {name} | {len(shares['auto'])} | {' | '.join(cells)} |"


HEAD = (
    "| table (rows learned from / held out) | splits | default | none | minmax | standard | global | pixels "
    "| lost, learned | lost, held out |\n" + "|---" * 10 + "|"
)


def report(title: str, found: Sequence[tuple[str, Shares]]) -> str:
    """A table with its counts."""
    losses = [lost(shares) for _, shares in found]
    counts = [
        f"{what}: {sum(loss.holds for loss in column)} of {len(column)} tables lose more than {LOST:.0%} by more than "
        f"two standard errors, {sum(loss.mean > LOST for loss in column)} on the mean of their splits; the mean over "
        f"tables is {np.mean([loss.mean for loss in column]):+.4f}."
        for what, column in zip(("Rows learned from", "Held-out rows"), zip(*losses, strict=True), strict=True)
    ]
    return "\n".join([f"## {title}", "", HEAD, *(line(*row) for row in found), "", *counts])


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.doors", description=__doc__)
    parser.add_argument("part", nargs="?", choices=("tables", "codes", "memory"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--more", type=int, default=6, help="further splits where the default seems to lose")
    parser.add_argument("--only", nargs="+", default=None, help="names of tables")
    parser.add_argument("--out", type=Path, default=None, help="folder for doors.md")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    pages = []
    if asked.part in (None, "tables"):
        for title, names in zip(("Tables chosen on", "Tables that confirm"), halves(), strict=True):
            chosen = [name for name in names if asked.only is None or name in asked.only]
            if chosen:
                pages.append(report(title, compare(chosen, asked.seeds, asked.more)))
    if asked.part in (None, "codes"):
        pages.append("\n".join(code_lines(asked.seeds)))
    if asked.part in (None, "memory"):
        pages.append("\n".join(memory_lines()))
    print("\n\n".join(["", *pages]))
    if asked.out:
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / "doors.md").write_text("# Doors, measured\n\n" + "\n\n".join(pages) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
