"""The training chain: `train` → `_run_epoch` → a step, and what is kept of each."""

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
"""Steps after which a long epoch is looked at for a loss that is not finite, at the latest."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Training settings without any ``"auto"``.

    Attributes
    ----------
    patience
        Epochs without a better validation loss after which to stop; None never stops early.
    min_delta
        By how much a loss must be lower to be better, for patience.
    seed
        Of the order of rows and of all noise.
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
    """The best weights so far and how good they were."""

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
        The file of the model as the run has it now.
    identity
        Properties that a resuming run must share: choices, context, scaling and a digest of the data, by name.
    """

    model: Callable[[Run], State]
    identity: Callable[[], dict[str, Any]]


class Run:
    """One run of training: its state, which callbacks see and a checkpoint keeps.

    Parameters
    ----------
    objective
        What is trained, on its device.
    settings
        How.
    train
        Batches to learn from.
    validation
        Batches to measure on after every epoch, or None.
    callbacks
        Called at every event, in this order.
    origin
        What its checkpoints say of the model and the data.
    n_runs
        Runs of the same shape that follow each other, this one included; see `Job`.
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
        """The reconstruction loss of the first batch, before any weight moved."""
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
        """Let the next step have that rate; later ones follow the schedule in proportion."""
        if not (math.isfinite(rate) and rate > 0.0):
            raise ValueError(f"learning_rate={rate!r} must be a number > 0.")
        planned = self.rates(1)[0] / self.rate_scale
        self._rate_scale = rate / planned
        if self.history:
            self.history[-1]["rate_scale"] = self._rate_scale

    @property
    def rate_scale(self) -> float:
        """What callbacks have multiplied the rates of the schedule by; the history keeps it for a run that goes on."""
        if self._rate_scale is None:
            return self.history[-1].get("rate_scale", 1.0) if self.history else 1.0
        return self._rate_scale

    def log(self, name: str, value: float) -> None:
        """Write a number into a column of the history, in the row of the last finished epoch."""
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
        """The loss after each epoch that decides which was best."""
        return [row.get("val_loss", row["loss"]) for row in self.history]

    @property
    def cooling(self) -> CoolDown | None:
        """The cool-down that ends the run, once patience has run out and where the schedule has one."""
        settings = self.settings
        if settings.patience is None:
            return None
        most, restless = settings.max_epochs, settings.schedule.restless
        found = cool_down(self.monitored, settings.patience, settings.min_delta, most, restless)
        cools = settings.schedule.cooled(1.0, 0.0) is not None
        return found if found is None or cools else found._replace(n_epochs=0)

    def step_chunk(self, rows: Tensor, order: Tensor) -> StepChunk:
        """The next steps as an engine takes them, on those rows in that order."""
        n_steps = -(-len(order) // self.train.batch_size)
        progress = [step / self.n_steps for step in range(self.step, self.step + n_steps)]
        return StepChunk(rows, order, self.train.batch_size, self.rates(n_steps), progress, self.noise)

    @property
    def is_over(self) -> bool:
        """Whether no epoch is to follow."""
        return bool(self.stop_reason) or self.epoch >= self.settings.max_epochs

    @property
    def calls_every_step(self) -> bool:
        """Whether a callback wants to be called after every step."""
        return any(callback.every_step for callback in self._on_step)

    def stop(self, reason: str) -> None:
        """End the run after the current step."""
        self.stop_reason = self.stop_reason or reason

    def interrupt(self) -> None:
        """End the run after the current step, as Ctrl-C does; with several processes, where all of them notice it."""
        self._interrupted = True
        if self.processes.alone:
            self.stop("interrupted")

    def agree_to_stop(self) -> None:
        """Let a reason to stop of one process be that of all."""
        if not self.processes.alone:
            wanted = self.stop_reason or ("interrupted" if self._interrupted else "")
            self.stop_reason = self.processes.first_of(wanted)

    def emit(self, event: str) -> None:
        """Tell all callbacks."""
        for callback in self.callbacks:
            getattr(callback, event)(self)

    def mean_loss(self) -> float:
        """Mean total loss of the steps of this epoch so far; asks the device, so not for every step."""
        taken = self.step - self.epoch * self.train.n_batches
        return float(self.means(taken)[0]) if 0 < taken <= len(self._log) else float("nan")

    def means(self, n_steps: int) -> Tensor:
        """Means of the parts over the rows of the first steps of this epoch, (4,)."""
        return _means(self.epoch_log(n_steps), self._rows[:n_steps])

    def log_steps(self, index: int, parts: Tensor) -> None:
        """Keep the parts of the loss of several steps, (n_steps, 4), on the device."""
        self._log[index : index + len(parts)] = parts
        self.step += len(parts)
        for callback in self._on_step:
            callback.on_step_end(self)

    def epoch_log(self, n_steps: int) -> Tensor:
        """The parts of each step taken in this epoch, (n_steps, 4)."""
        return self._log[:n_steps]

    def keep_if_best(self, monitored: float) -> None:
        """Keep a copy of the weights if the monitored loss has fallen."""
        if monitored < self.best.monitored:
            buffers = {name: buffer.clone() for name, buffer in self.objective.named_buffers()}
            self.best = Best(self.epoch, monitored, self.engine.flat.values.detach().clone(), buffers)

    def restore_best(self) -> None:
        """Go back to the best weights, if an epoch was finished."""
        if self.best.weights is not None:
            self.engine.flat.values.data.copy_(self.best.weights)
            for name, buffer in self.objective.named_buffers():
                buffer.copy_(self.best.buffers[name])


def train(run: Run, *, started: bool = False) -> Run:
    """Train until something stops the run; afterwards `run.stop_reason` says what did.

    Ctrl-C and SIGTERM stop it too, after the step it is in, and keep the best weights so far. A run that has `started`
    goes on.
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
    """What all processes that train together must have in common."""
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
    if run.stop_reason != "interrupted":  # an epoch that was broken off is not measured
        close_epoch(run, taken, began)


