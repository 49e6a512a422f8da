"""The classifier on a pretrained encoder."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d
from torch import Tensor

from isthmus.choices import CORRUPTIONS, Corruption
from isthmus.choices.parameters import Parameters, is_auto
from isthmus.choices.registry import Registry
from isthmus.choices.rules import Instance, Number, OneOf, Rule, Whole, broken_rules, either
from isthmus.data import Scaling
from isthmus.estimators import Autoencoder, params_json, persistence
from isthmus.estimators.fitting import patience_of, refuse
from isthmus.estimators.inference import Verb, whole
from isthmus.estimators.saved import Saved, as_arrays, as_tensors, put_run_of, run_of
from isthmus.estimators.validation import take
from isthmus.files.model_file import State
from isthmus.files.records import Arrays, Json, Losses, Numbers, Record, group, grouped, pack, unpack
from isthmus.seeds import RandomState, seed_from
from isthmus.tasks.transfer.classifier_fit import (
    FittedClassifier,
    Labelled,
    Plan,
    continued,
    fit_classifier,
    fit_pass,
    with_guesses,
)
from isthmus.tasks.transfer.labelled_objective import Classified
from isthmus.tasks.transfer.spreading import require_labels, unlabelled_rows
from isthmus.training import OPTIMIZERS, SCHEDULES, History
from isthmus.training.schedule import Optimizer, Schedule

AUTO: Rule = OneOf(("auto",))
SHARED_RULES: Mapping[str, Rule] = {
    "fine_tune": OneOf((True, False)),
    "freeze": Whole(0),
    "layer_decay": Number(0.0, 1.0, open_low=True),
    "dropout": Number(0.0, 1.0, open_high=True),
    "max_epochs": either(Whole(1), AUTO),
    "batch_size": either(Whole(1), AUTO),
    "learning_rate": either(Number(0.0, open_low=True), AUTO),
    "early_stopping": either(Whole(1), OneOf((True, False))),
    "validation_fraction": Number(0.0, 1.0, open_low=True, open_high=True),
}
"""Rules of the parameters that the regressor has too."""
USUAL_RATE = 1e-3
"""The learning rate that ``"auto"`` means."""


@dataclass(eq=False, repr=False, kw_only=True)
class EncoderClassifier(Saved, Parameters, ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier on a pretrained encoder, fine-tuned with labels (Hinton & Salakhutdinov 2006).

    A softmax layer is added on top of the code, and both are trained on the cross-entropy of the labels. Rows without a
    label take part if `fit` is given them, with -1 as their label as in scikit-learn's semi-supervised estimators: the
    known labels spread over the graph of nearest codes, and each row counts as much as its label is sure (Iscen et al.
    2019). With few labels this is much better than the labelled rows alone.

    Parameters
    ----------
    encoder
        A fitted `Autoencoder`, which is copied and not changed; or an unfitted one, which is first fitted on X. None:
        ``Autoencoder()``.
    fine_tune
        Whether the encoder is trained too; False trains only the softmax layer.
    freeze
        Number of layers of the encoder, from the input on, that stay as they are, >= 0: the first layers of an encoder
        that was trained on other rows are often worth keeping when labels are few.
    layer_decay
        Learning rate of each layer of the encoder relative to that of the layer above it, in (0, 1]; the layer on the
        code has `learning_rate`. With 0.5 the layer before the code learns at half that rate, the one before it at a
        quarter: first layers, which are the most general, stay close to what they learned without labels (Howard &
        Ruder 2018, section 3.2).
    corruption
        Damage to the input in training, such as ``"masking"``; reduces over-fitting.
    dropout
        Fraction of hidden activations set to zero in training (Srivastava et al. 2014), in [0, 1).
    unlabelled
        The label that marks rows without one. ``"auto"``: -1, if y has at least two other labels, none of them below
        -1; with the labels -1, 0 and 1 the mark must be given. None: every row has a label.
    n_neighbors
        Neighbours of each code in the graph over which labels spread, >= 1.
    max_epochs, batch_size, learning_rate, schedule, optimizer, random_state, verbose
        As for `Autoencoder`, for the training with labels.
    early_stopping
        Stop after this many epochs without a better validation loss, and restore the best weights; False: never.
    validation_fraction
        Fraction of rows held out for early stopping, in (0, 1).

    Attributes
    ----------
    classes_ : array
        The labels.
    encoder_ : Autoencoder
        The fitted autoencoder before fine-tuning.
    history_ : History
        Losses and times of the training with labels.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> EncoderClassifier(Autoencoder(2, random_state=0), random_state=0).fit(X, y).score(X, y) > 0.9
    True
    """

    encoder: Autoencoder | None = field(default=None, kw_only=False)
    fine_tune: bool = True
    freeze: int = 0
    layer_decay: float = 1.0
    corruption: Corruption | str | None = None
    dropout: float = 0.0
    unlabelled: int | str | None = "auto"
    n_neighbors: int = 10
    max_epochs: int | str = "auto"
    batch_size: int | str = "auto"
    learning_rate: float | str = "auto"
    schedule: Schedule | str = "one-cycle"
    optimizer: Optimizer | str = "adamw"
    early_stopping: int | bool = False
    validation_fraction: float = 0.1
    random_state: RandomState = None
    verbose: int | bool = 0

    choice_registries: ClassVar[Mapping[str, Registry[Any]]] = {
        "corruption": CORRUPTIONS,
        "schedule": SCHEDULES,
        "optimizer": OPTIMIZERS,
    }
    rules: ClassVar[Mapping[str, Rule]] = {
        **SHARED_RULES,
        "unlabelled": Instance((int, float, str, type(None)), 'a label, "auto" or None'),
        "n_neighbors": Whole(1),
    }

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit to rows, in any form that `Autoencoder` accepts, and their labels, (n,). Earlier results are discarded.

        Parameters
        ----------
        X, y
            Rows and labels; -1 for a row without a label, see `unlabelled`. Of more than 100,000 rows, those with a
            label and a random part of the others are used.
        sample_weight
            Weight of each row in the cross-entropy, (n,), >= 0; only ratios matter. None: equal weights. An unfitted
            encoder is fitted with equal weights, to rows without a label too.

        Raises
        ------
        ValueError
            A parameter is invalid; labels are missing (NaN) or not one for each row; no row has a label, or there are
            rows without a label and all others are of one class.
        """
        refuse(broken_rules(self, self.rules))
        labels = _checked_labels(self, y)
        missing = unlabelled_rows(labels, self.unlabelled)
        require_labels(labels, missing, self.unlabelled)
        encoder, classes, plan = fitted_encoder(self, X), np.unique(labels[~missing]), self._plan()
        rows = _labelled(encoder, X, np.where(missing, classes[0], labels), sample_weight, classes)
        if missing.any():
            rows = with_guesses(encoder, rows, missing, plan)
        self.fitted_ = fit_classifier(encoder, classes, rows, plan)
        return self

    def partial_fit(
        self, X: Any, y: ArrayLike, classes: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Continue training: one pass over these rows at a constant learning rate.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        classes
            All labels that will occur, needed on the first call unless y contains all. An unfitted encoder is fitted to
            the rows of the first call. Every row needs a label.

        Raises
        ------
        ValueError
            y has a label that is not among the classes.
        """
        refuse(broken_rules(self, self.rules))
        labels = _checked_labels(self, y)
        if classes is None and not hasattr(self, "fitted_") and unlabelled_rows(labels, self.unlabelled).any():
            raise ValueError("y has rows without a label, which only fit takes; drop them, or pass unlabelled=None.")
        if not hasattr(self, "fitted_"):
            encoder, known = fitted_encoder(self, X), np.unique(labels if classes is None else np.asarray(classes))
            self.fitted_ = fit_pass(encoder, known, _labelled(encoder, X, labels, sample_weight, known), self._plan())
            return self
        if classes is not None and not np.array_equal(np.unique(np.asarray(classes)), self.classes_):
            raise ValueError(
                f"classes={classes!r} are not those of the first call, {self.classes_}; omit the argument."
            )
        rows = _labelled(self.encoder_, X, labels, sample_weight, self.classes_)
        self.fitted_ = continued(self.fitted_, rows, self._plan())
        return self

    def _plan(self) -> Plan:
        """The training settings, with ``"auto"`` and the names of choices resolved."""
        return Plan(
            fine_tune=self.fine_tune,
            n_neighbors=self.n_neighbors,
            freeze=self.freeze,
            layer_decay=float(self.layer_decay),
            corruption=None if self.corruption is None else CORRUPTIONS.resolve(self.corruption),
            dropout=self.dropout,
            max_epochs=None if is_auto(self.max_epochs) else int(self.max_epochs),
            batch_size=None if is_auto(self.batch_size) else int(self.batch_size),
            learning_rate=USUAL_RATE if is_auto(self.learning_rate) else float(self.learning_rate),
            schedule=SCHEDULES.resolve(self.schedule),
            optimizer=OPTIMIZERS.resolve(self.optimizer),
            patience=patience_of(self.early_stopping),
            validation_fraction=self.validation_fraction,
            seed=seed_from(self.random_state),
            verbose=bool(self.verbose),
        )

    # -- what was learned ------------------------------------------------------------------------------------------

    @property
    def encoder_(self) -> Autoencoder:
        """The fitted autoencoder before fine-tuning."""
        return self.fitted_.encoder

    @property
    def classes_(self) -> np.ndarray:
        """The labels, ascending, (classes,)."""
        return self.fitted_.classes

    @property
    def history_(self) -> History:
        """Losses and times of the training with labels."""
        return self.fitted_.history

    @property
    def objective_(self) -> Classified:
        """The trained encoder with its softmax layer."""
        return self.fitted_.objective

    @property
    def scaling_(self) -> Scaling:
        """The scaling of the encoder's rows."""
        return self.encoder_.scaling_

    @property
    def device_(self) -> str:
        """Where the model is."""
        return self.encoder_.device_

    @property
    def n_features_in_(self) -> int:
        """Number of features of a row."""
        n_features: int = self.encoder_.n_features_in_
        return n_features

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of the features, if the encoder was fitted on a frame."""
        names: np.ndarray = self.encoder_.feature_names_in_
        return names

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.three_d_array = True
        return tags

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class for each row, (n, classes)."""
        check_is_fitted(self, "fitted_")
        return whole(self, take(self.encoder_, X), Verb(_probabilities))

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """The log-probability of each class for each row, (n, classes); finite even for probabilities near 0."""
        check_is_fitted(self, "fitted_")
        return whole(self, take(self.encoder_, X), Verb(_log_probabilities))

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each row, (n,)."""
        probabilities = self.predict_proba(X)
        return np.asarray(self.classes_[probabilities.argmax(axis=1)])

    def _to_state(self) -> State:
        inner = self.encoder_._to_state()  # noqa: SLF001  # the state of the encoder is part of the file
        params = self.get_params(deep=False)
        given, given_arrays = persistence.keep_estimator(params.pop("encoder"), self.encoder_)
        corruption = self.objective_.choices.corruption
        values = ClassifierValues(
            params=params_json.params_to_json(params),
            encoder=EncoderValues(kind=inner.kind, values=dict(inner.values)),
            given=given,
            classes=persistence.labels_to_json(self.classes_),
            history=list(self.history_.rows),
            corruption=corruption and params_json.to_json(corruption),
            frozen=tuple(name for name, each in self.objective_.named_parameters() if not each.requires_grad),
        )
        arrays = {
            **grouped(persistence.weights(self.objective_), "tuned."),
            **grouped(inner.arrays, "encoder."),
            **grouped(given_arrays, "given."),
        }
        return pack(type(self).__name__, values, arrays, DECLARED)

    def _run_state(self) -> tuple[Json, dict[str, np.ndarray]]:
        values, arrays = run_of(self.encoder_, "encoder")
        return values, arrays | as_arrays(self.fitted_.optimizer_state, "optimizer.")

    def _put_run_state(self, values: Json, arrays: Arrays) -> None:
        put_run_of(self.encoder_, "encoder", values, arrays)
        self.objective_.context = self.encoder_.objective_.context
        self.fitted_ = replace(self.fitted_, optimizer_state=as_tensors(arrays, "optimizer."))

    def _learned_members(self) -> Iterable[Any]:
        return (self.encoder_, self.objective_.choices.corruption) if hasattr(self, "fitted_") else ()

    @classmethod
    def _from_state(cls, state: State, *, network: Any = None, device: str = "auto") -> Self:
        values = unpack(state, ClassifierValues, DECLARED)
        params = {name: value for name, value in values.params.items() if name != "encoder"}
        model = params_json.make_estimator(cls, params)
        inner = State(values.encoder.kind, values.encoder.values, group(state.arrays, "encoder."))
        encoder = persistence.from_state(inner, network=network, device=device)
        given = group(state.arrays, "given.")
        model.encoder = persistence.kept_estimator(values.given, given, encoder, network, device)
        classes, dropout, decay = persistence.labels_of(values.classes), model.dropout, model.layer_decay
        corruption = None if values.corruption is None else params_json.decode(values.corruption, "corruption")
        objective = persistence.load_module(
            lambda: Classified(encoder.objective_, len(classes), corruption, dropout, decay),
            _placed(group(state.arrays, "tuned.")),
        )
        objective = objective.to(encoder.device_).eval()
        for name, parameter in objective.named_parameters():
            parameter.requires_grad_(name not in values.frozen)
        model.fitted_ = FittedClassifier(encoder, classes, objective, History(values.history))
        return model


class EncoderValues(Record, frozen=True):
    """The encoder in the file of a classifier."""

    kind: str
    values: Json


class ClassifierValues(Record, frozen=True):
    """The contents of a classifier's file besides arrays; older files lack the last three."""

    params: Json
    encoder: EncoderValues
    classes: persistence.Labels | list[str | int | float | bool]
    history: list[Losses]
    given: Json | None = None
    corruption: Json | None = None
    frozen: tuple[str, ...] = ()


