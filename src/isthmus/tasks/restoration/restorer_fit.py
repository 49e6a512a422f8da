"""Fitting of the restorer: the common training loop on random crops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from isthmus.choices import UNet
from isthmus.choices.corruptions import Corruption
from isthmus.choices.losses import Loss
from isthmus.choices.precision import single_precision
from isthmus.estimators.fit_warnings import report_trouble
from isthmus.tasks.restoration.crops import CropFeed, Lesson
from isthmus.tasks.restoration.objective import Restoring
from isthmus.training import History, ProgressBar, Run, Settings, train
from isthmus.training.schedule import Optimizer, Schedule

STEPS_AN_EPOCH = 100
"""Steps per epoch: after each, the history gets a row and the best weights are kept. Random crops have no natural
epoch."""


@dataclass(frozen=True)
class Plan:
    """The resolved settings of a fit.

    Attributes
    ----------
    network, loss, corruption, side, n_given, n_wanted, residual
        As for `Restoring`.
    batch_size, max_steps, learning_rate, schedule, optimizer, precision, seed, verbose
        As for `Restorer`.
    turns
        The symmetries of `augment`.
    """

    network: UNet
    loss: Loss
    corruption: Corruption | None
    side: int
    n_given: int
    n_wanted: int
    residual: bool
    batch_size: int
    max_steps: int
    learning_rate: float
    schedule: Schedule
    optimizer: Optimizer
    precision: str
    turns: Sequence[int]
    seed: int
    verbose: bool


@dataclass(frozen=True)
class FittedRestorer:
    """The fitted objective, and the history of its training."""

    objective: Restoring
    history: History
    stop_reason: str


def fit_restorer(lesson: Lesson, plan: Plan, device: torch.device) -> FittedRestorer:
    """Learn from crops of images."""
    n_epochs = max(1, round(plan.max_steps / STEPS_AN_EPOCH))
    settings = Settings(
        max_epochs=n_epochs,
        batch_size=plan.batch_size,
        learning_rate=plan.learning_rate,
        schedule=plan.schedule,
        optimizer=plan.optimizer,
        precision=plan.precision,
        seed=plan.seed,
    )
    n_batches = -(-plan.max_steps // n_epochs)
    feed = CropFeed(lesson, plan.side, plan.batch_size, n_batches, device, turns=plan.turns)
    objective = fresh_objective(lesson, plan).to(device)
    run = train(Run(objective, settings, feed, callbacks=[ProgressBar()] if plan.verbose else []))
    report_trouble(run)
    return FittedRestorer(objective.eval(), run.history, run.stop_reason)


def fresh_objective(lesson: Lesson, plan: Plan) -> Restoring:
    """What has not learned yet."""
    with single_precision():
        return Restoring(
            plan.network,
            plan.loss,
            plan.corruption,
            side=plan.side,
            n_given=plan.n_given,
            n_wanted=plan.n_wanted,
            scale=lesson.scale,
            residual=plan.residual,
            paired=lesson.paired,
            generator=torch.Generator().manual_seed(plan.seed),
        )
