"""The work on one part, which any process can do: read it in batches, apply the function, write the answers."""

from __future__ import annotations

import itertools
import json
import socket
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
from pyarrow import parquet

import isthmus
from isthmus.atomic import atomic
from isthmus.exceptions import DataError, IsthmusError, ModelFileError, ProcessError
from isthmus.tasks.parts.stamps import Making, Part, as_metadata, digest_of

BATCH_ROWS = 2**14
"""Rows in memory at a time; 30 columns and their answers take some 10 MB."""
EXPECTED = (IsthmusError, ValueError, TypeError, OverflowError, OSError, pa.ArrowException, MemoryError)
"""What data, files and settings can cause; anything else is a defect and keeps its traceback."""
INDEX = "__index_level_"
"""How pandas names the column of an index without a name."""


@dataclass(frozen=True)
class Outcome:
    """What became of a part; plain values, so that every engine can send it.

    Attributes
    ----------
    source
        The part.
    n_rows
        Rows written.
    error, kind
        The message and the class of an error; empty if there was none.
    warned
        Pairs of the class of a warning and its message.
    """

    source: str
    n_rows: int = 0
    error: str = ""
    kind: str = ""
    warned: list[tuple[str, str]] = field(default_factory=list)

    def to_json(self) -> str:
        """The outcome as text."""
        return json.dumps(vars(self))

    @classmethod
    def of_json(cls, text: str) -> Self:
        """The outcome that a text holds."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Work:
    """What a worker does with each part.

    Attributes
    ----------
    function
        Answers an Arrow table with an Arrow table of the same rows; its ``path`` is the model file.
    making
        What the answers depend on: the model file under the same path on a worker may be another one.
    host
        The machine that asked; errors name other machines.
    """

    function: Any
    making: Making
    host: str = field(default_factory=socket.gethostname)

    def __call__(self, part: Part) -> Outcome:
        """Write the answers of a part; an error of the data or of a file is an outcome."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            outcome = self._tried(part)
        told = [
            (each.category.__name__, str(each.message)) for each in caught if issubclass(each.category, UserWarning)
        ]
        return replace(outcome, warned=list(dict.fromkeys(told)))

    def _tried(self, part: Part) -> Outcome:
        try:
            return Outcome(part.source, self._write(part))
        except EXPECTED as error:
            here = socket.gethostname()
            where = "" if here == self.host else f" (on the worker {here})"
            text = " ".join(str(error).split()) or type(error).__name__
            return Outcome(part.source, error=f"{text}{where}", kind=type(error).__name__)

    def _write(self, part: Part) -> int:
        self._check_worker()
        _check_unchanged(part)
        with atomic(part.target) as temporary:
            n_rows = self._fill(temporary, part)
            _check_unchanged(part)
            if n_rows != part.n_rows:
                raise DataError(
                    f"The function gave {n_rows:,} answers for {part.n_rows:,} rows; it must keep all rows."
                )
        return n_rows

    def _check_worker(self) -> None:
        if isthmus.__version__ != self.making.version:
            raise ProcessError(
                f"The worker has isthmus {isthmus.__version__}, but {self.making.version} is needed; install one "
                "version everywhere."
            )
        if digest_of(self.function.path) != self.making.model:
            raise ModelFileError(
                f"'{self.function.path}' is another file than at the start; put the model into a folder that all "
                "workers share, leave it as it is, and start again."
            )

    def _fill(self, path: Path, part: Part) -> int:
        answers, n_rows = self._answers(part.source), 0
        first = next(answers)
        schema = first.schema.with_metadata(as_metadata(self.making.stamp(part)))
        with parquet.ParquetWriter(path, schema) as out:
            for table in itertools.chain([first], answers):
                out.write_table(table.cast(schema))  # columns of which a batch knows no type have the first one's
                n_rows += table.num_rows
        return n_rows

    def _answers(self, source: str) -> Iterator[pa.Table]:
        first_row = 0
        for batch in batches_of(source, getattr(self.function, "keep", ())):
            try:
                yield self.function(batch)
            except ModelFileError:
                raise
            except (ValueError, TypeError) as error:
                after = f" (rows are counted from row {first_row:,} of the file)" if first_row else ""
                raise DataError(f"{error}{after}") from error
            first_row += batch.num_rows


def _check_unchanged(part: Part) -> None:
    """Refuse an input that is not the one that was listed: it is being written, or is another file on the worker."""
    found = Path(part.source).stat()
    if found.st_size != part.size or found.st_mtime_ns != part.changed:
        raise DataError(f"'{part.source}' changed while it was being read; wait for its writer to finish.")


def batches_of(source: str, keep: Sequence[str] = ()) -> Iterator[pa.Table]:
    """The rows of a Parquet file in batches; a file without rows gives one empty table.

    Every column of the file is a column of the table, the named index of a pandas frame too, as in `isthmus.read`.
    An index without a name is dropped, or is called ``"index"`` if that is to be kept.
    """
    with parquet.ParquetFile(source, pre_buffer=False) as file:
        batches, n_read = file.iter_batches(BATCH_ROWS), 0
        while (batch := _next(batches, source)) is not None:
            yield without_index(pa.Table.from_batches([batch]), keep)
            n_read += 1
        if not n_read:
            yield without_index(file.schema_arrow.empty_table(), keep)


def _next(batches: Iterator[pa.RecordBatch], source: str) -> pa.RecordBatch | None:
    """The next batch; `atomic` would take Arrow's errors for those of the output."""
    try:
        return next(batches, None)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"'{source}' cannot be read as Parquet ({reason}); check the file.") from None


def without_index(table: pa.Table, keep: Sequence[str] = ()) -> pa.Table:
    """A table without the metadata of pandas, by which a column would become the index, and without its index."""
    table = table.replace_schema_metadata(None)
    place = next((place for place, name in enumerate(table.column_names) if name.startswith(INDEX)), None)
    if place is None or table.num_columns == 1:
        return table
    if "index" in keep and "index" not in table.column_names:
        return table.rename_columns(["index" if at == place else name for at, name in enumerate(table.column_names)])
    return table.remove_column(place)


ToOutcome = Callable[[Part], Outcome]
"""What engines run on every part."""
