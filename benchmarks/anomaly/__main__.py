"""ADBench's tables: ``python -m benchmarks.anomaly --results FOLDER [--peers-python PATH] [--out docs]``.

Measures what is not in the folder yet, a file a detector, set, seed and training, and writes the table. The other
libraries run in an environment of their own (``pip install pyod scikit-learn torch tqdm``), whose Python is given.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.anomaly import protocol
from benchmarks.anomaly.tables import markdown
from isthmus import AnomalyDetector

OURS: dict[str, dict[str, Any]] = {"isthmus": {}, "isthmus, told that training rows are clean": {"trim": 0.0}}
"""Settings of our rows; the second is for those who know that their training rows are normal."""


def fitter(settings: dict[str, Any], seed: int) -> Callable[[protocol.Split], Callable[[np.ndarray], Any]]:
    def fit(data: protocol.Split) -> Callable[[np.ndarray], Any]:
        detector = AnomalyDetector(random_state=seed, **settings).fit(data.X_train)
        return lambda X: -detector.score_samples(X)

    return fit


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ISTHMUS_DATA", ".")) / "adbench")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--peers-python", type=Path)
    parser.add_argument("--seeds", nargs="*", type=int, default=list(protocol.SEEDS))
    parser.add_argument("--out", type=Path)
    told = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cache, names = protocol.Cache(told.results), protocol.set_names(told.data)
    for training, ours, seed, name in itertools.product(protocol.TRAININGS, OURS, told.seeds, names):
        if cache.get(ours, name, seed, training) is None and (OURS[ours] == {} or training == "normal-only"):
            fit = fitter(OURS[ours], seed)
            cache.put(protocol.measure(ours, name, seed, training, fit=fit, folder=told.data))
    if told.peers_python:
        script = str(Path(__file__).parent / "peers.py")
        places = ["--data", str(told.data), "--results", str(told.results)]
        subprocess.run([str(told.peers_python), script, *places], check=True)
    text = markdown(cache.all(), names, told.seeds)
    print(text)
    if told.out:
        (told.out / "anomaly-benchmark.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
