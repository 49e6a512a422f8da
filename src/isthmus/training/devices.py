"""Devices: which one to use, and an error that says what there is when the one asked for is not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

PRECISIONS = ("float32", "tf32", "bf16")


SHARED_WORK = 1e8
"""Floating-point operations in a step below which one thread does it as fast as two."""


@contextmanager
def threads_for(work: float) -> Iterator[None]:
    """Run a block with one thread if its steps are too small to share, and put the number of threads back.

    Such steps gain nothing from a second thread on an idle machine, and lose much when another process wants its core:
    threads that wait for each other hundreds of times a step then wait in vain.
    """
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if work < SHARED_WORK else before)
        yield
    finally:
        torch.set_num_threads(before)


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
    if device.type == "cuda" and device.index is None and there[0].startswith("cuda"):
        return torch.device(there[0])
    if str(device) not in there:
        raise ValueError(f"device={name!r} is not on this machine, which has {', '.join(there)}; use device='auto'.")
    return device
