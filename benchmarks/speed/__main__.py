"""Time isthmus beside its peers: ``python -m benchmarks.speed``; names of parts or workloads measure those alone."""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed.figures import Figure, merged, missed, read, table, write
from benchmarks.speed.harness import Bench
from benchmarks.speed.parts import RUNNERS
from benchmarks.speed.peers_table import DETECTORS, FIRST_STEPS, INFERENCE, MANY, QUALITY, TRAINING
from benchmarks.speed.targets import WORKLOADS
from benchmarks.systems.harness import mnist

ENVIRONMENTS = Path.home() / ".cache" / "isthmus" / "benchmarks"
GROUPS = (TRAINING, INFERENCE, QUALITY, DETECTORS, MANY, FIRST_STEPS)
NAMES = list(dict.fromkeys(name for group in GROUPS for name in group))
USUAL = [name for name in RUNNERS if name != "device"]


def main() -> int:
    made = parser()
    asked = made.parse_args()
    stamp = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    if asked.quick and asked.out:
        made.error("--quick gives no figures worth keeping; leave out --out")
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), asked.environments, asked.rounds, asked.peers, asked.quick)
        save_data(bench.folder)
        for new in measured(bench, asked.what):
            print(table(new), flush=True)
            figures += [replace(figure, run=stamp) for figure in new]
            if asked.out:
                runs, older = read(asked.out)
                write({**runs, stamp: about(bench)}, merged(older, figures), asked.out)
    short = missed(figures)
    print(f"\n{len(short)} targets missed", *short, sep="\n")
    return int(bool(short))


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    choices = [*RUNNERS, *WORKLOADS]
    made.add_argument(
        "what",
        nargs="*",
        choices=[[], *choices],
        metavar="PART",
        help=f"of {', '.join(choices)}; none means all but device",
    )
    made.add_argument("--peers", nargs="+", choices=NAMES, metavar="PEER", help=f"of {'; '.join(NAMES)}")
    made.add_argument("--quick", action="store_true", help="few rows and sizes, to see that all runs")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--environments", type=Path, default=ENVIRONMENTS, help="where the peers are installed")
    made.add_argument(
        "--out", type=Path, help="folder for speed.md and speed.json, where older figures of other parts are kept"
    )
    return made


def measured(bench: Bench, what: list[str]) -> Iterator[list[Figure]]:
    """The figures of the parts that were asked for, case by case."""
    workloads = [name for name in WORKLOADS if name in what]
    parts = [part for part in RUNNERS if part in what] or ([] if workloads else USUAL)
    if workloads and "training" not in parts:
        parts = ["training", *parts]
    for part in parts:
        yield from RUNNERS[part](bench, workloads or list(WORKLOADS))


def save_data(folder: Path) -> None:
    """Write MNIST where the workers find it."""
    X, _, X_test, _ = mnist()
    np.save(folder / "rows.npy", X)
    np.save(folder / "test.npy", X_test)


def about(bench: Bench) -> dict[str, Any]:
    """What was measured, by which command, with what and where."""
    versions = {package: version for packages in bench.versions.values() for package, version in packages.items()}
    return {
        "command": shlex.join(["python", "-m", "benchmarks.speed", *without_folders(sys.argv[1:])]),
        "rounds": bench.rounds,
        "versions": {**versions, "python": platform.python_version()},
        "by_peer": bench.versions,
        "machine": f"{platform.machine()}, {processor()}",
        "threads": f"{torch.get_num_threads()} threads",
    }


def without_folders(arguments: list[str]) -> list[str]:
    """The arguments of a command but for the folders of this machine."""
    options = {"--environments", "--out"}
    places = [place for place, word in enumerate(arguments) if word in options]
    return [word for place, word in enumerate(arguments) if place not in places and place - 1 not in places]


def processor() -> str:
    """How many cores of which kind, and the GPU if there is one."""
    source = Path("/proc/cpuinfo")
    lines = source.read_text(encoding="utf-8").splitlines() if source.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    card = [torch.cuda.get_device_name(0)] if torch.cuda.is_available() else []
    return ", ".join([f"{os.cpu_count()} × {names[0] if names else platform.processor()}", *card])


if __name__ == "__main__":
    sys.exit(main())
