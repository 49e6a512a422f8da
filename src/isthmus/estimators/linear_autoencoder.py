"""The linear autoencoder: principal component analysis as a network, with ordered components."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from isthmus.choices.rules import Number, Rule, Whole, either
from isthmus.data import Scaling, Source, summarise
from isthmus.estimators.autoencoder import Autoencoder
from isthmus.estimators.fitting import Prepared
from isthmus.estimators.validation import Given
from isthmus.training.batches import Feed

OVERSAMPLING = 10
"""Extra directions of the iteration, which speed up the convergence of the others (Halko et al. 2011)."""
MOST_PASSES = 100
SETTLED = 1e-4
"""Convergence threshold: largest angle in radians between the subspaces of two passes."""
WIDEST = 5_000
"""Limit on the smaller of rows and features, up to which all variances are computed for a share of them: a minute."""


@dataclass(eq=False, repr=False, kw_only=True)
class LinearAutoencoder(Autoencoder):
    """Linear autoencoder: its optimum is the subspace of principal component analysis (Baldi & Hornik 1989).

    An `Autoencoder` with ``network=()``, mean squared error and ``scaling="global"``. Gradient descent finds the
    subspace in an arbitrary basis, and converges slowly along its last directions. With ``align=True`` the solution is
    refined by orthogonal iteration (alternating least squares on the same loss) and rotated to orthogonal components in
    order of decreasing variance, which agree with `sklearn.decomposition.PCA`.

    Parameters
    ----------
    code_size
        Numbers in a code, >= 1; or, as for PCA, a share of the variance in (0, 1): then the code gets as many numbers
        as components are needed to explain more than this share.
    align
        Whether to refine and order the solution after training.

    Attributes
    ----------
    components_ : array
        Orthonormal directions in the scaled data, (n_components_, d), by decreasing variance; zeros beyond the rank.
    n_components_ : int
        Size of the code.
    explained_variance_, explained_variance_ratio_ : array
        Variance of each component in squared units of X, and its fraction of the total, (n_components_,).
    singular_values_ : array
        Singular values of the centred training rows, in units of X, (n_components_,).
    noise_variance_ : float
        Mean variance of the omitted components, in squared units of X; 0 if none is omitted.
    mean_ : array
        Mean of the training rows in units of X, (d,).

    Notes
    -----
    With ``scaling="standard"`` or ``"minmax"`` features have scales of their own, and these attributes are those of the
    scaled rows, except for `mean_`. Codes are in scaled units: ``transform(X)`` is PCA's, times `scaling_.factor`. With
    `sample_weight` all of them are weighted, and an unbiased variance counts the rows of weight > 0.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(200, 5)) * [5, 3, 1, 1, 1]
    >>> LinearAutoencoder(2, max_epochs=5, random_state=0).fit(X).explained_variance_ratio_.round(1)
    array([0.6, 0.3])
    """

    code_size: float = field(default=32, kw_only=False)  # type: ignore[assignment]  # here a share too
    network: Any = ()
    loss: Any = "mean-squared-error"
    scaling: str | None = "global"  # standardising each feature would change the principal components
    align: bool = True

    learned_arrays: ClassVar[tuple[str, ...]] = (
        *Autoencoder.learned_arrays,
        "explained_variance_",
        "explained_variance_ratio_",
        "singular_values_",
        "noise_variance_",
        "mean_",
    )
    own_rules: ClassVar[Mapping[str, Rule]] = {
        "code_size": either(Whole(1), Number(0, 1, open_low=True, open_high=True))
    }

    @property
    def n_components_(self) -> int:
        """Numbers in a code."""
        return self.objective_.context.code_size

    @property
    def components_(self) -> np.ndarray:
        """The principal directions: the rows of the encoder's weight."""
        (layer,) = _linear_layers(self.objective_.encoder)
        return layer.weight.detach().cpu().numpy()

    def _target_conflicts(self) -> list[str]:
        name, mistakes = type(self).__name__, list[str]()
        if self.align:
            mistakes.append(
                f"{name}: align=True refines towards the principal components of X, and a model with a target has "
                "none; set align=False."
            )
        if not Whole(1).admits(self.code_size):
            mistakes.append(
                f"{name}: code_size={self.code_size!r} is a share of the variance of X, which says nothing of a "
                "target; give a number of components."
            )
        return mistakes

    def _code_size_for(self, given: Given, scaling: Scaling) -> int:
        if Whole(1).admits(self.code_size) or given.target is not None:
            return max(1, int(self.code_size))
        variances = all_variances(given.source, scaling, given.weights)
        explained = np.cumsum(variances) / max(variances.sum(), 1e-300)
        return min(len(variances), int(np.searchsorted(explained, self.code_size, side="right")) + 1)

    def _finish(self, prepared: Prepared) -> None:
        super()._finish(prepared)
        encoder, decoder = (_linear_layers(net) for net in (prepared.objective.encoder, prepared.objective.decoder))
        if self.align and len(encoder) == len(decoder) == 1 and not self.conditional:
            spread = principal_directions(prepared.run.train, decoder[0].weight.detach())
            _put(encoder[0], decoder[0], spread)
            scaling, n_rows = prepared.scaling, prepared.run.train.n_rows
            unit = float(scaling.factor) ** 2 if scaling.factor.ndim == 0 else 1.0
            self.explained_variance_ = _padded(spread.variances, self.n_components_) / unit
            self.explained_variance_ratio_ = self.explained_variance_ * unit / spread.total
            self.singular_values_ = np.sqrt(self.explained_variance_ * max(1, n_rows - 1))
            n_left = min(n_rows, self.n_features_in_) - self.n_components_
            left = max(0.0, spread.total - float(spread.variances.sum()))
            self.noise_variance_ = np.float64(left / unit / n_left if n_left > 0 else 0.0)
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


