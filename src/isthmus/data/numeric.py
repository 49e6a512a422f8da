"""Conversion of input data to numeric arrays or frames, or a one-sentence error.

Errors describe the data by type and shape; they never print its values (except short text such as a path).
"""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch

from isthmus.data.containers import NamedMatrix, unwrapped
from isthmus.exceptions import DataError
from isthmus.wording import be, counted, these

SHOWN = 5
"""Number of columns that an error message names."""


def frame_package(X: Any) -> str | None:
    """``"pandas"`` or ``"polars"`` for a frame, else None."""
    package = type(X).__module__.split(".")[0]
    return package if package in ("pandas", "polars") and hasattr(X, "columns") else None


def as_numeric(X: Any) -> Any:
    """Convert input data to a numeric array, CSR matrix or frame; missing cells become NaN.

    Parameters
    ----------
    X
        An array, including masked (masked entries are missing), big-endian, long double and object arrays of numbers;
        a tensor of any dtype; a pandas or polars frame with nullable, Arrow, categorical or object columns of numbers;
        an Arrow table, a mapping of columns or a list of dicts, which become a frame; anything else that numpy accepts.

    Raises
    ------
    DataError
        The data contain text, dates or complex numbers, or two columns of the same name.
    TypeError
        The data are an iterator (a generator, a DataLoader) or a path.
    """
    X = unwrapped(X)
    _refuse_streams(X)
    if isinstance(X, torch.Tensor):
        return _of_tensor(X)
    X = as_frame(X)
    package = frame_package(X)
    if package is not None:
        return _of_pandas(X) if package == "pandas" else _of_polars(X)
    if scipy.sparse.issparse(X) or isinstance(X, np.memmap):
        return X
    return _of_array(X if isinstance(X, np.ma.MaskedArray) else _asarray(X))


def _refuse_streams(X: Any) -> None:
    kind = type(X).__name__
    if isinstance(X, str | bytes | Path):
        raise TypeError(
            f"X is a path or text ({str(X)[:80]!r}), but rows are needed; read the file with isthmus.read(path).X."
        )
    if isinstance(X, Iterator):
        raise TypeError(
            f"X is a {kind}, which yields its rows once, but they are read several times; pass "
            "np.concatenate(list(batches)), or subclass isthmus.Source if the data do not fit into memory."
        )


def _of_tensor(X: torch.Tensor) -> np.ndarray:
    plain = X.detach().cpu()
    if plain.is_sparse or plain.layout != torch.strided:
        plain = plain.to_dense()
    if plain.is_floating_point() and plain.dtype not in (torch.float32, torch.float64):
        plain = plain.float()  # numpy has no bfloat16
    return _of_array(plain.resolve_conj().numpy())


def as_frame(X: Any) -> Any:
    """Convert Arrow tables and datasets, mappings and lists of dicts to a pandas frame."""
    listed = isinstance(X, list | tuple) and len(X) > 0 and all(isinstance(row, Mapping) for row in X)
    arrow = type(X).__module__.split(".")[0] == "pyarrow" and (hasattr(X, "to_pandas") or hasattr(X, "to_table"))
    if not listed and not arrow and not (isinstance(X, Mapping) and not scipy.sparse.issparse(X)):
        return X
    if arrow:
        return (X.to_table() if hasattr(X, "to_table") else X).to_pandas()
    import pandas as pd  # noqa: PLC0415  # slow to import, and needed only here

    try:
        return pd.DataFrame(X if listed else dict(X))
    except ValueError as error:
        raise DataError(
            f"X is a mapping of columns that do not form a table ({error}); make them equally long."
        ) from None


def _asarray(X: Any) -> np.ndarray:
    try:
        return np.asarray(X)
    except ValueError:
        raise DataError(
            f"X is a {type(X).__name__} whose rows have different lengths, but all rows must have the same number of "
            "features; correct or drop the rows that differ."
        ) from None


def _of_array(X: np.ndarray) -> np.ndarray:
    if X.dtype.names is not None:
        fields = ", ".join(X.dtype.names[:SHOWN])
        raise DataError(f"X is a structured array ({fields}), but columns are needed; pass pandas.DataFrame(X).")
    if X.ndim < 2:
        raise DataError(_shape_text(X))
    if X.dtype.kind == "c":
        raise DataError(
            f"Complex data not supported: X has dtype {X.dtype}; pass the real and imaginary parts as separate "
            "features."
        )
    if X.dtype.kind in "USMmV":
        raise DataError(
            f"X has dtype {X.dtype}, but numbers are needed; convert it, for numbers written as text with "
            "X.astype(float)."
        )
    if X.dtype.kind == "O":
        X = _of_objects(X)
    if isinstance(X, np.ma.MaskedArray):
        gone = np.ma.getmaskarray(X)
        return np.where(gone, np.nan, X.data.astype(_floating(X.dtype))) if gone.any() else _native(X.data)
    return _native(X)


