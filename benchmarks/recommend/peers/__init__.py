"""Recommenders of other libraries, each in its own environment."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import scipy.sparse

from isthmus import StrongSplit

PEERS = ("cornac-VAECF", "cornac-EASE", "cornac-BPR", "implicit-ALS")


def python() -> str | None:
    """The interpreter of the environment that has cornac and implicit (``$RECOMMEND_PYTHON``)."""
    return os.environ.get("RECOMMEND_PYTHON")


def recommend(who: str, split: StrongSplit, seed: int) -> tuple[np.ndarray, float, float, str]:
    """Lists of 100 for the test users, gigabytes at the peak, seconds of fitting, and the settings chosen."""
    interpreter = python()
    if interpreter is None:
        raise RuntimeError("Set RECOMMEND_PYTHON to the Python of an environment with cornac and implicit.")
    known, test = split.validation, split.test
    parts = {"train": split.train, "validation": known.given, "held": known.held, "test": test.given}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, log in parts.items():
            scipy.sparse.save_npz(folder / f"{part}.npz", log.matrix)
        script = Path(__file__).parent / f"{who.split('-', maxsplit=1)[0]}_fit.py"
        subprocess.run([interpreter, str(script), who, str(seed), name], check=True, stdout=subprocess.DEVNULL)
        told = json.loads((folder / "told.json").read_text())
        return np.load(folder / "lists.npy"), told["gigabytes"], told["seconds"], told["settings"]
