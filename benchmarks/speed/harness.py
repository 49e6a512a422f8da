"""Workers in environments of their own, asked in turn."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.speed.figures import Figure
from benchmarks.speed.peers.protocol import Workload
from benchmarks.speed.peers_table import Peer

Answer = TypeVar("Answer")
PEERS_FOLDER = Path(__file__).parent / "peers"


class NotAvailableError(Exception):
    """A peer cannot take part; the text says why."""


@dataclass
class Bench:
    """One run of the benchmark.

    Attributes
    ----------
    folder
        Where the data lie, and files made for a while.
    environments
        Where the peers are installed.
    rounds
        How often each is asked.
    wanted
        Names of the peers that take part; None means all.
    quick
        Whether everything is cut down, to see that it runs; the figures then mean nothing.
    versions
        What each peer said that it runs on.
    """

    folder: Path
    environments: Path
    rounds: int
    wanted: Sequence[str] | None = None
    quick: bool = False
    versions: dict[str, dict[str, str]] = field(default_factory=dict)

    def cut(self, workload: Workload) -> Workload:
        """A workload of few rows where all is cut down."""
        return replace(workload, n_rows=min(workload.n_rows, 2_560)) if self.quick else workload

    def among(self, peers: Mapping[str, Peer], workload: str = "") -> dict[str, Peer]:
        """Those that are wanted and can do a workload."""
        return {
            name: peer
            for name, peer in peers.items()
            if (self.wanted is None or name in self.wanted) and (not peer.only or workload in peer.only)
        }


def interpreter(peer: Peer, environments: Path) -> str:
    """The Python of a peer's environment, which is made if it is missing or old.

    Raises
    ------
    NotAvailableError
        The environment cannot be made.
    """
    if not peer.environment:
        return sys.executable
    folder, told = environments.absolute() / peer.environment, "\n".join(peer.packages)
    python, ready = folder / "bin" / "python", folder / "ready"
    if not (ready.is_file() and ready.read_text(encoding="utf-8") == told):
        if not python.is_file():
            _run([sys.executable, "-m", "venv", str(folder)])
        if peer.shares:
            _share(folder)
        _run([str(python), "-m", "pip", "install", "--quiet", *peer.packages])
        ready.write_text(told, encoding="utf-8")
    return str(python)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotAvailableError(f"cannot be installed: {last_line(done.stderr)}")


def _share(folder: Path) -> None:
    """Let an environment see the packages of this one, behind its own."""
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "benchmark.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")


def last_line(text: str) -> str:
    """The last line of what a process said, which is the message of an error."""
    return (text.strip().splitlines() or ["no reason given"])[-1][:200]


def variables(peer: Peer) -> dict[str, str]:
    """The environment variables of a peer's process."""
    return {**os.environ, **peer.variables, "TF_CPP_MIN_LOG_LEVEL": "3"}


class Worker:
    """One peer with one workload, which waits until it is asked.

    Parameters
    ----------
    bench
        The run.
    peer, workload
        Who, and what.

    Attributes
    ----------
    versions
        Of the packages it loaded.
    """

    def __init__(self, bench: Bench, peer: Peer, workload: Workload) -> None:
        command = [interpreter(peer, bench.environments), str(PEERS_FOLDER / peer.script)]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # as long as the process; a pipe would fill up
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=variables(peer),
        )
        options = {name: value for name, value in peer.options.items() if name != "task"}
        self.versions: dict[str, str] = self._say(
            {"workload": asdict(workload), "folder": str(bench.folder), "options": options}
        )

    def _say(self, line: Mapping[str, Any]) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            print(json.dumps(line), file=stdin, flush=True)
            answer = stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self._process.wait()
            self._errors.seek(0)
            reason = last_line(self._errors.read())
            self.close()
            raise NotAvailableError(reason)
        return json.loads(answer)

    def ask(self, task: str, **more: Any) -> dict[str, Any]:
        """Do a task once; the answer holds its ``seconds`` and what else the script notes."""
        answer: dict[str, Any] = self._say({"task": task, **more})
        return answer

    def close(self) -> None:
        """End the process."""
        process = self._process
        for pipe in (process.stdin, process.stdout, self._errors):
            with contextlib.suppress(BrokenPipeError):  # it may have ended already
                if pipe is not None:
                    pipe.close()
        process.wait()


