"""Rows of mixed tables that a sampler makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import isthmus
from isthmus import TableSampler
from isthmus.tasks.generation.marginals import learn_marginals

DRAW = np.random.default_rng(0)
N = 500
SIZE = DRAW.normal(170, 10, N).round()
TABLE = pd.DataFrame(
    {
        "size": SIZE.astype(int),
        "weight": np.where(np.arange(N) % 10, SIZE * 0.45 + DRAW.normal(0, 4, N), np.nan),
        "gain": np.where(DRAW.random(N) < 0.9, 0.0, DRAW.exponential(1000, N).round(2)),
        "tall": np.where(SIZE > 175, "yes", "no"),
        "town": DRAW.choice(["Ulm", "Bonn", "Köln"], N, p=[0.5, 0.3, 0.2]),
        "born": pd.Timestamp("2000-01-01") + pd.to_timedelta(DRAW.integers(0, 3000, N), "D"),
        "planet": "Earth",
        "id": [f"row {k}" for k in range(N)],
    }
)
FITTED: dict[str, Any] = {}


def sampler() -> Any:
    if not FITTED:
        FITTED["it"] = TableSampler(hidden_sizes=(32,), max_epochs=40, batch_size=64, random_state=0).fit(TABLE)
    return FITTED["it"]


def test_columns_keep_their_kinds_spread_holes_and_dependence() -> None:
    made = sampler().sample(3000, random_state=0)
    assert list(made) == [name for name in TABLE if name != "id"]
    for name in ("size", "weight", "gain"):
        assert made.dtypes[name] == TABLE.dtypes[name]
        assert made[name].std() == pytest.approx(TABLE[name].std(), rel=0.15)
        assert made[name].min() >= TABLE[name].min() - 1e-3
        assert made[name].max() <= TABLE[name].max() + 1e-3
    assert (made["gain"] == 0).mean() == pytest.approx((TABLE["gain"] == 0).mean(), abs=0.03)
    assert made["weight"].isna().mean() == pytest.approx(0.1, abs=0.05)
    assert made["size"].corr(made["weight"]) == pytest.approx(TABLE["size"].corr(TABLE["weight"]), abs=0.15)
    assert ((made["size"] > 175) == (made["tall"] == "yes")).mean() > 0.8  # 0.55 if independent
    shares = made["town"].value_counts(normalize=True)
    assert shares[["Ulm", "Bonn", "Köln"]].to_numpy() == pytest.approx([0.5, 0.3, 0.2], abs=0.08)
    assert str(made.dtypes["born"]).startswith("datetime64")
    assert set(made["planet"]) == {"Earth"}


def test_conditions_hold_in_every_row_and_files_draw_alike(tmp_path: Path) -> None:
    given = {"town": "Köln", "size": (150, 170)}
    made = sampler().sample(30, given=given, random_state=1)
    assert set(made["town"]) == {"Köln"}
    assert made["size"].between(150, 170).all()
    loaded = isthmus.load(sampler().save(tmp_path / "t.safetensors"))
    pd.testing.assert_frame_equal(loaded.sample(30, given=given, random_state=1), made)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"twn": "Ulm"}, "did you mean 'town'"),
        ({"town": "Rome"}, r"Only 0 of 20,000 drawn rows have town='Rome', but n=5 was requested"),
        ({"size": "big"}, r"given\['size'\]='big' cannot be compared"),
    ],
)
def test_conditions_that_cannot_hold_are_refused(given: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        sampler().sample(5, given=given, random_state=0)


def test_the_result_has_the_type_of_the_table() -> None:
    numbers = DRAW.normal(size=(60, 2))
    quick: Any = {"hidden_sizes": (4,), "max_epochs": 1, "random_state": 0}
    assert isinstance(TableSampler(**quick).fit(pl.DataFrame(numbers, schema=["a", "b"])).sample(3), pl.DataFrame)
    assert TableSampler(**quick).fit(numbers).sample(3).shape == (3, 2)
    assert list(TableSampler(**quick).fit({"a": numbers[:, 0]}).sample(3)) == ["a"]
    same = TableSampler(**quick).fit({"a": ["x"] * 5, "b": [1] * 5}).sample(3)
    assert same == {"a": ["x"] * 3, "b": [1] * 3}


def test_bad_parameters_and_tables_are_refused() -> None:
    with pytest.raises(ValueError, match="n=0 must be an integer >= 1"):
        sampler().sample(0)
    with pytest.raises(ValueError, match="2 parameters are invalid"):
        TableSampler(beta=-1, code_size=0).fit(TABLE)
    with pytest.raises(isthmus.DataError, match="1 rows, but TableSampler needs at least 2"):
        TableSampler().fit(TABLE[:1])
    with pytest.raises(ValueError, match="Give the table with all columns"):
        TableSampler().fit(TABLE, TABLE)


def test_values_are_mapped_by_rank_to_those_that_were_seen() -> None:
    drawn, known = DRAW.normal(size=(5000, 1)), DRAW.integers(0, 3, (900, 1)).astype(float)
    fixed = learn_marginals(drawn, known, np.array([0]))(DRAW.normal(size=(5000, 1)))
    shares = [np.mean(np.round(fixed) == level) for level in range(3)]
    np.testing.assert_allclose(shares, [np.mean(known == level) for level in range(3)], atol=0.03)
    rising = learn_marginals(drawn, known, np.array([0]))(np.linspace(-3, 3, 50)[:, None])
    assert (np.diff(rising[:, 0]) >= 0).all()
