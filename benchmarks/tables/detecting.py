"""What an anomaly detector costs on a Parquet file larger than memory: ``python -m benchmarks.tables.detecting``.

Fits and scores 5 million rows of 30 mixed columns, in Python and by the command line, and prints rows a second and the
peak of the memory above the interpreter (Linux).
"""

from __future__ import annotations

import argparse
import contextlib
from functools import partial
from pathlib import Path

import numpy as np
from pyarrow import parquet

from benchmarks.tables.__main__ import measured, started
from isthmus import AnomalyDetector, read_pieces, write_rows
from isthmus.cli import main as isthmus


def main() -> None:
    """Create the file if it does not exist, then measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--by", nargs="*", choices=("python", "command"), default=["python", "command"])
    told, path, ground = started(parser)
    if "python" in told.by:
        by_python(path, told.rows, ground)
    if "command" in told.by:
        by_command(path, told.rows, ground)


def by_python(path: Path, n_rows: int, ground: float) -> None:
    """Fit, and write a file of scores."""
    out = path.with_name("scores.parquet")
    detector = measured("fit", n_rows, lambda: AnomalyDetector(0.01, random_state=0, verbose=1).fit(str(path)), ground)

    def score() -> int:
        chunks = (-detector.score_samples(piece)[:, None] for piece in read_pieces(path))
        return write_rows(out, chunks, columns=["anomaly_score"], overwrite=True)

    assert measured("scores to a file", n_rows, score, ground) == n_rows
    scores = parquet.read_table(out)["anomaly_score"].to_numpy()
    print(f"{np.mean(scores > detector.threshold_):.2%} above the threshold at 1 % of the rows learned from")


def by_command(path: Path, n_rows: int, ground: float) -> None:
    """The same with ``isthmus detect``, including explanations of anomalies."""
    model, out = path.with_name("detector.safetensors"), path.with_name("scored.parquet")
    fit = ["detect", "fit", str(path), "--out", str(model), "--threshold", "0.001", "--seed", "0", "--force"]
    score = ["detect", "score", str(model), str(path), "--out", str(out), "--force"]
    for words in (fit, score):
        measured(" ".join(words[:2]), n_rows, partial(_run, words), ground)
    assert parquet.ParquetFile(out).metadata.num_rows == n_rows


def _run(words: list[str]) -> None:
    with contextlib.suppress(SystemExit):
        isthmus(words)


if __name__ == "__main__":
    main()
