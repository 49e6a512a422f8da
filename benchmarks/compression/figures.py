"""Figures of this benchmark: what was measured beside what is wanted, as Markdown and JSON."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path

import constriction
import numpy as np
import PIL
import torch

import isthmus


@dataclass
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
        print(f"{part:10} {quantity:70} {value:12.5g} {wanted:14} {mark}", flush=True)

    def write(self, folder: Path) -> None:
        """Write ``compression.json`` next to the page; parts that were not run keep their older figures."""
        path = folder / "compression.json"
        older = json.loads(path.read_text(encoding="utf-8"))["figures"] if path.exists() else []
        run = {figure.part for figure in self.figures}
        figures = [one for one in older if one["part"] not in run] + [asdict(figure) for figure in self.figures]
        text = json.dumps({"machine": machine(), "figures": figures}, indent=1)
        path.write_text(text + "\n", encoding="utf-8")


def machine() -> str:
    """Versions and processor."""
    versions = f"isthmus {isthmus.__version__}, torch {torch.__version__}, numpy {np.__version__}"
    return (
        f"{versions}, constriction {getattr(constriction, '__version__', '')}, Pillow {PIL.__version__}, "
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}"
    )