def all_variances(source: Source, scaling: Scaling, weights: np.ndarray | None) -> np.ndarray:
    """The variances of scaled rows along all principal directions, falling, (min(n, d),), up to a common factor.

    Raises
    ------
    ValueError
        There are too many for that.
    """
    n_rows, n_features = source.n_rows, source.n_features
    if min(n_rows, n_features) > WIDEST:
        raise ValueError(
            f"code_size as a share of the variance needs all {min(n_rows, n_features)} variances, but at most {WIDEST} "
            "are computed; give a number of components."
        )
    weights = np.ones(n_rows) if weights is None else weights
    mean, fewer_rows = summarise(source, weights).mean, n_rows <= n_features
    products, row = np.zeros((min(n_rows, n_features),) * 2), 0
    for chunk in source.chunks(n_rows if fewer_rows else None):
        part = weights[row : row + len(chunk)]
        row += len(chunk)
        centred = (chunk.reshape(len(chunk), -1) - mean) * scaling.factor * np.sqrt(part)[:, None]
        # the products of rows have the eigenvalues of those of features
        products += centred @ centred.T if fewer_rows else centred.T @ centred
    return np.linalg.eigvalsh(products)[::-1].clip(min=0.0)


def _mean(feed: Feed) -> Tensor:
    total: Any = sum(weights @ x.double() for x, weights in feed.weighed())
    mean: Tensor = total / feed.n_rows
    return mean


def _total_variance(feed: Feed, mean: Tensor) -> float:
    total = sum(weights @ (x.double() - mean).square().sum(1) for x, weights in feed.weighed())
    return max(float(total) / max(1, feed.n_rows - 1), 1e-300)


def _covariance_times(feed: Feed, mean: Tensor, basis: Tensor) -> Tensor:
    """Σ @ basis in one pass, without forming the covariance matrix Σ."""
    image = torch.zeros_like(basis)
    for x, weights in feed.weighed():
        centred = x.double() - mean
        image += centred.T @ (weights[:, None] * (centred @ basis))
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
