"""Arithmetic on codes: rows between two rows, and rows moved along the direction of an attribute."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from isthmus.choices.registry import unknown
from isthmus.choices.rules import Whole
from isthmus.estimators.sampling import as_frame

METHODS = ("linear", "spherical")
PARALLEL = 1e-6
"""Angle in radians below which two codes are interpolated along a line."""


class CodeArithmetic:
    """Methods of models that compute with codes, and decode the results."""

    def interpolate(self: Any, a: Any, b: Any, steps: int = 8, *, method: str = "linear", y: Any = None) -> Any:
        """Rows on the way from one row to another: both are encoded, and the codes between them are decoded.

        Parameters
        ----------
        a, b
            One row each: a row of X, or X with one row.
        steps
            Number of rows, >= 2; the first and the last are the reconstructions of a and b.
        method
            ``"linear"``: codes on a straight line. ``"spherical"``: codes on an arc around zero, whose norms change
            linearly (Shoemake 1985); for a Gaussian code of many numbers, whose draws have nearly equal norms, so that
            a straight line leaves the region of likely codes.
        y
            For a conditional model: the label of both rows.

        Returns
        -------
        (steps, *feature_shape), in the units of the training data; a pandas frame if the model was fitted on a frame.

        Examples
        --------
        >>> from isthmus import Autoencoder
        >>> X = np.random.default_rng(0).random((50, 6))
        >>> model = Autoencoder(2, max_epochs=1, random_state=0).fit(X)
        >>> between = model.interpolate(X[0], X[1], 5)
        >>> between.shape, bool(np.allclose(between[0], model.reconstruct(X[:1]), atol=1e-5))
        ((5, 6), True)
        """
        check_is_fitted(self, "objective_")
        if not Whole(2).admits(steps):
            raise ValueError(f"steps={steps!r} must be an integer >= 2.")
        if method not in METHODS:
            raise ValueError(unknown("method", str(method), METHODS))
        labels = None if y is None else [y]
        first, last = (np.asarray(self.transform(_one_row(self, row, name), labels))[0] for row, name in _pair(a, b))
        share = np.linspace(0.0, 1.0, steps)[:, None]
        between = (1.0 - share) * first + share * last if method == "linear" else _on_arc(first, last, share)
        labels = None if y is None else [y] * steps
        return as_frame(self, np.asarray(self.inverse_transform(between.astype(first.dtype), labels)))

    def direction(self: Any, positive: Any, negative: Any, *, y: Any = None) -> np.ndarray:
        """The direction of an attribute: mean code of the rows that have it minus that of rows that do not, (code,).

        Parameters
        ----------
        positive, negative
            Rows with and without the attribute, (k, *feature_shape) each.
        y
            For a conditional model: the label of all these rows.

        Examples
        --------
        >>> from isthmus import LinearAutoencoder
        >>> X = np.random.default_rng(0).normal(size=(100, 4)) * [5, 1, 1, 1]
        >>> model = LinearAutoencoder(2, max_epochs=5, random_state=0).fit(X)
        >>> high = model.direction(X[X[:, 0] > 0], X[X[:, 0] < 0])
        >>> bool((model.moved(X, high)[:, 0] > model.reconstruct(X)[:, 0]).all())
        True
        """
        check_is_fitted(self, "objective_")
        means = []
        for rows in (positive, negative):
            n_rows = rows.shape[0] if hasattr(rows, "shape") else len(rows)
            codes = self.transform(rows, None if y is None else [y] * n_rows)
            means.append(np.asarray(codes, dtype=np.float64).mean(axis=0))
        difference: np.ndarray = means[0] - means[1]
        return difference

    def moved(self: Any, X: Any, direction: Any, strength: float = 1.0, *, y: Any = None) -> Any:
        """Rows with a direction added to their codes: ``decode(encode(X) + strength · direction)``.

        Parameters
        ----------
        X
            Rows.
        direction
            (code,), such as the result of `direction`; differences of codes can be added and scaled.
        strength
            1 moves as far as the groups differ, a negative number removes the attribute.
        y
            Labels of the rows, for a conditional model.

        Returns
        -------
        Rows in the shape and units of `reconstruct`; a pandas frame if the model was fitted on a frame.
        """
        codes = np.asarray(self.transform(X, y))
        along = np.asarray(direction, dtype=codes.dtype)
        if along.shape != codes.shape[1:] or not np.isfinite(along).all():
            raise ValueError(
                f"direction has shape {along.shape}, but finite numbers of shape {codes.shape[1:]} are needed: one for "
                "each number of a code."
            )
        rows = np.asarray(self.inverse_transform(codes + np.asarray(strength, codes.dtype) * along, y))
        return as_frame(self, rows)


def _pair(a: Any, b: Any) -> tuple[tuple[Any, str], tuple[Any, str]]:
    return (a, "a"), (b, "b")


def _one_row(model: Any, row: Any, name: str) -> Any:
    """One row as X with one row; a pandas series becomes a frame."""
    if isinstance(row, pd.Series):
        return row.to_frame().T.infer_objects()
    shape = np.shape(row)
    if shape in (tuple(model.feature_shape_), (model.n_features_in_,)):
        return row[None] if hasattr(row, "reshape") else np.asarray(row)[None]
    if len(shape) < 2 or shape[0] != 1:
        raise ValueError(
            f"{name} has shape {shape}, but one row of shape {tuple(model.feature_shape_)} is needed; pass X[0]."
        )
    return row


def _on_arc(first: np.ndarray, last: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Codes on the arc between two codes, (steps, code); a straight line if an arc is not defined."""
    norms = np.linalg.norm(first), np.linalg.norm(last)
    if min(norms) == 0.0:
        return np.asarray((1.0 - share) * first + share * last)
    units = first / norms[0], last / norms[1]
    angle = float(np.arccos(np.clip(units[0] @ units[1], -1.0, 1.0)))
    if angle < PARALLEL or np.pi - angle < PARALLEL:
        return np.asarray((1.0 - share) * first + share * last)
    turned = (np.sin((1.0 - share) * angle) * units[0] + np.sin(share * angle) * units[1]) / np.sin(angle)
    return np.asarray(((1.0 - share) * norms[0] + share * norms[1]) * turned)
