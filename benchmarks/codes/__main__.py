"""What codes are good for, on MNIST and mixed tables: the figures of docs/codes.md.

    python -m benchmarks.codes [maps|features|transfer|clusters|search|samples|augmentation|tables|tuning]
        [--seeds 1 2 3] [--rows 60000] [--epochs 20] [--budget "10 min"] [--out docs]

Models learn from training images without labels; figures are of the 10,000 test images unless the row says otherwise,
and of every seed. Nothing was chosen on the test images.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

import isthmus
from benchmarks.codes import digits, tuning
from benchmarks.codes.mixed_tables import table_lines


class Asked(NamedTuple):
    """What was asked for on the command line."""

    seeds: list[int]
    rows: int
    epochs: int
    budget: str


PARTS: dict[str, Callable[[int, Asked], Iterator[tuple[str, float]]]] = {
    "maps": lambda seed, asked: digits.maps(digits.load(asked.rows), asked.epochs, seed),
    "features": lambda seed, asked: digits.features(digits.load(asked.rows), asked.epochs, seed),
    "transfer": lambda seed, asked: digits.transfer(digits.load(asked.rows), asked.epochs, seed),
    "clusters": lambda seed, asked: digits.clusters(digits.load(asked.rows), asked.epochs, seed),
    "search": lambda seed, asked: digits.search(digits.load(asked.rows), asked.epochs, seed),
    "samples": lambda seed, asked: digits.samples(digits.load(asked.rows), asked.epochs, seed),
    "augmentation": lambda seed, asked: digits.augmentation(digits.load(asked.rows), asked.epochs, seed),
    "tables": lambda seed, _: table_lines(seed),
    "tuning": lambda seed, asked: tuning.lines(asked.budget, seed),
}


def main() -> int:
    """Run what was asked for, and print and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.codes", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=(*PARTS, []), default=[])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rows", type=int, default=60_000, help="training images")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--budget", default="10 min", help="time of each search")
    parser.add_argument("--out", type=Path, default=None, help="folder for codes-figures.md and .json")
    given = parser.parse_args()
    asked = Asked(given.seeds, given.rows, given.epochs, given.budget)
    found: dict[str, dict[str, list[float]]] = {}
    for part in given.parts or PARTS:
        for seed in asked.seeds:
            began = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # remarks of peers about themselves
                for what, value in PARTS[part](seed, asked):
                    found.setdefault(part, {}).setdefault(what, []).append(float(value))
                    print(f"{part} | seed {seed} | {what} | {value:.4g}", flush=True)
            print(f"{part} | seed {seed} | {time.perf_counter() - began:.0f} s", flush=True)
    page = _page(found, asked)
    print(page)
    if given.out is not None:
        _write(given.out, found, asked)
    return 0


def _page(found: dict[str, dict[str, list[float]]], asked: Asked) -> str:
    lines = ["| part | figure | " + " | ".join(f"seed {seed}" for seed in asked.seeds) + " |"]
    lines.append("|---|---|" + "---|" * len(asked.seeds))
    for part, figures in found.items():
        for what, values in figures.items():
            lines.append(f"| {part} | {what} | " + " | ".join(f"{value:.4g}" for value in values) + " |")
    return "\n".join(lines)


def _write(folder: Path, found: dict[str, dict[str, list[float]]], asked: Asked) -> None:
    """Write the figures; those of parts that were not run again are kept."""
    path = folder / "codes-figures.json"
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for part, figures in found.items():
        kept[part] = {"seeds": asked.seeds, "rows": asked.rows, "epochs": asked.epochs, "figures": figures}
    kept["versions"] = {
        "isthmus": isthmus.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": platform.machine(),
    }
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    tables = []
    for part, entry in kept.items():
        if part != "versions":
            of_part = Asked(entry["seeds"], entry["rows"], entry["epochs"], asked.budget)
            tables.append(f"## {part}\n\n{_page({part: entry['figures']}, of_part)}")
    heading = (
        "# Codes put to work: figures\n\nMade by `python -m benchmarks.codes --out docs`; seeds, rows and epochs of "
    )
    heading += f"each part are in `codes-figures.json`. isthmus {isthmus.__version__}, torch {torch.__version__}, "
    heading += f"Python {platform.python_version()}, {platform.machine()}.\n\n"
    (folder / "codes-figures.md").write_text(heading + "\n\n".join(tables) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
