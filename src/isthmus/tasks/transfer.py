"""Transfer learning: a classifier on a pretrained encoder."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d
from torch import Tensor, nn

from isthmus.choices import CORRUPTIONS, ByColumn, CategoricalCrossEntropy, Corruption, Plain
from isthmus.choices.layers import activation_name, blank
from isthmus.choices.parameters import Parameters
from isthmus.choices.precision import single_precision
from isthmus.choices.registry import Registry
from isthmus.choices.rules import Number, OneOf, Rule, Whole, broken_rules, either
from isthmus.data import LabelledSource
from isthmus.estimators import Autoencoder, params_json, persistence
from isthmus.estimators.defaults import batch_size_for, max_epochs_for
from isthmus.estimators.feeds import make_feed, split_rows
from isthmus.estimators.fit_warnings import report_trouble
from isthmus.estimators.fitting import patience_of, refuse
from isthmus.estimators.inference import Verb, whole
from isthmus.estimators.validation import Given, take
from isthmus.files.model_file import State, write_state
from isthmus.files.records import Arrays, Json, Numbers, Record, group, grouped, pack, unpack
from isthmus.seeds import seed_from
from isthmus.training import (
    OPTIMIZERS,
    SCHEDULES,
    Choices,
    History,
    LossParts,
    Objective,
    ProgressBar,
    Run,
    Settings,
    train,
)
from isthmus.training.batches import Loader
from isthmus.training.checkpoint import continue_from
from isthmus.training.loop import optimizer_state

AUTO: Rule = OneOf(("auto",))


@dataclass(eq=False, repr=False, kw_only=True)
class EncoderClassifier(Parameters, ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier on a pretrained encoder, fine-tuned with labels (Hinton & Salakhutdinov 2006).

    A softmax layer is added on top of the code, and both are trained on the cross-entropy of the labels.

    Parameters
    ----------
    encoder
        A fitted `Autoencoder`, which is copied and not changed; or an unfitted one, which is first fitted on X. None:
        ``Autoencoder()``.
    fine_tune
        Whether the encoder is trained too; False trains only the softmax layer.
    corruption
        Damage to the input in training, such as ``"masking"``; reduces over-fitting.
    dropout
        Fraction of hidden activations set to zero in training (Srivastava et al. 2014), in [0, 1).
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
    corruption: Any = None
    dropout: float = 0.0
    max_epochs: int | str = "auto"
    batch_size: int | str = "auto"
    learning_rate: float | str = "auto"
    schedule: Any = "one-cycle"
    optimizer: Any = "adamw"
    early_stopping: int | bool = False
    validation_fraction: float = 0.1
    random_state: Any = None
    verbose: int | bool = 0

    choice_registries: ClassVar[Mapping[str, Registry[Any]]] = {
        "corruption": CORRUPTIONS,
        "schedule": SCHEDULES,
        "optimizer": OPTIMIZERS,
    }
    rules: ClassVar[Mapping[str, Rule]] = {
        "fine_tune": OneOf((True, False)),
        "dropout": Number(0.0, 1.0, open_high=True),
        "max_epochs": either(Whole(1), AUTO),
        "batch_size": either(Whole(1), AUTO),
        "learning_rate": either(Number(0.0, open_low=True), AUTO),
        "early_stopping": either(Whole(1), OneOf((True, False))),
        "validation_fraction": Number(0.0, 1.0, open_low=True, open_high=True),
    }

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit to rows, in any form that `Autoencoder` accepts, and their labels, (n,). Earlier results are discarded.

        Parameters
        ----------
        X, y
            Rows and labels.
        sample_weight
            Weight of each row in the cross-entropy, (n,), >= 0; only ratios matter. None: equal weights. An unfitted
            encoder is fitted with equal weights.
        """
        refuse(broken_rules(self, self.rules))
        labels = self._checked(y)
        self._begin(X, np.unique(labels))
        given, weights = self._rows(X, labels, sample_weight)
        self._train(self._prepare(given, self._numbers(labels), weights))
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Continue training: one pass over these rows at a constant learning rate.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        classes
            All labels that will occur, needed on the first call unless y contains all. An unfitted encoder is fitted to
            the rows of the first call.

        Raises
        ------
        ValueError
            y has a label that is not among the classes.
        """
        refuse(broken_rules(self, self.rules))
        labels = self._checked(y)
        first = not hasattr(self, "objective_")
        if first:
            self._begin(X, np.unique(labels if classes is None else np.asarray(classes)))
        elif classes is not None and not np.array_equal(np.unique(np.asarray(classes)), self.classes_):
            raise ValueError(
                f"classes={classes!r} are not those of the first call, {self.classes_}; omit the argument."
            )
        given, weights = self._rows(X, labels, sample_weight)
        run = self._prepare(given, self._numbers(labels), weights, more=True)
        if not first:
            continue_from(run, self.history_, self.optimizer_state_)
        self._train(run)
        return self

    def _checked(self, y: Any) -> np.ndarray:
        labels: np.ndarray = column_or_1d(np.asarray(y) if y is not None else self._no_labels(), warn=True)
        if labels.dtype.kind == "f":
            assert_all_finite(labels, input_name="y")
        check_classification_targets(labels)
        return labels

    def _begin(self, X: Any, classes: np.ndarray) -> None:
        """Set up the encoder, and discard what was learned from labels."""
        for name in ("objective_", "history_", "optimizer_state_", "feature_names_in_"):
            self.__dict__.pop(name, None)
        self.encoder_ = self._fitted_encoder(X)
        self.classes_, self.n_features_in_ = classes, self.encoder_.n_features_in_
        if hasattr(self.encoder_, "feature_names_in_"):
            self.feature_names_in_ = self.encoder_.feature_names_in_

    def _rows(self, X: Any, labels: np.ndarray, sample_weight: Any) -> tuple[Given, np.ndarray | None]:
        """Rows and their weights, which have a mean of one."""
        given = take(self.encoder_, X, min_rows=2)
        if len(labels) != given.source.n_rows:
            raise ValueError(
                f"y has {len(labels)} labels, but X has {given.source.n_rows} rows; pass one label per row."
            )
        if sample_weight is None:
            return given, None
        weights = np.asarray(_check_sample_weight(sample_weight, labels, dtype=np.float64, ensure_non_negative=True))
        return given, weights / weights.mean()

    def _numbers(self, labels: np.ndarray) -> np.ndarray:
        unseen = sorted(set(labels.tolist()) - set(self.classes_.tolist()), key=str)
        if unseen:
            raise ValueError(
                f"y contains {unseen[0]!r}, which is not among the classes "
                f"{', '.join(map(str, self.classes_[:10]))}; pass all labels to the first partial_fit as classes=[…], "
                "or fit again."
            )
        return np.searchsorted(self.classes_, labels)

    def _train(self, run: Run) -> None:
        train(run)
        report_trouble(run)
        self.objective_, self.history_, self.optimizer_state_ = run.objective, run.history, optimizer_state(run)
        self.scaling_, self.device_ = self.encoder_.scaling_, self.encoder_.device_

    def _no_labels(self) -> Any:
        raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None; pass labels.")

    def _fitted_encoder(self, X: Any) -> Autoencoder:
        encoder = Autoencoder(random_state=self.random_state) if self.encoder is None else self.encoder
        if not isinstance(encoder, Autoencoder) or encoder.conditional:
            raise TypeError(f"encoder={encoder!r} must be an Autoencoder that is not conditional.")
        return copy.deepcopy(encoder) if hasattr(encoder, "objective_") else clone(encoder).fit(X)

    def _prepare(self, given: Given, numbers: np.ndarray, weights: np.ndarray | None, *, more: bool = False) -> Run:
        """A run over labelled rows; with `more`, one more pass at a constant learning rate."""
        seed = seed_from(self.random_state)
        if hasattr(self, "objective_"):
            return self._over(given, numbers, weights, self.objective_, seed + len(self.history_), more=more)
        corruption = None if self.corruption is None else CORRUPTIONS.resolve(self.corruption)
        objective = Classified(self.encoder_.objective_, len(self.classes_), corruption, self.dropout)
        objective.to(self.encoder_.device_)
        if not self.fine_tune:
            objective.encoder.requires_grad_(requires_grad=False)
        return self._over(given, numbers, weights, objective, seed, more=more)

    def _over(
        self,
        given: Given,
        numbers: np.ndarray,
        weights: np.ndarray | None,
        objective: Objective,
        seed: int,
        *,
        more: bool,
    ) -> Run:
        source = LabelledSource(given.source, numbers, len(self.classes_), weights)
        scaling = self.encoder_.scaling_.extended(self.encoder_.n_features_in_, len(self.classes_))
        loader = Loader(scaling, torch.device(self.encoder_.device_))
        share = self.validation_fraction if self.early_stopping and not more else 0.0
        rows, held_out = split_rows(source.n_rows, share, seed)
        settings = self._settle(len(rows), seed)
        if more:
            n_epochs = len(self.history_) + 1 if hasattr(self, "history_") else 1
            settings = replace(settings, max_epochs=n_epochs, patience=None, schedule=SCHEDULES.resolve("constant"))
        validation = make_feed(source, held_out, loader, 1024) if len(held_out) else None
        shown = [ProgressBar()] if self.verbose else []
        return Run(objective, settings, make_feed(source, rows, loader, settings.batch_size), validation, shown)

    def _settle(self, n_rows: int, seed: int) -> Settings:
        asked = None if self.max_epochs == "auto" else int(self.max_epochs)
        batch_size = min(n_rows, batch_size_for(n_rows, asked) if self.batch_size == "auto" else int(self.batch_size))
        return Settings(
            max_epochs=asked or max_epochs_for(n_rows, batch_size),
            batch_size=batch_size,
            learning_rate=1e-3 if self.learning_rate == "auto" else float(self.learning_rate),
            schedule=SCHEDULES.resolve(self.schedule),
            optimizer=OPTIMIZERS.resolve(self.optimizer),
            patience=patience_of(self.early_stopping),
            seed=seed,
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.three_d_array = True
        return tags

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class for each row, (n, classes)."""
        check_is_fitted(self, "objective_")
        return whole(self, take(self.encoder_, X), Verb(_probabilities))

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """The log-probability of each class for each row, (n, classes); finite even for probabilities near 0."""
        check_is_fitted(self, "objective_")
        return whole(self, take(self.encoder_, X), Verb(_log_probabilities))

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each row, (n,)."""
        probabilities = self.predict_proba(X)
        return np.asarray(self.classes_[probabilities.argmax(axis=1)])

    def save(self, path: str | Path) -> Path:
        """Write the classifier to one file atomically; `isthmus.load` reads it."""
        check_is_fitted(self, "objective_")
        inner = self.encoder_._to_state()  # noqa: SLF001  # the state of the encoder is part of the file
        params = self.get_params(deep=False)
        given, given_arrays = persistence.keep_estimator(params.pop("encoder"), self.encoder_)
        values = ClassifierValues(
            params=params_json.params_to_json(params),
            encoder=EncoderValues(kind=inner.kind, values=dict(inner.values)),
            given=given,
            classes=persistence.labels_to_json(self.classes_),
            history=list(self.history_.rows),
        )
        arrays = {
            **grouped(persistence.weights(self.objective_), "tuned."),
            **grouped(inner.arrays, "encoder."),
            **grouped(given_arrays, "given."),
        }
        return write_state(path, pack(type(self).__name__, values, arrays, DECLARED))

    @classmethod
    def _from_state(cls, state: State, *, network: Any = None, device: str = "auto") -> Self:
        values = unpack(state, ClassifierValues, DECLARED)
        params = {name: value for name, value in values.params.items() if name != "encoder"}
        model = params_json.make_estimator(cls, params)
        inner = State(values.encoder.kind, values.encoder.values, group(state.arrays, "encoder."))
        model.encoder_ = persistence.from_state(inner, network=network, device=device)
        given = group(state.arrays, "given.")
        model.encoder = persistence.kept_estimator(values.given, given, model.encoder_, network, device)
        model.classes_, model.history_ = persistence.labels_of(values.classes), History(values.history)
        model.n_features_in_ = model.encoder_.n_features_in_
        if hasattr(model.encoder_, "feature_names_in_"):
            model.feature_names_in_ = model.encoder_.feature_names_in_
        trained, n_classes = model.encoder_.objective_, len(model.classes_)
        objective = persistence.load_module(
            lambda: Classified(trained, n_classes, None, model.dropout), _placed(group(state.arrays, "tuned."))
        )
        model.objective_ = objective.to(model.encoder_.device_).eval()
        model.scaling_, model.device_ = model.encoder_.scaling_, model.encoder_.device_
        return model


class EncoderValues(Record, frozen=True):
    """The encoder in the file of a classifier."""

    kind: str
    values: Json


class ClassifierValues(Record, frozen=True):
    """The contents of a classifier's file besides arrays; format 1 has no `given` encoder."""

    params: Json
    encoder: EncoderValues
    classes: persistence.Labels | list[str | int | float | bool]
    history: list[dict[str, float]]
    given: Json | None = None


