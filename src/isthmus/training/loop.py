"""The training loop: `train` → `_run_epoch` → a step, and the state of a run."""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from isthmus.choices.draws import drawn_from
from isthmus.choices.precision import single_precision
from isthmus.files.model_file import State
from isthmus.training.batches import Feed
from isthmus.training.callbacks import Callback, overrides
from isthmus.training.devices import precision_for, threads_for
from isthmus.training.early_stopping import CoolDown, cool_down
from isthmus.training.engines import Job, StepChunk, choose_engine
from isthmus.training.history import History
from isthmus.training.interrupts import stopping_at_signals
from isthmus.training.objective import LossParts, Objective, count_multiplications
from isthmus.training.processes import Processes, current_processes, failing_together
from isthmus.training.schedule import Optimizer, Schedule

CHECK_EVERY = 1000
"""The most steps between two checks for a loss that is not finite."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Training settings without any ``"auto"``.

    Attributes
    ----------
    patience
        Stop after this number of epochs without a lower validation loss; None: never stop early.
    min_delta
        A loss counts as lower if it has fallen by more than this.
    seed
        Seed of the order of rows and of all noise.
    """

    max_epochs: int
    batch_size: int
    learning_rate: float
    schedule: Schedule
    optimizer: Optimizer
    patience: int | None = None
    min_delta: float = 0.0
    precision: str = "float32"
    seed: int = 0


@dataclass
class Best:
    """The best weights so far and their loss."""

    epoch: int = 0
    monitored: float = float("inf")
    weights: Tensor | None = None
    buffers: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Origin:
    """The origin of a run, for its checkpoints.

    Attributes
    ----------
    model
        Makes the file of the model in its current state.
    identity
        Properties that a resuming run must share: choices, context, scaling and a digest of the data, by name.
    """

    model: Callable[[Run], State]
    identity: Callable[[], dict[str, Any]]


