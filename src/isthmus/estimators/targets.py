"""Targets of pairs: what ``fit(X, target=…)`` is given, and what a model knows of the rows that it answers with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.utils.validation import check_array

from isthmus.data import MissingSource, Scaling, Source, as_source
from isthmus.data.containers import unwrapped
from isthmus.data.numeric import arranged, as_frame, as_numeric, frame_package
from isthmus.estimators.units import Known, known_of
from isthmus.estimators.validation import Given, observed_loss, refuse_non_finite, speaking_of, take
from isthmus.exceptions import DataError


@dataclass(frozen=True)
class Target:
    """What a model that was fitted to pairs knows of its targets.

    Attributes
    ----------
    shape
        Shape of a row of the target.
    dtype
        Dtype of the target at fit; answers are bytes for bytes, else floats of its precision.
    scaling
        The scaling of the target, learned apart from that of X.
    known
        Statistics of its features, in its units.
    names
        Names of its columns, if it was a frame.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scaling: Scaling
    known: Known
    names: tuple[str, ...] | None = None

    @property
    def is_bytes(self) -> bool:
        """Whether answers are bytes."""
        return bool(self.dtype == np.uint8)

    def __str__(self) -> str:
        return f"{'×'.join(map(str, self.shape))} {self.dtype.name}, scaling {self.scaling.name!r}"


def target_of(model: Any) -> Target | None:
    """What a fitted model knows of its targets; None if it restores its input."""
    return getattr(model, "target_", None)


def output_shape(model: Any) -> tuple[int, ...]:
    """Shape of a row that the model answers with."""
    target = target_of(model)
    shape: tuple[int, ...] = model.feature_shape_ if target is None else target.shape
    return shape


def output_scaling(model: Any) -> Scaling:
    """Scaling of the rows that the model answers with."""
    target = target_of(model)
    scaling: Scaling = model.scaling_ if target is None else target.scaling
    return scaling


def output_known(model: Any) -> Known:
    """Statistics of the rows that the model answers with."""
    target = target_of(model)
    return known_of(model) if target is None else target.known


def output_names(model: Any) -> list[str] | None:
    """Column names of the rows that the model answers with; None for rows without names."""
    target = target_of(model)
    names = getattr(model, "feature_names_in_", None) if target is None else target.names
    return None if names is None else [*map(str, names)]


def refuse_pairs(model: Any, what: str, remedy: str) -> None:
    """Refuse a model that was fitted to pairs, for uses that compare its answers with X.

    Raises
    ------
    ValueError
        The model was fitted with a target.
    """
    target = target_of(model)
    if target is not None:
        raise ValueError(
            f"{what} compares answers with X itself, but this {type(model).__name__} was fitted with a target "
            f"({target.shape} for rows of shape {tuple(model.feature_shape_)}); {remedy}."
        )


# -- taking pairs ------------------------------------------------------------------------------------------------------


def take_pair(
    estimator: Any, X: Any, y: Any, target: Any, *, fitting: bool = False, min_rows: int = 1, compares: bool = True
) -> Given:
    """Validate rows with their targets; `compares` says that a model fitted to pairs needs them here.

    Raises
    ------
    DataError, ValueError, TypeError
        As for `take`, of X or of the target; or a target is missing, or not expected.
    """
    fitted = None if fitting else target_of(estimator)
    if not fitting:
        _refuse_mismatch(estimator, fitted, target, compares=compares)
    if target is not None:
        _refuse_labels(estimator, y, fitting=fitting)
        if fitting:  # scores of undamaged rows are a fair question
            _refuse_same(X, target, "X")
    given = take(estimator, X, y, fitting=fitting, min_rows=min_rows)
    if target is None:
        return given
    wanted = (None, None) if fitted is None else (fitted.shape, fitted.names)
    return _with_target(estimator, given, target, wanted)


def take_validation(estimator: Any, given: Given, X_val: Any, y_val: Any, target_val: Any) -> Given | None:
    """The rows of validation, with targets if training has targets; None without validation rows."""
    if (X_val is None) != (target_val is None) and (given.target is not None or target_val is not None):
        missing, present = ("X_val", "target_val") if X_val is None else ("target_val", "X_val")
        raise ValueError(
            f"fit got {present} without {missing}, but pairs are validated on pairs; pass both or neither."
        )
    if X_val is None:
        return None
    if given.target is None and target_val is not None:
        raise ValueError(
            "fit got target_val without target, but validation rows are compared as training rows are; pass target "
            "too, or leave target_val out."
        )
    if target_val is None:
        return take(estimator, X_val, y_val)
    _refuse_same(X_val, target_val, "X_val")
    rows, wanted = take(estimator, X_val, y_val), given.target.feature_shape  # type: ignore[union-attr]  # checked above
    return _with_target(estimator, rows, target_val, (tuple(wanted), given.target_names), ("target_val", "X_val"))


