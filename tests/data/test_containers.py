"""Containers of other libraries give the numbers of the same rows as an array or a frame, in their order, or refuse."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pytest
import scipy.sparse
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import isthmus
from isthmus.data.containers import unwrapped
from isthmus.exceptions import DataError

DRAW = np.random.default_rng(0)
ROWS = DRAW.normal(size=(40, 4)) @ DRAW.normal(size=(4, 4))
NAMES = [*"abcd"]
FRAME = pd.DataFrame(ROWS, columns=NAMES)
HOLES = FRAME.mask(DRAW.random(FRAME.shape) < 0.1)
ORDER = np.random.default_rng(1).permutation(40)
TENSOR = torch.from_numpy(ROWS)
LABELS = torch.arange(40)
QUICK: dict[str, Any] = {"max_epochs": 2, "random_state": 0}
MODEL = isthmus.Autoencoder(2, **QUICK).fit(FRAME)
BARE = isthmus.Autoencoder(2, **QUICK).fit(ROWS)


class Rows(Dataset[Any]):
    """A data set of one's own."""

    def __init__(self, item: Callable[[int], Any] = lambda place: ROWS[place]) -> None:
        self.item = item

    def __len__(self) -> int:
        return len(ROWS)

    def __getitem__(self, place: int) -> Any:
        return self.item(place)


def hugging_face(frame: pd.DataFrame = FRAME) -> Any:
    return pytest.importorskip("datasets").Dataset.from_pandas(frame, preserve_index=False)


def cells(X: Any = ROWS, names: list[str] = NAMES) -> Any:
    anndata = pytest.importorskip("anndata")
    made = anndata.AnnData(X)
    made.var_names = names
    return made


TABLES: dict[str, Callable[[pd.DataFrame], Any]] = {
    "polars": pl.from_pandas,
    "polars, lazy": lambda frame: pl.from_pandas(frame).lazy(),
    "Arrow table": lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
    "Arrow batch": lambda frame: pa.RecordBatch.from_pandas(frame, preserve_index=False),
    "Arrow dataset": lambda frame: pa.dataset.dataset(pa.Table.from_pandas(frame, preserve_index=False)),
    "Hugging Face": hugging_face,
    "Hugging Face, selected": lambda frame: hugging_face(frame.iloc[ORDER]).select(np.argsort(ORDER)),
    "AnnData": lambda frame: cells(frame.to_numpy(), list(frame.columns)),
    "AnnData, view": lambda frame: cells(np.vstack([frame, frame]), list(frame.columns))[: len(frame)],
}
every_table = pytest.mark.parametrize("kind", TABLES)


@every_table
def test_tables_give_the_numbers_of_the_frame(kind: str) -> None:
    table = TABLES[kind](FRAME)
    model = isthmus.Autoencoder(2, **QUICK).fit(table)
    assert list(model.feature_names_in_) == NAMES
    np.testing.assert_array_equal(model.transform(table), MODEL.transform(FRAME))
    np.testing.assert_array_equal(np.asarray(MODEL.reconstruct(table)), MODEL.reconstruct(FRAME))
    assert MODEL.score(table) == MODEL.score(FRAME)
    more = [copy.deepcopy(MODEL).partial_fit(X).transform(FRAME) for X in (table, FRAME)]
    np.testing.assert_array_equal(more[0], more[1])


@every_table
def test_columns_of_tables_go_by_name(kind: str) -> None:
    turned = TABLES[kind](FRAME[[*"dacb"]])
    np.testing.assert_array_equal(MODEL.transform(turned), MODEL.transform(FRAME))
    restored = MODEL.reconstruct(turned)
    assert list(restored.columns) == NAMES  # in the order of fit, as of a frame
    np.testing.assert_array_equal(np.asarray(restored), MODEL.reconstruct(FRAME))
    with pytest.raises(DataError, match="X lacks 'b'; Autoencoder was not fitted with 'x'"):
        MODEL.transform(TABLES[kind](FRAME.rename(columns={"b": "x"})))


@every_table
def test_missing_cells_of_tables_are_those_of_the_frame(kind: str) -> None:
    table = TABLES[kind](HOLES)
    with pytest.raises(DataError, match=f"X has {int(HOLES.isna().sum().sum())} NaN"):
        isthmus.Autoencoder(2, **QUICK).fit(table)
    observed = [isthmus.Autoencoder(2, loss="observed", **QUICK).fit(X).transform(X) for X in (table, HOLES)]
    np.testing.assert_array_equal(*observed)
    filled = [isthmus.Imputer(n_members=1, **QUICK).fit(X).transform(X) for X in (table, HOLES)]
    np.testing.assert_array_equal(np.asarray(pd.DataFrame(_frame(filled[0]))), np.asarray(filled[1]))


