"""Shared parts of all rows: data, settings of the tutorials, figures with targets, and the table."""

from __future__ import annotations

import functools
import json
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch

import isthmus
from isthmus import Adam, Autoencoder, Convolutional, Dense, Plain

BINARISED_MNIST = Convolutional((16, 32, 32), kernel_size=5, hidden_sizes=(450,))
"""The network of the variational models of binarised MNIST; docs/decisions.md compares it with others."""

Row = Callable[["Sheet"], None]
ROWS: dict[str, Row] = {}
"""The rows by system; each records the figures of one system."""
MINUTES: dict[str, float] = {}
"""Approximate duration of a row on two cores."""
PUBLISHED, DEFAULT = "as published", "our default"
COMPARE: dict[str, Callable[[float, float], bool]] = {
    "≤": float.__le__,
    "<": float.__lt__,
    "≥": float.__ge__,
    ">": float.__gt__,
}


@dataclass
class Figure:
    """One measured figure with its target.

    Attributes
    ----------
    system, column, quantity
        Row of the table, which column of targets, and what was measured.
    value
        The measurement.
    relation, target
        Such as "≤" and 0.0885; target None is reported only.
    epochs, seconds
        What the training behind the figure took.
    """

    system: str
    column: str
    quantity: str
    value: float
    relation: str = "≤"
    target: float | None = None
    epochs: int = 0
    seconds: float = 0.0
    seed: int = 0

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without a target."""
        return None if self.target is None else COMPARE[self.relation](float(self.value), float(self.target))


@dataclass
class Measured:
    """A fitted model and the training time in seconds."""

    model: Autoencoder
    seconds: float
    history: np.ndarray = field(default_factory=lambda: np.empty(0))

    @property
    def val_loss(self) -> float:
        """The reconstruction part of the last validation loss."""
        return float(self.model.history_["val_reconstruction"][-1])


@dataclass
class Sheet:
    """The figures of one system with one seed."""

    system: str
    seed: int = 0
    figures: list[Figure] = field(default_factory=list)

    def add(
        self,
        measured: Measured,
        quantity: str,
        value: float,
        relation: str = "≤",
        target: float | None = None,
        *,
        column: str = DEFAULT,
    ) -> None:
        """Record a figure of a model."""
        epochs, seconds = measured.model.n_epochs_, round(measured.seconds, 1)
        goal = None if target is None else float(target)
        self.figures.append(
            Figure(self.system, column, quantity, float(value), relation, goal, epochs, seconds, self.seed)
        )


def row(system: str, minutes: float = 2.0) -> Callable[[Row], Row]:
    """Decorator: register a row under the name of its system."""

    def add(function: Row) -> Row:
        ROWS[system], MINUTES[system] = function, minutes
        return function

    return add


@functools.cache
def mnist() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training and test images with labels; images are float32 rows in [0, 1]."""
    data = isthmus.datasets.load_mnist()
    assert data.y is not None
    assert data.y_test is not None
    rows = [(images.reshape(len(images), -1) / 255.0).astype(np.float32) for images in (data.X, data.X_test)]
    return rows[0], data.y, rows[1], data.y_test


def published(sizes: tuple[int, ...], code_size: int, *, epochs: int, batch_size: int = 32, **more: Any) -> Autoencoder:
    """The settings of the tutorials: ReLU, Glorot weights, Adam at 0.001 with the defaults of Keras."""
    settings: dict[str, Any] = {
        "network": Dense(sizes, activation="relu", initialization="glorot-uniform"),
        "code": Plain("relu"),
        "loss": "binary-cross-entropy",
        "schedule": "constant",
        "learning_rate": 1e-3,
        "optimizer": Adam(epsilon=1e-7),
        "batch_size": batch_size,
    }
    return Autoencoder(code_size, max_epochs=epochs, random_state=0, **(settings | more))


def default(sizes: tuple[int, ...], code_size: int, *, epochs: int, **more: Any) -> Autoencoder:
    """The same layer sizes and epochs; all other settings are the library's defaults."""
    return Autoencoder(code_size, network=sizes, max_epochs=epochs, random_state=0, **more)


