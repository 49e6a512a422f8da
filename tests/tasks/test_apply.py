"""`Apply`: a saved model on parts of a table."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from isthmus import AnomalyDetector, Apply, Autoencoder, DataError, ModelFileError, load

rng = np.random.default_rng(0)
N = 90
MIXED = pd.DataFrame(
    {
        "id": [f"row {place}" for place in range(N)],
        "amount": rng.normal(50, 10, N),
        "country": rng.choice(["Chile", "Peru"], N),
        "paid": rng.random(N) < 0.5,
    }
)
NUMBERS = pd.DataFrame(rng.normal(size=(N, 3)), columns=["a", "b", "c"]).assign(id=np.arange(N) + 2**53)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("apply") / "detector.safetensors"
    AnomalyDetector(max_steps=20, random_state=0).fit(MIXED.drop(columns="id")).save(path)
    return path


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("apply") / "model.safetensors"
    Autoencoder(2, max_epochs=2, random_state=0).fit(NUMBERS.drop(columns="id")).save(path)
    return path


def test_scores_of_parts_are_those_of_the_whole_table_with_every_id_once(detector: Path) -> None:
    apply = pickle.loads(pickle.dumps(Apply(detector, "score_samples", keep=["id"])))
    parts = [apply(MIXED.iloc[start : start + 20]) for start in range(0, N, 20)]
    whole = pd.concat(parts)
    assert whole["id"].tolist() == MIXED["id"].tolist()
    assert whole.index.equals(MIXED.index)
    # products of matrices of other sizes differ in the last bit
    wanted = load(detector).score_samples(MIXED.drop(columns="id"))
    np.testing.assert_allclose(whole["score_samples"], wanted, rtol=1e-12)


@pytest.mark.parametrize("method", ["score_samples", "predict", "explain"])
def test_an_empty_part_has_the_columns_and_dtypes_of_the_others(detector: Path, method: str) -> None:
    apply = Apply(detector, method, keep=["id"])
    some, none = apply(MIXED.head(3)), apply(MIXED.head(0))
    assert len(none) == 0
    pd.testing.assert_series_equal(none.dtypes, some.dtypes)


def test_an_empty_part_that_lost_its_types_has_the_same_columns(detector: Path, autoencoder: Path) -> None:
    assert [*Apply(detector, "predict", ["id"])(pd.DataFrame(columns=MIXED.columns)).columns] == ["id", "predict"]
    codes = Apply(autoencoder, "transform")(pd.DataFrame(columns=["a", "b", "c"]))
    assert codes.shape == (0, 2)


def test_arrow_and_mappings_come_back_as_they_came(autoencoder: Path) -> None:
    apply = Apply(autoencoder, "transform", keep=["id"])
    wanted = load(autoencoder).transform(NUMBERS.drop(columns="id"))
    arrow = apply(pa.Table.from_pandas(NUMBERS))
    assert isinstance(arrow, pa.Table)
    assert arrow["id"].to_pylist() == NUMBERS["id"].tolist()  # beyond 2**53: they were never floats
    np.testing.assert_array_equal(arrow["autoencoder1"].to_numpy(), wanted[:, 1])
    mapping = apply({name: NUMBERS[name].to_numpy() for name in NUMBERS})
    np.testing.assert_array_equal(mapping["autoencoder0"], wanted[:, 0])


def test_reconstructions_have_the_names_of_the_columns(autoencoder: Path) -> None:
    answer = Apply(autoencoder, "reconstruct", keep=["id"])(NUMBERS.head(4))
    assert [*answer.columns] == ["id", "a", "b", "c"]
    np.testing.assert_array_equal(
        answer[["a", "b", "c"]], load(autoencoder).reconstruct(NUMBERS.head(4)[["a", "b", "c"]])
    )


def test_a_file_that_was_written_again_is_loaded_again(autoencoder: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    load(autoencoder).save(path)
    apply = Apply(path, "transform")
    rows = NUMBERS[["a", "b", "c"]]
    before = apply(rows)
    Autoencoder(2, max_epochs=3, random_state=5).fit(rows).save(path)
    assert not np.allclose(apply(rows), before)


def test_columns_in_another_order_give_the_same_scores(detector: Path) -> None:
    apply = Apply(detector, "score_samples", keep=["id"])
    pd.testing.assert_frame_equal(apply(MIXED[["paid", "id", "country", "amount"]]), apply(MIXED), rtol=1e-12)


def test_nothing_is_written_to_the_part(detector: Path) -> None:
    given = MIXED.copy()
    Apply(detector, "predict", keep=["id"])(given)
    pd.testing.assert_frame_equal(given, MIXED)


def test_wrong_names_are_one_error(autoencoder: Path) -> None:
    with pytest.raises(ValueError, match="has no column \\['key'\\]; it has \\['a'"):
        Apply(autoencoder, "transform", keep=["key"])(NUMBERS)
    with pytest.raises(ValueError, match="names columns of the answer: \\['autoencoder0'\\]"):
        Apply(autoencoder, "transform", keep=["id", "autoencoder0"])(NUMBERS.assign(autoencoder0=1))
    with pytest.raises(ValueError, match="more than one column named \\['a'\\]"):
        Apply(autoencoder, "transform")(NUMBERS[["a", "a", "b"]])


@pytest.mark.parametrize(
    ("change", "of_autoencoder", "of_detector"),
    [
        (lambda t, name: t.drop(columns=name), "X lacks 'a'. Pass the same", "Column 'amount' is missing; add it."),
        (
            lambda t, name: t.assign(new=1.0),
            "Autoencoder was not fitted with 'new'. Pass the same",
            "Column 'new' was not present when the schema was learned; drop them",
        ),
        (
            lambda t, name: t.rename(columns={name: "new"}),
            "X lacks 'a'; Autoencoder was not fitted with 'new'. Pass the same",
            "The table has 2 errors:\n  Column 'amount' is missing; add it.\n  Column 'new' was not present",
        ),
    ],
    ids=["missing", "extra", "renamed"],
)
def test_a_part_with_other_columns_is_told_which(
    autoencoder: Path, detector: Path, change: Any, of_autoencoder: str, of_detector: str
) -> None:
    encode, score = (Apply(autoencoder, "transform", keep=["id"]), Apply(detector, "score_samples", keep=["id"]))
    cases = ((encode, change(NUMBERS, "a"), of_autoencoder), (score, change(MIXED, "amount"), of_detector))
    for apply, rows, text in cases:
        for part in (rows, rows.head(0)):  # an empty part with wrong names is as wrong
            with pytest.raises(DataError, match=re.escape(text)):
                apply(part)


def test_what_cannot_be_applied_is_refused(autoencoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Unknown method 'encode'"):
        Apply(autoencoder, "encode")
    with pytest.raises(TypeError, match="keep='id' is one text; give a list of column names: keep=\\['id'\\]"):
        Apply(autoencoder, "transform", keep="id")
    with pytest.raises(TypeError, match=r"Autoencoder of .* has no 'explain'; it has reconstruct, "):
        Apply(autoencoder, "explain")(NUMBERS)
    with pytest.raises(TypeError, match="but got ndarray"):
        Apply(autoencoder, "transform")(NUMBERS.to_numpy())
    with pytest.raises(ModelFileError, match=r"missing\.safetensors"):
        Apply(tmp_path / "missing.safetensors", "transform")(NUMBERS)
