"""Threads that run the shares of a compiled program in parallel."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait


class Crew:
    """Runs shares of work that synchronise with each other, each on its own thread: all of them, or none.

    Compiled shares spin until all others have come as far, so one that never starts would keep the rest for good. Each
    thread therefore first waits at a gate, which opens when all are there. The calling thread takes no share: there an
    interrupt may be raised at any line, also between opening the gate and beginning its own share.

    Examples
    --------
    >>> taken = []
    >>> Crew().run(taken.append, 2), sorted(taken)
    (True, [0, 1])
    """

    def __init__(self) -> None:
        self._pool, self._size = ThreadPoolExecutor(1), 1  # makes its threads when it is given work

    def run(self, share: Callable[[int], None], n_threads: int) -> bool:
        """Run ``share(0)`` to ``share(n_threads - 1)`` at once and wait for all; False: the threads cannot be started.

        An exception raised here meanwhile, such as `KeyboardInterrupt`, is raised again when all shares are done: they
        write to memory of the caller.
        """
        if n_threads > self._size:
            self._pool.shutdown(wait=False)
            self._pool, self._size = ThreadPoolExecutor(n_threads), n_threads
        gate, go = threading.Event(), threading.Event()
        jobs: list[Future[None]] = []

        def enter(index: int) -> None:
            gate.wait()
            if go.is_set():
                share(index)

        try:
            for index in range(n_threads):
                jobs.append(self._pool.submit(enter, index))  # noqa: PERF401  # an interrupt must not lose one
            go.set()
        except RuntimeError:  # what Python raises where the system gives no more threads
            return False
        finally:
            gate.set()
            _wait_for(jobs)
        for job in jobs:
            job.result()
        return True


def _wait_for(jobs: list[Future[None]]) -> None:
    """Wait until all jobs are done, then raise the first error that occurred."""
    held: BaseException | None = None
    while True:
        try:
            wait(jobs)
            break
        except BaseException as error:  # noqa: BLE001  # raised below
            held = error
    if held is not None:
        raise held
