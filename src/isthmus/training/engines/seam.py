"""The interface between the training loop and an engine: a job, chunks of steps, and the reasons of a refusal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, Protocol, Self

import torch
from torch import Tensor

from isthmus.training.engines.flat_parameters import FlatParameters
from isthmus.training.objective import Objective
from isthmus.training.processes import Processes
from isthmus.training.schedule import Optimizer

OPERATIONS_AT_ONCE = 1e10
"""Floating-point operations after which an engine on the CPU comes back, so that Ctrl-C is noticed: some hundredths of
a second."""


class Job(NamedTuple):
    """A training task for an engine.

    Attributes
    ----------
    objective
        Its parameters; the engine that takes the job makes them one flat tensor.
    optimizer
        The update rule.
    precision
        ``"float32"``, ``"tf32"`` (matrix products on CUDA) or ``"bf16"`` (autocast).
    n_rows
        Rows of the usual batch.
    n_steps
        Steps of the whole run; whether compiling pays depends on it.
    n_runs
        Runs of the same shape that a task makes one after another; they share a compiled program.
    processes
        Those that take the steps together, each its share of every batch.
    """

    objective: Objective
    optimizer: Optimizer
    precision: str = "float32"
    n_rows: int = 1
    n_steps: int = 0
    n_runs: int = 1
    processes: Processes = Processes()

    @property
    def device(self) -> torch.device:
        """Where the objective is."""
        return next(iter(self.objective.parameters())).device


class StepChunk(NamedTuple):
    """A number of steps to take together."""

    rows: Tensor
    """Scaled rows on the device, (n, row width), contiguous."""
    order: Tensor
    """Indices of the rows of all steps, (n_steps · n_rows,) integers on the CPU; the last step may have fewer rows."""
    n_rows: int
    """Rows of every step."""
    rates: Sequence[float]
    """The learning rate of each."""
    progress: Sequence[float]
    """Fraction of the run before each step, in [0, 1]."""
    generator: torch.Generator | None
    """Generator of all random numbers of the steps, on the device."""

    @property
    def orders(self) -> tuple[Tensor, ...]:
        """The rows of each step."""
        orders: tuple[Tensor, ...] = self.order.split(self.n_rows)
        return orders


class Engine(Protocol):
    """Takes training steps: forward pass, gradient, and update of the parameters.

    All state is in `flat` and `state`. A run that resumes from them and from the generators is therefore equal bit for
    bit; with another engine it is equal up to rounding.
    """

    name: ClassVar[str]
    can_run_beside: bool
    """Whether several models may take steps at once, each on its own thread, and end bit for bit as alone."""
    flat: FlatParameters

    @classmethod
    def refuses(cls, job: Job) -> str | None:
        """The reason why this engine does not take a job; None if it takes it."""

    @classmethod
    def of(cls, job: Job) -> Self:
        """The engine for a job that it does not refuse."""

    @property
    def state(self) -> dict[str, Tensor]:
        """The optimiser's running means, by name; they may be replaced."""

    @property
    def steps_at_once(self) -> int:
        """How many steps to run in one call."""

    def take(self, steps: StepChunk) -> Tensor:
        """Take steps; gives the parts of the loss of each, as in `LossParts`, (n_steps, 4), on the device."""


@dataclass(frozen=True)
class EngineChoice:
    """Which engine trained a model, and why the quicker ones did not.

    Attributes
    ----------
    name
        ``"compiled"`` or ``"general"``.
    refused
        The reason of each engine that would have been quicker, by its name.

    Examples
    --------
    >>> print(EngineChoice("general", {"compiled": "the code TopK has no formula"}))
    general (compiled: the code TopK has no formula)
    """

    name: str
    refused: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in self.refused.items())
        return f"{self.name} ({reasons})" if reasons else self.name
