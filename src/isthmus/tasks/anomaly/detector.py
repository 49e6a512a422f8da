"""The anomaly detector: rows in; anomalies, their reasons and a false-alarm rate out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import ClassifierTags
from sklearn.utils.validation import check_is_fitted

from isthmus.choices import CORRUPTIONS, LOSSES, Observed
from isthmus.choices.parameters import Parameters
from isthmus.choices.registry import Registry, unknown
from isthmus.choices.rules import Instance, Number, OneOf, Rule, Whole, broken_rules, either
from isthmus.estimators import Autoencoder
from isthmus.estimators.fitting import refuse
from isthmus.estimators.saved import Saved
from isthmus.estimators.validation import refuse_targets
from isthmus.files.model_file import State
from isthmus.files.records import Arrays, Json
from isthmus.seeds import seed_from
from isthmus.tasks.anomaly import detector_fit, persistence
from isthmus.tasks.anomaly.calibration import Drift, benjamini_hochberg, compare_scores, conformal_p_values
from isthmus.tasks.anomaly.detector_fit import DetectorSettings
from isthmus.tasks.anomaly.explanations import Explanation, column_names, explain_rows
from isthmus.tasks.anomaly.fitted import FittedDetector
from isthmus.tasks.anomaly.inputs import Rows, learn_rows, open_rows
from isthmus.tasks.anomaly.learned import LearnedAttributes
from isthmus.tasks.anomaly.models import SingleModel
from isthmus.tasks.anomaly.probabilities import PROBABILITIES, label_confidence
from isthmus.tasks.anomaly.scoring import PARTS
from isthmus.tasks.anomaly.thresholds import THRESHOLDS, Threshold
from isthmus.training import SCHEDULES

AUTO: Rule = OneOf(("auto",))
DEFAULT_CALIBRATION = 0.25
ROUNDING, ROUNDING_OF_GRAPHS = 1e-9, 1e-4
"""By how much a row's score may differ between ways of computing it; an autoencoder of the user is in float32."""


