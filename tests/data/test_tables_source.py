"""Tables are read from wherever they lie, give the same rows everywhere, and stay small."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import dataset, parquet

import isthmus
from isthmus.data import sources
from isthmus.data.tables import Schema, TableSource, is_table, learn_schema, stored
from isthmus.data.tables.numerals import MISSING_WORDS
from isthmus.exceptions import DataError

N = 300


def trips() -> pd.DataFrame:
    """A small table with holes."""
    draw = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "km": draw.lognormal(2, 1, N),
            "town": draw.choice(["Ulm", "Bonn", "Kiel"], N),
            "paid": draw.random(N) < 0.5,
            "start": pd.Timestamp("2022-05-01") + pd.to_timedelta(draw.integers(0, 10**7, N), unit="s"),
        }
    )
    frame.loc[::5, "km"] = np.nan
    frame.loc[::9, "town"] = None
    return frame


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same table as files."""
    path = tmp_path_factory.mktemp("tables")
    trips().to_csv(path / "trips.csv", index=False)
    trips().to_parquet(path / "trips.parquet", row_group_size=70)
    (path / "trips.csv.gz").write_bytes(gzip.compress((path / "trips.csv").read_bytes()))
    trips().to_csv(path / "semicolons.csv", index=False, sep=";")
    return path


def forms(folder: Path) -> dict[str, Any]:
    """The same table in every form."""
    frame = trips()
    return {
        "pandas": frame,
        "polars": pl.from_pandas(frame),
        "arrow": pa.Table.from_pandas(frame),
        "batch": pa.RecordBatch.from_pandas(frame),
        "dataset": dataset.dataset(folder / "trips.parquet"),
        "mapping": {name: frame[name].to_numpy() for name in frame},
        "lists": {name: frame[name].astype(object).where(frame[name].notna(), None).tolist() for name in frame},
        "series": dict(pl.from_pandas(frame).to_dict()),
        "csv": folder / "trips.csv",
        "gzip": str(folder / "trips.csv.gz"),
        "semicolons": folder / "semicolons.csv",
        "parquet": folder / "trips.parquet",
    }


FORMS = list(
    forms(Path()) if False else ("pandas", "polars", "arrow", "batch", "dataset", "mapping", "lists", "series")
)
FORMS += ["csv", "gzip", "semicolons", "parquet"]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_table_gives_the_same_rows(form: str, folder: Path) -> None:
    table = forms(folder)[form]
    assert is_table(table)
    schema = learn_schema(table)
    wanted = learn_schema(trips()).encode(trips())
    source = TableSource(table, schema)
    assert (source.n_rows, source.feature_shape) == (N, (schema.width,))
    np.testing.assert_allclose(source.read(slice(0, N)), wanted, atol=1e-5)
    rows = np.array([7, 8, 250, 3])
    np.testing.assert_allclose(source.read(rows), wanted[rows], atol=1e-5)
    chunks = list(source.chunks(64))
    assert [len(chunk) for chunk in chunks] == [64, 64, 64, 64, 44]
    np.testing.assert_allclose(np.concatenate(chunks), wanted, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_a_schema_learned_of_a_frame_reads_every_form(form: str, folder: Path) -> None:
    schema = learn_schema(trips())
    rows = np.concatenate(list(TableSource(forms(folder)[form], schema).chunks()))
    np.testing.assert_allclose(rows, schema.encode(trips()), atol=1e-5)


def test_arrays_of_numbers_are_tables_without_names() -> None:
    X = np.random.default_rng(0).normal(size=(50, 3))
    schema = learn_schema(X)
    assert schema.names == ["x0", "x1", "x2"]
    assert not is_table(X)
    np.testing.assert_allclose(schema.encode(X), (X - X.mean(0)) / X.std(0), atol=1e-6)


@pytest.mark.parametrize("nothing", [np.zeros(3), np.array([["a"]]), 5, None, object()])
def test_what_is_no_table_is_refused(nothing: Any) -> None:
    with pytest.raises(TypeError, match=r"is not a table; pass a pandas or polars frame"):
        learn_schema(nothing)


def test_names_given_twice_are_refused(tmp_path: Path) -> None:
    frame = pd.DataFrame(np.zeros((2, 3)), columns=["a", "b", "a"])
    text = r"'a' is the name of columns 0, 2 \(counted from 0\); rename them"
    with pytest.raises(DataError, match=text):
        learn_schema(frame)
    frame.to_csv(tmp_path / "twice.csv", index=False)
    with pytest.raises(DataError, match=text):
        learn_schema(tmp_path / "twice.csv")
    with pytest.raises(DataError, match=r"'1' is the name of columns 0, 1"):
        learn_schema({1: [1], "1": [2]})


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(DataError, match="must have equal lengths, but they have: 'a' 2, 'b' 1"):
        learn_schema({"a": [1, 2], "b": [1]})


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("no.csv", None, "There is no file '.*no.csv'; check the path"),
        ("a.doc", b"a\n1\n", r"has the suffix '.doc', but one of \.csv"),
        ("a.parquet", b"nonsense", r"a\.parquet' cannot be read as parquet \("),
        ("a.csv", b"a,b\n1,2\n3\n", r"a\.csv' cannot be read as csv \(.*Expected 2 columns, got 1"),
        ("a.csv", b"", "has 0 rows and 0 columns|has 0 rows and 1 columns"),
        ("a.csv", b"a,b\n", "has 0 rows and 2 columns, but at least 1 of each"),
    ],
)
def test_files_that_cannot_be_read_are_one_clear_error(
    name: str, content: bytes | None, text: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=text):
        learn_schema(tmp_path / name)


