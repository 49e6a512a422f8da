"""Several runs as one: models of one shape on batches of one size take their steps together."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from isthmus.choices.formulas import inherits
from isthmus.training.batches import ResidentFeed
from isthmus.training.devices import precision_for, threads_for
from isthmus.training.interrupts import stopping_at_signals
from isthmus.training.loop import Run, close_epoch, finish, step_chunks, takes_many, train
from isthmus.training.objective import Objective, count_multiplications
from isthmus.training.stacks import StackedGradient, shape_of

TEAM_WORK = 3e7
"""Floating-point operations in a step of one model from which it fills the processor by itself: eight networks like
S6's take 1.2 times as long together, like S1's as long, for together they no longer fit in the cache."""


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
    work = 6.0 * count_multiplications(run.objective) * run.settings.batch_size
    if takes_many(run) and not run.calls_every_step and isinstance(run.train, ResidentFeed):
        return ("compiled", run.settings.batch_size, run.train.n_rows)
    stands_apart = run.do_step.explicit is None or not inherits(run.objective, Objective, "given_and_target")
    if run.do_step.compiled or stands_apart or run.calls_every_step or work > TEAM_WORK:
        return ("alone", index)
    assert run.do_step.explicit is not None
    return (shape_of(run.do_step.explicit), run.settings.batch_size, run.train.n_rows)


def _train_together(runs: Sequence[Run]) -> None:
    for run in runs:
        run.objective.train()
        run.emit("on_fit_start")
    work = sum(6.0 * count_multiplications(run.objective) * run.settings.batch_size for run in runs)
    alive = [run for run in runs if not run.is_over]
    try:
        with (
            threads_for(work),
            precision_for(runs[0].settings.precision, runs[0].device),
            stopping_at_signals(lambda: _stop_all(runs)),
        ):
            while len(alive) > 1:
                team = CompiledTeam(alive) if takes_many(alive[0]) else StackedTeam(alive)
                while not any(run.is_over for run in alive):
                    team.run_epoch()
                alive = [run for run in alive if not run.is_over]
    except KeyboardInterrupt:
        _stop_all(runs)
    for run in runs:
        if alive == [run] and not run.stop_reason:
            train(run, started=True)
        else:
            finish(run)


def _stop_all(runs: Sequence[Run]) -> None:
    for run in runs:
        run.stop("interrupted")


class Team:
    """Runs that take their steps together.

    Parameters
    ----------
    runs
        On batches of one size, and as many of them.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs, self.n_steps = runs, runs[0].train.n_batches

    def run_epoch(self) -> None:
        """One pass of every run over its rows."""
        began = time.perf_counter()
        for run in self.runs:
            run.emit("on_epoch_start")
        self.take_steps()
        for run in self.runs:
            if run.stop_reason != "interrupted":
                close_epoch(run, self.n_steps, began)

    @property
    def is_interrupted(self) -> bool:
        """Whether a signal has ended the runs."""
        return self.runs[0].stop_reason == "interrupted"

    def take_steps(self) -> None:
        """The steps of an epoch, of every run."""
        raise NotImplementedError


class CompiledTeam(Team):
    """Runs of compiled programs, of any shapes: each takes some steps on a thread of its own."""

    def take_steps(self) -> None:
        programs = [run.do_step.compiled for run in self.runs]
        at_once = min(program.n_steps for program in programs if program is not None)
        n_threads = torch.get_num_threads()
        each = max(1, n_threads // len(self.runs))
        with ThreadPoolExecutor(min(n_threads, len(self.runs))) as pool:
            for pieces in zip(*(step_chunks(run, at_once) for run in self.runs), strict=True):
                pairs = list(zip(self.runs, pieces, strict=True))
                jobs = [pool.submit(run.do_step.take, steps, each) for run, (_, steps) in pairs]
                for (run, (done, _)), job in zip(pairs, jobs, strict=True):
                    run.log_steps(done, job.result())
                if self.is_interrupted:
                    return


class StackedTeam(Team):
    """Runs of one shape, their parameters as rows of one buffer, their products as one."""

    def __init__(self, runs: Sequence[Run]) -> None:
        super().__init__(runs)
        explicit = [run.do_step.explicit for run in runs]
        self.gradient = StackedGradient([each for each in explicit if each is not None])
        sizes = [run.do_step.flat.values.numel() for run in runs]
        like = runs[0].do_step.flat.values.detach()
        self._buffers = like.new_zeros(4, len(runs), max(sizes))  # values, gradients, both running means
        for index, (run, size) in enumerate(zip(runs, sizes, strict=True)):
            run.do_step.move_to(*(buffer[index, :size] for buffer in self._buffers))
        kernels = [run.do_step.fused for run in runs]
        first = kernels[0]
        alike = all(
            kernel is not None and first is not None and vars(kernel) == vars(first) for kernel in kernels
        ) and all(run.do_step.clip_norm is None for run in runs)
        self._kernel = first if alike else None

    def take_steps(self) -> None:
        noises = [run.noise for run in self.runs]
        for index, x in enumerate(self._batches()):
            for run in self.runs:
                run.anneal()
            parts = self.gradient(x, noises)
            self._move()
            for run, part in zip(self.runs, parts, strict=True):
                run.log_step(index, part)
            if self.is_interrupted:
                return

    def _move(self) -> None:
        rates = [run.learning_rate for run in self.runs]
        if self._kernel is None or len(set(rates)) > 1:
            for run, rate in zip(self.runs, rates, strict=True):
                run.do_step.follow(rate)
            return
        first, *others = (run.do_step.state["step"] for run in self.runs)
        self._kernel(tuple([buffer] for buffer in self._buffers), first, rates[0])
        for step in others:
            step.copy_(first)

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
            run.train.rows = next((each for each in held if _equal(each, rows)), rows)
            held += [] if any(run.train.rows is each for each in held) else [rows]


def _equal(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    return one.data_ptr() == other.data_ptr() or torch.equal(one, other)
