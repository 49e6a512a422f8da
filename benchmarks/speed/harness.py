"""Workers in environments of their own, asked in turn, and the tables of what they took."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.speed.peers.protocol import Workload
from benchmarks.speed.peers_table import Peer

PEERS_FOLDER = Path(__file__).parent / "peers"
US = "isthmus"
FLOOR = "matrix products alone"


class NotAvailableError(Exception):
    """A peer cannot take part; the text says why."""


def interpreter(peer: Peer, environments: Path) -> str:
    """The Python of a peer's environment, which is made if it is missing.

    Raises
    ------
    NotAvailableError
        The environment cannot be made.
    """
    if not peer.environment:
        return sys.executable
    folder = environments / peer.environment
    python = folder / "bin" / "python"
    if not (folder / "ready").is_file():
        for command in ([sys.executable, "-m", "venv", str(folder)],
                        [str(python), "-m", "pip", "install", "--quiet", *peer.packages]):  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise NotAvailableError(f"cannot be installed: {_last_line(done.stderr)}")
        (folder / "ready").touch()
    return str(python)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1][:200]


class Worker:
    """One peer with one workload, which waits until it is asked.

    Parameters
    ----------
    peer, workload, data
        Who, what, and the file with the rows.
    environments
        Folder of the virtual environments.
    """

    def __init__(self, peer: Peer, workload: Workload, data: Path, environments: Path) -> None:
        variables = {**os.environ, **dict(peer.variables), "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [interpreter(peer, environments), str(PEERS_FOLDER / peer.script)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=variables)
        self._say(json.dumps({"workload": asdict(workload), "data": str(data)}))

    def _say(self, line: str) -> Any:
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        assert stdin is not None
        assert stdout is not None
        assert stderr is not None
        try:
            print(line, file=stdin, flush=True)
            answer = stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise NotAvailableError(_last_line(stderr.read()))
        return json.loads(answer)

    def seconds(self, task: str) -> float:
        """Do a task once."""
        return float(self._say(task)["seconds"])

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


@dataclass
class Timing:
    """What one peer took for one task of one workload, in seconds."""

    workload: str
    task: str
    peer: str
    rounds: list[float] = field(default_factory=list)
    missing: str = ""

    @property
    def median(self) -> float:
        """Of the rounds."""
        return statistics.median(self.rounds)


def measure(workload: Workload, peers: Mapping[str, Peer], data: Path, environments: Path, rounds: int) -> list[Timing]:
    """Every peer with one workload, in interleaved rounds after one that does not count."""
    timings, workers = [], {}
    for name, peer in peers.items():
        try:
            workers[name] = Worker(peer, workload, data, environments)
            for task in ("epoch", "encode"):
                workers[name].seconds(task)
        except NotAvailableError as reason:
            workers.pop(name, None)
            timings.append(Timing(workload.name, "epoch", name, missing=str(reason)))
    for task in ("epoch", "encode"):
        taken = {name: Timing(workload.name, task, name) for name in workers}
        for _ in range(rounds):
            for name, worker in workers.items():
                taken[name].rounds.append(worker.seconds(task))
        timings += taken.values()
    for worker in workers.values():
        worker.close()
    return timings


TARGETS: dict[tuple[str, str, str], tuple[str, float]] = {
    ("S1", "epoch", "Keras on TensorFlow"): ("≥", 4.0),
    ("S6", "epoch", "Keras on TensorFlow"): ("≥", 3.0),
    ("S1", "epoch", "PyTorch DataLoader"): ("≥", 3.0),
    ("S6", "epoch", "PyTorch DataLoader"): ("≥", 1.8),
    ("S1", "epoch", "JAX scan"): ("≥", 1.0),
    ("S6", "epoch", "JAX scan"): ("≥", 1.3),
    ("S1", "epoch", FLOOR): ("≥", 1 / 1.8),
    ("S6", "epoch", FLOOR): ("≥", 1 / 1.4),
    ("S1", "encode", "Keras on TensorFlow"): ("≥", 5.0),
}
"""Peer's seconds ÷ ours: what is wanted."""


def table(timings: list[Timing]) -> str:
    """The timings as Markdown, the peer's seconds divided by ours beside the target."""
    lines = [
        "| workload | task | peer | median s | least–most s | ÷ isthmus | wanted |",
        "|---|---|---|---|---|---|---|",
    ]
    ours = {(t.workload, t.task): t.median for t in timings if t.peer == US and t.rounds}
    for timing in timings:
        if timing.missing:
            lines.append(f"| {timing.workload} | – | {timing.peer} | – | – | – | not run: {timing.missing} |")
            continue
        ratio = timing.median / ours[timing.workload, timing.task] if ours else float("nan")
        target = TARGETS.get((timing.workload, timing.task, timing.peer))
        wanted = "–" if target is None else f"{target[0]} {target[1]:.2f}{'' if ratio >= target[1] else ' **missed**'}"
        spread = f"{min(timing.rounds):.3f}–{max(timing.rounds):.3f}"
        cells = (timing.workload, timing.task, timing.peer, f"{timing.median:.3f}", spread, f"{ratio:.2f}", wanted)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
