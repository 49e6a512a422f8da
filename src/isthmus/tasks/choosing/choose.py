"""Search of hyper-parameters within a budget of time."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from isthmus.choices.rules import Number, Whole
from isthmus.data import Source
from isthmus.diagnosis import take_rows
from isthmus.estimators import Autoencoder, fit_many, persistence
from isthmus.estimators.defaults import batch_size_for, max_epochs_for
from isthmus.exceptions import DataError, DivergenceError, FitWarning
from isthmus.seeds import seed_from
from isthmus.tasks.choosing.deadline import Deadline, Progress, seconds_of
from isthmus.tasks.choosing.ledger import Ledger, digest_of
from isthmus.tasks.choosing.space import code_sizes_for, pca_errors, settings_of, space_for

Scorer = Callable[[Autoencoder, Any, Any], float]

SWEEP_SHARE = 0.35
"""Share of the budget for the sweep of code sizes."""
TRIAL_SHARE = 0.1
"""Share of the budget that a default model of the largest code may take."""
FLAT = 0.05
"""A doubling of the code is worth it if it lowers the error by this share of the whole fall."""
MOST_ROWS = 50_000
RANDOM_TRIALS = 8
FEWEST_COMPARED = 4
"""Trials that have reached the same quarter before one is stopped for being above their median."""


@dataclass(frozen=True)
class Chosen:
    """The result of a search.

    Attributes
    ----------
    estimator
        The best model, fitted to the training part of the rows, ready for use.
    code_size, reason
        The chosen size, and why.
    curve
        One row per code size: ``code_size``, ``error``, ``pca_error`` (NaN with a scorer) and ``seconds``.
    table
        One row per trial, the best first: parameters, ``error``, ``seconds`` and ``state``, which is ``"complete"``,
        ``"pruned"`` (stopped because it was worse than the median), ``"out of time"`` or ``"diverged"``.
    criterion
        What the errors are.
    seconds
        Time that the call took.
    """

    estimator: Autoencoder
    code_size: int
    reason: str
    curve: pd.DataFrame
    table: pd.DataFrame
    criterion: str
    seconds: float


UNSUPERVISED = (
    "held-out error: root of the mean squared error of reconstructions of undamaged rows, each feature in units of its "
    "standard deviation (pixels share one), over that of the mean; 0 is perfect, 1 is no better than the mean"
)


def choose(
    X: Any,
    budget: float | str = "10 min",
    *,
    y: Any = None,
    scorer: Scorer | None = None,
    estimator: Autoencoder | None = None,
    code_sizes: Sequence[int] | None = None,
    n_trials: int | None = None,
    validation_fraction: float = 0.2,
    folder: str | Path | None = None,
    random_state: Any = 0,
    verbose: int | bool = 0,
) -> Chosen:
    """Choose code size, depth, width, loss, noise, penalty and learning rate in a given time.

    First, models of several code sizes are fitted side by side, with PCA beside them on the same rows; the size is
    where the curve becomes flat. Then Optuna (Akiba et al. 2019) proposes the other parameters at that size, and trials
    that are worse than the median at a quarter of their run are stopped. The default is the first trial.

    The error is the same for all losses and does not depend on their units: see `Chosen.criterion`. It measures how
    well rows are restored, not whether a code is useful; with labels, or a scorer of your own, that is measured
    instead.

    Parameters
    ----------
    X
        Rows, (n, *feature_shape), n >= 10; of more than 50,000 rows a sample is used.
    budget
        Seconds, or a text such as ``"10 min"``. It is kept inside a trial too.
    y
        Labels, (n,): the error is one minus the accuracy on held-out rows of logistic regression on the codes (one
        minus R² of ridge regression for real numbers), unless there is a scorer.
    scorer
        ``scorer(model, X, y)`` of held-out rows, higher is better; the error is minus the score.
    estimator
        The model whose other parameters are kept, such as a `VariationalAutoencoder`; None: ``Autoencoder()``.
    code_sizes
        Sizes to try; None: powers of two up to 64. One size skips the sweep.
    n_trials
        Largest number of trials after the default; None: as many as the budget allows. 0 only sweeps code sizes.
    validation_fraction
        Share of the rows that are held out, in (0, 1).
    folder
        A folder that keeps all finished trials and the best model. A search that was killed goes on there: the same
        call repeats no finished trial, and ends as the uninterrupted one would with the same number of trials.
    random_state
        Seed or RandomState. With the same seed, number of trials and time for all of them, the result is the same.
    verbose
        1 shows progress on stderr.

    Raises
    ------
    ValueError
        A parameter is invalid, or the budget is too small for one trial.
    DataError
        There are too few rows, or the folder belongs to other data.
    ImportError
        Optuna is not installed: ``pip install 'isthmus[tune]'``.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(80, 2)) @ np.random.default_rng(1).normal(size=(2, 6))
    >>> linear = Autoencoder(network=(), max_epochs=60, learning_rate=0.03)
    >>> found = choose(X, "10 min", estimator=linear, code_sizes=[1, 2, 4], n_trials=0)
    >>> found.code_size, list(found.curve.columns)
    (2, ['code_size', 'error', 'pca_error', 'seconds'])
    """
    began = time.monotonic()
    end = began + seconds_of(budget)
    optuna = _optuna() if n_trials != 0 else None
    search = _Search.open(X, y, scorer, estimator, code_sizes, n_trials, validation_fraction, folder, random_state)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)  # a useless trial is what the table shows
        search.sweep(began, end, verbose=bool(verbose))
        if optuna is not None:
            search.tune(optuna, end)
    return search.result(time.monotonic() - began)


def _optuna() -> Any:
    try:
        import optuna  # noqa: PLC0415  # optional
    except ImportError:
        raise ImportError(
            "choose needs Optuna, which is not installed; run pip install 'isthmus[tune]', or use n_trials=0, which "
            "only sweeps code sizes."
        ) from None
    return optuna


class _Search:
    """One search: its rows, its ledger, and the best model so far."""

    def __init__(self, base: Autoencoder, parts: _Parts, sizes: list[int], n_trials: int | None, seed: int) -> None:
        self.base, self.parts, self.sizes, self.n_trials, self.seed = base, parts, sizes, n_trials, seed
        self.ledger = Ledger(None, {})
        self.best: Autoencoder | None = None
        self.best_error = np.inf
        self.unfinished = list[dict[str, Any]]()
        self.epochs = 0
        self.code_size, self.reason = sizes[0], ""

    @classmethod
    def open(  # noqa: PLR0917  # the arguments of the public function
        cls,
        X: Any,
        y: Any,
        scorer: Scorer | None,
        estimator: Autoencoder | None,
        code_sizes: Sequence[int] | None,
        n_trials: int | None,
        share: float,
        folder: str | Path | None,
        random_state: Any,
    ) -> _Search:
        """Check everything, split the rows, and read the ledger."""
        mistakes = []
        if n_trials is not None and not Whole(0).admits(n_trials):
            mistakes.append(f"n_trials={n_trials!r} must be an integer >= 0 or None.")
        if not Number(0.0, 1.0, open_low=True, open_high=True).admits(share):
            mistakes.append(f"validation_fraction={share!r} must be a number in (0, 1).")
        if estimator is not None and (not isinstance(estimator, Autoencoder) or estimator.conditional):
            mistakes.append(f"estimator={estimator!r} must be an Autoencoder that is not conditional.")
        if code_sizes is not None and (not len(code_sizes) or not all(Whole(1).admits(size) for size in code_sizes)):
            mistakes.append(f"code_sizes={code_sizes!r} must be integers >= 1.")
        if scorer is not None and not callable(scorer):
            mistakes.append(f"scorer={scorer!r} must be a function of a model, rows and labels.")
        if mistakes:
            raise ValueError("\n  ".join(mistakes))
        seed = seed_from(random_state)
        parts = _Parts(X, y, scorer, share, seed)
        base = clone(Autoencoder() if estimator is None else estimator).set_params(random_state=seed, verbose=0)
        n_features = int(np.prod(parts.shape[1:]))
        sizes = (
            sorted(set(map(int, code_sizes))) if code_sizes is not None else code_sizes_for(n_features, parts.n_train)
        )
        found = cls(base, parts, sizes, n_trials, seed)
        identity = {"data": parts.digest, "seed": seed, "code sizes": sizes, "estimator": repr(base)}
        found.ledger = Ledger(None if folder is None else Path(folder), identity)
        return found

    # -- code sizes ----------------------------------------------------------------------------------------------

    def sweep(self, began: float, end: float, *, verbose: bool) -> None:
        """Measure every code size that the ledger does not have, and choose one."""
        timed = self.ledger.of_kind("epochs")
        if timed:
            self.epochs = int(timed[0]["epochs"])
        else:
            self.epochs = self._affordable_epochs(end)
            self.ledger.add("epochs", epochs=self.epochs)
        known = {entry["code_size"] for entry in self.ledger.of_kind("size")}
        left = [size for size in self.sizes if size not in known]
        soft_end = began + SWEEP_SHARE * (end - began)
        models = self._fit_sizes(left, soft_end, end, verbose=verbose) if left else {}
        errors = {entry["code_size"]: entry["error"] for entry in self.ledger.of_kind("size")}
        self.code_size, self.reason = elbow(self.sizes, [errors[size] for size in self.sizes])
        self._begin_with(models.get(self.code_size), errors[self.code_size])

    def _affordable_epochs(self, end: float) -> int:
        """Epochs such that a default model of the largest code takes a tenth of the budget at most."""
        limit, model = Deadline(end), self._made(max(self.sizes))
        start = time.monotonic()
        self.parts.fit(model.set_params(max_epochs=1, callbacks=(limit,)))  # compiles, too
        first = time.monotonic()
        if not limit.reached:
            self.parts.fit(model.set_params(max_epochs=1))
        epoch = max(1e-4, time.monotonic() - (start if limit.reached else first))
        affordable = int(TRIAL_SHARE * max(0.0, end - time.monotonic()) / epoch)
        if affordable < 1:
            raise ValueError(
                f"The budget is too small for one trial: one epoch of a default model takes {epoch:.2g} s"
                f"{' or more' if limit.reached else ''}; give at least {2 * epoch / TRIAL_SHARE:.0f} s, or fewer rows."
            )
        n_rows = self.parts.n_train
        linear = not model.objective_.choices.network.has_hidden_layers
        usual = max_epochs_for(n_rows, batch_size_for(n_rows), linear=linear)
        return min(affordable, usual if self.base.max_epochs == "auto" else int(self.base.max_epochs))

    def _begin_with(self, model: Autoencoder | None, error: float) -> None:
        """Take the best model of the folder, or the default one of the chosen size, as the best so far."""
        path = self.ledger.best_path
        finished = [entry["error"] for entry in self.ledger.of_kind("trial") if entry["error"] is not None]
        if path is not None and path.exists():
            self.best, self.best_error = persistence.load(path), min([error, *finished])
            return
        if model is None:
            model = self.parts.fit(self._made(self.code_size).set_params(max_epochs=self.epochs))
        self._remember(model, error)

    def _made(self, code_size: int) -> Autoencoder:
        made: Autoencoder = clone(self.base).set_params(code_size=int(code_size))
        return made

    def _fit_sizes(self, sizes: list[int], soft_end: float, end: float, *, verbose: bool) -> dict[int, Autoencoder]:
        limit = Deadline(max(soft_end, time.monotonic() + 0.5 * (end - time.monotonic())))
        base = self._made(sizes[0]).set_params(max_epochs=self.epochs, callbacks=(limit,), verbose=int(verbose))
        start = time.monotonic()
        models = fit_many(base, self.parts.train, {"code_size": sizes}, X_val=self.parts.test)
        seconds = (time.monotonic() - start) / len(sizes)
        by_pca = self.parts.pca(models[0], sizes)
        for size, model, pca_error in zip(sizes, models, by_pca, strict=True):
            error = self.parts.error(model)
            self.ledger.add("size", code_size=size, error=error, pca_error=pca_error, seconds=seconds)
        return dict(zip(sizes, models, strict=True))

    # -- trials --------------------------------------------------------------------------------------------------

    def tune(self, optuna: Any, end: float) -> None:
        """Try points of the space until time or trials run out."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        assert self.best is not None  # the sweep came first
        space = space_for(self.best.objective_.context, optuna)
        study = _study(optuna, space, self.ledger.of_kind("trial"))
        while time.monotonic() < end:
            number = len(self.ledger.of_kind("trial"))
            if self.n_trials is not None and number >= self.n_trials:
                return
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Optuna's remarks on its own features
                study.sampler = optuna.samplers.TPESampler(seed=self.seed + number, n_startup_trials=RANDOM_TRIALS)
                trial = study.ask(fixed_distributions=space)
            entry = self._try(dict(trial.params), number, end)
            if entry["state"] == "out of time":
                self.unfinished.append(entry)
                return
            self.ledger.add("trial", **entry)
            study.tell(trial, **_told(optuna, entry))

    def _try(self, point: dict[str, Any], number: int, end: float) -> dict[str, Any]:
        start, limit = time.monotonic(), Deadline(end)
        progress = Progress(self._is_hopeless)
        model = self._made(self.code_size).set_params(
            **settings_of(point), max_epochs=self.epochs, callbacks=(limit, progress)
        )
        state, error = "complete", float("inf")
        try:
            self.parts.fit(model)
        except DivergenceError:
            state = "diverged"
        else:
            error = self.parts.error(model)
            state = "out of time" if limit.reached else "pruned" if progress.stopped else "complete"
            self._remember(model, error)
        return {
            "number": number,
            "params": point,
            "error": error if np.isfinite(error) else None,
            "state": state,
            "steps": progress.errors,
            "seconds": time.monotonic() - start,
        }

    def _is_hopeless(self, quarter: int, error: float) -> bool:
        """Whether an error is above the median of the trials that have reached this quarter."""
        others = [each["steps"][quarter - 1] for each in self.ledger.of_kind("trial") if len(each["steps"]) >= quarter]
        return len(others) >= FEWEST_COMPARED and error > float(np.median(others))

    # -- the best ------------------------------------------------------------------------------------------------

    def _remember(self, model: Autoencoder, error: float) -> None:
        """Keep a model if it is the best so far; on disk before its entry in the ledger, so that none is lost."""
        if error < self.best_error or self.best is None:
            self.best, self.best_error = model.set_params(callbacks=(), verbose=0), error
            if self.ledger.best_path is not None:
                model.save(self.ledger.best_path)

    def result(self, seconds: float) -> Chosen:
        """What was found."""
        assert self.best is not None
        sizes = sorted(self.ledger.of_kind("size"), key=lambda entry: entry["code_size"])
        curve = pd.DataFrame(
            [{name: each[name] for name in ("code_size", "error", "pca_error", "seconds")} for each in sizes]
        )
        default = next(each for each in sizes if each["code_size"] == self.code_size)
        lines = [{"trial": "default", "error": default["error"], "seconds": default["seconds"], "state": "complete"}]
        for entry in [*self.ledger.of_kind("trial"), *self.unfinished]:
            error = np.nan if entry["error"] is None else entry["error"]
            kept = {"trial": str(entry["number"]), "error": error, "seconds": entry["seconds"], "state": entry["state"]}
            lines.append({**kept, **entry["params"]})
        table = pd.DataFrame(lines).sort_values("error", kind="stable", ignore_index=True)
        return Chosen(self.best, self.code_size, self.reason, curve, table, self.parts.criterion, seconds)


