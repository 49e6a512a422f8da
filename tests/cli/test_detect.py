"""``isthmus detect`` as a user types it: a detector from a table, scored rows, reasons, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

import isthmus
from isthmus.cli import main

FAST = ["--set", "max_steps=60", "--set", "n_members=2", "--seed", "0", "--quiet"]


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):  # type: ignore[no-untyped-def]
    """Run a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words: object) -> Answer:
        with pytest.raises(SystemExit) as stopped:
            main(["detect", *map(str, words)])
        return Answer(int(stopped.value.code or 0), *capsys.readouterr())

    return call


def payments(n: int, seed: int) -> pd.DataFrame:
    """Payments whose amount depends on the country."""
    draw = np.random.default_rng(seed)
    country = draw.integers(0, 3, n)
    return pd.DataFrame(
        {
            "amount": np.exp(0.3 * draw.normal(size=n) + country).round(2),
            "country": np.array(["DE", "FR", "IT"])[country],
            "weight": (country + 0.1 * draw.normal(size=n)).round(3),
            "id": [f"p{place}" for place in range(n)],
        }
    )


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a detector, and new rows of which the fifth is odd."""
    folder = tmp_path_factory.mktemp("detect")
    payments(400, 0).to_csv(folder / "old.csv", index=False)
    new = payments(30, 1)
    new.loc[5, "amount"] = 98_000.0
    new.to_csv(folder / "new.csv", index=False)
    words = ["fit", folder / "old.csv", "--out", folder / "d.safetensors", "--false-alarm-rate", "0.02", *FAST]
    with pytest.raises(SystemExit) as stopped:
        main(["detect", *map(str, words)])
    assert not stopped.value.code
    return folder


def test_fit_sums_up_what_was_found(run, fitted: Path) -> None:  # type: ignore[no-untyped-def]
    answer = run("fit", fitted / "old.csv", *FAST, "--kind", "id=ignore", "--threshold", "0.05")
    assert answer.code == 0, answer.err
    assert "2 numeric, 1 categorical, 1 ignore" in answer.out
    assert "5.00% of them" in answer.out
    assert isthmus.load("detector.safetensors").verbose == 0


def test_the_result_has_a_row_for_each_row_with_its_reasons(run, fitted: Path) -> None:  # type: ignore[no-untyped-def]
    words = ("score", fitted / "d.safetensors", fitted / "new.csv", "--out", "s.parquet", "--explain", "2")
    answer = run(*words)
    assert answer.code == 0, answer.err
    scored = pd.read_parquet("s.parquet")
    added = ["anomaly_score", "anomaly", "p_value", "reason_1", "reason_2"]
    assert list(scored) == ["amount", "country", "weight", "id", *added]
    assert scored["anomaly_score"].argmax() == 5
    assert scored["anomaly"][5]
    assert scored["reason_1"][5].startswith("amount = 98,000, expected about ")
    assert scored.loc[~scored["anomaly"], "reason_1"].isna().all()
    detector = isthmus.load(fitted / "d.safetensors")
    np.testing.assert_allclose(scored["anomaly_score"], -detector.score_samples(fitted / "new.csv"), rtol=1e-5)


def test_odd_rows_are_printed_and_told_by_the_exit_code(run, fitted: Path) -> None:  # type: ignore[no-untyped-def]
    words = ("score", fitted / "d.safetensors", fitted / "new.csv")
    plain = run(*words)
    assert plain.code == 0
    assert "row 5, score " in plain.out
    assert "amount = 98,000" in plain.out
    assert run(*words, "--exit-code").code == 3
    facts = [json.loads(line) for line in run(*words, "--json", "--explain", "1").out.splitlines()]
    assert 5 in [fact["row"] for fact in facts]
    assert {len(fact["reasons"]) for fact in facts} == {1}
    assert run(*words, "--threshold", "0", "--exit-code").code == 3


def test_a_page_lists_the_oddest_rows_with_their_reasons(run, fitted: Path) -> None:  # type: ignore[no-untyped-def]
    words = ("score", fitted / "d.safetensors", fitted / "new.csv", "--report", "page.html")
    assert run(*words).code == 0
    page = Path("page.html").read_text(encoding="utf-8")
    assert "Anomalies of new.csv" in page
    assert page.index("amount = 98,000, expected about ") > page.index("Most anomalous rows")
    assert "http://" not in page.replace("http://www.w3.org", "")
    again = run(*words)
    assert again.code == 1
    assert "'page.html' exists" in again.err
    assert run(*words, "--follow", "--force").code == 2


def test_nothing_odd_gives_exit_code_0(run, fitted: Path) -> None:  # type: ignore[no-untyped-def]
    payments(400, 0)[:20].to_csv("same.csv", index=False)
    answer = run("score", fitted / "d.safetensors", "same.csv", "--threshold", "0", "--exit-code")
    assert (answer.code, answer.out) == (0, "20 rows, 0 anomalies\n")


def test_a_growing_file_is_followed_until_it_is_idle(run, fitted: Path) -> None:  # type: ignore[no-untyped-def]
    words = ("score", fitted / "d.safetensors", fitted / "new.csv", "--follow", "--idle", "0", "--exit-code")
    answer = run(*words)
    assert answer.code == 3
    assert "row 5, score " in answer.out


def test_arrays_are_scored_too(run) -> None:  # type: ignore[no-untyped-def]
    X = np.random.default_rng(0).normal(size=(200, 4))
    np.save("x.npy", X)
    assert run("fit", "x.npy", *FAST).code == 0
    assert run("score", "detector.safetensors", "x.npy", "--out", "s.csv").code == 0
    scored = pd.read_csv("s.csv")
    assert list(scored) == ["row", "anomaly_score", "anomaly", "reason_1", "reason_2", "reason_3"]
    assert scored["row"].tolist() == list(range(200))


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("fit", "x.csv", "--out", "d.onnx"), 2, "a detector file needs the suffix .safetensors"),
        (("fit", "x.csv", "--threshold", "0.1", "--false-alarm-rate", "0.1"), 2, "cannot be combined; use one"),
        (("fit", "x.csv", "--kind", "ignore"), 2, "--kind 'ignore' has no kind; write COLUMN=KIND"),
        (("fit", "x.csv", "--set", "trimm=0"), 2, "trimm"),
        (("fit", "none.csv"), 1, "There is no file 'none.csv'"),
        (("score", "d.safetensors", "x.csv", "--idle", "3"), 2, "--idle needs --follow"),
        (
            ("score", "d.safetensors", "x.csv", "--follow", "--out", "s.csv"),
            2,
            "--follow prints anomalies and never ends",
        ),
        (("score", "d.safetensors", "x.csv", "--out", "s.npy"), 1, "use one of .csv, .parquet"),
        (("score", "d.safetensors", "x.csv"), 1, "There is no model file at 'd.safetensors'"),
    ],
)
def test_wrong_usage_is_one_line(run, words: tuple[str, ...], code: int, text: str) -> None:  # type: ignore[no-untyped-def]
    Path("x.csv").write_text("a\n1\n2\n")
    answer = run(*words)
    assert answer.code == code
    assert answer.err.startswith("error: ")
    assert text in answer.err


def test_a_file_of_another_kind_is_no_detector(run) -> None:  # type: ignore[no-untyped-def]
    isthmus.Autoencoder(2, max_epochs=1).fit(np.eye(5)).save("m.safetensors")
    answer = run("score", "m.safetensors", "x.csv")
    assert answer.code == 1
    assert "contains a Autoencoder, but a detector is needed" in answer.err


def test_a_column_that_the_result_would_hide_is_refused(run, fitted: Path) -> None:  # type: ignore[no-untyped-def]
    frame = payments(400, 0).assign(anomaly=[0, 1] * 200)
    frame.to_csv("labelled.csv", index=False)
    assert run("fit", "labelled.csv", *FAST).code == 0
    answer = run("score", "detector.safetensors", "labelled.csv", "--out", "s.csv")
    assert answer.code == 1
    assert "already has a column 'anomaly', which the result needs; rename it" in answer.err
    assert not Path("s.csv").exists()
