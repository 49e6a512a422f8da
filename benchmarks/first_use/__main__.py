"""How long a first use takes, as whole processes: the import of an estimator, and a fit with a report.

    python -m benchmarks.first_use [--before FOLDER] [--rounds 5] [--out FILE]

FOLDER holds the `isthmus` package of another version, such as ``src`` of a ``git worktree``. The versions run in turn,
so that other work on the machine slows both. CPU time (user and system) stands beside wall time, because wall time says
little on a busy machine. "torch and scikit-learn" is the import of these two alone, the least that an estimator needs.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

HERE = Path(__file__).parents[2]
MAIN = "import sys; from isthmus.cli import main; sys.argv[0] = 'isthmus'; main()"
JOBS: dict[str, list[str]] = {
    "torch and scikit-learn": ["-c", "import torch, sklearn.base"],
    "from isthmus import Autoencoder": ["-c", "from isthmus import Autoencoder"],
    "isthmus --version": ["-c", MAIN, "--version"],
    "isthmus fit digits": ["-c", MAIN, "fit", "digits", "--seed", "0"],
    "isthmus fit digits --report": ["-c", MAIN, "fit", "digits", "--seed", "0", "--report"],
}
"""Arguments of the interpreter for each job."""
PACKAGES = ("torch", "scikit-learn", "matplotlib", "numpy")


@dataclass(frozen=True)
class Took:
    """Seconds of one process."""

    wall: float
    cpu: float


def run(source: Path, arguments: Sequence[str]) -> Took:
    """One process with the package in a folder, in an empty working directory."""
    own = {**os.environ, "PYTHONPATH": str(source), "PYTHONSAFEPATH": "1"}
    with tempfile.TemporaryDirectory() as folder:
        used, began = _cpu(), time.perf_counter()
        subprocess.run([sys.executable, *arguments], env=own, cwd=folder, check=True, capture_output=True)
        return Took(time.perf_counter() - began, _cpu() - used)


def _cpu() -> float:
    """CPU seconds of all processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(sources: dict[str, Path], jobs: Sequence[str], rounds: int) -> dict[str, dict[str, list[Took]]]:
    """All processes by job and version, the versions in turn; one round before it reads the files from the disk."""
    took: dict[str, dict[str, list[Took]]] = {job: {version: [] for version in sources} for job in jobs}
    for number in range(rounds + 1):
        for job in jobs:
            for version, source in sources.items():
                found = run(source, JOBS[job])
                took[job][version] += [found] if number else []
    return took


def figures(took: Sequence[Took]) -> dict[str, float]:
    """Median and worst seconds."""
    walls, cpus = [one.wall for one in took], [one.cpu for one in took]
    return {"wall": median(walls), "wall_worst": max(walls), "cpu": median(cpus), "cpu_worst": max(cpus)}


def line(job: str, version: str, found: dict[str, float]) -> str:
    """A row of the table."""
    cells = (f"{found[kind]:.2f} (worst {found[f'{kind}_worst']:.2f})" for kind in ("wall", "cpu"))
    return f"| {job} | {version} | {' | '.join(cells)} |"


def machine() -> str:
    """The machine, its load, and the versions."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    load = f"load {os.getloadavg()[0]:.1f}"
    return f"{os.cpu_count()} × {platform.machine()}, {load}, Python {platform.python_version()}, {versions}"


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_use", description=__doc__)
    parser.add_argument("--before", type=Path, help="folder with the package of the other version")
    parser.add_argument("--job", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="JSON file")
    asked = parser.parse_args()
    sources = ({"before": asked.before.resolve()} if asked.before else {}) | {"now": HERE / "src"}
    found = {
        job: {version: figures(some) for version, some in by_version.items()}
        for job, by_version in measure(sources, asked.job, asked.rounds).items()
    }
    print(f"Seconds, median of {asked.rounds} rounds; {machine()}\n")
    print("| job | version | wall | CPU |\n|---|---|---|---|")
    for job, by_version in found.items():
        print("\n".join(line(job, version, some) for version, some in by_version.items()))
    if asked.out:
        report = {"machine": machine(), "rounds": asked.rounds, "seconds": found}
        asked.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
