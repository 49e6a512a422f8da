"""Maps: codes in two dimensions, with figures of how faithful they are."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.metrics import silhouette_score
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from isthmus.choices.registry import unknown
from isthmus.diagnosis import take_rows
from isthmus.diagnosis.measures import sample_rows
from isthmus.estimators import Autoencoder
from isthmus.estimators.kinds import require_autoencoder
from isthmus.exceptions import DataError
from isthmus.files import write_tables
from isthmus.seeds import seed_from

METHODS = ("auto", "code", "pca", "opentsne", "umap")
FEWEST_EMBEDDED, MOST_EMBEDDED = 50, 20_000
"""Rows between which ``"auto"`` takes openTSNE: with fewer there are no neighbourhoods, with more it takes minutes."""
FIGURE_ROWS = 2_000
"""Rows of the trustworthiness and continuity, which need all distances between them."""
NEIGHBOURS = 5
Place = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class CodeMap:
    """Rows as points in a plane.

    Attributes
    ----------
    points
        (n, 2) float64.
    method
        How they were made: ``"code"``, ``"pca"``, ``"opentsne"`` or ``"umap"``.
    model
        The autoencoder whose codes are mapped.
    explained
        For ``"pca"``: the share of the codes' variance along both axes.
    """

    points: np.ndarray
    method: str
    model: Autoencoder
    explained: float | None = None
    _place: Place = field(repr=False, default=lambda codes: codes)

    def place(self, X: Any, y: Any = None) -> np.ndarray:
        """Points of new rows, (k, 2), without a new fit; a conditional model needs their labels y.

        For ``"code"`` and ``"pca"`` they are exact. openTSNE and UMAP place each new row by its neighbours among the
        mapped rows.
        """
        return np.asarray(self._place(_codes(self.model, X, y)), np.float64)


def map_codes(model: Autoencoder, X: Any, method: str = "auto", *, y: Any = None, random_state: Any = 0) -> CodeMap:
    """Map the codes of rows to the plane.

    Parameters
    ----------
    model
        A fitted autoencoder.
    X
        Rows, (n, *feature_shape), n >= 3.
    method
        ``"code"``: the code itself, of one or two numbers (one number is drawn on a line). ``"pca"``: principal
        components. ``"opentsne"`` and ``"umap"``: need ``pip install 'isthmus[maps]'``. ``"auto"``: the code if it has
        one or two numbers; else openTSNE if it is installed and there are 50 to 20,000 rows; else principal components.
        Two of many code units are never taken for the code.
    y
        Labels of the rows, for a conditional model only.
    random_state
        Seed or RandomState of openTSNE and UMAP.

    Raises
    ------
    ValueError
        The method is unknown, or ``"code"`` although the code is longer.
    DataError
        There are fewer than 3 rows.
    ImportError
        The library of the method is not installed.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(60, 5))
    >>> found = map_codes(Autoencoder(2, max_epochs=1, random_state=0).fit(X), X)
    >>> found.method, found.points.shape, bool(np.allclose(found.place(X[:3]), found.points[:3]))
    ('code', (60, 2), True)
    """
    require_autoencoder(model, "map_codes", compares=False)
    if method not in METHODS:
        raise ValueError(unknown("method", str(method), METHODS))
    size = model.objective_.context.code_size
    if method == "code" and size > 2:
        raise ValueError(
            f"method='code' needs a code of 1 or 2 numbers, but this model has {size}; use 'pca', 'opentsne' or 'umap'."
        )
    codes = _codes(model, X, y)
    if len(codes) < 3:
        raise DataError(f"X has {len(codes)} rows, but a map needs at least 3; pass more.")
    if method == "auto":
        method = _automatic(size, len(codes))
    explained: float | None = None
    place: Place = _plane
    if method == "code":
        points = _plane(codes)
    elif method == "pca":
        points, place, explained = _by_pca(codes)
    else:
        made = _by_opentsne if method == "opentsne" else _by_umap
        points, place = made(codes, seed_from(random_state))
    return CodeMap(np.asarray(points, np.float64), method, model, explained, place)


def _codes(model: Autoencoder, X: Any, y: Any) -> np.ndarray:
    codes = np.asarray(model.transform(X, y), np.float64)
    if not np.isfinite(codes).all():
        raise DataError("The codes contain NaN or infinite values; the weights of the model are damaged.")
    return codes


def _automatic(size: int, n_rows: int) -> str:
    if size <= 2:
        return "code"
    if not FEWEST_EMBEDDED <= n_rows <= MOST_EMBEDDED:
        return "pca"
    try:
        import openTSNE  # noqa: F401, PLC0415  # optional
    except ImportError:
        return "pca"
    return "opentsne"


def _plane(codes: np.ndarray) -> np.ndarray:
    return codes if codes.shape[1] == 2 else np.column_stack([codes[:, 0], np.zeros(len(codes))])


def _by_pca(codes: np.ndarray) -> tuple[np.ndarray, Place, float]:
    if codes.shape[1] == 1 or not np.ptp(codes, axis=0).any():
        first = codes[:, :2] - codes[:1, :2] if codes.shape[1] > 1 else codes
        return _plane(first), lambda more: _plane(more[:, :2] - codes[:1, :2] if more.shape[1] > 1 else more), 1.0
    pca = PCA(2, random_state=0).fit(codes)
    return pca.transform(codes), pca.transform, float(pca.explained_variance_ratio_.sum())


def _by_opentsne(codes: np.ndarray, seed: int) -> tuple[np.ndarray, Place]:
    try:
        from openTSNE import TSNE  # noqa: PLC0415  # optional
    except ImportError:
        raise _missing("opentsne", "openTSNE") from None
    perplexity = min(30.0, (len(codes) - 1) / 3)
    with _quiet():
        fitted = TSNE(perplexity=perplexity, random_state=seed, n_jobs=1, neighbors="exact").fit(codes)

    points = np.array(fitted)

    def place(more: np.ndarray) -> np.ndarray:
        with _quiet():
            placed = np.asarray(fitted.transform(more, perplexity=min(5.0, perplexity)))
        return np.asarray(
            placed - (np.asarray(fitted)[0] - points[0])
        )  # transform may shift the mapped points, in place

    return points, place


def _by_umap(codes: np.ndarray, seed: int) -> tuple[np.ndarray, Place]:
    with _quiet():
        fitted = make_umap(2, len(codes), seed).fit(codes)

    def place(more: np.ndarray) -> np.ndarray:
        with _quiet():
            return np.asarray(fitted.transform(more))

    return np.asarray(fitted.embedding_), place


def make_umap(n_components: int, n_rows: int, seed: int, *, min_dist: float = 0.1) -> Any:
    """An unfitted UMAP that is repeatable; raises an `ImportError` that names the extra if it is not installed."""
    with _quiet():
        try:
            from umap import UMAP  # noqa: PLC0415  # optional
        except ImportError:
            raise _missing("umap", "umap-learn") from None
    neighbours = max(2, min(15, n_rows - 1))
    components = max(1, min(n_components, n_rows - 2))
    start = "spectral" if n_rows > components + 2 + neighbours else "random"
    near: Any = {"n_neighbors": neighbours, "min_dist": min_dist}
    return UMAP(n_components=components, init=start, random_state=seed, n_jobs=1, **near)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of these libraries about their own dependencies and threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _missing(method: str, package: str) -> ImportError:
    return ImportError(
        f"method={method!r} needs {package}, which is not installed; run pip install 'isthmus[maps]', or use 'pca'."
    )


# -- figures -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MapFigures:
    """How faithful a map is.

    Attributes
    ----------
    trustworthiness
        Whether neighbours in the map are neighbours among the rows, in [0, 1] (Venna & Kaski 2001); 0.5 is chance.
    continuity
        Whether neighbours among the rows are neighbours in the map: the trustworthiness with both exchanged.
    neighbour_accuracy
        Accuracy of a 5-nearest-neighbour classifier on the points, by 5-fold cross-validation; None without labels.
    silhouette
        Mean silhouette of the labels in the map, in [-1, 1] (Rousseeuw 1987); None without labels.
    """

    trustworthiness: float
    continuity: float
    neighbour_accuracy: float | None = None
    silhouette: float | None = None


def map_figures(points: Any, X: Any, labels: Any = None) -> MapFigures:
    """Compute the figures of a map.

    Trustworthiness and continuity compare 5 nearest neighbours in the map with those among the rows, on at most 2,000
    evenly spaced rows. The accuracy and the silhouette need at least two classes of 5 rows; rows without a label and of
    rarer classes are left out.

    Parameters
    ----------
    points
        (n, 2), such as ``map_codes(model, X).points``.
    X
        The rows, (n, *feature_shape), in units in which their distances mean something.
    labels
        Classes, (n,), or None.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> map_figures(X, X).trustworthiness
    1.0
    """
    points = np.asarray(points, np.float64)
    some = np.unique(np.linspace(0, len(points) - 1, min(len(points), FIGURE_ROWS)).astype(int))
    rows = sample_rows(take_rows(X, some), len(some))
    if len(rows) != len(some) or points.ndim != 2 or not np.isfinite(points).all():
        raise ValueError(f"points has shape {points.shape}, but finite numbers of shape (n, 2) are needed.")
    n_neighbours = min(NEIGHBOURS, (len(some) - 1) // 2 - 1)
    if n_neighbours < 1:
        raise DataError(f"There are {len(some)} rows, but figures of a map need at least 5; pass more.")
    rows = np.nan_to_num(rows)
    trusted, continuous = (
        float(trustworthiness(one, other, n_neighbors=n_neighbours))
        for one, other in ((rows, points[some]), (points[some], rows))
    )
    return MapFigures(trusted, continuous, *_of_labels(points, labels))


def _of_labels(points: np.ndarray, labels: Any) -> tuple[float | None, float | None]:
    """Accuracy and silhouette; None where labels are missing or too rare."""
    if labels is None:
        return None, None
    names, known = label_names(labels, len(points))
    kept = known & np.isin(names, [name for name in np.unique(names) if (names[known] == name).sum() >= NEIGHBOURS])
    places, classes = points[kept], names[kept]
    if len(np.unique(classes)) < 2:
        return None, None
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    accuracy = cross_val_score(KNeighborsClassifier(NEIGHBOURS), places, classes, cv=folds).mean()
    some = np.unique(np.linspace(0, len(places) - 1, min(len(places), FIGURE_ROWS)).astype(int))
    several = len(np.unique(classes[some])) > 1
    silhouette = float(silhouette_score(places[some], classes[some])) if several else None
    return float(accuracy), silhouette


def label_names(labels: Any, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels as text, (n,), and whether each is known: neither None nor NaN.

    >>> label_names([1.0, float("nan"), "b"], 3)[1].tolist()
    [True, False, True]
    """
    given = np.asarray(labels, dtype=object)
    if given.shape != (n_rows,):
        raise ValueError(f"labels has shape {given.shape}, but ({n_rows},) is needed: one label for each row.")
    known = np.array([label is not None and bool(label == label) for label in given], bool)  # noqa: PLR0124  # NaN
    return np.array([str(label) for label in given], dtype=str), known