class Run:
    """The state of one training run. Callbacks read it, and checkpoints store it.

    Parameters
    ----------
    objective
        The model to train, on its device.
    settings
        Training settings.
    train
        Training batches.
    validation
        Validation batches, which are evaluated after every epoch; or None.
    callbacks
        Called at every event, in this order.
    origin
        The model and the data, as its checkpoints describe them.
    n_runs
        The number of consecutive runs of the same shape, including this one; see `Job`.
    """

    def __init__(
        self,
        objective: Objective,
        settings: Settings,
        train: Feed,
        validation: Feed | None = None,
        callbacks: Sequence[Callback] = (),
        *,
        origin: Origin | None = None,
        n_runs: int = 1,
    ) -> None:
        self.objective, self.settings, self.origin = objective, settings, origin
        self.train, self.validation, self.callbacks = train, validation, tuple(callbacks)
        self.device = next(iter(objective.parameters())).device
        n_steps = settings.max_epochs * train.n_batches
        self.processes = current_processes()
        job = Job(
            objective, settings.optimizer, settings.precision, settings.batch_size, n_steps, n_runs, self.processes
        )
        self.engine, self.engine_choice = choose_engine(job)
        self.history, self.best = History(), Best()
        self.epoch, self.step, self.stop_reason = 0, 0, ""
        self._interrupted = False
        self.first_loss = float("nan")
        """The reconstruction loss of the first batch, before the first update."""
        self._rate_scale: float | None = None
        self.order = torch.Generator().manual_seed(settings.seed)
        self.noise = torch.Generator(self.device).manual_seed(settings.seed + 1)
        self._log = torch.zeros(train.n_batches, len(LossParts._fields), device=self.device)
        self._rows = torch.full((train.n_batches, 1), float(train.batch_size), dtype=torch.double, device=self.device)
        self._rows[-1] = train.n_rows - (train.n_batches - 1) * train.batch_size
        self._on_step = [callback for callback in callbacks if overrides(callback, "on_step_end")]

    @property
    def n_steps(self) -> int:
        """Steps in the whole run."""
        return self.settings.max_epochs * self.train.n_batches

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return self.rates(1)[0]

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        """Set the rate of the next step; the later rates of the schedule change by the same factor."""
        if not (math.isfinite(rate) and rate > 0.0):
            raise ValueError(f"learning_rate={rate!r} must be a number > 0.")
        planned = self.rates(1)[0] / self.rate_scale
        self._rate_scale = rate / planned
        if self.history:
            self.history[-1]["rate_scale"] = self._rate_scale

    @property
    def rate_scale(self) -> float:
        """The factor by which callbacks have multiplied the schedule; the history keeps it for resumed runs."""
        if self._rate_scale is None:
            return self.history[-1].get("rate_scale", 1.0) if self.history else 1.0
        return self._rate_scale

    def log(self, name: str, value: float) -> None:
        """Write a number to a column of the history, in the row of the last finished epoch."""
        if not self.history:
            raise ValueError(f"log({name!r}) needs a finished epoch to write to; call it in on_epoch_end.")
        self.history[-1][name] = float(value)

    def rates(self, n_steps: int) -> list[float]:
        """The learning rates of the next steps."""
        schedule, monitored, cooling = self.settings.schedule, self.monitored, self.cooling
        peak = self.settings.learning_rate * self.rate_scale * schedule.reduction(monitored)
        steps = range(self.step, self.step + n_steps)
        if cooling is None or cooling.n_epochs == 0:
            return [peak * schedule.factor(step / self.n_steps) for step in steps]
        first, length = cooling.begin * self.train.n_batches, cooling.n_epochs * self.train.n_batches
        begin = schedule.factor(first / self.n_steps)
        return [peak * (schedule.cooled(begin, (step - first) / length) or 0.0) for step in steps]

    @property
    def monitored(self) -> list[float]:
        """The loss after each epoch that determines the best epoch: the validation loss if there is one."""
        return [row.get("val_loss", row["loss"]) for row in self.history]

    @property
    def cooling(self) -> CoolDown | None:
        """The cool-down that ends the run after early stopping; None before, or if the schedule has none."""
        settings = self.settings
        if settings.patience is None:
            return None
        most, restless = settings.max_epochs, settings.schedule.restless
        found = cool_down(self.monitored, settings.patience, settings.min_delta, most, restless)
        cools = settings.schedule.cooled(1.0, 0.0) is not None
        return found if found is None or cools else found._replace(n_epochs=0)

    def step_chunk(self, rows: Tensor, order: Tensor) -> StepChunk:
        """The next steps for an engine, on these rows in this order."""
        n_steps = -(-len(order) // self.train.batch_size)
        progress = [step / self.n_steps for step in range(self.step, self.step + n_steps)]
        return StepChunk(rows, order, self.train.batch_size, self.rates(n_steps), progress, self.noise)

    @property
    def is_over(self) -> bool:
        """Whether the run has ended."""
        return bool(self.stop_reason) or self.epoch >= self.settings.max_epochs

    @property
    def calls_every_step(self) -> bool:
        """Whether a callback must be called after every step."""
        return any(callback.every_step for callback in self._on_step)

    def stop(self, reason: str) -> None:
        """End the run after the current step."""
        self.stop_reason = self.stop_reason or reason

    def interrupt(self) -> None:
        """End the run after the current step, as Ctrl-C does; with several processes, after the step that all reach."""
        self._interrupted = True
        if self.processes.alone:
            self.stop("interrupted")

    def agree_to_stop(self) -> None:
        """Stop all processes if one of them has a reason to stop."""
        if not self.processes.alone:
            wanted = self.stop_reason or ("interrupted" if self._interrupted else "")
            self.stop_reason = self.processes.first_of(wanted)

    def emit(self, event: str) -> None:
        """Call an event of all callbacks."""
        for callback in self.callbacks:
            getattr(callback, event)(self)

    def mean_loss(self) -> float:
        """Mean total loss of this epoch so far. It waits for the device, so do not call it at every step."""
        taken = self.step - self.epoch * self.train.n_batches
        return float(self.means(taken)[0]) if 0 < taken <= len(self._log) else float("nan")

    def means(self, n_steps: int) -> Tensor:
        """Means of the loss parts over the rows of the first steps of this epoch, (4,)."""
        return _means(self.epoch_log(n_steps), self._rows[:n_steps])

    def log_steps(self, index: int, parts: Tensor) -> None:
        """Record the loss parts of several steps, (n_steps, 4), on the device."""
        self._log[index : index + len(parts)] = parts
        self.step += len(parts)
        for callback in self._on_step:
            callback.on_step_end(self)

    def epoch_log(self, n_steps: int) -> Tensor:
        """The loss parts of the first steps of this epoch, (n_steps, 4)."""
        return self._log[:n_steps]

    def keep_if_best(self, monitored: float) -> None:
        """Copy the weights if the monitored loss is the lowest so far."""
        if monitored < self.best.monitored:
            buffers = {name: buffer.clone() for name, buffer in self.objective.named_buffers()}
            self.best = Best(self.epoch, monitored, self.engine.flat.values.detach().clone(), buffers)

    def restore_best(self) -> None:
        """Restore the best weights, if an epoch was finished."""
        if self.best.weights is not None:
            self.engine.flat.values.data.copy_(self.best.weights)
            for name, buffer in self.objective.named_buffers():
                buffer.copy_(self.best.buffers[name])


def train(run: Run, *, started: bool = False) -> Run:
    """Train until the run stops; `run.stop_reason` then gives the reason.

    Ctrl-C and SIGTERM stop the run after the current step, with the best weights so far. With `started`, the run is
    continued without its start event.
    """
    run.objective.train()
    run.processes.compare(lambda: _agreed(run))
    if not started:
        with failing_together():
            run.emit("on_fit_start")
        run.processes.compare(lambda: {"started": True})
    try:
        work = 6.0 * count_multiplications(run.objective) * run.settings.batch_size
        with (
            single_precision(),
            threads_for(work),
            precision_for(run.settings.precision, run.device),
            stopping_at_signals(run.interrupt),
        ):
            while not run.is_over:
                _run_epoch(run)
    except KeyboardInterrupt:
        run.stop("interrupted")
    finish(run)
    return run


def _agreed(run: Run) -> dict[str, object]:
    """Values that must be equal in all processes that train together."""
    known: dict[str, object] = dict(vars(run.settings))
    known |= {"rows": run.train.n_rows, "epochs done": run.epoch, "device type": run.device.type}
    known |= {"isthmus": version("isthmus"), "torch": torch.__version__}
    weights = run.engine.flat.portable(run.engine.flat.values).cpu().numpy()
    known |= {"weights": f"{weights.size}, SHA-256 {hashlib.sha256(weights.tobytes()).hexdigest()[:16]}"}
    held_out = None if run.validation is None else run.validation.n_rows
    known |= {"validation rows": held_out, "callbacks": [type(callback).__name__ for callback in run.callbacks]}
    return known | ({} if run.origin is None else run.origin.identity())


def _run_epoch(run: Run) -> None:
    began = time.perf_counter()
    run.emit("on_epoch_start")
    taken = _take_steps(run)
    if run.stop_reason != "interrupted":  # an interrupted epoch is not evaluated
        close_epoch(run, taken, began)


def close_epoch(run: Run, taken: int, began: float) -> None:
    """End an epoch: evaluate it, append its row to the history, and apply early stopping."""
    log = run.epoch_log(taken)
    if not bool(torch.isfinite(log).all()):
        run.stop_reason = "diverged"
        return
    if math.isnan(run.first_loss):
        run.first_loss = float(log[0, 1])
    row = _measure(run, taken, time.perf_counter() - began)
    run.epoch += 1
    run.history.append({"epoch": run.epoch, **row})
    run.history[-1]["learning_rate"] = run.learning_rate  # the schedule may depend on the loss of this epoch
    run.keep_if_best(run.monitored[-1])
    cooling = run.cooling
    if cooling is not None and cooling.end <= run.epoch < run.settings.max_epochs:
        run.stop("early stopping")
    run.emit("on_epoch_end")
    run.agree_to_stop()


def _take_steps(run: Run) -> int:
    """Train on every batch once; returns the number of steps taken."""
    for done, steps in step_chunks(run):
        run.log_steps(done, run.engine.take(steps))
        taken = done + len(steps.rates)
        run.agree_to_stop()
        if run.stop_reason or not bool(torch.isfinite(run.epoch_log(taken)[-1]).all()):
            return taken
    return run.train.n_batches


def step_chunks(run: Run, at_once: int | None = None) -> Iterator[tuple[int, StepChunk]]:
    """The steps of an epoch in chunks, each with the number of steps before it in the epoch.

    A chunk has as many steps as the engine takes at once, or one if a callback must be called after every step. The
    caller checks the loss after each chunk.
    """
    done, size = 0, run.train.batch_size
    at_once = 1 if run.calls_every_step else min(at_once or run.engine.steps_at_once, CHECK_EVERY)
    share = None if run.processes.alone else run.processes.share
    for rows, order in run.train.windows(run.order, share):
        for index in order.split(at_once * size):
            steps = run.step_chunk(rows, index)
            yield done, steps
            done += len(steps.rates)


def _measure(run: Run, n_steps: int, seconds: float) -> dict[str, float]:
    """The history row of one epoch. Only here are numbers copied from the device."""
    _share_buffers(run)
    row = dict(zip(("loss", *LossParts._fields[1:]), run.means(n_steps).tolist(), strict=True))
    if run.validation is not None:
        parts = evaluate(run.objective, run.validation, run.settings.seed, run.processes)
        total, reconstruction = parts[:2]
        row |= {"val_loss": total, "val_reconstruction": reconstruction}
    scale = {"rate_scale": run.rate_scale} if run.rate_scale != 1.0 else {}
    return row | {"learning_rate": run.learning_rate, "seconds": seconds} | scale


@torch.no_grad()
def _share_buffers(run: Run) -> None:
    """Average the buffers of all processes, such as running means of activations over their own rows."""
    if run.processes.alone:
        return
    for _, buffer in run.objective.named_buffers():
        if buffer.is_floating_point():
            buffer.copy_(run.processes.add_up(buffer / run.processes.n))


def _means(log: Tensor, rows: Tensor) -> Tensor:
    """Means of the loss parts over rows: (steps, 4) and (steps, 1) → (4,)."""
    return (log.double() * rows).sum(0) / rows.sum()


@torch.no_grad()
def evaluate(objective: Objective, feed: Feed, seed: int, processes: Processes | None = None) -> list[float]:
    """The mean loss parts over all rows of a feed, with the same noise at every call.

    With several processes, each evaluates its share of the rows of every batch.
    """
    device = next(iter(objective.parameters())).device
    noise, order = torch.Generator(device).manual_seed(seed + 2), torch.Generator().manual_seed(seed + 2)
    processes = processes or Processes()
    was_training = objective.training
    objective.eval()
    log, rows = [], []
    unseen = objective.draws_unseen()
    for x in feed.shuffled(order):
        with processes.drawing(len(x)), drawn_from(noise if unseen else None):
            log.append(torch.stack(objective(processes.share(x), noise)) * processes.weight(len(x)))
        rows.append([float(len(x))])
    objective.train(was_training)
    parts = processes.add_up(torch.stack(log))
    means: list[float] = _means(parts, torch.tensor(rows, dtype=torch.double, device=device)).tolist()
    return means


def finish(run: Run) -> None:
    """Restore the best weights after early stopping, an interrupt or divergence, and call the callbacks' end event."""
    early = run.settings.patience is not None
    if run.stop_reason in ("interrupted", "diverged") or early:
        run.restore_best()
    run.stop("finished")
    run.emit("on_fit_end")
    run.engine.flat.release()
    run.objective.eval()


def first_bad_step(run: Run) -> int:
    """The first step whose loss is not finite, counted from 1 over the whole run; for runs that diverged."""
    begin = run.epoch * run.train.n_batches
    bad = ~torch.isfinite(run.epoch_log(run.step - begin)).all(dim=1)
    return begin + int(bad.int().argmax()) + 1


def optimizer_state(run: Run) -> dict[str, Tensor]:
    """A copy of the optimiser's running means, by name, in the order of `FlatParameters.portable`."""
    flat = run.engine.flat
    return {
        name: flat.portable(value) if value.shape == flat.values.shape else copy.deepcopy(value)
        for name, value in run.engine.state.items()
        if isinstance(value, Tensor)  # without momentum SGD has None instead of a buffer
    }


def put_optimizer_state(run: Run, state: Mapping[str, Tensor]) -> None:
    """The inverse of `optimizer_state`."""
    flat = run.engine.flat
    for name, value in state.items():
        moved = value.to(run.device)
        run.engine.state[name] = flat.laid(moved) if moved.shape == flat.values.shape else moved.clone()
