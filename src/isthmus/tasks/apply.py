"""A fitted model as a function of one part of a table, for the data engines that split tables: Ray, Dask, Spark."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from isthmus.choices.spelling import unknown
from isthmus.estimators import load

METHODS = (
    "explain",
    "p_values",
    "predict",
    "predict_proba",
    "reconstruct",
    "reconstruction_error",
    "score_samples",
    "transform",
)
"""Methods that answer row by row."""


@dataclass(frozen=True)
class Apply:
    """Apply one method of a saved model to parts of a table, each as a frame, with the identifiers kept.

    The object holds a path and names only, so that it is small and can be pickled. Each process loads the model once,
    on its first call, and again when the file has changed. A part without rows gives a frame without rows that has the
    same columns and dtypes as every other part.

    Parameters
    ----------
    path
        The model file. It must be readable under this path on every worker.
    method
        What is applied: ``"transform"``, ``"score_samples"``, ``"reconstruct"``, ``"predict"``, ``"explain"``, …
    keep
        Columns that are copied to the answer, in front, and not given to the model.
    device
        The device of the model on the worker, as for `isthmus.load`.

    Raises
    ------
    ValueError
        `method` is unknown, or a kept column is missing, repeated or named like an answer.
    TypeError
        `keep` is one text, a part is no frame, or the model has no such method.
    ModelFileError
        The file is missing or damaged; raised by the first call.

    Examples
    --------
    >>> import isthmus, numpy, pandas, pathlib, tempfile
    >>> table = pandas.DataFrame(numpy.random.default_rng(0).random((20, 3)), columns=["a", "b", "c"])
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> _ = isthmus.Autoencoder(2, max_epochs=1, random_state=0).fit(table).save(path)
    >>> encode = isthmus.Apply(path, "transform", keep=["id"])
    >>> encode(table.assign(id=range(20))).columns.tolist()
    ['id', 'autoencoder0', 'autoencoder1']
    >>> encode(table.assign(id=range(20)).head(0)).shape
    (0, 3)
    """

    path: str | Path
    method: str
    keep: Sequence[str] = field(default=())
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(unknown("method", self.method, METHODS))
        if isinstance(self.keep, str):
            raise TypeError(f"keep={self.keep!r} is one text; give a list of column names: keep=[{self.keep!r}].")
        # absolute, because a worker's current folder is another one
        object.__setattr__(self, "path", str(Path(self.path).absolute()))
        object.__setattr__(self, "keep", tuple(self.keep))

    def __call__(self, part: Any) -> Any:
        """The answers for one part: a pandas frame, an Arrow table or a mapping of columns, as the part itself is.

        A pandas frame keeps its index.
        """
        kept, rows = self._split(part if isinstance(part, pa.Table) else _as_frame(part))
        model = _loaded(self.path, self.device, *_stamp(self.path))
        if not hasattr(model, self.method):
            having = ", ".join(name for name in METHODS if hasattr(model, name))
            raise TypeError(f"{type(model).__name__} of {self.path} has no {self.method!r}; it has {having}.")
        answers = _answers(model, self.method, rows.to_pandas() if isinstance(rows, pa.Table) else rows)
        clash = [name for name in self.keep if name in answers.columns]
        if clash:
            raise ValueError(f"keep={list(self.keep)} names columns of the answer: {clash}; rename them in the table.")
        return _beside(kept, answers, part)

    def _split(self, table: Any) -> tuple[Any, Any]:
        """The kept columns, and the others, of a frame or an Arrow table.

        Arrow's identifiers do not become pandas columns: integers with gaps would become doubles there.
        """
        names = table.column_names if isinstance(table, pa.Table) else [*table.columns]
        missing = [name for name in self.keep if name not in names]
        if missing:
            raise ValueError(f"keep={list(self.keep)}, but the table has no column {missing}; it has {names}.")
        repeated = sorted({str(name) for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"The table has more than one column named {repeated}; rename or drop them.")
        if isinstance(table, pa.Table):
            return table.select(list(self.keep)), table.drop_columns(list(self.keep))
        return table[list(self.keep)], table.drop(columns=list(self.keep))


def _as_frame(part: Any) -> pd.DataFrame:
    if isinstance(part, pd.DataFrame):
        return part
    if isinstance(part, Mapping):  # what Ray Data gives by default
        return pd.DataFrame({name: list(values) if np.ndim(values) > 1 else values for name, values in part.items()})
    raise TypeError(
        f"Apply takes a pandas frame, an Arrow table or a mapping of columns, but got {type(part).__name__}; "
        "rows without names have no columns to keep: call the method of the model itself."
    )


def _beside(kept: Any, answers: pd.DataFrame, part: Any) -> Any:
    """The kept columns and the answers in the container of the part."""
    if isinstance(part, pa.Table):
        found = pa.Table.from_pandas(answers, preserve_index=False)
        columns = [*kept.columns, *found.columns]
        return pa.table(columns, schema=pa.schema([*kept.schema, *found.schema]))
    together = pd.concat([kept, answers], axis=1)
    if isinstance(part, Mapping):
        return {name: together[name].to_numpy() for name in together.columns}
    return together


def _stamp(path: str | Path) -> tuple[int, int]:
    """What changes when a file is written again; a missing file is left to `load`, whose error names it."""
    try:
        found = Path(path).stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


@functools.lru_cache(maxsize=4)  # a worker serves few models, and each may hold gigabytes
def _loaded(path: str, device: str, changed: int, size: int) -> Any:  # noqa: ARG001  # they are part of the key
    return load(path, device=device)


def _answers(model: Any, method: str, rows: pd.DataFrame) -> pd.DataFrame:
    """A frame with the index of the rows."""
    if len(rows):
        return _named(method, model, rows.index, getattr(model, method)(rows))
    # Names and dtypes are those of one made row, whose answer is dropped; a list of them per class would go stale.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the row may lie far outside the rows of fit
        try:
            return _answers(model, method, _made_row(rows, 0.0)).iloc[:0].set_axis(rows.index)
        except (TypeError, ValueError):
            # Columns of an empty frame often lost their type: they may hold words. Wrong names fail here, too.
            return _answers(model, method, _made_row(rows, "")).iloc[:0].set_axis(rows.index)


def _made_row(rows: pd.DataFrame, untyped: float | str) -> pd.DataFrame:
    """One row of the same columns and dtypes; `untyped` for columns of objects."""
    return pd.DataFrame({name: _made_cell(rows[name].dtype, untyped) for name in rows.columns}, columns=rows.columns)


def _made_cell(dtype: Any, untyped: float | str) -> pd.Series:
    if isinstance(dtype, pd.CategoricalDtype):
        return pd.Series([*dtype.categories[:1]] or [None], dtype=dtype)
    if pd.api.types.is_object_dtype(dtype):
        return pd.Series([untyped])
    return pd.Series(["" if pd.api.types.is_string_dtype(dtype) else 0]).astype(dtype)


def _named(method: str, model: Any, index: pd.Index, answer: Any) -> pd.DataFrame:
    """An answer of any shape as a frame."""
    if isinstance(answer, pd.DataFrame):
        return answer.set_axis(index)
    if method == "explain":
        return pd.DataFrame({"explain": [str(each) for each in answer]}, index=index, dtype="str")
    values = np.asarray(answer)
    return pd.DataFrame(
        values.reshape(len(values), -1), columns=column_names(model, method, values), index=index, copy=False
    )


def column_names(model: Any, method: str, values: np.ndarray) -> list[str]:
    """Names of the columns of a method's answer, (n,) or (n, …)."""
    if values.ndim == 1:
        return [method]
    width = int(np.prod(values.shape[1:]))
    if method == "transform":
        return [str(name) for name in model.get_feature_names_out()]
    classes = getattr(model, "classes_", None)
    if method == "predict_proba" and classes is not None and len(classes) == width:
        return [f"predict_proba_{name}" for name in classes]
    return [f"{method}{place}" for place in range(width)]
