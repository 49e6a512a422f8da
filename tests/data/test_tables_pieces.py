"""Tables piece by piece: every row once, told by its number in the whole; files that grow are followed."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.data.tables import TableSource, follow, learn_schema, read_pieces
from isthmus.data.tables.chunks import _whole_lines
from isthmus.exceptions import DataError


def table(n: int = 50) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    return pd.DataFrame({"x": draw.normal(size=n).round(3), "w": draw.choice(["a", "b", "c"], n)})


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_pieces_hold_every_row_once_in_order(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.{ending}"
    table().to_csv(path, index=False) if ending == "csv" else table().to_parquet(path)
    schema = learn_schema(table())
    pieces = list(read_pieces(path, 20))
    assert [(piece.first_row, piece.n_rows) for piece in pieces] == [(0, 20), (20, 20), (40, 10)]
    np.testing.assert_allclose(np.concatenate([schema.encode(p) for p in pieces]), schema.encode(table()), atol=1e-6)
    typed = pd.concat([piece.typed(schema).to_pandas() for piece in pieces], ignore_index=True)
    pd.testing.assert_frame_equal(typed, table(), check_dtype=False)


def test_a_wrong_cell_of_a_piece_is_told_by_its_row_in_the_whole() -> None:
    schema = learn_schema(table())
    frame = table()
    frame.loc[33, "x"] = np.inf
    *_, last = read_pieces(frame, 30)
    for read in (schema.encode, lambda piece: TableSource(piece, schema).read(slice(0, 9))):
        with pytest.raises(DataError, match=r"Column 'x' has infinite values \(row 33\)"):
            read(last)


def test_rows_can_be_chosen_from_a_piece() -> None:
    schema = learn_schema(table())
    piece = next(read_pieces(table(), 20))
    np.testing.assert_array_equal(schema.encode(piece.chosen(np.array([3, 1]))), schema.encode(table())[[3, 1]])


def test_a_growing_file_is_followed_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text('x,w\n1.5,a\n2.5,"b\n')
    writer = threading.Thread(target=_write_later, args=(path, ['c"\n', "3.5,", "d\n"]))
    writer.start()
    pieces = list(follow(path, poll=0.02, idle=1.0))
    writer.join()
    assert [piece.first_row for piece in pieces] == [*range(len(pieces))]
    cells = [cell for piece in pieces for cell in piece.arrow.column("w").to_pylist()]
    assert cells == ["a", "b\nc", "d"]


def _write_later(path: Path, texts: list[str]) -> None:
    for text in texts:
        time.sleep(0.1)
        with path.open("a") as stream:
            stream.write(text)


def test_what_cannot_be_followed_is_refused(tmp_path: Path) -> None:
    table().to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"cannot be followed; only uncompressed text files"):
        next(follow(tmp_path / "t.parquet"))
    (tmp_path / "t.csv").write_text("x,w\n1,a\n2,b,c\n")
    with pytest.raises(DataError, match="Expected 2 columns, got 3"):
        next(follow(tmp_path / "t.csv"))


def test_a_followed_line_with_too_many_cells_is_told(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("x,w\n1,a\n")
    rows = follow(path, poll=0.01)
    next(rows)
    with path.open("a") as stream:
        stream.write("1,2,3\n")
    with pytest.raises(DataError, match=r"cannot be read from row 1 onwards \(.*Expected 2 columns, got 3"):
        next(rows)


def test_a_followed_file_must_not_get_shorter(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("x,w\n1,a\n2,b\n")
    rows = follow(path, poll=0.01)
    next(rows)
    path.write_text("x,w\n")
    with pytest.raises(DataError, match=r"log\.csv' got shorter while it was being followed"):
        next(rows)


@given(st.lists(st.sampled_from([b"a", b",", b"\n", b'"']), max_size=30).map(b"".join))
@settings(max_examples=100, deadline=None)
def test_whole_lines_end_outside_quotes_and_leave_out_as_little_as_can_be(text: bytes) -> None:
    whole = _whole_lines(text)
    assert text.startswith(whole)
    assert whole.count(b'"') % 2 == 0
    assert not whole or whole.endswith(b"\n")
    longer = [end for end in range(len(whole) + 1, len(text) + 1) if text[end - 1 : end] == b"\n"]
    assert all(text.count(b'"', 0, end) % 2 for end in longer)
