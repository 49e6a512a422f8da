"""``isthmus serve`` under load: nothing lost or mixed up, bad bodies refused, and a clean end in between."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

import isthmus
from benchmarks.scale.bad_bodies import ARROW, arrow_of, bad_asks, text
from benchmarks.scale.http_client import Answers, Ask, Got, ask, send_all
from benchmarks.sheet import Sheet

PACKAGES = ("torch", "numpy", "fastapi", "uvicorn", "msgspec", "pyarrow")
CONNECTIONS = 32
DIFFERENT = 2_000
"""Different requests; each is compared with the library's answer for it alone."""
EXACT = 1e-12
WARM_UP, FEW = 200, 1_000
"""Requests before the clock runs, and of the runs for comparison."""
ALONE = "import sys, isthmus; isthmus.serving.serve(sys.argv[1], port=0, limits=isthmus.serving.Limits(batch_rows=1), "
ALONE += "ready=lambda address: print(address, flush=True))"
"""The same server without stacking."""


@dataclass(frozen=True)
class Case:
    """A model with different requests and the library's answers for each alone."""

    name: str
    path: Path
    route: str
    frame: pd.DataFrame
    wanted: Sequence[Mapping[str, np.ndarray]]

    def asks(self, count: int, seed: int) -> list[Ask]:
        """Requests in a random order, each fifth an Arrow stream."""
        rows: list[dict[str, Any]] = self.frame.astype(object).to_dict("records")  # type: ignore[assignment]
        made = [
            ask(number, self.route, arrow_of(row), ARROW)
            if number % 5 == 4
            else ask(number, self.route, text({"records": [row]}))
            for number, row in enumerate(rows)
        ]
        return [made[place] for place in np.random.default_rng(seed).integers(0, len(made), count)]


def run(sheet: Sheet, *, quick: bool, seed: int) -> None:
    """All parts; bounded by the number of requests."""
    scale = 0.01 if quick else 1.0
    with tempfile.TemporaryDirectory() as folder:
        for case, n_requests in (
            (_numbers(Path(folder), seed, scale), 50_000),
            (_mixed(Path(folder), seed, scale), 50_000),
        ):
            _load(sheet, case, max(200, int(n_requests * scale)), seed)
        _bad(sheet, case, max(100, int(1_000 * scale)), seed)
        _end(sheet, case, seed)


# -- models ------------------------------------------------------------------------------------------------------------


def _numbers(folder: Path, seed: int, scale: float) -> Case:
    """An autoencoder of 30 columns."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(4_000, 6))
    frame = pd.DataFrame(base @ rng.normal(size=(6, 30)) + 0.1 * rng.normal(size=(4_000, 30)))
    frame.columns = [f"v{place}" for place in range(30)]
    model = isthmus.Autoencoder(6, max_epochs=3, random_state=seed).fit(frame)
    rows = frame.head(max(100, int(DIFFERENT * scale)))
    wanted = [
        {"score": model.score_samples(row), "reconstruction_error": model.reconstruction_error(row)}
        for row in (rows.iloc[[place]] for place in range(len(rows)))
    ]
    return Case("autoencoder", Path(model.save(folder / "model.safetensors")), "/score", rows, wanted)


def _mixed(folder: Path, seed: int, scale: float) -> Case:
    """A detector of ten columns: numbers, words and a date."""
    rng, n = np.random.default_rng(seed + 1), 6_000
    frame = pd.DataFrame({f"v{place}": rng.normal(size=n) for place in range(7)})
    frame["country"] = rng.choice(["Chile", "Peru", "Togo", "Laos"], n)
    frame["paid"] = rng.random(n) < 0.7
    frame["day"] = pd.date_range("2024-01-01", periods=n, freq="h").strftime("%Y-%m-%d %H:%M:%S")
    train, new = frame.head(4_000), frame.tail(2_000).copy()
    detector = isthmus.AnomalyDetector(isthmus.FalseAlarmRate(0.01), max_steps=100, random_state=seed).fit(train)
    new.loc[new.index[::10], "v0"] += 9.0
    seen = train.sample(100, random_state=seed)  # a quarter of them calibrate: their p-values hang on the last bit
    rows = pd.concat([seen, new]).head(max(200, int(DIFFERENT * scale))).reset_index(drop=True)
    wanted = []
    for place in range(len(rows)):
        row = rows.iloc[[place]]
        wanted.append(
            {
                "anomaly_score": -detector.score_samples(row),
                "anomaly": detector.predict(row) == -1,
                "p_value": detector.p_values(row),
            }
        )
    return Case("detector", Path(detector.save(folder / "detector.safetensors")), "/score", rows, wanted)


# -- a server ----------------------------------------------------------------------------------------------------------


@dataclass
class Server:
    """A server process, its port, and what it wrote when it ended."""

    process: subprocess.Popen[str]
    port: int
    told: str = ""

    def end(self) -> int:
        """Send SIGTERM and wait; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        self.told, _ = self.process.communicate(timeout=120)
        return self.process.returncode

    @property
    def answered(self) -> int:
        """How many requests it says that it answered."""
        found = re.search(r"requests answered: ([\d,]+)", self.told)
        return int(found[1].replace(",", "")) if found else -1


