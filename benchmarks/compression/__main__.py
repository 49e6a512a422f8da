"""Run the parts of the benchmark: ``python -m benchmarks.compression [part …] [--out docs] [--work folder]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.compression.damaged import run as run_damaged
from benchmarks.compression.digits import run as run_digits
from benchmarks.compression.kodak import large as run_large
from benchmarks.compression.kodak import run as run_kodak
from benchmarks.compression.lossless import run as run_lossless
from benchmarks.sheet import Sheet, machine

PACKAGES = ("torch", "numpy", "constriction", "pillow")
PARTS = {
    "kodak": run_kodak,
    "large": run_large,
    "damaged": run_damaged,
    "digits": run_digits,
    "lossless": run_lossless,
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Compression of real files.")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=list(PARTS))
    parser.add_argument("--out", type=Path, help="folder for compression.json and the picture, such as docs")
    parser.add_argument(
        "--work", type=Path, default=Path("benchmarks-work"), help="folder that keeps the learned models"
    )
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    sheet = Sheet()
    for part in chosen.parts or list(PARTS):
        PARTS[part](sheet, chosen.work, chosen.out)
    print(machine(PACKAGES))
    if chosen.out is not None:
        sheet.write(chosen.out / "compression.json", PACKAGES)
    return int(any(figure.met is False for figure in sheet.figures))


if __name__ == "__main__":
    sys.exit(main())
