"""The floor: the matrix products of an epoch and nothing else, into kept buffers, on as many threads as pay."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from protocol import Job, Workload, serve


def make_step(workload: Workload) -> Callable[[torch.Tensor], None]:
    weights = [torch.randn(out, inner) * 0.05 for inner, out in pairwise(workload.sizes)]
    outputs = [torch.empty(workload.batch_size, out) for out in workload.sizes[1:]]
    gradients = [torch.empty_like(weight) for weight in weights]
    back = [torch.empty(workload.batch_size, inner) for inner in workload.sizes[:-1]]

    def step(x: torch.Tensor) -> None:
        given = [x, *outputs[:-1]]
        for weight, h, out in zip(weights, given, outputs, strict=True):
            torch.mm(h, weight.t(), out=out)
        for index in range(len(weights) - 1, -1, -1):
            torch.mm(outputs[index].t(), given[index], out=gradients[index])
            if index:
                torch.mm(outputs[index], weights[index], out=back[index])

    return step


def choose_threads(step: Callable[[torch.Tensor], None], x: torch.Tensor) -> None:
    """Take one thread where more do not make a step faster."""
    most, taken = torch.get_num_threads(), {}
    for n_threads in (1, most):
        torch.set_num_threads(n_threads)
        began = time.perf_counter()
        for _ in range(100):
            step(x)
        taken[n_threads] = time.perf_counter() - began
    torch.set_num_threads(min(taken, key=taken.__getitem__))


def prepare(job: Job) -> dict[str, Any]:
    rows, batch = torch.from_numpy(job.rows), job.workload.batch_size
    step = make_step(job.workload)
    choose_threads(step, rows[:batch])

    def epoch() -> None:
        for start in range(0, len(rows) - batch + 1, batch):
            step(rows[start : start + batch])

    return {"epoch": epoch}


serve(prepare)
