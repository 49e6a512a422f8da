"""`map_parts`: each row once, files that are whole or not there, and what a later run takes for complete."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

import isthmus
from isthmus import Apply, DataError, IsthmusWarning, ModelFileError, OutputError, map_parts
from isthmus.tasks import PART_ENGINES, PartEngine, names_parts
from isthmus.tasks.parts import work
from isthmus.tasks.parts.listing import list_files
from isthmus.tasks.parts.stamps import Making, Part, digest_of

N_ROWS, N_PARTS = 60, 3
rng = np.random.default_rng(0)
TABLE = pa.table(
    {
        "id": pa.array(np.arange(N_ROWS) + 2**53, mask=np.arange(N_ROWS) % 7 == 0),
        "amount": rng.normal(50, 10, N_ROWS),
        "country": rng.choice(["Chile", "Peru"], N_ROWS),
    }
)
FEATURES = TABLE.drop_columns(["id"])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parts") / "d.safetensors"
    isthmus.AnomalyDetector(max_steps=20, random_state=0).fit(FEATURES).save(path)
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A folder of parts, the second without rows."""
    folder = tmp_path / "table"
    folder.mkdir()
    for place, (start, stop) in enumerate([(0, 40), (40, 40), (40, 60)]):
        parquet.write_table(TABLE.slice(start, stop - start), folder / f"part-{place}.parquet")
    return folder


def scoring(model: Path) -> Apply:
    return Apply(model, "score_samples", keep=["id"])


def read(done: isthmus.MappedParts) -> pa.Table:
    return pa.concat_tables([parquet.read_table(file) for file in done.files])


def check_scores(done: isthmus.MappedParts, model: Path) -> None:
    found = read(done)
    assert found.schema.names == ["id", "score_samples"]
    assert found["id"].to_pylist() == TABLE["id"].to_pylist()
    wanted = isthmus.load(model).score_samples(FEATURES)
    np.testing.assert_allclose(found["score_samples"].to_numpy(), wanted, rtol=1e-12)


# -- what is written ---------------------------------------------------------------------------------------------------


def test_each_row_has_its_answer_once_in_small_batches_too(
    model: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "BATCH_ROWS", 7)
    seen: list[tuple[int, int]] = []
    done = map_parts(scoring(model), table, tmp_path / "out", progress=lambda *at: seen.append(at))
    check_scores(done, model)
    assert [file.name for file in done.files] == [file.name for file in sorted(table.iterdir())]
    assert (done.n_rows, done.n_skipped, seen) == (N_ROWS, 0, [(1, 3), (2, 3), (3, 3)])
    empty = parquet.read_table(done.files[1])
    assert empty.num_rows == 0
    assert empty.schema.types == parquet.read_table(done.files[0]).schema.types


def test_memory_holds_one_batch_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "BATCH_ROWS", 10)
    parquet.write_table(TABLE, tmp_path / "t.parquet", row_group_size=N_ROWS)
    sizes = [batch.num_rows for batch in work.batches_of(str(tmp_path / "t.parquet"))]
    assert sizes == [10] * 6


def test_an_index_of_pandas_is_a_column_if_it_has_a_name(model: Path, tmp_path: Path) -> None:
    frame = TABLE.to_pandas().assign(id=[f"r{place}" for place in range(N_ROWS)])
    for name, written, keep in (("named", frame.set_index("id"), "id"), ("plain", frame.drop(columns="id"), "index")):
        folder = tmp_path / name
        folder.mkdir()
        if name == "plain":
            written.index = pd.Index(frame["id"])
            written.index.name = None
        written.to_parquet(folder / "p.parquet")
        done = map_parts(Apply(model, "score_samples", keep=[keep]), folder, tmp_path / f"{name}-out")
        assert read(done)[keep].to_pylist() == frame["id"].tolist()


def test_categories_that_differ_between_batches_keep_their_words(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "BATCH_ROWS", 7)
    words = [f"r{place}" for place in range(N_ROWS)]
    frame = TABLE.to_pandas().assign(id=pd.Categorical(words), country=lambda t: t["country"].astype("category"))
    (tmp_path / "table").mkdir()
    frame.to_parquet(tmp_path / "table" / "p.parquet", row_group_size=10)
    found = read(map_parts(scoring(model), tmp_path / "table", tmp_path / "out"))
    assert found["id"].to_pylist() == words
    wanted = isthmus.load(model).score_samples(FEATURES)
    np.testing.assert_allclose(found["score_samples"].to_numpy(), wanted, rtol=1e-12)


