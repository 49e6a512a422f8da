"""The compiled engine: steps of dense models on the CPU by programs written for their sizes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from isthmus.exceptions import IsthmusWarning
from isthmus.training.engines.compiled.plans import PARTS, TABLE, Plan, corruptions_of, plan_for
from isthmus.training.engines.compiled.refusals import reason_against
from isthmus.training.engines.compiled.thread_team import Crew
from isthmus.training.engines.flat_parameters import FlatParameters
from isthmus.training.engines.seam import OPERATIONS_AT_ONCE, Job, StepChunk
from isthmus.training.objective import Objective

if TYPE_CHECKING:
    from isthmus.training.engines.compiled.program import Program

MEANS = ("exp_avg", "exp_avg_sq")
"""Adam's running means, as torch names them."""
OPERATIONS_PER_THREAD = 4e6
"""Floating-point operations in a step that are worth a thread of their own."""


def reason_unavailable() -> str | None:
    """Why nothing can be compiled on this machine; None if LLVM works."""
    if os.environ.get("ISTHMUS_COMPILE", "1") == "0":
        return "the environment variable ISTHMUS_COMPILE=0 turns it off"
    if find_spec("llvmlite") is None:
        return "llvmlite is not installed"
    return None if _works() else "LLVM does not work here"


@cache
def _works() -> bool:
    """Whether LLVM can compile for this processor; if not, a warning is given once."""
    try:
        from isthmus.training.engines.compiled.target import Library  # noqa: PLC0415  # loads LLVM

        library = Library(NOTHING)
        library.function("nothing")()
    except (ImportError, OSError, RuntimeError) as error:
        text = f"Steps are not compiled, so training is slower, because LLVM does not work here: {error}"
        warnings.warn(text, IsthmusWarning, stacklevel=2)
        return False
    return True


NOTHING = "define void @nothing() {\n  ret void\n}\n"
"""A function in LLVM's language."""


def draws_compiled(objective: Objective) -> bool:
    """Whether the program can apply the corruption, or there is no corruption."""
    return corruptions_of(objective) is not None


def lying(objective: Objective) -> Callable[[Tensor], bool]:
    """Which weights of an objective, (out, in), are stored transposed for a program.

    Each weight is used in a product along columns and in one of dot products, forward and back; dot products are fast
    if they are long. The first layer has no backward product, so its columns are those of the output.
    """
    first = next(objective.encoder.parameters())
    return lambda weight: weight.dim() == 2 and (weight is first or weight.shape[0] > weight.shape[1])


def kl_weight_of(objective: Objective, progress: float) -> float:
    """Weight of the prior per row after this fraction of the steps, in [0, 1]."""
    return objective.code.weight_at(progress) / objective.n_terms


def fresh_keys(n_steps: int, generator: torch.Generator | None) -> Tensor:
    """Random keys, one per step."""
    return torch.randint(2**62, (n_steps,), generator=generator)


