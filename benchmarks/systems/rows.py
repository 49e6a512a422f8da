"""All rows, in the order of their numbers."""

from benchmarks.systems import kinds, tutorials, uses
from benchmarks.systems.harness import MINUTES, ROWS

LONG = 10.0
"""Minutes from which a row runs only when it is asked for."""

__all__ = ["LONG", "MINUTES", "ROWS", "kinds", "ordered", "tutorials", "uses"]


def ordered(*, long: bool) -> list[str]:
    """The systems by number; the long ones only where they are wanted."""
    wanted = [system for system in ROWS if long or MINUTES[system] < LONG]
    return sorted(wanted, key=lambda system: (int(system.split("-")[0][1:]), system))
