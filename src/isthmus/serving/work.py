"""The work of the server, without the web: many requests in, a reply for each."""

from __future__ import annotations

import logging
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from isthmus.serving.limits import Limits
from isthmus.serving.replies import Columns, RefusedError, Reply, as_reply
from isthmus.serving.routes import Route

LOG = logging.getLogger("isthmus.serving")
CLIENT_ERRORS = (ValueError, TypeError, OverflowError, pa.ArrowException)
"""What the library raises for data that it cannot use."""


@dataclass
class Job:
    """One request on its way: what was asked, and the reply when there is one."""

    route: Route
    body: bytes
    sent: str
    wanted: str
    options: Mapping[str, int] = field(default_factory=dict)
    table: Any = None
    rows: np.ndarray | None = None
    reply: Reply | None = None
    abandoned: bool = False


@dataclass
class Worker:
    """Answers requests: those with rows of one kind for one route by one call of the model.

    The answer of a request is that of the library's public method on its table. A stack is a shortcut to it, taken for
    tables that are valid by themselves: each is read and checked alone, and only its numbers are stacked. A table that
    gives an error or a warning, and every table of a stack that fails, is answered alone.
    """

    limits: Limits
    seen_stack: Callable[[int], None] = lambda _n_rows: None

    def answer(self, jobs: Sequence[Job]) -> None:
        """Give each job its reply; none of them raises."""
        read = [job for job in jobs if not job.abandoned and self._read(job)]
        for stack in _stacks(read if len(read) > 1 else (), self.limits.batch_rows):
            self._together(stack)
        for job in read:
            if job.reply is None and not job.abandoned:
                self._alone(job)

    def _read(self, job: Job) -> bool:
        def read() -> None:
            job.table = job.route.read(job.body, job.sent, self.limits)
            job.body = b""

        job.reply = _refusal(read)
        return job.reply is None

    def _together(self, stack: Sequence[Job]) -> None:
        route, starts = stack[0].route, np.cumsum([0, *(len(job.table) for job in stack)])
        assert route.together is not None  # of all that can be stacked
        try:
            with _silent():
                found = route.together(np.concatenate([job.rows for job in stack if job.rows is not None]))
        except Exception:  # noqa: BLE001  # each is answered alone then, with an error of its own
            return
        self.seen_stack(int(starts[-1]))
        for place, job in enumerate(stack):
            part = {name: values[starts[place] : starts[place + 1]] for name, values in found.items()}
            job.reply = _refusal(lambda job=job, part=part: _finish(job, part, ()))  # type: ignore[misc]

    def _alone(self, job: Job) -> None:
        def work() -> None:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                found = job.route.alone(job.table, **job.options)
            self.seen_stack(len(job.table))
            _finish(job, found, list(dict.fromkeys(str(each.message) for each in caught)))

        refusal = _refusal(work)
        job.reply = refusal or job.reply


def _finish(job: Job, found: Columns, notes: Sequence[str]) -> None:
    job.reply = as_reply(found, notes, job.wanted)


def _refusal(work: Callable[[], None]) -> Reply | None:
    """Do some work of one request; the reply if it fails."""
    try:
        work()
    except RefusedError as error:
        return error.reply()
    except MemoryError:
        return RefusedError(413, "The request does not fit into memory; send it in parts.").reply()
    except CLIENT_ERRORS as error:
        return RefusedError(422, str(error)).reply()
    except Exception as error:
        LOG.exception("A request failed.")
        return RefusedError(500, f"The server failed ({type(error).__name__}); its log says more.").reply()
    return None


def _stacks(jobs: Iterable[Job], batch_rows: int) -> Iterator[list[Job]]:
    """Groups of jobs that one call can answer, of at most `batch_rows` rows."""
    alike = defaultdict[tuple[Any, ...], list[Job]](list)
    for job in jobs:
        if job.route.rows is not None and not job.options and len(job.table) <= batch_rows:
            alike[job.route.name, type(job.table)].append(job)
    ready = defaultdict[tuple[Any, ...], list[Job]](list)
    for job in (job for group in alike.values() if len(group) > 1 for job in group):
        job.rows = _rows_of(job)
        if job.rows is not None:
            ready[job.route.name, job.rows.dtype.str, job.rows.shape[1:]].append(job)
    for group in ready.values():
        yield from (part for part in _cut(group, batch_rows) if len(part) > 1)


def _cut(jobs: Sequence[Job], batch_rows: int) -> Iterator[list[Job]]:
    part, n_rows = list[Job](), 0
    for job in jobs:
        if part and n_rows + len(job.table) > batch_rows:
            yield part
            part, n_rows = [], 0
        part.append(job)
        n_rows += len(job.table)
    if part:
        yield part


def _rows_of(job: Job) -> np.ndarray | None:
    """The rows of a table that is valid by itself; None if the library has an error or a warning for it."""
    assert job.route.rows is not None  # of all that can be stacked
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            rows = job.route.rows(job.table)
    except Exception:  # noqa: BLE001  # answered alone, it gets the library's own error or warning
        return None
    return rows


def _silent() -> warnings.catch_warnings[None]:
    return warnings.catch_warnings(action="ignore")