def test_a_wrong_cell_in_a_file_is_named_with_its_row(folder: Path, tmp_path: Path) -> None:
    schema = learn_schema(folder / "trips.csv")
    lines = (folder / "trips.csv").read_text().splitlines()
    lines[200] = "far" + lines[200][lines[200].index(",") :]
    (tmp_path / "spoilt.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"Column 'km' holds numbers, but also text such as 'far' \(row 199\)"):
        list(TableSource(tmp_path / "spoilt.csv", schema).chunks(32))


def test_a_wrong_cell_in_memory_is_named_with_its_row() -> None:
    frame = trips()
    schema = learn_schema(frame)
    frame.loc[[100, 200], "km"] = np.inf
    source = TableSource(frame, schema)
    source.read(slice(0, 100))
    with pytest.raises(DataError, match=r"Column 'km' has infinite values \(row 200\)"):
        source.read(np.array([5, 200, 7]))


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_file_that_changes_while_it_is_read_is_refused(ending: str, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / f"trips.{ending}"
    shutil.copy(folder / path.name, path)
    source = TableSource(path, learn_schema(path))
    chunks = source.chunks(32)
    next(chunks)
    os.utime(path, (0, 0))
    with pytest.raises(
        DataError, match=rf"trips\.{ending}' changed while it was being read; wait for its writer to finish"
    ):
        list(chunks)
    path.unlink()
    with pytest.raises(DataError, match="changed while it was being read"):
        source.read(slice(0, 5))


def test_a_file_of_another_length_than_before_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "_stamp", lambda path: None)
    source = TableSource(folder / "trips.csv", learn_schema(folder / "trips.csv"))
    source.table.n_rows = 7
    with pytest.raises(DataError, match="it had 7 rows, now 300"):
        list(source.chunks())


def test_extra_columns_are_refused_or_left_out() -> None:
    schema = learn_schema(trips())
    wide = trips().assign(label=1)
    with pytest.raises(
        DataError, match=r"Column 'label' was not present when the schema was learned.*.*\(extra='ignore'\)"
    ):
        TableSource(wide, schema)
    np.testing.assert_array_equal(TableSource(wide, schema, extra="ignore").read(slice(0, N)), schema.encode(trips()))


def test_an_empty_table_gives_no_rows() -> None:
    schema = learn_schema(trips())
    source = TableSource(trips()[:0], schema)
    assert (source.n_rows, list(source.chunks())) == (0, [])
    assert schema.encode(trips()[:0]).shape == (0, schema.width)


def test_rows_of_a_file_are_written_to_disk_once_where_they_are_read_in_any_order(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = TableSource(folder / "trips.parquet", learn_schema(trips()))
    assert not source.random_access
    first = source.read(np.array([5, 200]))
    monkeypatch.setattr(source.table, "pieces", None)
    np.testing.assert_array_equal(source.read(slice(5, 6)), first[:1])
    assert sum(map(len, source.chunks(64))) == N


def test_a_full_disk_is_told_before_anything_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    source = TableSource(folder / "trips.parquet", learn_schema(trips()))
    with pytest.raises(
        DataError, match=r"The encoded rows take 0.0 GB in .*; free some space, or pass another folder to TableSource"
    ):
        source.read(slice(0, 1))


def test_a_model_learns_from_a_table_larger_than_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MEMORY_LIMIT", 100)
    schema = learn_schema(folder / "trips.parquet")
    source = TableSource(folder / "trips.parquet", schema)
    assert not source.fits_in_memory
    model = isthmus.Autoencoder(2, loss=schema.loss(), scaling="none", max_epochs=2, random_state=0).fit(source)
    assert np.isfinite(model.score_samples(source)).all()
    assert model.get_feature_names_out().shape == (2,)
    assert list(model.feature_names_in_) == schema.feature_names


@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "x": st.floats(-1e6, 1e6) | st.none(),
                "word": st.text("abcxyzABCXYZ", min_size=1, max_size=4) | st.none(),
                "quoted": st.sampled_from(["a,b", 'say "no"', "two\nlines", "ß"]),
            }
        ),
        min_size=2,
        max_size=40,
    )
)
@settings(max_examples=30, deadline=None)
def test_csv_and_parquet_files_give_the_cells_that_were_written(
    rows: list[dict[str, Any]], tmp_path_factory: Any
) -> None:
    frame = pd.DataFrame(rows)
    path = tmp_path_factory.mktemp("written")
    frame.to_csv(path / "t.csv", index=False)
    parquet.write_table(pa.Table.from_pandas(frame), path / "t.parquet")
    kinds = {"x": "numeric", "word": "categorical", "quoted": "categorical"}
    schema = learn_schema(path / "t.parquet", kinds) if frame["word"].notna().any() else None
    if schema is not None and set(frame["word"].dropna()) & set(MISSING_WORDS) == set():
        of_csv, of_parquet = (TableSource(path / f"t.{end}", schema).read(slice(0, 99)) for end in ("csv", "parquet"))
        np.testing.assert_array_equal(of_csv, of_parquet)


