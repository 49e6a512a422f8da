"""Ray Data: one task for each part, on the workers of this machine or of a cluster."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import Any

from isthmus.exceptions import ProcessError
from isthmus.tasks.parts.engines.seam import PART_ENGINES, PartEngine, first_line
from isthmus.tasks.parts.stamps import Part
from isthmus.tasks.parts.work import Outcome, ToOutcome

RETRIES = 3
"""How often Ray starts a task again whose worker died, as Dask does; by default Ray Data never gives up."""


@PART_ENGINES.register("ray")
class RayData(PartEngine):
    """Ray Data, which runs the task of a lost worker again."""

    packages = ("ray",)
    extra = "ray"

    def run(self, work: ToOutcome, parts: Sequence[Part], address: str | None) -> Generator[Outcome]:
        import ray  # noqa: PLC0415  # optional, and slow to import

        def one(row: dict[str, Any]) -> dict[str, str]:
            return {"outcome": work(Part(**row)).to_json()}

        try:
            with _connected(address), _quiet():
                rows = ray.data.from_items([asdict(part) for part in parts], override_num_blocks=len(parts))
                with closing(iter(_mapped(rows, one).iter_rows())) as answered:  # else its threads outlive an error
                    for row in answered:
                        yield Outcome.of_json(row["outcome"])
        except (ray.exceptions.RayError, ConnectionError) as error:
            raise ProcessError(f"Ray gave up ({first_line(error)}).") from error


def _mapped(rows: Any, one: Any) -> Any:
    """Rows with the outcomes; the number of retries is bounded where Ray allows it.

    `Dataset.map` has no named parameter for it. Free ones are deprecated in Ray 2.60 and go in 2.64.
    """
    if "ray_remote_args" not in inspect.signature(rows.map).parameters:
        return rows.map(one)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
        return rows.map(one, max_retries=RETRIES)


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """A connection to Ray; that of the program is used and kept if there is one."""
    import ray  # noqa: PLC0415  # optional, and slow to import

    if ray.is_initialized():
        yield
        return
    ray.init(address=address, logging_level=logging.ERROR, include_dashboard=None if address else False)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _quiet() -> Iterator[None]:
    """No bars and logs of Ray Data: the caller shows how far the work is."""
    from ray.data import DataContext  # noqa: PLC0415  # optional, and slow to import

    context, log = DataContext.get_current(), logging.getLogger("ray.data")
    before = context.enable_progress_bars, log.level
    context.enable_progress_bars = False
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars = before[0]
        log.setLevel(before[1])
