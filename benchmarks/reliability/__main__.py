"""``python -m benchmarks.reliability [part ...]``: run the parts named, or all of them."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

from benchmarks.reliability.results import Part, lines, this_run, write

PARTS = {
    "damaged-files": "benchmarks.reliability.damaged_files",
    "kills": "benchmarks.reliability.kills",
    "threads": "benchmarks.reliability.threads",
    "interrupts": "benchmarks.reliability.interrupts",
    "bad-files": "benchmarks.reliability.bad_files",
}
"""The parts by name: modules with ``measure(scale, seed)``, ``SEED``, and ``INTENT``, which says what is clean."""


def main() -> int:
    """Run parts one after the other; returns the total number of failures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"some of {', '.join(PARTS)}; none: all")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the trials to make, in (0, 1]")
    parser.add_argument("--seed", type=int, help="of all draws; without it each part's own")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="also write reliability.md and .json there")
    given = parser.parse_args()
    chosen = given.parts or list(PARTS)
    unknown = [part for part in chosen if part not in PARTS]
    if unknown:
        parser.error(f"unknown part {unknown[0]!r}; there are {', '.join(PARTS)}")
    if not 0 < given.scale <= 1:
        parser.error(f"--scale {given.scale} must lie in (0, 1]")
    wrong = 0
    for name in chosen:
        part = measured(name, given.scale, given.seed)
        print("\n".join(lines(part)), flush=True)
        wrong += part.total.wrong
        if given.out is not None:
            write([part], given.out)
    return wrong


def measured(name: str, scale: float, seed: int | None) -> Part:
    """One part, run."""
    module, began = importlib.import_module(PARTS[name]), time.perf_counter()
    used = module.SEED if seed is None else seed
    rows = module.measure(scale, used)
    return Part(name, module.INTENT, rows, used, time.perf_counter() - began, this_run())


if __name__ == "__main__":
    sys.exit(min(main(), 1))
