"""All rows, ordered by number."""

from benchmarks.systems import kinds, tutorials, uses
from benchmarks.systems.harness import MINUTES, ROWS

LONG = 10.0
"""Rows that take at least this many minutes run only on request."""

__all__ = ["LONG", "MINUTES", "ROWS", "kinds", "ordered", "tutorials", "uses"]


def ordered(*, long: bool) -> list[str]:
    """The systems by number; long ones only on request."""
    wanted = [system for system in ROWS if long or MINUTES[system] < LONG]
    return sorted(wanted, key=lambda system: (int(system.split("-")[0][1:]), system))
