"""The schema: what was learned of a table's columns, and with it the way from cells to numbers and back."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import pyarrow as pa

from isthmus.choices import BinaryCrossEntropy, ByColumn, CategoricalCrossEntropy, MeanSquaredError, Observed
from isthmus.choices.registry import unknown
from isthmus.data.tables.cells import Cells, family, plural
from isthmus.data.tables.columns import KINDS, Column, Datetime, column_from_json
from isthmus.data.tables.dates import FORMS
from isthmus.data.tables.errors import Mistakes, refuse_all, told_at_once
from isthmus.data.tables.kind_inference import Decision
from isthmus.data.tables.numerals import decide_mark
from isthmus.data.tables.opening import open_table
from isthmus.data.tables.profiling import watch_table
from isthmus.exceptions import DataError

ALIKE = (frozenset({"number", "boolean"}), frozenset({"number", "text"}), frozenset({"date", "text"}))
"""Families that can be read as each other; text only where its cells say so."""


def learn_schema(
    table: Any, kinds: Mapping[str, Any] | None = None, *, max_levels: int = 50, tame: bool | str = "auto"
) -> Schema:
    """Find out what the columns of a table are, in one pass and bounded memory.

    Numbers are ``numeric``; whole numbers of few values ``ordinal``; two values ``binary``; text ``categorical``, or
    numbers or ISO dates written as text; columns that are constant, all missing, count the rows or differ in every row
    stay in the schema and contribute nothing. Whatever was found that a user should know stands in `Schema.notes`.

    Parameters
    ----------
    table
        A pandas or polars frame, an Arrow table or dataset, a mapping of columns, an array of numbers (n, d), or the
        path of a .csv or .parquet file, which is read in pieces; n >= 1.
    kinds
        Kinds of columns by name, where you know better: ``"numeric"``, ``"binary"``, ``"categorical"``, ``"ordinal"``,
        ``"datetime"``, ``"ignore"``, a form of dates such as ``"%d/%m/%Y"``, or a list of values in their order, which
        makes an ordinal column.
    max_levels
        Levels that a categorical column may have, >= 1; rarer ones are pooled.
    tame
        Whether numbers go through asinh, so that far values neither stretch the scale nor are cut off; ``"auto"``:
        those with heavy tails do.

    Returns
    -------
    Schema

    Raises
    ------
    DataError
        The table has no rows, or cells that cannot be used (infinities, several types in one column, dates out of
        range), or two columns of one name; all are told at once, with column and row.
    ValueError
        `kinds` names a column that is not there, or a kind that does not exist.

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
    if tame not in (True, False, "auto"):
        raise ValueError(f"tame={tame!r} must be True, False or 'auto'.")
    if opened.n_rows == 0 or not opened.names:
        raise DataError(f"The table has {opened.n_rows} rows and {len(opened.names)} columns; at least 1 is needed.")
    with told_at_once() as mistakes:
        watches = watch_table(opened, asked, mistakes)
        mistakes.refuse()
        mark = decide_mark((watch.writings for watch in watches.values() if watch.family == "text"), opened.delimiter)
        columns = tuple(
            Decision(watches[name], opened.untyped, max_levels, tame, mistakes, mark).column()
            if name in watches
            else KINDS["ignore"](name=name, family="missing")
            for name in opened.names
        )
    return Schema(columns, opened.n_rows)


