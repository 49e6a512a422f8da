"""Several runs as one: models of one shape on batches of one size take their steps together."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from isthmus.training.devices import precision_for, threads_for
from isthmus.training.feeding import ResidentFeed
from isthmus.training.loop import Run, close_epoch, finish, train
from isthmus.training.objective import LossParts, count_multiplications
from isthmus.training.stacks import StackedGradient, shape_of


def train_many(runs: Sequence[Run]) -> None:
    """Train all runs, together those that can be; each ends as `train` alone would end it, up to rounding."""
    teams: dict[Any, list[Run]] = {}
    for index, run in enumerate(runs):
        teams.setdefault(_key(run, index), []).append(run)
    for together in teams.values():
        if len(together) == 1:
            train(together[0])
        else:
            _train_together(together)


def _key(run: Run, index: int) -> Any:
    """Equal for runs that can go together; a run that must go alone has a key of its own."""
    if run.do_step.explicit is None or run.calls_every_step:
        return ("alone", index)
    return (shape_of(run.do_step.explicit), run.settings.batch_size, run.train.n_rows)


def _train_together(runs: Sequence[Run]) -> None:
    for run in runs:
        run.objective.train()
        run.emit("on_fit_start")
    work = sum(6.0 * count_multiplications(run.objective) * run.settings.batch_size for run in runs)
    alive = [run for run in runs if not run.is_over]
    try:
        with threads_for(work), precision_for(runs[0].settings.precision):
            while len(alive) > 1:
                team = Team(alive)
                while not any(run.is_over for run in alive):
                    team.run_epoch()
                alive = [run for run in alive if not run.is_over]
    except KeyboardInterrupt:
        for run in runs:
            run.stop("interrupted")
    for run in runs:
        if alive == [run] and not run.stop_reason:
            train(run, started=True)
        else:
            finish(run)


class Team:
    """Runs that take their steps together, their parameters as rows of one buffer.

    Parameters
    ----------
    runs
        Of one shape, on batches of one size.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs
        explicit = [run.do_step.explicit for run in runs]
        self.gradient = StackedGradient([each for each in explicit if each is not None])
        sizes = [run.do_step.flat.values.numel() for run in runs]
        like = runs[0].do_step.flat.values.detach()
        values, gradients = (like.new_zeros(len(runs), max(sizes)) for _ in range(2))
        for run, size, value, gradient in zip(runs, sizes, values, gradients, strict=True):
            run.do_step.flat.move_to(value[:size], gradient[:size])
        self.n_steps = runs[0].train.n_batches

    def run_epoch(self) -> None:
        """One pass of every run over its rows."""
        began = time.perf_counter()
        for run in self.runs:
            run.emit("on_epoch_start")
        noises = [run.noise for run in self.runs]
        for index, x in enumerate(self._batches()):
            for run in self.runs:
                run.anneal()
            for run, parts in zip(self.runs, self.gradient(x, noises), strict=True):
                self._move(run, index, parts)
        for run in self.runs:
            close_epoch(run, self.n_steps, began)

    @staticmethod
    def _move(run: Run, index: int, parts: LossParts) -> None:
        run.do_step.follow(run.learning_rate)
        run.log_step(index, parts)

    def _batches(self) -> Iterator[Tensor]:
        """(models, n, d): the batch of each run, one for all where they read the same rows in the same order."""
        first = self.runs[0]
        if all(_reads_alike(first, run) for run in self.runs[1:]):
            for x in first.train.shuffled(first.order):
                yield x.expand(len(self.runs), *x.shape)
            for run in self.runs[1:]:
                run.order.set_state(first.order.get_state())
        else:
            for rows in zip(*(run.train.shuffled(run.order) for run in self.runs), strict=True):
                yield torch.stack(rows)


def _reads_alike(one: Run, other: Run) -> bool:
    feeds = one.train, other.train
    same_rows = (
        isinstance(feeds[0], ResidentFeed) and isinstance(feeds[1], ResidentFeed) and feeds[0].rows is feeds[1].rows
    )
    return same_rows and torch.equal(one.order.get_state(), other.order.get_state())


def share_rows(runs: Sequence[Run]) -> None:
    """Let runs on equal rows hold them once."""
    held: list[Tensor] = []
    for run in runs:
        if isinstance(run.train, ResidentFeed):
            rows = run.train.rows
            run.train.rows = next((each for each in held if each.shape == rows.shape and torch.equal(each, rows)), rows)
            held += [] if any(run.train.rows is each for each in held) else [rows]
