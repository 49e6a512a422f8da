"""``python -m benchmarks.reliability [part ...]``: run the parts named, or all of them."""

from __future__ import annotations

import argparse
import importlib
import sys

PARTS = {"damaged-files": "benchmarks.reliability.damaged_files"}
"""The parts by name; each is a module whose ``main()`` prints a table and returns the number of failures."""


def main() -> int:
    """Run parts one after the other; returns the total number of failures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"some of {', '.join(PARTS)}; none: all")
    chosen = parser.parse_args().parts or list(PARTS)
    unknown = [part for part in chosen if part not in PARTS]
    if unknown:
        parser.error(f"unknown part {unknown[0]!r}; there are {', '.join(PARTS)}")
    return sum(importlib.import_module(PARTS[part]).main() for part in chosen)


if __name__ == "__main__":
    sys.exit(min(main(), 1))
