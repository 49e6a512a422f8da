"""The tables of the benchmark: means over sets, mean rank, seconds, and every set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from benchmarks.anomaly import protocol


def markdown(results: Sequence[protocol.Result], names: Sequence[str], seeds: Sequence[int]) -> str:
    """A section for each training, with those detectors that were measured on every set and seed."""
    halves = {"all sets": list(names), "chosen on": list(names[0::2]), "confirmed on": list(names[1::2])}
    text = ["# Anomaly detection on ADBench's tables", ""]
    for training in protocol.TRAININGS:
        some = [result for result in results if result.training == training and result.seed in seeds]
        figures = {
            detector: figures_of(detector, some, names, seeds) for detector in sorted({r.detector for r in some})
        }
        complete = {detector: array for detector, array in figures.items() if array is not None}
        if complete:
            text += _section(training, complete, names, halves)
    return "\n".join(text) + "\n"


def figures_of(
    detector: str, results: Sequence[protocol.Result], names: Sequence[str], seeds: Sequence[int]
) -> np.ndarray | None:
    """AUROC, average precision and fit seconds, (sets, 3), means over the seeds; None where something is missing."""
    found = {(r.set, r.seed): (r.auroc, r.average_precision, r.fit_seconds) for r in results if r.detector == detector}
    if not all((name, seed) in found for name in names for seed in seeds):
        return None
    figures: np.ndarray = np.array([[found[name, seed] for seed in seeds] for name in names]).mean(axis=1)
    return figures


def _section(
    training: str, figures: dict[str, np.ndarray], names: Sequence[str], halves: dict[str, list[str]]
) -> list[str]:
    stacked = np.stack(list(figures.values()))  # (detectors, sets, 3)
    ranks = np.stack([rankdata(-stacked[:, place, 0]) for place in range(len(names))], axis=1).mean(axis=1)
    heads = [f"AUROC, {half}" for half in halves] + ["average precision", "mean rank", "fit, s a seed"]
    lines = [f"## Training rows: {training}", "", "| detector | " + " | ".join(heads) + " |", "|---" * 7 + "|"]
    for place in np.argsort(-stacked[:, :, 0].mean(axis=1)):
        array = stacked[place]
        means = [array[[names.index(name) for name in half], 0].mean() for half in halves.values()]
        cells = [f"{mean:.3f}" for mean in means]
        cells += [f"{array[:, 1].mean():.3f}", f"{ranks[place]:.2f}", f"{array[:, 2].sum():.0f}"]
        lines.append(f"| {list(figures)[place]} | " + " | ".join(cells) + " |")
    return [*lines, "", *_every_set(figures, names), ""]


def _every_set(figures: dict[str, np.ndarray], names: Sequence[str]) -> list[str]:
    lines = ["| AUROC | " + " | ".join(figures) + " |", "|---" * (len(figures) + 1) + "|"]
    for place, name in enumerate(names):
        lines.append(f"| {name} | " + " | ".join(f"{array[place, 0]:.3f}" for array in figures.values()) + " |")
    return lines
