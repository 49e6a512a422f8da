"""Child processes that start in a few milliseconds, to be killed, interrupted or watched."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["benchmarks.reliability.preloaded"])
"""A server that has loaded the libraries forks the children: 500 imports of torch would take most of an hour."""
LONGEST_SECONDS = 60.0
INTERRUPTED = 99
"""Exit code of a child that `KeyboardInterrupt` ended."""


def start(work: Callable[..., None], *given: Any, log: Path) -> ForkServerProcess:
    """Start ``work(*given)`` in a child and wait until it begins; what it prints goes to the file `log`."""
    ready = CONTEXT.Event()
    child = CONTEXT.Process(target=_run, args=(work, given, ready, log), daemon=True)
    child.start()
    if not ready.wait(LONGEST_SECONDS):
        raise TimeoutError("a child process did not start")
    return child


def _run(work: Callable[..., None], given: tuple[Any, ...], ready: Event, log: Path) -> None:
    file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    for stream in (1, 2):
        os.dup2(file, stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs with SIGINT ignored
    ready.set()
    code = 0
    try:
        work(*given)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except SystemExit as stop:
        code = int(stop.code or 0)
    os._exit(code)  # at once: a later signal would meet the end of multiprocessing, and not of what is tried


def ended(child: ForkServerProcess) -> int | None:
    """The exit code of a child, minus the signal that killed it; None where it did not end and had to be killed."""
    child.join(LONGEST_SECONDS)
    if child.exitcode is None:
        child.kill()
        child.join()
        return None
    return child.exitcode


def seconds_of(work: Callable[..., None], *given: Any, log: Path) -> float:
    """How long a child takes that is left alone."""
    began = time.perf_counter()
    code = ended(start(work, *given, log=log))
    if code:
        raise RuntimeError(f"a child that was left alone ended with {code}:\n{log.read_text(errors='replace')}")
    return time.perf_counter() - began


def command(*words: object) -> None:
    """Run the command line in this process, which ends with its exit code."""
    from isthmus.cli import main  # noqa: PLC0415  # preloaded

    main([str(word) for word in words])


def left_behind(folder: Path) -> list[str]:
    """Temporary files of the library in a folder."""
    return sorted(path.name for path in folder.iterdir() if ".isthmus-" in path.name)
