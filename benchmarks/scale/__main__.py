"""Run parts of the benchmark: ``python -m benchmarks.scale serve [--quick] [--out docs]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.scale import parts, serve, train
from benchmarks.sheet import Sheet, machine

PARTS = {"serve": serve, "train": train, "parts": parts}
"""Modules with ``run(sheet, quick=…, seed=…)`` and ``PACKAGES``, whose versions belong to the figures."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Beyond one process.")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=list(PARTS))
    parser.add_argument("--quick", action="store_true", help="a hundredth of the work: whether it runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for NAME.json, such as docs")
    chosen = parser.parse_args()
    missed = False
    for name in chosen.parts or list(PARTS):
        part, sheet = PARTS[name], Sheet()
        part.run(sheet, quick=chosen.quick, seed=chosen.seed)
        print(machine(part.PACKAGES))
        if chosen.out is not None:
            sheet.write(chosen.out / f"{name}.json", part.PACKAGES)
        missed |= any(figure.met is False for figure in sheet.figures)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
