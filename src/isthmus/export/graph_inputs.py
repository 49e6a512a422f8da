"""Inputs of exported graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute
from sklearn.utils.validation import check_is_fitted

from isthmus.data.tables.cells import Cells, moments, numbers
from isthmus.data.tables.columns import Column, Datetime
from isthmus.data.tables.errors import raised_together
from isthmus.data.tables.opening import open_table
from isthmus.estimators.targets import target_of
from isthmus.export.table_columns import takes_text


def onnx_inputs(model: Any, X: Any, *, target: Any = None) -> dict[str, np.ndarray]:
    """Convert rows to the inputs of a graph written by `export_onnx`, by input name.

    A detector of tables has one input per column in use, (n,): text as strings, with "" for a missing cell; all other
    columns as float64, with NaN for a missing cell and dates as microseconds since 1970 in UTC. Other models have one
    input ``X``.

    Parameters
    ----------
    model
        A fitted model.
    X
        Rows in any form that the model accepts.
    target
        Their targets, for the ``"score_samples"`` of a model that was fitted with a target.

    Examples
    --------
    >>> from isthmus import AnomalyDetector
    >>> table = {"age": [31.5, 48.0, None, 27.25], "town": ["Ulm", None, "Bonn", "Bonn"]}
    >>> detector = AnomalyDetector(max_steps=1, random_state=0).fit(table)
    >>> {name: array.tolist() for name, array in onnx_inputs(detector, table).items()}
    {'age': [31.5, 48.0, nan, 27.25], 'town': ['Ulm', '', 'Bonn', 'Bonn']}
    """
    check_is_fitted(model)
    if not hasattr(model, "schema_"):
        if not hasattr(model, "objective_"):
            return {"X": _plain(X).astype(np.float64)}
        found = {"X": _as_example(_plain(X), in_bytes=model.scaling_.name == "pixels")}
        known = target_of(model)
        if target is not None and known is None:
            raise ValueError(f"This {type(model).__name__} was fitted without a target; leave target out.")
        if target is not None and known is not None:
            found["target"] = _as_example(_plain(target), in_bytes=known.is_bytes)
        return found
    opened = open_table(X)
    model.schema_.check(opened)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in model.schema_.used}
    with raised_together() as errors:
        for piece in opened.pieces(model.schema_.used, errors):
            for name, cells in piece.columns.items():
                parts[name].append(_raw(model.schema_[name], Cells(name, cells, piece.told, errors)))
    return {name: np.concatenate(found) if found else np.empty(0) for name, found in parts.items()}


def _plain(X: Any) -> np.ndarray:
    return X.toarray() if hasattr(X, "toarray") else np.asarray(X)


def _as_example(rows: np.ndarray, *, in_bytes: bool) -> np.ndarray:
    """Rows in the dtype of a graph's input: bytes as they are given, all else in single precision."""
    return rows if in_bytes else rows.astype(np.float32)


def _raw(column: Column, cells: Cells) -> np.ndarray:
    if isinstance(column, Datetime):
        return moments(cells)
    if not takes_text(column):
        return numbers(cells)
    plain = cells.plain()
    if plain.family not in ("text", "missing"):
        return plain.mismatch("text")
    words = compute.fill_null(plain.array.cast(pa.string()), "")
    return np.asarray(words.to_numpy(zero_copy_only=False), dtype=object)
