"""Tables are written piece by piece, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from isthmus.exceptions import OutputError
from isthmus.files import write_tables

PIECES = [pa.table({"a": [1.0, 2.0], "w": ["x", None]}), pa.table({"a": [3.0], "w": pa.nulls(1)})]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_pieces_become_one_table(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.{ending}"
    assert write_tables(path, PIECES) == 3
    read = csv.read_csv(path) if ending == "csv" else parquet.read_table(path)
    assert read.column("a").to_pylist() == [1.0, 2.0, 3.0]
    assert read.column("w").to_pylist()[0] == "x"


def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"the suffix '.txt'; use one of .csv, .parquet"):
        write_tables(tmp_path / "t.txt", PIECES)
    with pytest.raises(OutputError, match="There are 0 rows to write"):
        write_tables(tmp_path / "t.csv", [])
    with pytest.raises(OutputError, match=r"needs one type a column, but a later row does not fit.*no number"):
        write_tables(tmp_path / "t.csv", [PIECES[0], pa.table({"a": ["no number"], "w": ["x"]})])
    assert list(tmp_path.iterdir()) == []
