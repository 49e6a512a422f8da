"""An imputer fills holes with what the other cells lead one to expect, and changes nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from sklearn.utils.estimator_checks import parametrize_with_checks

import isthmus
from isthmus.data.tables import learn_schema
from isthmus.exceptions import DataError
from isthmus.tasks.imputation import Imputer, imputer_fit
from isthmus.tasks.imputation.imputer_fit import fresh_member
from isthmus.tasks.imputation.linear_base import LinearFill, learn_linear
from isthmus.tasks.imputation.masked_objective import hidden_copies, training_rows

FAST: dict[str, Any] = {"max_epochs": 1, "n_members": 2, "hidden_sizes": (16,), "code_size": 8, "random_state": 0}


def whole(n: int = 300) -> pd.DataFrame:
    """A table whose columns follow from each other."""
    draw = np.random.default_rng(0)
    x, level = draw.normal(size=n), draw.integers(0, 3, n)
    return pd.DataFrame(
        {
            "x": x,
            "y": (2 * x + level + 0.1 * draw.normal(size=n)).round(3),
            "word": np.array(["a", "b", "c"])[level],
            "count": (3 * level + draw.integers(0, 2, n)).astype(float),
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta((100 * x).astype(int), unit="D"),
            "name": [f"n{place}" for place in range(n)],
            "same": 1.5,
        }
    )


def holed(share: float = 0.2) -> pd.DataFrame:
    frame, draw = whole(), np.random.default_rng(1)
    for name in frame.columns.difference(["name"]):
        frame.loc[draw.random(len(frame)) < share, name] = None
    return frame


@pytest.fixture(autouse=True, scope="module")
def few_copies() -> Iterator[None]:
    """Train on a tenth of the rows that are usual."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(imputer_fit, "COPIES", 2_000)
        yield


@pytest.fixture(scope="module")
def fitted() -> Imputer:
    return Imputer(**FAST).fit(holed())


def test_only_missing_cells_change_and_none_is_left(fitted: Imputer) -> None:
    frame = holed()
    frame.index = frame.index + 5
    filled = fitted.transform(frame)
    assert filled.isna().sum().sum() == 0
    assert filled.dtypes.equals(frame.dtypes)
    assert filled.index.equals(frame.index)
    pd.testing.assert_frame_equal(filled.where(frame.notna(), None), frame)


def test_cells_are_filled_with_what_the_others_tell(fitted: Imputer) -> None:
    frame = holed()
    filled, true, gone = fitted.transform(frame), whole(), holed().isna()
    spread = true["y"].std()
    assert np.sqrt(((filled["y"] - true["y"])[gone["y"]] ** 2).mean()) < 0.5 * spread
    assert (filled["word"] == true["word"])[gone["word"]].mean() > 0.7
    assert (filled["same"] == 1.5).all()
    assert set(filled["count"]) <= set(true["count"])


def test_every_form_of_a_table_is_filled_alike(fitted: Imputer, tmp_path: Path) -> None:
    frame = holed()
    wanted = fitted.transform(frame)
    frame.to_parquet(tmp_path / "t.parquet")
    columns = {name: frame[name].astype(object).where(frame[name].notna(), None).tolist() for name in frame}
    forms = [pl.from_pandas(frame), pa.Table.from_pandas(frame), columns, tmp_path / "t.parquet"]
    for form in forms:
        filled = fitted.transform(form)
        for name in ("y", "word", "day"):
            cells = filled[name].to_pylist() if isinstance(filled, pa.Table) else list(filled[name])
            assert cells == pytest.approx(wanted[name].tolist()) if name == "y" else cells == wanted[name].tolist()
    arrays = fitted.transform({name: pa.array(values) for name, values in columns.items()})
    assert isinstance(arrays["word"], pa.Array)
    assert arrays["word"].to_pylist() == wanted["word"].tolist()


