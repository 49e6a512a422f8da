"""Commands that use a model: encode, reconstruct, score, report, diagnose."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import isthmus
from isthmus.cli import show
from isthmus.cli.errors import WrongUsageError
from isthmus.cli.fit_work import read_target
from isthmus.cli.parts import PartsFlags, refuse_for_parts, run_parts, told
from isthmus.cli.table_options import TextFlags, beside


@dataclass(frozen=True)
class Reading:
    """How rows are read."""

    skip_bad: bool = False
    keep: tuple[str, ...] = ()
    text: TextFlags = TextFlags()

    def read(self, data: str) -> Any:
        """The rows that somebody named."""
        return isthmus.read(data, skip_bad=self.skip_bad, keep=self.keep, **self.text.known())


@dataclass(frozen=True)
class Use:
    """The arguments of a command: a model, rows, and the output."""

    model: Path
    data: str
    out: Path
    force: bool
    skip_bad: bool
    device: str
    keep: tuple[str, ...] = ()
    text: TextFlags = TextFlags()
    escape_formulas: bool = False

    @property
    def reading(self) -> Reading:
        """How the rows are read."""
        return Reading(self.skip_bad, self.keep, self.text)

    def open(self, command: str) -> tuple[Any, Any]:
        """Load the model and the rows, after checking that the output is writable."""
        if self.keep:
            isthmus.files.check_table_format(self.out)
        isthmus.files.check_format(self.out)
        isthmus.files.check_writable(self.out, overwrite=self.force)
        model = show.load_autoencoder(self.model, command, self.device)
        return model, self.reading.read(self.data)

    def write(self, chunks: Iterator[np.ndarray], columns: Sequence[str], kept: Any) -> None:
        """Write result rows next to the kept columns, in the order of the data."""
        if self.keep:
            tables = beside(kept, chunks, [str(name) for name in columns])
            n_rows = isthmus.files.write_tables(
                self.out, tables, overwrite=self.force, escape_formulas=self.escape_formulas
            )
        else:
            names = [str(name) for name in columns]
            n_rows = isthmus.write_rows(
                self.out, chunks, columns=names, overwrite=self.force, escape_formulas=self.escape_formulas
            )
        show.note(f"{n_rows:,} rows: {self.out}")

    def map_parts(self, command: str, function: Any, parts: PartsFlags) -> None:
        """Write the answers of a function for every part."""
        flags = [*self.text.given(), ("--skip-bad", self.skip_bad), ("--escape-formulas", self.escape_formulas)]
        refuse_for_parts(flags)
        show.load_autoencoder(self.model, command, self.device)
        done = run_parts(function, self.data, self.out, parts, overwrite=self.force)
        show.note(f"{done.n_rows:,} rows in {told(done, self.out)}")


def write_verb(verb: str, use: Use) -> None:
    """Write codes or reconstructions in chunks."""
    model, rows = use.open("encode" if verb == "transform" else verb)
    columns = model.get_feature_names_out() if verb == "transform" else _feature_names(model)
    use.write(model.stream(rows.X, verb, y=rows.y), columns, rows.kept)


def write_codes(use: Use, parts: PartsFlags) -> None:
    """Write the codes of rows, in parts where the data are."""
    if parts.found_in(use.data):
        use.map_parts("encode", isthmus.Apply(use.model, "transform", use.keep, use.device), parts)
    else:
        write_verb("transform", use)


def _feature_names(model: Any) -> list[str]:
    """Column names of the rows that a model answers with."""
    if model.target_ is not None:
        return list(model.target_.names or map(str, range(math.prod(model.target_.shape))))
    return [str(name) for name in getattr(model, "feature_names_in_", range(model.n_features_in_))]


@dataclass(frozen=True)
class Scoring:
    """The score and the squared error of each row of a part, as `write_scores` has them."""

    path: str
    keep: tuple[str, ...]
    device: str

    def __call__(self, part: pa.Table) -> pa.Table:
        """The kept columns, ``score`` and ``reconstruction_error``."""
        scores = isthmus.Apply(self.path, "score_samples", self.keep, self.device)(part)
        errors = isthmus.Apply(self.path, "reconstruction_error", (), self.device)(part.drop_columns([*self.keep]))
        clash = sorted({"score", "reconstruction_error"} & {*self.keep})
        if clash:
            raise WrongUsageError(
                f"--keep {clash[0]} has the same name as a column of the result; rename it in the data."
            )
        named = scores.rename_columns([*self.keep, "score"])
        return named.append_column("reconstruction_error", errors.column("reconstruction_error"))


def write_scores(use: Use, parts: PartsFlags) -> None:
    """Write the score and the squared error of each row, in parts where the data are."""
    if parts.found_in(use.data):
        use.map_parts("score", Scoring(str(use.model.absolute()), use.keep, use.device), parts)
        return
    model, rows = use.open("score")
    verbs = ("score_samples", "reconstruction_error")
    both = zip(*(model.stream(rows.X, verb, y=rows.y) for verb in verbs), strict=True)
    use.write((np.column_stack(pair) for pair in both), ["score", "reconstruction_error"], rows.kept)


def print_scores(model_path: Path, data: str, device: str, reading: Reading) -> None:
    """Print the mean score and the spread of the errors."""
    model = show.load_autoencoder(model_path, "score", device)
    rows = reading.read(data)
    errors = model.reconstruction_error(rows.X, rows.y)
    absolute = model.reconstruction_error(rows.X, rows.y, metric="mean-absolute")
    facts = {
        "rows": f"{len(errors):,}",
        "score (higher is better)": f"{model.score(rows.X, rows.y):.6g}",
        "squared error (mean)": f"{errors.mean():.6g}",
        "root mean squared error": f"{errors.mean() ** 0.5:.6g}",
        "absolute error (mean)": f"{absolute.mean():.6g}",
    }
    facts |= {f"squared error ({q:.0%} of rows below)": f"{np.quantile(errors, q):.6g}" for q in (0.5, 0.9, 0.99)}
    show.print_facts(facts)


def write_page(use: Use, target: str | None = None) -> None:
    """Write the report page, on held-out rows where the set has some."""
    isthmus.files.check_writable(use.out, overwrite=use.force)
    model = show.load_autoencoder(use.model, "report", use.device, restorers=True)
    if target is not None or isinstance(model, isthmus.Restorer):
        X, labels, wanted = _with_target(model, use.data, target, use.reading)
        isthmus.write_report(model, X, use.out, labels=labels, target=wanted, overwrite=use.force)
        show.note(f"report: {use.out}")
        return
    rows = use.reading.read(use.data)
    measured, labels, train = (rows.X, rows.y, None) if rows.X_test is None else (rows.X_test, rows.y_test, rows.X)
    isthmus.write_report(model, measured, use.out, labels=labels, X_train=train, overwrite=use.force)
    show.note(f"report: {use.out}")


def _with_target(model: Any, data: str, target: str | None, reading: Reading) -> tuple[Any, Any, Any]:
    """Rows, their labels and their targets; a restorer reads folders itself, as its images may differ in size."""
    if isinstance(model, isthmus.Restorer):
        X, wanted = (
            part if part is None or Path(part).is_dir() else np.asarray(reading.read(part).X) for part in (data, target)
        )
        return X, None, wanted
    rows = reading.read(data)
    return rows.X, rows.y, None if target is None else read_target(rows, data, target, reading.read)


def diagnosis_of(model_path: Path, data: str, train: str | None, reading: Reading, target: str | None = None) -> Any:
    """Diagnose a model on held-out rows where the set has some, with its training rows where they are known."""
    model = show.load_autoencoder(model_path, "diagnose", restorers=True)
    if target is not None or isinstance(model, isthmus.Restorer):
        if train is not None:
            raise WrongUsageError("--train has no effect for pairs and restorers; leave it out.")
        X, labels, wanted = _with_target(model, data, target, reading)
        labels = labels if getattr(model, "conditional", False) else None
        return isthmus.diagnose(model, X, y=labels, target=wanted)
    rows = reading.read(data)
    measured, labels = (rows.X, rows.y) if rows.X_test is None else (rows.X_test, rows.y_test)
    known = rows.X if rows.X_test is not None else None
    known = reading.read(train).X if train is not None else known
    if model.conditional:
        return isthmus.diagnose(model, measured, y=labels)
    return isthmus.diagnose(model, measured, X_train=known)
