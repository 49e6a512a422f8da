"""A folder of Parquet files scored by one process, by Ray and by Dask: ``python -m benchmarks.scale.parts [--quick]``.

200 files with 4 million rows of 30 mixed columns are made from a seed in a temporary folder, and scored by a small
detector, so that reading, writing and the engines count. A detector with default settings scores a tenth of the rows:
it takes four to five times as long for a row. Scores and ids of the engines are compared with those of one process; one
worker of each is killed in between. Then the same number of rows is scored in 10, 200 and 1,000 files. Each run is a
process of its own. Engines that are not installed are left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

import isthmus
from benchmarks.sheet import Sheet, machine

ENGINES = {"none": "torch", "ray": "ray", "dask": "distributed"}
"""Engines with the package that each needs."""
PACKAGES = tuple(
    name for name in ("torch", "numpy", "pandas", "pyarrow", "ray", "distributed") if importlib.util.find_spec(name)
)
N_FILES, GROWTH, GROWTH_ROWS, LARGE_ROWS = 200, (10, 200, 1_000), 20_000, 20_000
DETECTORS: dict[str, dict[str, Any]] = {
    "small": {"n_members": 3, "parts": ("marginal", "relation", "reconstruction")},  # no distances to training rows
    "default": {},
}
"""Settings of the detectors that score."""
MEMORY_GB, CLOSE = 1.5, 1e-12
LIMIT = 3_600
"""Seconds until a run is given up."""


def rows_of(n: int, *seed: int) -> pd.DataFrame:
    """Rows of 30 mixed columns that depend on three hidden causes: 18 numeric, 6 categorical, 4 binary, 2 dates."""
    draw = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).normal(size=(3, 30))  # the same for every part
    causes = draw.normal(size=(n, 3))
    mixed = causes @ mixing + 0.3 * draw.normal(size=(n, 30))
    columns: dict[str, Any] = {f"number_{place}": mixed[:, place] for place in range(12)}
    columns |= {f"amount_{place}": np.exp(mixed[:, place]).round(2) for place in range(12, 18)}
    levels = np.array([f"level {place}" for place in range(8)])
    columns |= {f"kind_{place}": levels[np.digitize(mixed[:, place], np.linspace(-3, 3, 7))] for place in range(18, 24)}
    columns |= {f"flag_{place}": mixed[:, place] > 0 for place in range(24, 28)}
    start = pd.Timestamp("2026-01-01")
    columns |= {
        f"when_{place}": start + pd.to_timedelta((1e6 * mixed[:, place]).astype(np.int64), "s") for place in (28, 29)
    }
    frame = pd.DataFrame(columns)
    return frame.mask(pd.DataFrame(draw.random(frame.shape) < 0.01, columns=frame.columns))


def make_table(folder: Path, n_files: int, n_rows: int, seed: int) -> None:
    """Files with `n_rows` together, and ids that count all rows."""
    folder.mkdir()
    edges = np.linspace(0, n_rows, n_files + 1).astype(int)
    for place, (start, stop) in enumerate(itertools.pairwise(edges)):
        rows = rows_of(stop - start, seed, place).assign(id=np.arange(start, stop) + 2**53)
        parquet.write_table(pa.Table.from_pandas(rows, preserve_index=False), folder / f"part-{place:04}.parquet")


@dataclass(frozen=True)
class Watched:
    """`isthmus.Apply` that notes the process, its peak memory and its CPU time beside the outputs."""

    path: str
    notes: str

    def __call__(self, part: pa.Table) -> pa.Table:
        answers = isthmus.Apply(self.path, "score_samples", keep=["id"])(part)
        status = Path("/proc/self/status").read_text(encoding="utf-8")  # ru_maxrss would count the parent before exec
        found = re.search(r"VmHWM:\s+(\d+)", status)
        note = {"kB": int(found[1]) if found else 0, "cpu": time.process_time()}
        with isthmus.files.atomic(Path(self.notes) / str(os.getpid())) as path:
            path.write_text(json.dumps(note), encoding="utf-8")
        return answers


@dataclass(frozen=True)
class Task:
    """A detector on a table, both by name; `kill` ends one worker when a tenth of the files is complete."""

    detector: str
    table: str
    kill: bool = False

    def out(self, engine: str) -> str:
        """The name of the folder of the scores."""
        return f"{self.table}-{self.detector}-{engine}"


def work(engine: str, folder: Path, task: Task) -> None:
    """Score a table, and print when the first and the last file were complete."""
    out = folder / task.out(engine)
    notes = out.with_name(f"{out.name}-notes")
    notes.mkdir()
    began, seen, killed = time.perf_counter(), list[float](), list[int]()

    def progress(n_done: int, n_all: int) -> None:
        seen.append(time.perf_counter() - began)
        if task.kill and not killed and n_done >= n_all // 10:
            newest = max(notes.glob("[0-9]*"), key=lambda file: file.stat().st_mtime)  # certainly at work
            killed.append(int(newest.name))
            os.kill(killed[0], signal.SIGKILL)

    watched = Watched(str(folder / f"{task.detector}.safetensors"), str(notes))
    isthmus.map_parts(watched, folder / task.table, out, engine=engine, progress=progress)
    found = [json.loads(file.read_text(encoding="utf-8")) for file in notes.glob("[0-9]*")]
    peak, cpu = max(each["kB"] for each in found) * 1024 / 1e9, sum(each["cpu"] for each in found)
    told = {"first": seen[0], "last": seen[-1], "peak": peak, "cpu": cpu, "killed": len(killed)}
    print(f"told {json.dumps(told)}", flush=True)


def ran(engine: str, folder: Path, task: Task) -> dict[str, float]:
    """`work` in a process of its own."""
    words = ["-m", "benchmarks.scale.parts", "--work", engine, str(folder), json.dumps(vars(task))]
    quiet = os.environ | {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    ended = subprocess.run(
        [sys.executable, *words], env=quiet, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    found = re.search(r"^told (.*)$", ended.stdout, re.MULTILINE)
    if ended.returncode or found is None:
        raise RuntimeError(f"{engine} did not score {task.table}: {ended.stderr[-2000:]}")
    told: dict[str, float] = json.loads(found[1])
    return told


def outputs(folder: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Ids and scores of each output file, by name."""
    for file in sorted(folder.glob("part-*.parquet")):
        table = parquet.read_table(file)
        yield table["id"].to_numpy(), table["score_samples"].to_numpy()


