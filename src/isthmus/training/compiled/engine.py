"""Which objectives have a compiled program, and how its steps are taken."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from isthmus.exceptions import IsthmusWarning
from isthmus.training.compiled.plans import PARTS, TABLE, Plan, damages_of, has_plan, plan_for
from isthmus.training.compiled.thread_team import Crew
from isthmus.training.explicit import is_explicit
from isthmus.training.objective import Objective, count_parameters
from isthmus.training.schedule import Adam, AdamW, Optimizer

if TYPE_CHECKING:
    from isthmus.training.compiled.program import Program

WORTH = 0.4
"""Seconds that a run must be expected to gain; to write and to compile a program takes 0.3 to 0.6."""
GAINED_PER_STEP, GAINED_PER_OPERATION = 1e-4, 3e-12
"""Seconds that a step gains, and what it gains for each floating-point operation."""
GAINED_PER_AUTOGRAD = 1e-3
"""Seconds that it gains besides where the loss has parts, which steps by hand leave to autograd: 1.5 ms a step by hand
and 0.25 compiled, with `Observed` on batches of 128 rows of 5 numbers."""
MOST_OPERATIONS = 1e10
"""Floating-point operations in a step from which libraries of matrix products, which pack what they multiply so that it
stays in the cache, are faster: 3000–2000–500 on batches of 256 take 1.2 s by one and 1.5 s compiled."""
OPERATIONS_AT_ONCE = 1e10
"""Floating-point operations after which a program comes back, so that Ctrl-C is heard: some hundredths of a second."""
OPERATIONS_PER_THREAD = 4e6
"""Floating-point operations in a step that are worth a thread of their own."""


def is_available() -> bool:
    """Whether there is an LLVM that works; the environment variable ``ISTHMUS_COMPILE=0`` forbids its use."""
    return os.environ.get("ISTHMUS_COMPILE", "1") != "0" and find_spec("llvmlite") is not None and _works()


@cache
def _works() -> bool:
    """Whether LLVM can compile something for this processor; where it cannot, that is told once."""
    try:
        from isthmus.training.compiled.target import Library  # noqa: PLC0415  # loads LLVM

        library = Library(NOTHING)
        library.function("nothing")()
    except (ImportError, OSError, RuntimeError) as error:
        text = f"Steps are not compiled, which makes training slower, for LLVM does not work here: {error}"
        warnings.warn(text, IsthmusWarning, stacklevel=2)
        return False
    return True


def compiles(objective: Objective, optimizer: Optimizer, n_rows: int, n_steps: int) -> bool:
    """Whether so many steps can be compiled, and gain more time than that takes."""
    operations = 6.0 * n_rows * count_parameters(objective)
    autograd = 0.0 if objective.choices.loss.is_formula else GAINED_PER_AUTOGRAD
    gained = n_steps * (GAINED_PER_STEP + autograd + GAINED_PER_OPERATION * operations)
    is_worth_it = gained > WORTH and operations < MOST_OPERATIONS
    return is_worth_it and is_compilable(objective, optimizer) and is_available()  # the last loads LLVM


def is_compilable(objective: Objective, optimizer: Optimizer) -> bool:
    """Whether a program can be written for these."""
    is_adam = type(optimizer) in {Adam, AdamW} and optimizer.clip_norm is None
    return is_adam and is_explicit(objective) and has_plan(objective)


NOTHING = "define void @nothing() {\n  ret void\n}\n"
"""A function in LLVM's language."""


class StepChunk(NamedTuple):
    """Some steps to be taken."""

    rows: Tensor
    """What the network is given, (n, d), contiguous."""
    targets: Tensor
    """What it is to give, (n, d), contiguous."""
    order: Tensor
    """Which rows the steps are to use, (n_steps · n_rows,) whole numbers."""
    n_rows: int
    """Rows of every step."""
    rates: Sequence[float]
    """The learning rate of each."""
    kl_weights: Sequence[float]
    """The weight of the prior in each step, per nat."""
    keys: Tensor
    """Whole numbers, (n_steps,), from which each draws what is random in it."""


def draws_compiled(objective: Objective) -> bool:
    """Whether a program does to rows what the corruption does, if there is one."""
    return damages_of(objective) is not None


def lying(objective: Objective) -> Callable[[Tensor], bool]:
    """Which weights of an objective, (out, in), lie transposed for a program.

    A product along columns, and one of dot products, are made of each weight, forward and back; dot products are quick
    where they are long. The first layer has nothing to give back, so there the columns are of what comes out.
    """
    first = next(objective.encoder.parameters())
    return lambda weight: weight.dim() == 2 and (weight is first or weight.shape[0] > weight.shape[1])


def kl_weight_of(objective: Objective, progress: float) -> float:
    """What a row is charged for a nat of the prior when so much of the steps is taken, in [0, 1]."""
    return objective.code.weight_at(progress) / objective.n_terms


