"""The rows a detector is given, whatever they come as, as scaled tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from isthmus.data import Source
from isthmus.estimators.validation import non_finite_text, take
from isthmus.exceptions import DataError


@dataclass(frozen=True)
class Rows:
    """Rows as a source, and how they become tensors.

    Attributes
    ----------
    source
        The rows; those of a table are numbers by its schema.
    detector
        Knows schema, scaling and device.
    named
        Whether they are a table with named columns, in which cells may be missing later.
    """

    source: Source
    detector: Any
    named: bool = False

    @classmethod
    def open(cls, detector: Any, X: Any, *, fitting: bool = False) -> Self:
        """Look at what was given; when fitting, the detector learns its columns.

        Raises
        ------
        DataError, ValueError, TypeError
            The data cannot be used, or have other columns than at `fit`.
        """
        if fitting:
            for name in ("schema_", "feature_names_in_", "feature_shape_", "n_features_in_"):
                vars(detector).pop(name, None)
        as_table = _needs_schema(detector, X) if fitting else hasattr(detector, "schema_")
        source = _table_source(detector, X, fitting) if as_table else take(detector, X, fitting=fitting).source
        return cls(source, detector, _is_table(X))

    @property
    def n_rows(self) -> int:
        return self.source.n_rows

    def read(self, places: np.ndarray) -> np.ndarray:
        """Some rows, of ascending numbers, as they are, flat: (k, d)."""
        return _flat(self.source.pick(places))

    def tensors(self, rows_per_chunk: int) -> Iterator[Tensor]:
        """All rows, scaled, some at a time: (k, d)."""
        device = torch.device(self.detector.device_)
        dtype, start = scoring_type(self.detector), 0
        for chunk in self.source.chunks(rows_per_chunk):
            flat = _flat(chunk)
            check_finite(flat, missing_allowed=self.detector.missing_allowed_, first_row=start)
            yield to_tensor(flat, self.detector, device, dtype)
            start += len(chunk)


def _flat(rows: np.ndarray) -> np.ndarray:
    flat = rows.reshape(len(rows), -1)
    return flat if flat.shape[1] else np.zeros((len(rows), 1), np.float32)  # a table of constant columns


def scoring_type(detector: Any) -> torch.dtype:
    """In which precision rows are scored, at `fit` as at `predict`, whatever type they come in.

    Double where the device has it: curves are steep where many training rows are alike, and tell rows apart that single
    precision does not. An autoencoder of the user's own keeps its single precision.
    """
    single = detector.autoencoder is not None or torch.device(detector.device_).type == "mps"
    return torch.float32 if single else torch.float64


def to_tensor(flat: np.ndarray, detector: Any, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Scaled rows on a device, (n, d); numbers that are left out of the score are 0."""
    scaled: Tensor = detector.scaling_.apply(torch.from_numpy(np.array(flat, dtype=np.float64)), dtype)
    left_out = getattr(detector, "left_out_", None)
    return (scaled if left_out is None else scaled.masked_fill(torch.from_numpy(left_out), 0.0)).to(device)


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


def _needs_schema(detector: Any, X: Any) -> bool:
    """Whether these are a table that is more than numbers: with text, dates, holes, or kinds given."""
    if not _is_table(X):
        return detector.kinds is not None
    if detector.kinds is not None or not hasattr(X, "columns") or not hasattr(X, "dtypes"):
        return True
    return not _plain_numbers(X)


def _is_table(X: Any) -> bool:
    from isthmus.data.tables import is_table  # noqa: PLC0415  # reading tables takes a while to load

    return not scipy.sparse.issparse(X) and is_table(X)


def _plain_numbers(frame: Any) -> bool:
    """Whether a pandas or polars frame has numbers only, and no holes; a category of numbers is more than these."""
    if any(hasattr(dtype, "categories") for dtype in frame.dtypes):
        return False
    try:
        values = frame.to_numpy()
    except (TypeError, ValueError):
        return False
    return values.dtype.kind in "buif" and not np.isnan(values.astype(np.float64)).any()


def _table_source(detector: Any, X: Any, fitting: bool) -> Source:
    from isthmus.data.tables import TableSource, learn_schema  # noqa: PLC0415  # as above
    from isthmus.tasks.anomaly.unscored import watch_constants  # noqa: PLC0415  # as above

    if fitting:
        detector.schema_ = watch_constants(learn_schema(X, detector.kinds))
        detector.feature_names_in_ = np.asarray(detector.schema_.names, dtype=object)
        detector.n_features_in_ = len(detector.schema_.names)
        detector.feature_shape_ = (max(1, detector.schema_.width),)
    return TableSource(X, detector.schema_)
