"""The linear part of imputation: conditional expectations under a Gaussian distribution, in closed form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)
"""Candidates for the ridge that is added to the variances of standardised features."""
HIDDEN = 0.1
"""Fraction of cells that are hidden to select the ridge."""
N_ITERATIONS, MOST_ROWS, WIDEST = 12, 2_000, 200
CHUNK_NUMBERS = 2**22


@dataclass(frozen=True)
class LinearFill:
    """A Gaussian distribution of rows, (d,) and (d, d), that predicts missing features from observed ones.

    ``E[x_m | x_o] = μ_m + Σ_mo (Σ_oo + λ)⁻¹ (x_o - μ_o)``, the best linear prediction from any set of observed
    features.
    """

    mean: Tensor
    covariance: Tensor
    ridge: float = 1e-3

    def __call__(self, x: Tensor) -> Tensor:
        """Rows with NaN replaced by predictions, (n, d)."""
        return torch.cat([self._filled(part)[0] for part in x.split(self._chunk_rows(x.shape[1]))])

    def _chunk_rows(self, width: int) -> int:
        return max(1, CHUNK_NUMBERS // (width * width))

    def _filled(self, x: Tensor, *, spread: bool = False) -> tuple[Tensor, Tensor | None]:
        """Filled rows, and with `spread` the sum of the conditional covariances of missing features, (d, d)."""
        seen = ~torch.isnan(x)
        o = seen.to(x.dtype)
        ridge = self.ridge * torch.eye(x.shape[1], dtype=x.dtype)
        system = (self.covariance + ridge) * o[:, :, None] * o[:, None, :] + torch.diag_embed(1.0 - o)  # (n, d, d)
        away = torch.where(seen, x - self.mean, 0.0)
        if not spread:
            weights = torch.linalg.solve(system, away)
            return torch.where(seen, x, self.mean + weights @ self.covariance), None
        gain = torch.linalg.solve(system, o[:, :, None] * self.covariance)  # (n, d, d)
        filled = torch.where(seen, x, self.mean + (gain.mT @ away[:, :, None])[:, :, 0])
        left = (self.covariance - self.covariance @ (o[:, :, None] * gain)) * (1 - o)[:, :, None] * (1 - o)[:, None, :]
        return filled, left.sum(0)

    def improved(self, x: Tensor) -> LinearFill:
        """One step of expectation-maximisation (Little & Rubin 2019, chapter 11)."""
        parts = [self._filled(part, spread=True) for part in x.split(self._chunk_rows(x.shape[1]))]
        filled = torch.cat([rows for rows, _ in parts])
        centred = filled - filled.mean(0)
        spread = sum((left for _, left in parts if left is not None), torch.zeros_like(self.covariance))
        return LinearFill(filled.mean(0), (centred.T @ centred + spread) / len(x), self.ridge)


def learn_linear(x: Tensor, generator: torch.Generator) -> LinearFill | None:
    """Fit a Gaussian to rows with missing values, (n, d) float64 with NaN; None if there are too many features.

    The ridge is selected by the error on cells that are hidden for this purpose.
    """
    if x.shape[1] > WIDEST:
        return None
    x = x[torch.randperm(len(x), generator=generator)[:MOST_ROWS]]
    seen = ~torch.isnan(x)
    hidden = (torch.rand(x.shape, generator=generator) < HIDDEN) & seen
    tried = list(_each_ridge(x.masked_fill(hidden, torch.nan), x, hidden))
    best = min(tried, key=lambda pair: pair[1])[0] if hidden.any() else 1e-2
    return _fitted(x, best)


def _each_ridge(given: Tensor, x: Tensor, hidden: Tensor) -> Iterator[tuple[float, float]]:
    """Each ridge with its mean squared error on the hidden cells."""
    for ridge in RIDGES:
        error = (_fitted(given, ridge)(given) - x)[hidden]
        yield ridge, float(error.square().mean())


def _fitted(x: Tensor, ridge: float) -> LinearFill:
    filled = torch.where(torch.isnan(x), x.nanmean(0).nan_to_num(), x)
    centred = filled - filled.mean(0)
    fill = LinearFill(
        filled.mean(0), centred.T @ centred / len(x) + ridge * torch.eye(x.shape[1], dtype=x.dtype), ridge
    )
    for _ in range(N_ITERATIONS):
        fill = fill.improved(x)
    return fill
