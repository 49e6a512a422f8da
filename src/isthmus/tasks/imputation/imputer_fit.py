"""Fitting of the imputer: a linear part, and autoencoders whose weight is selected on held-out rows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from isthmus.choices.precision import single_precision
from isthmus.data.tables import Schema
from isthmus.estimators.fit_warnings import report_trouble
from isthmus.exceptions import InterruptedWarning
from isthmus.tasks.imputation.linear_base import LinearFill, learn_linear
from isthmus.tasks.imputation.masked_objective import Restoring, as_given, hidden_copies, training_rows
from isthmus.training import OPTIMIZERS, SCHEDULES, ProgressBar, Run, Settings, train
from isthmus.training.batches import ResidentFeed

COPIES, FEWEST_COPIES, COPIES_OF_A_ROW = 20_000, 10_000, 20
"""Training rows with hidden cells: 20 copies of each row, at least 10,000 and at most 20,000 in all. Small tables are
filled as well with 10,000 as with 20,000; the 2,000 rows of ADBench's donors had an error of 0.764 with five copies
each and 0.738 with ten."""
PATIENCE = 3
SHARES = np.linspace(0.0, 1.0, 11)
"""Candidate weights of the autoencoders' part; 0 is selected if it does not help on held-out rows."""


@dataclass(frozen=True)
class Plan:
    """Training settings.

    Attributes
    ----------
    hidden_sizes, code_size, most_hidden, n_members, max_epochs, batch_size, learning_rate
        As for `Imputer`.
    seed
        Seed of all random draws.
    verbose
        Whether progress is shown.
    """

    hidden_sizes: Sequence[int]
    code_size: int
    most_hidden: float
    n_members: int
    max_epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    verbose: bool


@dataclass(frozen=True)
class FittedImputer:
    """The fitted model: maps encoded rows with missing cells to complete rows.

    Attributes
    ----------
    base
        The linear part as an objective whose autoencoder has weight 0.
    starts
        Position of the first feature of each column.
    linear
        The Gaussian distribution; None if there are too many features.
    members
        Autoencoders, whose predictions are averaged; empty if there is only one row.
    """

    base: Restoring
    starts: Sequence[int]
    linear: LinearFill | None
    members: Sequence[Restoring]

    @torch.inference_mode()
    def restore(self, x: Tensor) -> Tensor:
        """Predictions of all cells, with levels as probabilities: (n, d) with NaN → (n, d)."""
        given = as_given(x, self.starts, self.linear)
        return torch.stack([member.restored(given) for member in self.members or [self.base]]).mean(0)


def fit_imputer(schema: Schema, x: Tensor, plan: Plan) -> FittedImputer:
    """Fit to encoded rows, (n, d) with NaN."""
    generator = torch.Generator().manual_seed(plan.seed)
    linear, starts = learn_linear(x.double(), generator), column_starts(schema)
    if len(x) == 1:
        return FittedImputer(linear_base(schema), starts, linear, [])
    n_members = min(plan.n_members, len(x))
    n_copies = -(-min(COPIES, max(FEWEST_COPIES, COPIES_OF_A_ROW * len(x))) // len(x))
    owners = torch.zeros(schema.width, dtype=torch.long)
    for column, places in enumerate(schema.groups.values()):
        owners[list(places)] = column
    left, hidden = hidden_copies(x, owners, n_copies=n_copies, most=plan.most_hidden, generator=generator)
    rows = training_rows(as_given(left, starts, linear), hidden)
    fold = (torch.randperm(len(x), generator=generator) % max(2, n_members)).repeat(n_copies)
    members = list[Restoring]()
    for number in range(n_members):
        member, stopped = _member(schema, rows, fold == number, plan, number)
        members.append(member)
        if stopped:  # one Ctrl-C ends them all; the share that is taken of them is measured, however far they came
            told = f"Training was interrupted in member {number + 1} of {n_members}; the best weights so far are kept."
            warnings.warn(told, InterruptedWarning, stacklevel=3)
            break
    share = _best_share(schema, [(member, rows[fold == number]) for number, member in enumerate(members)])
    for member in members:
        member.share.copy_(share)
    return FittedImputer(linear_base(schema), starts, linear, members)


def column_starts(schema: Schema) -> list[int]:
    """Position of the first feature of each column."""
    return [places[0] for places in schema.groups.values()]


def linear_base(schema: Schema) -> Restoring:
    """The linear part as an objective whose autoencoder, of minimal size, has weight 0."""
    base = fresh_member(schema, (), 1, seed=0)
    base.share.zero_()
    return base


def fresh_member(
    schema: Schema, hidden_sizes: Sequence[int], code_size: int, *, seed: int, has_logits: bool = False
) -> Restoring:
    """An autoencoder that has not learned yet."""
    generator = torch.Generator().manual_seed(seed)
    with single_precision():
        return Restoring(schema, hidden_sizes, code_size, generator, has_logits=has_logits).eval()


def _member(schema: Schema, rows: Tensor, held_out: Tensor, plan: Plan, number: int) -> tuple[Restoring, bool]:
    """An autoencoder that learned from some rows and stopped by the others; and whether an interrupt stopped it."""
    settings = Settings(
        max_epochs=plan.max_epochs,
        batch_size=plan.batch_size,
        learning_rate=plan.learning_rate,
        schedule=SCHEDULES.resolve("one-cycle"),
        optimizer=OPTIMIZERS.resolve("adamw"),
        patience=PATIENCE,
        seed=plan.seed + number,
    )
    objective = fresh_member(schema, plan.hidden_sizes, plan.code_size, seed=plan.seed + number)
    feeds = ResidentFeed(rows[~held_out], plan.batch_size), ResidentFeed(rows[held_out], 1024)
    shown = [ProgressBar()] if plan.verbose else []
    run = train(Run(objective, settings, *feeds, shown, n_runs=plan.n_members))
    stopped = run.stop_reason == "interrupted"
    if not stopped:  # the caller warns once for all members
        report_trouble(run)
    return objective.eval(), stopped


@torch.inference_mode()
def _best_share(schema: Schema, pairs: Sequence[tuple[Restoring, Tensor]]) -> Tensor:
    """The weight of the autoencoders' part with the lowest loss on held-out rows, (d,), for numbers and for levels."""
    losses = torch.stack([_losses(*member.given_and_target(rows), member) for member, rows in pairs]).sum(0)
    best = torch.empty(schema.width)
    for one_hot in (False, True):
        places = [p for name, group in schema.groups.items() if schema[name].one_hot == one_hot for p in group]
        best[places] = float(SHARES[int(losses[:, places].sum(1).argmin())])
    return best


def _losses(given: Tensor, target: Tensor, member: Restoring) -> Tensor:
    """The summed squared error of each feature for each weight of the autoencoders' part, (shares, d)."""
    deep = member.added(given)
    return torch.stack([(share * deep - target).square().nansum(0) for share in SHARES.tolist()])