def _refuse_wrong_kinds(kinds: Mapping[str, Any], names: Sequence[str]) -> None:
    """Name all that is wrong in what a user said of columns."""
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
    """The columns of a table as they were learned.

    A row becomes numbers in this order: those of numeric, ordinal and datetime columns, one for each column that may
    miss cells (1 where it does), and the one-hot ones of binary and categorical columns. A missing cell is NaN.

    Attributes
    ----------
    columns
        All columns, in the order of the table.
    n_rows
        Rows it was learned from.

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

    # -- what it is ----------------------------------------------------------------------------------------------

    @cached_property
    def _places(self) -> dict[str, tuple[slice, int | None]]:
        """For each column that contributes: its numbers, and the one that marks missing cells."""
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
        """The numbers of an encoded row that belong to each column; columns without any are left out."""
        return {
            name: (*range(block.start, block.stop), *(() if mark is None else (mark,)))
            for name, (block, mark) in self._places.items()
        }

    @property
    def width(self) -> int:
        """Numbers in an encoded row."""
        return sum(column.width for column in self.columns)

    @property
    def names(self) -> list[str]:
        """Names of all columns."""
        return [column.name for column in self.columns]

    @cached_property
    def feature_names(self) -> list[str]:
        """Names of the numbers in an encoded row."""
        names = [""] * self.width
        for name, (block, mark) in self._places.items():
            names[block] = self[name].parts
            if mark is not None:
                names[mark] = f"{name}=missing"
        return names

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence for each column of which there is something to say."""
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
        """Columns by name: a search for each of 20,000 columns took minutes."""
        return {column.name: column for column in self.columns}

    def loss(self, numeric: Any = None) -> ByColumn:
        """The loss of a model of such rows: each kind by its likelihood, each column weighing the same.

        Parameters
        ----------
        numeric
            The loss of numbers, ordinals and moments; None: ``MeanSquaredError(activation=None)``.
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

    # -- there and back ------------------------------------------------------------------------------------------

    def encode(self, table: Any) -> np.ndarray:
        """Rows of a table as numbers, (n, width) float32, NaN where a cell is missing.

        Parameters
        ----------
        table
            Whatever `learn_schema` takes, with the same columns in any order.

        Raises
        ------
        DataError
            Columns are missing, new or of another type, or cells cannot be used; all are told at once.
        """
        opened = open_table(table)
        self.check(opened)
        out = np.zeros((opened.n_rows, self.width), np.float32)
        with told_at_once() as mistakes:
            for piece in opened.pieces(self.used, mistakes):
                self.encode_columns(piece.columns, piece.told, mistakes, out[piece.rows.start : piece.rows.stop])
        return out

    @property
    def used(self) -> list[str]:
        """Names of the columns that contribute."""
        return list(self._places)

    def encode_columns(
        self, columns: Mapping[str, pa.Array], rows: Sequence[int] | np.ndarray, mistakes: Mistakes, out: np.ndarray
    ) -> None:
        """Write some rows into zeros, (n, width); `rows` are their numbers in the table, to tell what is wrong."""
        for name, (block, mark) in self._places.items():
            self[name].encode(Cells(name, columns[name], rows, mistakes), out[:, block])
            if mark is not None:
                out[:, mark] = np.isnan(out[:, block.start])

    def decode(self, matrix: np.ndarray, *, like: Any = None) -> Any:
        """A table from numbers: encoded rows, or a model's reconstruction of them.

        Numbers come back to 5 digits of their distance from the column's centre, and with as many decimals as they had;
        moments to 6 digits of the time they span, or of a day where the time of day was learned; levels exactly. Levels
        that were pooled or never seen come back as missing, as do cells that are NaN.

        Parameters
        ----------
        matrix
            (n, width).
        like
            A table whose type the answer shall have; None: an Arrow table.

        Returns
        -------
        Arrow table or frame, n rows, without the columns that contribute nothing unless they are constant.
        """
        matrix = self._checked(matrix)
        blocks = {name: matrix[:, block] for name, (block, _) in self._places.items()}
        empty = np.empty((len(matrix), 0))
        shown = [c for c in self.columns if c.width or getattr(c, "constant", None) is not None]
        decoded = pa.table({column.name: column.decode(blocks.get(column.name, empty)) for column in shown})
        return as_type_of(decoded, like)

    def expected(self, X_hat: np.ndarray, name: str) -> list[str]:
        """What a model expects in a column, in words, n of them.

        Parameters
        ----------
        X_hat
            Reconstructions, (n, width), with levels as probabilities.
        name
            Of a column.

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
        """What stands in a column of a table, in words, n of them."""
        with told_at_once() as mistakes:
            return [
                word
                for piece in open_table(table).pieces([name], mistakes)
                for word in self[name].seen(Cells(name, piece.columns[name], piece.told, mistakes).plain())
            ]

    def by_column(self, per_feature: np.ndarray) -> np.ndarray:
        """Sums of the numbers of each column: (n, width) → (n, columns that contribute), in the order of `groups`."""
        matrix = self._checked(per_feature)
        sums = [matrix[:, list(places)].sum(axis=1) for places in self.groups.values()]
        return np.stack(sums, axis=1) if sums else np.empty((len(matrix), 0), matrix.dtype)

    def _checked(self, matrix: np.ndarray) -> np.ndarray:
        array = np.asarray(matrix)
        if array.ndim != 2 or array.shape[1] != self.width:
            raise ValueError(f"The matrix has shape {array.shape}, but rows of this schema are (n, {self.width}).")
        return array

    # -- at use --------------------------------------------------------------------------------------------------

    def check(self, table: Any, *, extra: str = "error") -> None:
        """Compare the columns of a table with those that were learned; their order does not matter.

        Parameters
        ----------
        table
            Whatever `learn_schema` takes.
        extra
            ``"error"`` or ``"ignore"`` columns that were not there.

        Raises
        ------
        DataError
            Columns are missing, renamed, new or of another type; all are named at once.
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

    # -- keeping -------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """The schema as JSON."""
        return {"n_rows": self.n_rows, "columns": [column.to_json() for column in self.columns]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(tuple(column_from_json(column) for column in values["columns"]), values["n_rows"])


def _missing_text(name: str, new: Sequence[str]) -> str:
    folded = {other.casefold().strip(): other for other in new}
    near = difflib.get_close_matches(name.casefold().strip(), folded, 1)
    hint = f"; is it now called {folded[near[0]]!r}? Rename it back" if near else "; add it"
    return f"Column {name!r} is missing{hint}."


def _new_text(new: Sequence[str]) -> str:
    named = ", ".join(map(repr, new[:5])) + (", …" if len(new) > 5 else "")
    words = f"Column {named} was" if len(new) == 1 else f"Columns {named} were"
    return (
        f"{words} not there when the schema was learned; drop them, or allow extra columns in a TableSource "
        "(extra='ignore')."
    )


def _retyped(schema: Schema, types: Mapping[str, pa.DataType | None]) -> list[str]:
    found = []
    for name in schema.used:
        kind, wanted = types.get(name), schema[name].family
        got = None if kind is None else family(kind)
        if isinstance(schema[name], Datetime) and got in ("date", "text"):
            continue  # dates are dates, whether a file has them as text or typed
        if got in (None, "missing", wanted) or any({got, wanted} == pair for pair in _readable(wanted)):
            continue
        assert got is not None  # the line above
        found.append(
            f"Column {name!r} holds {plural(got)}, but {plural(wanted)} when the schema was learned; convert it."
        )
    return found


def _readable(wanted: str) -> tuple[frozenset[str], ...]:
    """Pairs of families that can be read as each other; nothing but text is read as text."""
    return () if wanted == "text" else ALIKE


def as_type_of(table: pa.Table, like: Any) -> Any:
    """An Arrow table as the type of frame that something is, with its index; Arrow for anything else."""
    package = type(like).__module__.split(".")[0]
    if package == "pandas":
        frame = table.to_pandas()
        frame.index = like.index
        return frame
    if package == "polars":
        import polars as pl  # noqa: PLC0415  # optional

        return pl.from_arrow(table)
    return table
