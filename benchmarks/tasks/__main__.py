"""Fits of the tasks by this version and by another one in turn: CPU seconds and quality.

    python -m benchmarks.tasks --before FOLDER [--task imputer] [--set iris wine] [--seed 0 1] [--out FILE]

FOLDER holds the `isthmus` package of the other version, such as ``src`` of a ``git worktree``. Every fit runs in a
process of its own with one thread. CPU time is compared, not wall time, because other work may run on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.tasks.fits import TASKS

HERE = Path(__file__).parents[2]
VERSIONS = ("before", "now")


def run(source: Path, task: str, name: str, seed: int) -> dict[str, Any]:
    """One fit by the library in a folder."""
    paths = os.pathsep.join([str(source), str(HERE)])
    own = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "benchmarks.tasks.fits", task, name, str(seed)]
    done = subprocess.run(command, env=own, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(sources: dict[str, Path], task: str, name: str, seeds: list[int]) -> dict[str, Any]:
    """All fits of one set: the mean seconds and qualities of each version."""
    fits: dict[str, list[dict[str, Any]]] = {version: [] for version in sources}
    for seed in seeds:
        for version, source in sources.items():  # in turn, so that a busy machine slows both
            fits[version].append(run(source, task, name, seed))
    return {
        version: {
            "seconds": _mean([fit["seconds"] for fit in found]),
            "quality": {key: _mean([fit["quality"][key] for fit in found]) for key in found[0]["quality"]},
        }
        for version, found in fits.items()
    } | {"seeds": seeds}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def line(task: str, name: str, found: dict[str, Any]) -> str:
    """A row of the table."""
    cells = [
        f"{found[v]['seconds']:.1f} s (" + ", ".join(f"{k} {x:.3f}" for k, x in found[v]["quality"].items()) + ")"
        for v in VERSIONS
        if v in found
    ]
    ratio = f" | {found['before']['seconds'] / found['now']['seconds']:.1f} ×" if "before" in found else ""
    return f"| {task} | {name} | {' | '.join(cells)}{ratio} |"


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tasks", description=__doc__)
    parser.add_argument("--before", type=Path, help="folder with the package of the other version")
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--set", nargs="+", help="only these sets")
    parser.add_argument("--seed", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, help="JSON file; figures of other sets in it are kept")
    asked = parser.parse_args()
    sources = ({"before": asked.before.resolve()} if asked.before else {}) | {"now": HERE / "src"}
    results = json.loads(asked.out.read_text("utf-8")) if asked.out and asked.out.exists() else {}
    for task in asked.task:
        for name in TASKS[task][1]:
            if asked.set and name not in asked.set:
                continue
            results.setdefault(task, {})[name] = measure(sources, task, name, asked.seed)
            print(line(task, name, results[task][name]), flush=True)
            if asked.out:
                asked.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
