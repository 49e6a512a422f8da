"""Devices: the choice of one, and an error that lists the available ones."""

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
"""Floating-point operations per step and thread."""


@contextmanager
def threads_for(work: float) -> Iterator[None]:
    """Context manager: limit the number of threads to the work per step, and restore it afterwards.

    More threads gain nothing on an idle machine. On a busy machine they are slow, because threads wait for each other
    many times per step. The number depends on the work and the machine only, because rounding depends on it.
    """
    before = torch.get_num_threads()
    try:
        use_threads(max(1, min(before, int(work / WORK_PER_THREAD))))
        yield
    finally:
        use_threads(before)


def use_threads(n_threads: int) -> None:
    """Set the number of threads for the computations of the calling thread only.

    ``torch.set_num_threads`` also changes the number for all threads that start later: two fits at once used each
    other's number, and the order of sums changed the models. OpenMP and MKL keep one number per thread. If their
    functions cannot be found, the number does not change.
    """
    if torch.get_num_threads() != n_threads:  # this call also makes torch initialise a new thread
        for set_number in _thread_setters():
            set_number(n_threads)


@cache
def _thread_setters() -> tuple[Callable[[int], object], ...]:
    """The functions of torch's libraries that set the number of threads of the calling thread."""
    folder = Path(torch.__file__).parent / "lib"
    names = {"win32": ("torch_cpu.dll", "libiomp5md.dll"), "darwin": ("libtorch_cpu.dylib", "libomp.dylib")}
    found = []
    for name in names.get(sys.platform, ("libtorch_cpu.so",)):  # on Linux with its dependencies
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
"""The precision of each active block; torch has one for the whole process."""


@contextmanager
def precision_for(name: str, device: torch.device) -> Iterator[None]:
    """Context manager: set the precision of matrix products and convolutions on CUDA, and restore it afterwards.

    ``"float32"`` is exact, while torch's default for convolutions is TF32. The setting applies to the whole process:
    threads with the same precision share it, and a thread with another one waits until they have finished. On other
    devices nothing is set.
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
    """The device with this name; ``"auto"``: CUDA if available, else Apple's MPS, else the CPU.

    Raises
    ------
    ValueError
        The name is not a device, or the device is not on this machine.
    """
    there = available_devices()
    if name == "auto":
        return torch.device(there[0])
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise ValueError(f"device={name!r} is not a device; use 'auto' or one of {', '.join(there)}.") from None
    if device.type == "cpu":
        return torch.device("cpu")  # torch counts CPUs too, but there is only "cpu:0"
    if device.type == "cuda" and device.index is None and there[0].startswith("cuda"):
        return torch.device(there[0])
    if str(device) not in there:
        raise ValueError(f"device={name!r} is not on this machine, which has {', '.join(there)}; use device='auto'.")
    return device
