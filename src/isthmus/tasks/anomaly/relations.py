"""The distance of each cell from a linear prediction by the other columns of its row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from isthmus.tasks.anomaly.grouping import Grouping
from isthmus.tasks.anomaly.neighbours import RIDGE, WIDEST_WHITENED, convert, standard_units

MOST_LEVERAGE = 0.9
"""A row's own part in the covariance, at most: a row that makes a direction alone cannot be left out of it."""


@dataclass(frozen=True)
class Relations:
    """Residuals of each column given all others, if rows were drawn from a normal distribution.

    With precision matrix P and centred rows y, a column j of one number has the residual ``(y P)_j / sqrt(P_jj)`` in
    units of its deviation; one of several numbers, such as levels, has as many, uncorrelated.

    Attributes
    ----------
    shift
        Mean of the scaled rows, (d,).
    factor
        From centred rows to residuals, (d, d); (d,) where rows are so wide that each number stands for itself.
    """

    shift: Tensor
    factor: Tensor

    def squares(self, x: Tensor, grouping: Grouping) -> Tensor:
        """Squared residuals of scaled rows, (n, d) → (n, columns); 0 for a missing cell."""
        known = torch.where(x.isnan(), self.shift.to(x), x)
        residuals = convert(known, self.shift, self.factor)
        return grouping.sum(torch.where(x.isnan(), 0.0, residuals).square())

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The learned arrays, by name."""
        return {"shift": self.shift.cpu().numpy(), "factor": self.factor.cpu().numpy()}


def learn_relations(X: Tensor, chosen: Tensor, grouping: Grouping) -> tuple[Relations, Tensor]:
    """Learn from some rows; also gives the squared residuals of all rows, leave-one-out for those learned from.

    Parameters
    ----------
    X
        Scaled rows, (n, d).
    chosen
        Places of those to learn from, (m,).
    grouping
        Which numbers make a column.

    Returns
    -------
    The relations, and squared residuals, (n, columns).
    """
    rows = X[chosen]
    shift, scale = standard_units(rows, rescale=True)
    if X.shape[1] > WIDEST_WHITENED:
        relations = Relations(shift, scale)
        return relations, relations.squares(X, grouping)
    y = convert(torch.where(X.isnan(), shift.to(X), X), shift, scale)
    n, near = len(chosen), y[chosen]
    covariance = near.T @ near / max(1, n) + RIDGE * torch.eye(y.shape[1]).to(near)
    precision = torch.linalg.inv(covariance)
    factor = precision @ _block_roots(precision, grouping)
    relations = Relations(shift, scale[:, None] * factor)
    squares = relations.squares(X, grouping)
    leverage = ((near @ precision) * near).sum(1, keepdim=True).clamp(max=MOST_LEVERAGE * n)
    own = squares[chosen]
    # Without a row its mean stays, and (nS - y yᵀ)⁻¹ follows from S⁻¹ by the formula of Sherman and Morrison.
    squares[chosen] = (n - 1) * n * own / ((n - leverage) * (n - leverage + own))
    return relations, squares


def _block_roots(precision: Tensor, grouping: Grouping) -> Tensor:
    """The inverse square root of the precision within each column, zero between columns, (d, d)."""
    if grouping.places is None:
        return torch.diag(precision.diagonal().rsqrt())
    roots = torch.zeros_like(precision)
    for column in range(grouping.n_columns):
        places = (grouping.places == column).nonzero()[:, 0].to(precision.device)
        values, directions = torch.linalg.eigh(precision[places[:, None], places])
        roots[places[:, None], places] = (directions / values.sqrt()) @ directions.T
    return roots