HEAD = "head."
"""Prefix of the softmax layer's weights in isthmus 0.1; they are the decoder's now."""


def _placed(arrays: Arrays) -> dict[str, np.ndarray]:
    """The weights by their present names."""
    return {
        f"decoder.0.{name.removeprefix(HEAD)}" if name.startswith(HEAD) else name: array
        for name, array in arrays.items()
    }


DECLARED = {"tuned.*": Numbers("fiub"), "encoder.*": Numbers("fiub"), "given.*": Numbers("fiub")}


def _probabilities(model: Any, x: Tensor) -> Tensor:
    return model.objective_.as_dtype(x.dtype).logits(x).softmax(1)  # type: ignore[no-any-return]


def _log_probabilities(model: Any, x: Tensor) -> Tensor:
    return model.objective_.as_dtype(x.dtype).logits(x).log_softmax(1)  # type: ignore[no-any-return]


class Classified(Objective):
    """An encoder and a code with a softmax layer as decoder; the objective is the cross-entropy of labels.

    A row of a batch is the row, (d,), followed by its one-hot label times the weight of the row, (classes,).

    Parameters
    ----------
    trained
        The objective whose encoder and code are copied.
    n_classes
        Number of labels.
    corruption
        Damage to rows in training.
    dropout
        Fraction of hidden activations set to zero in training.
    """

    def __init__(self, trained: Objective, n_classes: int, corruption: Corruption | None, dropout: float) -> None:
        context = trained.context
        loss = ByColumn(((CategoricalCrossEntropy(), n_classes),))  # one column: mean over rows, not over classes
        choices = Choices(
            trained.choices.network, trained.choices.code, loss, corruption and corruption.resolve(context)
        )
        with single_precision():
            head = blank(nn.Linear, context.code_size, n_classes)
        assert isinstance(head, nn.Linear)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        networks = copy.deepcopy(trained.encoder), nn.Sequential(head)
        super().__init__(choices, context, networks=networks, code=copy.deepcopy(trained.code))
        self.n_classes, self.dropout = n_classes, dropout

    @property
    def row_width(self) -> int:
        return self.context.n_features + self.n_classes

    @property
    def follows_choices(self) -> bool:
        """Dropout is no choice, and a code that draws or learns from batches is used as it was learned."""
        return not self.dropout and isinstance(self.choices.code, Plain)

    def given_and_target(self, x: Tensor) -> tuple[Tensor, Tensor]:
        given, labels = x.split([self.context.n_features, self.n_classes], dim=1)
        return given, labels

    def filled(self, x: Tensor) -> Tensor:
        """Zeros for missing entries, as the encoder that was trained with them was given."""
        return x.nan_to_num()

    def corrupt(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Rows with corruption in training only: a validation loss is of rows as they come in use."""
        return super().corrupt(x, generator) if self.training else x

    def logits(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Unnormalised log-probabilities: (n, d) → (n, classes)."""
        h = self.filled(x)
        for layer in self.encoder.children() if isinstance(self.encoder, nn.Sequential) else [self.encoder]:
            h = layer(h)
            if self.training and self.dropout and activation_name(layer):
                keep = torch.rand(h.shape, generator=generator, device=h.device) >= self.dropout
                h = h * keep / (1 - self.dropout)
        answer: Tensor = self.decoder(self.code.deterministic(h))
        return answer

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> LossParts:
        """The cross-entropy of a batch of rows followed by weighted one-hot labels, (n, d + classes)."""
        given, labels = self.given_and_target(x)
        loss = self.choices.loss.mean(self.logits(self.corrupt(self.filled(given), generator), generator), labels)
        return LossParts(loss, loss, x.new_zeros(()), x.new_zeros(()))
