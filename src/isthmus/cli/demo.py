"""``isthmus demo``: training and evaluation on data that are bundled with scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import isthmus
from isthmus.cli import show

CODE_SIZE = 16
HELD_OUT = 297
EPOCHS = 60
FILES = {"model": "digits.safetensors", "report": "report.html", "pictures": "reconstructions.png", "": "codes.png"}


def run_demo(out: Path, epochs: int | None, *, verbose: bool) -> None:
    """Train a model, write all files, and print their paths."""
    files = _places(out)
    digits = isthmus.datasets.load_digits()
    X, X_test, y_test = digits.X[:-HELD_OUT], digits.X[-HELD_OUT:], np.asarray(digits.y)[-HELD_OUT:]
    show.note(f"1,797 handwritten digits, 8×8: {len(X):,} training rows, {HELD_OUT} held out.")
    model = isthmus.Autoencoder(CODE_SIZE, max_epochs=epochs or EPOCHS, random_state=0, verbose=int(verbose))
    model.fit(X, X_val=X_test).set_params(verbose=0)
    _write(model, X, X_test, y_test, files)
    ours, pca = float(model.reconstruction_error(X_test).mean()), isthmus.diagnosis.pca_error(X, CODE_SIZE, X_test)
    show.note("")
    show.print_facts(
        {
            **show.fit_facts(model),
            "squared error": f"{ours:.5f} on held-out digits; PCA with {CODE_SIZE} components {pca:.5f}, "
            f"{pca / ours:.2f} × ours",
        }
    )
    show.note("")
    show.print_facts({name: str(path) for name, path in files.items()})
    show.exit_if_interrupted(model)


def _places(out: Path) -> dict[str, Path]:
    """The output paths, after checking that they are writable."""
    if out.exists() and not out.is_dir():
        raise isthmus.OutputError(f"'{out}' is a file; pass the name of a folder with --out.")
    out.mkdir(parents=True, exist_ok=True)
    files = {name: out / file for name, file in FILES.items()}
    for path in files.values():
        isthmus.files.check_writable(path)
    return files


def _write(
    model: isthmus.Autoencoder, X: np.ndarray, X_test: np.ndarray, y_test: np.ndarray, files: dict[str, Path]
) -> None:
    """Write the model, the pictures and the report."""
    model.save(files["model"])
    shown = X_test[:10]
    isthmus.plots.save(isthmus.plots.plot_reconstructions(shown, model.reconstruct(shown)), files["pictures"])
    plane = isthmus.diagnosis.code_map(model.transform(X_test))
    isthmus.plots.save(isthmus.plots.plot_code_map(plane, y_test), files[""])
    isthmus.write_report(model, X_test, files["report"], labels=y_test, X_train=X, title="Handwritten digits")