def _shape_text(X: np.ndarray) -> str:
    """scikit-learn's message without the values of the array."""
    what = "scalar" if X.ndim == 0 else "1D"
    return (
        f"Expected 2D array, got {what} array instead: X has shape {X.shape}. Reshape your data using "
        "X.reshape(-1, 1) if it has a single feature or X.reshape(1, -1) if it is a single sample."
    )


def _floating(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.float32 if dtype in (np.float32, np.float16) else np.float64)


def _native(X: np.ndarray) -> np.ndarray:
    """Convert to native byte order and to a floating dtype that torch supports."""
    if X.dtype.kind == "f" and X.dtype.itemsize not in (4, 8):
        return X.astype(_floating(X.dtype))  # half precision overflows in sums; torch has no long double
    return X if X.dtype.isnative else X.astype(X.dtype.newbyteorder("="))


def _of_objects(X: np.ndarray) -> np.ndarray:
    """Convert objects to float64 if all are numbers or missing; otherwise scikit-learn reports them."""
    mask = np.ma.getmaskarray(X) if isinstance(X, np.ma.MaskedArray) else np.zeros(X.shape, bool)
    cells = [np.nan if gone else cell for cell, gone in zip(np.asarray(X).ravel().tolist(), mask.ravel(), strict=True)]
    word = next((cell for cell in cells if isinstance(cell, str)), None)
    if word is not None:
        raise DataError(
            f"X is an object array with text such as {word[:40]!r}, but numbers are needed; convert numbers written "
            "as text with X.astype(float), and encode categories (sklearn.preprocessing.OneHotEncoder)."
        )
    values = _floats(cells)
    return X if values is None else values.reshape(X.shape)


def _floats(cells: Sequence[Any]) -> np.ndarray | None:
    """Numbers and missing cells as float64; None if there is anything else."""
    if not all(_is_number(cell) or _is_missing(cell) for cell in cells):
        return None
    return np.array([np.nan if _is_missing(cell) else float(cell) for cell in cells], np.float64)


def _is_number(cell: Any) -> bool:
    return isinstance(cell, numbers.Real | Decimal | np.bool_)


def _is_missing(cell: Any) -> bool:
    return cell is None or type(cell).__name__ == "NAType"


# -- frames ------------------------------------------------------------------------------------------------------------


def _of_pandas(frame: Any) -> Any:
    """A frame of plain numeric columns; a frame that already is one, with string names, is returned as is."""
    _refuse_equal_names(frame.columns)
    wrong, columns, plain = [], [], True
    for place, dtype in enumerate(frame.dtypes.tolist()):
        column = frame.iloc[:, place] if not isinstance(dtype, np.dtype) or dtype.kind not in "buif" else None
        values = None if column is None else _plain_column(column, dtype)
        if column is not None and values is None:
            wrong.append(f"{frame.columns[place]!r} ({dtype}{_remedy(dtype) or _words_among_numbers(column)})")
        plain &= column is None
        columns.append(values)
    if wrong:
        raise DataError(_not_numeric(wrong))
    if not plain:
        made = [frame.iloc[:, place] if values is None else values for place, values in enumerate(columns)]
        frame = type(frame)(dict(enumerate(made)), index=frame.index).set_axis(frame.columns, axis=1)
    return _with_text_names(frame)


def _plain_column(column: Any, dtype: Any) -> np.ndarray | None:
    """A column as float64 or bool, NaN for missing cells; None if its cells are not numbers."""
    kind = getattr(dtype, "kind", "O")
    if hasattr(dtype, "categories"):  # a categorical of numbers counts as numeric
        return _floats(column.tolist()) if _numbers_in(dtype) else None
    if type(dtype).__name__ == "SparseDtype" and kind in "buif":
        return np.asarray(column.to_numpy())
    if kind in "buif":
        if kind == "b" and not column.isna().any():
            return np.asarray(column.to_numpy(dtype=bool))
        return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
    if kind == "O" or type(dtype).__name__ == "ArrowDtype":
        return _floats(column.tolist())
    return None


def _numbers_in(dtype: Any) -> bool:
    """Whether the levels of a categorical dtype are numbers."""
    return getattr(dtype.categories.dtype, "kind", "O") in "uif"


def _remedy(dtype: Any) -> str:
    """How to convert a column of this dtype to numbers."""
    name = str(dtype)
    if name.startswith(("timedelta", "duration")):
        return ", use .dt.total_seconds()"
    if name.startswith("interval"):
        return ", use the middle, .mid"
    if name.startswith(("datetime", "timestamp", "period", "date")):
        return ", use an elapsed time or parts of the date"
    return ""


