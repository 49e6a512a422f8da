"""The detectors of PyOD and scikit-learn at their own defaults, run in an environment of their own.

``python peers.py --data FOLDER --results FOLDER`` measures what has not been measured yet, the quick ones first.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import itertools
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # run where the project is not installed
from benchmarks.anomaly import protocol

PEERS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "PyOD ECOD": ("pyod.models.ecod", "ECOD", ()),
    "PyOD PCA": ("pyod.models.pca", "PCA", ("random_state",)),
    "PyOD IForest": ("pyod.models.iforest", "IForest", ("random_state",)),
    "scikit-learn IsolationForest": ("sklearn.ensemble", "IsolationForest", ("random_state",)),
    "PyOD KNN": ("pyod.models.knn", "KNN", ()),
    "PyOD LOF": ("pyod.models.lof", "LOF", ()),
    "PyOD OCSVM": ("pyod.models.ocsvm", "OCSVM", ()),
    "PyOD AutoEncoder": ("pyod.models.auto_encoder", "AutoEncoder", ("random_state", "verbose")),
    "PyOD VAE": ("pyod.models.vae", "VAE", ("random_state", "verbose")),
    "PyOD DeepSVDD": ("pyod.models.deep_svdd", "DeepSVDD", ("random_state", "verbose", "n_features")),
}
"""Module, class, and which parameters it must be told; all others stay as they are."""


def fitter(name: str, seed: int) -> Callable[[protocol.Split], Callable[[np.ndarray], Any]]:
    """What fits the detector of that name to a split."""
    module, kind, told = PEERS[name]

    def fit(data: protocol.Split) -> Callable[[np.ndarray], Any]:
        known = {"random_state": seed, "verbose": 0, "n_features": data.X_train.shape[1]}
        model = getattr(importlib.import_module(module), kind)(**{key: known[key] for key in told})
        model.fit(data.X_train)
        if name == "PyOD PCA" and not np.isfinite(model.decision_scores_).all():
            # dependent columns: it has divided by variances of zero, and every score is infinite; it is helped here
            model.set_params(n_components=int(np.linalg.matrix_rank(data.X_train - data.X_train.mean(axis=0))))
            model.fit(data.X_train)
        if hasattr(model, "decision_scores_"):
            return lambda X: +model.decision_function(X)  # PyOD: the higher, the odder
        return lambda X: -model.score_samples(X)

    return fit


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ISTHMUS_DATA", ".")) / "adbench")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--detectors", nargs="*", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--seeds", nargs="*", type=int, default=list(protocol.SEEDS))
    parser.add_argument("--trainings", nargs="*", default=list(protocol.TRAININGS))
    told = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    cache = protocol.Cache(told.results)
    names = protocol.set_names(told.data)
    for training, detector, seed, name in itertools.product(told.trainings, told.detectors, told.seeds, names):
        if cache.get(detector, name, seed, training) is not None:
            continue
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                result = protocol.measure(detector, name, seed, training, fit=fitter(detector, seed), folder=told.data)
        except Exception:  # noqa: BLE001  # one peer's failure on one set must not end the others
            print(f"{detector} on {name}, seed {seed}, {training}: {traceback.format_exc(limit=1)}", flush=True)
            continue
        cache.put(result)
        print(f"{detector:30} {name:20} {seed} {training:13} {result.auroc:.3f} {result.average_precision:.3f} "
              f"{result.fit_seconds:.1f} s", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
