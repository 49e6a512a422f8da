"""The floor: the matrix products of an epoch and nothing else, by the library and the threads that are quickest."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from protocol import Job, Workload, serve

Step = Callable[[torch.Tensor], None]
LEAST, LINEAR = 4e6, "_linear_pointwise"
"""Floating-point operations from which a product is tried by oneDNN too, and what torch calls that."""


def by_torch(workload: Workload) -> Step:
    """A step by torch's matrix library."""
    weights, outputs, gradients, back = buffers(workload)

    def step(x: torch.Tensor) -> None:
        given = [x, *outputs[:-1]]
        for weight, h, out in zip(weights, given, outputs, strict=True):
            torch.mm(h, weight.t(), out=out)
        for index in range(len(weights) - 1, -1, -1):
            torch.mm(outputs[index].t(), given[index], out=gradients[index])
            if index:
                torch.mm(outputs[index], weights[index], out=back[index])

    return step


def by_onednn(workload: Workload) -> Step:
    """A step whose large products are oneDNN's, which on some processors are faster."""
    weights, outputs, gradients, back = buffers(workload)
    linear = getattr(torch.ops.mkldnn, LINEAR).default
    is_large = [2.0 * workload.batch_size * weight.numel() >= LEAST for weight in weights]

    def product(large: bool, left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        return linear(left, right.t(), None, "none", [], "") if large else torch.mm(left, right, out=out)

    def step(x: torch.Tensor) -> None:
        given = [x]
        for weight, large, out in zip(weights, is_large, outputs, strict=True):
            given.append(product(large, given[-1], weight.t(), out))
        gradient = given.pop()
        for index in range(len(weights) - 1, -1, -1):
            large, h = is_large[index], given[index]
            if weights[index].shape[0] > weights[index].shape[1]:
                product(large, h.t(), gradient, gradients[index].t())
            else:
                product(large, gradient.t(), h, gradients[index])
            if index:
                gradient = product(large, gradient, weights[index], back[index])

    return step


def buffers(workload: Workload) -> tuple[list[torch.Tensor], ...]:
    """Weights, outputs, gradients of weights and of inputs."""
    weights = [torch.randn(out, inner) * 0.05 for inner, out in pairwise(workload.sizes)]
    outputs = [torch.empty(workload.batch_size, out) for out in workload.sizes[1:]]
    gradients = [torch.empty_like(weight) for weight in weights]
    back = [torch.empty(workload.batch_size, inner) for inner in workload.sizes[:-1]]
    return weights, outputs, gradients, back


def quickest(steps: list[Step], x: torch.Tensor) -> Step:
    """The quickest of several, on one thread or on all, which are set."""
    taken: dict[tuple[int, int], float] = {}
    for place, step in enumerate(steps):
        for n_threads in (1, torch.get_num_threads()):
            torch.set_num_threads(n_threads)
            step(x)
            began = time.perf_counter()
            for _ in range(100):
                step(x)
            taken[place, n_threads] = time.perf_counter() - began
    place, n_threads = min(taken, key=taken.__getitem__)
    torch.set_num_threads(n_threads)
    return steps[place]


@torch.no_grad()
def prepare(job: Job) -> dict[str, Any]:
    rows, batch = torch.from_numpy(job.rows), job.workload.batch_size
    makers = [by_torch, by_onednn] if hasattr(torch.ops.mkldnn, LINEAR) else [by_torch]
    step = quickest([make(job.workload) for make in makers], rows[:batch])

    def epoch() -> None:
        with torch.no_grad():
            for start in range(0, len(rows) - batch + 1, batch):
                step(rows[start : start + batch])

    return {"epoch": epoch}


serve(prepare)