def _words_among_numbers(column: Any) -> str:
    """Where a few words stand among numbers, such as units below a name or a total at the end: the first of them."""
    import pandas as pd  # noqa: PLC0415  # optional

    try:
        no_numbers = np.asarray(pd.to_numeric(column.astype(str), errors="coerce").isna() & column.notna())
    except (TypeError, ValueError):
        return ""
    if not 0 < no_numbers.sum() < len(no_numbers) / 2:
        return ""
    return (
        f", {int(no_numbers.sum())} of {len(no_numbers)} cells are not numbers, the first in row {no_numbers.argmax()}"
    )


def _not_numeric(wrong: Sequence[str]) -> str:
    more = ", …" if len(wrong) > SHOWN else ""
    return (
        f"X has {counted(len(wrong), 'column')} that {be(len(wrong))} not numeric: {', '.join(wrong[:SHOWN])}{more}; "
        f"drop {these(len(wrong), 'column')}, or convert to numbers (sklearn.preprocessing.OneHotEncoder)."
    )


def _of_polars(frame: Any) -> Any:
    import polars as pl  # noqa: PLC0415  # optional

    wrong = [
        f"{name!r} ({dtype})" for name, dtype in frame.schema.items() if not (dtype.is_numeric() or dtype == pl.Boolean)
    ]
    if wrong:
        raise DataError(_not_numeric(wrong))
    decimals = [name for name, dtype in frame.schema.items() if dtype.is_decimal()]
    frame = frame.with_columns(pl.col(decimals).cast(pl.Float64)) if decimals else frame
    holes = [name for name in frame.columns if frame.get_column(name).null_count()]
    return frame.with_columns(pl.col(holes).cast(pl.Float64).fill_null(float("nan"))) if holes else frame


def _refuse_equal_names(columns: Any) -> None:
    if not columns.is_unique:
        twice = columns[columns.duplicated()].unique().tolist()
        shown = ", ".join(map(repr, twice[:SHOWN])) + (", …" if len(twice) > SHOWN else "")
        raise DataError(f"X has several columns named {shown}; rename or drop them, so that each name is unique.")


def _with_text_names(frame: Any) -> Any:
    """Convert names to strings, the only type that scikit-learn accepts. Names 0, 1, 2, … count as no names."""
    if all(isinstance(name, str) for name in frame.columns) or list(frame.columns) == list(range(frame.shape[1])):
        return frame
    return frame.set_axis([str(name) for name in frame.columns], axis=1)


def arranged(X: Any, names: Sequence[str] | None, owner: str) -> Any:
    """Reorder the columns of a frame to match `names`; other data, and frames without names, are returned as is.

    If there are no names, columns named 0, 1, 2, … in another order are sorted.

    Raises
    ------
    DataError
        Names are repeated, are missing, or were not present at fit; one error lists all of them.
    """
    if isinstance(X, NamedMatrix):
        return _arranged_matrix(X, names, owner)
    if frame_package(X) is None:
        return X
    if frame_package(X) == "pandas":  # before one of them is chosen by its name
        _refuse_equal_names(X.columns)
    given = list(X.columns)
    if names is None:
        counted = sorted(given) == list(range(len(given))) if all(isinstance(n, int) for n in given) else False
        return X[sorted(given)] if counted and given != sorted(given) else X
    texts = [str(name) for name in given]
    if texts == list(names):
        return X
    places = {name: place for place, name in enumerate(texts)}
    missing = [name for name in names if name not in places]
    wanted = set(names)
    extra = [name for name in texts if name not in wanted]
    if given == list(range(len(given))) and len(given) == len(names):
        return X  # a frame made from an array, without names
    if missing or extra:
        raise DataError(_other_names(missing, extra, owner))
    order = [places[name] for name in names]
    return X.iloc[:, order] if frame_package(X) == "pandas" else X.select([X.columns[place] for place in order])


def _arranged_matrix(X: NamedMatrix, names: Sequence[str] | None, owner: str) -> Any:
    given = list(X.feature_names)
    if names is None or given == list(names):
        return X
    known, wanted = set(given), set(names)
    missing, extra = [name for name in names if name not in known], [name for name in given if name not in wanted]
    if missing or extra:
        raise DataError(_other_names(missing, extra, owner))
    places = {name: place for place, name in enumerate(given)}
    made = NamedMatrix(X[:, [places[name] for name in names]])
    made.feature_names = tuple(names)
    return made


def _other_names(missing: Sequence[str], extra: Sequence[str], owner: str) -> str:
    parts = []
    for what, names in (("lacks", missing), ("was not fitted with", extra)):
        shown = ", ".join(map(repr, names[:SHOWN])) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        parts += [f"X {what} {shown}" if what == "lacks" else f"{owner} {what} {shown}"] if names else []
    return (
        f"The feature names should match those that were passed during fit: {'; '.join(parts)}. "
        "Pass the same columns, in any order."
    )