def test_times_with_and_without_a_zone_are_read_in_one_column() -> None:
    days = pd.date_range("2024-01-01", periods=60, freq="7h").strftime("%Y-%m-%d %H:%M:%S").tolist()
    schema = learn_schema({"day": days})
    mixed = ["2024-01-05 10:00:00", "2024-01-05T10:00:00Z", "2024-01-05T12:00:00+02:00", "2024-01-05", None]
    same, other = schema.encode({"day": ["2024-01-05 10:00:00"]}), schema.encode({"day": ["2024-01-05"]})
    found = schema.encode({"day": mixed})
    np.testing.assert_array_equal(found[:3], np.repeat(same, 3, axis=0))
    np.testing.assert_array_equal(found[3:4], other)
    assert np.isnan(found[4]).any()


def test_the_former_name_of_heavy_tails_warns_and_works() -> None:
    with pytest.warns(FutureWarning, match="tame is now heavy_tails"):
        former = learn_schema(trips(), tame=False)
    assert former.to_json() == learn_schema(trips(), heavy_tails=False).to_json()
    stored = former.to_json()
    for column in stored["columns"]:
        if "heavy_tails" in column:
            column["tame"] = column.pop("heavy_tails")
    assert Schema.from_json(stored).to_json() == former.to_json()
