"""Made and real tables of the kinds that people bring: flags, ratings, narrow ranges, counts, bytes, mixtures."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import datasets

import isthmus

ROWS = 900
WIDEST = 40
ADBENCH = ("Pima", "landsat", "Cardiotocography", "PageBlocks", "mammography", "Stamps", "skin", "Waveform", "yeast")


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes
    ----------
    X
        Rows, (n, d).
    one_unit
        Whether all columns are in one unit, as pixels are; then columns weigh by their variance, else all the same.
    code_size
        Of the models that are compared on it.
    """

    X: np.ndarray
    one_unit: bool = False
    code_size: int = 4


Maker = Callable[[np.random.Generator], Table]
MADE: dict[str, Maker] = {}


def made(function: Maker) -> Maker:
    """Register a made table under its function's name."""
    MADE[function.__name__.replace("_", " ")] = function
    return function


def latent(draw: np.random.Generator, width: int, *, noise: float = 0.1) -> np.ndarray:
    """Columns of mean 0 and about unit variance that hang together by three hidden numbers, (n, width)."""
    hidden = draw.normal(size=(ROWS, 3))
    mixed = hidden @ draw.normal(size=(3, width)) / np.sqrt(3)
    bent: np.ndarray = mixed + 0.3 * np.sin(2 * mixed) + noise * draw.normal(size=mixed.shape)
    return bent


def unit(draw: np.random.Generator, width: int) -> np.ndarray:
    """The same in [0, 1]."""
    return np.clip(0.5 + 0.25 * latent(draw, width), 0.0, 1.0)


def categories(draw: np.random.Generator) -> np.ndarray:
    """Two one-hot categories of eight words; the second mostly follows the first."""
    first = draw.integers(0, 8, ROWS)
    second = (first + (draw.random(ROWS) < 0.2)) % 8
    return np.hstack([np.eye(8)[first], np.eye(8)[second]])


@made
def one_hot_uint8(draw: np.random.Generator) -> Table:
    return Table(categories(draw).astype(np.uint8))


@made
def one_hot_bool(draw: np.random.Generator) -> Table:
    return Table(categories(draw).astype(bool))


@made
def ratings_uint8(draw: np.random.Generator) -> Table:
    return Table(np.clip(np.round(5 + 2.5 * latent(draw, 12)), 0, 10).astype(np.uint8))


@made
def ages_and_flags_uint8(draw: np.random.Generator) -> Table:
    numbers = latent(draw, 10)
    return Table(np.where(np.arange(10) < 5, np.clip(45 + 18 * numbers, 0, 110), numbers > 0).astype(np.uint8))


@made
def sensor_bytes(draw: np.random.Generator) -> Table:
    return Table(np.round(255 * unit(draw, 12)).astype(np.uint8))


@made
def from_050_to_051(draw: np.random.Generator) -> Table:
    return Table(0.5 + 0.01 * unit(draw, 12))


@made
def from_0_to_01(draw: np.random.Generator) -> Table:
    return Table(0.1 * unit(draw, 12))


@made
def filled_0_to_1(draw: np.random.Generator) -> Table:
    return Table(unit(draw, 12))


@made
def wide_beside_narrow(draw: np.random.Generator) -> Table:
    return Table(unit(draw, 12) * np.where(np.arange(12) < 6, 1.0, 0.001))


@made
def one_narrow_of_forty(draw: np.random.Generator) -> Table:
    return Table(unit(draw, 40) * np.where(np.arange(40) < 39, 1.0, 0.001))


@made
def shares(draw: np.random.Generator) -> Table:
    powers = np.exp(latent(draw, 10))
    return Table(powers / powers.sum(axis=1, keepdims=True))


@made
def heavy_tails(draw: np.random.Generator) -> Table:
    return Table(np.exp(1.2 * latent(draw, 12)))


@made
def heavy_tails_by_maximum(draw: np.random.Generator) -> Table:
    X = np.exp(1.2 * latent(draw, 12))
    return Table(X / X.max(axis=0))


@made
def counts(draw: np.random.Generator) -> Table:
    return Table(draw.poisson(np.exp(1.0 + 0.7 * latent(draw, 12))))


