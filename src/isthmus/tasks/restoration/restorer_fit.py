"""Fitting of the restorer: the common training loop on random crops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from isthmus.choices import UNet
from isthmus.choices.corruptions import Corruption
from isthmus.choices.losses import Loss
from isthmus.choices.precision import single_precision
from isthmus.estimators.fit_warnings import report_trouble
from isthmus.tasks.restoration.crops import CropFeed, Lesson
from isthmus.tasks.restoration.objective import Restoring
from isthmus.tasks.restoration.pictures import Range
from isthmus.tasks.restoration.tiles import Tiling, restore_alike, same_shape_runs
from isthmus.training import History, ProgressBar, Run, Settings, train
from isthmus.training.schedule import Optimizer, Schedule

CORRECTED_STEPS, CORRECTED_RATE = 0.2, 0.35
"""The share of the steps that learn from corrected targets, and the peak of their learning rate as a share of the first
one."""
TILE = 512
"""Height and width of the tiles in which they are denoised; results do not depend on it."""
MOST_DENOISED = 2**26
"""Pixels of noisy images that are denoised for corrected targets: about a minute of one core."""
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
    """Learn from crops of images.

    From noisy images alone the last part of the steps learns from targets that the network of the first part corrects:
    see `noisy_pair`.
    """
    objective = fresh_objective(lesson, plan).to(device)
    n_corrected = int(CORRECTED_STEPS * plan.max_steps) if lesson.alone else 0
    run = _trained(objective, lesson, replace(plan, max_steps=plan.max_steps - n_corrected), device)
    report_trouble(run)
    fitted = FittedRestorer(objective.eval(), run.history, run.stop_reason)
    if not n_corrected or run.stop_reason != "finished":
        return fitted
    rate, seed = CORRECTED_RATE * plan.learning_rate, plan.seed + 1  # other crops than before
    last = replace(plan, max_steps=n_corrected, learning_rate=rate, seed=seed)
    corrected = denoised_lesson(lesson, objective, plan.seed)
    run = _trained(objective.train(), corrected, last, device)
    report_trouble(run)
    rows = [{**row, "epoch": len(fitted.history) + row["epoch"]} for row in run.history]
    return FittedRestorer(objective.eval(), History([*fitted.history, *rows]), run.stop_reason)


def _trained(objective: Restoring, lesson: Lesson, plan: Plan, device: torch.device) -> Run:
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
    return train(Run(objective, settings, feed, callbacks=[ProgressBar()] if plan.verbose else []))


def denoised_lesson(lesson: Lesson, objective: Restoring, seed: int) -> Lesson:
    """Noisy images, in random order up to `MOST_DENOISED` pixels, with their denoised versions."""
    order = torch.randperm(len(lesson.given), generator=torch.Generator().manual_seed(seed)).tolist()
    n_pixels = np.cumsum([math.prod(lesson.given[place].shape[:2]) for place in order])
    chosen = [lesson.given[place] for place in order[: max(1, int((n_pixels <= MOST_DENOISED).sum()))]]
    restored = restored_images(objective, chosen, lesson.given_range)
    return replace(lesson, given=chosen, wanted=restored, wanted_range=Range(0.0, 1.0))


@torch.inference_mode()
def restored_images(objective: Restoring, images: Sequence[np.ndarray], unit: Range) -> list[np.ndarray]:
    """Images, (h, w, c) each, restored by an objective that keeps their size, in its numbers."""
    device = next(objective.parameters()).device
    found = list[np.ndarray]()
    with single_precision():
        for run in same_shape_runs(images):
            found += restore_alike(
                lambda x: objective.choices.loss.link(objective.pictures(x)),
                images[run],
                lambda pixels: unit.scaled(pixels).movedim(-1, 1).to(device),
                tiling_of(objective, TILE),
            )
    return found


def tiling_of(objective: Restoring, tile: int) -> Tiling:
    """Tiles of the given side whose margins hold all that the network looks at."""
    network, scale = objective.choices.network, objective.pictures.scale
    assert isinstance(network, UNet)
    margin = -(-network.receptive_radius // scale) + 3  # bicubic interpolation looks two pixels further
    return Tiling(tile, margin, network.stride, scale)


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
