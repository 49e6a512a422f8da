"""``isthmus demo``: the main job on data that come with scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import isthmus
from isthmus.cli import show

CODE_SIZE = 16
HELD_OUT = 297
EPOCHS = 60


def run_demo(out: Path, epochs: int | None, *, verbose: bool) -> None:
    """Train, save, draw, report, and tell where everything is."""
    out.mkdir(parents=True, exist_ok=True)
    digits = isthmus.datasets.load_digits()
    X, X_test, y_test = digits.X[:-HELD_OUT], digits.X[-HELD_OUT:], np.asarray(digits.y)[-HELD_OUT:]
    show.note(f"1,797 handwritten digits, 8×8: {len(X):,} to learn from, {HELD_OUT} held out.")
    model = isthmus.Autoencoder(CODE_SIZE, max_epochs=epochs or EPOCHS, random_state=0, verbose=int(verbose))
    model.fit(X, X_val=X_test)
    files = _write(model, X, X_test, y_test, out)
    ours, pca = float(model.reconstruction_error(X_test).mean()), isthmus.diagnosis.pca_error(X, CODE_SIZE, X_test)
    show.note("")
    show.print_facts(
        {
            **show.fit_facts(model),
            "held-out squared error": f"{ours:.5f}; PCA with {CODE_SIZE} numbers {pca:.5f}, {pca / ours:.2f} × ours",
            **{name: str(path) for name, path in files.items()},
        }
    )


def _write(
    model: isthmus.Autoencoder, X: np.ndarray, X_test: np.ndarray, y_test: np.ndarray, out: Path
) -> dict[str, Path]:
    """Leave the model, the pictures and the report in a folder."""
    files = {
        "model": out / "digits.safetensors",
        "report": out / "report.html",
        "pictures": out / "reconstructions.png",
        "": out / "codes.png",
    }
    model.save(files["model"])
    shown = X_test[:10]
    isthmus.plots.save(isthmus.plots.plot_reconstructions(shown, model.reconstruct(shown)), files["pictures"])
    plane = isthmus.diagnosis.code_map(model.transform(X_test))
    isthmus.plots.save(isthmus.plots.plot_code_map(plane, y_test), files[""])
    isthmus.write_report(model, X_test, files["report"], labels=y_test, X_train=X, title="Handwritten digits")
    return files
