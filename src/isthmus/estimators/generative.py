"""Methods that generate rows; of models with a Gaussian code also posteriors and log-likelihoods."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from isthmus.choices import CODES, Gaussian
from isthmus.choices.registry import unknown
from isthmus.choices.rules import Whole
from isthmus.estimators import inference, sampling
from isthmus.estimators.code_mixture import CodeMixture
from isthmus.estimators.inference import Verb
from isthmus.estimators.sample_weights import row_weights
from isthmus.estimators.targets import output_names, output_scaling, output_shape
from isthmus.seeds import seed_from
from isthmus.wording import counted, these

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
    """New rows from every fitted model; posteriors and likelihoods of models with a `Gaussian` code.

    Models with other codes do not have the methods `posterior` and `log_likelihood`.
    """

    _asked: bool = False
    """Whether `fit_sampler` was called, so that its mixture is used where there is a prior too."""

    def sample(
        self: Any,
        n: int = 1,
        y: Any = None,
        *,
        source: str = "auto",
        draw: bool | str = "auto",
        random_state: Any = None,
    ) -> Any:
        """Generate rows: codes are drawn, and decoded.

        Codes come from the prior N(0, 1) of a Gaussian code, else from a Gaussian mixture on codes of training rows.
        Decoded codes are the means of rows. For tables a row is then drawn around its mean, so that columns keep their
        spread and their correlations: from the likelihood where the loss is one, with noise that has the covariance
        that reconstructions of the training rows lack, within the range of the training rows, and rounded where these
        were whole numbers.

        Parameters
        ----------
        n
            Number of rows, >= 1.
        y
            For a conditional model, or after ``fit_sampler(X, y)``: one label for all, or n labels.
        source
            ``"prior"``, ``"mixture"``, or ``"auto"``: the mixture if `fit_sampler` was called or there is no prior.
        draw
            Whether rows are drawn (True), or are means (False), such as the probability that a pixel is white.
            ``"auto"``: means for images and for flat rows without names in [0, 1], else draws.
        random_state
            Seed or RandomState.

        Returns
        -------
        (n, *feature_shape), in the units of the training data; a pandas frame if the model was fitted on a frame.

        Raises
        ------
        ValueError
            A parameter is invalid, labels are missing or unknown, or there is no prior for ``source="prior"``.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from isthmus import Autoencoder
        >>> X = load_iris(as_frame=True).data
        >>> rows = Autoencoder(2, max_epochs=20, random_state=0).fit(X).sample(500, random_state=0)
        >>> bool((rows.std() / X.std() > 0.8).all())
        True
        """
        check_is_fitted(self, "objective_")
        _check_sampling(self, n, source, draw)
        given = seed_from(random_state) if isinstance(random_state, np.random.Generator) else random_state
        state = check_random_state(given)
        labels = np.full(n, y) if y is not None and np.ndim(y) == 0 else y
        conditions = self._conditions(labels, n)
        fitted = getattr(self, "code_mixture_", None)
        if source == "prior" or (source == "auto" and is_variational(self) and (fitted is None or not self._asked)):
            _refuse_labels(self, labels, conditions)
            codes = state.standard_normal((n, self.objective_.context.code_size)).astype(np.float32)
        else:
            mixture = sampling.mixture_of(self)
            owners = None if labels is None or conditions is not None else _owners(self, mixture, labels, n)
            codes = mixture.draw(n, np.random.default_rng(seed_from(state)), owners)
        codes = self.objective_.code.as_code(torch.from_numpy(codes)).numpy()
        if draw is False or (draw == "auto" and sampling.is_picture(self)):
            return sampling.as_frame(self, inference.decode(self, codes, conditions))
        rows = sampling.draw_rows(self, codes, conditions, seed_from(state))
        if output_names(self) is not None:
            return sampling.as_frame(self, rows)
        return rows.astype(np.uint8 if output_scaling(self).name == "pixels" else np.float32)

    def fit_sampler(self: Any, X: Any, y: Any = None) -> Any:
        """Fit the mixture from which `sample` draws to the codes of all these rows, not only of those that `fit` kept.

        The number of components is the best one on held-out codes; at most 20,000 rows are used. `save` stores it.

        Parameters
        ----------
        X
            Rows, (n, *feature_shape), usually the training rows.
        y
            Labels, (n,): each label gets a mixture of its own, so that ``sample(n, y)`` draws rows of a label. A
            conditional model needs them as always, and gets one mixture for all.

        Raises
        ------
        ValueError
            The number of labels is wrong, or one is missing (NaN or None).
        """
        given = self._take(X, y)
        labels = None
        if y is not None and not self.objective_.context.n_conditions:
            labels = np.asarray(y)
            if labels.shape != (given.source.n_rows,):
                raise ValueError(
                    f"y has shape {labels.shape}, but labels of shape ({given.source.n_rows},) are needed: one for "
                    "each row."
                )
            missing = pd.isna(labels)
            if missing.any():
                raise ValueError(
                    f"y has {counted(int(missing.sum()), 'missing label')}, the first at row {missing.argmax()}; drop "
                    f"{these(int(missing.sum()), 'row')}."
                )
            labels = labels.astype(str) if labels.dtype.kind == "O" else labels
        sampling.learn_from(self, given, labels)
        self._asked = True
        return self

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


SOURCES = ("auto", "prior", "mixture")


def _check_sampling(model: Any, n: Any, source: Any, draw: Any) -> None:
    """Raise one error that lists all that is wrong with a request for samples."""
    mistakes = []
    if not Whole(1).admits(n):
        mistakes.append(f"n={n!r} must be an integer >= 1.")
    if source not in SOURCES:
        mistakes.append(unknown("source", str(source), SOURCES))
    if source == "prior" and not is_variational(model):
        mistakes.append(
            f"source='prior' needs a Gaussian code, but this {type(model).__name__} has "
            f"code={model.objective_.choices.code!r}; use source='mixture', or fit a VariationalAutoencoder."
        )
    if not (draw is True or draw is False or draw == "auto"):
        mistakes.append(f"draw={draw!r} must be True, False or 'auto'.")
    if mistakes:
        raise ValueError("\n  ".join(mistakes))


def _refuse_labels(model: Any, labels: Any, conditions: np.ndarray | None) -> None:
    if labels is not None and conditions is None:
        raise ValueError(
            f"y was given, but the prior of this {type(model).__name__} knows no labels; call fit_sampler(X, y) first "
            "and use source='mixture', or fit with conditional=True."
        )


def _owners(model: Any, mixture: CodeMixture, labels: Any, n: int) -> np.ndarray:
    """The index of each label among those of the mixture, (n,)."""
    if mixture.classes is None:
        raise ValueError(
            f"y was given, but this {type(model).__name__} knows no labels; call fit_sampler(X, y) first, or fit with "
            "conditional=True."
        )
    asked = np.asarray(labels)
    if asked.shape != (n,):
        raise ValueError(f"y has shape {asked.shape}, but one label, or labels of shape ({n},), are needed.")
    asked = asked.astype(str) if mixture.classes.dtype.kind == "U" else asked
    strange = sorted(set(asked.tolist()) - set(mixture.classes.tolist()), key=str)
    if strange:
        known = ", ".join(map(str, mixture.classes[:10]))
        raise ValueError(
            f"y contains {strange[0]!r}, which is not among the labels of fit_sampler: {known}; use one of them."
        )
    return np.searchsorted(mixture.classes, asked)


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