def _refuse_mismatch(estimator: Any, fitted: Target | None, target: Any, *, compares: bool) -> None:
    name = type(estimator).__name__
    if target is not None and fitted is None:
        raise ValueError(
            f"This {name} was fitted without a target, so its answers are compared with X; leave target out, or fit it "
            "with fit(X, target=…)."
        )
    if target is not None and not compares:
        raise ValueError("target has no effect here; leave it out.")
    if target is None and fitted is not None and compares:
        raise ValueError(
            f"This {name} was fitted with a target of shape (n, {', '.join(map(str, fitted.shape))}), and its answers "
            "are compared with one; pass target=…, one row for each of X."
        )


def _refuse_labels(estimator: Any, y: Any, *, fitting: bool) -> None:
    fitted = None if fitting else getattr(estimator, "objective_", None)
    conditional = estimator.conditional if fitted is None else fitted.context.n_conditions > 0
    if y is not None and not conditional:
        raise ValueError(
            f"{type(estimator).__name__} got labels y and a target, but takes labels only with conditional=True; leave "
            "y out, or set conditional=True."
        )


def _refuse_same(X: Any, target: Any, rows: str) -> None:
    if target is X:
        raise ValueError(
            f"The target of {rows} is {rows} itself, the very same object; pass the rows that {rows} is to be turned "
            "into, or leave targets out to restore X."
        )


def _refuse_reordered(X: Any, target: Any, rows: str, name: str) -> None:
    """Refuse two pandas frames with the same index in another order, which would be paired wrongly by position."""
    if frame_package(X) != "pandas" or frame_package(target) != "pandas" or X.index.equals(target.index):
        return
    if len(X) == len(target) and X.index.is_unique and X.index.sort_values().equals(target.index.sort_values()):
        raise ValueError(
            f"{name} has the index of {rows} in another order, but rows are paired by position; pass "
            f"{name}.loc[{rows}.index]."
        )


def _with_target(
    estimator: Any,
    given: Given,
    target: Any,
    wanted: tuple[tuple[int, ...] | None, tuple[str, ...] | None],
    called: tuple[str, str] = ("target", "X"),
) -> Given:
    """The same rows with their targets, which must have the shape and the names that are wanted, if any are."""
    (shape, names), (name, rows) = wanted, called
    _refuse_reordered(given.original, target, rows, name)
    with speaking_of(name):
        target = unwrapped(target)
        source, found = _target_source(estimator, target, names)
    if source.n_rows != given.source.n_rows:
        raise ValueError(
            f"{name} has {source.n_rows} rows, but {rows} has {given.source.n_rows}; pass one row of {name} for each "
            f"row of {rows}, in the same order."
        )
    got = tuple(map(int, source.feature_shape))
    if shape is not None and got not in (shape, (int(np.prod(shape)),)):
        raise ValueError(f"{name} has rows of shape {got}, but the target at fit had rows of shape {shape}.")
    observed = observed_loss(estimator)
    if source.fits_in_memory and not isinstance(target, Source):
        with speaking_of(name):
            refuse_non_finite(source, found, missing_allowed=observed is not None)
    if observed is not None and observed.missing is not None:
        source = MissingSource(source, observed.missing)
    return replace(given, target=source, target_names=names if found is None else found)


def _target_source(estimator: Any, target: Any, names: tuple[str, ...] | None) -> tuple[Source, tuple[str, ...] | None]:
    """The rows of a target, and the names of its columns if it has any."""
    if isinstance(target, Source):
        known = target.feature_names
        return target, None if known is None else tuple(map(str, known))
    if scipy.sparse.issparse(target):
        raise DataError("X is a sparse matrix, but a model answers with dense rows; pass X.toarray().")
    numeric = as_numeric(arranged(as_frame(target), names, type(estimator).__name__))
    if isinstance(numeric, np.memmap):
        return as_source(numeric), None
    found = tuple(map(str, numeric.columns)) if frame_package(numeric) is not None else None
    array = check_array(numeric, ensure_all_finite=False, allow_nd=True, ensure_min_samples=0, input_name="X")
    return as_source(array), found
