"""The linear path of imputation: what a normal distribution of the rows leads one to expect, in closed form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)
"""What is added to the variances, to choose from; numbers are standardised."""
HIDDEN = 0.1
"""Share of the cells that are hidden to choose by."""
N_ITERATIONS, MOST_ROWS, WIDEST = 12, 2_000, 200
CHUNK_NUMBERS = 2**22


@dataclass(frozen=True)
class LinearFill:
    """A normal distribution of rows, (d,) and (d, d): missing numbers are expected from those that are there.

    ``E[x_m | x_o] = μ_m + Σ_mo (Σ_oo + λ)⁻¹ (x_o - μ_o)``; the best linear prediction of each from any others.
    """

    mean: Tensor
    covariance: Tensor
    ridge: float = 1e-3

    def __call__(self, x: Tensor) -> Tensor:
        """Rows with numbers in place of NaN, (n, d)."""
        filled = x.clone()
        for rows, part, _ in self._parts(x):
            filled[rows] = part
        return filled

    def improved(self, x: Tensor) -> LinearFill:
        """One step of expectation and maximisation (Little & Rubin 2019, chapter 11)."""
        filled, spread = x.clone(), torch.zeros_like(self.covariance)
        for rows, part, left in self._parts(x):
            filled[rows] = part
            spread += left()
        centred = filled - filled.mean(0)
        return LinearFill(filled.mean(0), (centred.T @ centred + spread) / len(x), self.ridge)

    def _parts(self, x: Tensor) -> Iterator[tuple[Tensor, Tensor, Callable[[], Tensor]]]:
        """Rows with holes, those with as many together: which they are, filled, and their covariance that is left.

        With the precision ``K = (Σ + λ)⁻¹``, ``E[x_m | x_o] = μ_m - K_mm⁻¹ K_mo (x_o - μ_o)``, and the covariance left
        is ``K_mm⁻¹ - λ``: systems as large as a row's holes instead of the row. At 31 columns with a fifth missing
        that took a fifth of the time of solving by ``Σ_oo``.
        """
        identity = torch.eye(x.shape[1], dtype=x.dtype)
        precision = torch.linalg.inv(self.covariance + self.ridge * identity)
        gone = torch.isnan(x)
        counts = gone.sum(1)
        for n_gone in counts.unique().tolist()[int(counts.min() == 0) :]:
            together = (counts == n_gone).nonzero()[:, 0]
            for rows in together.split(max(1, CHUNK_NUMBERS // (n_gone * n_gone))):
                yield self._part(x[rows], gone[rows].nonzero()[:, 1].view(-1, n_gone), rows, precision)

    def _part(
        self, x: Tensor, places: Tensor, rows: Tensor, precision: Tensor
    ) -> tuple[Tensor, Tensor, Callable[[], Tensor]]:
        """As `_parts`, of rows, (n, d), whose holes are at `places`, (n, m)."""
        away = (x - self.mean).nan_to_num()
        systems = precision[places[:, :, None], places[:, None, :]]  # (n, m, m)
        inverses = torch.linalg.inv(systems)
        moved = (inverses @ (away @ precision).gather(1, places)[:, :, None])[:, :, 0]  # (n, m)
        filled = x.scatter(1, places, self.mean[places] - moved)

        def left() -> Tensor:
            size, width = places.shape[1], len(self.mean)
            own = inverses - self.ridge * torch.eye(size, dtype=x.dtype)
            flat = places[:, :, None] * width + places[:, None, :]
            return torch.zeros(width * width, dtype=x.dtype).index_add(0, flat.ravel(), own.ravel()).view(width, width)

        return rows, filled, left


def learn_linear(x: Tensor, generator: torch.Generator) -> LinearFill | None:
    """The normal distribution of rows with holes, (n, d) float64 with NaN; None where there are too many numbers.

    How much is added to the variances is chosen by cells that are hidden for it.
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
    """Each ridge with its mean squared error in the hidden cells."""
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
