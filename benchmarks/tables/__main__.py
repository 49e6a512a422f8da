"""Rows a second and peak memory of learning a schema, encoding, training and scoring a Parquet file.

    python -m benchmarks.tables [--rows 5000000] [--folder /tmp] [--epochs 1]

The peak is that of the process (Linux) above what it has once everything is imported.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.tables.made import write
from isthmus import Autoencoder
from isthmus.data.tables import TableSource, learn_schema


def peak_memory() -> float:
    """Peak memory of this process, in GB."""
    return int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))[0]) / 1e6


def forget_peak() -> None:
    """Reset the peak to the current memory."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def measured(name: str, n_rows: int, work: Callable[[], Any], ground: float) -> Any:
    """Process all rows and print time and memory."""
    start = time.perf_counter()
    answer = work()
    seconds = time.perf_counter() - start
    peak = peak_memory() - ground
    print(f"{name:<28}{seconds:8.1f} s {n_rows / seconds:12,.0f} rows/s   peak {peak:.2f} GB above the interpreter")
    return answer


def started(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, Path, float]:
    """The arguments, the file (created if it does not exist), and the current memory; sets one thread."""
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--folder", type=Path, default=Path("/tmp"))
    given = parser.parse_args()
    path = given.folder / f"mixed-{given.rows}.parquet"
    if not path.exists():
        write(path, given.rows)
    torch.set_num_threads(1)
    forget_peak()
    return given, path, peak_memory()


def main() -> None:
    """Create the file if it does not exist, then measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=1)
    given, path, ground = started(parser)
    n_rows = given.rows
    schema = measured("schema", n_rows, lambda: learn_schema(path), ground)
    print(f"{len(schema.columns)} columns, {schema.width} numbers a row")
    source = TableSource(path, schema, scratch=given.folder)
    measured("encoding in order", n_rows, lambda: sum(map(len, source.chunks())), ground)
    settings: dict[str, Any] = {"max_epochs": given.epochs, "batch_size": 1024, "random_state": 0, "verbose": 1}
    model = Autoencoder(16, loss=schema.loss(), scaling="none", **settings)
    measured(f"training, {given.epochs} epoch(s)", n_rows * given.epochs, lambda: model.fit(source), ground)
    measured("scoring", n_rows, lambda: model.score(TableSource(path, schema)), ground)


if __name__ == "__main__":
    main()
