"""Rows of numbers in whatever people hold them: the right values, or one sentence without them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

import isthmus
from isthmus import Autoencoder, Imputer
from isthmus.data.numeric import as_numeric
from isthmus.exceptions import DataError
from isthmus.seeds import seed_from

X = np.random.default_rng(0).normal(size=(40, 3)).round(2)


def small() -> Autoencoder:
    return Autoencoder(2, network=(4,), max_epochs=2, random_state=0)


@pytest.mark.parametrize(
    "convert",
    [
        lambda X: X.astype(">f8"),
        lambda X: X.astype(np.longdouble),
        lambda X: X.astype(object),
        np.ma.masked_array,
        torch.from_numpy,
        lambda X: pd.DataFrame(X).astype("Float64").to_numpy(),
        lambda X: X.tolist(),
    ],
)
def test_arrays_of_many_kinds_hold_the_same_numbers(convert: Callable[[np.ndarray], Any]) -> None:
    np.testing.assert_array_equal(as_numeric(convert(X)), X)
    np.testing.assert_allclose(small().fit(convert(X)).transform(X), small().fit(X).transform(X), atol=1e-5)


def test_read_only_arrays_are_read_and_not_written() -> None:
    frozen = X.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(small().fit(frozen).transform(frozen), small().fit(X).transform(X))


def test_a_tensor_of_half_precision_is_taken() -> None:
    np.testing.assert_allclose(as_numeric(torch.from_numpy(X).bfloat16()), X, rtol=0.01)
    np.testing.assert_allclose(as_numeric(X.astype(np.float16)), X, rtol=0.001)


def test_masked_entries_are_missing_and_never_data() -> None:
    mask = np.zeros_like(X, bool)
    mask[3, 1] = True
    masked = np.ma.masked_array(X.copy(), mask=mask)
    masked.data[3, 1] = 1e6
    assert np.isnan(as_numeric(masked)[3, 1])
    with pytest.raises(DataError, match="X has 1 NaN value, at row 3, column 1"):
        small().fit(masked)
    filled = Imputer(n_members=1, hidden_sizes=(4,), code_size=2, max_epochs=1, random_state=0).fit_transform(masked)
    assert np.abs(np.asarray(filled)).max() < 10


@pytest.mark.parametrize(
    ("cells", "dtype"),
    [
        ([1, 2, 3], "category"),
        ([1, 2, 3], "Int64"),
        ([1.5, 2, 3], "Float32"),
        ([Decimal("1.5"), Decimal(2), Decimal(3)], object),
        ([1, 2.5, np.int8(3)], object),
        ([1, 2, 3], pd.ArrowDtype(pa.int32())),
        ([Decimal("1.5"), Decimal(2), Decimal(3)], pd.ArrowDtype(pa.decimal128(5, 2))),
        ([True, False, True], "boolean"),
    ],
)
def test_columns_of_many_types_hold_the_same_numbers(cells: list[Any], dtype: Any) -> None:
    frame = pd.DataFrame({"v": pd.Series(cells, dtype=dtype), "x": [0.5, 1.5, 2.5]})
    np.testing.assert_array_equal(np.asarray(as_numeric(frame), dtype=float)[:, 0], [float(cell) for cell in cells])


def test_missing_cells_of_nullable_columns_are_nan() -> None:
    for dtype in ("Int64", "Float64", pd.ArrowDtype(pa.int64()), "category"):
        frame = pd.DataFrame({"v": pd.Series([1, None, 3], dtype=dtype)})
        np.testing.assert_array_equal(as_numeric(frame)["v"], [1.0, np.nan, 3.0])
    np.testing.assert_array_equal(as_numeric(pl.DataFrame({"v": [1, None, 3]}))["v"], [1.0, np.nan, 3.0])


def test_dicts_mappings_and_arrow_tables_go_by_names() -> None:
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    fitted = small().fit(frame)
    for given in (frame.to_dict("records"), frame.to_dict("list"), pa.Table.from_pandas(frame)):
        np.testing.assert_allclose(fitted.transform(given), fitted.transform(frame))


@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        (X + 1j, ValueError, "Complex data not supported: X has dtype complex128"),
        (X[:, 0], ValueError, r"got 1D array instead: X has shape \(40,\)\. Reshape your data"),
        (np.float64(3.0), ValueError, r"got scalar array instead: X has shape \(\)"),
        (
            X.astype(str),
            ValueError,
            r"X has dtype <U32, but numbers are needed; convert it, for numbers written as text",
        ),
        (X.astype(str).astype(object), ValueError, "object array with text such as '0.13', but numbers are needed"),
        ([[1.0, 2.0], [3.0]], ValueError, "rows have different lengths"),
        (
            np.zeros(3, [("a", float)]),
            ValueError,
            r"structured array \(a\), but columns are needed; pass pandas.DataFrame",
        ),
        ((row for row in X), TypeError, "X is a generator, which yields its rows once.*subclass isthmus.Source"),
        (
            torch.utils.data.ChainDataset([]),
            TypeError,
            "X is a torch ChainDataset, which yields its rows once, or without end.*subclass isthmus.Source",
        ),
        ("rows.csv", TypeError, r"X is a path or text \('rows.csv'\).*isthmus.read\(path\).X"),
        ({"a": [1.0], "b": [1.0, 2.0]}, ValueError, "a mapping of columns that do not form a table"),
    ],
)
def test_what_holds_no_rows_of_numbers_is_one_short_sentence(given: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text) as caught:
        small().fit(given)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("cells", "text"),
    [
        (pd.to_timedelta([1, 2, 3], unit="h"), r"'v' \(timedelta64.*use .dt.total_seconds"),
        (pd.date_range("2024", periods=3, tz="Europe/Berlin"), r"'v' \(datetime64.*use an elapsed time"),
        (pd.period_range("2024", periods=3, freq="D"), r"'v' \(period"),
        (pd.arrays.IntervalArray.from_breaks([0, 1, 2, 3]), r"'v' \(interval.*use the middle, \.mid"),
        (["a", "b", "c"], r"'v' \((str|object)\)"),
    ],
)
def test_columns_that_are_not_numbers_are_named_with_their_remedy(cells: Any, text: str) -> None:
    with pytest.raises(DataError, match=text):
        small().fit(pd.DataFrame({"v": cells, "x": [0.5, 1.5, 2.5]}))


def test_columns_of_one_name_are_refused() -> None:
    with pytest.raises(DataError, match="several columns named 'a'; rename or drop them"):
        small().fit(pd.DataFrame(X, columns=["a", "b", "a"]))


def test_a_repeated_name_is_refused_after_fit_too() -> None:
    table = pd.DataFrame(np.random.default_rng(0).random((20, 3)), columns=["a", "b", "c"])
    model = Autoencoder(2, max_epochs=1, random_state=0).fit(table)
    with pytest.raises(DataError, match="several columns named 'c'; rename or drop them"):
        model.transform(pd.concat([table, table[["c"]] * 5], axis=1))  # neither of them is chosen


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_columns_in_another_order_go_by_their_names(package: str) -> None:
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    fitted = small().fit(frame)
    other = frame[["c", "a", "b"]]
    given = other if package == "pandas" else pl.DataFrame(other.to_dict("list"))
    np.testing.assert_array_equal(np.asarray(fitted.transform(given)), fitted.transform(frame))
    restored = fitted.reconstruct(given)
    np.testing.assert_array_equal(np.asarray(restored["a"]), fitted.reconstruct(frame)["a"])
    with pytest.raises(DataError, match=r"X lacks 'b'; Autoencoder was not fitted with 'd'. Pass the same columns"):
        fitted.transform(frame.rename(columns={"b": "d"}))


def test_counted_columns_in_another_order_are_put_in_theirs() -> None:
    frame = pd.DataFrame(X)
    fitted = small().fit(frame)
    np.testing.assert_array_equal(fitted.transform(frame[[2, 0, 1]]), fitted.transform(frame))


@pytest.mark.parametrize(
    "names", [["a", "b", "c"], [2020, 2021, 2022], ["a", 1, dt.date(2024, 1, 1)], [("a", 1), ("a", 2), ("b", 1)]]
)
def test_a_frame_of_codes_gives_a_frame_of_rows_also_after_loading(names: list[Any], tmp_path: Any) -> None:
    columns = pd.MultiIndex.from_tuples(names) if isinstance(names[0], tuple) else pd.Index(names)
    frame = pd.DataFrame(X, columns=columns, index=[f"r{row}" for row in range(len(X))])
    fitted = small().fit(frame)
    fitted.save(tmp_path / "m.safetensors")
    for model in (fitted, isthmus.load(tmp_path / "m.safetensors")):
        codes = pd.DataFrame(model.transform(frame), index=frame.index)
        rows = model.inverse_transform(codes)
        assert list(rows.columns) == [str(name) for name in names]
        assert rows.index.tolist() == frame.index.tolist()
        np.testing.assert_allclose(rows, model.reconstruct(frame), atol=1e-5)
        assert model.reconstruct(frame).columns.equals(frame.columns)


def test_a_polars_frame_of_codes_gives_a_polars_frame() -> None:
    fitted = small().fit(pl.DataFrame(X, schema=["a", "b", "c"]))
    rows = fitted.inverse_transform(pl.DataFrame(np.asarray(fitted.transform(pl.DataFrame(X, schema=["a", "b", "c"])))))
    assert isinstance(rows, pl.DataFrame)
    assert rows.columns == ["a", "b", "c"]


def test_a_generator_of_numpy_is_a_seed() -> None:
    assert seed_from(np.random.default_rng(3)) == seed_from(np.random.default_rng(3))
    codes = [small().set_params(random_state=np.random.default_rng(3)).fit(X).transform(X) for _ in range(2)]
    np.testing.assert_array_equal(codes[0], codes[1])


def test_the_cpu_may_be_numbered() -> None:
    assert small().set_params(device="cpu:0").fit(X).device_ == "cpu"


def test_an_imputer_gives_back_the_types_it_was_given() -> None:
    n = 60
    draw = np.random.default_rng(0)
    gone = np.arange(n) % 10 == 0
    numbers = draw.normal(50, 10, n).round(2)
    stars = pd.Series((numbers / 20).astype(int))
    frame = pd.DataFrame(
        {
            "x": numbers,
            "level": pd.Series(pd.Categorical(stars, ordered=True)).mask(gone),
            "lasts": pd.Series(pd.to_timedelta(numbers.round(), unit="s")).mask(gone),
            "half": pd.Series(numbers.astype(np.float16)).mask(gone),
            "price": pd.Series([Decimal(f"{x:.2f}") for x in numbers], dtype=object).mask(gone),
            "word": pd.Series(["NA" if g else "high" if x > 50 else "low" for g, x in zip(gone, numbers, strict=True)]),
            "text": pd.Series(["" if g else f"{x:.2f}" for g, x in zip(gone, numbers, strict=True)], dtype=object),
            "cut": pd.Series(pd.cut(numbers, 3)).mask(gone),
        }
    )
    filled = Imputer(random_state=0, max_epochs=1, n_members=1).fit_transform(frame)
    assert filled.dtypes.tolist() == frame.dtypes.tolist()
    assert not filled.isna().any().any()
    assert {type(cell) for cell in filled["price"]} == {Decimal}
    assert set(filled["word"]) == {"high", "low"}
    assert all(float(cell) > 0 for cell in filled["text"])
    assert filled.loc[~gone, "text"].tolist() == frame.loc[~gone, "text"].tolist()


def test_a_few_words_among_numbers_are_located() -> None:
    units = pd.DataFrame({"time": ["s", *map(str, range(9))], "flow": ["m3/h", *map(str, range(8)), "total"]})
    with pytest.raises(
        DataError, match=r"'time' \(.*, 1 of 10 cells are not numbers, the first in row 0\), 'flow'.*, 2 of 10"
    ):
        as_numeric(units)
    with pytest.raises(DataError, match=r"'word' \([a-z]+\);"):
        as_numeric(pd.DataFrame({"word": ["red", "green", "blue", "4"]}))


def test_a_seed_sequence_is_a_seed_and_what_is_none_is_named_by_its_type() -> None:
    assert seed_from(np.random.SeedSequence(3)) == seed_from(np.random.SeedSequence(3))
    assert seed_from(np.random.SeedSequence(3)) != seed_from(np.random.SeedSequence(4))
    with pytest.raises(ValueError, match="random_state=dict is not a seed; give an integer from 0"):
        seed_from({})  # type: ignore[arg-type]  # is refused
    with pytest.raises(ValueError, match="random_state=-1 is not a seed"):
        seed_from(-1)
