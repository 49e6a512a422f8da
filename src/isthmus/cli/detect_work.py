"""The work of ``isthmus detect``: fit a detector; score rows in chunks."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute, parquet

import isthmus
from isthmus.cli import show
from isthmus.cli.errors import WrongUsageError, noting, refuse
from isthmus.cli.parts import PartsFlags, refuse_for_parts, run_parts, told
from isthmus.cli.settings import parse_assignments, parse_value
from isthmus.cli.table_options import TextFlags

PIECE_ROWS = 2**14
REPORTED_ROWS = 50


@dataclass(frozen=True)
class Lesson:
    """The arguments of `detect fit`."""

    data: str
    out: Path
    settings: dict[str, Any]
    false_alarm_rate: float | None
    kinds: list[str]
    assignments: list[str]
    force: bool
    quiet: bool
    text: TextFlags


def learn(lesson: Lesson) -> None:
    """Fit and save, after checking that the output can be written."""
    detector = _make(lesson)
    detector.set_params(verbose=0 if lesson.quiet else 1)
    detector.fit(_rows(lesson.data, lesson.text))
    detector.set_params(verbose=0).save(lesson.out)
    facts = {
        "rows": f"{len(detector.decision_scores_):,}",
        "columns": _columns(detector),
        "anomalies": f"{detector.labels_.mean():.2%} of them, with a score above {detector.threshold_:.4g}",
        "saved": str(lesson.out),
    }
    show.print_facts(facts)
    for note in detector.schema_.notes if hasattr(detector, "schema_") else ():
        show.note(note)


def _make(lesson: Lesson) -> Any:
    """Build the detector; one error lists all invalid arguments."""
    mistakes: list[str] = []
    detector = isthmus.AnomalyDetector()
    with noting(mistakes):
        _check_model_file(lesson.out, overwrite=lesson.force)
    for name, value in _settings(lesson, mistakes).items():
        with noting(mistakes):
            detector.set_params(**{name: value})
    refuse(mistakes)
    return detector


def _settings(lesson: Lesson, mistakes: list[str]) -> dict[str, Any]:
    flags = {name: value for name, value in lesson.settings.items() if value is not None}
    with noting(mistakes):
        threshold = _threshold(flags.pop("threshold", None), lesson.false_alarm_rate)
        flags |= {} if threshold is None else {"threshold": threshold}
    with noting(mistakes):
        flags |= {"kinds": _kinds(lesson.kinds)} if lesson.kinds else {}
    with noting(mistakes):
        return parse_assignments(lesson.assignments) | flags
    return flags


def _check_model_file(path: Path, *, overwrite: bool) -> None:
    if path.suffix != ".safetensors":
        raise WrongUsageError(
            f"--out '{path}' has the suffix {path.suffix!r}; a detector file needs the suffix .safetensors."
        )
    isthmus.files.check_writable(path, overwrite=overwrite)


def _threshold(share: str | None, false_alarm_rate: float | None) -> Any:
    if share is not None and false_alarm_rate is not None:
        raise WrongUsageError("--threshold and --false-alarm-rate cannot be combined; use one of them.")
    if false_alarm_rate is not None:
        return isthmus.FalseAlarmRate(false_alarm_rate)
    return None if share is None else parse_value(share)


def _kinds(words: list[str]) -> dict[str, Any]:
    pairs = [(word, *word.rpartition("=")) for word in words]
    refuse(
        f"--kind {word!r} has no kind; write COLUMN=KIND, such as town=categorical."
        for word, name, _, kind in pairs
        if not name or not kind
    )
    return {name: kind.split(",") if "," in kind and "%" not in kind else kind for _, name, _, kind in pairs}


def _columns(detector: Any) -> str:
    if not hasattr(detector, "schema_"):
        return f"{detector.n_features_in_:,} numeric"
    kinds = [column.kind for column in detector.schema_.columns]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))


def _rows(data: str, text: TextFlags) -> Any:
    """A table in a file, which is read in chunks, or rows in memory."""
    return isthmus.tables.open_table(data, text.format()) if isthmus.tables.is_table(data) else isthmus.read(data).X


# -- scoring -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Watch:
    """The arguments of `detect score`."""

    detector: Path
    data: str
    out: Path | None
    explain: int
    threshold: str | None
    false_alarm_rate: float | None
    follow: bool
    idle: float | None
    report: Path | None
    as_json: bool
    force: bool
    device: str
    text: TextFlags
    escape_formulas: bool
    keep: tuple[str, ...] = ()
    parts: PartsFlags = PartsFlags()


@dataclass(frozen=True)
class Scored:
    """Some rows with their scores.

    Attributes
    ----------
    rows
        The input of the detector.
    kept
        The columns that are not given to the detector; None: all are given, and all are kept.
    first_row
        Index of the first row, from 0.
    scores, anomalies, p_values
        One value per row; p-values only for a calibrated detector.
    reasons
        Explanations of the anomalies, by index.
    """

    rows: Any
    kept: pa.Table | None
    first_row: int
    scores: np.ndarray
    anomalies: np.ndarray
    p_values: np.ndarray | None
    reasons: dict[int, Any]


def watch(asked: Watch) -> int:
    """Score all rows, write or print the results, and return the number of anomalies."""
    in_parts = asked.parts.found_in(asked.data)
    _check(asked, in_parts=in_parts)
    detector = load_detector(asked.detector, asked.device, asked.threshold, asked.false_alarm_rate)
    if in_parts and asked.out is not None:
        return _watch_parts(asked, asked.out)
    counts, oddest = _Counts(), _Oddest()
    scored = counts.counting(_scored(detector, asked))
    scored = scored if asked.report is None else oddest.keeping(scored)
    if asked.out is not None:
        tables_of = (_table(detector, part, asked) for part in _shown(scored))
        isthmus.files.write_tables(asked.out, tables_of, overwrite=asked.force, escape_formulas=asked.escape_formulas)
        show.note(f"{counts.rows:,} rows, {counts.odd:,} anomalies: {asked.out}")
    else:
        _print(scored, as_json=asked.as_json)
        if not asked.as_json:
            show.note(f"{counts.rows:,} rows, {counts.odd:,} anomalies")
    if asked.report is not None and counts.rows:
        oddest.write(detector, asked, asked.report)
    return counts.odd


def load_detector(path: str | Path, device: str, threshold: str | None, false_alarm_rate: float | None) -> Any:
    """The detector of a file, with another threshold where one is given."""
    detector = isthmus.load(path, device=device)
    if not isinstance(detector, isthmus.AnomalyDetector):
        raise isthmus.ModelFileError(
            f"'{path}' contains a {type(detector).__name__}, but a detector is needed; "
            "write one with `isthmus detect fit`."
        )
    chosen = _threshold(threshold, false_alarm_rate)
    if chosen is not None:
        detector.set_threshold(chosen)
    return detector


def _check(asked: Watch, *, in_parts: bool) -> None:
    """Check the arguments before any data are read; one error lists all that are invalid."""
    mistakes: list[str] = []
    if asked.follow and asked.out is not None:
        mistakes.append("--follow prints anomalies and never ends; remove --out, or redirect stdout to a file.")
    if asked.idle is not None and not asked.follow:
        mistakes.append("--idle needs --follow; pass both.")
    if asked.follow and asked.report is not None:
        mistakes.append("--follow never ends, but --report is written at the end; use one of them.")
    with noting(mistakes):
        _threshold(asked.threshold, asked.false_alarm_rate)
    if in_parts and asked.out is None:
        mistakes.append(f"'{asked.data}' is in parts, which need a folder for their outputs; use --out FOLDER.")
    refuse(mistakes)
    if in_parts:
        flags = [("--follow", asked.follow), ("--report", asked.report), ("--json", asked.as_json)]
        refuse_for_parts([*flags, *asked.text.given(), ("--escape-formulas", asked.escape_formulas)])
        return
    if asked.report is not None:
        isthmus.files.check_writable(asked.report, overwrite=asked.force)
    if asked.out is not None:
        isthmus.files.check_table_format(asked.out)
        isthmus.files.check_writable(asked.out, overwrite=asked.force)


def _watch_parts(asked: Watch, out: Path) -> int:
    """Score all parts, and return the number of anomalies in all output files."""
    function = Judging(
        str(asked.detector.absolute()),
        asked.keep,
        asked.explain,
        asked.threshold,
        asked.false_alarm_rate,
        asked.device,
    )
    done = run_parts(function, asked.data, out, asked.parts, overwrite=asked.force)
    odd = [parquet.read_table(file, columns=["anomaly"]).column(0) for file in done.files]
    n_odd = sum(compute.sum(column).as_py() or 0 for column in odd)
    show.note(f"{done.n_rows:,} rows, {n_odd:,} anomalies in {told(done, out)}")
    return n_odd


@dataclass(frozen=True)
class Judging:
    """The results for the rows of a part, as `watch` has them."""

    path: str
    keep: tuple[str, ...]
    explain: int
    threshold: str | None
    false_alarm_rate: float | None
    device: str

    def __call__(self, part: pa.Table) -> pa.Table:
        """The kept or else all columns, and the results."""
        if not len(part):  # `Apply` checks the columns of a table without rows, which the detector refuses
            isthmus.Apply(self.path, "score_samples", self.keep, self.device)(part)
        found = Path(self.path).stat()
        chosen = self.device, self.threshold, self.false_alarm_rate
        detector = _detector(self.path, *chosen, found.st_mtime_ns, found.st_size)
        piece, kept = parted(isthmus.tables.TablePiece(part, 0), self.keep)
        return with_results(
            part if kept is None else kept, judged(detector, piece, kept, 0, self.explain), self.explain
        )


@functools.lru_cache(maxsize=2)  # each worker has one
def _detector(
    path: str,
    device: str,
    threshold: str | None,
    false_alarm_rate: float | None,
    changed: int,  # noqa: ARG001  # part of the key
    size: int,  # noqa: ARG001  # part of the key
) -> Any:
    return load_detector(path, device, threshold, false_alarm_rate)


@dataclass
class _Counts:
    """Number of rows and of anomalies."""

    rows: int = 0
    odd: int = 0

    def counting(self, parts: Iterator[Scored]) -> Iterator[Scored]:
        for part in parts:
            self.rows += len(part.scores)
            self.odd += int(part.anomalies.sum())
            yield part


@dataclass
class _Oddest:
    """All scores, and the most anomalous rows for the report."""

    scores: list[np.ndarray] = field(default_factory=list)
    rows: list[Any] = field(default_factory=list)

    def keeping(self, parts: Iterator[Scored]) -> Iterator[Scored]:
        for part in parts:
            self.scores.append(part.scores)
            found = [self._row(part, place) for place in np.flatnonzero(part.anomalies).tolist()]
            self.rows = sorted([*self.rows, *found], key=lambda row: -row.score)[:REPORTED_ROWS]
            yield part

    @staticmethod
    def _row(part: Scored, place: int) -> Any:
        reasons = part.reasons[place].reasons if place in part.reasons else ()
        return isthmus.AnomalousRow(part.first_row + place, float(part.scores[place]), [*map(str, reasons)])

    def write(self, detector: Any, asked: Watch, page: Path) -> None:
        title = f"Anomalies of {Path(asked.data).name}"
        isthmus.write_anomaly_report(
            detector, np.concatenate(self.scores), self.rows, page, title=title, overwrite=asked.force
        )
        show.note(f"report: {page}")


def _scored(detector: Any, asked: Watch) -> Iterator[Scored]:
    for first_row, piece in _pieces(asked):
        yield judged(detector, *parted(piece, asked.keep), first_row, asked.explain)


def judged(detector: Any, piece: Any, kept: pa.Table | None, first_row: int, n_reasons: int) -> Scored:
    """Some rows with their scores, and explanations of those that are anomalies."""
    scores = -detector.score_samples(_as_learned(detector, piece)) if _n_rows(piece) else np.empty(0)
    verdicts = isthmus.tasks.verdicts(detector, scores)
    anomalies, p_values = verdicts["anomaly"], verdicts.get("p_value")
    odd = np.flatnonzero(anomalies)
    explained = n_reasons and len(odd) and len(getattr(detector, "feature_shape_", (1,))) == 1
    chosen = _as_learned(detector, _chosen(piece, odd)) if explained else None
    found = detector.explain(chosen, n_columns=n_reasons) if explained else []
    reasons = dict(zip(odd.tolist(), found, strict=False))
    return Scored(piece, kept, first_row, scores, anomalies, p_values, reasons)


def _n_rows(piece: Any) -> int:
    return piece.n_rows if isinstance(piece, isthmus.tables.TablePiece) else len(piece)


def parted(piece: Any, keep: tuple[str, ...]) -> tuple[Any, pa.Table | None]:
    """The rows without the kept columns, and these columns."""
    if not keep:
        return piece, None
    if not isinstance(piece, isthmus.tables.TablePiece):
        raise WrongUsageError("--keep needs a table with named columns, but DATA are arrays or images; remove it.")
    missing = [name for name in keep if name not in piece.names]
    if missing:
        raise isthmus.DataError(f"The table has no column {missing[0]!r} to keep; it has {piece.names}.")
    rest = isthmus.tables.TablePiece(piece.arrow.drop_columns([*keep]), piece.first_row, untyped=piece.untyped)
    rest.n_rows_of_all = piece.n_rows_of_all
    return rest, piece.arrow.select([*keep])


def _as_learned(detector: Any, piece: Any) -> Any:
    """Rows as a detector knows them: a table by its schema, and for one that learned from numbers alone, numbers."""
    if not isinstance(piece, isthmus.tables.TablePiece) or hasattr(detector, "schema_"):
        return piece
    if not hasattr(detector, "feature_names_in_"):
        return piece.numbers()
    import pandas as pd  # noqa: PLC0415  # slow to import

    return pd.DataFrame(piece.numbers(), columns=piece.names)


def _shown(parts: Iterator[Scored]) -> Iterator[Scored]:
    """The same with a progress bar on stderr, if that is a terminal."""
    with show.progress("scoring") as move:
        for part in parts:
            move(part.first_row + len(part.scores), getattr(part.rows, "n_rows_of_all", None))
            yield part


def _pieces(asked: Watch) -> Iterator[tuple[int, Any]]:
    """Rows in chunks, with the index of the first."""
    if asked.follow:
        yield from (
            (piece.first_row, piece)
            for piece in isthmus.tables.follow(asked.data, idle=asked.idle, text=asked.text.format())
        )
    elif isthmus.tables.is_table(asked.data):
        opened = isthmus.tables.open_table(asked.data, asked.text.format())
        yield from ((piece.first_row, piece) for piece in isthmus.tables.read_pieces(opened, PIECE_ROWS))
    else:
        X = isthmus.read(asked.data).X
        for start in range(0, len(X), PIECE_ROWS):
            rows = slice(start, min(start + PIECE_ROWS, len(X)))
            yield start, X.read(rows) if isinstance(X, isthmus.Source) else X[rows]


def _chosen(rows: Any, places: np.ndarray) -> Any:
    return rows.chosen(places) if isinstance(rows, isthmus.tables.TablePiece) else rows[places]


def _table(detector: Any, part: Scored, asked: Watch) -> pa.Table:
    """The rows with their results; in a .csv file all cells keep their original text."""
    piece = part.rows
    if part.kept is not None:
        table = part.kept
    elif isinstance(piece, isthmus.tables.TablePiece):
        as_text = asked.out is not None and asked.out.suffix == ".csv"
        table = piece.arrow if as_text or not hasattr(detector, "schema_") else piece.typed(detector.schema_)
    else:
        table = pa.table({"row": np.arange(part.first_row, part.first_row + len(part.scores))})
    return with_results(table, part, asked.explain)


def with_results(table: pa.Table, part: Scored, n_reasons: int) -> pa.Table:
    """A table with the columns of the results behind its own."""
    for name, column in _found(part, n_reasons).items():
        if name in table.column_names:
            raise isthmus.DataError(f"The table already has a column {name!r}, which the result needs; rename it.")
        table = table.append_column(name, column)
    return table


def _found(part: Scored, n_reasons: int) -> dict[str, pa.Array]:
    columns = {"anomaly_score": pa.array(part.scores), "anomaly": pa.array(part.anomalies)}
    columns |= {} if part.p_values is None else {"p_value": pa.array(part.p_values)}
    for rank in range(n_reasons):
        words = [_reason(part.reasons.get(place), rank) for place in range(len(part.scores))]
        columns[f"reason_{rank + 1}"] = pa.array(words, pa.string())
    return columns


def _reason(explanation: Any, rank: int) -> str | None:
    return None if explanation is None or rank >= len(explanation.reasons) else str(explanation.reasons[rank])


def _print(parts: Iterator[Scored], *, as_json: bool) -> None:
    """Print one line per anomaly, immediately."""
    try:
        for part in parts:
            for place in np.flatnonzero(part.anomalies).tolist():
                show.note(show.to_json(_facts(part, place), indent=None) if as_json else _line(part, place))
    except KeyboardInterrupt:
        return  # Ctrl-C ends --follow


def _facts(part: Scored, place: int) -> dict[str, Any]:
    facts: dict[str, Any] = {"row": part.first_row + place, "score": float(part.scores[place])}
    facts |= {} if part.p_values is None else {"p_value": float(part.p_values[place])}
    reasons = part.reasons[place].reasons if place in part.reasons else ()
    return facts | {"reasons": [vars(reason) for reason in reasons]}


def _line(part: Scored, place: int) -> str:
    why = f": {part.reasons[place]}" if place in part.reasons else ""
    return f"row {part.first_row + place}, score {part.scores[place]:.4g}{why}"