def fresh_keys(n_steps: int, generator: torch.Generator | None) -> Tensor:
    """Keys for so many steps."""
    return torch.randint(2**62, (n_steps,), generator=generator)


class CompiledSteps:
    """Takes steps of training by a compiled program.

    Parameters
    ----------
    objective, optimizer
        Those for which `is_compilable` holds.
    values
        All parameters of the objective, in one buffer.
    n_rows
        Rows of the largest batch.
    """

    def __init__(self, objective: Objective, optimizer: Optimizer, values: Tensor, n_rows: int) -> None:
        self.optimizer, self.values, self.loss = optimizer, values, objective.choices.loss
        self._n_terms = objective.n_terms
        self.program = _program(plan_for(objective, optimizer, values, n_rows))
        self.operations = 6.0 * n_rows * sum(layer.inner * layer.outer for layer in self.program.plan.layers)
        self._work = torch.zeros(self.program.layout.size)
        self._table = np.zeros(len(TABLE), dtype=np.int64)
        self._waiting = np.zeros(1, dtype=np.int64)
        self._crew = Crew()
        self._one_thread_only = False

    @property
    def n_steps(self) -> int:
        """How many steps to take at once."""
        return max(1, int(OPERATIONS_AT_ONCE / self.operations))

    def __call__(self, steps: StepChunk, state: dict[str, Tensor], most_threads: int | None = None) -> Tensor:
        """Take steps; gives reconstruction, penalty and prior of each, (n_steps, 3).

        Parameters
        ----------
        steps
            Which.
        state
            Of the optimiser: its running means, and the number of steps taken, which are moved on.
        most_threads
            Threads that may share the work, on which the result does not depend; None: those of torch.
        """
        for tensor, kind in ((steps.rows, torch.float32), (steps.targets, torch.float32), (steps.order, torch.int64)):
            assert tensor.is_contiguous()
            assert tensor.dtype == kind
        n_steps = len(steps.rates)
        rates, losses = self._rates(steps, int(state["step"])), torch.empty(n_steps, PARTS)
        most = 1 if self._one_thread_only else most_threads or torch.get_num_threads()
        n_threads = max(1, min(most, int(self.operations / OPERATIONS_PER_THREAD)))
        means = state["exp_avg"], state["exp_avg_sq"]
        buffers = (steps.rows, steps.targets, steps.order, self.values, *means, rates, steps.keys, losses, self._work)
        places = [buffer.data_ptr() for buffer in buffers]
        told = (*places, self._waiting.ctypes.data), (n_steps, steps.n_rows)
        if n_threads == 1 or not self._crew.run(self._share_of(told, n_threads, buffers), n_threads):
            self._one_thread_only = n_threads > 1  # the system has no more; results do not depend on their number
            self._share_of(told, 1, buffers)(0)
        state["step"] += n_steps
        return losses

    def _share_of(
        self, told: tuple[Sequence[int], Sequence[int]], n_threads: int, buffers: Sequence[Tensor]
    ) -> Callable[[int], None]:
        """What one of so many threads is to do, by its number."""
        places, numbers = told
        self._waiting[0] = 0
        self._table[:] = [*places, n_threads, *numbers]

        def share(thread: int, _kept: Sequence[Tensor] = buffers) -> None:  # the memory lives as long as a thread runs
            self.program.train(self._table.ctypes.data, thread)

        return share

    def _rates(self, steps: StepChunk, taken: int) -> Tensor:
        """What goes with each step, (n_steps, 6): see `plans.RATES`."""
        step, rate = taken + 1.0 + np.arange(len(steps.rates)), np.asarray(steps.rates, dtype=np.float64)
        betas = self.optimizer.kernel_settings()
        columns = (
            rate / (1.0 - betas["beta1"] ** step),
            1.0 / np.sqrt(1.0 - betas["beta2"] ** step),
            1.0 - rate * betas["weight_decay"],
            self._shares(steps),
            np.full_like(rate, 1.0 / steps.n_rows),
            np.asarray(steps.kl_weights),
        )
        return torch.from_numpy(np.stack(columns, axis=1).astype(np.float32))

    def _shares(self, steps: StepChunk) -> np.ndarray:
        """By how much the loss of one number counts in each step, (n_steps,): one over what is counted in it."""
        if not self.loss.admits_missing:
            return np.full(len(steps.rates), 1.0 / (steps.n_rows * self._n_terms))
        if len(steps.order) < len(steps.targets):  # not kept for the next call: buffers of rows are filled again
            rows = self.loss.counted(steps.targets[steps.order])
        else:
            rows = self.loss.counted(steps.targets)[steps.order]
        shares: np.ndarray = 1.0 / rows.double().view(len(steps.rates), -1).sum(1).clamp(min=1.0).numpy()
        return shares


def _program(plan: Plan) -> Program:
    from isthmus.training.compiled.program import program_for  # noqa: PLC0415  # loads LLVM

    return program_for(plan)
