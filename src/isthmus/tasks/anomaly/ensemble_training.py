"""The training of an ensemble, by the common loop."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from isthmus.choices import Corruption, Dense, Loss, Plain
from isthmus.choices.registry import Context
from isthmus.exceptions import DivergenceError, InterruptedWarning
from isthmus.tasks.anomaly.ensemble import Ensemble
from isthmus.training import Adam, Choices, LossParts, Objective, ProgressBar, Run, Settings, train
from isthmus.training.batches import Feed, Share
from isthmus.training.schedule import Schedule

LAST_STEPS, WORSE, LEAP = 10, 10.0, 1e4
"""A loss whose median over the last steps is so many times that of the first one, or 1 if that is more, diverged; so
did one that is larger than at first and has once been as many times as large as the last number says.

Rows in units of their deviation have a loss of about 1 for a model that says nothing.
"""


@dataclass(frozen=True, kw_only=True)
class EnsembleTraining:
    """How an ensemble is trained.

    Attributes
    ----------
    context
        Shapes and range of the rows.
    loss, corruption, schedule
        Members of the choices, resolved for the data.
    n_steps, batch_size, learning_rate
        Of the run; each member takes batches of its own of that size.
    trim
        Share of each batch that is left out of each member's step: the rows it restores worst.
    seed
        Of batches and corruption.
    verbose
        Whether progress is shown.
    """

    context: Context
    loss: Loss
    corruption: Corruption | None
    schedule: Schedule
    n_steps: int
    batch_size: int
    learning_rate: float
    trim: float
    seed: int
    verbose: bool


class _Encoder(nn.Module):
    """The codes of rows that are divided evenly among the members: (E · n, d) → (E · n, code)."""

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.ensemble = ensemble

    def forward(self, x: Tensor) -> Tensor:
        return self.ensemble.encode(x.view(self.ensemble.n_members, -1, x.shape[1])).flatten(0, 1)


class _Decoder(nn.Module):
    """The raw outputs for such codes: (E · n, code) → (E · n, output width)."""

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.ensemble = ensemble

    def forward(self, codes: Tensor) -> Tensor:
        return self.ensemble.decode(codes.view(self.ensemble.n_members, -1, codes.shape[1])).flatten(0, 1)


class EnsembleObjective(Objective):
    """The mean loss of the rows that each member reconstructs best.

    A batch, (E · n, d), holds n rows for each of the E members, which learn from rows of their own.

    Parameters
    ----------
    ensemble
        Is trained as it is.
    how
        The settings.
    """

    def __init__(self, ensemble: Ensemble, how: EnsembleTraining) -> None:
        choices = Choices(Dense(), Plain(None), how.loss, how.corruption)
        super().__init__(choices, how.context, networks=(_Encoder(ensemble), _Decoder(ensemble)))
        self.n_members, self.trim = ensemble.n_members, how.trim

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> LossParts:
        """The loss of a batch of scaled rows, missing cells as NaN: (E · n, d)."""
        x = x if len(x) % self.n_members == 0 else x.repeat(self.n_members, 1)  # a few rows go to all members
        given = self.corrupt(x.nan_to_num(), generator)
        losses = self.choices.loss.per_row(self.decoder(self.encoder(given)), x).view(self.n_members, -1)
        kept = losses.shape[1] - int(self.trim * losses.shape[1])
        if kept < losses.shape[1]:
            losses = losses.topk(kept, dim=1, largest=False, sorted=False).values
        mean, none = losses.mean(), self._zero(x)
        return LossParts(mean, mean, none, none)


class DrawnFeed(Feed):
    """Batches of rows that are drawn with replacement, so that small tables fill them too.

    Parameters
    ----------
    rows
        Scaled rows on the device, (n, d) float32.
    batch_size
        Rows a batch.
    n_batches
        Batches in an epoch.
    """

    def __init__(self, rows: Tensor, batch_size: int, n_batches: int) -> None:
        self.rows, self.batch_size, self.n_rows = rows, batch_size, batch_size * n_batches

    def windows(self, generator: torch.Generator, share: Share | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        yield self.rows, torch.randint(len(self.rows), (self.n_rows,), generator=generator)

    def shuffled(self, generator: torch.Generator) -> Iterator[Tensor]:
        for rows, order in self.windows(generator):
            for index in order.split(self.batch_size):
                yield rows.index_select(0, index.to(rows.device))


def train_ensemble(ensemble: Ensemble, X: Tensor, how: EnsembleTraining) -> None:
    """Train all members at once, in place, on scaled rows on their device, (n, d).

    The run is one epoch long. Ctrl-C keeps the weights of the last step, with a warning.

    Raises
    ------
    DivergenceError
        The loss is not finite, or far above that of the first step.
    """
    batch_size = ensemble.n_members * min(how.batch_size, len(X))
    settings = Settings(
        max_epochs=1,
        batch_size=batch_size,
        learning_rate=how.learning_rate,
        schedule=how.schedule,
        optimizer=Adam(),
        seed=how.seed,
    )
    feed = DrawnFeed(X.contiguous(), batch_size, how.n_steps)
    run = train(Run(EnsembleObjective(ensemble, how), settings, feed, None, [ProgressBar()] if how.verbose else []))
    if run.stop_reason == "interrupted":
        text = f"Training was interrupted at step {run.step} of {how.n_steps}; the weights are kept as they are."
        warnings.warn(text, InterruptedWarning, stacklevel=2)
    if run.step:
        _refuse_divergence(run.epoch_log(run.step)[:, 0], how.learning_rate)


def _refuse_divergence(losses: Tensor, learning_rate: float) -> None:
    """Raise an error if training made the loss infinite, or far larger than before.

    The models begin as principal components, so that a loss far above the first one says that training has undone
    them. All scores are finite then and mean nothing.
    """
    values = losses.double().cpu().numpy()
    bad = ~np.isfinite(values)
    begin, end = float(values[0]), float(np.median(values[-LAST_STEPS:]))
    worst = float(values.max()) if end > begin else end  # a run that recovered from a leap is sound
    if not bad.any() and end <= WORSE * max(begin, 1.0) and worst <= LEAP * max(begin, 1.0):
        return
    where = f"not finite at step {int(bad.argmax()) + 1}" if bad.any() else f"{end:.3g} after training"
    raise DivergenceError(
        f"The detector's loss is {where} ({values[0]:.3g} at first), at a learning rate of {learning_rate:g}, "
        "which is probably too high. Use a lower learning_rate; the default is 0.003."
    )