# -- files -------------------------------------------------------------------------------------------------------------


def write_map(
    path: str | Path, found: CodeMap, *, labels: Any = None, columns: Any = None, overwrite: bool = False
) -> int:
    """Write a map as a table with the columns x, y and neighbors, one row per point.

    A Parquet file can be opened by the viewer `embedding-atlas`:
    ``uvx embedding-atlas map.parquet --x x --y y --neighbors neighbors``. Its column ``neighbors`` has the row numbers
    and distances of the 10 nearest points in the map; a .csv file has no such column.

    Parameters
    ----------
    path
        .parquet or .csv.
    found
        From `map_codes`.
    labels
        A class or number for each point, which becomes the column ``label``.
    columns
        A pandas frame with further columns of the points, such as the rows themselves.
    overwrite
        Whether to replace an existing file.

    Returns
    -------
    int
        Number of rows written.
    """
    table = {"x": pa.array(found.points[:, 0]), "y": pa.array(found.points[:, 1])}
    if labels is not None:
        names, known = label_names(labels, len(found.points))
        table["label"] = pa.array(names, mask=~known)
    if Path(path).suffix == ".parquet":
        table["neighbors"] = _neighbours(found.points)
    for name in () if columns is None else columns:
        if str(name) in table:
            raise ValueError(f"columns has a column {str(name)!r}, which the map has too; rename it.")
        table[str(name)] = pa.array(columns[name])
    return write_tables(path, iter([pa.table(table)]), overwrite=overwrite)


def _neighbours(points: np.ndarray) -> pa.Array:
    n = min(10, len(points) - 1)
    distances, rows = NearestNeighbors(n_neighbors=n).fit(points).kneighbors()
    return pa.array(
        [{"ids": ids, "distances": away} for ids, away in zip(rows.tolist(), distances.tolist(), strict=True)],
        pa.struct({"ids": pa.list_(pa.int64()), "distances": pa.list_(pa.float64())}),
    )
