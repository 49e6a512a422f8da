"""What the parts found, as a table on the terminal and as the page docs/reliability.md."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import isthmus

PACKAGES = ("torch", "numpy", "scikit-learn", "safetensors", "pyarrow", "llvmlite")
NAME = "reliability"


@dataclass(frozen=True)
class Row:
    """Outcomes of one kind of trial.

    Attributes
    ----------
    what
        What was tried.
    tried, wrong
        How often, and how often it went wrong; all other trials were clean.
    note
        What came of the clean ones.
    """

    what: str
    tried: int
    wrong: int
    note: str = ""


@dataclass(frozen=True)
class Part:
    """The rows of one part with the run that gave them."""

    name: str
    intent: str
    rows: Sequence[Row]
    seed: int
    seconds: float
    run: str

    @property
    def total(self) -> Row:
        """All rows together."""
        return Row("all", sum(row.tried for row in self.rows), sum(row.wrong for row in self.rows))


def this_run() -> str:
    """Date, versions and machine, in one line."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"
    date = dt.datetime.now(dt.UTC).date()
    return f"{date}, isthmus {isthmus.__version__}, Python {platform.python_version()}, {packages}; {machine}"


def lines(part: Part) -> list[str]:
    """The table of a part, for a terminal."""
    width = max(len(row.what) for row in part.rows)
    head = f"{part.name:{width}}{'tried':>8}{'clean':>8}{'wrong':>7}"
    body = [
        f"{row.what:{width}}{row.tried:>8}{row.tried - row.wrong:>8}{row.wrong:>7}  {row.note}".rstrip()
        for row in [*part.rows, part.total]
    ]
    return [head, *body, f"seed {part.seed}, {part.seconds:.0f} s"]


def write(parts: Iterable[Part], folder: Path) -> None:
    """Write the page and the figures; parts that were not run now keep their older figures."""
    kept = _read(folder) | {part.name: part for part in parts}
    figures = json.dumps([asdict(part) for part in kept.values()], indent=2)
    (folder / f"{NAME}.json").write_text(figures + "\n", encoding="utf-8")
    (folder / f"{NAME}.md").write_text(page(list(kept.values())), encoding="utf-8")


def _read(folder: Path) -> dict[str, Part]:
    path = folder / f"{NAME}.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return {part["name"]: Part(**{**part, "rows": [Row(**row) for row in part["rows"]]}) for part in found}


def page(parts: Sequence[Part]) -> str:
    """The page in Markdown."""
    text = [
        "# Reliability",
        "",
        "`python -m benchmarks.reliability --out docs` wrote this page. Each part tries something that goes wrong in",
        "practice many times, at random places. A trial is *clean* when the outcome is one of those that its part",
        "names, and *wrong* otherwise.",
        "",
        "| part | tried | clean | wrong |",
        "|---|---:|---:|---:|",
        *(_cells(f"[{part.name}](#{part.name})", part.total) for part in parts),
    ]
    for part in parts:
        text += [
            "",
            f"## {part.name}",
            "",
            part.intent,
            "",
            "| | tried | clean | wrong | |",
            "|---|---:|---:|---:|---|",
        ]
        text += [f"{_cells(row.what, row)} {row.note} |" for row in part.rows]
        text += ["", f"Seed {part.seed}, {part.seconds:.0f} s. {part.run}."]
    return "\n".join(text) + "\n"


def _cells(name: str, row: Row) -> str:
    return f"| {name} | {row.tried:,} | {row.tried - row.wrong:,} | {row.wrong:,} |"
