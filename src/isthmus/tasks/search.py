"""Search: the rows whose codes are nearest to those of an example."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from isthmus.choices.registry import unknown
from isthmus.choices.rules import Number, Whole
from isthmus.data import ImageFolder, Source
from isthmus.diagnosis import take_rows
from isthmus.estimators import Autoencoder, persistence
from isthmus.estimators.kinds import require_autoencoder
from isthmus.estimators.saved import Saved, put_run_of, run_of
from isthmus.exceptions import DataError, ModelFileError
from isthmus.files.model_file import State
from isthmus.files.records import Arrays, Count, Json, Numbers, Record, check_arrays, convert, group, grouped, pack
from isthmus.tasks.similarity import SimilarityIndex, unit_rows

METRICS = ("euclidean", "cosine")
BLOCK_BYTES = 2**26
THUMBNAIL = 32
"""Largest side of a stored thumbnail, in pixels."""


@dataclass(frozen=True)
class Matches:
    """The nearest rows of each query, the nearest first.

    Attributes
    ----------
    names
        (queries, n), an array of objects: the names under which rows were added.
    distances
        (queries, n): Euclidean distance of the codes, or one minus their cosine.
    thumbnails
        (queries, n, h, w) or (queries, n, h, w, c) uint8 if the index has thumbnails, else None.
    """

    names: np.ndarray
    distances: np.ndarray
    thumbnails: np.ndarray | None = None


class SearchIndex(Saved):
    """An index of rows by their codes: add rows, ask for the rows most like an example, save it as one file.

    Parameters
    ----------
    model
        A fitted autoencoder, which is part of the index and of its file.
    metric
        ``"euclidean"``: distance of the codes. ``"cosine"``: one minus the cosine of the codes, which ignores their
        lengths.
    thumbnails
        Whether to keep a small copy of each image, at most 32 pixels wide, for `Matches` and pages. Ignored if rows are
        no images.

    Attributes
    ----------
    names : ndarray of objects
        The names of the rows, in the order of `codes`.
    codes : ndarray
        (rows, code) float32.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 6))
    >>> index = SearchIndex(Autoencoder(3, max_epochs=2, random_state=0).fit(X)).add(X)
    >>> found = index.query(X[7:8], 3)
    >>> int(found.names[0, 0]), float(found.distances[0, 0]) < 1e-3, len(index.remove([7]))
    (7, True, 49)
    """

    learned_in: ClassVar[str] = "codes"
    in_file: ClassVar[frozenset[str]] = frozenset(
        {"model", "metric", "thumbnails", "names", "codes", "_small", "_fast"}
    )

    def __init__(self, model: Autoencoder, *, metric: str = "euclidean", thumbnails: bool = True) -> None:
        self.model = require_autoencoder(model, "SearchIndex", compares=False)
        if metric not in METRICS:
            raise ValueError(unknown("metric", str(metric), METRICS))
        if model.objective_.context.n_conditions:
            raise ValueError("SearchIndex needs a model without labels, but this one is conditional.")
        self.metric, self.thumbnails = metric, bool(thumbnails)
        self.names = np.empty(0, dtype=object)
        self.codes = np.empty((0, model.objective_.context.code_size), np.float32)
        self._small: np.ndarray | None = None
        self._fast: SimilarityIndex | None = None

    def __len__(self) -> int:
        return len(self.codes)

    # -- rows ----------------------------------------------------------------------------------------------------

    def add(self, X: Any, names: Sequence[Any] | None = None) -> Self:
        """Add rows.

        Parameters
        ----------
        X
            Rows, in any form that the model takes.
        names
            A text or integer for each row, all different and new. None: for an `ImageFolder` the path of each file in
            it, else numbers that continue those of the index.

        Raises
        ------
        ValueError
            A name is repeated, already in the index, or neither text nor an integer; nothing is added.
        DataError
            Rows cannot be encoded; nothing is added.
        """
        codes = self._encoded(X)
        wanted = _names_for(X, len(codes), self.names) if names is None else _checked_names(names, len(codes))
        known = set(self.names.tolist())
        if known and isinstance(next(iter(known)), str) != (len(wanted) > 0 and isinstance(wanted[0], str)):
            raise ValueError("The names of an index must be all text or all integers; give names of the same type.")
        both = known & set(wanted)
        if both or len(set(wanted)) < len(wanted):
            twice = next(name for name in wanted if name in both or wanted.count(name) > 1)
            raise ValueError(f"The name {twice!r} is already in the index or occurs twice; names must differ.")
        small = _thumbnails(X, self.model) if self.thumbnails else None
        if small is not None:
            self._small = small if self._small is None else np.concatenate([self._small, small])
        self.names = np.concatenate([self.names, np.array([*wanted, None], dtype=object)[:-1]])
        self.codes = np.concatenate([self.codes, codes])
        self._fast = None
        return self

    def remove(self, names: Sequence[Any]) -> Self:
        """Remove rows by name; an unknown name is an error, and then nothing is removed."""
        gone, known = list(names), set(self.names.tolist())
        missing = [name for name in gone if name not in known]
        if missing:
            raise ValueError(f"The index has no row {missing[0]!r}; index.names lists its {len(self):,} rows.")
        dropped = set(gone)
        kept = np.array([name not in dropped for name in self.names.tolist()], bool)
        self.names, self.codes = self.names[kept], self.codes[kept]
        self._small = None if self._small is None else self._small[kept]
        self._fast = None
        return self

    def _encoded(self, X: Any) -> np.ndarray:
        codes = np.asarray(self.model.transform(X), np.float32)
        if not np.isfinite(codes).all():
            raise DataError("Codes of these rows are NaN or infinite; check the rows and the model.")
        return codes

    # -- answers -------------------------------------------------------------------------------------------------

    def query(self, X: Any, n: int = 10, *, approximate: bool = False) -> Matches:
        """Find the rows whose codes are nearest to those of examples.

        Parameters
        ----------
        X
            Examples, (queries, *feature_shape).
        n
            Rows for each, >= 1; if the index has fewer, all are returned.
        approximate
            Search a part of the rows with faiss (`SimilarityIndex`), which is built on first use; only for
            ``metric="cosine"``. Needs ``pip install 'isthmus[search]'``.

        Raises
        ------
        ValueError
            `n` is below 1, the index is empty, or `approximate` is not possible.
        DataError, ValueError
            The examples have another shape than the rows.
        """
        if not Whole(1).admits(n):
            raise ValueError(f"n={n!r} must be an integer >= 1.")
        if not len(self):
            raise ValueError("The index is empty; add rows first: index.add(X).")
        codes = self._encoded(X)
        if approximate:
            rows, distances = self._approximately(codes, n)
        else:
            rows, distances = _nearest(self.codes, codes, min(n, len(self)), self.metric)
        small = None if self._small is None else self._small[rows]
        return Matches(self.names[rows], distances, small)

    def _approximately(self, codes: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        if self.metric != "cosine":
            raise ValueError("approximate=True needs SearchIndex(model, metric='cosine').")
        self._fast = self._fast or SimilarityIndex(self.codes, random_state=0)
        rows, cosines = self._fast.nearest(codes, n)
        if (rows < 0).any():  # too few rows in the searched cells
            return _nearest(self.codes, codes, min(n, len(self)), self.metric)
        return rows, 1.0 - cosines

    def near_duplicates(self, share: float = 0.1) -> list[list[Any]]:
        """Groups of rows that are nearly alike: names, the largest group first.

        Two rows are nearly alike if the distance of their codes is at most a share of the median distance to the
        nearest row that is not equal; groups are chains of such rows.

        Parameters
        ----------
        share
            In [0, 1); 0 finds equal codes alone.
        """
        if not Number(0.0, 1.0, open_high=True).admits(share):
            raise ValueError(f"share={share!r} must be a number in [0, 1).")
        if len(self) < 2:
            return []
        rows, distances = _nearest(self.codes, self.codes, min(12, len(self)), self.metric)
        tiny = 1e-5 * float(np.median(distances[:, -1]))
        apart = np.where(distances > tiny, distances, np.inf).min(axis=1)
        limit = max(tiny, share * float(np.median(apart[np.isfinite(apart)])) if np.isfinite(apart).any() else 0.0)
        one, place = np.nonzero(distances <= limit)
        pairs = coo_array((np.ones(len(one)), (one, rows[one, place])), shape=(len(self), len(self)))
        _, owner = connected_components(pairs, directed=False)
        found = pd.Series(self.names).groupby(owner).agg(list)
        return sorted((names for names in found if len(names) > 1), key=lambda names: (-len(names), str(names[0])))

    # -- keeping -------------------------------------------------------------------------------------------------

    def _to_state(self) -> State:
        inner = self.model._to_state()  # noqa: SLF001  # a part of the file
        words = [str(name) for name in self.names]
        text = "\0".join(words).encode()
        values = SearchIndexValues(
            kind=inner.kind,
            model=dict(inner.values),
            metric=self.metric,
            thumbnails=self.thumbnails,
            n_rows=len(self),
            numbered=bool(len(self)) and not isinstance(self.names[0], str),
        )
        arrays = {**grouped(inner.arrays, "model."), "codes": self.codes, "names": np.frombuffer(text, np.uint8)}
        if self._small is not None:
            arrays["thumbnails"] = self._small
        return pack(type(self).__name__, values, arrays, DECLARED)

    def _run_state(self) -> tuple[Json, dict[str, np.ndarray]]:
        return run_of(self.model, "model")

    def _put_run_state(self, values: Json, arrays: Arrays) -> None:
        put_run_of(self.model, "model", values, arrays)

    def _learned_members(self) -> Iterable[Any]:
        return (self.model,)

    @classmethod
    def _from_state(cls, state: State, *, network: Any = None, device: str = "auto") -> Self:
        values = convert(state.values, SearchIndexValues)
        check_arrays(state.arrays, DECLARED, {"rows": values.n_rows})
        inner = State(values.kind, values.model, group(state.arrays, "model."))
        model = persistence.from_state(inner, network=network, device=device)
        index = cls(
            require_autoencoder(model, "SearchIndex", compares=False),
            metric=values.metric,
            thumbnails=values.thumbnails,
        )
        codes = state.arrays["codes"]
        if codes.shape[1] != index.codes.shape[1]:
            raise ModelFileError(
                f"its codes have {codes.shape[1]} numbers, but those of its model {index.codes.shape[1]}."
            )
        words = state.arrays["names"].tobytes().decode().split("\0") if values.n_rows else []
        if len(words) != values.n_rows:
            raise ModelFileError(f"its array 'names' has {len(words)} names, but {values.n_rows} are needed.")
        names = [int(word) for word in words] if values.numbered else words
        index.codes, index.names = codes, np.array([*names, None], dtype=object)[:-1]
        index._small = state.arrays.get("thumbnails")
        return index


class SearchIndexValues(Record, frozen=True):
    """The contents of an index's file besides arrays."""

    kind: str
    model: Json
    metric: str
    thumbnails: bool
    n_rows: Count
    numbered: bool


