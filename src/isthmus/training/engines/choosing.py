"""Which engine takes a job."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.training.engines.compiled.engine import CompiledEngine
from isthmus.training.engines.general import GeneralEngine
from isthmus.training.engines.seam import Engine, EngineChoice, Job

ENGINES: tuple[type[Engine], ...] = (CompiledEngine, GeneralEngine)
"""All engines, the quickest first; the last refuses nothing."""


def choose_engine(job: Job, engines: Sequence[type[Engine]] = ENGINES) -> tuple[Engine, EngineChoice]:
    """The first engine that does not refuse a job, and why those before it did.

    What decides is the job alone, never what the process did before or what lies in a cache: results depend on the
    engine up to rounding, and the same seed must give the same model.
    """
    refused: dict[str, str] = {}
    for engine in engines:
        reason = engine.refuses(job)
        if reason is None:
            return engine.of(job), EngineChoice(engine.name, refused)
        refused[engine.name] = reason
    raise RuntimeError(f"No engine takes this run: {refused}.")  # the general one takes all, so this is a defect