def test_a_pattern_names_files_of_several_folders(model: Path, tmp_path: Path) -> None:
    for year, (start, stop) in {"2025": (0, 40), "2026": (40, 60)}.items():
        (tmp_path / "table" / year).mkdir(parents=True)
        parquet.write_table(TABLE.slice(start, stop - start), tmp_path / "table" / year / f"{year}.parquet")
    check_scores(map_parts(scoring(model), tmp_path / "table" / "*" / "*.parquet", tmp_path / "out"), model)


def test_hidden_files_are_passed_over(model: Path, table: Path, tmp_path: Path) -> None:
    (table / "_SUCCESS").touch()
    (table / ".part-0.parquet.crc").touch()
    (table / "_metadata.parquet").touch()
    check_scores(map_parts(scoring(model), table, tmp_path / "out"), model)


# -- resuming ----------------------------------------------------------------------------------------------------------


def test_resume_writes_what_is_missing_damaged_or_of_another_input(model: Path, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first, *_ = map_parts(scoring(model), table, out).files
    assert map_parts(scoring(model), table, out, resume=True).n_skipped == N_PARTS
    first.unlink()
    (out / "part-1.parquet").unlink()
    assert map_parts(scoring(model), table, out, resume=True).n_skipped == 1
    parquet.write_table(TABLE.slice(0, 40), table / "part-0.parquet", compression="none")
    again = map_parts(scoring(model), table, out, resume=True)
    assert again.n_skipped == 2
    check_scores(again, model)


@pytest.mark.parametrize("changed", ["model", "settings", "version", "time"])
def test_resume_skips_nothing_that_another_run_would_write_differently(
    model: Path, table: Path, tmp_path: Path, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = tmp_path / "m.safetensors", tmp_path / "out"
    path.write_bytes(model.read_bytes())
    apply = scoring(path)
    map_parts(apply, table, out)
    if changed == "model":
        isthmus.AnomalyDetector(max_steps=20, random_state=1).fit(FEATURES).save(path)
    elif changed == "settings":
        apply = Apply(path, "predict", keep=["id"])
    elif changed == "version":
        monkeypatch.setattr(isthmus, "__version__", "9.9")
    else:
        for file in table.iterdir():
            os.utime(file, ns=(1, 1))
    done = map_parts(apply, table, out, resume=True)
    assert done.n_skipped == 0
    wanted = read(map_parts(apply, table, tmp_path / "again"))
    assert read(done).equals(wanted)


def test_the_same_model_under_another_path_is_the_same(model: Path, table: Path, tmp_path: Path) -> None:
    map_parts(scoring(model), table, tmp_path / "out")
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(model.read_bytes())
    assert map_parts(scoring(moved), table, tmp_path / "out", resume=True).n_skipped == N_PARTS


def test_files_of_others_are_not_replaced_by_resume(model: Path, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "part-1.parquet").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"'.*part-1\.parquet' exists, but is no whole output of an earlier run"):
        map_parts(scoring(model), table, out, resume=True)
    assert [file.name for file in out.iterdir()] == ["part-1.parquet"]
    with pytest.raises(OutputError, match="1 of 3 output files exist"):
        map_parts(scoring(model), table, out)
    check_scores(map_parts(scoring(model), table, out, overwrite=True), model)


def test_files_of_no_part_are_a_warning(model: Path, table: Path, tmp_path: Path) -> None:
    map_parts(scoring(model), table, tmp_path / "out")
    (table / "part-2.parquet").unlink()
    with pytest.warns(IsthmusWarning, match="'part-2.parquet' from elsewhere; readers of the folder read it too"):
        map_parts(scoring(model), table, tmp_path / "out", resume=True)


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t: t.drop_columns(["amount"]), "Column 'amount' is missing"),
        (lambda t: t.append_column("new", t["amount"]), "Column 'new' was not present"),
        (lambda t: t.rename_columns(["id", "sum", "country"]), "Column 'amount' is missing"),
        (lambda t: t.drop_columns(["id"]), r"the table has no column \['id'\]"),
        (lambda t: t.rename_columns(["id", "amount", "amount"]), "more than one column is named 'amount'"),
    ],
)
def test_a_part_with_other_columns_is_found_before_anything_is_written(
    model: Path, table: Path, tmp_path: Path, change: Any, text: str
) -> None:
    parquet.write_table(change(TABLE), table / "part-2.parquet")
    with pytest.raises(DataError, match=rf"1 of 3 parts cannot be used\. 'part-2\.parquet': [\s\S]*{text}"):
        map_parts(scoring(model), table, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_parquet_is_found_before_anything_is_written(
    model: Path, table: Path, tmp_path: Path
) -> None:
    (table / "part-1.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(
        DataError, match=r"1 of 3 parts cannot be used\. 'part-1\.parquet': it cannot be read as Parquet"
    ):
        map_parts(scoring(model), table, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_bad_part_stops_the_run_and_what_is_complete_stays(model: Path, table: Path, tmp_path: Path) -> None:
    path = table / "part-2.parquet"
    damaged = bytearray(path.read_bytes())
    damaged[4:200] = bytes(196)  # pages of the first columns; the footer is whole
    path.write_bytes(damaged)
    out = tmp_path / "out"
    with pytest.raises(
        DataError, match=r"'.*part-2\.parquet' cannot be read as Parquet .*2 of 3 parts are complete; resume=True"
    ):
        map_parts(scoring(model), table, out)
    assert sorted(file.name for file in out.iterdir()) == ["part-0.parquet", "part-1.parquet"]
    parquet.write_table(TABLE.slice(40, 20), path)
    done = map_parts(scoring(model), table, out, resume=True)
    assert done.n_skipped == 2
    check_scores(done, model)


def test_faults_of_folders_are_told(model: Path, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for data, text in (
        (tmp_path / "none", "There is no folder"),
        (tmp_path / "none*", "No file matches"),
        (tmp_path, r"in subfolders, such as 'table/part-\d\.parquet'; .*/\*\.parquet' or '.*/\*/\*\.parquet'"),
        (tmp_path / "tabl*", "'.*table' is a folder, but '.*' must match files"),
    ):
        with pytest.raises(DataError, match=text):
            list_files(data, out)
    (table / "note.txt").touch()
    with pytest.raises(DataError, match=r"matches '.*note\.txt', but only \.parquet files"):
        list_files(table / "n*", out)
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match=r"'.*other' has no \.parquet files"):
        list_files(tmp_path / "other", out)
    parquet.write_table(TABLE, tmp_path / "other" / "part-0.parquet")
    with pytest.raises(DataError, match=r"'.*part-0\.parquet' and '.*part-0\.parquet' have the same name"):
        list_files(tmp_path / "*" / "*.parquet", out)
    for wrong, said in ((table, "is the folder of the input"), (tmp_path / "a" / "b", "there is no folder")):
        with pytest.raises(OutputError, match=said):
            list_files(table, wrong)
    out.touch()
    with pytest.raises(OutputError, match="is a file, but a folder is needed"):
        list_files(table, out)
    assert len(list_files(table, table / "scored")) == N_PARTS


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_refused(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir(mode=0o555)
    with pytest.raises(OutputError, match="is not writable"):
        list_files(table, out)


def test_outputs_within_the_input_folder_are_no_parts(model: Path, table: Path) -> None:
    map_parts(scoring(model), table, table / "scored")
    assert map_parts(scoring(model), table, table / "scored", resume=True).n_skipped == N_PARTS


def test_a_folder_of_parts_is_told_from_other_folders(table: Path, tmp_path: Path) -> None:
    (tmp_path / "photos" / "cats").mkdir(parents=True)
    (tmp_path / "by-year" / "year=2026").mkdir(parents=True)
    assert names_parts(table)
    assert names_parts(tmp_path / "by-year")
    assert not names_parts(tmp_path / "photos")
    assert not names_parts(table / "part-0.parquet")
    (table / "photo.png").touch()
    assert not names_parts(table)


# -- functions and models ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Halving:
    """Loses rows; changes the model or the input meanwhile, if told to."""

    path: str
    touched: str = ""
    keep: tuple[str, ...] = field(default=())

    def __call__(self, part: pa.Table) -> pa.Table:
        if self.touched and len(part):
            Path(self.touched).write_bytes(b"other")
        return part.slice(0, len(part) // 2)


def test_answers_that_lose_rows_are_refused(model: Path, table: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="The function gave 20 answers for 40 rows; it must keep all rows"):
        map_parts(Halving(str(model)), table, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_model_or_an_input_that_changes_meanwhile_is_refused(model: Path, table: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(model.read_bytes())
    source = table / "part-0.parquet"
    with pytest.raises(DataError, match=r"part-0\.parquet' changed while it was being read"):
        map_parts(Halving(str(path), str(source)), table, tmp_path / "out")
    parquet.write_table(TABLE.slice(0, 0), source)
    parquet.write_table(TABLE.slice(0, 1), table / "part-1.parquet")

    @dataclass(frozen=True)
    class Replacing(Halving):
        def __call__(self, part: pa.Table) -> pa.Table:
            super().__call__(part)
            return part

    with pytest.raises(ModelFileError, match=r"m\.safetensors' is another file than at the start"):
        map_parts(Replacing(str(path), str(path)), table, tmp_path / "out")


def test_a_worker_with_another_version_is_refused(model: Path, table: Path) -> None:
    there = Making("0.0", digest_of(model), "")
    part = Part(str(table / "part-0.parquet"), str(table / "out.parquet"), 0, 0, 40)
    outcome = work.Work(scoring(model), there)(part)
    assert outcome.kind == "ProcessError"
    assert f"The worker has isthmus {isthmus.__version__}, but 0.0 is needed" in outcome.error
    assert " (on the worker " in work.Work(scoring(model), there, host="elsewhere")(part).error
    assert work.Outcome.of_json(outcome.to_json()) == outcome


def test_a_worker_without_the_model_file_is_told_and_writes_nothing(model: Path, table: Path, tmp_path: Path) -> None:
    part = Part(str(table / "part-0.parquet"), str(tmp_path / "part-0.parquet"), 0, 0, 40)
    gone = Apply(tmp_path / "gone.safetensors", "score_samples")
    outcome = work.Work(gone, Making(isthmus.__version__, digest_of(model), ""), host="elsewhere")(part)
    assert outcome.kind == "ModelFileError"
    wanted = r"There is no model file at '.*gone\.safetensors' \(No such file or directory\); check the path\."
    assert re.fullmatch(rf"{wanted} \(on the worker .+\)", outcome.error)
    assert not [file for file in tmp_path.iterdir() if "part" in file.name]


def test_a_function_without_a_model_is_refused(table: Path, tmp_path: Path) -> None:
    def plain(part: pa.Table) -> pa.Table:
        return part

    plain.path = __file__  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match=r"The function is a function, but an isthmus\.Apply is needed"):
        map_parts(plain, table, tmp_path / "out")
    with pytest.raises(ModelFileError, match=r"There is no model file at '.*none\.safetensors'"):
        map_parts(Apply(tmp_path / "none.safetensors", "predict"), table, tmp_path / "out")


def test_warnings_of_all_parts_are_one(table: Path, tmp_path: Path) -> None:
    X = rng.normal(size=(30, 2))
    path = tmp_path / "m.safetensors"
    isthmus.Autoencoder(1, max_epochs=1, random_state=0).fit(X).save(path)
    numbers = tmp_path / "numbers"
    numbers.mkdir()
    for place in range(3):
        parquet.write_table(pa.table({"a": X[:, 0], "b": X[:, 1]}), numbers / f"{place}.parquet")
    with pytest.warns(UserWarning, match=r"'0\.parquet' \(and 2 more parts\): X has feature names") as told:
        map_parts(Apply(path, "transform"), numbers, tmp_path / "out")
    assert len(told) == 1


# -- engines -----------------------------------------------------------------------------------------------------------


def test_an_engine_of_another_name_or_one_that_is_not_installed_is_told(
    model: Path, table: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="Unknown engine 'rya'"):
        map_parts(scoring(model), table, tmp_path / "out", engine="rya")
    with pytest.raises(ValueError, match="address='h:1' is that of a cluster, but engine='none'"):
        map_parts(scoring(model), table, tmp_path / "out", address="h:1")

    class Absent(PartEngine):
        packages, extra = ("no_such_engine",), "ray"

    with pytest.raises(ImportError, match=r"needs no_such_engine, .*pip install 'isthmus\[ray\]'"):
        Absent().check(None)
    assert PART_ENGINES.names() == ["dask", "none", "ray"]
