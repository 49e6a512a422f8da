"""Prints the style figures of the tree and fails when one is over its bound.

    python tools/style.py [ROOT]

Function length is counted without the docstring; a copied line is one of six or more equal code lines in a row that
stand in another place too (imports, docstrings, comments and blank lines do not count).
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

MEDIAN, NINETIETH, COPIED, FILE = 8, 30, 0.02, 500
RUN = 6
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Function:
    """A function and the number of lines of its body."""

    name: str
    lines: int


@dataclass(frozen=True)
class Code:
    """One file: its functions, its lines of code, its length."""

    path: Path
    functions: tuple[Function, ...]
    lines: tuple[str, ...]
    length: int


@dataclass(frozen=True)
class Figures:
    """What is measured of one folder."""

    folder: str
    files: int
    median: float
    ninetieth: int
    copied: float
    longest: tuple[str, int]

    def faults(self) -> list[str]:
        """The figures that are over their bound, in words."""
        bounds = (
            (self.median > MEDIAN, f"function median {self.median:g} > {MEDIAN}"),
            (self.ninetieth > NINETIETH, f"function 90th percentile {self.ninetieth} > {NINETIETH}"),
            (self.copied > COPIED, f"copied lines {self.copied:.1%} > {COPIED:.0%}"),
            (self.longest[1] > FILE, f"{self.longest[0]} has {self.longest[1]} lines > {FILE}"),
        )
        return [f"{self.folder}: {text}" for over, text in bounds if over]

    def __str__(self) -> str:
        return (
            f"{self.folder}: {self.files} files; functions median {self.median:g} (≤ {MEDIAN}), 90th percentile "
            f"{self.ninetieth} (≤ {NINETIETH}); copied lines {self.copied:.1%} (≤ {COPIED:.0%}); "
            f"longest file {self.longest[0]}, {self.longest[1]} lines (≤ {FILE})"
        )


def read(path: Path) -> Code:
    """Parse one file."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    functions = tuple(Function(node.name, _length(node)) for node in ast.walk(tree) if isinstance(node, FunctionNode))
    skipped = set(_skipped(tree))
    lines = [line.strip() for number, line in enumerate(text.splitlines(), 1) if number not in skipped]
    return Code(path, functions, tuple(line for line in lines if line and line[0] != "#"), len(text.splitlines()))


def _docstring(node: ast.AST) -> ast.Expr | None:
    body = getattr(node, "body", None)
    if isinstance(node, FunctionNode | ast.ClassDef | ast.Module) and body and isinstance(body[0], ast.Expr):
        value = body[0].value
        return body[0] if isinstance(value, ast.Constant) and isinstance(value.value, str) else None
    return None


def _length(node: FunctionNode) -> int:
    body = node.body[1:] if _docstring(node) else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def _skipped(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        part = node if isinstance(node, ast.Import | ast.ImportFrom) else _docstring(node)
        if part is not None:
            yield from range(part.lineno, (part.end_lineno or part.lineno) + 1)


def copied_share(files: list[Code]) -> float:
    """Share of code lines that stand in a run of six or more that is found in another place too."""
    places: dict[tuple[str, ...], set[tuple[int, int]]] = defaultdict(set)
    for index, code in enumerate(files):
        for start in range(len(code.lines) - RUN + 1):
            places[code.lines[start : start + RUN]].add((index, start))
    copied = {
        (index, start + offset)
        for found in places.values()
        if len(found) > 1
        for index, start in found
        for offset in range(RUN)
    }
    return len(copied) / max(1, sum(len(code.lines) for code in files))


def measure(folder: Path) -> Figures | None:
    """The figures of a folder, or None where there is no code."""
    files = [read(path) for path in sorted(folder.rglob("*.py"))]
    lengths = sorted(function.lines for code in files for function in code.functions)
    if not files or not lengths:
        return None
    longest = max(files, key=lambda code: code.length)
    return Figures(
        folder=folder.name,
        files=len(files),
        median=median(lengths),
        ninetieth=lengths[int(0.9 * (len(lengths) - 1))],
        copied=copied_share(files),
        longest=(longest.path.name, longest.length),
    )


def main(root: Path) -> int:
    """Print the figures of each folder; 1 when one is over its bound."""
    faults: list[str] = []
    for name in ("src", "tests", "benchmarks", "tools"):
        figures = measure(root / name)
        if figures is not None:
            print(figures)
            faults += figures.faults()
    for fault in faults:
        print(f"too much: {fault}", file=sys.stderr)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
