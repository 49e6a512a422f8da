"""Input validation: converts input data to a `Source`, and results to the type of the input."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_array, validate_data

from isthmus.choices import LOSSES, Observed
from isthmus.data import LabelledSource, MissingSource, PairedSource, Source, all_finite, as_source
from isthmus.data.containers import NamedMatrix, unwrapped
from isthmus.data.numeric import arranged, as_frame, as_numeric, frame_package
from isthmus.data.sources import check_attributes, floating_of
from isthmus.exceptions import DataError
from isthmus.wording import these


@dataclass(frozen=True)
class Given:
    """Validated input data, with conversion of results to the input's type.

    Attributes
    ----------
    source
        The rows.
    original
        The input object.
    labels
        For a conditional model: the class index of each row, (n,).
    n_classes
        Number of classes.
    weights
        At fit: weights > 0 of the rows, (n,), with a mean of 1; None for equal weights.
    target, target_names
        The target of each row, and the names of its columns; None for a target that is the row itself.
    """

    source: Source
    original: Any
    labels: np.ndarray | None = None
    n_classes: int = 0
    weights: np.ndarray | None = None
    target: Source | None = None
    target_names: tuple[str, ...] | None = None

    @property
    def rows(self) -> Source:
        """What a step needs of each row: its values, its one-hot label if the model is conditional, and its target."""
        given = self.source if self.labels is None else LabelledSource(self.source, self.labels, self.n_classes)
        return given if self.target is None else PairedSource(given, self.target)

    @property
    def compared(self) -> Source:
        """The rows that reconstructions are compared with."""
        return self.source if self.target is None else self.target

    @property
    def floating(self) -> np.dtype[Any]:
        """The floating dtype of results: double for doubles and integers of at least 32 bits, else single."""
        return max(floating_of(self.source.dtype), floating_of(self.compared.dtype), key=lambda dtype: dtype.itemsize)

    def like(self, rows: np.ndarray) -> Any:
        """Convert rows with the same features to the input's type: a tensor, a frame or an array."""
        names = list(self.original.columns) if frame_package(self.original) is not None else None
        return self.converted(rows, names)

    def converted(self, rows: np.ndarray, names: Sequence[str] | None) -> Any:
        """Convert rows with other features to the input's type; a frame needs their names, and is an array without."""
        if isinstance(self.original, torch.Tensor):
            return torch.from_numpy(rows).to(self.original.device)
        package = frame_package(self.original) if names is not None and rows.ndim == 2 else None
        if package == "pandas":
            return type(self.original)(rows, columns=names, index=self.original.index)
        if package == "polars":
            return type(self.original)(rows, schema=list(names or ()))
        return rows

    def codes(self, rows: np.ndarray) -> Any:
        """Convert codes: a tensor for a tensor, else an array (scikit-learn's `set_output` converts it to a frame)."""
        return torch.from_numpy(rows).to(self.original.device) if isinstance(self.original, torch.Tensor) else rows


def take(estimator: Any, X: Any, y: Any = None, *, fitting: bool = False, min_rows: int = 1) -> Given:
    """Validate data and convert them to a source; with `fitting`, set the estimator's feature attributes.

    Raises
    ------
    DataError, ValueError, TypeError
        The data are empty, not numeric, not finite, of the wrong shape, or have other features than at `fit`.
    """
    observed, X = observed_loss(estimator), unwrapped(X)
    if isinstance(X, Source):
        check_attributes(X)
    rows = X if isinstance(X, Source) else as_frame(X)
    if not fitting and not isinstance(X, Source):
        rows = arranged(rows, getattr(estimator, "feature_names_in_", None), type(estimator).__name__)
    source = rows if isinstance(rows, Source) else as_source(_to_array(estimator, rows, fitting, min_rows))
    if source.n_rows < min_rows:
        raise DataError(_too_few(source.n_rows, min_rows, estimator))
    _match_shape(estimator, source, fitting)
    if fitting and isinstance(X, Source | NamedMatrix) and X.feature_names is not None:
        estimator.feature_names_in_ = np.asarray(X.feature_names, dtype=object)
    if not isinstance(X, Source) and source.fits_in_memory:
        names = getattr(estimator, "feature_names_in_", None)
        allowed = observed is not None or (not fitting and getattr(estimator, "missing_allowed_", False))
        refuse_non_finite(source, names, missing_allowed=allowed)
    if observed is not None and observed.missing is not None:
        source = MissingSource(source, observed.missing)
    labels = take_labels(estimator, y, source.n_rows, fitting=fitting)
    original = X if frame_package(rows) is None else rows  # answers have names, in the order of `fit`
    return Given(source, original, labels, 0 if labels is None else len(estimator.classes_))