@contextmanager
def _serving(path: Path, *options: str, stacking: bool = True) -> Iterator[Server]:
    command = ["from isthmus.cli import main; main()", "serve", str(path), "--port", "0", *options]
    words = command if stacking else [ALONE, str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen([sys.executable, "-c", *words], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    try:
        found = re.search(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline())
        assert found is not None, "the server did not start"
        yield Server(process, int(found[1]))
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


# -- parts -------------------------------------------------------------------------------------------------------------


def _load(sheet: Sheet, case: Case, n_requests: int, seed: int) -> None:
    asks = case.asks(n_requests, seed)
    with _serving(case.path) as server:
        asyncio.run(send_all(server.port, asks[:WARM_UP], CONNECTIONS))
        answers = asyncio.run(send_all(server.port, asks, CONNECTIONS))
        code = server.end()
    lost = n_requests - sum(one.status == 200 for one in answers.got)
    wrong = sum(not _equals(one, case.wanted[one.number]) for one in answers.got if one.status == 200)
    uncounted = n_requests + len(asks[:WARM_UP]) - server.answered
    sheet.add(case.name, f"requests from {CONNECTIONS} connections", n_requests)
    sheet.add(case.name, "lost or refused", lost, "0", met=lost == 0)
    sheet.add(case.name, f"answers that differ from the library's by more than {EXACT:g}", wrong, "0", met=wrong == 0)
    sheet.add(case.name, "requests that the server did not count", uncounted, "0", met=uncounted == 0)
    sheet.add(case.name, "exit code at SIGTERM", code, "0", met=code == 0)
    _speed(sheet, case.name, answers)
    with _serving(case.path) as server:
        one = asyncio.run(send_all(server.port, asks[: min(FEW, n_requests // 2)], 1))
    _speed(sheet, case.name, one, ", one connection")
    with _serving(case.path, stacking=False) as server:
        slow = asyncio.run(send_all(server.port, asks[:FEW], CONNECTIONS))
    _speed(sheet, case.name, slow, ", without stacking")


def _speed(sheet: Sheet, name: str, answers: Answers, how: str = "") -> None:
    seconds = np.array([one.seconds for one in answers.got]) * 1_000
    sheet.add(name, f"requests a second{how}", len(seconds) / answers.seconds)
    for share in (50, 99):
        sheet.add(name, f"p{share} of the answers, ms{how}", float(np.percentile(seconds, share)))


def _equals(one: Got, wanted: Mapping[str, np.ndarray]) -> bool:
    if one.media_type.startswith(ARROW):
        table = pa.ipc.open_stream(one.body).read_all()
        found = {name: table.column(name).to_numpy() for name in table.column_names}
        if any(found[name].dtype != wanted[name].dtype for name in wanted):
            return False
    else:
        found = {name: np.asarray(values) for name, values in json.loads(one.body)["columns"].items()}
    return found.keys() == wanted.keys() and all(
        found[name].shape == wanted[name].shape
        and bool(np.all(np.abs(found[name] * 1.0 - wanted[name]) <= _near(wanted[name])))
        for name in wanted
    )


def _near(wanted: np.ndarray) -> np.ndarray:
    nearness: np.ndarray = EXACT * np.maximum(1.0, np.abs(wanted * 1.0))
    return nearness


def _bad(sheet: Sheet, case: Case, count: int, seed: int) -> None:
    """Bad bodies over some connections, and good ones over others at the same time."""
    row: dict[str, Any] = case.frame.astype(object).to_dict("records")[0]  # type: ignore[assignment]
    bad, good = bad_asks(row, case.route, count, seed), case.asks(5 * count, seed)

    async def both(port: int) -> tuple[Answers, Answers]:
        wrong, right = await asyncio.gather(
            send_all(port, [one for _, one in bad], 8), send_all(port, good, CONNECTIONS - 8)
        )
        return wrong, right

    with _serving(case.path, "--max-body", "2", "--max-rows", "2000") as server:
        refused, answered = asyncio.run(both(server.port))
        code = server.end()
    told = [one for one in refused.got if 400 <= one.status < 500 and len(json.loads(one.body)["error"]) > 20]
    names = dict(enumerate(name for name, _ in bad))
    for status, number in sorted(Counter(one.status for one in refused.got).items()):
        sheet.add("bad bodies", f"status {status}", number)
    missed = sorted({names[one.number] for one in refused.got if one not in told})
    sheet.add(
        "bad bodies",
        f"without a 4xx and its text {' '.join(missed)}".rstrip(),
        count - len(told),
        "0",
        met=len(told) == count,
    )
    wrong = sum(one.status != 200 or not _equals(one, case.wanted[one.number]) for one in answered.got)
    sheet.add(
        "bad bodies", f"wrong answers among {len(good):,} good requests at the same time", wrong, "0", met=wrong == 0
    )
    sheet.add("bad bodies", "exit code at SIGTERM", code, "0", met=code == 0)


def _end(sheet: Sheet, case: Case, seed: int, rounds: int = 3) -> None:
    """SIGTERM under load: what was accepted is answered whole, the rest is not begun."""
    for trial in range(rounds):
        asks = case.asks(100_000, seed + trial)

        async def ended(server: Server, asks: Sequence[Ask] = asks) -> Answers:
            stop = asyncio.Event()
            sending = asyncio.create_task(send_all(server.port, asks, CONNECTIONS, stop=stop))
            await asyncio.sleep(1.5)
            stop.set()
            server.process.send_signal(signal.SIGTERM)
            return await sending

        with _serving(case.path) as server:
            answers = asyncio.run(ended(server))
            start = time.perf_counter()
            server.told, _ = server.process.communicate(timeout=120)
            waited = time.perf_counter() - start
        whole = [one for one in answers.got if one.status == 200]
        wrong = sum(not _equals(one, case.wanted[one.number]) for one in whole)
        lost = server.answered - len(whole)
        name = f"SIGTERM {trial + 1}"
        sheet.add(name, "answered", len(whole))
        sheet.add(name, "accepted but not answered", lost, "0", met=lost == 0)
        sheet.add(name, "answers cut off or wrong", wrong + answers.torn, "0", met=wrong + answers.torn == 0)
        sheet.add(name, "connections closed before a request was read", sum(one.status == 0 for one in answers.got))
        sheet.add(name, "exit code", server.process.returncode, "0", met=server.process.returncode == 0)
        sheet.add(name, "seconds to the end after the last answer", waited)
