"""Figures with their targets, the tables of them, and the page and file that keep them."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.speed.peers_table import FLOOR, US
from benchmarks.speed.targets import MEASURES, PARTS, RATIOS, TEXTS, WORKLOADS

RATES = ("rows/s",)
"""Units of which more is better."""


@dataclass(frozen=True)
class Figure:
    """What one peer took for one thing.

    Attributes
    ----------
    part, case, quantity
        Part of the benchmark, workload or situation, and what was measured.
    who
        The peer.
    unit
        Such as "s", "MB", "rows/s".
    values
        One a round.
    missing
        Why there is none.
    note
        What else is to be said.
    run
        Which run measured it.
    """

    part: str
    case: str
    quantity: str
    who: str
    unit: str
    values: tuple[float, ...] = ()
    missing: str = ""
    note: str = ""
    run: str = ""

    @property
    def median(self) -> float:
        """Of the rounds."""
        return statistics.median(self.values) if self.values else math.nan

    @property
    def place(self) -> tuple[str, str, str]:
        """What was measured, whoever did it."""
        return self.part, self.case, self.quantity


@dataclass(frozen=True)
class Line:
    """A figure beside ours and beside its target."""

    figure: Figure
    ours: Figure | None

    @property
    def ratio(self) -> float:
        """Factor by which isthmus is better than the peer; above one, isthmus is better."""
        if self.ours is None or self.figure.who == US or not (self.ours.values and self.figure.values):
            return math.nan
        theirs, own = self.figure.median, self.ours.median
        return own / theirs if self.figure.unit in RATES else theirs / own

    @property
    def wanted(self) -> tuple[str, float] | None:
        """The target, such as ("≥", 4.0), on the ratio, or for our own figures on the measure."""
        if self.figure.who == US:
            return MEASURES.get(self.figure.place)
        return RATIOS.get((*self.figure.place, self.figure.who))

    @property
    def missed(self) -> bool:
        """Whether there is a target that is not reached; what could not be measured is not reached."""
        if self.wanted is None:
            return False
        relation, goal = self.wanted
        value = self.figure.median if self.figure.who == US else self.ratio
        return not (value >= goal if relation == "≥" else value <= goal)

    def __str__(self) -> str:
        figure = self.figure
        spread = f"{_short(min(figure.values))}–{_short(max(figure.values))}" if figure.values else "–"
        note = f"not run: {figure.missing}" if figure.missing else figure.note
        cells = (figure.case, figure.quantity, figure.who, f"{_short(figure.median)} {figure.unit}", spread)
        return f"| {' | '.join((*cells, self._ratio_text(self.ratio), self._wanted_text(), note.replace('|', '/')))} |"

    def _ratio_text(self, ratio: float) -> str:
        """The ratio to the floor is printed as 1/x, where isthmus takes x times as long as the floor."""
        if math.isnan(ratio):
            return "–"
        return f"1/{1 / ratio:.2f}" if self.figure.who == FLOOR else f"{ratio:.2f}"

    def _wanted_text(self) -> str:
        if self.wanted is None:
            return "–"
        relation, goal = self.wanted
        text = _short(goal) if self.figure.who == US else self._ratio_text(goal)
        return f"{relation} {text}{' **missed**' if self.missed else ''}"


def _short(number: float) -> str:
    """Three significant digits, and whole numbers above a thousand.

    >>> _short(0.0123456), _short(12.3456), _short(1234567.8), _short(float("nan"))
    ('0.0123', '12.3', '1,234,568', '–')
    """
    if math.isnan(number):
        return "–"
    if abs(number) >= 1000:
        return f"{number:,.0f}"
    digits = 2 - math.floor(math.log10(abs(number))) if number else 0
    return f"{number:.{max(0, digits)}f}"


def lines(figures: Iterable[Figure]) -> list[Line]:
    """Every figure beside ours of the same thing."""
    known = list(figures)
    ours = {figure.place: figure for figure in known if figure.who == US}
    return [Line(figure, ours.get(figure.place)) for figure in known]


def table(figures: Iterable[Figure]) -> str:
    """The figures as Markdown."""
    head = "| case | what | who | median | least–most | ÷ isthmus | wanted | |"
    return "\n".join([head, "|---|---|---|---|---|---|---|---|", *map(str, lines(figures))])


def missed(figures: Iterable[Figure]) -> list[Line]:
    """Those that fall short."""
    return [line for line in lines(figures) if line.missed]


# -- what is kept ------------------------------------------------------------------------------------------------------

Runs = Mapping[str, Mapping[str, Any]]


def read(folder: Path) -> tuple[dict[str, Any], list[Figure]]:
    """The runs and figures of a folder; none where there is no file."""
    path = folder / "speed.json"
    if not path.is_file():
        return {}, []
    kept = json.loads(path.read_text(encoding="utf-8"))
    rows = [
        {name: value for name, value in row.items() if name in Figure.__dataclass_fields__} for row in kept["figures"]
    ]
    return kept["runs"], [replace(Figure(**row), values=tuple(row["values"])) for row in rows]


def merged(older: Iterable[Figure], figures: Iterable[Figure]) -> list[Figure]:
    """These figures, and the older ones of cases that were not measured again; parts and workloads in their order."""
    before, new = list(older), list(figures)
    again = {(figure.part, figure.case) for figure in new}
    together = [*(figure for figure in before if (figure.part, figure.case) not in again), *new]
    cases = list(dict.fromkeys([*WORKLOADS, *(figure.case for figure in (*before, *new))]))
    return sorted(together, key=lambda figure: (list(PARTS).index(figure.part), cases.index(figure.case)))


def write(runs: Runs, figures: list[Figure], folder: Path) -> None:
    """Write the page as speed.md and the figures as speed.json; runs of which nothing is left are forgotten."""
    folder.mkdir(parents=True, exist_ok=True)
    used = {figure.run for figure in figures}
    kept = {stamp: facts for stamp, facts in runs.items() if stamp in used}
    (folder / "speed.md").write_text(page(kept, figures), encoding="utf-8")
    rows = [{**asdict(line.figure), "ratio": _number(line.ratio), "missed": line.missed} for line in lines(figures)]
    text = json.dumps({"runs": kept, "figures": rows}, indent=1, ensure_ascii=False)
    (folder / "speed.json").write_text(text + "\n", encoding="utf-8")


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def page(runs: Runs, figures: list[Figure]) -> str:
    """Everything as Markdown."""
    short = missed(figures)
    parts = [part for part in PARTS if any(figure.part == part for figure in figures)]
    return "\n".join([
        "# Speed",
        "",
        "Measured by `python -m benchmarks.speed`, in which isthmus and its peers do the same work in turn, round by",
        "round, each in a separate process and environment. The column ÷ isthmus is the factor by which isthmus",
        "is faster, or needs less memory, than the peer. Missed targets are marked.",
        "",
        f"{len(short)} targets are missed." if short else "No target is missed.",
        "",
        *(line for part in parts for line in _section(part, [f for f in figures if f.part == part], runs)),
    ])  # fmt: skip


def _section(part: str, figures: list[Figure], runs: Runs) -> list[str]:
    stamps = dict.fromkeys(figure.run for figure in figures)
    measured = [told(stamp, runs[stamp]) for stamp in stamps if stamp in runs]
    return [f"## {PARTS[part]}", TEXTS[part], "", table(figures), "", *(f"{line}\n" for line in measured)]


def told(stamp: str, run: Mapping[str, Any]) -> str:
    """A run in a sentence: when, by which command, in how many rounds, with what."""
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    rounds = "1 round" if run["rounds"] == 1 else f"{run['rounds']} rounds"
    return f"{stamp}: `{run['command']}`, {rounds}, on {run['machine']}, {run['threads']}; with {versions}."