def take_labels(estimator: Any, y: Any, n_rows: int, *, fitting: bool = False) -> np.ndarray | None:
    """The class index of each row, (n,), for a conditional model; with `fitting`, set the estimator's classes.

    Labels that are missing at fit are reported later, together with all other invalid parameters.

    Raises
    ------
    ValueError
        Labels are missing, not one per row, or of a class that did not occur at `fit`.
    """
    fitted = None if fitting else getattr(estimator, "objective_", None)
    conditional = estimator.conditional if fitted is None else fitted.context.n_conditions > 0
    if not conditional:
        refuse_targets(estimator, y, PAIRS_REMEDY)
    if not conditional or (y is None and fitting):
        return None
    name = type(estimator).__name__
    if y is None:
        raise ValueError(f"This {name} is conditional and needs the labels y of the rows; pass one label per row.")
    given = np.asarray(y)
    if given.shape != (n_rows,):
        raise ValueError(f"y has shape {given.shape}, but labels of shape ({n_rows},) are needed: one for each row.")
    if fitting:
        estimator.classes_ = np.unique(given)
    unseen = sorted(set(given.tolist()) - set(estimator.classes_.tolist()), key=str)
    if unseen:
        known = ", ".join(map(str, estimator.classes_[:10]))
        raise ValueError(f"y contains {unseen[0]!r}, which was not among the labels at fit: {known}.")
    return np.searchsorted(estimator.classes_, given)


USUAL_REMEDY = (
    "Models learn to restore X itself. To learn to undo damage, give the clean rows as X and name the damage, such as "
    "DenoisingAutoencoder(corruption=GaussianNoise(0.3)).fit(X_clean)."
)

PAIRS_REMEDY = (
    "To learn to turn X into y, give y as the target: fit(X, target=y). If the damage can be named, give the clean "
    "rows as X instead: DenoisingAutoencoder(corruption=GaussianNoise(0.3)).fit(X_clean)."
)


def refuse_targets(estimator: Any, y: Any, remedy: str = USUAL_REMEDY) -> None:
    """Refuse a y that is not a list of labels if y is ignored: ``fit(noisy, clean)`` would learn the noise.

    One-dimensional labels are ignored, as everywhere in scikit-learn.

    Raises
    ------
    ValueError
        y has two or more dimensions.
    """
    try:
        shape = () if y is None else y.shape if hasattr(y, "shape") else np.asarray(y).shape
    except ValueError:  # rows of different lengths
        shape = (len(y), None)
    if len(shape) >= 2:
        raise ValueError(
            f"y has shape {tuple(shape)}, but {type(estimator).__name__} takes no targets as y: labels (n,) are "
            f"ignored. "
            f"{remedy}"
        )


def observed_loss(estimator: Any) -> Observed | None:
    """The estimator's `Observed` loss, which allows missing entries; else None."""
    fitted = getattr(estimator, "objective_", None)
    loss = fitted.choices.loss if fitted is not None else estimator.loss
    return LOSSES.resolve(loss) if LOSSES.gives(loss, Observed) else None  # type: ignore[return-value]


def _to_array(estimator: Any, X: Any, fitting: bool, min_rows: int) -> Any:
    """A numeric array or CSR matrix; two-dimensional data pass scikit-learn's checks, other shapes ours."""
    X = as_numeric(X)
    if isinstance(X, np.memmap):
        return X
    if isinstance(X, np.ndarray) and X.ndim > 2:
        return _images(estimator, X, fitting)
    if isinstance(X, np.ndarray) and not fitting and X.shape == estimator.feature_shape_ != (estimator.n_features_in_,):
        raise DataError(f"X has shape {X.shape}, which is one row of this {type(estimator).__name__}; give X[None].")
    try:
        if isinstance(X, NamedMatrix) and not fitting:  # `arranged` has compared the names, which scikit-learn misses
            return check_array(X, accept_sparse="csr", ensure_all_finite=False, ensure_min_samples=min_rows)
        return validate_data(
            estimator, X, reset=fitting, accept_sparse="csr", ensure_all_finite=False, ensure_min_samples=min_rows
        )
    except ValueError as error:
        raise DataError(str(error)) from None


def _images(estimator: Any, X: np.ndarray, fitting: bool) -> np.ndarray:
    if fitting and hasattr(estimator, "feature_names_in_"):
        del estimator.feature_names_in_
    if X.dtype.kind not in "buif":
        raise TypeError(f"X has dtype {X.dtype}, but numbers are needed; convert it with X.astype(float).")
    return X


