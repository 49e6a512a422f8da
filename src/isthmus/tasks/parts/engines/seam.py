"""What an engine is, and the registry of all engines."""

from __future__ import annotations

import importlib.util
from collections.abc import Generator, Sequence
from typing import ClassVar

from isthmus.choices.registry import Registry
from isthmus.tasks.parts.stamps import Part
from isthmus.tasks.parts.work import Outcome, ToOutcome


class PartEngine:
    """Runs a picklable function on each of some parts.

    Attributes
    ----------
    packages, extra
        Modules that it needs, and the extra of isthmus that installs them.
    """

    packages: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""

    def check(self, address: str | None) -> None:
        """Raise an error if the engine cannot run here; starts nothing."""
        missing = [name for name in self.packages if importlib.util.find_spec(name.partition(".")[0]) is None]
        if missing:
            raise ImportError(
                f"The engine needs {missing[0].partition('.')[0]}, which is not installed; "
                f"pip install 'isthmus[{self.extra}]'."
            )

    def run(self, work: ToOutcome, parts: Sequence[Part], address: str | None) -> Generator[Outcome]:
        """The outcomes, in any order, each once; closing the iterator ends the run.

        Raises
        ------
        ProcessError
            The engine gave up.
        """
        raise NotImplementedError


PART_ENGINES: Registry[PartEngine] = Registry("engine", PartEngine)
"""All engines by short name."""


def first_line(error: BaseException) -> str:
    """The first line of an engine's error, which may quote pages of traces."""
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
