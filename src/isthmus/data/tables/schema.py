"""The schema of a table: the learned columns, and the conversion between cells and numbers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import pyarrow as pa

from isthmus.choices import BinaryCrossEntropy, ByColumn, CategoricalCrossEntropy, MeanSquaredError, Observed
from isthmus.choices.spelling import nearest, unknown
from isthmus.data.tables.cells import Cells, family, plural
from isthmus.data.tables.columns import KINDS, Column, Datetime, column_from_json
from isthmus.data.tables.dates import FORMS
from isthmus.data.tables.errors import TableErrors, raised_together, refuse_all
from isthmus.data.tables.kind_inference import Decision
from isthmus.data.tables.numerals import decide_mark
from isthmus.data.tables.opening import open_table
from isthmus.data.tables.profiling import watch_table
from isthmus.exceptions import DataError
from isthmus.wording import counted

ALIKE = (frozenset({"number", "boolean"}), frozenset({"number", "text"}), frozenset({"date", "text"}))
"""Families that can be converted to each other; text only if its cells allow it."""


def learn_schema(
    table: Any,
    kinds: Mapping[str, Any] | None = None,
    *,
    max_levels: int = 50,
    heavy_tails: bool | str = "auto",
    tame: bool | str | None = None,
) -> Schema:
    """Infer the kinds of the columns of a table in one pass and bounded memory.

    Numbers are ``numeric``, integers with few values ``ordinal``, two values ``binary``, and text ``categorical``,
    unless it contains numbers or dates written as text. Columns that are constant, all missing, count the rows or
    differ in every row stay in the schema but are not used. `Schema.notes` reports what users should know.

    Parameters
    ----------
    table
        A pandas or polars frame, an Arrow table or dataset, a mapping of columns, a numeric array (n, d), or the path
        of a .csv or .parquet file, which is read in chunks; n >= 1.
    kinds
        Kinds of columns by name, which override the inferred ones: ``"numeric"``, ``"binary"``, ``"categorical"``,
        ``"ordinal"``, ``"datetime"``, ``"ignore"``, a date format such as ``"%d/%m/%Y"``, or a list of values in order,
        which makes an ordinal column.
    max_levels
        Maximum number of levels of a categorical column, >= 1; rarer levels are pooled.
    heavy_tails
        Whether numbers are transformed by asinh, so that outliers neither stretch the scale nor are clipped;
        ``"auto"``: only columns with heavy tails.
    tame
        The former name of `heavy_tails`.

    Returns
    -------
    Schema

    Raises
    ------
    DataError
        The table has no rows, unusable cells (infinite values, mixed types in one column, dates out of range), or two
        columns of the same name. One error lists all of them, with column and row.
    ValueError
        `kinds` names an unknown column or an unknown kind.

    Examples
    --------
    >>> schema = learn_schema({"age": [31.5, 48.0, None, 27.0], "town": ["Ulm", "Ulm", "Bonn", "Bonn"]})
    >>> [column.kind for column in schema.columns]
    ['numeric', 'binary']
    >>> schema.feature_names
    ['age', 'age=missing', 'town=Bonn', 'town=Ulm', 'town=(other)']
    """
    opened = open_table(table)
    asked = dict(kinds or {})
    _refuse_wrong_kinds(asked, opened.names)
    if not isinstance(max_levels, int) or isinstance(max_levels, bool) or max_levels < 1:
        raise ValueError(f"max_levels={max_levels!r} must be an integer >= 1.")
    if tame is not None:
        warnings.warn("learn_schema: tame is now heavy_tails; use that name.", FutureWarning, stacklevel=2)
        heavy_tails = tame
    if heavy_tails not in (True, False, "auto"):
        raise ValueError(f"heavy_tails={heavy_tails!r} must be True, False or 'auto'.")
    if opened.n_rows == 0 or not opened.names:
        raise DataError(
            f"The table has {counted(opened.n_rows, 'row')} and {counted(len(opened.names), 'column')}, but at least "
            "1 of each is needed."
        )
    with raised_together() as errors:
        watches = watch_table(opened, asked, errors)
        errors.refuse()
        mark = decide_mark((watch.writings for watch in watches.values() if watch.family == "text"), opened.delimiter)
        columns = tuple(
            Decision(watches[name], opened.untyped, max_levels, heavy_tails, errors, mark).column()
            if name in watches
            else KINDS["ignore"](name=name, family="missing")
            for name in opened.names
        )
    return Schema(columns, opened.n_rows)


def _refuse_wrong_kinds(kinds: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise one error that lists all invalid entries of `kinds`."""
    known = set(names)
    wrong = [unknown("column in kinds", str(name), names) for name in kinds if name not in known]
    wrong += [
        f"kinds[{name!r}]: " + (unknown("kind of column", str(kind), KINDS) if kind else "a list of values is empty.")
        for name, kind in kinds.items()
        if not (kind in KINDS or kind in FORMS if isinstance(kind, str) else isinstance(kind, list | tuple) and kind)
    ]
    if wrong:
        raise ValueError("\n  ".join(wrong))