def start(bench: Bench, peers: Mapping[str, Peer], workload: Workload) -> tuple[dict[str, Worker], dict[str, str]]:
    """A worker for each peer, and the reasons of those that cannot take part."""
    workers, reasons = {}, {}
    for name, peer in bench.among(peers, workload.name).items():
        try:
            workers[name] = Worker(bench, peer, workload)
            bench.versions[name] = workers[name].versions
        except NotAvailableError as reason:
            reasons[name] = str(reason)
    return workers, reasons


@dataclass(frozen=True)
class Question:
    """What is asked of every worker in turn.

    Attributes
    ----------
    part, case, quantity, unit
        Of the figures.
    task
        What the scripts call it.
    warm_up
        Whether each does it once before it counts.
    rows
        For a rate: how many rows one answer covers.
    more
        Arguments of the task, by name; a seed is the number of the round.
    """

    part: str
    case: str
    quantity: str
    task: str
    unit: str = "s"
    warm_up: bool = True
    rows: int = 0
    more: Mapping[str, Any] = field(default_factory=dict)

    def ask(self, worker: Worker, peer: Peer, number: int) -> dict[str, Any]:
        """One answer of one worker."""
        more = {**self.more, "seed": number} if "seed" in self.more else self.more
        return worker.ask(peer.options.get("task", self.task), **more)

    def figure(self, name: str, answers: Sequence[Mapping[str, Any]]) -> Figure:
        """What one peer took."""
        seconds = [float(answer["seconds"]) for answer in answers]
        values = [self.rows / each for each in seconds] if self.rows else seconds
        return Figure(self.part, self.case, self.quantity, name, self.unit, tuple(values), note=_notes(answers))

    def missing(self, name: str, reason: str) -> Figure:
        """Why one peer took nothing."""
        return Figure(self.part, self.case, self.quantity, name, self.unit, missing=reason)


def _notes(answers: Sequence[Mapping[str, Any]]) -> str:
    """What the scripts noted, in words: the last loss, and the numbers of epochs."""
    told = []
    epochs = sorted({answer["epochs"] for answer in answers if "epochs" in answer})
    if epochs:
        counts = "–".join(map(str, dict.fromkeys((epochs[0], epochs[-1]))))
        told.append(f"{counts} epoch{'' if epochs[-1] == 1 else 's'}")
    if "loss" in answers[-1]:
        told.append(f"loss {answers[-1]['loss']:.4f}")
    return ", ".join(told)


def interleaved(
    bench: Bench, peers: Mapping[str, Peer], workload: Workload, questions: Sequence[Question]
) -> list[Figure]:
    """Every question to every peer, in rounds of one answer each."""
    workload = bench.cut(workload)
    workers, reasons = start(bench, peers, workload)
    figures: list[Figure] = []
    for question in questions:

        def ask(name: str, number: int, question: Question = question) -> dict[str, Any]:
            return question.ask(workers[name], peers[name], number)

        answers = in_turn(bench.rounds, workers, ask, reasons, warm_up=question.warm_up)
        for name in bench.among(peers, workload.name):
            figure = question.missing(name, reasons[name]) if name in reasons else question.figure(name, answers[name])
            figures.append(figure)
    for worker in workers.values():
        worker.close()
    return figures


def in_turn(
    rounds: int,
    names: Iterable[str],
    ask: Callable[[str, int], Answer],
    reasons: dict[str, str],
    *,
    warm_up: bool = False,
) -> dict[str, list[Answer]]:
    """The answers of each, one a round; who fails is not asked again, and the reason is put beside the others."""
    answers: dict[str, list[Answer]] = {name: [] for name in names if name not in reasons}
    for number in range(-1 if warm_up else 0, rounds):
        for name, given in answers.items():
            if name in reasons:
                continue
            try:
                answer = ask(name, number)
            except NotAvailableError as reason:
                reasons[name] = str(reason)
                continue
            if number >= 0:
                given.append(answer)
    return answers
