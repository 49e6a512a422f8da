"""No engine: this process, file by file."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from isthmus.tasks.parts.engines.seam import PART_ENGINES, PartEngine
from isthmus.tasks.parts.stamps import Part
from isthmus.tasks.parts.work import Outcome, ToOutcome


@PART_ENGINES.register("none")
class ThisProcess(PartEngine):
    """File by file in the process of the caller, with the threads of torch."""

    def check(self, address: str | None) -> None:
        if address is not None:
            raise ValueError(
                f"address={address!r} is that of a cluster, but engine='none' is this process; choose 'ray' or 'dask'."
            )

    def run(self, work: ToOutcome, parts: Sequence[Part], address: str | None) -> Generator[Outcome]:
        yield from map(work, parts)
