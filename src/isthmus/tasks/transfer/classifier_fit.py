"""Fitting of the classifier: an encoder that was trained without labels is trained with them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from isthmus.choices import Corruption
from isthmus.data import LabelledSource, Source
from isthmus.data.sources import RowsSource
from isthmus.estimators import Autoencoder
from isthmus.estimators.defaults import batch_size_for, max_epochs_for
from isthmus.estimators.feeds import make_feed, split_rows
from isthmus.estimators.fit_warnings import report_trouble
from isthmus.exceptions import DataError
from isthmus.tasks.transfer.labelled_objective import Classified
from isthmus.tasks.transfer.spreading import graph_rows, spread_labels
from isthmus.training import SCHEDULES, History, ProgressBar, Run, Settings, train
from isthmus.training.batches import Loader
from isthmus.training.checkpoint import continue_from
from isthmus.training.loop import optimizer_state
from isthmus.training.schedule import Optimizer, Schedule

ROWS_PER_VALIDATION_BATCH = 1024


@dataclass(frozen=True)
class Labelled:
    """Rows with labels.

    Attributes
    ----------
    source
        The rows.
    numbers
        The index of each label among the classes, (n,).
    weights
        The weight of each row, (n,), with a mean of one; None for equal weights.
    """

    source: Source
    numbers: np.ndarray
    weights: np.ndarray | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Training settings.

    Attributes
    ----------
    max_epochs, batch_size
        As for `EncoderClassifier`; None: chosen for the number of rows.
    patience
        Epochs without a better validation loss after which training stops; None: never.
    fine_tune, freeze, layer_decay, corruption, dropout, learning_rate, schedule, optimizer, validation_fraction
        As for `EncoderClassifier`.
    n_neighbors
        Neighbours of each code in the graph over which labels spread.
    seed
        Seed of all random draws.
    verbose
        Whether progress is shown.
    """

    fine_tune: bool
    freeze: int
    layer_decay: float
    corruption: Corruption | None
    dropout: float
    max_epochs: int | None
    batch_size: int | None
    learning_rate: float
    schedule: Schedule
    optimizer: Optimizer
    patience: int | None
    validation_fraction: float
    n_neighbors: int
    seed: int
    verbose: bool


@dataclass(frozen=True)
class FittedClassifier:
    """What was learned.

    Attributes
    ----------
    encoder
        The autoencoder before fine-tuning.
    classes
        The labels, ascending, (classes,).
    objective
        The trained encoder with its softmax layer.
    history
        Losses and times of the training with labels.
    optimizer_state
        Running means of the optimizer, by name, with which training continues; empty for a model from a file.
    """

    encoder: Autoencoder
    classes: np.ndarray
    objective: Classified
    history: History
    optimizer_state: Mapping[str, Tensor] = field(default_factory=dict)


def with_guesses(encoder: Autoencoder, rows: Labelled, missing: np.ndarray, plan: Plan) -> Labelled:
    """Rows with labels in place of the missing ones, each with the weight that it deserves."""
    kept = graph_rows(missing, plan.seed)
    source = rows.source if len(kept) == len(missing) else RowsSource(rows.source, kept)
    codes = np.asarray(encoder.transform(source))
    if not np.isfinite(codes).all():
        raise DataError("The codes contain NaN or infinite values; the weights of the encoder are damaged.")
    numbers = np.where(missing, -1, rows.numbers)[kept]
    weights = None if rows.weights is None else rows.weights[kept]
    if weights is not None and not weights[numbers >= 0].any():
        raise DataError("Every row with a label has weight 0; give at least one of them a weight above 0.")
    found = spread_labels(codes, numbers, plan.n_neighbors, weights)
    counted = found.confidence if weights is None else found.confidence * weights
    return Labelled(source, found.numbers, counted / counted.mean())


def fit_classifier(encoder: Autoencoder, classes: np.ndarray, rows: Labelled, plan: Plan) -> FittedClassifier:
    """Fit to rows with labels."""
    objective = _fresh(encoder, len(classes), plan)
    settings = _settings(rows, plan, plan.validation_fraction if plan.patience is not None else 0.0)
    return _trained(encoder, classes, _run(encoder, objective, rows, settings, plan))


def fit_pass(encoder: Autoencoder, classes: np.ndarray, rows: Labelled, plan: Plan) -> FittedClassifier:
    """One pass over rows with labels, at a constant learning rate."""
    objective = _fresh(encoder, len(classes), plan)
    return _trained(encoder, classes, _run(encoder, objective, rows, _pass_settings(rows, plan, 1), plan))


def continued(fitted: FittedClassifier, rows: Labelled, plan: Plan) -> FittedClassifier:
    """One more pass at a constant learning rate; the given model does not change."""
    n_epochs = len(fitted.history)
    plan = replace(plan, seed=plan.seed + n_epochs)
    settings = _pass_settings(rows, plan, n_epochs + 1)
    run = _run(fitted.encoder, copy.deepcopy(fitted.objective), rows, settings, plan)
    continue_from(run, fitted.history, fitted.optimizer_state)
    return _trained(fitted.encoder, fitted.classes, run)


def _fresh(encoder: Autoencoder, n_classes: int, plan: Plan) -> Classified:
    objective = Classified(encoder.objective_, n_classes, plan.corruption, plan.dropout, plan.layer_decay)
    objective.freeze(plan.freeze if plan.fine_tune else None)
    return objective.to(encoder.device_)


@dataclass(frozen=True)
class _Settings:
    """Settings of a run, with its training rows and the rows held out for early stopping."""

    training: Settings
    rows: np.ndarray
    held_out: np.ndarray


def _settings(rows: Labelled, plan: Plan, held_out_share: float) -> _Settings:
    given, held_out = split_rows(rows.source.n_rows, held_out_share, plan.seed)
    n_rows = len(given)
    batch_size = min(n_rows, plan.batch_size or batch_size_for(n_rows, plan.max_epochs))
    training = Settings(
        max_epochs=plan.max_epochs or max_epochs_for(n_rows, batch_size),
        batch_size=batch_size,
        learning_rate=plan.learning_rate,
        schedule=plan.schedule,
        optimizer=plan.optimizer,
        patience=plan.patience,
        seed=plan.seed,
    )
    return _Settings(training, given, held_out)


def _pass_settings(rows: Labelled, plan: Plan, n_epochs: int) -> _Settings:
    """Settings of a run that ends after so many epochs, of which all but the last are already done."""
    usual = _settings(rows, plan, 0.0)
    training = replace(usual.training, max_epochs=n_epochs, patience=None, schedule=SCHEDULES.resolve("constant"))
    return replace(usual, training=training)


def _run(encoder: Autoencoder, objective: Classified, rows: Labelled, settings: _Settings, plan: Plan) -> Run:
    source = LabelledSource(rows.source, rows.numbers, objective.n_classes, rows.weights)
    scaling = encoder.scaling_.extended(encoder.n_features_in_, objective.n_classes)
    loader = Loader(scaling, torch.device(encoder.device_))
    feed = make_feed(source, settings.rows, loader, settings.training.batch_size)
    held_out = settings.held_out
    validation = make_feed(source, held_out, loader, ROWS_PER_VALIDATION_BATCH) if len(held_out) else None
    return Run(objective, settings.training, feed, validation, [ProgressBar()] if plan.verbose else [])


def _trained(encoder: Autoencoder, classes: np.ndarray, run: Run) -> FittedClassifier:
    train(run)
    report_trouble(run)
    assert isinstance(run.objective, Classified)
    return FittedClassifier(encoder, classes, run.objective, run.history, optimizer_state(run))
