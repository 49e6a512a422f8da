"""One page of scored rows: how odd they are, which are the oddest, and why."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes

from isthmus import __version__
from isthmus.atomic import atomic
from isthmus.plots.style import CYCLE, INK, axes_or_new, label
from isthmus.report.report import Section, Table, Tile, picture_section, template
from isthmus.tasks import AnomalyDetector

HISTOGRAM_BINS = 60


@dataclass(frozen=True)
class OddRow:
    """A row to be shown.

    Attributes
    ----------
    row
        Its number, from 0.
    score
        The anomaly score, in nats.
    reasons
        Why, in words.
    """

    row: int
    score: float
    reasons: Sequence[str] = ()


def write_anomaly_report(
    detector: AnomalyDetector,
    scores: np.ndarray,
    worst: Sequence[OddRow],
    path: str | Path,
    *,
    title: str = "Odd rows",
    overwrite: bool = True,
) -> Path:
    """Write one self-contained HTML page of scored rows.

    Parameters
    ----------
    detector
        That scored them.
    scores
        Anomaly scores of all rows, (n,), n >= 1.
    worst
        The rows to list with their reasons, the oddest first.
    path, title, overwrite
        Where the page goes, its headline, and whether to replace a page that is there.

    Raises
    ------
    OutputError
        The page cannot be written; nothing is left behind.
    """
    html = template().render(
        title=title,
        summary=f"{len(scores):,} rows against {len(detector.decision_scores_):,} learned from.",
        tiles=_tiles(detector, scores),
        sections=list(_sections(detector, scores, worst)),
        footer=f"isthmus {__version__}, torch {torch.__version__}, Python {platform.python_version()}.",
    )
    with atomic(path, overwrite=overwrite) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return Path(path)


def _tiles(detector: AnomalyDetector, scores: np.ndarray) -> list[Tile]:
    odd = scores > detector.threshold_
    return [
        Tile("rows", f"{len(scores):,}"),
        Tile("odd rows", f"{odd.sum():,}"),
        Tile("share of odd rows", f"{odd.mean():.2%}"),
        Tile("the same of the rows learned from", f"{detector.labels_.mean():.2%}"),
        Tile("threshold, nats", f"{detector.threshold_:.4g}"),
        Tile("largest score, nats", f"{scores.max():.4g}"),
    ]


def _sections(detector: AnomalyDetector, scores: np.ndarray, worst: Sequence[OddRow]) -> list[Section]:
    ground = "The share of rows by score, of these and of those learned from; beyond the line rows are odd."
    found = [picture_section("Scores", _histogram(detector, scores), ground)]
    rows = [[f"{row.row:,}", f"{row.score:.4g}", "; ".join(row.reasons)] for row in worst]
    told = "Rows count from 0. What stands in a column, and what the other cells of the row lead one to expect there."
    found.append(Section("The oddest rows", told, table=Table(("row", "score", "why"), rows)))
    if hasattr(detector, "schema_"):
        columns = [[column.name, column.kind, column.note] for column in detector.schema_.columns]
        found.append(Section("Columns", table=Table(("column", "kind", "what to know of it"), columns)))
    return found


def _histogram(detector: AnomalyDetector, scores: np.ndarray) -> Axes:
    ax = axes_or_new(None, width=7.5, height=3.2)
    learned = detector.decision_scores_
    finite = np.concatenate([part[np.isfinite(part)] for part in (scores, learned)])
    edges = np.histogram_bin_edges(finite, HISTOGRAM_BINS)  # leaves room where all scores are the same
    for values, name, colour in ((learned, "learned from", CYCLE[6]), (scores, "these rows", CYCLE[0])):
        ax.stairs(np.histogram(values, edges)[0] / len(values), edges, label=name, color=colour)
    if np.isfinite(detector.threshold_):
        ax.axvline(detector.threshold_, color=INK, linestyle=":", label="threshold")
    ax.set_yscale("log")
    ax.legend(frameon=False)
    return label(ax, "anomaly score, nats", "share of rows")
