"""Devices: which one to use, and an error that says what there is when the one asked for is not there."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
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
        use_threads(max(1, min(before, int(work / WORK_PER_THREAD))))
        yield
    finally:
        use_threads(before)


def use_threads(n_threads: int) -> None:
    """Let what this thread computes next be shared by so many threads; no other thread of the program notices.

    ``torch.set_num_threads`` also changes the number for all threads that start later: two fits at once then took each
    other's number for their own, and sums in another order are other models. OpenMP and MKL keep one number for each
    thread. Where their functions cannot be reached, the number stays as it is.
    """
    if torch.get_num_threads() != n_threads:  # asking also makes torch set up a new thread, before it is changed here
        for set_number in _thread_setters():
            set_number(n_threads)


@cache
def _thread_setters() -> tuple[Callable[[int], object], ...]:
    """The functions of the libraries that torch computes with that set the calling thread's number of threads."""
    folder = Path(torch.__file__).parent / "lib"
    names = {"win32": ("torch_cpu.dll", "libiomp5md.dll"), "darwin": ("libtorch_cpu.dylib", "libomp.dylib")}
    found = []
    for name in names.get(sys.platform, ("libtorch_cpu.so",)):  # on Linux it also finds what it depends on
        with suppress(OSError):
            library = ctypes.CDLL(str(folder / name))
            found += [
                getattr(library, setter)
                for setter in ("omp_set_num_threads", "MKL_Set_Num_Threads_Local")
                if hasattr(library, setter)
            ]
    return tuple(found)


_precision_changed = threading.Condition()
_precisions: list[str] = []
_before: list[str] = []
"""The precision of each block that runs now; torch has one for the whole process."""


@contextmanager
def precision_for(name: str, device: torch.device) -> Iterator[None]:
    """Run a block with that precision of matrix products and convolutions on CUDA, and put the old one back.

    ``"float32"`` means it: torch by itself lets convolutions drop to TF32. The setting is the process's, so threads
    that want the same share it, and one that wants another waits until they are done. On other devices nothing is set.
    """
    if device.type != "cuda":
        yield
        return
    wanted = "tf32" if name == "tf32" else "ieee"
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    with _precision_changed:
        _precision_changed.wait_for(lambda: not _precisions or _precisions[0] == wanted)
        if not _precisions:
            _before[:] = [backend.fp32_precision for backend in backends]
            for backend in backends:
                backend.fp32_precision = wanted
        _precisions.append(wanted)
    try:
        yield
    finally:
        with _precision_changed:
            _precisions.pop()
            if not _precisions:
                for backend, precision in zip(backends, _before, strict=True):
                    backend.fp32_precision = precision
            _precision_changed.notify_all()


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
