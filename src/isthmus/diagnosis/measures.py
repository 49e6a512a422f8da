"""Measures of a model on data, which plots and reports show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from scipy.ndimage import gaussian_filter1d
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from isthmus.data import Source, as_source
from isthmus.estimators import Autoencoder
from isthmus.estimators.kinds import require_autoencoder
from isthmus.estimators.targets import target_of
from isthmus.wording import be, counted, these

BLOCK_BYTES = 2**26
ALL_THE_SAME = 1e-6
"""Relative range of codes below which differences are rounding errors."""
SAMPLE = 10_000
"""Number of rows in a sample; more rows would take longer without changing the result."""


@dataclass(frozen=True)
class CodeStatistics:
    """Statistics of the units of a code.

    Attributes
    ----------
    mean, deviation
        Mean and standard deviation of each unit over the rows, (code,).
    share_of_zeros
        Fraction of all code values that are zero, in [0, 1].
    dead_units
        Units with the same value for every row.
    effective_dimension
        Participation ratio of the variances of the codes' principal components: code_size if all directions have equal
        variance, 1 for codes on a line.
    """

    mean: np.ndarray
    deviation: np.ndarray
    share_of_zeros: float
    dead_units: tuple[int, ...]
    effective_dimension: float

    @property
    def mean_activation(self) -> float:
        """Mean over rows and units."""
        return float(self.mean.mean())


def code_statistics(Z: np.ndarray) -> CodeStatistics:
    """Compute the statistics of codes, (n, code).

    Examples
    --------
    >>> code_statistics(np.array([[0.0, 1.0], [0.0, 3.0]])).dead_units
    (0,)
    """
    Z = np.asarray(Z, dtype=np.float64)
    deviation = Z.std(axis=0)
    dead = tuple(np.flatnonzero(deviation < 1e-6 * max(1e-12, float(deviation.max()))).tolist())
    variances = np.linalg.eigvalsh(np.atleast_2d(np.cov(Z.T))) if len(Z) > 1 else np.zeros(1)
    effective = float(variances.sum() ** 2 / max(float(np.square(variances).sum()), 1e-300))
    return CodeStatistics(Z.mean(axis=0), deviation, float((Z == 0).mean()), dead, effective)


def pca_error(X: Any, code_size: int, X_test: Any = None, *, given: Any = None, random_state: int = 0) -> float:
    """Mean squared reconstruction error of PCA with the same code size, in squared units of X.

    Parameters
    ----------
    X
        Rows on which PCA is fitted; at most 10,000 evenly spaced rows are used.
    code_size
        Number of components, limited by the number of rows and features of X.
    X_test
        Rows on which the error is measured; None: X.
    given
        Input rows in place of X_test, such as corrupted rows; the target remains X_test.
    random_state
        Seed of the randomised solver.
    """
    rows = sample_rows(X)
    test = rows if X_test is None else sample_rows(X_test)
    seen = test if given is None else sample_rows(given)
    if len(rows) < 2 or not np.ptp(rows, axis=0).any():  # identical rows have no principal directions
        return float(np.square(rows.mean(axis=0) - test).mean())
    pca = PCA(min(code_size, *rows.shape), random_state=random_state).fit(rows)
    return float(np.square(pca.inverse_transform(pca.transform(seen)) - test).mean())


def sample_rows(X: Any, n: int = SAMPLE) -> np.ndarray:
    """At most n evenly spaced rows of X, flat, in double precision: (k, d)."""
    source = _source(X)
    rows = source.read(np.unique(np.linspace(0, source.n_rows - 1, min(n, source.n_rows)).astype(int)))
    return rows.reshape(len(rows), -1).astype(np.float64)


@dataclass(frozen=True)
class WorstRows:
    """The rows with the largest reconstruction errors.

    Attributes
    ----------
    index
        Their indices in X, the worst first, (n,).
    X, X_hat
        The rows and their reconstructions, (n, *feature_shape).
    error
        Mean squared error of each row, (n,).
    damaged
        The corrupted input rows if the model has a corruption; else None.
    """

    index: np.ndarray
    X: np.ndarray
    X_hat: np.ndarray
    error: np.ndarray
    damaged: np.ndarray | None = None


def worst_rows(model: Autoencoder, X: Any, n: int = 10, *, y: Any = None, target: Any = None) -> WorstRows:
    """The n rows of X with the largest reconstruction error; a conditional model needs their labels y.

    A model with a corruption receives corrupted rows, and the error is measured against the clean rows. A model that
    was fitted with a target needs the targets of X: they are then the rows, and X is the damaged input, if it has their
    shape and unit.
    """
    require_autoencoder(model, "worst_rows", compares=False)
    if target is not None or target_of(model) is not None:
        return _worst_pairs(model, X, n, y, target)
    if model.objective_.choices.corruption is not None:
        return restoration(model, X, n, y=y).worst
    error = model.reconstruction_error(X, y)
    index = np.argsort(error)[::-1][:n]
    rows, labels = take_rows(X, index), None if y is None else np.asarray(y)[index]
    return WorstRows(index, np.asarray(rows), np.asarray(model.reconstruct(rows, labels)), error[index])


def _worst_pairs(model: Autoencoder, X: Any, n: int, y: Any, target: Any) -> WorstRows:
    error = model.reconstruction_error(X, y, target=target)
    index = np.argsort(error)[::-1][:n]
    given, labels = take_rows(X, index), None if y is None else np.asarray(y)[index]
    answers, wanted = np.asarray(model.reconstruct(given, labels)), np.asarray(take_rows(target, index))
    shown = np.asarray(given) if in_one_unit(X, target) else None
    return WorstRows(index, wanted.reshape(answers.shape), answers, error[index], shown)


def in_one_unit(X: Any, target: Any) -> bool:
    """Whether rows of X and of their target can be compared: of one shape, and both bytes or both not."""
    given, wanted = _source(X), _source(target)
    same_shape = tuple(given.feature_shape) == tuple(wanted.feature_shape)
    return same_shape and (given.dtype == np.uint8) == (wanted.dtype == np.uint8)


@dataclass(frozen=True)
class Restoration:
    """How well a model restores rows that its corruption damaged, or that came damaged with a target.

    Attributes
    ----------
    error_before, error
        Mean squared error of each corrupted and of each restored row against the clean row, (n,), in squared units of
        X.
    psnr_before, psnr
        Peak signal-to-noise ratio of the corrupted and of the restored rows in dB, over all rows:
        ``10 log10(peak² / mean squared error)``. The peak is 255 for bytes, 1 for data in [0, 1], else the range of X.
    worst
        The rows with the largest errors after restoration.
    """

    error_before: np.ndarray
    error: np.ndarray
    psnr_before: float
    psnr: float
    worst: WorstRows


def restoration(
    model: Autoencoder, X: Any, n: int = 10, *, y: Any = None, target: Any = None, random_state: int = 0
) -> Restoration:
    """Corrupt rows as in training, restore them, and compare both with the clean rows.

    Rows that come with their targets are restored as they are, and compared with these.

    Parameters
    ----------
    model
        A fitted model with a corruption, or one that was fitted with a target.
    X
        Clean rows; damaged rows where there is a target.
    n
        Number of worst rows to keep.
    y
        Their labels, for a conditional model.
    target
        For a model that was fitted with a target: the clean rows, of the shape and unit of X.
    random_state
        Seed of the corruption.

    Raises
    ------
    ValueError
        The model has no corruption and no target; or X and target differ in shape or unit.
    """
    require_autoencoder(model, "restoration", compares=False)._take_pair(X, y, target)  # noqa: SLF001  # common check
    if target is not None and not in_one_unit(X, target):
        raise ValueError(
            "restoration compares X with target before and after, but they differ in shape, or one has bytes and the "
            "other has not; use reconstruction_error(X, target=…)."
        )
    if target is None and model.objective_.choices.corruption is None:
        raise ValueError("The model has no corruption, but one is needed; use reconstruction_error(X).")
    before, after, kept, low, high = [], [], [], np.inf, -np.inf
    for index in _blocks(X):
        rows, labels = take_rows(X, index), None if y is None else np.asarray(y)[index]
        if target is None:
            damaged, wanted = model.corrupt(rows, labels, random_state=random_state + int(index[0])), rows
        else:
            damaged, wanted = rows, take_rows(target, index)
        clean, given, back = (np.asarray(part) for part in (wanted, damaged, model.reconstruct(damaged, labels)))
        before.append(_row_errors(given, clean))
        after.append(_row_errors(back, clean))
        low, high = min(low, float(np.nanmin(clean))), max(high, float(np.nanmax(clean)))
        most = np.argsort(after[-1])[::-1][:n]
        kept += [(after[-1][place], index[place], clean[place], back[place], given[place]) for place in most]
    kept = sorted(kept, key=lambda row: -row[0])[:n]
    error, places, clean, back, given = (np.asarray(part) for part in zip(*kept, strict=True))
    peak = 255.0 if clean.dtype == np.uint8 else 1.0 if low >= 0 and high <= 1 else high - low
    error_before, error_after = np.concatenate(before), np.concatenate(after)
    before_after = psnr(float(error_before.mean()), peak), psnr(float(error_after.mean()), peak)
    return Restoration(error_before, error_after, *before_after, WorstRows(places, clean, back, error, given))


def psnr(mean_squared_error: float, peak: float) -> float:
    """Peak signal-to-noise ratio in dB; infinite without an error.

    >>> psnr(0.01, 1.0)
    20.0
    """
    return float(10 * np.log10(peak**2 / mean_squared_error)) if mean_squared_error > 0 and peak > 0 else float("inf")


def _row_errors(rows: np.ndarray, clean: np.ndarray) -> np.ndarray:
    flat = [part.reshape(len(part), -1).astype(np.float64) for part in (rows, clean)]
    errors: np.ndarray = np.nanmean(np.square(flat[0] - flat[1]), axis=1)
    return errors


def _blocks(X: Any) -> Iterator[np.ndarray]:
    """Indices of all rows, in blocks of at most 64 MB as doubles."""
    n_rows = X.n_rows if isinstance(X, Source) else X.shape[0] if hasattr(X, "shape") else len(X)
    n_features = X.n_features if isinstance(X, Source) else int(np.prod(np.shape(X)[1:]))
    size = max(1, min(4096, BLOCK_BYTES // (8 * max(1, n_features))))
    for start in range(0, n_rows, size):
        yield np.arange(start, min(start + size, n_rows))


def take_rows(X: Any, index: np.ndarray) -> Any:
    """Select rows of any model input: a frame gives a frame, other data an array (k, *feature_shape)."""
    if hasattr(X, "columns"):
        return X.iloc[index] if hasattr(X, "iloc") else X[index]
    return _source(X).read(index)


def _source(X: Any) -> Source:
    return as_source(X if isinstance(X, Source) or scipy.sparse.issparse(X) else np.asanyarray(X))


TSNE_SETTINGS: dict[str, Any] = {"max_iter": 350, "angle": 0.9}
"""Steps and accuracy of t-SNE. On the codes of 1,000 digits they take 1.8 s on one core and have a trustworthiness of
0.988; 500 steps with scikit-learn's angle of 0.5 take 3.2 s for 0.987, 1,000 steps twice as long. One thread: on a busy
machine two threads wait for each other at each step, and took 10 s of CPU time."""


def code_map(Z: np.ndarray, method: str = "auto", *, random_state: int = 0) -> np.ndarray:
    """Project codes to two dimensions, (n, 2).

    Parameters
    ----------
    Z
        Codes, (n, code).
    method
        ``"pca"``, ``"tsne"`` (scikit-learn's, slow above a few thousand rows), or ``"auto"``: two-dimensional codes
        unchanged, PCA for fewer than 50 or more than 3,000 rows, else t-SNE.
    random_state
        Seed of t-SNE.
    """
    if method not in ("auto", "pca", "tsne"):
        raise ValueError(f"method={method!r} must be 'auto', 'pca' or 'tsne'.")
    Z = np.asarray(Z, dtype=np.float64)
    if Z.ndim != 2 or not Z.size:
        raise ValueError(f"Z has shape {Z.shape}, but codes of shape (n, code) are needed; pass model.transform(X).")
    if n_bad := int((~np.isfinite(Z).all(axis=1)).sum()):
        raise ValueError(f"Z has {counted(n_bad, 'row')} with NaN or infinite values; drop {these(n_bad, 'row')}.")
    if Z.shape[1] < 3 and method == "auto":
        return np.column_stack([Z[:, 0], Z[:, -1] if Z.shape[1] == 2 else np.zeros(len(Z))])
    if (
        len(Z) < 3 or Z.shape[1] < 2 or np.ptp(Z, axis=0).max() <= ALL_THE_SAME * np.abs(Z).max()
    ):  # fewer than two directions
        return np.column_stack([Z[:, 0], Z[:, 1] if Z.shape[1] > 1 else np.zeros(len(Z))])
    if method == "tsne" or (method == "auto" and 50 <= len(Z) <= 3_000):
        from sklearn.manifold import TSNE  # noqa: PLC0415  # only maps need it

        settings = TSNE_SETTINGS | {"perplexity": min(30, (len(Z) - 1) / 3)}
        with threadpool_limits(1):
            return np.asarray(TSNE(random_state=random_state, **settings).fit_transform(Z))
    return np.asarray(PCA(2, random_state=random_state).fit_transform(Z))


@dataclass(frozen=True)
class Density:
    """The density of the code values of one model.

    Attributes
    ----------
    centres, density
        Centre of each bin, and the probability density, (bins,); its integral is 1.
    mean
        Mean over all rows and units.
    """

    centres: np.ndarray
    density: np.ndarray
    mean: float


def code_densities(models: Mapping[str, Autoencoder], X: Any, *, bins: int = 200) -> dict[str, Density]:
    """Smooth densities of the code values of each model on rows X, on common bins."""
    return densities_of({name: np.asarray(model.transform(X)) for name, model in models.items()}, bins=bins)


def densities_of(codes: Mapping[str, np.ndarray], *, bins: int = 200) -> dict[str, Density]:
    """Densities of several sets of codes on common bins: histograms smoothed by a Gaussian kernel.

    The kernel width follows Silverman's rule of thumb (1986, eq. 3.31), and is at least one bin.
    """
    flat = {name: np.asarray(Z, dtype=np.float64).ravel() for name, Z in codes.items()}
    together = np.concatenate(list(flat.values()))
    if not np.isfinite(together).all():
        n_bad = int((~np.isfinite(together)).sum())
        raise ValueError(f"The codes have {counted(n_bad, 'value')} that {be(n_bad)} not finite; drop these rows.")
    low, high = np.quantile(together, [0.0005, 0.9995])
    spread = {name: _bandwidth(Z) for name, Z in flat.items()}
    margin, size = 3 * max(spread.values()), max(abs(low), abs(high))
    margin = margin if margin > ALL_THE_SAME * size else size / 10 or 0.1
    edges = np.linspace(low - margin, high + margin, bins + 1)
    centres, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    return {
        name: Density(centres, _smooth(Z, edges, max(1.0, spread[name] / width)), float(Z.mean()))
        for name, Z in flat.items()
    }


def _bandwidth(Z: np.ndarray) -> float:
    quarter, three = np.quantile(Z, [0.25, 0.75])
    deviation = float(Z.std())
    narrow = (
        min(deviation, float(three - quarter) / 1.34) or deviation
    )  # the quartiles of a sparse code may both be zero
    return float(0.9 * narrow * len(Z) ** -0.2)


def _smooth(Z: np.ndarray, edges: np.ndarray, kernel_bins: float) -> np.ndarray:
    counts = gaussian_filter1d(np.histogram(Z, edges)[0].astype(float), kernel_bins, mode="constant")
    density: np.ndarray = counts / max(counts.sum() * (edges[1] - edges[0]), 1e-300)
    return density
