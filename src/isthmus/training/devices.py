"""Devices: which one to use, and an error that says what there is when the one asked for is not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

PRECISIONS = ("float32", "tf32", "bf16")


WORK_PER_THREAD = 2e7
"""Floating-point operations in a step that are worth a thread of their own."""


@contextmanager
def threads_for(work: float) -> Iterator[None]:
    """Run a block with no more threads than its steps have work for, and put the number of threads back.

    Too many gain nothing on an idle machine, and lose much when another process wants a core: threads that wait for
    each other dozens of times a step then wait in vain. The number depends on nothing else, for results do on it.
    """
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(max(1, min(before, int(work / WORK_PER_THREAD))))
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def precision_for(name: str) -> Iterator[None]:
    """Run a block with that precision of matrix products and convolutions on CUDA, and put the old one back.

    ``"float32"`` means it: torch by itself lets convolutions drop to TF32.
    """
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "tf32" if name == "tf32" else "ieee"
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


def available_devices() -> list[str]:
    """The devices of this machine, the fastest first.

    >>> "cpu" in available_devices()
    True
    """
    found = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def choose_device(name: str) -> torch.device:
    """The device of that name; ``"auto"`` is CUDA, then Apple's MPS, then the CPU.

    Raises
    ------
    ValueError
        The name is no device, or the device is not on this machine.
    """
    there = available_devices()
    if name == "auto":
        return torch.device(there[0])
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise ValueError(f"device={name!r} is no device; use 'auto' or one of {', '.join(there)}.") from None
    if device.type == "cpu":
        return torch.device("cpu")  # torch counts CPUs too, but there is only "cpu:0"
    if device.type == "cuda" and device.index is None and there[0].startswith("cuda"):
        return torch.device(there[0])
    if str(device) not in there:
        raise ValueError(f"device={name!r} is not on this machine, which has {', '.join(there)}; use device='auto'.")
    return device