def elbow(sizes: Sequence[int], errors: Sequence[float]) -> tuple[int, str]:
    """The smallest size from which on no larger one lowers the error by 5 % of the whole fall, and the reason.

    >>> elbow([1, 2, 4, 8], [0.9, 0.5, 0.3, 0.29])[0]
    4
    """
    if len(sizes) == 1:
        return sizes[0], f"{sizes[0]} is the only code size that was tried."
    best = min(errors)
    fall = errors[0] - best
    if fall <= 0:
        return sizes[0], f"No code larger than {sizes[0]} lowers the error of {errors[0]:.3g}."
    place = next(place for place, error in enumerate(errors) if error - best <= FLAT * fall)
    reason = f"With {sizes[place]} the error is {errors[place]:.3g}"
    if place:
        reason += f", with {sizes[place - 1]} it is {errors[place - 1]:.3g}"
    if place == len(sizes) - 1:
        return sizes[place], f"{reason}. It still falls at the largest size that was tried; larger codes may be better."
    return sizes[place], (
        f"{reason}; larger codes lower it by at most {errors[place] - best:.2g}, less than {FLAT:.0%} of the fall from "
        f"{errors[0]:.3g} to {best:.3g}."
    )


def _study(optuna: Any, space: dict[str, Any], finished: list[dict[str, Any]]) -> Any:
    """A study that knows the finished trials."""
    study = optuna.create_study(direction="minimize", sampler=optuna.samplers.RandomSampler(seed=0))
    for entry in finished:
        told = _told(optuna, entry)
        study.add_trial(
            optuna.trial.create_trial(
                state=told["state"], value=told.get("values"), params=entry["params"], distributions=space
            )
        )
    return study


