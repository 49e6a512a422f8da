"""Odd heartbeats of ECG5000: ``python -m benchmarks.anomaly.heartbeats [--picture FILE] [--seeds 0 1 2]``.

As in the tutorials: 80 % of the 5,000 beats to learn from, of which only the normal ones are, 20 % to measure on.
Printed are AUROC and the share told apart rightly for each seed. The picture has a normal and an anomalous beat of the
measured ones, each with its reconstruction.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import train_test_split

from isthmus import AnomalyDetector, Autoencoder, Contamination

mpl.use("Agg")
from matplotlib import pyplot as plt


def beats(folder: Path, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normal beats to learn from, beats to measure on, and whether these are anomalous."""
    X = np.load(folder / "ecg5000_signals_f32.npy")
    odd = np.load(folder / "ecg5000_labels_binary.npy").ravel() == 1
    X_train, X_test, odd_train, odd_test = train_test_split(X, odd, test_size=0.2, random_state=seed)
    return X_train[~odd_train], X_test, odd_test


def picture(X_train: np.ndarray, X_test: np.ndarray, odd: np.ndarray, file: Path) -> None:
    """Draw both curves for the normal and the anomalous beat whose errors are the medians of their kind."""
    model = Autoencoder(8, network=(32, 16), max_epochs=40, random_state=0).fit(X_train)
    errors, restored = model.reconstruction_error(X_test), model.reconstruct(X_test)
    figure, axes = plt.subplots(1, 2, figsize=(9, 3), sharey=True, layout="constrained")
    for ax, kind, name in zip(axes, (~odd, odd), ("normal", "anomalous"), strict=True):
        places = np.flatnonzero(kind)
        one = places[np.argsort(errors[places])[len(places) // 2]]
        ax.plot(X_test[one], color="black", label="beat")
        ax.plot(restored[one], color="tab:red", label="reconstruction")
        ax.fill_between(np.arange(X_test.shape[1]), X_test[one], restored[one], color="tab:red", alpha=0.25, lw=0)
        ax.set(title=f"{name}, squared error {errors[one]:.2f}", xlabel="time step")
    axes[0].set_ylabel("scaled voltage")
    axes[0].legend()
    figure.savefig(file, dpi=100)
    plt.close(figure)


SETTINGS: dict[str, tuple[dict[str, Any], bool]] = {
    "140 columns of a table, by default": ({}, False),
    "140 columns of a table, told that they are clean": ({"trim": 0.0}, False),
    "signals (n, 1, 140), told that they are clean": ({"trim": 0.0}, True),
    "signals, clean, an autoencoder with a code of 8 in place of the ensemble": (
        {"trim": 0.0, "autoencoder": Autoencoder(8, max_epochs=20)},
        True,
    ),
}
"""Parameters, and whether rows are given as signals."""


def _figures(folder: Path, seed: int, setting: dict[str, Any], as_signals: bool) -> tuple[float, float]:
    """AUROC, and accuracy with the threshold at 2 % of the training beats."""
    X_train, X_test, odd = beats(folder, seed)
    if as_signals:
        X_train, X_test = X_train[:, None, :], X_test[:, None, :]
    detector = AnomalyDetector(Contamination(0.02), random_state=seed, **setting).fit(X_train)
    auroc = roc_auc_score(odd, -detector.score_samples(X_test))
    return float(auroc), float(accuracy_score(odd, detector.predict(X_test) == -1))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ISTHMUS_DATA", ".")) / "ecg5000")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--picture", type=Path)
    told = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for name, (setting, as_signals) in SETTINGS.items():
        figures = [_figures(told.data, seed, setting, as_signals) for seed in told.seeds]
        print(f"{name:<76}" + "  ".join(f"{auroc:.4f} {right:.1%}" for auroc, right in figures), flush=True)
    if told.picture:
        picture(*beats(told.data, told.seeds[0]), told.picture)


if __name__ == "__main__":
    main()
