"""Additional methods of models with a Gaussian code: sampling, posteriors and log-likelihoods."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from isthmus.choices import CODES, Gaussian
from isthmus.choices.rules import Whole
from isthmus.estimators import inference
from isthmus.estimators.inference import Verb
from isthmus.estimators.sample_weights import row_weights
from isthmus.estimators.targets import output_scaling, output_shape
from isthmus.seeds import seed_from

SAMPLES_AT_ONCE = 250
SCORE_SAMPLES = 16
"""Importance samples of `score`: enough to rank models, in a sixth of the time of `log_likelihood`."""
CELLS_AT_ONCE = 8 * 2**20
"""Maximum number of reconstructed values in memory at a time during importance sampling."""


class Posterior(NamedTuple):
    """The approximate posterior of the codes of some rows: independent Gaussians.

    Attributes
    ----------
    mean, deviation
        Mean and standard deviation of each latent dimension, (n, code).
    """

    mean: np.ndarray
    deviation: np.ndarray


def is_variational(model: Any) -> bool:
    """Whether a fitted model has a Gaussian code."""
    return isinstance(model.objective_.choices.code, Gaussian)


def _is_variational(model: Any) -> bool:
    code = model.objective_.choices.code if hasattr(model, "objective_") else model.code
    if CODES.gives(code, Gaussian):
        return True
    raise AttributeError(
        f"{type(model).__name__} has code={code!r}; this needs code='gaussian' (VariationalAutoencoder)."
    )


class Generative:
    """Methods of models with a `Gaussian` code; other models do not have them."""

    @available_if(_is_variational)  # type: ignore[untyped-decorator]
    def sample(self: Any, n: int = 1, y: Any = None, *, random_state: Any = None) -> np.ndarray:
        """Generate rows by decoding codes drawn from the prior N(0, 1).

        Each value is the mean of its likelihood, such as the probability that a pixel is white.

        Parameters
        ----------
        n
            Number of rows, >= 1.
        y
            For a conditional model: one label for all, or n labels.
        random_state
            Seed or RandomState.

        Returns
        -------
        (n, *feature_shape), in the units of the training data.
        """
        check_is_fitted(self, "objective_")
        if not Whole(1).admits(n):
            raise ValueError(f"n={n!r} must be an integer >= 1.")
        given = seed_from(random_state) if isinstance(random_state, np.random.Generator) else random_state
        draw = check_random_state(given)
        codes = draw.standard_normal((n, self.objective_.context.code_size)).astype(np.float32)
        labels = np.full(n, y) if y is not None and np.ndim(y) == 0 else y
        return inference.decode(self, codes, self._conditions(labels, n))

    @available_if(_is_variational)  # type: ignore[untyped-decorator]
    def posterior(self: Any, X: Any, y: Any = None) -> Posterior:
        """Posterior of the codes of rows: (n, *feature_shape) → means and standard deviations, (n, code) each."""
        both = inference.whole(self, self._take(X, y), Verb(_posterior))
        return Posterior(*np.split(both, 2, axis=1))

    @available_if(_is_variational)  # type: ignore[untyped-decorator]
    def log_likelihood(
        self: Any,
        X: Any,
        y: Any = None,
        *,
        n_importance_samples: int = 100,
        random_state: Any = None,
        target: Any = None,
    ) -> np.ndarray:
        """Log-likelihood of each row in nats, estimated by importance sampling (Burda et al. 2016, eq. 8).

        ``log 1/K Σ_k p(x, z_k) / q(z_k | x)`` with z_k from the posterior: a lower bound in expectation, which
        converges to the exact value as K grows. For continuous likelihoods it is a log-density in the units of the
        data.

        Parameters
        ----------
        X
            Rows.
        y
            Their labels, for a conditional model.
        n_importance_samples
            K, >= 1; use a few hundred for published results.
        random_state
            Seed or RandomState.
        target
            For a model that was fitted with a target: the rows whose likelihood is estimated. X says only where codes
            are drawn.

        Returns
        -------
        (n,), summed over features; higher is more likely.
        """
        check_is_fitted(self, "objective_")
        _check_likelihood(self, n_importance_samples)
        likelihood = self._log_evidence(X, y, n_importance_samples, random_state, target)
        volume = self._log_volume() if self.objective_.choices.loss.continuous else 0.0
        in_units: np.ndarray = likelihood + likelihood.dtype.type(volume)
        return in_units

    def _log_evidence(self: Any, X: Any, y: Any, n_samples: int, random_state: Any, target: Any) -> np.ndarray:
        """Log-likelihood of each row by importance sampling, (n,), in scaled units, up to constants of the loss.

        -inf for rows outside the support of the loss.
        """
        generator = torch.Generator(self.device_).manual_seed(seed_from(random_state))
        at_once = min(n_samples, SAMPLES_AT_ONCE)
        counts = [at_once] * (n_samples // at_once)
        counts += [n_samples % at_once] if n_samples % at_once else []

        def estimate(model: Any, x: Tensor) -> Tensor:
            objective = model.objective_.as_dtype(x.dtype)
            weights = torch.cat([objective.log_weights(x, count, generator) for count in counts])
            return torch.where(objective.supported(x), torch.logsumexp(weights, 0) - np.log(n_samples), -torch.inf)

        rows = max(1, CELLS_AT_ONCE // (at_once * math.prod(output_shape(self))))
        return inference.whole(self, self._take_pair(X, y, target), Verb(estimate, compares=True), rows)

    def _mean_evidence(self: Any, X: Any, y: Any, sample_weight: Any, *, target: Any = None) -> float:
        """Mean log-likelihood of rows in nats, in the original units, including constants that the loss omits."""
        loss = self.objective_.choices.loss
        rows = self._log_evidence(X, y, SCORE_SAMPLES, 0, target).astype(np.float64)
        volume = 0.0 if loss.bounded else self._log_volume()
        normaliser: float = loss.normaliser * math.prod(output_shape(self))
        return float(np.average(rows, weights=row_weights(sample_weight, len(rows)))) + volume - normaliser

    def _log_volume(self: Any) -> float:
        """Difference between log-densities in the original and in scaled units."""
        width = math.prod(output_shape(self))
        return float(np.log(np.broadcast_to(output_scaling(self).factor, (width,))).sum())


def _posterior(model: Any, x: Tensor) -> Tensor:
    objective = model.objective_.as_dtype(x.dtype)
    mean, log_var = objective.posterior(x)
    return torch.cat([mean, torch.exp(0.5 * log_var)], dim=1)


def _check_likelihood(model: Any, n_importance_samples: Any) -> None:
    loss, mistakes = model.objective_.choices.loss, []
    if not loss.likelihood:
        mistakes.append(
            f"log_likelihood needs a loss that is a likelihood, but loss is {loss}; "
            "fit with loss='normal', 'binary-cross-entropy', 'categorical-cross-entropy' or 'poisson'."
        )
    if not Whole(1).admits(n_importance_samples):
        mistakes.append(f"n_importance_samples={n_importance_samples!r} must be an integer >= 1.")
    if mistakes:
        raise ValueError("\n  ".join(mistakes))