def _told(optuna: Any, entry: dict[str, Any]) -> dict[str, Any]:
    """The state and value of a trial for Optuna; a trial that was stopped counts with the error that it had reached."""
    state = optuna.trial.TrialState
    if entry["error"] is None:
        return {"state": state.FAIL}
    return {"state": state.COMPLETE, "values": entry["error"]}


class _Parts:
    """The rows of a search, split into a training and a held-out part, and the error of a model on the latter."""

    def __init__(self, X: Any, y: Any, scorer: Scorer | None, share: float, seed: int) -> None:
        n_rows = X.n_rows if isinstance(X, Source) else X.shape[0] if hasattr(X, "shape") else len(X)
        if n_rows < 10:
            raise DataError(f"X has {n_rows} rows, but a search needs at least 10.")
        labels = None if y is None else np.asarray(y)
        if labels is not None and (labels.shape != (n_rows,) or pd.isna(labels).any()):
            raise ValueError(
                f"y has shape {labels.shape} and {int(pd.isna(labels).sum())} missing labels, but {n_rows} labels are "
                "needed, one for each row."
            )
        order = np.random.default_rng(seed).permutation(n_rows)[:MOST_ROWS]
        n_test = min(len(order) - 2, max(1, round(share * len(order))))
        rows = np.sort(order[n_test:]), np.sort(order[:n_test])
        self.train, self.test = take_rows(X, rows[0]), take_rows(X, rows[1])
        self.labels = None if labels is None else (labels[rows[0]], labels[rows[1]])
        self.scorer, self.n_train = scorer, len(rows[0])
        self.shape = tuple(np.shape(self.train))
        self.digest = digest_of(np.asarray(take_rows(X, np.sort(order))), labels)
        self.criterion = UNSUPERVISED
        if scorer is not None:
            self.criterion = "minus the score of the scorer on held-out rows"
        elif labels is not None:
            kind = "R² of ridge regression" if self._continuous else "accuracy of logistic regression"
            self.criterion = f"one minus the {kind} on the codes of held-out rows"

    @property
    def _continuous(self) -> bool:
        return self.labels is not None and self.labels[0].dtype.kind == "f"

    def fit(self, model: Autoencoder) -> Autoencoder:
        """Fit a model to the training part, and measure it on the other after each epoch."""
        return model.fit(self.train, X_val=self.test)

    def error(self, model: Autoencoder) -> float:
        """The error on the held-out rows; lower is better."""
        if self.scorer is not None:
            return -float(self.scorer(model, self.test, None if self.labels is None else self.labels[1]))
        if self.labels is not None:
            predictor = Ridge() if self._continuous else LogisticRegression(max_iter=500)
            predictor = make_pipeline(StandardScaler(), predictor)
            predictor.fit(np.asarray(model.transform(self.train)), self.labels[0])
            return 1.0 - float(predictor.score(np.asarray(model.transform(self.test)), self.labels[1]))
        return float(np.sqrt(max(0.0, 1.0 - model.restored_variance(self.test))))

    def pca(self, model: Autoencoder, sizes: list[int]) -> list[float]:
        """The error of PCA for each size; NaN where the error is not of reconstructions."""
        if self.criterion is not UNSUPERVISED:
            return [float("nan")] * len(sizes)
        train, test = (np.asarray(part, np.float64) for part in (self.train, self.test))
        return pca_errors(train, test, model, sizes)