def _match_shape(estimator: Any, source: Source, fitting: bool) -> None:
    """Store the shape of a row at fit, or compare with the stored one later; flat rows are always accepted."""
    n_features = int(np.prod(source.feature_shape))
    if fitting:
        estimator.feature_shape_ = tuple(map(int, source.feature_shape))
        estimator.n_features_in_ = n_features
        return
    wanted, got = estimator.feature_shape_, tuple(source.feature_shape)
    if got not in (wanted, (estimator.n_features_in_,)):
        name = type(estimator).__name__
        if len(got) == 1:
            raise ValueError(
                f"X has {n_features} features, but {name} is expecting {estimator.n_features_in_} features as input."
            )
        raise ValueError(
            f"X has rows of shape {got}, but {name} is expecting rows of shape {wanted} as input; "
            "resize them, or fit a model on data of this shape."
        )


@contextmanager
def speaking_of(name: str) -> Iterator[None]:
    """Context manager: errors of shared checks, which speak of X, speak of another argument.

    >>> with speaking_of("target"):
    ...     raise ValueError("X has dtype <U3; convert it with X.astype(float).")
    Traceback (most recent call last):
    ...
    ValueError: target has dtype <U3; convert it with target.astype(float).
    """
    try:
        yield
    except (DataError, TypeError, ValueError) as error:
        text = re.sub(r"(?<![\w.])X\b", name, str(error))
        if type(error) not in {DataError, TypeError, ValueError} or text == str(error):
            raise  # not of these checks, such as an error of a user's source
        raise type(error)(text) from None


def refuse_non_finite(source: Source, names: Sequence[str] | None = None, *, missing_allowed: bool = False) -> None:
    """Raise a `DataError` with the number of NaN (unless allowed) and infinite values and the first position."""
    if source.dtype.kind != "f":
        return
    n_nan = n_infinite = first_row = 0
    first: tuple[int, int] | None = None
    for chunk in source.chunks():
        flat = chunk.reshape(len(chunk), -1)
        if all_finite(flat):
            first_row += len(chunk)
            continue
        bad = np.isinf(flat) if missing_allowed else ~np.isfinite(flat)
        if bad.any():
            n_nan += 0 if missing_allowed else int(np.isnan(flat).sum())
            n_infinite += int(np.isinf(flat).sum())
            row, column = np.unravel_index(int(bad.argmax()), bad.shape)
            first = first or (first_row + int(row), int(column))
        first_row += len(chunk)
    if first is not None:
        raise DataError(non_finite_text(n_nan, n_infinite, first, names))


def non_finite_text(n_nan: int, n_infinite: int, first: tuple[int, int], names: Sequence[str] | None = None) -> str:
    """The error text for NaN and infinite values.

    >>> non_finite_text(2, 1, (4, 0), ["age"])
    "X has 2 NaN and 1 infinite (inf) value, the first at row 4, column 0 ('age'); fill or drop these cells first."
    """
    counts = [text for n, text in ((n_nan, f"{n_nan} NaN"), (n_infinite, f"{n_infinite} infinite (inf)")) if n]
    column = f"column {first[1]}" + (f" ({str(names[first[1]])!r})" if names is not None else "")
    kinds = f"{' and '.join(counts)} {'value' if (n_infinite or n_nan) == 1 else 'values'}"
    observed = ", or use loss='observed'" if n_nan and not n_infinite else ""
    where = f"{'the first ' if n_nan + n_infinite > 1 else ''}at row {first[0]}, {column}"
    return f"X has {kinds}, {where}; fill or drop {these(n_nan + n_infinite, 'cell')} first{observed}."


def _too_few(n_rows: int, min_rows: int, estimator: Any) -> str:
    plural = "sample" if n_rows == 1 else "samples"
    return (
        f"X has {n_rows} {plural} (n_samples={n_rows}), but {type(estimator).__name__} needs at least {min_rows}; "
        "pass more rows."
    )


def frame_like(Z: Any, rows: np.ndarray, names: Sequence[str] | None) -> Any:
    """Decoded rows as a frame with column names, if any, where the codes Z are a frame; else unchanged."""
    package = frame_package(Z)
    if package is None or rows.ndim != 2:
        return rows
    if package == "pandas":
        return type(Z)(rows, columns=names, index=Z.index)
    return type(Z)(rows, schema=None if names is None else list(names))
