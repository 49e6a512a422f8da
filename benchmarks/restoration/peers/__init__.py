"""BM3D, run in an environment of its own: its licence forbids commercial use, so that it is no dependency."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def python() -> str | None:
    """The interpreter of an environment that has bm3d (``$BM3D_PYTHON``), or None."""
    return os.environ.get("BM3D_PYTHON")


def bm3d(images: Sequence[np.ndarray], sigma: float) -> list[np.ndarray]:
    """Photographs in [0, 1], denoised for a known strength of the noise."""
    interpreter = python()
    if interpreter is None:
        raise RuntimeError("Set BM3D_PYTHON to the Python of an environment with bm3d (pip install bm3d).")
    with tempfile.TemporaryDirectory() as name:
        given, made = Path(name) / "given.npz", Path(name) / "made.npz"
        np.savez(given, *images)
        script = Path(__file__).parent / "bm3d_denoise.py"
        subprocess.run([interpreter, str(script), str(given), str(sigma), str(made)], check=True)
        with np.load(made) as found:
            return [found[f"arr_{place}"] for place in range(len(images))]