def _frame(filled: Any) -> Any:
    return filled.to_pandas() if hasattr(filled, "to_pandas") else filled


@every_table
def test_tasks_take_the_tables_too(kind: str) -> None:
    detector = isthmus.AnomalyDetector(0.1, max_steps=20, random_state=0)
    expected = detector.fit(pa.Table.from_pandas(FRAME)).score_samples(FRAME)  # a table in the same way
    table = TABLES[kind](FRAME)
    np.testing.assert_allclose(detector.score_samples(table), expected, rtol=1e-6)
    assert np.isfinite(detector.fit(table).score_samples(table)).all()
    sampler = isthmus.TableSampler(hidden_sizes=(4,), code_size=2, **QUICK).fit(table)
    assert list(sampler.feature_names_in_) == NAMES
    schemas = [isthmus.learn_schema(each).to_json() for each in (table, FRAME)]
    assert [column["name"] for column in schemas[0]["columns"]] == [column["name"] for column in schemas[1]["columns"]]
    encoder = isthmus.EncoderClassifier(isthmus.Autoencoder(2, **QUICK), max_epochs=2, random_state=0)
    found = [encoder.fit(X, np.arange(40) % 2).predict_proba(X) for X in (table, FRAME)]
    np.testing.assert_array_equal(found[0], found[1])
    pairs = ((table, TABLES[kind](-FRAME)), (FRAME, -FRAME))
    pair = [isthmus.Autoencoder(2, **QUICK).fit(X, target=target).transform(X) for X, target in pairs]
    np.testing.assert_array_equal(*pair)