@made
def rare_flags(draw: np.random.Generator) -> Table:
    return Table((latent(draw, 16) > 1.0).astype(float))


@made
def flags_and_numbers(draw: np.random.Generator) -> Table:
    numbers = latent(draw, 14)
    return Table(np.where(np.arange(14) < 6, numbers > 0, numbers * 10 + 100))


@made
def flags_and_shares(draw: np.random.Generator) -> Table:
    numbers = latent(draw, 14)
    return Table(np.where(np.arange(14) < 6, numbers > 0, np.clip(0.5 + 0.25 * numbers, 0, 1)))


@made
def negative_and_positive(draw: np.random.Generator) -> Table:
    return Table(latent(draw, 12) * np.geomspace(0.01, 1000, 12))


@made
def tanh_range(draw: np.random.Generator) -> Table:
    return Table(np.tanh(latent(draw, 12)))


@made
def constants_between(draw: np.random.Generator) -> Table:
    return Table(np.where(np.arange(12) % 3 == 0, 7.0, unit(draw, 12)))


@made
def seconds_since_1970(draw: np.random.Generator) -> Table:
    return Table((1_700_000_000 + 3600 * latent(draw, 8)).astype(np.int64))


@made
def tiny_units(draw: np.random.Generator) -> Table:
    return Table(1e-12 * latent(draw, 12))


def bundled(load: Callable[..., Any]) -> np.ndarray:
    """Rows of a set that comes with scikit-learn."""
    X: np.ndarray = load().data
    return X


def by_range(X: np.ndarray) -> np.ndarray:
    """Columns brought to [0, 1] by their ends, as people do before they call a library."""
    scaled: np.ndarray = (X - X.min(axis=0)) / np.maximum(np.ptp(X, axis=0), 1e-300)
    return scaled


def adbench(name: str) -> Table:
    """Rows of one of the ADBench tables in `$ISTHMUS_DATA`, at most 40 columns."""
    (path,) = (Path(os.environ.get("ISTHMUS_DATA", ".")) / "adbench").glob(f"*_{name}.npz")
    X: np.ndarray = np.load(path)["X"]
    return Table(X[:, :WIDEST].astype(float), code_size=3)


def mnist() -> np.ndarray:
    """3,000 digits as flat bytes."""
    return isthmus.datasets.load_mnist().X[:3000].reshape(3000, -1)  # type: ignore[no-any-return]


REAL: dict[str, Callable[[], Table]] = {
    "iris": lambda: Table(bundled(datasets.load_iris), code_size=2),
    "wine": lambda: Table(bundled(datasets.load_wine)),
    "wine by range": lambda: Table(by_range(bundled(datasets.load_wine))),
    "breast cancer": lambda: Table(bundled(datasets.load_breast_cancer)),
    "breast cancer by range": lambda: Table(by_range(bundled(datasets.load_breast_cancer))),
    "diabetes": lambda: Table(bundled(datasets.load_diabetes)),
    "digits 0 to 16": lambda: Table(bundled(datasets.load_digits), code_size=8),
    "digits 0 to 1": lambda: Table(bundled(datasets.load_digits) / 16, one_unit=True, code_size=8),
    "MNIST bytes": lambda: Table(mnist(), one_unit=True, code_size=16),
    "MNIST 0 to 1": lambda: Table(mnist() / 255, one_unit=True, code_size=16),
    "heartbeats": lambda: Table(isthmus.datasets.load_ecg5000().X, code_size=8),
    **{f"ADBench {name}": functools.partial(adbench, name) for name in ADBENCH},
}
"""Real tables by name."""


def make(name: str) -> Table:
    """A table by its name; made ones always with the same seed."""
    return MADE[name](np.random.default_rng(0)) if name in MADE else REAL[name]()


def halves() -> tuple[list[str], list[str]]:
    """Names of the tables that settings were chosen on, and of those that confirm: every other one of each kind."""
    names = [*MADE], [*REAL]
    return [name for kind in names for name in kind[::2]], [name for kind in names for name in kind[1::2]]
