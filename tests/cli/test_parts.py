"""Commands on folders of Parquet files: the answers are those for one file, and every fault is one line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

import isthmus
from isthmus.cli import main

N_ROWS, N_PARTS = 240, 4
ADDED = ["anomaly_score", "anomaly", "p_value", "reason_1"]


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, made: Path, tmp_path: Path):  # type: ignore[no-untyped-def]
    """Run a command in a folder with models, ``table/``, ``numbers/`` and ``whole.parquet``."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words: object) -> Answer:
        with pytest.raises(SystemExit) as stopped:
            main([*map(str, words)])
        return Answer(int(stopped.value.code or 0), *capsys.readouterr())

    return call


def payments(*, odd: bool = True) -> pa.Table:
    draw = np.random.default_rng(0)
    kind = draw.integers(0, 3, N_ROWS)
    amount = np.exp(0.3 * draw.normal(size=N_ROWS) + kind)
    amount[[5, 100]] = 9e4 if odd else 3.0
    gone = draw.random(N_ROWS) < 0.1
    columns = {
        "id": pa.array(np.arange(N_ROWS) + 2**53, mask=gone),  # beyond what doubles hold, with gaps
        "amount": pa.array(amount),
        "kind": pa.array(kind, mask=np.arange(N_ROWS) == 7),  # a gap in one part alone
        "country": pa.array(np.array(["DE", "FR", "IT"])[kind]),
    }
    return pa.table(columns)


