"""The linear autoencoder: principal component analysis as a network, with ordered components."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from isthmus.estimators.autoencoder import Autoencoder
from isthmus.estimators.fitting import Prepared
from isthmus.training.batches import Feed

OVERSAMPLING = 10
"""Extra directions of the iteration, which speed up the convergence of the others (Halko et al. 2011)."""
MOST_PASSES = 100
SETTLED = 1e-4
"""Convergence threshold: largest angle in radians between the subspaces of two passes."""


@dataclass(eq=False, repr=False, kw_only=True)
class LinearAutoencoder(Autoencoder):
    """Linear autoencoder: its optimum is the subspace of principal component analysis (Baldi & Hornik 1989).

    An `Autoencoder` with ``network=()``, mean squared error and ``scaling="global"``. Gradient descent finds the
    subspace in an arbitrary basis, and converges slowly along its last directions. With ``align=True`` the solution is
    refined by orthogonal iteration (alternating least squares on the same loss) and rotated to orthogonal components in
    order of decreasing variance, which agree with `sklearn.decomposition.PCA`.

    Parameters
    ----------
    align
        Whether to refine and order the solution after training.

    Attributes
    ----------
    components_ : array
        Orthonormal directions in the scaled data, (code_size, d), by decreasing variance; zeros beyond the rank.
    explained_variance_, explained_variance_ratio_ : array
        Variance of each component in squared units of the scaled data, and its fraction of the total, (code_size,).
    singular_values_ : array
        Singular values of the centred, scaled training rows, (code_size,).
    mean_ : array
        Mean of the training rows in units of X, (d,).

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(200, 5)) * [5, 3, 1, 1, 1]
    >>> LinearAutoencoder(2, max_epochs=5, random_state=0).fit(X).explained_variance_ratio_.round(1)
    array([0.6, 0.3])
    """

    network: Any = ()
    loss: Any = "mean-squared-error"
    scaling: str | None = "global"  # standardising each feature would change the principal components
    align: bool = True

    learned_arrays: ClassVar[tuple[str, ...]] = (
        *Autoencoder.learned_arrays,
        "explained_variance_",
        "explained_variance_ratio_",
        "singular_values_",
        "mean_",
    )

    @property
    def components_(self) -> np.ndarray:
        """The principal directions: the rows of the encoder's weight."""
        (layer,) = _linear_layers(self.objective_.encoder)
        return layer.weight.detach().cpu().numpy()

    def _finish(self, prepared: Prepared) -> None:
        super()._finish(prepared)
        encoder, decoder = (_linear_layers(net) for net in (prepared.objective.encoder, prepared.objective.decoder))
        if self.align and len(encoder) == len(decoder) == 1 and not self.conditional:
            spread = principal_directions(prepared.run.train, decoder[0].weight.detach())
            _put(encoder[0], decoder[0], spread)
            self.explained_variance_ = _padded(spread.variances, self.code_size)
            self.explained_variance_ratio_ = self.explained_variance_ / spread.total
            self.singular_values_ = np.sqrt(self.explained_variance_ * max(1, prepared.run.train.n_rows - 1))
            scaling = prepared.scaling
            self.mean_ = (spread.mean.cpu().numpy() / scaling.factor + scaling.shift).ravel()


@dataclass(frozen=True)
class Spread:
    """The principal directions of some rows.

    Attributes
    ----------
    mean
        Mean of the rows, (d,).
    directions
        Orthonormal directions, (d, k), by decreasing variance.
    variances
        Unbiased variance along each direction, (k,).
    total
        Total variance.
    """

    mean: Tensor
    directions: Tensor
    variances: np.ndarray
    total: float


def principal_directions(feed: Feed, start: Tensor) -> Spread:
    """The leading principal directions of a feed's rows, by orthogonal iteration from an initial basis, (d, k)."""
    n_features, wanted = start.shape
    generator = torch.Generator(start.device).manual_seed(0)
    extra = torch.randn(n_features, OVERSAMPLING, generator=generator, device=start.device)
    basis = torch.linalg.qr(torch.cat([start, extra], dim=1).double())[0]
    mean = _mean(feed)
    # Gradient descent alone reaches PCA's error to 0.02 %, but not the directions whose variances are close.
    kept = min(wanted, n_features)
    for _ in range(MOST_PASSES):
        image = _covariance_times(feed, mean, basis)
        values, turn = torch.linalg.eigh(basis.T @ image)
        turned = torch.linalg.qr(image @ turn.flip(1))[0]
        moved = _largest_angle(basis @ turn.flip(1)[:, :kept], turned[:, :kept], values.flip(0)[:kept])
        basis = turned
        if moved < SETTLED:
            break
    image = _covariance_times(feed, mean, basis)
    values, turn = torch.linalg.eigh(basis.T @ image)
    directions = _signed((basis @ turn.flip(1))[:, :kept])
    return Spread(mean, directions, values.flip(0)[:kept].clamp(min=0).cpu().numpy(), _total_variance(feed, mean))


def _batches(feed: Feed) -> Any:
    return feed.shuffled(torch.Generator().manual_seed(0))


def _mean(feed: Feed) -> Tensor:
    total: Tensor = sum(x.double().sum(0) for x in _batches(feed))
    return total / feed.n_rows


def _total_variance(feed: Feed, mean: Tensor) -> float:
    total = sum((x.double() - mean).square().sum() for x in _batches(feed))
    return max(float(total) / max(1, feed.n_rows - 1), 1e-300)


def _covariance_times(feed: Feed, mean: Tensor, basis: Tensor) -> Tensor:
    """Σ @ basis in one pass, without forming the covariance matrix Σ."""
    image = torch.zeros_like(basis)
    for x in _batches(feed):
        centred = x.double() - mean
        image += centred.T @ (centred @ basis)
    return image / max(1, feed.n_rows - 1)


def _largest_angle(before: Tensor, after: Tensor, variances: Tensor) -> float:
    """Largest angle in radians between two subspaces, without directions of zero variance, which are arbitrary."""
    alive = variances > 1e-10 * variances.max().clamp(min=1e-300)
    left = after[:, alive] - before[:, alive] @ (before[:, alive].T @ after[:, alive])
    return float(torch.linalg.matrix_norm(left, 2).clamp(max=1).asin()) if bool(alive.any()) else 0.0


def _signed(directions: Tensor) -> Tensor:
    """Flip signs so that the largest entry of each direction is positive, as in scikit-learn's PCA."""
    largest = directions.abs().argmax(0)
    return directions * torch.where(directions[largest, torch.arange(directions.shape[1])] < 0, -1.0, 1.0)


@torch.no_grad()
def _put(encoder: nn.Linear, decoder: nn.Linear, spread: Spread) -> None:
    """Set the weights so that the layers project onto the directions and back."""
    basis = torch.zeros_like(decoder.weight, dtype=torch.float64)
    basis[:, : spread.directions.shape[1]] = spread.directions
    encoder.weight.copy_(basis.T)
    encoder.bias.copy_(-spread.mean @ basis)
    decoder.weight.copy_(basis)
    decoder.bias.copy_(spread.mean)


def _padded(variances: np.ndarray, size: int) -> np.ndarray:
    return np.pad(variances, (0, size - len(variances)))


def _linear_layers(chain: nn.Module) -> list[nn.Linear]:
    return [layer for layer in chain.modules() if isinstance(layer, nn.Linear)]
