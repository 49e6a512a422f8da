"""Restoration of images, with the targets of each row.

    python -m benchmarks.restoration [ROW ...] [--seed 1] [--out FOLDER] [--share 1.0] [--quick]

Rows are run one after the other; the file FOLDER/restoration.json keeps the figures of rows that are not run again.
With --share, fits take this share of their steps, and their figures say so. The exit code is 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.restoration.harness import Sheet
from benchmarks.restoration.rows import ROWS


def main() -> int:
    """Run the rows that are asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], help=", ".join(ROWS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("restoration"))
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    sheet = Sheet(given.out, given.seed, quick=given.quick, share=given.share)
    for name in given.rows or ROWS:
        ROWS[name](sheet)
    return int(sheet.missed)


if __name__ == "__main__":
    sys.exit(main())
