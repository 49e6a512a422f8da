"""Training of several models at once over a grid of parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from sklearn.base import clone

from isthmus.estimators.autoencoder import Autoencoder
from isthmus.estimators.fitting import prepare
from isthmus.estimators.sample_weights import weigh
from isthmus.estimators.targets import take_pair, take_validation
from isthmus.training.parallel_runs import share_rows, train_many

Model = TypeVar("Model", bound=Autoencoder)


def fit_many(
    estimator: Model,
    X: Any,
    grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Sequence[Any]]],
    y: Any = None,
    *,
    sample_weight: Any = None,
    target: Any = None,
    X_val: Any = None,
    y_val: Any = None,
    target_val: Any = None,
) -> list[Model]:
    """Fit one model for every point of a parameter grid, in parallel if possible.

    Models whose steps are compiled (most dense ones, if the run is long enough), on batches of one size, take their
    steps at the same time, each on a thread of its own. The rest is fitted one after the other. Each model ends bit for
    bit as `fit` would end it alone.

    Parameters
    ----------
    estimator
        The base estimator, which is cloned and not changed.
    X, y, sample_weight, target, X_val, y_val, target_val
        As for ``fit``; all models are trained on the same rows.
    grid
        Parameter names with lists of values, as for scikit-learn's ``ParameterGrid``; a list of mappings is a sequence
        of grids.

    Returns
    -------
    list of fitted estimators
        In the order of ``ParameterGrid(grid)``.

    Raises
    ------
    ValueError, TypeError
        As for ``fit``, for the first invalid point of the grid; in this case nothing is trained.

    Examples
    --------
    >>> import numpy
    >>> X = numpy.random.default_rng(0).random((50, 6))
    >>> models = fit_many(Autoencoder(2, max_epochs=2), X, {"random_state": [0, 1], "learning_rate": [0.001, 0.01]})
    >>> [model.random_state for model in models]
    [0, 1, 0, 1]
    """
    from sklearn.model_selection import ParameterGrid  # noqa: PLC0415  # 40 ms, which `import` of an estimator would pay

    models: list[Model] = [clone(estimator).set_params(**point) for point in ParameterGrid(grid)]
    prepared = []
    for model in models:
        given = weigh(model, take_pair(model, X, y, target, fitting=True, min_rows=2), sample_weight)
        prepared.append(prepare(model, given, take_validation(model, given, X_val, y_val, target_val)))
        share_rows([each.run for each in prepared])
    train_many([each.run for each in prepared])
    for model, each in zip(models, prepared, strict=True):
        model._take_over(each)  # noqa: SLF001  # the same steps as in `fit` after training
        model._finish(each)  # noqa: SLF001
    return models