@dataclass(frozen=True)
class Schema:
    """The columns of a table as learned from data.

    An encoded row has, in this order: the values of numeric, ordinal and datetime columns; one flag per column that may
    have missing cells (1 if the cell is missing); and the one-hot values of binary and categorical columns. A missing
    cell is NaN.

    Attributes
    ----------
    columns
        All columns, in the order of the table.
    n_rows
        Number of rows it was learned from.

    Examples
    --------
    >>> schema = learn_schema({"age": [31.5, 48.0, 27.25], "town": ["Ulm", "Bonn", "Bonn"]})
    >>> encoded = schema.encode({"town": ["Ulm", "Rome"], "age": [48.0, None]})
    >>> encoded.round(2)
    array([[1.39, 0.  , 1.  , 0.  ],
           [ nan, 0.  , 0.  , 1.  ]], dtype=float32)
    >>> schema.decode(encoded).to_pydict()
    {'age': [48.0, None], 'town': ['Ulm', None]}
    """

    columns: tuple[Column, ...]
    n_rows: int = 0

    # -- properties ----------------------------------------------------------------------------------------------

    @cached_property
    def _places(self) -> dict[str, tuple[slice, int | None]]:
        """For each column in use: the positions of its values and of its missing flag, or None."""
        active = [column for column in self.columns if column.width]
        order = [*(c for c in active if not c.one_hot), *(c for c in active if c.one_hot)]
        marked = {name: place for place, name in enumerate(column.name for column in active if column.marked)}
        n_numbers = sum(len(column.parts) for column in active if not column.one_hot)
        places, start = dict[str, tuple[slice, int | None]](), 0
        for column in order:
            start = n_numbers + len(marked) if column.one_hot and start == n_numbers else start
            mark = n_numbers + marked[column.name] if column.marked else None
            places[column.name] = slice(start, start + len(column.parts)), mark
            start += len(column.parts)
        return {column.name: places[column.name] for column in active}

    @cached_property
    def groups(self) -> dict[str, tuple[int, ...]]:
        """The positions of each column's values in an encoded row; unused columns are left out."""
        return {
            name: (*range(block.start, block.stop), *(() if mark is None else (mark,)))
            for name, (block, mark) in self._places.items()
        }

    @property
    def width(self) -> int:
        """Number of values in an encoded row."""
        return sum(column.width for column in self.columns)

    @property
    def names(self) -> list[str]:
        """Names of all columns."""
        return [column.name for column in self.columns]

    @cached_property
    def feature_names(self) -> list[str]:
        """Names of the values in an encoded row."""
        names = [""] * self.width
        for name, (block, mark) in self._places.items():
            names[block] = self[name].parts
            if mark is not None:
                names[mark] = f"{name}=missing"
        return names

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on columns, one sentence each."""
        return tuple(f"Column {column.name!r} {column.note}." for column in self.columns if column.note)

    def get(self, name: str) -> Column | None:
        """The column of that name, or None."""
        return self._by_name.get(name)

    def __getitem__(self, name: str) -> Column:
        """The column of that name."""
        if name not in self._by_name:
            raise KeyError(unknown("column", name, self.names))
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Column]:
        """Columns by name: with 20,000 columns a linear search for each took minutes."""
        return {column.name: column for column in self.columns}

    def loss(self, numeric: Any = None) -> ByColumn:
        """The loss for encoded rows: each kind of column has its own likelihood, and all columns have equal weight.

        Parameters
        ----------
        numeric
            The loss of numeric, ordinal and datetime columns; None: ``MeanSquaredError(activation=None)``.
        """
        n_numbers = sum(len(column.parts) for column in self.columns if not column.one_hot)
        n_marks = sum(column.marked for column in self.columns)
        levels = tuple(len(self[name].parts) for name in self._places if self[name].one_hot)
        numbers = MeanSquaredError(activation=None) if numeric is None else numeric
        parts = (
            (Observed(numbers), n_numbers),
            (BinaryCrossEntropy(), n_marks),
            (Observed(CategoricalCrossEntropy(levels)), sum(levels)),
        )
        return ByColumn(tuple(part for part in parts if part[1]))

    # -- encoding and decoding -----------------------------------------------------------------------------------

    def encode(self, table: Any) -> np.ndarray:
        """Encode the rows of a table: (n, width) float32, NaN for missing cells.

        Parameters
        ----------
        table
            Any input of `learn_schema`, with the same columns in any order.

        Raises
        ------
        DataError
            Columns are missing, new or of another type, or cells are unusable; one error lists all of them.
        """
        opened = open_table(table)
        self.check(opened)
        out = np.zeros((opened.n_rows, self.width), np.float32)
        with raised_together() as errors:
            for piece in opened.pieces(self.used, errors):
                self.encode_columns(piece.columns, piece.told, errors, out[piece.rows.start : piece.rows.stop])
        return out

    @property
    def used(self) -> list[str]:
        """Names of the columns in use."""
        return list(self._places)

    def encode_columns(
        self, columns: Mapping[str, pa.Array], rows: Sequence[int] | np.ndarray, errors: TableErrors, out: np.ndarray
    ) -> None:
        """Encode some rows into `out`, zeros (n, width); `rows` are their row numbers for error messages."""
        for name, (block, mark) in self._places.items():
            self[name].encode(Cells(name, columns[name], rows, errors), out[:, block])
            if mark is not None:
                out[:, mark] = np.isnan(out[:, block.start])

    def decode(self, matrix: np.ndarray, *, like: Any = None) -> Any:
        """Decode rows, or a model's reconstruction of them, to a table.

        Numbers are restored to 5 digits of their distance from the column's centre, with their original number of
        decimals; timestamps to 6 digits of their range, or of a day if the time of day was learned; levels exactly.
        Pooled and unknown levels and NaN become missing cells.

        Parameters
        ----------
        matrix
            (n, width).
        like
            A table that sets the type of the result; None: an Arrow table.

        Returns
        -------
        Arrow table or frame, n rows, without unused columns except constant ones.
        """
        matrix = self._checked(matrix)
        blocks = {name: matrix[:, block] for name, (block, _) in self._places.items()}
        empty = np.empty((len(matrix), 0))
        shown = [c for c in self.columns if c.width or getattr(c, "constant", None) is not None]
        decoded = pa.table({column.name: column.decode(blocks.get(column.name, empty)) for column in shown})
        return as_type_of(decoded, like)

    def expected(self, X_hat: np.ndarray, name: str) -> list[str]:
        """The values that a model expects in a column, as n strings.

        Parameters
        ----------
        X_hat
            Reconstructions, (n, width), with levels as probabilities.
        name
            Name of the column.

        Examples
        --------
        >>> schema = learn_schema({"age": [31.5, 48.0, 27.25], "town": ["Ulm", "Bonn", "Bonn"]})
        >>> X_hat = np.array([[0.0, 0.5, 0.4, 0.1]])
        >>> schema.expected(X_hat, "age"), schema.expected(X_hat, "town")
        (['about 35.6'], ['Bonn or Ulm'])
        """
        matrix = self._checked(X_hat)
        block = self._places[name][0] if name in self._places else slice(0, 0)
        return self[name].expected(matrix[:, block])

    def seen(self, table: Any, name: str) -> list[str]:
        """The cells of a column of a table, as n strings."""
        with raised_together() as errors:
            return [
                word
                for piece in open_table(table).pieces([name], errors)
                for word in self[name].seen(Cells(name, piece.columns[name], piece.told, errors).plain())
            ]

    def by_column(self, per_feature: np.ndarray) -> np.ndarray:
        """Sums over the values of each column: (n, width) → (n, columns in use), in the order of `groups`."""
        matrix = self._checked(per_feature)
        sums = [matrix[:, list(places)].sum(axis=1) for places in self.groups.values()]
        return np.stack(sums, axis=1) if sums else np.empty((len(matrix), 0), matrix.dtype)

    def _checked(self, matrix: np.ndarray) -> np.ndarray:
        array = np.asarray(matrix)
        if array.ndim != 2 or array.shape[1] != self.width:
            raise ValueError(
                f"The matrix has shape {array.shape}, but this schema needs (n, {self.width}); pass rows that it "
                "encoded."
            )
        return array

    # -- checking ------------------------------------------------------------------------------------------------

    def check(self, table: Any, *, extra: str = "error") -> None:
        """Compare the columns of a table with those of the schema, in any order.

        Parameters
        ----------
        table
            Any input of `learn_schema`.
        extra
            ``"error"`` or ``"ignore"``: what to do with columns that the schema does not contain.

        Raises
        ------
        DataError
            Columns are missing, renamed, new or of another type; one error lists all of them.
        """
        if extra not in ("error", "ignore"):
            raise ValueError(unknown("extra", extra, ("error", "ignore")))
        opened = open_table(table)
        types = opened.types()
        missing = [name for name in self.used if name not in types]
        new = [name for name in types if name not in self._by_name]
        sentences = [_missing_text(name, new) for name in missing]
        if new and extra == "error":
            sentences.append(_new_text(new))
        refuse_all(sentences + _retyped(self, types))

    # -- storing -------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """The schema as JSON."""
        return {"n_rows": self.n_rows, "columns": [column.to_json() for column in self.columns]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(tuple(column_from_json(column) for column in values["columns"]), values["n_rows"])


def _missing_text(name: str, new: Sequence[str]) -> str:
    near = nearest(name, new, cutoff=0.6)
    hint = "; add it" if near is None else f"; is it now called {near!r}? Rename it back"
    return f"Column {name!r} is missing{hint}."


def _new_text(new: Sequence[str]) -> str:
    named = ", ".join(map(repr, new[:5])) + (", …" if len(new) > 5 else "")
    words = f"Column {named} was" if len(new) == 1 else f"Columns {named} were"
    return (
        f"{words} not present when the schema was learned; drop them, or allow extra columns in a TableSource "
        "(extra='ignore')."
    )


def _retyped(schema: Schema, types: Mapping[str, pa.DataType | None]) -> list[str]:
    found = []
    for name in schema.used:
        kind, wanted = types.get(name), schema[name].family
        got = None if kind is None else family(kind)
        if isinstance(schema[name], Datetime) and got in ("date", "text"):
            continue  # dates may be text in one file and typed in another
        if got in (None, "missing", wanted) or any({got, wanted} == pair for pair in _readable(wanted)):
            continue
        assert got is not None  # the line above
        found.append(
            f"Column {name!r} holds {plural(got)}, but {plural(wanted)} when the schema was learned; convert it."
        )
    return found


def _readable(wanted: str) -> tuple[frozenset[str], ...]:
    """Pairs of families that can be converted to each other; a text column accepts only text."""
    return () if wanted == "text" else ALIKE


def as_type_of(table: pa.Table, like: Any) -> Any:
    """Convert an Arrow table to the frame type of `like`, with its index; other types give the Arrow table."""
    package = type(like).__module__.split(".")[0]
    if package == "pandas":
        frame = table.to_pandas()
        frame.index = like.index
        return frame
    if package == "polars":
        import polars as pl  # noqa: PLC0415  # optional

        return pl.from_arrow(table)
    return table