@dataclass(eq=False, repr=False, kw_only=True)
class AnomalyDetector(Saved, LearnedAttributes, Parameters, OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """Finds anomalies in tables, images and signals, with a reason for each and a stated false-alarm rate.

    Small autoencoders learn to restore rows from a part of their cells. Each part of the score says in nats how unusual
    a row is in one respect: its cells, its distance to training rows, its reconstruction error. The parts are combined
    by a weighted harmonic mean p-value, in which the most certain one decides (see `isthmus.tasks.anomaly.scoring`).
    The training rows may contain anomalies: the most unusual ones take no part in what new rows are compared with.

    Parameters
    ----------
    threshold
        Where the alarm begins: ``"auto"``, a share of anomalies such as ``0.05``, or a member: `Contamination`,
        `Quantile`, `FalseAlarmRate`, `Auto`. `set_threshold` changes it without training again.
    parts
        Which parts count: some of ``"marginal"``, ``"reconstruction"``, ``"neighbours"``, ``"nearest"``, ``"local"``,
        ``"density"``. ``"auto"``: all but the density for tables, reconstruction and density for images.
    autoencoder
        An `Autoencoder` to use in place of the ensemble, such as ``ConvolutionalAutoencoder()`` for images.
    n_members, code_sizes, hidden_size
        Of the ensemble: how many autoencoders, their code sizes (``"auto"``: from a tenth of the columns to all), and
        the width of their hidden layers.
    corruption
        Damage to the input that they learn to undo; the ensemble predicts cells from each other for it.
    loss
        ``"auto"``: for tables each column by its likelihood, for numbers the squared error.
    scaling
        ``"auto"``: columns are standardised, images by one factor; else as for `Autoencoder`. Tables scale themselves.
    trim
        Share of the training rows that is presumed odd, in [0, 1): it is left out of every step and, after a first
        scoring, of what rows are compared with. 0 for data known to be clean: the distance to the nearest training row
        then counts most, which finds more where that is true, and less where it is not.
    n_neighbors, memory_size
        For the density: with how many of the nearest training rows a row is compared, and how many are remembered.
    max_rows
        Rows to learn from, at most; of more a sample is drawn. With `memory_size`, it bounds the memory used.
    calibration_fraction
        Share of the rows that is kept out of training for p-values and `FalseAlarmRate`, in [0, 1); None: 0.25 where
        the threshold needs it, else 0.
    max_steps, batch_size, learning_rate, schedule
        Of the training; ``"auto"`` steps: 300, more for more than 10,000 rows, fewer for rows of
        more than 256 numbers.
    kinds
        Kinds of table columns by name, where you know better: see `isthmus.data.tables.learn_schema`.
    device
        ``"auto"`` takes CUDA, then Apple's MPS, then the CPU.
    random_state
        Seed or RandomState. Scoring is never random.
    verbose
        1 shows progress on stderr.

    Attributes
    ----------
    decision_scores_ : array
        Anomaly scores of the training rows, each as if it had not been remembered, (n,); of the sample `sample_` where
        there are more than `max_rows`.
    labels_ : array
        1 where a training row is an anomaly, else 0, (n,).
    threshold_, offset_ : float
        The anomaly score above which a row is an anomaly, and minus that.
    calibration_scores_ : array
        Anomaly scores of the rows kept for calibration, (m,), where there are some.
    schema_ : Schema
        The columns of a table.
    n_features_in_, feature_names_in_, feature_shape_
        Of the rows.
    fitted_ : FittedDetector
        All that was learned, but for the threshold.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(300, 5))
    >>> X[:, 4] = X[:, 0] + 0.1 * rng.normal(size=300)
    >>> detector = AnomalyDetector(0.01, random_state=0).fit(X)
    >>> detector.predict([[0.1, 0.0, 0.2, 0.1, 0.1], [0.1, 0.0, 0.2, 0.1, 9.0]])
    array([ 1, -1])
    """

    threshold: Any = field(default="auto", kw_only=False)
    parts: Any = "auto"
    autoencoder: Any = None
    n_members: int = 8
    code_sizes: Any = "auto"
    hidden_size: int = 64
    corruption: Any = "masking"
    loss: Any = "auto"
    scaling: str = "auto"
    trim: float = 0.05
    n_neighbors: int = 2
    memory_size: int = 8192
    max_rows: int = 65_536
    calibration_fraction: float | None = None
    max_steps: int | str = "auto"
    batch_size: int = 128
    learning_rate: float = 0.003
    schedule: Any = "one-cycle"
    kinds: Mapping[str, Any] | None = None
    device: str = "auto"
    random_state: Any = None
    verbose: int | bool = 0

    conditional: ClassVar[bool] = False
    choice_registries: ClassVar[Mapping[str, Registry[Any]]] = {
        "threshold": THRESHOLDS,
        "corruption": CORRUPTIONS,
        "loss": LOSSES,
        "schedule": SCHEDULES,
    }
    in_file: ClassVar[frozenset[str]] = frozenset(
        ["fitted_", "threshold_", "offset_", "feature_shape_", "n_features_in_", "feature_names_in_"]
    )
    rules: ClassVar[Mapping[str, Rule]] = {
        "n_members": Whole(1),
        "code_sizes": either(Instance((tuple, list), "a tuple of integers >= 1, one for each member"), AUTO),
        "hidden_size": Whole(1),
        "trim": Number(0.0, 1.0, open_high=True),
        "n_neighbors": Whole(1),
        "memory_size": Whole(1),
        "max_rows": Whole(1),
        "calibration_fraction": either(Number(0.0, 1.0, open_high=True), OneOf((None,))),
        "max_steps": either(Whole(1), AUTO),
        "batch_size": Whole(1),
        "learning_rate": Number(0.0, open_low=True),
        "autoencoder": either(Instance(Autoencoder, "an isthmus Autoencoder"), OneOf((None,))),
        "verbose": either(Whole(0), OneOf((True, False))),
    }

    # -- learning ------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn what is normal.

        Parameters
        ----------
        X
            Rows, n >= 1: an array (n, d), (n, h, w) or (n, h, w, c), a frame, a CSR matrix, a `Source`; an Arrow table,
            or the path of a .csv or .parquet file. Frames, Arrow tables and files may hold numbers, categories, dates
            and holes.
        y
            Ignored.

        Raises
        ------
        ValueError, TypeError
            A parameter or the data cannot be used; all wrong parameters are named at once.
        """
        refuse_targets(self, y)
        threshold = self.checked_threshold()
        before = dict(vars(self))
        try:
            self._fit(X, threshold)
        except BaseException:  # Ctrl-C too: the old model behind new columns would answer, and wrongly
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        return self

    def _fit(self, X: Any, threshold: Threshold) -> None:
        for name in [name for name in vars(self) if name.endswith("_") and not name.startswith("__")]:
            delattr(self, name)
        settings = self._settings()
        rows, schema = learn_rows(self, X, self.kinds)
        if schema is not None:
            self.feature_names_in_, self.n_features_in_ = np.asarray(schema.names, dtype=object), len(schema.names)
            self.feature_shape_: tuple[int, ...] = (max(1, schema.width),)
        self._hold(detector_fit.fit(settings, rows, schema, self.calibration_share(threshold)), threshold)

    def _hold(self, fitted: FittedDetector, threshold: Threshold) -> None:
        self.fitted_ = fitted
        self._apply(threshold)

    def _settings(self) -> DetectorSettings:
        names = [each.name for each in fields(DetectorSettings) if each.name != "seed"]
        return DetectorSettings(**{name: getattr(self, name) for name in names}, seed=seed_from(self.random_state))

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Continue learning from more rows; the first call is `fit`.

        Training continues on the new rows and an even sample of all rows seen, from which curves, memory and threshold
        are learned again. Calibration rows are scored again. They are not in a model file, so a loaded detector needs
        `calibrate` again before it promises a rate of false alarms.

        Parameters
        ----------
        X
            Rows like those before.
        y
            Ignored.
        """
        refuse_targets(self, y)
        if not hasattr(self, "fitted_"):
            return self.fit(X)
        threshold = self.checked_threshold()
        if threshold.needs_calibration and self.fitted_.calibration_rows is None:
            raise ValueError(
                f"{threshold!r} needs calibration rows, which are not in a model file; call calibrate(X) with "
                "normal rows first."
            )
        self._hold(detector_fit.fit_more(self._settings(), self.fitted_, self._rows(X)), threshold)
        return self

    def checked_threshold(self) -> Threshold:
        """The threshold; raises an error that names all wrong parameters."""
        mistakes = broken_rules(self, self.rules)
        mistakes += detector_fit.choice_mistakes(type(self).__name__, self.get_params(deep=False))
        try:
            threshold = THRESHOLDS.resolve(self.threshold)
            mistakes += threshold.mistakes()
        except (TypeError, ValueError) as error:
            mistakes.append(f"{type(self).__name__}: threshold: {error}")
        if self.parts != "auto" and not (self.parts and set(self.parts) <= set(PARTS)):
            mistakes.append(
                f"{type(self).__name__}: parts={self.parts!r} must be 'auto' or some of {', '.join(PARTS)}."
            )
        refuse(mistakes)
        return threshold

    def calibration_share(self, threshold: Threshold) -> float:
        """The share of the rows that `fit` holds out for a threshold."""
        if self.calibration_fraction is None:
            return DEFAULT_CALIBRATION if threshold.needs_calibration else 0.0
        return float(self.calibration_fraction)

    # -- thresholds ----------------------------------------------------------------------------------------------

    def set_threshold(self, threshold: Any) -> Self:
        """Change the threshold without training again.

        Parameters
        ----------
        threshold
            As in the constructor.

        Raises
        ------
        ValueError
            `FalseAlarmRate` has no calibration rows.
        """
        check_is_fitted(self, "fitted_")
        made = THRESHOLDS.resolve(threshold)
        refuse(made.mistakes())
        self._apply(made)
        self.threshold = threshold
        return self

    def calibrate(self, X: Any) -> Self:
        """Calibrate on these rows instead of those held out by `fit`, and set the threshold by them.

        Parameters
        ----------
        X
            Normal rows that took no part in training. Anomalies among them make alarms rarer.
        """
        rows = self._rows(X)
        self._hold(self.fitted_.calibrated(rows.read(np.arange(rows.n_rows))), THRESHOLDS.resolve(self.threshold))
        return self

    def _apply(self, threshold: Threshold) -> None:
        cut = threshold.cut(self.fitted_.decision_scores, self.fitted_.calibration_scores)
        self.threshold_, self.offset_ = cut, -cut

    @property
    def rounding_(self) -> float:
        """Scores within this distance of the threshold count as equal to it: such rows are normal in every batch."""
        check_is_fitted(self, "fitted_")
        relative = ROUNDING_OF_GRAPHS if isinstance(self.fitted_.model, SingleModel) else ROUNDING
        return relative * max(1.0, abs(self.threshold_)) if np.isfinite(self.threshold_) else 0.0

    def _above(self, scores: np.ndarray) -> np.ndarray:
        """Anomaly scores minus the threshold, (n,); 0 within rounding."""
        away = scores - self.threshold_
        return np.where(np.abs(away) <= self.rounding_, 0.0, away)

    @property
    def labels_(self) -> np.ndarray:
        """1 where a training row is an anomaly, else 0, (n,)."""
        check_is_fitted(self, "fitted_")
        return np.asarray(self._above(self.decision_scores_) > 0).astype(int)

    # -- using ---------------------------------------------------------------------------------------------------

    def score_samples(self, X: Any) -> np.ndarray:
        """Minus the anomaly score of each row, in nats, (n,): the lower, the more anomalous."""
        rows = self._rows(X)
        return -self.fitted_.scores(rows)

    def decision_function(self, X: Any) -> np.ndarray:
        """``score_samples(X) - offset_``, (n,): negative for anomalies, 0 within rounding."""
        return -self._above(-self.score_samples(X))

    def predict(self, X: Any) -> np.ndarray:
        """-1 for anomalies, 1 for other rows, (n,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def predict_proba(self, X: Any, *, method: str = "unify") -> np.ndarray:
        """Anomaly scores mapped to [0, 1] by the training scores, as PyOD does, (n, 2): for normal, for anomaly.

        They keep the order of the scores and sum to one, but are not calibrated: 0.9 does not say that nine of ten such
        rows are anomalies. `p_values` are shares that can be counted.

        Parameters
        ----------
        X
            Rows.
        method
            ``"unify"``: ``max(0, erf((s - mean) / (sqrt(2) · deviation)))`` (Kriegel et al. 2011, section 4.2).
            ``"linear"``: from the least training score, 0, to the largest, 1.
        """
        if method not in PROBABILITIES:
            raise ValueError(unknown("method", method, PROBABILITIES))
        scores = -self.score_samples(X)
        odd = PROBABILITIES[method](self.decision_scores_, scores)
        return np.column_stack([1.0 - odd, odd])

    def predict_confidence(self, X: Any) -> np.ndarray:
        """How stable each label is, in [0, 1], (n,): the probability of the same label with other training rows.

        It is taken over newly drawn training sets of this size, with the share of anomalies that was reported of the
        training rows (Perini et al. 2020, eq. 3 and 4).
        """
        scores = -self.score_samples(X)
        return label_confidence(self.decision_scores_, scores, self.threshold_)

    def p_values(self, X: Any) -> np.ndarray:
        """The share of normal rows with at least this score, (n,), in (0, 1]; see `conformal_p_values`.

        Raises
        ------
        ValueError
            No rows were kept for calibration.
        """
        return conformal_p_values(self._calibration(), -self.score_samples(X))

    def discoveries(self, X: Any, *, rate: float = 0.1) -> np.ndarray:
        """Selects rows of a batch such that at most a share of `rate` of them is normal, on average, (n,) bool.

        Parameters
        ----------
        X
            The batch.
        rate
            The false discovery rate, in [0, 1]; see `benjamini_hochberg`. Reporting k of n rows takes at least
            ``n / (k · rate)`` calibration rows.
        """
        return benjamini_hochberg(self.p_values(X), rate)

    def drift(self, X: Any, *, level: float = 0.01) -> Drift:
        """Tests whether the scores of new normal rows differ from those of the calibration.

        Parameters
        ----------
        X
            Rows that are normal, but for a few.
        level
            How often drift may be reported where there is none.
        """
        return compare_scores(self._calibration(), -self.score_samples(X), self.threshold_, level)

    def _calibration(self) -> np.ndarray:
        check_is_fitted(self, "fitted_")
        if self.fitted_.calibration_scores is None:
            raise ValueError(
                f"This {type(self).__name__} has no calibration rows; fit with calibration_fraction=0.25, or give "
                "normal rows that took no part in training to calibrate(X)."
            )
        return self.fitted_.calibration_scores

    def contributions(self, X: Any) -> np.ndarray:
        """The contribution of each column to the anomaly score, (n, columns), or (n, *row shape) for images."""
        rows, fitted = self._rows(X), self.fitted_
        parts = [fitted.scorer.contributions(each).double().cpu().numpy() for each in fitted.readings(rows)]
        return np.concatenate([np.empty(0), *map(np.ravel, parts)]).reshape(rows.n_rows, *fitted.columns_shape)

    def explain(self, X: Any, *, n_columns: int = 3) -> list[Explanation]:
        """The reasons for scores: the columns that contribute most, with their observed and expected values.

        Parameters
        ----------
        X
            Rows of a table.
        n_columns
            How many columns to name for each row, >= 1.

        Returns
        -------
        One `Explanation` for each row; ``str`` of it is a sentence.
        """
        rule: Rule = Whole(1)
        if not rule.admits(n_columns):
            raise ValueError(f"n_columns={n_columns!r} must be {rule}.")
        rows = self._rows(X)
        names = column_names(self.fitted_.format, getattr(self, "feature_names_in_", None))
        return explain_rows(self.fitted_, names, self.threshold_ + self.rounding_, rows, n_columns)

    def _rows(self, X: Any) -> Rows:
        check_is_fitted(self, "fitted_")
        return open_rows(self, X, self.fitted_.format.schema)

    # -- keeping -------------------------------------------------------------------------------------------------

    def _to_state(self) -> State:
        return persistence.to_state(self)

    def _run_state(self) -> tuple[Json, dict[str, np.ndarray]]:
        return persistence.run_state(self.fitted_)

    def _put_run_state(self, values: Json, arrays: Arrays) -> None:
        self.fitted_ = persistence.with_run_state(self.fitted_, values, arrays)

    def _learned_members(self) -> Iterable[Any]:
        if not hasattr(self, "fitted_"):
            return ()
        own = self.fitted_.model
        return (self.fitted_.loss, *((own.autoencoder,) if isinstance(own, SingleModel) else ()))

    @classmethod
    def _from_state(cls, state: State, *, network: Any = None, device: str = "auto") -> Self:
        detector: Self = persistence.from_state(cls, state, network=network, device=device)
        return detector

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = LOSSES.gives(self.loss, Observed)
        tags.classifier_tags = ClassifierTags(multi_class=False)  # two columns of predict_proba, not one a class
        return tags