def close_epoch(run: Run, taken: int, began: float) -> None:
    """After the steps of an epoch: measure, keep the row of the history, and stop the run where it is time."""
    log = run.epoch_log(taken)
    if not bool(torch.isfinite(log).all()):
        run.stop_reason = "diverged"
        return
    if math.isnan(run.first_loss):
        run.first_loss = float(log[0, 1])
    row = _measure(run, taken, time.perf_counter() - began)
    run.epoch += 1
    run.history.append({"epoch": run.epoch, **row})
    run.history[-1]["learning_rate"] = run.learning_rate  # which may depend on the loss of this epoch
    run.keep_if_best(run.monitored[-1])
    cooling = run.cooling
    if cooling is not None and cooling.end <= run.epoch < run.settings.max_epochs:
        run.stop("early stopping")
    run.emit("on_epoch_end")
    run.agree_to_stop()


def _take_steps(run: Run) -> int:
    """Train on every batch once; returns how many steps were taken."""
    for done, steps in step_chunks(run):
        run.log_steps(done, run.engine.take(steps))
        taken = done + len(steps.rates)
        run.agree_to_stop()
        if run.stop_reason or not bool(torch.isfinite(run.epoch_log(taken)[-1]).all()):
            return taken
    return run.train.n_batches


def step_chunks(run: Run, at_once: int | None = None) -> Iterator[tuple[int, StepChunk]]:
    """The steps of an epoch, as many at once as the engine takes, each with the number of steps of the epoch before it.

    One by one where a callback wants each; otherwise a long epoch is looked at for a loss that is not finite after
    every chunk.
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
    """The row of the history of one epoch; the one place where numbers come back from the device."""
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
    """Give all processes the mean of what each has measured of its own rows, such as running means of activations."""
    if run.processes.alone:
        return
    for _, buffer in run.objective.named_buffers():
        if buffer.is_floating_point():
            buffer.copy_(run.processes.add_up(buffer / run.processes.n))


def _means(log: Tensor, rows: Tensor) -> Tensor:
    """Means of the parts over rows: (steps, 4) and (steps, 1) → (4,)."""
    return (log.double() * rows).sum(0) / rows.sum()


@torch.no_grad()
def evaluate(objective: Objective, feed: Feed, seed: int, processes: Processes | None = None) -> list[float]:
    """The parts of the objective over all rows of a feed, with the same noise each time.

    Several processes each take their share of the rows of every batch.
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
    """Put the best weights back where that is wanted, and tell everybody that the run is over."""
    early = run.settings.patience is not None
    if run.stop_reason in ("interrupted", "diverged") or early:
        run.restore_best()
    run.stop("finished")
    run.emit("on_fit_end")
    run.engine.flat.release()
    run.objective.eval()


def first_bad_step(run: Run) -> int:
    """After a divergence: the step, counted from 1 over the whole run, whose loss was the first not to be finite."""
    begin = run.epoch * run.train.n_batches
    bad = ~torch.isfinite(run.epoch_log(run.step - begin)).all(dim=1)
    return begin + int(bad.int().argmax()) + 1


def optimizer_state(run: Run) -> dict[str, Tensor]:
    """A copy of the optimiser's running means, by name, in the order of `FlatParameters.portable`."""
    flat = run.engine.flat
    return {
        name: flat.portable(value) if value.shape == flat.values.shape else copy.deepcopy(value)
        for name, value in run.engine.state.items()
        if isinstance(value, Tensor)  # SGD without momentum keeps None in the place of its buffer
    }


def put_optimizer_state(run: Run, state: Mapping[str, Tensor]) -> None:
    """The inverse of `optimizer_state`."""
    flat = run.engine.flat
    for name, value in state.items():
        moved = value.to(run.device)
        run.engine.state[name] = flat.laid(moved) if moved.shape == flat.values.shape else moved.clone()
