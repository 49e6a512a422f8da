"""How an imputer learns: a linear path, and autoencoders of different rows that add to it what holds on the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from isthmus.data.tables import Schema
from isthmus.estimators.fit_warnings import report_trouble
from isthmus.tasks.imputation.linear_base import LinearFill, learn_linear
from isthmus.tasks.imputation.masked_objective import Restoring, as_given, hidden_copies, training_rows
from isthmus.training import OPTIMIZERS, SCHEDULES, ProgressBar, Run, Settings
from isthmus.training.batches import ResidentFeed
from isthmus.training.parallel_runs import train_many

COPIES, FEWEST_COPIES, COPIES_OF_A_ROW = 20_000, 10_000, 20
"""Rows with hidden cells to train on: each row so many times, but at most and at least so many in all. Small tables
are filled as well with 10,000 as with 20,000; the 2,000 rows of ADBench's donors had an error of 0.764 with five copies
each and 0.738 with ten."""
PATIENCE = 3
SHARES = np.linspace(0.0, 1.0, 11)
"""What may be taken of the autoencoders' part; none where they do not help on rows they did not learn from."""


@dataclass(frozen=True)
class Plan:
    """How to train.

    Attributes
    ----------
    hidden_sizes, code_size, most_hidden, n_members, max_epochs, batch_size, learning_rate
        As for `Imputer`.
    seed
        Of all draws.
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
    """What was learned: encoded rows in, the same without holes out.

    Attributes
    ----------
    base
        The linear path as an objective whose autoencoder has no part.
    starts
        The first number of each column.
    linear
        The normal distribution; None where there are too many numbers for it.
    members
        Autoencoders beside it, whose predictions are averaged; there are none where there is one row.
    """

    base: Restoring
    starts: Sequence[int]
    linear: LinearFill | None
    members: Sequence[Restoring]

    @torch.inference_mode()
    def restore(self, x: Tensor) -> Tensor:
        """Every cell as the others lead one to expect it, levels as probabilities: (n, d) with NaN → (n, d)."""
        given = as_given(x, self.starts, self.linear)
        return torch.stack([member.restored(given) for member in self.members or [self.base]]).mean(0)


def fit_imputer(schema: Schema, x: Tensor, plan: Plan) -> FittedImputer:
    """Learn from encoded rows, (n, d) with NaN."""
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
    members = _trained(schema, rows, [fold == number for number in range(n_members)], plan)
    share = _best_share(schema, [(member, rows[fold == number]) for number, member in enumerate(members)])
    for member in members:
        member.share.copy_(share)
    return FittedImputer(linear_base(schema), starts, linear, members)


def column_starts(schema: Schema) -> list[int]:
    """The first number of each column."""
    return [places[0] for places in schema.groups.values()]


def linear_base(schema: Schema) -> Restoring:
    """The linear path as an objective whose autoencoder, of the smallest size, has no part."""
    base = fresh_member(schema, (), 1, seed=0)
    base.share.zero_()
    return base


def fresh_member(
    schema: Schema, hidden_sizes: Sequence[int], code_size: int, *, seed: int, has_logits: bool = False
) -> Restoring:
    """An autoencoder that has not learned yet."""
    generator = torch.Generator().manual_seed(seed)
    return Restoring(schema, hidden_sizes, code_size, generator, has_logits=has_logits).eval()


def _trained(schema: Schema, rows: Tensor, folds: Sequence[Tensor], plan: Plan) -> list[Restoring]:
    """Autoencoders that learned together, each from all rows but those of its fold, by which it stopped."""
    settings = Settings(
        max_epochs=plan.max_epochs,
        batch_size=plan.batch_size,
        learning_rate=plan.learning_rate,
        schedule=SCHEDULES.resolve("one-cycle"),
        optimizer=OPTIMIZERS.resolve("adamw"),
        patience=PATIENCE,
    )
    members, runs = [], []
    for number, held_out in enumerate(folds):
        seed = plan.seed + number
        objective = fresh_member(schema, plan.hidden_sizes, plan.code_size, seed=seed)
        members.append(objective)
        feeds = ResidentFeed(rows[~held_out], plan.batch_size), ResidentFeed(rows[held_out], 1024)
        runs.append(Run(objective, replace(settings, seed=seed), *feeds, [ProgressBar()] if plan.verbose else []))
    train_many(runs)
    for run in runs:
        report_trouble(run)
    return [member.eval() for member in members]


@torch.inference_mode()
def _best_share(schema: Schema, pairs: Sequence[tuple[Restoring, Tensor]]) -> Tensor:
    """How much to take of the autoencoders' part, (d,): for numbers and for levels what is best on held-out rows."""
    losses = torch.stack([_losses(*member.given_and_target(rows), member) for member, rows in pairs]).sum(0)
    best = torch.empty(schema.width)
    for one_hot in (False, True):
        places = [p for name, group in schema.groups.items() if schema[name].one_hot == one_hot for p in group]
        best[places] = float(SHARES[int(losses[:, places].sum(1).argmin())])
    return best


def _losses(given: Tensor, target: Tensor, member: Restoring) -> Tensor:
    """The summed squared error of each number with each share taken, (shares, d)."""
    deep = member.added(given)
    return torch.stack([(share * deep - target).square().nansum(0) for share in SHARES.tolist()])
