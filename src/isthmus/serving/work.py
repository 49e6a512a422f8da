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
from isthmus.serving.stacking import Stackable, Stacking

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
    asked: Any = None
    stackable: Stackable | None = None
    reply: Reply | None = None
    abandoned: bool = False


@dataclass
class Worker:
    """Answers requests: those with rows of one kind for one route by one call of the model.

    The answer of a request is that of the library's public method on its table. A stack is a shortcut to it: a table
    that gives an error or a warning by itself is not stacked, and every table of a stack that fails is answered alone.
    """

    limits: Limits
    seen_call: Callable[[int], None] = lambda _n_rows: None

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
            job.asked = job.route.read(job.body, job.sent, self.limits)
            job.body = b""

        _keep(job, _refusal(read))
        return job.reply is None

    def _together(self, stack: Sequence[Job]) -> None:
        starts = np.cumsum([0, *(len(job.asked) for job in stack)])
        try:
            with warnings.catch_warnings(action="ignore"):  # each table has been looked at alone
                found = _stacking(stack[0]).together([job.stackable.rows for job in stack if job.stackable is not None])
        except Exception:  # noqa: BLE001  # each is answered alone then, with an error of its own
            return
        self.seen_call(int(starts[-1]))
        unsure = _unsure(_stacking(stack[0]), found, int(starts[-1]))
        for job, start, end in zip(stack, starts[:-1], starts[1:], strict=True):
            if unsure[start:end].any():
                continue
            part = {name: values[start:end] for name, values in found.items()}
            _keep(job, _refusal(lambda job=job, part=part: _finish(job, part, ())))  # type: ignore[misc]

    def _alone(self, job: Job) -> None:
        def work() -> None:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                found = job.route.alone(getattr(job.asked, "table", job.asked), **job.options)
            self.seen_call(len(job.asked))
            _finish(job, found, list(dict.fromkeys(str(each.message) for each in caught)))

        _keep(job, _refusal(work))


def _keep(job: Job, refusal: Reply | None) -> None:
    """Make a refusal the reply, if there is one."""
    if refusal is not None:
        job.reply = refusal


def _stacking(job: Job) -> Stacking:
    assert job.route.stacking is not None  # of all that are stacked
    return job.route.stacking


def _unsure(stacking: Stacking, found: Columns, n_rows: int) -> np.ndarray:
    return np.zeros(n_rows, bool) if stacking.unsure is None else stacking.unsure(found)


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
        if job.route.stacking is None or job.options or len(job.asked) > batch_rows:
            continue
        job.stackable = _stackable(job, job.route.stacking)
        if job.stackable is not None:
            alike[job.route.name, job.stackable.key].append(job)
    for group in alike.values():
        yield from (part for part in _cut(group, batch_rows) if len(part) > 1)


def _cut(jobs: Sequence[Job], batch_rows: int) -> Iterator[list[Job]]:
    part, n_rows = list[Job](), 0
    for job in jobs:
        if part and n_rows + len(job.asked) > batch_rows:
            yield part
            part, n_rows = [], 0
        part.append(job)
        n_rows += len(job.asked)
    if part:
        yield part


def _stackable(job: Job, stacking: Stacking) -> Stackable | None:
    """What of a table is stacked; None if the library has an error or a warning for it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return stacking.of(job.asked)
    except Exception:  # noqa: BLE001  # answered alone, it gets the library's own error or warning
        return None