class CompiledEngine:
    """Takes steps by a program compiled for one network, one loss and one optimiser.

    Parameters
    ----------
    job
        One that is not refused.
    """

    name: ClassVar[str] = "compiled"

    def __init__(self, job: Job) -> None:
        self.objective, self.optimizer = job.objective, job.optimizer
        self.flat = FlatParameters(job.objective, lying(job.objective))
        values = self.flat.values.detach()
        self.state = {"step": values.new_zeros(()), **{name: torch.zeros_like(values) for name in MEANS}}
        self.program = _program(plan_for(job.objective, job.optimizer, values, job.n_rows))
        self.operations = 6.0 * job.n_rows * sum(layer.inner * layer.outer for layer in self.program.plan.layers)
        self.can_run_beside = draws_compiled(job.objective)  # else torch draws, and changes state of the process
        self._work = torch.zeros(self.program.layout.size)
        self._table = np.zeros(len(TABLE), dtype=np.int64)
        self._waiting = np.zeros(1, dtype=np.int64)
        self._crew = Crew()
        self._one_thread_only = False

    @classmethod
    def refuses(cls, job: Job) -> str | None:
        """The reason why a job is not compiled."""
        return reason_against(job) or reason_unavailable()  # the last loads LLVM

    @classmethod
    def of(cls, job: Job) -> Self:
        """The engine for a job that is not refused."""
        return cls(job)

    @property
    def steps_at_once(self) -> int:
        """How many steps to run in one call."""
        return max(1, int(OPERATIONS_AT_ONCE / self.operations))

    def take(self, steps: StepChunk) -> Tensor:
        """Take steps; gives the parts of the loss of each, (n_steps, 4).

        All threads of torch for the calling thread may share the work; the result does not depend on their number.
        """
        parts = self._all_at_once(steps) if draws_compiled(self.objective) else self._one_by_one(steps)
        return torch.cat([parts.sum(1, keepdim=True), parts], dim=1)

    def _all_at_once(self, steps: StepChunk) -> Tensor:
        """Take steps whose corruption the program draws; a last step with fewer rows is a separate call."""
        given, targets = self.objective.given_and_target(steps.rows)
        if not (given.is_contiguous() and targets.is_contiguous()):
            # one row holds both, and programs take contiguous rows; only the rows of these steps are copied
            given, targets = given[steps.order], targets[steps.order]
            steps = steps._replace(order=torch.arange(len(steps.order)))
        n_whole = len(steps.order) // steps.n_rows
        parts = []
        for part in (slice(0, n_whole), slice(n_whole, len(steps.rates))):
            if part.start < part.stop:
                order = steps.order[part.start * steps.n_rows : part.stop * steps.n_rows]
                rates, progress = steps.rates[part], steps.progress[part]
                some = steps._replace(rows=given, order=order, rates=rates, progress=progress)
                parts.append(self._call(some, targets))
        return torch.cat(parts)

    def _one_by_one(self, steps: StepChunk) -> Tensor:
        """Take steps whose corruption torch computes: the program gets the corrupted rows and the clean ones."""
        parts = []
        for place, index in enumerate(steps.orders):
            part = slice(place, place + 1)
            x, target = self.objective.given_and_target(steps.rows[index])
            with torch.no_grad():
                given = self.objective.corrupt(self.objective.filled(x), steps.generator).contiguous()
            order = torch.arange(len(x))
            one = StepChunk(given, order, len(x), steps.rates[part], steps.progress[part], steps.generator)
            parts.append(self._call(one, target.contiguous()))
        return torch.cat(parts)

    def _call(self, steps: StepChunk, targets: Tensor) -> Tensor:
        """Steps on equally many rows: reconstruction, penalty and prior of each, (n_steps, 3)."""
        rows, order, keys = steps.rows, steps.order, fresh_keys(len(steps.rates), steps.generator)
        for tensor, kind in ((rows, torch.float32), (targets, torch.float32), (order, torch.int64)):
            assert tensor.is_contiguous()
            assert tensor.dtype == kind
        n_steps, n_rows = len(keys), len(order) // len(keys)
        weights = [kl_weight_of(self.objective, progress) for progress in steps.progress]
        rates = self._rates(steps.rates, weights, self._shares(targets, order, n_steps), n_rows)
        losses = torch.empty(n_steps, PARTS)
        most = 1 if self._one_thread_only else torch.get_num_threads()
        n_threads = max(1, min(most, int(self.operations / OPERATIONS_PER_THREAD)))
        means = (self.state[name] for name in MEANS)
        buffers = (
            *(rows, targets, order, self.flat.values.detach(), *means),
            *(rates, keys, losses, self._work),
        )
        places = [buffer.data_ptr() for buffer in buffers]
        told = (*places, self._waiting.ctypes.data), (n_steps, n_rows)
        if n_threads == 1 or not self._crew.run(self._share_of(told, n_threads, buffers), n_threads):
            self._one_thread_only = n_threads > 1  # the system has no more; results do not depend on their number
            self._share_of(told, 1, buffers)(0)
        self.state["step"] += n_steps
        return losses

    def _share_of(
        self, told: tuple[Sequence[int], Sequence[int]], n_threads: int, buffers: Sequence[Tensor]
    ) -> Callable[[int], None]:
        """A function that does the share of work of one of `n_threads` threads, by its number."""
        places, numbers = told
        self._waiting[0] = 0
        self._table[:] = [*places, n_threads, *numbers]

        def share(thread: int, _kept: Sequence[Tensor] = buffers) -> None:  # the memory lives as long as a thread runs
            self.program.train(self._table.ctypes.data, thread)

        return share

    def _rates(self, rates: Sequence[float], kl_weights: Sequence[float], shares: np.ndarray, n_rows: int) -> Tensor:
        """The numbers of each step, (n_steps, 6): see `plans.RATES`."""
        rate, betas = np.asarray(rates, dtype=np.float64), self.optimizer.kernel_settings()
        step = int(self.state["step"]) + 1.0 + np.arange(len(rate))
        columns = (
            rate / (1.0 - betas["beta1"] ** step),
            1.0 / np.sqrt(1.0 - betas["beta2"] ** step),
            1.0 - rate * betas["weight_decay"],
            shares,
            np.full_like(rate, 1.0 / n_rows),
            np.asarray(kl_weights),
        )
        return torch.from_numpy(np.stack(columns, axis=1).astype(np.float32))

    def _shares(self, targets: Tensor, order: Tensor, n_steps: int) -> np.ndarray:
        """Weight of one term of the loss in each step, (n_steps,): one over the number of terms."""
        loss = self.objective.choices.loss
        if not loss.admits_missing:
            return np.full(n_steps, 1.0 / (len(order) // n_steps * self.objective.n_terms))
        few = len(order) < len(targets)  # not kept for the next call: buffers of rows are filled again
        rows = loss.counted(targets[order]) if few else loss.counted(targets)[order]
        shares: np.ndarray = 1.0 / rows.double().view(n_steps, -1).sum(1).clamp(min=1.0).numpy()
        return shares


def _program(plan: Plan) -> Program:
    from isthmus.training.engines.compiled.program import program_for  # noqa: PLC0415  # loads LLVM

    return program_for(plan)
