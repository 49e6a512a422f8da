"""Answers of a saved model for every file of a folder, one file each."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

import isthmus
from isthmus import exceptions
from isthmus.exceptions import DataError, IsthmusWarning, ModelFileError, OutputError, ProcessError
from isthmus.tasks.parts.engines import PART_ENGINES
from isthmus.tasks.parts.listing import list_files, named, warn_of_others
from isthmus.tasks.parts.stamps import Making, Part, digest_of, settings_of, written_stamp
from isthmus.tasks.parts.work import Outcome, Work, without_index

Seen = Callable[[int, int], None]


@dataclass(frozen=True)
class MappedParts:
    """What `map_parts` did.

    Attributes
    ----------
    files
        The output files, by name, whether they were written or skipped.
    n_rows
        Rows in all of them.
    n_skipped
        Number of files that were complete before.
    """

    files: tuple[Path, ...]
    n_rows: int
    n_skipped: int


def map_parts(
    function: Any,
    data: str | Path,
    out: str | Path,
    *,
    engine: str = "none",
    address: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Seen | None = None,
) -> MappedParts:
    """Apply a saved model to every Parquet file of a folder; each gets an output file of the same name.

    Files are read in batches of 16,384 rows. Rows keep their order within a file. Output files appear when they are
    whole. Before anything is written, the columns of all files are checked.

    Parameters
    ----------
    function
        An `Apply`, or another dataclass with the absolute ``path`` of a model file that answers an Arrow table with an
        Arrow table of the same rows. It is pickled for the workers of an engine.
    data
        A folder, whose .parquet files are the parts (names that start with ``_`` or ``.`` are passed over, as by other
        readers of Parquet folders), or a pattern of `glob` such as ``"table/*/part-*.parquet"``.
    out
        The output folder, made if it is missing.
    engine
        Who runs the work. ``"none"``: this process, file by file. ``"ray"``: Ray Data, needs
        ``pip install 'isthmus[ray]'``. ``"dask"``: Dask, needs ``pip install 'isthmus[dask]'``. Lost workers are the
        engine's matter: both run the file again.
    address
        Address of a running cluster. None: workers on this machine, or what the engine's own settings say. Paths must
        lead to the same files on every worker.
    resume
        Skip files that are complete: written by this version of isthmus, with the same model file and settings, from an
        input of the same size and time of change, with as many rows. Other files that `map_parts` wrote are replaced.
    overwrite
        Replace any output file that exists.
    progress
        Called with the number of files that are complete, and of all.

    Raises
    ------
    DataError
        There are no files, files have the same name, cannot be read, or have missing, extra or renamed columns.
    ModelFileError
        The model file is missing or damaged, here or on a worker, or is another file there.
    OutputError
        An output file exists, or the folder cannot be written or is that of the input.
    ProcessError
        The engine gave up, for example because workers were lost again and again, or a worker has another version of
        isthmus.
    ImportError
        The engine is not installed.

    Examples
    --------
    >>> import isthmus, numpy, pandas, pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> table = pandas.DataFrame(numpy.random.default_rng(0).random((20, 3)), columns=["a", "b", "c"])
    >>> _ = isthmus.Autoencoder(2, max_epochs=1, random_state=0).fit(table).save(folder / "model.safetensors")
    >>> (folder / "table").mkdir()
    >>> for part in range(2):
    ...     rows = table.iloc[10 * part : 10 * part + 10].assign(id=range(10))
    ...     rows.to_parquet(folder / "table" / f"part-{part}.parquet")
    >>> encode = isthmus.Apply(folder / "model.safetensors", "transform", keep=["id"])
    >>> done = isthmus.map_parts(encode, folder / "table", folder / "codes")
    >>> [file.name for file in done.files], done.n_rows
    (['part-0.parquet', 'part-1.parquet'], 20)
    >>> isthmus.map_parts(encode, folder / "table", folder / "codes", resume=True).n_skipped
    2
    """
    chosen = PART_ENGINES.resolve(engine)
    chosen.check(address)
    settings = settings_of(function)
    making = Making(isthmus.__version__, digest_of(function.path), settings)
    files, out = list_files(data, out), Path(out)
    parts = _looked_at(files, out, function)
    complete = _complete(parts, making, resume=resume, overwrite=overwrite)
    warn_of_others(files, out)
    todo = [part for part in parts if part not in complete]
    out.mkdir(exist_ok=True)
    if todo:
        _run(chosen.run(Work(function, making), todo, address), len(complete), len(parts), progress)
    return MappedParts(
        tuple(Path(part.target) for part in parts), sum(part.n_rows for part in parts), len(parts) - len(todo)
    )


# -- before anything is written ----------------------------------------------------------------------------------------


def _looked_at(files: Sequence[Path], out: Path, function: Any) -> list[Part]:
    """The parts, after their footers were read and the function was tried on their columns; one error names all."""
    wrong, tried, parts = defaultdict[str, list[str]](list), dict[str, str](), list[Part]()
    for file in files:
        try:
            part, schema = _opened(file, out)
        except (pa.ArrowException, OSError) as error:
            wrong[f"it cannot be read as Parquet ({' '.join(str(error).split())[:200]}); check the file"].append(
                file.name
            )
            continue
        parts.append(part)
        key = schema.to_string(show_schema_metadata=False, show_field_metadata=False)
        if key not in tried:
            tried[key] = _mistake(function, schema)
        if tried[key]:
            wrong[tried[key]].append(file.name)
    if wrong:
        told = [f"{named(names)}: {text.rstrip('.')}" for text, names in wrong.items()]
        raise DataError(f"{sum(map(len, wrong.values()))} of {len(files)} parts cannot be used. {'; '.join(told)}.")
    return parts


def _opened(file: Path, out: Path) -> tuple[Part, pa.Schema]:
    found = file.stat()
    with parquet.ParquetFile(file) as opened:
        n_rows, schema = opened.metadata.num_rows, opened.schema_arrow
    target = out.absolute() / file.name
    return Part(str(file.absolute()), str(target), found.st_size, found.st_mtime_ns, n_rows), schema


def _mistake(function: Any, schema: pa.Schema) -> str:
    """What is wrong with the columns of a part, found by the function itself on a table without rows."""
    repeated = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if repeated:
        return f"more than one column is named {named(repeated)}; rename or drop them"
    try:
        function(without_index(schema.empty_table(), getattr(function, "keep", ())))
    except (ModelFileError, NotImplementedError):
        raise
    except (ValueError, TypeError) as error:
        return str(error)
    return ""


def _complete(parts: Sequence[Part], making: Making, *, resume: bool, overwrite: bool) -> set[Part]:
    """The parts that need no work; output files that would be lost are an error."""
    there = [part for part in parts if Path(part.target).exists()]
    if not resume:
        if there and not overwrite:
            raise OutputError(
                f"{len(there)} of {len(parts)} output files exist, such as '{there[0].target}'; skip those that are "
                "complete (resume=True, --resume), or replace them all (overwrite=True, --force)."
            )
        return set()
    written = {part: written_stamp(part.target) for part in there}
    foreign = [part for part in there if written[part] is None]
    if foreign and not overwrite:
        raise OutputError(
            f"{named([part.target for part in foreign])} exists, but is no whole output of an earlier run; move it "
            "away, or replace it (overwrite=True, --force)."
        )
    return {part for part in there if written[part] == making.stamp(part)}


# -- the run -----------------------------------------------------------------------------------------------------------


def _run(outcomes: Generator[Outcome], n_done: int, n_all: int, progress: Seen | None) -> None:
    """Take the outcomes until all are there, or until the first error."""
    warned = defaultdict[str, list[tuple[str, str]]](list)
    with closing(outcomes):  # an engine ends its work before the error is raised
        for outcome in outcomes:
            if outcome.error:
                _raise(outcome, n_done, n_all)
            n_done += 1
            for kind, text in outcome.warned:
                warned[kind].append((Path(outcome.source).name, text))
            if progress is not None:
                progress(n_done, n_all)
    for kind, found in warned.items():
        _warn(kind, found)


def _raise(outcome: Outcome, n_done: int, n_all: int) -> None:
    kinds = {kind.__name__: kind for kind in (ModelFileError, OutputError, ProcessError)}
    complete = f" {n_done} of {n_all} parts are complete; resume=True (--resume) skips them." if n_done else ""
    where = "" if outcome.kind in kinds or Path(outcome.source).name in outcome.error else f"'{outcome.source}': "
    raise kinds.get(outcome.kind, DataError)(f"{where}{outcome.error}{complete}")


def _warn(kind: str, found: Sequence[tuple[str, str]]) -> None:
    """One warning for all parts that gave one of this kind: a thousand parts may give a thousand texts."""
    names = list(dict.fromkeys(name for name, _ in found))
    others = f" (and {len(names) - 1} more parts)" if len(names) > 1 else ""
    category = getattr(exceptions, kind, IsthmusWarning)
    warnings.warn(f"'{names[0]}'{others}: {found[0][1]}", category, stacklevel=4)