def fit(model: Autoencoder, seed: int) -> Measured:
    """Train on MNIST, with its test images as validation set."""
    X, _, X_test, _ = mnist()
    began = time.perf_counter()
    model.set_params(random_state=seed).fit(X, X_val=X_test)
    return Measured(model, time.perf_counter() - began)


def fit_on(model: Autoencoder, X: Any, *, X_val: Any = None) -> Measured:
    """Train on some rows."""
    began = time.perf_counter()
    model.fit(X, X_val=X_val)
    return Measured(model, time.perf_counter() - began)


def noisy(X: np.ndarray, scale: float = 0.5, seed: int = 123) -> np.ndarray:
    """Gaussian noise added and clipped to [0, 1]."""
    noise = np.random.default_rng(seed).normal(0, scale, X.shape)
    return np.clip(X + noise, 0, 1).astype(np.float32)


def psnr(X: np.ndarray, X_hat: np.ndarray) -> float:
    """Peak signal-to-noise ratio in decibels, over all pixels, peak 1."""
    return float(-10 * np.log10(np.square(X - X_hat).mean()))


def versions() -> dict[str, str]:
    """Versions and machine of the measurement."""
    return {
        "isthmus": isthmus.__version__,
        "torch": torch.__version__,
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }


def markdown(figures: list[Figure]) -> str:
    """The table as Markdown."""
    head = "| system | column | quantity | figure | target | met | epochs | seconds | seed |"
    lines = [head, "|---|---|---|---|---|---|---|---|---|"]
    return "\n".join([*lines, *map(_line, figures)])


def _line(figure: Figure) -> str:
    target = "–" if figure.target is None else f"{figure.relation} {figure.target:.4g}"
    met = {None: "–", True: "yes", False: "**no**"}[figure.met]
    value = f"{figure.value:,.0f}" if abs(figure.value) >= 1000 else f"{figure.value:.4g}"
    cells = (
        figure.system,
        figure.column,
        figure.quantity,
        value,
        target,
        met,
        str(figure.epochs or "–"),
        f"{figure.seconds:.1f}",
        str(figure.seed),
    )
    return f"| {' | '.join(cells)} |"


PAGE = """# The systems of the field's course texts, measured

Each row is run by `python -m benchmarks.systems ID`, on the real data, through the public interface; all by `--all`.
*As published* has the layers, activations, loss, optimiser, batch size and epochs of the text; *our default* has the
same layers and epochs, and the library's defaults for the rest. Losses are means over the pixels of the 10,000 MNIST
test images in [0, 1] unless the row says otherwise. Seconds are training time.

"""


def merged(figures: list[Figure], folder: Path) -> list[Figure]:
    """The new figures, merged with older ones in a folder for systems and seeds that were not measured again."""
    path = folder / "systems.json"
    known = json.loads(path.read_text(encoding="utf-8"))["figures"] if path.is_file() else []
    fields = Figure.__dataclass_fields__
    older = [Figure(**{name: value for name, value in row.items() if name in fields}) for row in known]
    new = {(figure.system, figure.seed) for figure in figures}
    together = [*(figure for figure in older if (figure.system, figure.seed) not in new), *figures]
    return sorted(together, key=lambda figure: (int(figure.system.split("-")[0][1:]), figure.system, figure.seed))


def write(figures: list[Figure], folder: Path) -> None:
    """Write the table as systems.md and systems.json."""
    folder.mkdir(parents=True, exist_ok=True)
    told = ", ".join(f"{name} {version}" for name, version in versions().items())
    text = f"{PAGE}{markdown(figures)}\n\nMeasured with {told}.\n"
    (folder / "systems.md").write_text(text, encoding="utf-8")
    rows = [{**asdict(figure), "met": figure.met} for figure in figures]
    (folder / "systems.json").write_text(json.dumps({"versions": versions(), "figures": rows}, indent=1) + "\n")


@contextmanager
def timed() -> Iterator[Callable[[], float]]:
    """Context manager: yields a function that returns the seconds since the start of the block."""
    began = time.perf_counter()
    yield lambda: time.perf_counter() - began
