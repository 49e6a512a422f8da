"""Time isthmus and its peers: ``python -m benchmarks.speed``; ``quality`` for the seconds to S6's published loss."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import numpy as np

from benchmarks.speed.harness import Timing, measure, table
from benchmarks.speed.peers.protocol import Workload
from benchmarks.speed.peers_table import PEERS
from benchmarks.systems.harness import default, mnist, published

WORKLOADS = {
    "S1": Workload("S1", (784, 128, 32, 128, 784), 32),
    "S5": Workload("S5", (784, 64, 784), 32, "mse"),
    "S6": Workload("S6", (784, 128, 64, 32, 64, 128, 784), 256),
    "S8": Workload("S8", (784, 128, 64, 32, 64, 128, 784), 256, noise=0.5),
    "wide": Workload("wide", (784, 1024, 1024, 64, 1024, 1024, 784), 256),
}
ENVIRONMENTS = Path.home() / ".cache" / "isthmus" / "benchmarks"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("what", nargs="*", help=f"of {', '.join(WORKLOADS)}, start, quality; none means all")
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS), metavar="PEER")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--environments", type=Path, default=ENVIRONMENTS, help="where the peers are installed")
    parser.add_argument("--out", type=Path, help="folder for speed.md and speed.json")
    asked = parser.parse_args()
    what = asked.what or [*WORKLOADS, "start", "quality"]
    peers = {name: PEERS[name] for name in asked.peers}
    timings: list[Timing] = []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "mnist.npy"
        np.save(data, mnist()[0])
        for name in (name for name in what if name in WORKLOADS):
            timings += measure(WORKLOADS[name], peers, data, asked.environments, asked.rounds)
            print(table([timing for timing in timings if timing.workload == name]), flush=True)
    facts = (start() if "start" in what else {}) | (quality() if "quality" in what else {})
    text = page(timings, facts)
    print(text)
    if asked.out:
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / "speed.md").write_text(text, encoding="utf-8")
        rows = {"versions": versions(), "timings": [asdict(timing) for timing in timings], "facts": facts}
        (asked.out / "speed.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return int("missed" in text)


def start() -> dict[str, str]:
    """Seconds to import, and to show the help."""
    commands = {
        "import isthmus, s (wanted: under 0.15)": [sys.executable, "-c", "import isthmus"],
        "isthmus --help, s (wanted: under 0.5)": [str(Path(sys.executable).parent / "isthmus"), "--help"],
    }
    return {name: f"{_median_seconds(command):.3f}" for name, command in commands.items()}


def _median_seconds(command: list[str]) -> float:
    taken = []
    for _ in range(7):
        began = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


QUALITY = 0.0868


def quality() -> dict[str, str]:
    """Seconds of a whole fit until S6's test loss is as published: by default, and as published on our own engine."""
    X, _, X_test, _ = mnist()
    facts = {}
    for epochs in range(1, 10):
        model = default((128, 64), 32, epochs=epochs)
        began = time.perf_counter()
        model.fit(X)
        seconds = time.perf_counter() - began
        loss = -model.score(X_test)
        if loss <= QUALITY:
            facts[f"seconds to a test loss of {QUALITY} on S6's layers by default"] = (
                f"{seconds:.1f} ({epochs} epochs, {loss:.4f})"
            )
            break
    old = published((128, 64), 32, epochs=29, batch_size=256)
    began = time.perf_counter()
    old.fit(X)
    facts["seconds of 29 epochs as published, on this engine"] = f"{time.perf_counter() - began:.1f}"
    return facts


def versions() -> dict[str, str]:
    """What was measured with what."""
    return {
        **{name: metadata.version(name) for name in ("isthmus", "torch", "numpy", "scikit-learn")},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processor": _processor(),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} × {names[0]}" if names else platform.processor()


def page(timings: list[Timing], facts: dict[str, str]) -> str:
    """Everything as Markdown."""
    told = ", ".join(f"{name} {version}" for name, version in versions().items())
    lines = [f"| {name} | {value} |" for name, value in facts.items()]
    return "\n".join([
        "# Speed",
        "",
        "Seconds an epoch of 60,000 rows, and to encode them, in interleaved rounds of one run of",
        "`python -m benchmarks.speed`. Ratios above one are in favour of isthmus.",
        "",
        table(timings),
        "",
        *(["| what | measured |", "|---|---|", *lines, ""] if facts else []),
        f"Measured with {told}.",
        "",
    ])  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