def test_arrays_are_filled_as_arrays() -> None:
    X = holed()[["x", "y", "count"]].to_numpy()
    filled = Imputer(**FAST).fit_transform(X)
    assert not np.isnan(filled).any()
    np.testing.assert_array_equal(filled[~np.isnan(X)], X[~np.isnan(X)])


def test_what_is_not_linear_is_left_to_the_autoencoders() -> None:
    draw = np.random.default_rng(0)
    x = draw.uniform(-2, 2, 600)
    table = {"x": x, "square": np.where(draw.random(600) < 0.2, np.nan, x**2)}
    gone = np.isnan(table["square"])
    imputer = Imputer(n_members=2, hidden_sizes=(32,), max_epochs=25, learning_rate=0.005, random_state=0).fit(table)
    error = (imputer.transform(table)["square"] - x**2)[gone]
    assert imputer.share_["numbers"] > 0.5
    assert (error**2).mean() < 0.3 * (x**2).var()


def test_columns_that_tell_nothing_are_filled_with_their_mean() -> None:
    noise = np.random.default_rng(0).normal(size=(400, 3))
    X = np.where(np.random.default_rng(1).random((400, 3)) < 0.2, np.nan, noise)
    filled = Imputer(**FAST).fit_transform(X)[np.isnan(X)]
    assert np.abs(filled).max() < 0.6


def test_a_rare_level_is_never_put_into_a_cell() -> None:
    words = ["a"] * 100 + ["b"] * 90 + [f"r{place}" for place in range(60)] + [None] * 50
    filled = Imputer({"w": "categorical"}, **FAST).fit_transform({"w": words, "x": list(range(300))})
    assert set(filled["w"][-50:]) <= {"a", "b"}


def test_a_loaded_imputer_fills_as_the_saved_one(fitted: Imputer, tmp_path: Path) -> None:
    again = isthmus.load(fitted.save(tmp_path / "imputer.safetensors"))
    pd.testing.assert_frame_equal(again.transform(holed()), fitted.transform(holed()))
    assert again.share_ == fitted.share_
    assert again.get_params() == {**fitted.get_params(), "hidden_sizes": (16,)}


def test_the_same_seed_gives_the_same_cells(fitted: Imputer) -> None:
    pd.testing.assert_frame_equal(Imputer(**FAST).fit(holed()).transform(holed()), fitted.transform(holed()))


def test_rows_may_be_few_and_columns_empty(tmp_path: Path) -> None:
    assert Imputer(**FAST).fit_transform({"x": [1.5], "y": [None]}) == {"x": [1.5], "y": [None]}
    two = Imputer(**FAST).fit_transform({"x": [1.0, 2.0, None], "y": [2.0, 4.0, 6.0], "gone": [None] * 3})
    assert two["gone"] == [None] * 3
    constant = Imputer(**FAST).fit({"x": [1.5, None]})
    again = isthmus.load(constant.save(tmp_path / "c.safetensors"))
    assert constant.transform({"x": [None]}) == again.transform({"x": [None]}) == {"x": [1.5]}
    assert constant.share_ == {}
    assert 0.5 < two["x"][2] < 4.0
    assert Imputer(**FAST).fit(whole()).transform(whole()[:0]).shape == (0, 7)


def test_of_many_rows_a_sample_is_learned_from() -> None:
    imputer = Imputer(**FAST, max_rows=50).fit(holed())
    assert imputer.transform(holed()).isna().sum().sum() == 0


def test_wide_tables_do_without_the_linear_path() -> None:
    X = np.random.default_rng(0).normal(size=(30, 210))
    X[::3, 5] = np.nan
    imputer = Imputer(**FAST).fit(X)
    assert imputer.model_ is not None
    assert imputer.model_.linear is None
    assert not np.isnan(imputer.transform(X)).any()


