"""Tables with something wrong in them: handled, or one error that names column and row; a score for each row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from isthmus import AnomalyDetector, DataError

DRAW = np.random.default_rng(0)
Change = Callable[[pd.DataFrame], Any]


def people(n: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "x": DRAW.normal(size=n),
            "y": DRAW.normal(size=n),
            "town": DRAW.choice(["Ulm", "Bonn", "Rome"], n),
            "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(DRAW.integers(0, 10**7, n), unit="s"),
        }
    )


def detector() -> AnomalyDetector:
    return AnomalyDetector(max_steps=20, n_members=2, random_state=0)


@pytest.fixture(scope="module")
def fitted() -> AnomalyDetector:
    return detector().fit(people(200))


def planted(column: str, row: int, value: Any) -> Change:
    """One cell of a table replaced."""

    def change(table: pd.DataFrame) -> pd.DataFrame:
        cells = table[column].tolist()
        cells[row] = value
        return table.assign(**{column: pd.Series(cells, dtype=object if isinstance(value, str) else None)})

    return change


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(x=table["x"].astype(str), when=table["when"].astype(str))


def far_dates(table: pd.DataFrame) -> pa.Table:
    moments = np.full(len(table), 1_700_000_000_000_000)
    moments[4] = 10**17
    return pa.table({**{name: table[name].to_numpy() for name in "xy"}, "town": table["town"].tolist()}).append_column(
        "when", pa.array(moments).cast(pa.timestamp("us"))
    )


HANDLED: dict[str, Change] = {
    "all missing": lambda table: table.assign(x=np.nan, town=None),
    "constant": lambda table: table.assign(x=1.0),
    "a category never seen": planted("town", 3, "Paris"),
    "numbers and dates written as text": as_text,
}


@pytest.mark.parametrize("change", HANDLED.values(), ids=HANDLED)
def test_what_can_be_handled_is_learned_from_and_gives_a_score_for_each_row(
    fitted: AnomalyDetector, change: Change
) -> None:
    for model in (fitted, detector().fit(change(people(200)))):
        scores = model.score_samples(change(people(30)))
        assert scores.shape == (30,)
        assert np.isfinite(scores).all()


REFUSED: dict[str, tuple[Change, str]] = {
    "infinite": (planted("x", 7, np.inf), r"Column 'x' has infinite values \(row 7\)"),
    "mixed types": (planted("x", 5, "abc"), r"Column 'x' mixes numbers and text: .* one is 'abc'.*\(row 5\)"),
    "a word among numbers written as text": (
        lambda table: planted("x", 4, "abc")(as_text(table)),
        r"Column 'x' holds numbers, but also text such as 'abc' \(row 4\)",
    ),
    "no such day": (
        lambda table: planted("when", 6, "2024-13-45")(as_text(table)),
        r"Column 'when' holds dates, but also text such as '2024-13-45' .*\(row 6\)",
    ),
    "dates out of range": (
        far_dates,
        r"Column 'when' has dates outside the years 1678 to 2261 \(row 4\); empty these cells",
    ),
    "two columns of one name": (
        lambda table: table.set_axis(["x", "x", "town", "when"], axis=1),
        r"'x' is the name of columns 0, 1",
    ),
    "a column missing": (lambda table: table.drop(columns="y"), r"Column 'y' is missing"),
}


@pytest.mark.parametrize(("change", "told"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_handled_is_one_error_with_column_and_row(
    fitted: AnomalyDetector, change: Change, told: str
) -> None:
    with pytest.raises(DataError, match=told):
        fitted.score_samples(change(people(30)))


def test_columns_go_by_name_whatever_their_order(fitted: AnomalyDetector) -> None:
    table = people(30)
    np.testing.assert_array_equal(fitted.score_samples(table), fitted.score_samples(table[["when", "town", "y", "x"]]))


def test_a_batch_without_rows_has_no_scores(fitted: AnomalyDetector, tmp_path: Path) -> None:
    (tmp_path / "none.csv").write_text("x,y,town,when\n")
    for nobody in (people(0), tmp_path / "none.csv"):
        assert fitted.score_samples(nobody).shape == fitted.predict(nobody).shape == (0,)
        assert fitted.contributions(nobody).shape == (0, 4)
        assert fitted.explain(nobody) == []


def test_an_empty_line_in_a_file_of_one_column_is_a_missing_cell(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("x\n1.5\n\n3\n4\n7\n")
    assert len(detector().fit(tmp_path / "one.csv").score_samples(tmp_path / "one.csv")) == 5


def test_a_file_is_learned_from_like_the_same_rows_in_memory(tmp_path: Path) -> None:
    table = pa.Table.from_pandas(people(3000), preserve_index=False)
    parquet.write_table(table, tmp_path / "people.parquet", row_group_size=700)
    settings: dict[str, Any] = {"max_rows": 500, "calibration_fraction": 0.2, "max_steps": 20, "random_state": 0}
    from_file = AnomalyDetector(**settings).fit(tmp_path / "people.parquet")
    in_memory = AnomalyDetector(**settings).fit(table)
    np.testing.assert_array_equal(from_file.decision_scores_, in_memory.decision_scores_)
    np.testing.assert_array_equal(from_file.score_samples(tmp_path / "people.parquet"), in_memory.score_samples(table))
