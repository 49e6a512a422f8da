"""Parallel runs: models whose engine allows it are trained at the same time, each on its own thread."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from isthmus.choices.precision import single_precision
from isthmus.training.batches import ResidentFeed
from isthmus.training.devices import precision_for, threads_for, use_threads
from isthmus.training.engines import StepChunk
from isthmus.training.interrupts import stopping_at_signals
from isthmus.training.loop import Run, close_epoch, finish, step_chunks, train
from isthmus.training.objective import count_multiplications


def train_many(runs: Sequence[Run]) -> None:
    """Train all runs, in parallel where possible. The results equal those of `train` bit for bit."""
    teams: dict[Hashable, list[Run]] = {}
    for index, run in enumerate(runs):
        teams.setdefault(_key(run, index), []).append(run)
    for together in teams.values():
        if len(together) == 1:
            train(together[0])
        else:
            _train_together(together)


def _key(run: Run, index: int) -> Hashable:
    """A key that is equal for runs that can be trained in parallel; other runs have unique keys."""
    if run.engine.can_run_beside and not run.calls_every_step and isinstance(run.train, ResidentFeed):
        return (run.settings.batch_size, run.train.n_rows)
    return index


def _train_together(runs: Sequence[Run]) -> None:
    for run in runs:
        run.objective.train()
        run.emit("on_fit_start")
    work = sum(6.0 * count_multiplications(run.objective) * run.settings.batch_size for run in runs)
    alive = [run for run in runs if not run.is_over]
    try:
        with (
            single_precision(),
            threads_for(work),
            precision_for(runs[0].settings.precision, runs[0].device),
            stopping_at_signals(lambda: _stop_all(runs)),
        ):
            while len(alive) > 1:
                team = Team(alive)
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
    """Runs of any shapes that are trained in parallel.

    Parameters
    ----------
    runs
        Runs with equal batch sizes and numbers of batches; `Engine.can_run_beside` is true for each.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs, self.n_steps = runs, runs[0].train.n_batches

    def run_epoch(self) -> None:
        """One epoch of every run."""
        began = time.perf_counter()
        for run in self.runs:
            run.emit("on_epoch_start")
        self._take_steps()
        for run in self.runs:
            if run.stop_reason != "interrupted":
                close_epoch(run, self.n_steps, began)

    def _take_steps(self) -> None:
        """The steps of an epoch of every run, in chunks, so that all runs check for signals."""
        at_once = min(run.engine.steps_at_once for run in self.runs)
        n_threads = torch.get_num_threads()
        each = max(1, n_threads // len(self.runs))

        def take(run: Run, steps: StepChunk) -> Tensor:
            use_threads(each)
            return run.engine.take(steps)

        with ThreadPoolExecutor(min(n_threads, len(self.runs))) as pool:
            for chunks in zip(*(step_chunks(run, at_once) for run in self.runs), strict=True):
                pairs = list(zip(self.runs, chunks, strict=True))
                jobs = [pool.submit(take, run, steps) for run, (_, steps) in pairs]
                for (run, (done, _)), job in zip(pairs, jobs, strict=True):
                    run.log_steps(done, job.result())
                if self.runs[0].stop_reason == "interrupted":
                    return


def share_rows(runs: Sequence[Run]) -> None:
    """Let runs with equal rows share one copy of them."""
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