def cut(table: pa.Table, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    size = N_ROWS // N_PARTS
    for place in range(N_PARTS):
        parquet.write_table(table.slice(place * size, size), folder / f"part-{place}.parquet")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    table = payments()
    parquet.write_table(table, folder / "whole.parquet")
    cut(table, folder / "table")
    settings: dict[str, Any] = {"max_steps": 40, "n_members": 2, "random_state": 0}
    detector = isthmus.AnomalyDetector(isthmus.FalseAlarmRate(0.02), **settings)
    detector.fit(payments(odd=False).drop_columns(["id"])).save(folder / "d.safetensors")
    numbers = pa.table({name: np.random.default_rng(1).normal(size=N_ROWS) for name in "abc"})
    isthmus.Autoencoder(2, max_epochs=2, random_state=0).fit(numbers).save(folder / "m.safetensors")
    numbers = numbers.append_column("id", table["id"])
    parquet.write_table(numbers, folder / "numbers.parquet")
    cut(numbers, folder / "numbers")
    return folder


def together(folder: str | Path) -> pa.Table:
    return pa.concat_tables([parquet.read_table(file) for file in sorted(Path(folder).glob("*.parquet"))])


def close(found: pa.ChunkedArray, wanted: pa.ChunkedArray) -> None:
    np.testing.assert_allclose(found.to_numpy(), wanted.to_numpy(), rtol=1e-12)


def test_a_detector_scores_parts_as_it_scores_one_file(run) -> None:  # type: ignore[no-untyped-def]
    words = ("detect", "score", "d.safetensors")
    assert run(*words, "whole.parquet", "--keep", "id", "--explain", "1", "--out", "one.parquet").code == 0
    answer = run(*words, "table", "--keep", "id", "--explain", "1", "--out", "out", "--exit-code")
    assert answer.code == 3, answer.err
    one, parts = parquet.read_table("one.parquet"), together("out")
    assert parts.column_names == one.column_names == ["id", *ADDED]
    assert sorted(file.name for file in Path("out").iterdir()) == [f"part-{place}.parquet" for place in range(N_PARTS)]
    for name in ("id", "anomaly", "reason_1"):
        assert parts[name].to_pylist() == one[name].to_pylist()
    assert parts["id"].to_pylist() == payments()["id"].to_pylist()
    assert parts["anomaly"].to_pylist()[5]
    assert parts["reason_1"].to_pylist()[100].startswith("amount = 90,000, expected about ")
    close(parts["anomaly_score"], one["anomaly_score"])
    n_odd = sum(parts["anomaly"].to_pylist())
    assert answer.out == f"{N_ROWS} rows, {n_odd} anomalies in {N_PARTS} parts: out\n"


def test_without_keep_all_cells_stand_beside_the_results(run) -> None:  # type: ignore[no-untyped-def]
    cut(payments().drop_columns(["id"]), Path("plain"))
    assert run("detect", "score", "d.safetensors", "plain/*.parquet", "--explain", "1", "--out", "out").code == 0
    parts = together("out")
    assert parts.column_names == ["amount", "kind", "country", *ADDED]
    assert parts.schema.field("kind").type == pa.int64()
    assert parts["kind"].to_pylist() == payments()["kind"].to_pylist()


def test_another_threshold_holds_in_parts_too(run) -> None:  # type: ignore[no-untyped-def]
    words = ("detect", "score", "d.safetensors", "table", "--keep", "id", "--out", "out")
    assert run(*words, "--threshold", "0").out == "240 rows, 2 anomalies in 4 parts: out\n"
    # another threshold gives other results: nothing is taken for complete
    assert "complete before" not in run(*words, "--threshold", "0.5", "--resume").out
    assert sum(together("out")["anomaly"].to_pylist()) > N_ROWS / 4


@pytest.mark.parametrize("command", ["encode", "score"])
def test_an_autoencoder_answers_parts_as_it_answers_one_file(run, command: str) -> None:  # type: ignore[no-untyped-def]
    words = (command, "m.safetensors")
    assert run(*words, "numbers.parquet", "--keep", "id", "--out", "one.parquet").code == 0
    answer = run(*words, "numbers", "--keep", "id", "--out", "out")
    assert answer == (0, f"{N_ROWS} rows in {N_PARTS} parts: out\n", "")
    one, parts = parquet.read_table("one.parquet"), together("out")
    assert parts.column_names == one.column_names
    assert len(parts.column_names) == 3
    assert parts["id"].to_pylist() == payments()["id"].to_pylist()
    for name in parts.column_names[1:]:
        assert parts.schema.field(name).type == one.schema.field(name).type
        np.testing.assert_allclose(parts[name].to_numpy(), one[name].to_numpy(), rtol=2e-6)  # float32 codes


def test_resume_skips_what_is_complete_and_counts_its_anomalies(run) -> None:  # type: ignore[no-untyped-def]
    words = ("detect", "score", "d.safetensors", "table", "--keep", "id", "--out", "out")
    first = run(*words)
    assert first.code == 0
    Path("out/part-1.parquet").unlink()
    kept = Path("out/part-0.parquet").stat().st_mtime_ns
    again = run(*words, "--resume", "--exit-code")
    assert again.code == 3
    counted = first.out.partition(" in ")[0]
    assert again.out == f"{counted} in 4 parts, 3 of them complete before: out\n"
    assert Path("out/part-0.parquet").stat().st_mtime_ns == kept
    stopped = run(*words)
    assert stopped.code == 1
    assert "4 of 4 output files exist, such as '" in stopped.err
    assert run(*words, "--force").out.startswith(f"{counted} in 4 parts: out")


FAULTS = [
    (("detect", "score", "d.safetensors", "table"), 2, "'table' is in parts, which need a folder for their outputs"),
    (("score", "m.safetensors", "numbers"), 2, "'numbers' is in parts, which need a folder for their outputs"),
    (("encode", "m.safetensors", "numbers.parquet", "--out", "o", "--resume"), 2, "but 'numbers.parquet' is one; give"),
    (("encode", "m.safetensors", "numbers", "--out", "o", "--engine", "spark"), 2, "Unknown engine 'spark'"),
    (("encode", "m.safetensors", "numbers", "--out", "o", "--address", "h:1"), 2, "engine='none' is this process"),
    (
        ("encode", "m.safetensors", "numbers", "--out", "o", "--skip-bad"),
        2,
        "--skip-bad does not work with DATA in parts",
    ),
    (("encode", "m.safetensors", "numbers", "--out", "m.safetensors"), 1, "'m.safetensors' is a file, but a folder"),
    (("encode", "m.safetensors", "numbers", "--out", "numbers"), 1, "'numbers' is the folder of the input"),
    (("encode", "m.safetensors", "numbers", "--out", "no/o"), 1, "there is no folder"),
    (("encode", "m.safetensors", "none/*.parquet", "--out", "o"), 1, "No file matches 'none/*.parquet'"),
    (("encode", "m.safetensors", "empty", "--out", "o", "--resume"), 1, "'empty' has no .parquet files"),
    (("encode", "d.safetensors", "table", "--out", "o"), 1, "but `isthmus encode` needs an autoencoder"),
    (("encode", "none.safetensors", "numbers", "--out", "o"), 1, "There is no model file at 'none.safetensors'"),
    (("encode", "m.safetensors", "numbers", "--out", "o"), 1, "4 of 4 parts cannot be used"),
    (("encode", "m.safetensors", "numbers", "--keep", "key", "--out", "o"), 1, "the table has no column ['key']"),
    (
        ("detect", "score", "m.safetensors", "numbers", "--out", "o"),
        1,
        "contains a Autoencoder, but a detector is needed",
    ),
    (
        ("detect", "score", "d.safetensors", "table", "--out", "o", "--json"),
        2,
        "--json does not work with DATA in parts",
    ),
    (("detect", "score", "d.safetensors", "table", "--out", "o"), 1, "Column 'id' was not present"),
    (
        ("detect", "score", "d.safetensors", "table", "--keep", "id", "--keep", "country", "--out", "o"),
        1,
        "Column 'country' is missing",
    ),
]


@pytest.mark.parametrize(("words", "code", "text"), FAULTS)
def test_a_fault_is_one_line_and_nothing_is_written(run, words: tuple[str, ...], code: int, text: str) -> None:  # type: ignore[no-untyped-def]
    Path("empty").mkdir()
    before = sorted(Path().rglob("*"))
    answer = run(*words)
    assert answer.code == code, answer
    assert answer.err.startswith("error: ")
    assert text in answer.err
    assert answer.err.count("\n") == 1
    assert sorted(Path().rglob("*")) == before


def test_an_engine_that_is_not_installed_is_named_with_its_extra(run, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(isthmus.tasks.PART_ENGINES.find("dask"), "packages", ("no_such_engine",))
    answer = run("encode", "m.safetensors", "numbers", "--keep", "id", "--out", "o", "--engine", "dask")
    wanted = "error: The engine needs no_such_engine, which is not installed; pip install 'isthmus[dask]'.\n"
    assert answer == (1, "", wanted)
    assert not Path("o").exists()


def test_kept_columns_of_one_file_are_not_given_to_the_detector(run) -> None:  # type: ignore[no-untyped-def]
    words = ("detect", "score", "d.safetensors")
    payments().to_pandas().to_csv("whole.csv", index=False)
    assert run(*words, "whole.csv", "--keep", "id", "--explain", "0", "--out", "s.csv").code == 0
    assert [*pd.read_csv("s.csv").columns] == ["id", *ADDED[:3]]
    assert "no column 'key' to keep" in run(*words, "whole.parquet", "--keep", "key").err
    np.save("x.npy", np.zeros((3, 3)))
    assert "--keep needs a table with named columns" in run(*words, "x.npy", "--keep", "key").err