TORCH: dict[str, Callable[[], Any]] = {
    "tensors": lambda: TensorDataset(TENSOR),
    "tensors with labels": lambda: TensorDataset(TENSOR, LABELS),
    "own": Rows,
    "own, tensors": lambda: Rows(lambda place: TENSOR[place]),
    "own, with labels": lambda: Rows(lambda place: (ROWS[place], place % 3)),
    "subset": lambda: Subset(TensorDataset(TENSOR[ORDER]), np.argsort(ORDER).tolist()),
    "loader": lambda: DataLoader(TensorDataset(TENSOR), batch_size=7),
    "loader of arrays": lambda: DataLoader(ROWS, batch_size=7),  # type: ignore[arg-type]  # it has a length
    "loader, shuffling": lambda: DataLoader(TensorDataset(TENSOR, LABELS), batch_size=7, shuffle=True),
    "loader, last batch dropped": lambda: DataLoader(Rows(), batch_size=7, drop_last=True),
    "loader, own batches": lambda: DataLoader(Rows(), batch_size=7, collate_fn=np.stack),
    "loader of batches": lambda: DataLoader([TENSOR[:9], TENSOR[9:]], batch_size=None),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("kind", TORCH)
def test_rows_of_torch_come_in_the_order_of_the_data_set(kind: str) -> None:
    model = isthmus.Autoencoder(2, **QUICK).fit(TORCH[kind]())
    np.testing.assert_array_equal(model.transform(ROWS), BARE.transform(ROWS))
    np.testing.assert_array_equal(np.asarray(BARE.transform(TORCH[kind]())), BARE.transform(ROWS))
    np.testing.assert_array_equal(np.asarray(BARE.reconstruct(TORCH[kind]())), BARE.reconstruct(ROWS))


def test_images_of_a_data_set_keep_their_shape() -> None:
    images = DRAW.random((8, 6, 5)).astype(np.float32)
    data = TensorDataset(torch.from_numpy(images), torch.arange(8))
    model = isthmus.Autoencoder(2, **QUICK).fit(DataLoader(data, batch_size=3))
    assert model.feature_shape_ == (6, 5)
    wanted = isthmus.Autoencoder(2, **QUICK).fit(images).transform(images)
    np.testing.assert_array_equal(model.transform(images), wanted)


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        while True:
            yield TENSOR[0]


def batches() -> BatchSampler:
    return BatchSampler(SubsetRandomSampler(range(5)), 2, drop_last=False)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "endless": (Endless, r"torch Endless, which yields its rows once, or without end, .* np\.concatenate\(list"),
    "endless loader": (lambda: DataLoader(Endless(), batch_size=4), "torch Endless, which yields its rows once"),
    "generator": (lambda: (row for row in ROWS), "X is a generator, which yields its rows once"),
    "chosen": (
        lambda: DataLoader(TensorDataset(TENSOR), sampler=SubsetRandomSampler(range(5))),
        r"DataLoader with a SubsetRandomSampler, which chooses among the rows; .*torch\.utils\.data\.Subset",
    ),
    "chosen in batches": (lambda: DataLoader(Rows(), batch_sampler=batches()), "with a SubsetRandomSampler, which"),
    "weighted": (
        lambda: DataLoader(Rows(), sampler=WeightedRandomSampler([1.0] * 40, 40)),
        "with a WeightedRandomSampler, which chooses",
    ),
    "repeated": (
        lambda: DataLoader(Rows(), sampler=RandomSampler(Rows(), replacement=True)),
        "with a RandomSampler, which chooses",
    ),
    "targets": (
        lambda: TensorDataset(TENSOR, -TENSOR),
        r"TensorDataset of rows with targets of shape \(4,\); labels, .* pass rows and targets apart, fit\(X, target=",
    ),
    "targets in a loader": (lambda: DataLoader(TensorDataset(TENSOR, -TENSOR)), r"with targets of shape \(4,\)"),
    "targets in a set": (lambda: Rows(lambda place: (ROWS[place], -ROWS[place])), r"with targets of shape \(4,\)"),
    "keys": (lambda: Rows(lambda place: {"pixels": ROWS[place]}), "whose items have the keys 'pixels'; pass the rows"),
    "ragged": (lambda: Rows(lambda place: ROWS[place, : 2 + place % 2]), "different lengths"),
    "reader": (
        lambda: pa.Table.from_pandas(FRAME).to_reader(),
        r"an Arrow RecordBatchReader, which yields its rows once; pass its table, X\.read_all",
    ),
    "parts": (
        lambda: pytest.importorskip("datasets").DatasetDict({"train": hugging_face(), "test": hugging_face()}),
        r"X is a DatasetDict of train, test; pass one of them, such as X\['train'\]",
    ),
    "stream": (lambda: hugging_face().to_iterable_dataset(), "a datasets IterableDataset, which streams its rows"),
    "no X": (
        lambda: pytest.importorskip("anndata").AnnData(obs=FRAME.set_axis([str(each) for each in FRAME.index])),
        "an AnnData without X; pass the layer",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("verb", ["fit", "transform", "detector", "imputer"])
def test_what_is_not_clearly_rows_is_refused_with_the_remedy(case: str, verb: str) -> None:
    make, words = REFUSED[case]
    call: Callable[[Any], Any] = {
        "fit": isthmus.Autoencoder(2, **QUICK).fit,
        "transform": BARE.transform,
        "detector": isthmus.AnomalyDetector(0.1, max_steps=5).fit,
        "imputer": isthmus.Imputer().fit,
    }[verb]
    with pytest.raises((TypeError, DataError), match=words):
        call(make())


@pytest.mark.filterwarnings("ignore:Casting to a scipy.sparse matrix")
@pytest.mark.parametrize("kind", [scipy.sparse.csr_matrix, scipy.sparse.csc_matrix, scipy.sparse.csr_array])
def test_sparse_annotated_data_stay_sparse_and_go_by_name(kind: Callable[[np.ndarray], Any]) -> None:
    counts = np.random.default_rng(3).poisson(0.5, (40, 4)).astype(np.float32)
    data = cells(kind(counts))
    assert scipy.sparse.issparse(unwrapped(data))
    model = isthmus.Autoencoder(2, **QUICK).fit(data)
    assert list(model.feature_names_in_) == NAMES
    plain = scipy.sparse.csr_array(counts)
    wanted = isthmus.Autoencoder(2, **QUICK).fit(plain).transform(plain)
    np.testing.assert_array_equal(model.transform(data), wanted)
    np.testing.assert_array_equal(model.transform(data[:, [*"cadb"]]), wanted)
    with pytest.raises(DataError, match="X lacks 'b', 'c', 'd'"):
        model.transform(data[:, ["a"]])
    data.obsm["X_isthmus"] = model.transform(data)  # as the docs say
    np.testing.assert_array_equal(data.obsm["X_isthmus"], wanted)


class Both(isthmus.Source, Dataset[Any]):
    """A source that loaders of torch take too."""

    n_rows, feature_shape, dtype = len(ROWS), (4,), ROWS.dtype

    def read(self, rows: Any) -> np.ndarray:
        return np.asarray(ROWS[rows])


def test_a_source_stays_one_though_it_is_a_data_set_of_torch() -> None:
    source = Both()
    assert unwrapped(source) is source
    np.testing.assert_array_equal(BARE.transform(source), BARE.transform(ROWS))


def test_an_empty_data_set_has_no_rows() -> None:
    with pytest.raises(DataError, match="0 sample"):
        isthmus.Autoencoder(2).fit(Subset(Rows(), []))