HEAD = "head."
"""Prefix of the softmax layer's weights in isthmus 0.1; they are the decoder's now."""


def _placed(arrays: Arrays) -> dict[str, np.ndarray]:
    """The weights by their present names."""
    return {
        f"decoder.0.{name.removeprefix(HEAD)}" if name.startswith(HEAD) else name: array
        for name, array in arrays.items()
    }


DECLARED = {"tuned.*": Numbers("fiub"), "encoder.*": Numbers("fiub"), "given.*": Numbers("fiub")}


def _checked_labels(estimator: EncoderClassifier, y: ArrayLike | None) -> np.ndarray:
    """Labels as an array, (n,)."""
    if y is None:
        name = type(estimator).__name__
        raise ValueError(f"{name} requires y to be passed, but the target y is None; pass labels.")
    labels: np.ndarray = column_or_1d(np.asarray(y), warn=True)
    if labels.dtype.kind == "f":
        assert_all_finite(labels, input_name="y")
    check_classification_targets(labels)
    return labels


def fitted_encoder(estimator: Any, X: Any) -> Autoencoder:
    """A copy of the estimator's encoder, fitted on X if it is not fitted yet."""
    encoder = estimator.encoder
    encoder = Autoencoder(random_state=estimator.random_state) if encoder is None else encoder
    if not isinstance(encoder, Autoencoder) or encoder.conditional:
        raise TypeError(f"encoder={encoder!r} must be an Autoencoder that is not conditional.")
    if hasattr(encoder, "objective_"):
        return copy.deepcopy(encoder)
    fresh: Autoencoder = clone(encoder)
    return fresh.fit(X)


