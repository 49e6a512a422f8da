"""Containers of the libraries around, as the arrays, frames and tables that all doors take; none is imported for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
)

from isthmus.data.sources import Source


def unwrapped(X: Any) -> Any:
    """The rows of a container in memory, in their order; all other data are returned as they are.

    ========================================== ======================================================
    polars LazyFrame                           its frame
    Hugging Face ``Dataset``                   its Arrow table, after ``select``, ``filter``, ``shuffle``
    AnnData                                    its ``X``: a frame with names of cells and variables, or CSR
    torch ``Dataset`` of rows or (row, label)  the rows
    torch ``DataLoader``                       the rows of its data set, in the order of the data set
    ========================================== ======================================================

    Raises
    ------
    TypeError
        The container yields rows once or without end, chooses among rows, pairs them with targets, or has several
        parts, so that it is not clear which rows are meant.

    Examples
    --------
    >>> unwrapped(TensorDataset(torch.ones(3, 2), torch.arange(3))).shape
    torch.Size([3, 2])
    """
    kind = type(X).__name__
    package = type(X).__module__.partition(".")[0]
    if isinstance(X, Source):
        return X  # which may be a torch data set too
    if package == "datasets":
        return _table_of_hugging_face(X)  # before torch: the streams of this library are torch's too
    if isinstance(X, DataLoader):
        return _rows_of_loader(X)
    if isinstance(X, Dataset):
        return _rows_of_dataset(X)
    if package == "polars" and kind == "LazyFrame":
        return X.collect()
    if package == "pyarrow" and kind == "RecordBatchReader":
        raise TypeError("X is an Arrow RecordBatchReader, which yields its rows once; pass its table, X.read_all().")
    return _matrix_of_anndata(X) if package == "anndata" and hasattr(X, "var_names") else X


def names_columns(X: Any) -> bool:
    """Whether data are a container of named columns, which `unwrapped` makes a table.

    >>> names_columns(TensorDataset(torch.ones(3, 2)))
    False
    """
    kind, package = type(X).__name__, type(X).__module__.partition(".")[0]
    dense = package == "anndata" and not scipy.sparse.issparse(getattr(X, "X", None))
    return dense or package == "datasets" or (package == "polars" and kind == "LazyFrame")


# -- tables ------------------------------------------------------------------------------------------------------------


def _table_of_hugging_face(X: Any) -> Any:
    if isinstance(X, Mapping):
        parts = [str(name) for name in X]
        raise TypeError(f"X is a {type(X).__name__} of {', '.join(parts)}; pass one of them, such as X[{parts[0]!r}].")
    if isinstance(X, IterableDataset) or not hasattr(X, "with_format"):
        raise TypeError(
            f"X is a datasets {type(X).__name__}, which streams its rows, but they are read several times; pass a "
            "Dataset: datasets.Dataset.from_list(list(X.take(n)))."
        )
    return X.with_format("arrow")[:]  # unlike X.data.table in the order of select, filter and shuffle


class NamedMatrix(scipy.sparse.csr_array):
    """A CSR matrix with the names of its columns."""

    feature_names: tuple[str, ...]


def _matrix_of_anndata(X: Any) -> Any:
    import pandas as pd  # noqa: PLC0415  # slow to import, and needed only here

    values = X.X
    if values is None:
        raise TypeError("X is an AnnData without X; pass the layer that is meant, such as X.layers['counts'].")
    if scipy.sparse.issparse(values):
        named: NamedMatrix = NamedMatrix(values)  # type: ignore[call-overload]  # any sparse matrix
        named.feature_names = tuple(map(str, X.var_names))
        return named
    if not isinstance(values, np.ndarray):
        raise TypeError(f"X is an AnnData whose X is a {type(values).__name__}; read it into memory: X.to_memory().")
    return pd.DataFrame(np.asarray(values), index=X.obs_names, columns=list(map(str, X.var_names)))


# -- torch -------------------------------------------------------------------------------------------------------------


def _rows_of_loader(loader: DataLoader[Any]) -> Any:
    if isinstance(loader.dataset, IterableDataset):
        _refuse_stream(loader.dataset)
    chooses = _choosing(loader)
    if chooses is not None:
        raise TypeError(
            f"X is a torch DataLoader with a {type(chooses).__name__}, which chooses among the rows; pass the "
            "rows that are meant: torch.utils.data.Subset(dataset, indices)."
        )
    ordered: DataLoader[Any] = DataLoader(
        loader.dataset,
        batch_size=loader.batch_size,
        collate_fn=loader.collate_fn,
        num_workers=loader.num_workers,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
    )
    return _joined([_row_of(batch, f"DataLoader over a {type(loader.dataset).__name__}", 1) for batch in ordered])


def _choosing(loader: DataLoader[Any]) -> Any:
    """The sampler of a loader, if it takes other than all rows once; None if it takes these, in any order."""
    batches = loader.batch_sampler
    if batches is not None and type(batches) is not BatchSampler:
        return batches
    sampler: Any = loader.sampler if batches is None else batches.sampler
    if isinstance(sampler, RandomSampler) and (sampler.replacement or sampler.num_samples != len(sampler.data_source)):
        return sampler
    return None if type(sampler) in (RandomSampler, SequentialSampler) else sampler


def _rows_of_dataset(dataset: Dataset[Any]) -> Any:
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        _refuse_stream(dataset)
    name = type(dataset).__name__
    if isinstance(dataset, TensorDataset):
        return _row_of(dataset.tensors, name, 1)
    items = (dataset[place] for place in range(len(dataset)))  # type: ignore[arg-type]  # it has a length
    rows = [_row_of(item, name, 0) for item in items]
    if len({np.shape(row) for row in rows}) != 1:
        return rows or np.empty((0, 0))
    same = all(isinstance(row, torch.Tensor) for row in rows)
    return torch.stack(rows) if same else np.stack([np.asarray(row) for row in rows])


def _refuse_stream(dataset: Any) -> None:
    raise TypeError(
        f"X is a torch {type(dataset).__name__}, which yields its rows once, or without end, but they are read several "
        "times; pass np.concatenate(list(batches)), or subclass isthmus.Source if the data do not fit into memory."
    )


def _row_of(item: Any, name: str, n_batch: int) -> Any:
    """The rows of an item or, with ``n_batch=1``, of a batch; labels behind them are ignored, as y is by `fit`."""
    if isinstance(item, Mapping):
        keys = ", ".join(map(repr, item))
        raise TypeError(f"X is a torch {name} whose items have the keys {keys}; pass the rows: X of one of these keys.")
    if not isinstance(item, tuple | list):
        return item
    row, *others = item
    shapes = [tuple(map(int, np.shape(other))) for other in others]
    if any(len(shape) > n_batch for shape in shapes):
        raise TypeError(
            f"X is a torch {name} of rows with targets of shape {max(shapes, key=len)[n_batch:]}; labels, one number "
            "per row, are ignored, but targets are not: pass rows and targets apart, fit(X, target=…)."
        )
    return row


def _joined(batches: list[Any]) -> Any:
    if all(isinstance(batch, torch.Tensor) for batch in batches) and batches:
        return torch.cat(batches)
    return np.concatenate([np.asarray(batch) for batch in batches]) if batches else np.empty((0, 0))
