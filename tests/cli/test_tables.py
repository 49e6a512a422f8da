"""Tables at the command line: ids beside the result, cells unchanged, formulas escaped on request."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from isthmus.cli import main
from isthmus.files.table_writer import write_tables


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return int(caught.value.code or 0)


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    ids = [f"{'0' * (row % 3)}{row}" for row in range(60)]
    frame = pd.DataFrame({"id": ids, **{name: draw.normal(size=60).round(3) for name in "abc"}})
    frame.to_csv("t.csv", index=False, sep=";", decimal=",")
    return frame


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_ids_stand_beside_codes_and_scores_row_by_row(table: pd.DataFrame, ending: str) -> None:
    assert run("fit", "t.csv", "--keep", "id", "--code-size", 2, "--epochs", 1, "-q", "--seed", 0) == 0
    for verb in ("encode", "score", "reconstruct"):
        out = f"{verb}.{ending}"
        assert run(verb, "model.safetensors", "t.csv", "--keep", "id", "--out", out) == 0
        found = pd.read_csv(out, dtype={"id": str}) if ending == "csv" else pd.read_parquet(out)
        assert found["id"].tolist() == table["id"].tolist()
    shuffled = table.iloc[::-1]
    shuffled.to_csv("u.csv", index=False)
    assert run("reconstruct", "model.safetensors", "u.csv", "--keep", "id", "--out", "u.parquet") == 0
    both = pd.read_parquet("u.parquet").set_index("id").loc[table["id"]]
    restored = pd.read_csv("reconstruct.csv") if ending == "csv" else pd.read_parquet("reconstruct.parquet")
    np.testing.assert_allclose(both["a"], restored["a"], atol=1e-5)


def test_a_kept_column_with_the_name_of_a_result_is_refused(
    table: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("fit", "t.csv", "--keep", "id", "--code-size", 2, "--epochs", 1, "-q") == 0
    table.rename(columns={"id": "score"}).to_csv("s.csv", index=False)
    assert run("score", "model.safetensors", "s.csv", "--keep", "score", "--out", "o.csv") == 2
    assert "--keep score has the same name as a column of the result; rename it" in capsys.readouterr().err


def test_files_without_names_have_as_many_codes_as_rows(table: pd.DataFrame) -> None:
    table[["a", "b", "c"]].to_csv("n.csv", index=False, header=False)
    words = ("--no-header", "--code-size", 2, "--epochs", 1, "-q")
    assert run("fit", "n.csv", *words) == 0
    assert run("encode", "model.safetensors", "n.csv", "--no-header", "--out", "codes.csv") == 0
    assert len(pd.read_csv("codes.csv")) == 60


def test_detected_rows_have_the_cells_of_the_file(table: pd.DataFrame) -> None:
    ids = 1234567890123456789 + 7 * np.random.default_rng(0).permutation(60)
    frame = table.assign(id=ids, country=["CL", "NA", "PE"] * 20)
    frame.to_csv("d.csv", index=False)
    assert run("detect", "fit", "d.csv", "-q", "--set", "max_steps=5", "--seed", 0) == 0
    for out in ("o.csv", "o.parquet"):
        assert run("detect", "score", "detector.safetensors", "d.csv", "--out", out) == 0
        found = pd.read_csv(out, keep_default_na=False) if out.endswith("csv") else pd.read_parquet(out)
        assert found["id"].tolist() == ids.tolist()
        assert found["country"].tolist() == ["CL", "NA", "PE"] * 20
    assert Path("o.csv").read_text().splitlines()[1].startswith(f"{ids[0]},{table['a'][0]}")


def test_formulas_are_escaped_on_request_and_numbers_are_not(tmp_path: Path) -> None:
    table = pa.table({"=name": ["=1+1", "@x", "-5.5", "+a", "Ulm", None], "n": [-1.5, 2.0, 3.0, 4.0, 5.0, 6.0]})
    write_tables(tmp_path / "plain.csv", [table])
    write_tables(tmp_path / "safe.csv", [table], escape_formulas=True)
    assert (tmp_path / "plain.csv").read_text() == "=name,n\n=1+1,-1.5\n@x,2\n-5.5,3\n+a,4\nUlm,5\n,6\n"
    assert (tmp_path / "safe.csv").read_text() == "'=name,n\n'=1+1,-1.5\n'@x,2\n-5.5,3\n'+a,4\nUlm,5\n,6\n"
