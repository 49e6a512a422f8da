"""Figures of a benchmark: what was measured beside what is wanted, on the terminal and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import isthmus


@dataclass(frozen=True)
class Figure:
    """One measured number."""

    part: str
    quantity: str
    value: float
    wanted: str = ""
    met: bool | None = None


@dataclass
class Sheet:
    """The figures of one run."""

    figures: list[Figure] = field(default_factory=list)

    def add(self, part: str, quantity: str, value: float, wanted: str = "", met: bool | None = None) -> None:
        """Record and print a figure."""
        self.figures.append(Figure(part, quantity, float(value), wanted, met))
        mark = {None: "", True: "met", False: "MISSED"}[met]
        print(f"{part:12} {quantity:70} {value:12.6g} {wanted:14} {mark}".rstrip(), flush=True)

    def write(self, path: Path, packages: Sequence[str]) -> None:
        """Write a file of JSON; parts that were not run keep their older figures."""
        older = json.loads(path.read_text(encoding="utf-8"))["figures"] if path.exists() else []
        run = {figure.part for figure in self.figures}
        figures = [one for one in older if one["part"] not in run] + [asdict(figure) for figure in self.figures]
        text = json.dumps({"machine": machine(packages), "figures": figures}, indent=1)
        path.write_text(text + "\n", encoding="utf-8")


def machine(packages: Sequence[str]) -> str:
    """Versions and processor."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"isthmus {isthmus.__version__}, {versions}, Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"{platform.machine()}"
    )
