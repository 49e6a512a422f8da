"""Run rows by id: ``python -m benchmarks.systems S1 S2``; without ids, all of them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.systems.harness import Figure, markdown, write
from benchmarks.systems.rows import ROWS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.systems", description=__doc__)
    parser.add_argument("systems", nargs="*", metavar="ID", help=f"any of {', '.join(ROWS)}; none means all")
    parser.add_argument("--seed", type=int, nargs="+", default=[0], help="one or several seeds")
    parser.add_argument("--out", type=Path, help="folder for systems.md and systems.json (default: only print)")
    asked = parser.parse_args()
    wrong = [system for system in asked.systems if system not in ROWS]
    if wrong:
        parser.error(f"unknown system {', '.join(wrong)}; choose from {', '.join(ROWS)}")
    figures: list[Figure] = []
    for system in asked.systems or ROWS:
        for seed in asked.seed:
            figures += ROWS[system](seed)
            print(_progress(figures[-1]), flush=True)
    print("\n" + markdown(figures))
    if asked.out:
        write(figures, asked.out)
    return int(any(figure.met is False for figure in figures))


def _progress(figure: Figure) -> str:
    return f"{figure.system} seed {figure.seed}: {figure.column} {figure.quantity} {figure.value:.4f}"


if __name__ == "__main__":
    sys.exit(main())