def _labelled(
    encoder: Autoencoder, X: Any, labels: np.ndarray, sample_weight: ArrayLike | None, classes: np.ndarray
) -> Labelled:
    """Checked rows with the index of each label, and weights with a mean of one."""
    source = take(encoder, X, min_rows=2).source
    if len(labels) != source.n_rows:
        raise ValueError(f"y has {len(labels)} labels, but X has {source.n_rows} rows; pass one label per row.")
    weights = None
    if sample_weight is not None:
        checked = np.asarray(_check_sample_weight(sample_weight, labels, dtype=np.float64, ensure_non_negative=True))
        weights = checked / checked.mean()
    return Labelled(source, _numbers(labels, classes), weights)


def _numbers(labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The index of each label among the classes, (n,)."""
    unseen = sorted(set(labels.tolist()) - set(classes.tolist()), key=str)
    if unseen:
        raise ValueError(
            f"y contains {unseen[0]!r}, which is not among the classes "
            f"{', '.join(map(str, classes[:10]))}; pass all labels to the first partial_fit as classes=[…], "
            "or fit again."
        )
    return np.searchsorted(classes, labels)


def _probabilities(model: EncoderClassifier, x: Tensor) -> Tensor:
    return _logits(model, x).softmax(1)


def _log_probabilities(model: EncoderClassifier, x: Tensor) -> Tensor:
    return _logits(model, x).log_softmax(1)


def _logits(model: EncoderClassifier, x: Tensor) -> Tensor:
    objective = model.objective_.as_dtype(x.dtype)
    assert isinstance(objective, Classified)
    return objective.logits(x)
