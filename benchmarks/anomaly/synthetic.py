"""Made anomalies of one kind each: ``python -m benchmarks.anomaly.synthetic --made FOLDER --results FOLDER``.

The four kinds of ADBench (Han et al. 2022, section 3.2): a model of the normal rows of a real table makes all rows, and
anomalies differ from it in one way.

* *local*: from a Gaussian mixture with covariances times 5;
* *global*: uniform over each column's range and a tenth beyond;
* *dependency*: each column by itself as in normal rows, but independent of the others;
* *clustered*: from the mixture with means times 5, of columns in [0, 1].

Mixtures have as many components, up to five, as the Bayesian information criterion wants. For *dependency* normal rows
come from a Gaussian copula with the table's own marginals; ADBench takes a vine copula, which needs a package of its
own. A made table has 1,500 rows, 5 % of them anomalies, and is split and measured like a real one, anomalies among the
training rows. The other libraries run as in ``benchmarks.anomaly``.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.stats import norm, rankdata
from sklearn.mixture import GaussianMixture

from benchmarks.anomaly import protocol
from benchmarks.anomaly.__main__ import fitter

BASES = (
    "7_Cardiotocography",
    "11_donors",
    "19_landsat",
    "23_mammography",
    "27_PageBlocks",
    "29_Pima",
    "37_Stamps",
    "41_Waveform",
    "43_WDBC",
    "45_wine",
)
KINDS = ("local", "global", "dependency", "clustered")
N_ROWS, ANOMALIES, MOST_BASE_ROWS = 1500, 75, 2000
FACTOR, BEYOND, MOST_COMPONENTS = 5.0, 0.1, 5
PEERS = ("PyOD ECOD", "PyOD PCA", "PyOD IForest", "PyOD KNN", "PyOD LOF", "PyOD OCSVM", "PyOD AutoEncoder")
DETECTORS = ("isthmus", *PEERS)


def normal_rows(folder: Path, base: str, draw: np.random.Generator) -> np.ndarray:
    """Normal rows of a table, each column to [0, 1] by its range, without constant columns, (n, d)."""
    with np.load(folder / f"{base}.npz", allow_pickle=False) as file:
        X, y = np.asarray(file["X"], dtype=np.float64), np.asarray(file["y"]).ravel()
    X = X[y == 0]
    X = X[draw.permutation(len(X))[:MOST_BASE_ROWS]]
    X = X[:, X.std(axis=0) > 1e-9]
    rows: np.ndarray = (X - X.min(axis=0)) / np.ptp(X, axis=0)
    return rows


def mixture(X: np.ndarray, seed: int) -> GaussianMixture:
    """The mixture of normal rows that the Bayesian information criterion likes best."""
    made = [GaussianMixture(k, reg_covar=1e-5, random_state=seed).fit(X) for k in range(1, MOST_COMPONENTS + 1)]
    return min(made, key=lambda model: float(model.bic(X)))


def drawn(model: GaussianMixture, n: int, draw: np.random.Generator, *, means: float = 1.0, spread: float = 1.0
          ) -> np.ndarray:  # fmt: skip
    """Rows from a mixture with its means and covariances multiplied."""
    parts = draw.choice(len(model.weights_), size=n, p=model.weights_)
    noise = draw.normal(size=(n, model.means_.shape[1]))
    roots = np.linalg.cholesky(spread * model.covariances_)
    rows: np.ndarray = means * model.means_[parts] + np.einsum("nij,nj->ni", roots[parts], noise)
    return rows


def copula(X: np.ndarray, n: int, draw: np.random.Generator, *, independent: bool) -> np.ndarray:
    """Rows with the marginals of X, dependent as in X by a Gaussian copula, or independent."""
    scores = norm.ppf((rankdata(X, axis=0) - 0.5) / len(X))
    correlation = np.eye(X.shape[1]) if independent else np.corrcoef(scores, rowvar=False)
    values, directions = np.linalg.eigh(np.atleast_2d(correlation))
    noise = draw.normal(size=(n, X.shape[1])) * np.sqrt(values.clip(min=0.0)) @ directions.T
    shares = norm.cdf(noise)
    columns = [np.quantile(X[:, place], shares[:, place]) for place in range(X.shape[1])]
    return np.column_stack(columns)


def made(kind: str, X: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A table with anomalies of one kind, and which rows they are."""
    draw, n_normal = np.random.default_rng(seed), N_ROWS - ANOMALIES
    if kind == "dependency":
        normal = copula(X, n_normal, draw, independent=False)
        odd = copula(X, ANOMALIES, draw, independent=True)
    else:
        model = mixture(X, seed)
        normal = drawn(model, n_normal, draw)
        low, high = normal.min(axis=0), normal.max(axis=0)
        ways: dict[str, Callable[[], np.ndarray]] = {
            "local": lambda: drawn(model, ANOMALIES, draw, spread=FACTOR),
            "global": lambda: draw.uniform(low - BEYOND * abs(low), high + BEYOND * abs(high), (ANOMALIES, X.shape[1])),
            "clustered": lambda: drawn(model, ANOMALIES, draw, means=FACTOR),
        }
        odd = ways[kind]()
    return np.concatenate([normal, odd]), np.repeat([0, 1], [n_normal, ANOMALIES])


def make_tables(source: Path, folder: Path) -> None:
    """Write all made tables, numbered so that they keep their order."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (kind, base) in enumerate(itertools.product(KINDS, BASES)):
        file = folder / f"{number}_{kind}_{base.partition('_')[2]}.npz"
        if not file.is_file():
            X, y = made(kind, normal_rows(source, base, np.random.default_rng(0)), seed=number)
            np.savez(file, X=X, y=y)


def markdown(results: Sequence[protocol.Result], names: Sequence[str], seeds: Sequence[int]) -> str:
    """Mean AUROC by kind and over all."""
    found = {(r.detector, r.set, r.seed): r.auroc for r in results if r.training == "contaminated"}
    lines = ["| AUROC | " + " | ".join(KINDS) + " | mean |", "|---" * (len(KINDS) + 2) + "|"]
    rows = []
    for detector in DETECTORS:
        if all((detector, name, seed) in found for name in names for seed in seeds):
            figures = np.array([[found[detector, name, seed] for seed in seeds] for name in names]).mean(axis=1)
            rows.append((detector, figures.reshape(len(KINDS), -1).mean(axis=1)))
    for detector, by_kind in sorted(rows, key=lambda row: -row[1].mean()):
        cells = [f"{value:.3f}" for value in (*by_kind, by_kind.mean())]
        lines.append(f"| {detector} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ISTHMUS_DATA", ".")) / "adbench")
    parser.add_argument("--made", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--peers-python", type=Path)
    parser.add_argument("--seeds", nargs="*", type=int, default=[1])
    told = parser.parse_args(arguments)
    torch.set_num_threads(1)
    make_tables(told.data, told.made)
    cache, names = protocol.Cache(told.results), protocol.set_names(told.made)
    for seed, name in itertools.product(told.seeds, names):
        if cache.get("isthmus", name, seed, "contaminated") is None:
            cache.put(protocol.measure("isthmus", name, seed, "contaminated", fit=fitter({}, seed), folder=told.made))
    if told.peers_python:
        script = str(Path(__file__).parent / "peers.py")
        places = ["--data", str(told.made), "--results", str(told.results), "--trainings", "contaminated"]
        seeds = ["--seeds", *map(str, told.seeds), "--detectors", *PEERS]
        subprocess.run([str(told.peers_python), script, *places, *seeds], check=True)
    print(markdown(cache.all(), names, told.seeds))


if __name__ == "__main__":
    main()