def test_what_cannot_be_used_is_refused(fitted: Imputer) -> None:
    with pytest.raises(ValueError, match=r"(?s)2 parameters.*n_members=0 must be.*most_hidden=0 must be"):
        Imputer(n_members=0, most_hidden=0).fit(holed())
    with pytest.raises(DataError, match="X is an array, but this Imputer was fitted on a table with names"):
        fitted.transform(np.zeros((2, 7)))
    with pytest.raises(DataError, match="Column 'x' is missing; add it"):
        fitted.transform(holed().drop(columns="x"))
    with pytest.raises(DataError, match="infinite values"):
        fitted.transform(holed().assign(x=np.inf))
    with pytest.raises(DataError, match="Reshape your data"):
        Imputer().fit(np.zeros(3))


# -- the linear path ---------------------------------------------------------------------------------------------------


def test_the_linear_path_is_the_conditional_expectation_of_a_normal() -> None:
    draw = torch.Generator().manual_seed(0)
    root = torch.randn(4, 4, dtype=torch.float64, generator=draw)
    mean, covariance = torch.arange(4.0, dtype=torch.float64), root @ root.T
    x = torch.tensor([[1.0, torch.nan, 0.5, torch.nan]], dtype=torch.float64)
    seen, gone = [0, 2], [1, 3]
    weights = covariance[gone][:, seen] @ torch.linalg.inv(covariance[seen][:, seen])
    wanted = mean[gone] + weights @ (x[0, seen] - mean[seen])
    torch.testing.assert_close(LinearFill(mean, covariance, ridge=0.0)(x)[0, gone], wanted)


def test_mean_and_covariance_are_learned_through_holes() -> None:
    draw = torch.Generator().manual_seed(0)
    root = torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.3, 0.0], [-0.5, 0.5, 0.7]], dtype=torch.float64)
    x = torch.randn(2000, 3, dtype=torch.float64, generator=draw) @ root.T + 1.0
    fill = learn_linear(x.masked_fill(torch.rand(x.shape, generator=draw) < 0.3, torch.nan), draw)
    assert fill is not None
    torch.testing.assert_close(fill.covariance, root @ root.T, atol=0.1, rtol=0)
    torch.testing.assert_close(fill.mean, torch.ones(3, dtype=torch.float64), atol=0.1, rtol=0)


def test_copies_hide_whole_columns_and_one_cell_at_least() -> None:
    x, owners = torch.randn(50, 5), torch.tensor([0, 1, 1, 1, 2])
    generator = torch.Generator().manual_seed(0)
    left, hidden = hidden_copies(x, owners, n_copies=4, most=0.5, generator=generator)
    gone = torch.isnan(left)
    torch.testing.assert_close(left.nan_to_num() + hidden.nan_to_num(), x.repeat(4, 1))
    assert (gone != torch.isnan(hidden)).all()
    assert (gone[:, 1] == gone[:, 3]).all()
    assert gone.any(1).all()


def test_an_autoencoder_learns_what_the_linear_path_leaves_of_hidden_cells_and_any_engine_may_train_it() -> None:
    schema = learn_schema({"x": [0.0, 1.0, 2.0], "word": ["a", "b", "a"]}, None, heavy_tails=False)
    member = fresh_member(schema, (4,), 2, seed=0)
    assert member.follows_choices
    given = torch.randn(6, schema.width + 2)
    hidden = torch.randn(6, schema.width).masked_fill(torch.rand(6, schema.width) < 0.4, torch.nan)
    errors = (hidden - given[:, : schema.width]).square()  # its last weights are zero, so it adds nothing yet
    torch.testing.assert_close(member(training_rows(given, hidden)).total, errors.nanmean())
    torch.testing.assert_close(member.restored(given), given[:, : schema.width])


@parametrize_with_checks([Imputer(**FAST)])  # type: ignore[untyped-decorator]  # scikit-learn has no types
def test_scikit_learn_accepts_it(estimator: Any, check: Any) -> None:
    check(estimator)
