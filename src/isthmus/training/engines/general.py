"""The general engine: autograd, for any objective on any device; on CUDA its steps are recorded as graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from isthmus.choices.draws import drawn_from
from isthmus.training.engines.cuda_graphs import CudaRecorder, RecordedSteps
from isthmus.training.engines.flat_parameters import FlatParameters
from isthmus.training.engines.seam import OPERATIONS_AT_ONCE, Job, StepChunk
from isthmus.training.objective import LossParts, count_parameters
from isthmus.training.schedule import Optimizer

STEPS_ON_DEVICE = 32
"""Most steps in one call on other devices than the CPU; the loop waits for the device after each call."""
NUMBERS_ON_DEVICE = 2**24
"""Most numbers in the rows of such steps, which are copied there together."""
PIECES = 36
"""Tensors that one launch of the fused kernel of Adam takes."""
SWEEP_EVERY = 128
"""Steps after which running means that have all but vanished are set to zero."""


class FusedKernel:
    """A fused kernel of torch for a whole optimiser step.

    Called itself, it takes a tenth of what torch's ``step()`` takes for small networks, and spares the second that
    torch needs to load what its optimisers want.
    """

    def __init__(self, kernel: Callable[..., None], settings: dict[str, float]) -> None:
        self.kernel, self.settings = kernel, settings

    @classmethod
    def of(cls, optimizer: Optimizer) -> FusedKernel | None:
        """The kernel of an optimiser, if this torch has it: its name is private to torch."""
        kernel = getattr(torch, optimizer.kernel or "", None)
        return None if kernel is None else cls(kernel, optimizer.kernel_settings())

    def __call__(self, values: Tensor, gradients: Tensor, state: dict[str, Tensor], rate: float | Tensor) -> None:
        """Update the values and the running means of the state."""
        means, squares, step = (state[name] for name in ("exp_avg", "exp_avg_sq", "step"))
        step += 1
        if step.device.type == "cpu" and int(step) % SWEEP_EVERY == 0:
            _sweep(means, squares)
        lists = [_chunks(each) for each in (values, gradients, means, squares)]
        self.kernel(*lists, [], [step] * len(lists[0]), lr=rate, amsgrad=False, maximize=False, **self.settings)


def _chunks(flat: Tensor) -> list[Tensor]:
    """A buffer as the fused kernel takes it: in chunks on CUDA, whole elsewhere.

    On CUDA a block of threads takes 65,536 numbers of a tensor, so that a small network would keep a few of the many
    processors busy: for S1 the step of Adam took 45 of 168 µs on an H200.
    """
    if flat.device.type != "cuda":
        return [flat]
    size = -(-flat.numel() // PIECES)
    return list(flat.split(max(4, -(-size // 4) * 4)))  # whole quadruples, which are loaded at once


def _sweep(*means: Tensor) -> None:
    """Set numbers to zero before they become denormal, because processors are slow with those.

    A unit that is silent leaves a running mean that shrinks by a tenth a step, and would stay at the smallest denormal
    for good: after two epochs of S1 Adam took 0.17 ms a step instead of 0.09. No weight moves by such numbers.
    """
    for mean in means:
        mean[mean.abs() < 1e-30] = 0.0


class GeneralEngine:
    """Takes steps by autograd over flat buffers.

    Parameters
    ----------
    job
        Any.
    """

    name: ClassVar[str] = "general"
    can_run_beside = False

    def __init__(self, job: Job) -> None:
        self.objective, self.precision, self.processes = job.objective, job.precision, job.processes
        self.flat = FlatParameters(job.objective)
        self.clip_norm, self.fused = job.optimizer.clip_norm, FusedKernel.of(job.optimizer)
        self._optimizer = job.optimizer.build(self.flat.values) if self.fused is None else None
        values = self.flat.values.detach()
        self._state = {"step": values.new_zeros(())}
        self._state |= {name: torch.zeros_like(values) for name in ("exp_avg", "exp_avg_sq")}
        factors = job.objective.rate_factors()
        self._factors = self.flat.spread(factors, 1.0) if factors else None
        self._draws_unseen = job.objective.draws_unseen()
        self._operations = 6.0 * job.n_rows * count_parameters(job.objective)
        self._batch = values.new_empty(job.n_rows, job.objective.row_width)
        stays = self.fused is not None and not job.objective.code.anneals and not job.objective.waits_for_host()
        self.recorded: RecordedSteps | None = None
        if values.device.type == "cuda" and stays and job.processes.alone:
            self.recorded = RecordedSteps(self.step, self._batch.new_empty(self.steps_at_once, *self._batch.shape),
                                          CudaRecorder())  # fmt: skip

    @classmethod
    def refuses(cls, job: Job) -> str | None:  # noqa: ARG003  # as every engine has it
        """Nothing."""
        return None

    @classmethod
    def of(cls, job: Job) -> Self:
        """The engine for a job."""
        return cls(job)

    @property
    def state(self) -> dict[str, Tensor]:
        """The optimiser's running means, by name."""
        return self._state if self._optimizer is None else self._optimizer.state[self.flat.values]

    @property
    def steps_at_once(self) -> int:
        """How many steps to run in one call."""
        if self._batch.device.type == "cpu":
            return max(1, int(OPERATIONS_AT_ONCE / self._operations))
        return max(1, min(STEPS_ON_DEVICE, NUMBERS_ON_DEVICE // max(1, self._batch.numel())))

    def take(self, steps: StepChunk) -> Tensor:
        """Take steps; gives the parts of the loss of each, (n_steps, 4)."""
        if self.recorded is not None:
            rows = steps.rows.index_select(0, steps.order.to(steps.rows.device))
            return self.recorded(rows, steps.rates, steps.generator)
        log: list[Tensor] = []
        for index, rate, progress in zip(steps.orders, steps.rates, steps.progress, strict=True):
            if self.objective.code.anneals:
                self.objective.code.progress = progress
            mine = self.processes.share(index)
            batch = self._batch[: len(mine)]
            torch.index_select(steps.rows, 0, mine.to(batch.device), out=batch)
            log += [part.detach() for part in self.step(batch, rate, steps.generator, len(index))]
        parts = torch.stack(log).view(len(steps.rates), -1)  # once, since writing each costs 15 µs
        if not self.processes.alone:  # once a chunk too: a second message a step would cost as long as a small step
            parts *= parts.new_tensor([[self.processes.weight(len(index))] for index in steps.orders])
        return self.processes.add_up(parts)

    def step(
        self, x: Tensor, rate: float | Tensor, generator: torch.Generator | None, n_rows: int | None = None
    ) -> LossParts:
        """Train on one batch, (n, row width); a learning rate on the device is read at every replay of a graph.

        With several processes, x is the share of this one of a batch of `n_rows`.
        """
        self.flat.gradients.zero_()
        is_half = self.precision == "bf16"
        autocast = torch.autocast(x.device.type, torch.bfloat16, enabled=is_half, cache_enabled=False)
        n_rows = len(x) if n_rows is None else n_rows
        with autocast, self.processes.drawing(n_rows), drawn_from(generator if self._draws_unseen else None):
            parts: LossParts = self.objective(x, generator)
        parts.total.backward()
        if not self.processes.alone:
            self.processes.add_up(self.flat.gradients.mul_(self.processes.weight(n_rows)))
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_([self.flat.values], self.clip_norm)
        if self._factors is None:
            self._move(rate)
            return parts
        before = self.flat.values.detach().clone()
        self._move(rate)
        # In every optimiser of the library a step is in proportion to its rate: this is a rate for each parameter.
        torch.lerp(before, self.flat.values.detach(), self._factors, out=self.flat.values.detach())
        return parts

    def _move(self, rate: float | Tensor) -> None:
        """One step of the optimiser."""
        if self.fused is not None:
            self.fused(self.flat.values.detach(), self.flat.gradients, self._state, rate)
            return
        assert self._optimizer is not None
        self._optimizer.param_groups[0]["lr"] = float(rate)
        self._optimizer.step()
