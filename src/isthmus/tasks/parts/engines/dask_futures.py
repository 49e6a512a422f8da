"""Dask: one future for each part, on the workers of this machine or of a cluster."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from isthmus.exceptions import ProcessError
from isthmus.tasks.parts.engines.seam import PART_ENGINES, PartEngine, first_line
from isthmus.tasks.parts.stamps import Part
from isthmus.tasks.parts.work import Outcome, ToOutcome

TRIMMING = "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_"
"""Dask's setting by which glibc returns freed memory at once: tensors are mapped again and again, and scoring took
twice the CPU time, nearly half of it in the kernel."""


@PART_ENGINES.register("dask")
class DaskFutures(PartEngine):
    """Dask's distributed scheduler, which gives the parts of a lost worker to others."""

    packages = ("dask", "distributed")
    extra = "dask"

    def run(self, work: ToOutcome, parts: Sequence[Part], address: str | None) -> Generator[Outcome]:
        from distributed import KilledWorker, as_completed  # noqa: PLC0415  # optional, and slow to import

        try:
            with _client(address) as client:
                run = secrets.token_hex(4)  # a key that is known from an earlier run would not be run again
                futures = client.map(work, parts, key=[f"{part.name} of run {run}" for part in parts], pure=False)
                try:
                    for _, outcome in as_completed(futures, with_results=True):
                        yield outcome
                finally:
                    client.cancel(futures)
        except (KilledWorker, OSError) as error:
            raise ProcessError(f"Dask gave up ({first_line(error)}).") from error


@contextmanager
def _client(address: str | None) -> Iterator[Any]:
    """The client of the program if there is one and no other address is given, else one for this run.

    On this machine each worker is a process with one thread: warnings of Python are recorded a process, and torch and
    numpy do not hold the lock of the interpreter for long, but the tables between them do.
    """
    import dask  # noqa: PLC0415  # optional
    from distributed import Client, LocalCluster  # noqa: PLC0415  # optional, and slow to import

    if address is not None:
        with Client(address) as client:
            yield client
        return
    own = _own_client()
    if own is not None:
        yield own
        return
    with (
        dask.config.set({TRIMMING: None}),
        # warnings tell of workers that end slowly, or are lost and started again
        LocalCluster(threads_per_worker=1, dashboard_address=":0", silence_logs=logging.ERROR) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _own_client() -> Any:
    """The client that the program has made; None if there is none."""
    from distributed import get_client  # noqa: PLC0415  # optional, and slow to import

    with suppress(ValueError):
        return get_client()
    return None