DECLARED = {
    "model.*": Numbers("fiub"),
    "codes": Numbers("f", ("rows", "code"), bits=32),
    "names": Numbers("u", (None,), bits=8),
    "thumbnails": Numbers("u", bits=8, optional=True),
}


def _nearest(codes: np.ndarray, queries: np.ndarray, n: int, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows and distances of the nearest codes of each query, exact, (queries, n) each; ties in row order."""
    cosine = metric == "cosine"
    asked = unit_rows(queries.astype(np.float64)) if cosine else queries.astype(np.float64)
    kept_rows = np.empty((len(asked), 0), np.int64)
    kept = np.empty((len(asked), 0))
    for start, block in _blocks(codes, len(asked)):
        known = unit_rows(block) if cosine else block
        away = -(asked @ known.T)
        if cosine:
            away = 1.0 + away
        else:
            away = 2.0 * away + np.square(asked).sum(axis=1)[:, None] + np.square(known).sum(axis=1)
        rows = np.broadcast_to(np.arange(start, start + len(block)), away.shape)
        kept, kept_rows = np.hstack([kept, away]), np.hstack([kept_rows, rows])
        if kept.shape[1] > n:
            best = np.argpartition(kept, n - 1, axis=1)[:, :n]
            best.sort(axis=1)
            kept, kept_rows = np.take_along_axis(kept, best, axis=1), np.take_along_axis(kept_rows, best, axis=1)
    order = np.argsort(kept, axis=1, kind="stable")
    kept, kept_rows = np.take_along_axis(kept, order, axis=1), np.take_along_axis(kept_rows, order, axis=1)
    if cosine:
        return kept_rows, np.maximum(kept, 0.0)
    exact = np.stack(
        [np.linalg.norm(codes[rows] - query, axis=1) for rows, query in zip(kept_rows, asked, strict=True)]
    )
    return kept_rows, exact


def _blocks(codes: np.ndarray, n_queries: int) -> Iterator[tuple[int, np.ndarray]]:
    """Codes in double precision, some rows at a time."""
    step = max(1, BLOCK_BYTES // (8 * max(codes.shape[1], n_queries, 1)))
    for start in range(0, len(codes), step):
        yield start, codes[start : start + step].astype(np.float64)


def _checked_names(names: Sequence[Any], n_rows: int) -> list[Any]:
    given = [name.item() if isinstance(name, np.generic) else name for name in names]
    if len(given) != n_rows:
        raise ValueError(f"names has {len(given)} names, but X has {n_rows} rows; give one for each row.")
    kinds = {type(name) for name in given}
    if not kinds <= {int} and not kinds <= {str}:
        raise ValueError(f"names must be all text or all integers, not {', '.join(sorted(k.__name__ for k in kinds))}.")
    odd = [name for name in given if isinstance(name, str) and "\0" in name]
    if odd:
        raise ValueError(f"The name {odd[0]!r} contains a null character; names must not.")
    return given


def _names_for(X: Any, n_rows: int, known: np.ndarray) -> list[Any]:
    if isinstance(X, ImageFolder):
        words = [str(file) for file in X.files]
        counts = pd.Series(words).groupby(words).cumcount()
        return [f"{word}#{count}" if count else word for word, count in zip(words, counts, strict=True)]
    if len(known) and isinstance(known[0], str):
        raise ValueError("The rows of this index have names of text; give names=[…] for these rows too.")
    first = 1 + max(known.tolist()) if len(known) else 0
    return list(range(first, first + n_rows))


def _thumbnails(X: Any, model: Autoencoder) -> np.ndarray | None:
    """Small copies of images, (n, h, w) or (n, h, w, c) uint8; None if rows are not images."""
    shape = tuple(model.feature_shape_)
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3, 4)):
        return None
    n_rows = X.n_rows if isinstance(X, Source) else len(X)
    parts = []
    for start in range(0, n_rows, 256):
        rows = np.asarray(take_rows(X, np.arange(start, min(start + 256, n_rows))))
        parts.append(_small_copies(rows.reshape(len(rows), *shape), *_grey_range(model)))
    return np.concatenate(parts)


def _grey_range(model: Autoencoder) -> tuple[float, float]:
    """The values of black and white: those of bytes or of [0, 1], else the range of the training rows."""
    low, high = float(model.feature_ranges_.min()), float(model.feature_ranges_.max())
    if low >= 0.0 and high <= 1.0:
        return 0.0, 1.0
    return (0.0, 255.0) if model.scaling_.name == "pixels" else (low, high if high > low else low + 1.0)


def _small_copies(images: np.ndarray, low: float, high: float) -> np.ndarray:
    """Images as bytes, at most 32 pixels wide: means of square blocks of pixels."""
    step = max(1, -(-max(images.shape[1:3]) // THUMBNAIL))
    height, width = (max(1, side // step) for side in images.shape[1:3])
    size = min(step, images.shape[1]), min(step, images.shape[2])
    cut = images[:, : height * size[0], : width * size[1]].astype(np.float32)
    blocks = cut.reshape(len(cut), height, size[0], width, size[1], *images.shape[3:]).mean(axis=(2, 4))
    blocks = (blocks - low) / (high - low) * 255.0
    return np.asarray(np.nan_to_num(blocks).round().clip(0, 255).astype(np.uint8))
