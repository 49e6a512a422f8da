"""A schema finds out what columns are, turns cells into numbers and back, and says all that is wrong at once."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from isthmus.choices.registry import Context
from isthmus.data.tables import Schema, learn_schema
from isthmus.data.tables import profiling as watching_module
from isthmus.data.tables.columns import Datetime, Numeric
from isthmus.exceptions import DataError


def people(n: int = 400, seed: int = 0) -> pd.DataFrame:
    """A table with every kind of column, holes included."""
    draw = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": draw.normal(40, 10, n).round(1),
            "amount": draw.lognormal(3, 2, n).round(2),
            "children": draw.integers(0, 5, n),
            "country": draw.choice(["DE", "FR", "IT"], n),
            "member": draw.random(n) < 0.3,
            "since": pd.Timestamp("2019-01-01") + pd.to_timedelta(draw.integers(0, 1500 * 86400, n), unit="s"),
            "code": [f"0{place % 7}" for place in range(n)],
            "name": [f"person {place}" for place in range(n)],
            "row": range(n),
            "planet": "Earth",
            "empty": np.nan,
        }
    )
    frame.loc[::7, "age"] = np.nan
    frame.loc[frame.index == 3, "country"] = None
    return frame


def kinds_of(schema: Schema) -> dict[str, str]:
    return {column.name: column.kind for column in schema.columns}


def test_kinds_are_found_from_the_data() -> None:
    schema = learn_schema(people())
    assert kinds_of(schema) == {
        "age": "numeric",
        "amount": "numeric",
        "children": "ordinal",
        "country": "categorical",
        "member": "binary",
        "since": "datetime",
        "code": "categorical",
        "name": "ignore",
        "row": "ignore",
        "planet": "ignore",
        "empty": "ignore",
    }


def test_what_contributes_nothing_is_said() -> None:
    notes = learn_schema(people()).notes
    told = {note.split("'")[1]: note for note in notes}
    assert set(told) == {"name", "row", "planet", "empty"}
    assert told["planet"] == "Column 'planet' is constant ('Earth'); it is not used."
    assert told["empty"] == "Column 'empty' has only missing cells; it is not used."
    assert "differs in nearly every row" in told["name"]
    assert "counts the rows" in told["row"]


def test_numbers_are_centred_and_heavy_tails_tamed() -> None:
    frame = people(4000)
    schema = learn_schema(frame)
    encoded = schema.encode(frame)
    numbers = encoded[:, [schema.groups[name][0] for name in ("age", "amount", "children")]]
    np.testing.assert_allclose(np.nanmean(numbers, axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(np.nanstd(numbers, axis=0), 1, atol=1e-4)
    assert (schema["amount"].heavy_tails, schema["age"].heavy_tails) == (True, False)  # type: ignore[attr-defined]


def test_one_far_value_does_not_squeeze_all_others() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    values[500] = 1e9
    encoded = learn_schema({"x": values}).encode({"x": values})[:, 0]
    assert encoded[:500].std() > 0.5
    assert encoded[500] > 2 * np.abs(encoded[:500]).max()


def test_missing_cells_are_nan_and_marked_where_there_were_some_before() -> None:
    frame = people()
    schema = learn_schema(frame)
    assert {name for name in schema.feature_names if "missing" in name} == {"age=missing", "country=missing"}
    encoded = schema.encode(frame)
    value, mark = schema.groups["age"]
    np.testing.assert_array_equal(np.isnan(encoded[:, value]), frame["age"].isna())
    np.testing.assert_array_equal(encoded[:, mark], frame["age"].isna())
    assert np.isnan(encoded[3, list(schema.groups["country"][:-1])]).all()


def test_groups_share_all_features_among_the_columns() -> None:
    schema = learn_schema(people())
    places = [place for group in schema.groups.values() for place in group]
    assert sorted(places) == list(range(schema.width))
    assert list(schema.groups) == schema.used == ["age", "amount", "children", "country", "member", "since", "code"]
    for name, group in schema.groups.items():
        assert all(schema.feature_names[place].startswith(name) for place in group)


def test_by_column_adds_up_the_features_of_each_column() -> None:
    schema = learn_schema(people())
    sums = schema.by_column(np.ones((2, schema.width)))
    np.testing.assert_array_equal(sums, [[len(group) for group in schema.groups.values()]] * 2)


def test_a_table_comes_back_from_its_numbers() -> None:
    frame = people()
    schema = learn_schema(frame)
    back = schema.decode(schema.encode(frame), like=frame)
    shown = frame.drop(columns=["name", "row", "empty"])
    for name in shown:
        if name in ("age", "amount"):
            np.testing.assert_allclose(back[name], shown[name], rtol=1e-5)
        else:
            pd.testing.assert_series_equal(back[name], shown[name], check_dtype=False)


@given(st.lists(st.floats(-1e12, 1e12) | st.none(), min_size=2, max_size=30))
@settings(max_examples=100, deadline=None)
def test_numbers_come_back_to_five_digits_of_their_distance_from_the_centre(values: list[float | None]) -> None:
    schema = learn_schema({"x": values})
    column, seen = schema["x"], np.array([value for value in values if value is not None])
    assume(isinstance(column, Numeric))
    assert isinstance(column, Numeric)
    got = schema.decode(schema.encode({"x": values})).to_pydict()["x"]
    assert [value is None for value in got] == [value is None for value in values]
    reach = np.abs(seen - column.centre) + column.spread * (1 + abs(column.mean) + column.deviation)
    assert (np.abs(np.array([value for value in got if value is not None]) - seen) <= 1e-5 * reach).all()


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=5) | st.none(), min_size=2, max_size=40))
@settings(max_examples=100, deadline=None)
def test_words_come_back_exactly_and_empty_ones_as_missing(words: list[str | None]) -> None:
    schema = learn_schema({"w": words}, {"w": "categorical"})
    if schema.width:
        assert schema.decode(schema.encode({"w": words})).to_pydict()["w"] == [word or None for word in words]


MOMENTS = st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1))


@given(st.lists(MOMENTS | st.none(), min_size=2, max_size=30))
@settings(max_examples=100, deadline=None)
def test_moments_come_back_to_six_digits_of_a_day_or_of_their_span(dates: list[dt.datetime | None]) -> None:
    schema = learn_schema({"t": dates})
    if schema.width:
        seen = [date for date in dates if date]
        quantum = 1e-6 * max(dt.timedelta(days=1), max(seen) - min(seen))
        for got, date in zip(schema.decode(schema.encode({"t": dates})).to_pydict()["t"], dates, strict=True):
            assert (got is None) == (date is None)
            assert date is None or abs(got - date) <= quantum


@given(st.lists(st.integers(-(10**6), 10**6), min_size=3, max_size=50))
@settings(max_examples=50, deadline=None)
def test_whole_numbers_come_back_exactly(values: list[int]) -> None:
    schema = learn_schema({"x": values})
    if schema.width:
        assert schema.decode(schema.encode({"x": values})).to_pydict()["x"] == values


@pytest.mark.parametrize("step", ["D", "h", "s"])
def test_moments_come_back_to_the_second_over_decades(step: str) -> None:
    draw = np.random.default_rng(0)
    stamps = np.datetime64("1990-01-01", "s") + draw.integers(0, 30 * 365 * 86400, 500)
    frame = pd.DataFrame({"t": pd.Series(stamps.astype(f"datetime64[{step}]").astype("datetime64[ns]"))})
    schema = learn_schema(frame)
    assert schema.decode(schema.encode(frame), like=frame)["t"].tolist() == frame["t"].tolist()


def test_cycles_are_followed_where_the_data_go_through_them() -> None:
    days = {n: pd.date_range("2020-01-01", periods=n, freq="D") for n in (10, 60, 900)}
    assert cycles_of(days[10]) == ()
    assert cycles_of(days[60]) == ("weekday",)
    assert cycles_of(days[900]) == ("weekday", "season")
    assert cycles_of(days[10] + pd.to_timedelta(range(10), unit="h")) == ("time of day",)


def cycles_of(stamps: Any) -> tuple[str, ...]:
    column = learn_schema({"t": stamps})["t"]
    assert isinstance(column, Datetime)
    return column.cycles


def test_time_zones_come_back() -> None:
    stamps = pd.Series(pd.date_range("2024-03-30 22:00", periods=50, freq="h", tz="Europe/Berlin"))
    schema = learn_schema({"t": stamps})
    assert schema.decode(schema.encode({"t": stamps})).column("t").to_pylist() == stamps.tolist()


def test_a_schema_is_the_same_after_json() -> None:
    schema = learn_schema(people())
    again = Schema.from_json(json.loads(json.dumps(schema.to_json())))
    assert again == schema
    np.testing.assert_array_equal(again.encode(people()), schema.encode(people()))


# -- categories --------------------------------------------------------------------------------------------------------


def test_rare_and_unseen_categories_are_pooled() -> None:
    words = ["a"] * 500 + ["b"] * 480 + ["rare"] * 2
    schema = learn_schema({"w": words})
    assert schema.feature_names == ["w=a", "w=b", "w=(other)"]
    np.testing.assert_array_equal(schema.encode({"w": ["rare", "new", "a"]}), [[0, 0, 1], [0, 0, 1], [1, 0, 0]])
    assert schema.notes == (
        "Column 'w' has 3 values; the 2 most frequent are kept (99.8% of its cells), all others are '(other)'.",
    )


def test_only_so_many_levels_are_kept_as_asked_for() -> None:
    words = [f"w{place % 30}" for place in range(900)]
    assert learn_schema({"w": words}, max_levels=4).width == 5


def test_codes_with_leading_zeros_stay_text() -> None:
    schema = learn_schema({"zip": ["01234", "90210"] * 30})
    assert (schema["zip"].kind, schema["zip"].family) == ("binary", "text")


def test_categories_may_be_numbers() -> None:
    values = np.array([10, 20, 30] * 20)
    schema = learn_schema({"x": values}, {"x": "categorical"})
    assert schema.feature_names == ["x=10", "x=20", "x=30", "x=(other)"]
    assert schema.decode(schema.encode({"x": values})).to_pydict()["x"] == values.tolist()
    np.testing.assert_array_equal(schema.encode({"x": [40]}), [[0, 0, 0, 1]])


def test_an_order_can_be_given_or_stand_in_the_type() -> None:
    sizes = ["S", "L", "M", None] * 10
    asked = learn_schema({"size": sizes}, {"size": ["S", "M", "L"]})
    typed = learn_schema(pd.DataFrame({"size": pd.Categorical(sizes, ["S", "M", "L"], ordered=True)}))
    for schema in (asked, typed):
        encoded = schema.encode({"size": ["S", "M", "L"]})[:, 0]
        assert np.diff(encoded) == pytest.approx(np.diff(encoded)[0])
        assert schema.decode(schema.encode({"size": sizes})).to_pydict()["size"] == sizes


def test_a_word_that_is_not_in_the_order_counts_as_missing_and_is_marked() -> None:
    schema = learn_schema({"size": ["S", "L", "M"] * 10}, {"size": ["S", "M", "L"]})
    np.testing.assert_array_equal(schema.encode({"size": ["XXL"]}), [[np.nan, 1]])


def test_truth_values_are_read_from_words_and_numbers() -> None:
    schema = learn_schema({"f": [True, False] * 5})
    for other in ([True, False], ["true", "False"], [1, 0]):
        np.testing.assert_array_equal(schema.encode({"f": other}), [[0, 1, 0], [1, 0, 0]])


# -- numbers and dates as text -----------------------------------------------------------------------------------------


def test_numbers_written_as_text_are_read_as_numbers_and_said_to_be() -> None:
    text, plain = {"x": ["1.5", " 20", "3e2", ""]}, {"x": [1.5, 20.0, 300.0, None]}
    schema = learn_schema(text)
    assert schema.notes == ("Column 'x' contains numbers written as text, which are read as numbers.",)
    np.testing.assert_array_equal(schema.encode(text), schema.encode(plain))
    assert schema.feature_names == ["x", "x=missing"]


def test_dates_written_as_text_come_back_as_text() -> None:
    days = ["2024-01-31", "2023-12-01", None, "2024-02-29"]
    schema = learn_schema({"day": days})
    assert schema["day"].kind == "datetime"
    assert schema.decode(schema.encode({"day": days})).to_pydict()["day"] == days


def test_few_words_among_codes_are_categories_and_among_numbers_mistakes() -> None:
    assert learn_schema({"x": ["0", "1", "2", "3+"] * 50})["x"].kind == "categorical"
    with pytest.raises(
        DataError,
        match=r"Column 'x' contains numbers, but also text such as 'abc' \(row 99\); correct or empty these",
    ):
        learn_schema({"x": [f"{place}.5" for place in range(99)] + ["abc"]})
    with pytest.raises(DataError, match=r"Column 'd' contains dates, but also text such as '2024-13-01'.* \(row 60\)"):
        learn_schema({"d": [f"2024-01-{1 + place % 28:02}T00:{place:02}" for place in range(60)] + ["2024-13-01"]})


# -- mistakes ----------------------------------------------------------------------------------------------------------


def test_all_mistakes_of_a_table_are_told_at_once_with_column_and_row() -> None:
    frame = people()
    frame.loc[[5, 9], "age"] = [np.inf, -np.inf]
    frame["mixed"] = pd.Series([1.5, 2.5, "three"] + [4.5] * 397, dtype=object)
    frame["until"] = pd.Series([dt.date(2024, 1, 1), dt.date(9999, 12, 31)] * 200, dtype=object)
    with pytest.raises(DataError) as caught:
        learn_schema(frame)
    text = str(caught.value)
    assert text.startswith("The table has 3 errors:\n")
    assert "Column 'age' has infinite values (2 cells, the first at row 5); correct or empty these cells." in text
    assert "Column 'mixed' mixes numbers and text: most cells are numbers, but one is 'three' (row 2);" in text
    assert "kinds={'mixed': 'ignore'}." in text
    assert "Column 'until' has dates outside the years 1678 to 2261 (200 cells, the first at row 1); empty" in text


def test_a_type_that_changes_between_pieces_is_a_mixture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching_module, "BATCH_ROWS", 10)
    with pytest.raises(
        DataError, match=r"Column 'x' mixes numbers and text \(5 cells, the first at row 10\); convert its cells"
    ):
        learn_schema({"x": [1.5] * 10 + ["a"] * 5})


def test_cells_that_no_kind_can_take_are_named() -> None:
    with pytest.raises(DataError, match=r"Column 'x' is of type list<item: int64>, which is not supported"):
        learn_schema({"x": [[1], [2]]})
    with pytest.raises(DataError, match=r"Column 'x' cannot be read \("):
        learn_schema({"x": [object(), object()]})
    assert learn_schema({"x": [[1], [2]], "y": [1, 2]}, {"x": "ignore"}).used == ["y"]


@pytest.mark.parametrize(
    ("column", "kind", "text"),
    [
        (
            ["a", "b", "c"],
            "numeric",
            r"was requested as numeric, which needs numbers, but contains text such as 'a' \(row 0\)",
        ),
        (["a", "b", "c"], "datetime", r"needs dates such as 2024-12-31 23:59:59, but contains text such as 'a'"),
        ([1.5, 2.5, 4.5], "datetime", "needs dates such as 2024-12-31 23:59:59, but contains numbers"),
        (["a", "b", "c"], "binary", "was requested as binary, which needs 2 values, but has 3 different ones; request"),
        (["a", "b", "c"], "ordinal", r"contains text; pass its values in order: kinds=\{'x': \['low', 'high'\]\}"),
        (["a", "b", "c"], ["a", "b"], "has values that are not among its levels, such as 'c'"),
        ([dt.date(2024, 1, 1), dt.date(2024, 1, 2)], "categorical", "contains dates, which cannot be categories"),
    ],
)
def test_a_kind_that_does_not_fit_is_refused(column: list[Any], kind: Any, text: str) -> None:
    with pytest.raises(DataError, match=text):
        learn_schema({"x": column}, {"x": kind})


def test_kinds_that_cannot_be_meant_are_refused_together() -> None:
    with pytest.raises(ValueError, match=r"(?s)'agee'.*did you mean 'age'.*'numerical'.*did you mean 'numeric'.*empty"):
        learn_schema(people(), {"agee": "numeric", "age": "numerical", "code": []})
    with pytest.raises(ValueError, match="max_levels=0 must be an integer >= 1"):
        learn_schema(people(), max_levels=0)
    with pytest.raises(ValueError, match="heavy_tails='yes' must be True, False or 'auto'"):
        learn_schema(people(), heavy_tails="yes")


def test_tables_without_rows_or_columns_are_refused() -> None:
    with pytest.raises(DataError, match="has 0 rows and 1 column, but at least 1 of each"):
        learn_schema({"x": []})
    with pytest.raises(DataError, match="has 0 rows and 0 columns, but at least"):
        learn_schema({})


def test_one_row_gives_a_schema_without_numbers() -> None:
    schema = learn_schema(people(1))
    assert schema.width == 0
    assert schema.encode(people(3)).shape == (3, 0)
    assert schema.decode(np.empty((3, 0))).num_rows == 3


# -- at use ------------------------------------------------------------------------------------------------------------


def test_columns_are_found_by_name_in_any_order() -> None:
    frame = people()
    schema = learn_schema(frame)
    np.testing.assert_array_equal(schema.encode(frame[frame.columns[::-1]]), schema.encode(frame))


def test_columns_that_contribute_nothing_need_not_be_there() -> None:
    frame = people()
    schema = learn_schema(frame)
    np.testing.assert_array_equal(schema.encode(frame[schema.used]), schema.encode(frame))


def test_renamed_missing_new_and_retyped_columns_are_told_at_once() -> None:
    frame = people()
    schema = learn_schema(frame)
    spoilt = frame.rename(columns={"amount": "Amount"}).drop(columns="age").assign(new=1, since=5.0, country=1)
    with pytest.raises(DataError) as caught:
        schema.check(pa.Table.from_pandas(spoilt))
    text = str(caught.value)
    assert "The table has 5 errors" in text
    assert "Column 'age' is missing; add it." in text
    assert "Column 'amount' is missing; is it now called 'Amount'? Rename it back." in text
    assert "Columns 'Amount', 'new' were not present when the schema was learned; drop them, or allow extra" in text
    assert "Column 'since' holds numbers, but dates when the schema was learned; convert it." in text
    assert "Column 'country' holds numbers, but text when the schema was learned; convert it." in text


def test_extra_columns_can_be_allowed() -> None:
    frame = people()
    schema = learn_schema(frame)
    schema.check(frame.assign(new=1), extra="ignore")
    with pytest.raises(DataError, match=r"Column 'new' was not present when the schema was learned"):
        schema.check(frame.assign(new=1))
    with pytest.raises(ValueError, match="extra"):
        schema.check(frame, extra="drop")


def test_cells_that_turn_out_wrong_at_use_are_named_with_their_row() -> None:
    schema = learn_schema(people())
    spoilt = people().astype({"age": object, "country": object})
    spoilt.loc[2, "age"] = np.inf
    spoilt["amount"] = [*map(str, spoilt["amount"][:-1]), "much"]
    spoilt["country"] = 5
    spoilt["since"] = 3.5
    with pytest.raises(DataError) as caught:
        schema.encode(spoilt)
    text = str(caught.value)
    assert "Column 'age' has infinite values (row 2); correct or empty these cells." in text
    assert "Column 'amount' holds numbers, but also text such as 'much' (row 399); correct" in text
    assert "Column 'country' holds numbers instead of text (400 cells, the first at row 0); convert it." in text
    assert "Column 'since' holds numbers instead of dates" in text


def test_text_where_dates_were_is_read_or_named() -> None:
    schema = learn_schema({"d": pd.date_range("2020-01-01", periods=5)})
    np.testing.assert_allclose(schema.encode({"d": ["2020-01-03"]})[0, 0], 0, atol=1e-6)
    with pytest.raises(DataError, match=r"holds dates, but also text such as 'soon' \(row 1\); write dates as 2024"):
        schema.encode({"d": ["2020-01-03", "soon"]})


def test_matrices_of_another_width_are_refused() -> None:
    schema = learn_schema(people())
    with pytest.raises(ValueError, match=rf"shape \(2, 3\), but this schema needs \(n, {schema.width}\)"):
        schema.decode(np.zeros((2, 3)))
    with pytest.raises(KeyError, match="did you mean 'age'"):
        schema["agee"]


# -- for models --------------------------------------------------------------------------------------------------------


def test_the_loss_weighs_every_column_the_same_and_leaves_missing_cells_out() -> None:
    frame = people()
    schema = learn_schema(frame)
    loss = schema.loss().resolve(Context((schema.width,), 2))
    encoded = torch.from_numpy(schema.encode(frame))
    per_feature = loss.per_feature(torch.zeros_like(encoded), encoded).numpy()
    assert np.isfinite(per_feature).all()
    means = dict(zip(schema.groups, schema.by_column(per_feature).mean(axis=0), strict=True))
    marks = np.log(2)
    assert means["amount"] == pytest.approx(1, abs=1e-3)  # the variance of a standardised number
    assert means["since"] == pytest.approx(1, abs=0.05)
    assert means["country"] - marks == pytest.approx(np.log(4) * 399 / 400, abs=1e-5)  # three levels and the other
    assert means["age"] - marks == pytest.approx(frame["age"].notna().mean(), abs=1e-3)
    assert loss.admits_missing


def test_what_is_seen_and_expected_is_told_in_words() -> None:
    frame = people()
    schema = learn_schema(frame)
    encoded = schema.encode(frame[:4])
    assert schema.expected(encoded, "amount")[0].startswith("about ")
    assert schema.seen(frame[:4], "country") == [*frame["country"][:3], "missing"]
    assert schema.expected(encoded, "planet") == ["Earth"] * 4
    assert schema.expected(encoded, "children")[0] == f"about {frame['children'][0]}"
    assert schema.expected(encoded, "member")[0] == str(frame["member"][0])
    assert schema.expected(encoded, "since")[0] == f"about {frame['since'][0]:%Y-%m-%d %H:%M}"
    assert schema.seen({"amount": [9800.0]}, "amount") == ["9,800"]


def test_the_answer_has_the_type_that_was_asked_for() -> None:
    frame = people()
    schema = learn_schema(frame)
    encoded = schema.encode(frame)
    frame.index = frame.index + 7
    assert schema.decode(encoded, like=frame).index.equals(frame.index)
    assert isinstance(schema.decode(encoded, like=pl.from_pandas(frame)), pl.DataFrame)
    assert isinstance(schema.decode(encoded), pa.Table)


def test_a_sample_of_many_rows_is_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching_module, "BATCH_ROWS", 1000)
    monkeypatch.setattr(watching_module.Sampler, "size", 500)
    values = np.arange(20_000) * 1.5
    sampler = watching_module.Sampler({"x": watching_module.Watch("x")}, 500)
    for start in range(0, 20_000, 1000):
        sampler.look({"x": pa.array(values[start : start + 1000])}, 1000)
    kept = np.concatenate([part.to_numpy() for part in sampler.watches["x"].sample])
    assert 500 <= len(kept) <= 1000
    assert kept.mean() == pytest.approx(values.mean(), rel=0.05)
