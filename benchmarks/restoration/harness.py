"""Figures of the benchmark with their targets, kept in a file from run to run, and the table of them."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

import isthmus
from isthmus.atomic import atomic

RELATIONS = {"≤": float.__le__, "≥": float.__ge__, "<": float.__lt__, ">": float.__gt__}


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Attributes
    ----------
    row, quantity
        The row of the table, and what was measured.
    value
        The measurement.
    relation, target
        Such as "≤" and 0.022; target None is reported only.
    seed
        Of the fit.
    minutes
        Processor time of the fit, 0 where nothing was fitted.
    share
        Share of the steps of the row that the fit took, where time was short.
    """

    row: str
    quantity: str
    value: float
    relation: str = "≥"
    target: float | None = None
    seed: int = 0
    minutes: float = 0.0
    share: float = 1.0

    @property
    def met(self) -> bool | None:
        """Whether the target is reached."""
        return None if self.target is None else bool(RELATIONS[self.relation](float(self.value), float(self.target)))

    def __str__(self) -> str:
        target = "" if self.target is None else f" ({self.relation} {self.target:g}: {'met' if self.met else 'MISSED'})"
        time_taken = f", {self.minutes:.1f} CPU minutes" if self.minutes else ""
        steps = f", {self.share:.0%} of the steps" if self.share < 1 else ""
        return f"{self.row}: {self.quantity} {self.value:.4g}{target} [seed {self.seed}{time_taken}{steps}]"


class Sheet:
    """The figures of all runs.

    Parameters
    ----------
    folder
        Where figures, models and pictures are kept.
    seed
        Of the fits of this run.
    quick
        Whether fits take a fiftieth of their steps, to see that everything runs.
    share
        Share of the steps that fits take; their figures say so.
    """

    def __init__(self, folder: Path, seed: int, *, quick: bool, share: float = 1.0) -> None:
        self.folder, self.seed, self.quick, self.share = folder, seed, quick, share
        self.file = folder / "restoration.json"
        self.missed = False
        folder.mkdir(parents=True, exist_ok=True)

    def steps(self, n_steps: int) -> int:
        """The steps of a fit."""
        return max(2, n_steps // 50) if self.quick else round(self.share * n_steps)

    def add(self, *figures: Figure) -> None:
        """Print figures and keep them in place of those with the same row, quantity and seed."""
        figures = tuple(replace(figure, share=self.share if figure.seed else 1.0) for figure in figures)
        for figure in figures:
            print(figure, flush=True)
            self.missed |= figure.met is False
        if self.quick:
            return
        kept = {(old["row"], old["quantity"], old["seed"]): old for old in self.known()}
        kept |= {(new.row, new.quantity, new.seed): asdict(new) for new in figures}
        rows = sorted(kept.values(), key=lambda figure: str(figure["row"]))
        made = {"machine": machine(), "figures": rows}
        with atomic(self.file, overwrite=True) as temporary:
            temporary.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        with atomic(self.folder / "restoration-benchmark.md", overwrite=True) as temporary:
            temporary.write_text(page([Figure(**each) for each in rows]), encoding="utf-8")

    def value(self, row: str, quantity: str, seed: int) -> float | None:
        """A figure of this run or an earlier one, or None."""
        found = [
            old["value"] for old in self.known() if (old["row"], old["quantity"], old["seed"]) == (row, quantity, seed)
        ]
        return float(str(found[0])) if found else None

    def known(self) -> list[dict[str, Any]]:
        """The figures of earlier runs."""
        return list(json.loads(self.file.read_text(encoding="utf-8"))["figures"]) if self.file.exists() else []


def page(figures: Sequence[Figure]) -> str:
    """The figures as a page of the docs."""
    lines = [
        "# Restoration, measured",
        "",
        "Written by `python -m benchmarks.restoration`; `benchmarks/restoration/rows.py` says what each row is, and",
        "[restoration](restoration.md) how to use it. Minutes are processor time of the fit on one core. Steps are the",
        "share of the row's training steps that the fit took (`--share`), where it was less than all.",
        "",
        "| row | quantity | value | target | met | seed | minutes | steps |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for figure in figures:
        target = "" if figure.target is None else f"{figure.relation} {figure.target:g}"
        met = {None: "", True: "yes", False: "**no**"}[figure.met]
        seed, minutes = str(figure.seed or ""), f"{figure.minutes:.1f}" if figure.minutes else ""
        steps = f"{figure.share:.0%}" if figure.share < 1 else ""
        cells = (figure.row, figure.quantity, f"{figure.value:.4g}", target, met, seed, minutes, steps)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"{machine()}.", ""])


def machine() -> str:
    """The machine and the versions behind the figures."""
    return (
        f"isthmus {isthmus.__version__}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    )


@dataclass
class Clock:
    """Processor time in minutes."""

    minutes: float = 0.0


@contextmanager
def timed() -> Iterator[Clock]:
    """Measure the processor time of a block."""
    clock, began = Clock(), time.process_time()
    yield clock
    clock.minutes = (time.process_time() - began) / 60