def installed() -> list[str]:
    """The engines whose package is there."""
    return [engine for engine, package in ENGINES.items() if importlib.util.find_spec(package)]


def run(sheet: Sheet, *, quick: bool = False, seed: int = 0, n_rows: int = 4_000_000) -> None:
    """Measure everything."""
    n_files, growth, few, n_rows = (20, (5, 20), 1_000, 10_000) if quick else (N_FILES, GROWTH, GROWTH_ROWS, n_rows)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        learn(folder, seed, quick=quick)
        for detector, n in zip(DETECTORS, (n_rows, n_rows // 10), strict=True):
            make_table(folder / f"table-{n}", n_files, n, seed)
            sheet.add(detector, f"rows in {n_files} files", n)
            for engine in installed():
                _measure(sheet, engine, folder, Task(detector, f"table-{n}", kill=engine != "none"), n)
            _check_scores(sheet, folder, Task(detector, f"table-{n}"))
        for count in growth:
            make_table(folder / f"in-{count}", count, few, seed)
            for engine in installed():
                told = ran(engine, folder, Task("small", f"in-{count}"))
                what = f"{engine}: seconds for {few:,} rows in {count:,} files, start included"
                sheet.add("growth", what, told["last"])
                sheet.add("growth", f"{engine}: seconds until the first of {count:,} files", told["first"])
                sheet.add("growth", f"{engine}: CPU seconds of all workers, {count:,} files", told["cpu"])
        measure_large(sheet, folder, 1_000 if quick else LARGE_ROWS, seed)


def learn(folder: Path, seed: int, *, quick: bool = False) -> None:
    """The detectors that score, fitted on other rows of the same kind."""
    rows = rows_of(2_000 if quick else 20_000, seed, 10**6)
    for name, settings in DETECTORS.items():
        detector = isthmus.AnomalyDetector(random_state=seed, **settings)
        detector.set_params(**({"max_steps": 50} if quick else {})).fit(rows).save(folder / f"{name}.safetensors")


def measure_large(sheet: Sheet, folder: Path, n_rows: int, seed: int) -> None:
    """The memory that the default detector takes with parts of as many rows as 4 million have in 200 files."""
    make_table(folder / "large", 2, 2 * n_rows, seed)
    for engine in installed():
        peak = ran(engine, folder, Task("default", "large"))["peak"]
        what = f"{engine}: peak memory of a worker, parts of {n_rows:,} rows, GB"
        sheet.add("default", what, peak, f"< {MEMORY_GB}", peak < MEMORY_GB)


def _measure(sheet: Sheet, engine: str, folder: Path, task: Task, n_rows: int) -> None:
    part, told = task.detector, ran(engine, folder, task)
    sheet.add(part, f"{engine}: rows a second, start included", n_rows / told["last"])
    sheet.add(part, f"{engine}: seconds until the first file is complete", told["first"])
    sheet.add(part, f"{engine}: CPU seconds of all workers", told["cpu"])
    peak = told["peak"]
    sheet.add(part, f"{engine}: peak memory of a worker, GB", peak, f"< {MEMORY_GB}", peak < MEMORY_GB)
    if task.kill:
        sheet.add(part, f"{engine}: workers killed in between", told["killed"], "= 1", told["killed"] == 1)
    if engine != "none":
        pairs = zip(outputs(folder / task.out("none")), outputs(folder / task.out(engine)), strict=True)
        gap = max(_gap(mine, one) for (_, one), (_, mine) in pairs)
        sheet.add(part, f"{engine}: scores beside one process, max |Δ| / |score|", gap, f"≤ {CLOSE}", gap <= CLOSE)
    ids, n_before = 0, 0
    for found, _ in outputs(folder / task.out(engine)):
        ids += int((found != np.arange(n_before, n_before + len(found)) + 2**53).sum())
        n_before += len(found)
    wrong = ids + abs(n_before - n_rows)
    sheet.add(part, f"{engine}: ids that are missing, repeated or moved", wrong, "= 0", wrong == 0)


def _check_scores(sheet: Sheet, folder: Path, task: Task) -> None:
    """Whether the scores are those of the detector on a whole file."""
    detector = isthmus.load(folder / f"{task.detector}.safetensors")
    first = parquet.read_table(folder / task.table / "part-0000.parquet").drop_columns(["id"])
    gap = _gap(next(outputs(folder / task.out("none")))[1], detector.score_samples(first))
    what = "none: scores beside the whole first file, max |Δ| / |score|"
    sheet.add(task.detector, what, gap, f"≤ {CLOSE}", gap <= CLOSE)


def _gap(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest relative difference of scores."""
    return float(np.max(np.abs(found - wanted) / np.abs(wanted)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10,000 rows: whether it runs")
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for parts.json, such as docs")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        engine, folder, task = asked.work
        work(engine, Path(folder), Task(**json.loads(task)))
        return 0
    sheet = Sheet()
    run(sheet, quick=asked.quick, seed=asked.seed, n_rows=asked.rows)
    print(machine(PACKAGES))
    if asked.out is not None:
        sheet.write(asked.out / "parts.json", PACKAGES)
    return int(any(figure.met is False for figure in sheet.figures))


if __name__ == "__main__":
    sys.exit(main())
