"""Input rows of a detector, and their conversion to scaled tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse
import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from isthmus.data import Scaling, Source
from isthmus.data.containers import unwrapped
from isthmus.estimators.validation import non_finite_text, take
from isthmus.exceptions import DataError

if TYPE_CHECKING:
    from isthmus.data.tables import Schema

READ_NUMBERS = 2**18
"""Numbers that are read at a time, at least."""


@dataclass(frozen=True)
class Rows:
    """Input rows.

    Attributes
    ----------
    given
        As they came.
    source
        As numbers; those of a table by its schema.
    """

    given: Any
    source: Source

    @property
    def named(self) -> bool:
        """Whether this is a table with named columns, whose later cells may be missing."""
        return given_as_table(self.given)

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return self.source.n_rows

    def read(self, places: np.ndarray) -> np.ndarray:
        """Some rows, by ascending indices, unscaled and flat: (k, d)."""
        return _flat(self.source.pick(places))

    def chunks(self, rows_per_chunk: int) -> Iterator[tuple[int, np.ndarray]]:
        """All rows, flat, in blocks with the index of the first row: (k, d)."""
        start = 0
        for chunk in self.source.chunks(rows_per_chunk):
            yield start, _flat(chunk)
            start += len(chunk)


FARTHEST = 0.45
"""Scaled numbers are at most this power of the largest number of their type (1e138, and 1e17 in single precision), so
that their squares and sums stay finite: with 1e200 a score was NaN, and the row passed for normal."""


@dataclass(frozen=True)
class RowFormat:
    """The conversion of rows to the tensors that are scored.

    Attributes
    ----------
    scaling
        Of the numbers.
    feature_shape
        Shape of a row.
    schema
        The columns of a table, else None.
    left_out
        Numbers that are left out of the score, (d,) bool, or None.
    missing_allowed
        Whether cells may be missing.
    device
        Where rows are scored.
    dtype
        In which precision, at `fit` as at `predict`, whatever type rows come in. Double where the device has it: curves
        are steep where many training rows are alike, and tell rows apart that single precision does not. An autoencoder
        of the user's own keeps its single precision.
    """

    scaling: Scaling
    feature_shape: tuple[int, ...]
    schema: Schema | None
    left_out: np.ndarray | None
    missing_allowed: bool
    device: torch.device
    dtype: torch.dtype

    def to_tensor(self, flat: np.ndarray) -> Tensor:
        """Scaled rows on the device, (n, d); numbers that are not scored are 0; NaN stays NaN."""
        farthest = torch.finfo(self.dtype).max ** FARTHEST
        scaled: Tensor = self.scaling.apply(torch.from_numpy(np.array(flat, dtype=np.float64)), self.dtype)
        scaled = scaled.clamp(-farthest, farthest)
        if self.left_out is not None:
            scaled = scaled.masked_fill(torch.from_numpy(self.left_out), 0.0)
        return scaled.to(self.device)

    def tensors(self, rows: Rows, rows_per_chunk: int) -> Iterator[Tensor]:
        """All rows, scaled, in blocks: (k, d); infinities, and NaN if not allowed, are errors.

        More rows are read at a time than are given, because each reading of a table looks at every column.
        """
        width = max(1, int(np.prod(self.feature_shape)))
        for start, flat in rows.chunks(max(rows_per_chunk, READ_NUMBERS // width)):
            check_finite(flat, missing_allowed=self.missing_allowed, first_row=start)
            yield from self.to_tensor(flat).split(rows_per_chunk)


def scoring_type(device: torch.device, *, own_autoencoder: bool) -> torch.dtype:
    """The precision of `RowFormat`; MPS has no double precision."""
    return torch.float32 if own_autoencoder or device.type == "mps" else torch.float64


def open_rows(estimator: BaseEstimator, X: Any, schema: Schema | None) -> Rows:
    """Open input rows of a fitted detector.

    Raises
    ------
    DataError, ValueError, TypeError
        The data cannot be used, or have other columns than at `fit`.
    """
    X = unwrapped(X)
    if schema is None:
        return Rows(X, take(estimator, X).source)
    from isthmus.data.tables import TableSource  # noqa: PLC0415  # reading tables takes a while to load

    return Rows(X, TableSource(X, schema))


def learn_rows(estimator: BaseEstimator, X: Any, kinds: Mapping[str, Any] | None) -> tuple[Rows, Schema | None]:
    """Open training rows, and learn the columns of a table.

    Of an array, scikit-learn's validation sets ``n_features_in_`` and the like on the estimator.
    """
    X = unwrapped(X)
    if not _needs_schema(X, kinds):
        return Rows(X, take(estimator, X, fitting=True).source), None
    from isthmus.data.tables import TableSource, learn_schema  # noqa: PLC0415  # as above
    from isthmus.tasks.anomaly.unscored import watch_constants  # noqa: PLC0415  # as above

    schema = watch_constants(learn_schema(X, kinds))
    return Rows(X, TableSource(X, schema)), schema


def _flat(rows: np.ndarray) -> np.ndarray:
    flat = rows.reshape(len(rows), -1)
    return flat if flat.shape[1] else np.zeros((len(rows), 1), np.float32)  # a table of constant columns


def check_finite(flat: np.ndarray, *, missing_allowed: bool, first_row: int = 0) -> None:
    """Refuse infinities, and NaN where they are not allowed, with row and column of the first."""
    if flat.dtype.kind != "f":
        return
    bad = np.isinf(flat) if missing_allowed else ~np.isfinite(flat)
    if bad.any():
        row, column = np.unravel_index(int(bad.argmax()), bad.shape)
        n_nan = 0 if missing_allowed else int(np.isnan(flat).sum())
        place = (first_row + int(row), int(column))
        raise DataError(non_finite_text(n_nan, int(np.isinf(flat).sum()), place))


def given_as_table(X: Any) -> bool:
    """Whether rows have column names."""
    from isthmus.data.tables import is_table  # noqa: PLC0415  # as above

    return not scipy.sparse.issparse(X) and is_table(X)


def _needs_schema(X: Any, kinds: Mapping[str, Any] | None) -> bool:
    """Whether a table needs a schema: it has text, dates or missing cells, or kinds were given."""
    if not given_as_table(X):
        return kinds is not None
    if kinds is not None or not hasattr(X, "columns") or not hasattr(X, "dtypes"):
        return True
    return not _plain_numbers(X)


def _plain_numbers(frame: Any) -> bool:
    """Whether a pandas or polars frame has only numbers and no missing cells; categories of numbers do not count."""
    if any(hasattr(dtype, "categories") for dtype in frame.dtypes):
        return False
    try:
        values = frame.to_numpy()
    except (TypeError, ValueError):
        return False
    return values.dtype.kind in "buif" and not np.isnan(values.astype(np.float64)).any()
