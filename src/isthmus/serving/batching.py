"""Requests that wait at the same time are answered together, on a thread of their own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from isthmus.serving.limits import Limits
from isthmus.serving.replies import RefusedError, Reply
from isthmus.serving.work import Job

LOG = logging.getLogger("isthmus.serving")
FAILED = RefusedError(500, "The server failed; its log says more.")
LATE = RefusedError(504, "The answer took too long; send fewer rows, or try again later.", Retry_After="1")


@dataclass(eq=False)
class _Waiting:
    job: Job
    done: asyncio.Future[None]


@dataclass(eq=False)
class Batcher:
    """Collects jobs while earlier ones are worked on, and hands them over together.

    One thread works: while it is busy, new jobs wait, and they are its next batch. After a batch of several, clients
    send their next requests at about the same time; the next batch waits until as many are there, or for
    `Limits.linger`.
    """

    work: Callable[[Sequence[Job]], None]
    limits: Limits
    waiting: list[_Waiting] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "isthmus-serving")
        self._task: asyncio.Task[None] | None = None
        self._enough: asyncio.Event | None = None
        self._wanted = 1

    async def answer(self, job: Job) -> Reply:
        """The reply to a job, in the end.

        Raises
        ------
        RefusedError
            It took longer than `Limits.seconds`.
        """
        one = _Waiting(job, asyncio.get_running_loop().create_future())
        self.waiting.append(one)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._empty())
        if self._enough is not None and len(self.waiting) >= self._wanted:
            self._enough.set()
        try:
            async with asyncio.timeout(self.limits.seconds):
                await one.done
        except TimeoutError:
            raise LATE from None
        finally:
            job.abandoned = job.reply is None
        return job.reply or FAILED.reply()

    async def _empty(self) -> None:
        """Hand over what waits until nothing does."""
        loop = asyncio.get_running_loop()
        while self.waiting:
            await self._linger()
            batch, self.waiting = self.waiting, []
            self._wanted = len(batch)
            try:
                await loop.run_in_executor(self._thread, self.work, [one.job for one in batch])
            except Exception:
                LOG.exception("A batch failed.")
            for one in batch:
                if not one.done.done():
                    one.done.set_result(None)

    async def _linger(self) -> None:
        if len(self.waiting) >= self._wanted or not self.limits.linger:
            return
        self._enough = asyncio.Event()
        try:
            async with asyncio.timeout(self.limits.linger):
                await self._enough.wait()
        except TimeoutError:
            pass
        finally:
            self._enough = None
