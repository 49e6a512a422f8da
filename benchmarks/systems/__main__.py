"""Run rows by id: ``python -m benchmarks.systems S1 S2``; without ids, those that take less than ten minutes each."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.systems.harness import Figure, Sheet, markdown, merged, write
from benchmarks.systems.rows import LONG, MINUTES, ROWS, ordered


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.systems", description=__doc__)
    long = ", ".join(f"{system} ({MINUTES[system]:.0f} min)" for system in ROWS if MINUTES[system] >= LONG)
    parser.add_argument("systems", nargs="*", metavar="ID", help=f"any of {', '.join(ordered(long=True))}")
    parser.add_argument("--all", action="store_true", help=f"also the long ones: {long}")
    parser.add_argument("--seed", type=int, nargs="+", default=[0], help="one or several seeds")
    parser.add_argument(
        "--out", type=Path, help="folder for systems.md and systems.json, where older figures of other rows are kept"
    )
    asked = parser.parse_args()
    wrong = [system for system in asked.systems if system not in ROWS]
    if wrong:
        parser.error(f"unknown system {', '.join(wrong)}; choose from {', '.join(ordered(long=True))}")
    figures: list[Figure] = []
    for system in asked.systems or ordered(long=asked.all):
        for seed in asked.seed:
            sheet = Sheet(system, seed)
            ROWS[system](sheet)
            figures += sheet.figures
            print("\n".join(map(_progress, sheet.figures)), flush=True)
            if asked.out:
                write(merged(figures, asked.out), asked.out)
    print("\n" + markdown(figures))
    return int(any(figure.met is False for figure in figures))


def _progress(figure: Figure) -> str:
    met = {None: "", True: " ok", False: " MISSED"}[figure.met]
    return f"{figure.system} seed {figure.seed}: {figure.column} {figure.quantity} {figure.value:.5g}{met}"


if __name__ == "__main__":
    sys.exit(main())
