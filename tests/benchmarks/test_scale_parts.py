"""The tables of the benchmark of parts: mixed columns, the same for the same seed, with ids that count all rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from benchmarks.scale.parts import make_table, outputs, rows_of
from pyarrow import parquet


def test_rows_have_thirty_mixed_columns_that_depend_on_each_other() -> None:
    rows = rows_of(3_000, 0, 1)
    kinds = [str(name).partition("_")[0] for name in rows]
    assert {kind: kinds.count(kind) for kind in kinds} == {"number": 12, "amount": 6, "kind": 6, "flag": 4, "when": 2}
    pd.testing.assert_frame_equal(rows, rows_of(3_000, 0, 1))
    assert not rows.equals(rows_of(3_000, 0, 2))
    assert 0.005 < rows.isna().to_numpy().mean() < 0.015
    # three causes: the first four of twelve directions hold nearly all that numbers vary
    found = np.linalg.eigvalsh(rows[[f"number_{place}" for place in range(12)]].corr())
    assert found[-4:].sum() / found.sum() > 0.9


def test_files_hold_every_id_once(tmp_path: Path) -> None:
    make_table(tmp_path / "table", 7, 100, 0)
    files = sorted((tmp_path / "table").iterdir())
    assert len(files) == 7
    ids = pa.concat_tables([parquet.read_table(file, columns=["id"]) for file in files])["id"].to_pylist()
    assert ids == [2**53 + place for place in range(100)]
    for file in files:
        scored = parquet.read_table(file, columns=["id"])
        scored = scored.append_column("score_samples", pa.array(np.zeros(len(scored))))
        parquet.write_table(scored, tmp_path / file.name)
    assert np.concatenate([found for found, _ in outputs(tmp_path)]).tolist() == ids
