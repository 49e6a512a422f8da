"""Peers that run in an environment of their own (``$CODES_PEERS_PYTHON``), because their dependencies are older.

pip install torch==2.13.0 pythae sdv pyarrow
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from isthmus import VariationalAutoencoder


def python() -> str | None:
    """The interpreter of an environment that has the peers, or None."""
    return os.environ.get("CODES_PEERS_PYTHON")


def pythae_samples(X: np.ndarray, model: VariationalAutoencoder, n: int, seed: int) -> np.ndarray:
    """Samples of pythae's variational autoencoder with our layers and epochs: (2, n, d), of prior and mixture."""
    with tempfile.TemporaryDirectory() as name:
        given, made = Path(name) / "given.npy", Path(name) / "made.npy"
        np.save(given, X)
        layers = ",".join(map(str, model.network))
        _run("pythae_samples.py", given, made, layers, model.code_size, model.max_epochs, n, seed)
        found: np.ndarray = np.load(made)
        return found


def sdv_rows(train: pd.DataFrame, n: int, seed: int) -> dict[str, pd.DataFrame]:
    """Rows of SDV's Gaussian copula and of its TVAE, with their default settings."""
    with tempfile.TemporaryDirectory() as name:
        given = Path(name) / "given.parquet"
        train.to_parquet(given)
        _run("sdv_rows.py", given, name, n, seed)
        return {kind: pd.read_parquet(Path(name) / f"{kind}.parquet") for kind in ("copula", "tvae")}


def _run(script: str, *arguments: object) -> None:
    interpreter = python()
    if interpreter is None:
        raise RuntimeError("Set CODES_PEERS_PYTHON to the Python of an environment with pythae and sdv.")
    words = [interpreter, str(Path(__file__).parent / script), *map(str, arguments)]
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run(words, check=True, env=clean, stdout=subprocess.DEVNULL)
