"""Methods of models that compare reconstructions with rows: with X, or with the target where they learned pairs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from isthmus.choices.registry import unknown
from isthmus.estimators.generative import is_variational
from isthmus.estimators.inference import METRICS, VERBS, Verb, error_verb, restored_squares, stream, whole
from isthmus.estimators.sample_weights import row_weights
from isthmus.estimators.targets import take_pair
from isthmus.estimators.validation import Given


class Comparing:
    """The methods of `Autoencoder` that say how good it is; a model that was fitted with a target needs one here."""

    def score_samples(self: Any, X: Any, y: Any = None, *, target: Any = None) -> np.ndarray:
        """Negative loss of each row, averaged over features, (n,); higher is better.

        In nats per feature for binary cross-entropy, in squared scaled units for mean squared error. If the loss is a
        likelihood, rows outside its support get -inf, such as values outside [0, 1] for binary cross-entropy.
        """
        return whole(self, self._take_pair(X, y, target), VERBS["score_samples"])

    def score(self: Any, X: Any, y: Any = None, sample_weight: Any = None, *, target: Any = None) -> float:
        """Quality of the model on rows, comparable between losses and scalings; higher is better.

        The explained fraction of the variance, at most 1 (see `restored_variance`). For a model with a Gaussian code:
        the mean log-likelihood of the rows (of their targets, for pairs) in nats, estimated as in `log_likelihood` from
        16 samples with a fixed seed, which includes the cost of the code. `sample_weight`, (n,), weights the rows.
        """
        check_is_fitted(self, "objective_")
        measure = self._mean_evidence if is_variational(self) else self.restored_variance
        value: float = measure(X, y, sample_weight, target=target)
        return value

    def restored_variance(self: Any, X: Any, y: Any = None, sample_weight: Any = None, *, target: Any = None) -> float:
        """Explained fraction of the variance (R²): 1 is exact, 0 is no better than the mean of the training rows.

        ``1 - Σ ((x^ - x) / s)² / Σ ((x - m) / s)²`` over all rows and features, with the mean m and the standard
        deviation s of each feature at fit, so that all columns of a table have equal weight in any units. Features of
        images, and of flat rows that fill [0, 1] (or 0 to 255 as bytes), share one s. Missing entries, and features
        that were constant at fit, are left out.

        Parameters
        ----------
        X
            Rows.
        y
            Their labels, for a conditional model.
        sample_weight
            Weights of the rows in both sums, (n,), >= 0; None: all count alike.
        target
            What takes the place of x, for a model that was fitted with a target.

        Examples
        --------
        >>> import numpy as np
        >>> from isthmus import Autoencoder
        >>> X = np.random.default_rng(0).normal(size=(200, 1)) * [1.0, 2.0, -1.0] + 5.0
        >>> model = Autoencoder(1, network=(), max_epochs=100, random_state=0).fit(X)
        >>> round(model.restored_variance(X), 2)
        1.0
        """
        given = self._take_pair(X, y, target)
        squares = whole(self, given, Verb(restored_squares, compares=True))  # (n, 2)
        left, whole_variance = row_weights(sample_weight, given.source.n_rows) @ squares.astype(np.float64)
        if whole_variance == 0.0:
            return float(left == 0.0)
        return float(1.0 - left / whole_variance)

    def reconstruction_error(
        self: Any,
        X: Any,
        y: Any = None,
        *,
        per_feature: bool = False,
        metric: str = "mean-squared",
        target: Any = None,
    ) -> np.ndarray:
        """Squared error between X, or the target, and the reconstruction, in squared units of what is restored.

        Parameters
        ----------
        X
            Rows.
        y
            Their labels, for a conditional model.
        per_feature
            Return one value per feature of each row instead of their mean.
        metric
            ``"mean-squared"``, or in units of X ``"root-mean-squared"`` and ``"mean-absolute"``.
        target
            What the reconstructions are compared with, for a model that was fitted with a target.

        Returns
        -------
        (n,), or (n, *feature_shape) with `per_feature`; with a target in its shape.
        """
        if metric not in METRICS:
            raise ValueError(unknown("metric", metric, METRICS))
        return whole(self, self._take_pair(X, y, target), error_verb(metric, per_feature=per_feature))

    def stream(
        self: Any,
        X: Any,
        verb: str = "transform",
        *,
        y: Any = None,
        rows_per_chunk: int | None = None,
        target: Any = None,
    ) -> Iterator[np.ndarray]:
        """Iterate over results in chunks, for data or results larger than memory.

        Parameters
        ----------
        X
            Rows; a `Source` or a memory-mapped array is read on demand.
        verb
            ``"transform"``, ``"reconstruct"``, ``"score_samples"`` or ``"reconstruction_error"``.
        y
            Labels, for a conditional model.
        rows_per_chunk
            Rows per chunk; None: chosen by size.
        target
            For the last two verbs of a model that was fitted with a target.
        """
        if verb not in VERBS:
            raise ValueError(f"verb={verb!r} is not a result of a model; use one of {', '.join(VERBS)}.")
        return stream(self, self._take_pair(X, y, target, compares=VERBS[verb].compares), VERBS[verb], rows_per_chunk)

    def _take_pair(self: Any, X: Any, y: Any, target: Any, *, compares: bool = True) -> Given:
        check_is_fitted(self, "objective_")
        return take_pair(self, X, y, target, compares=compares)
