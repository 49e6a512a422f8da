"""The HTML report of anomaly scores: distribution, most anomalous rows, and explanations."""

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
class AnomalousRow:
    """An anomaly to show.

    Attributes
    ----------
    row
        Row index, from 0.
    score
        The anomaly score, in nats.
    reasons
        Explanations as text.
    """

    row: int
    score: float
    reasons: Sequence[str] = ()


def write_anomaly_report(
    detector: AnomalyDetector,
    scores: np.ndarray,
    worst: Sequence[AnomalousRow],
    path: str | Path,
    *,
    title: str = "Anomalies",
    overwrite: bool = True,
) -> Path:
    """Write a self-contained HTML report of scored rows.

    Parameters
    ----------
    detector
        The detector of the scores.
    scores
        Anomaly scores of all rows, (n,), n >= 1.
    worst
        The rows to list with their explanations, the most anomalous first.
    path, title, overwrite
        Output path, title of the page, and whether to replace an existing file.

    Raises
    ------
    OutputError
        The page cannot be written; no partial file is left.
    """
    html = template().render(
        title=title,
        summary=f"{len(scores):,} rows, compared with {len(detector.decision_scores_):,} training rows.",
        tiles=_tiles(detector, scores),
        sections=list(_sections(detector, scores, worst)),
        footer=f"isthmus {__version__}, torch {torch.__version__}, Python {platform.python_version()}.",
    )
    with atomic(path, overwrite=overwrite) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return Path(path)


def _tiles(detector: AnomalyDetector, scores: np.ndarray) -> list[Tile]:
    odd = scores > detector.threshold_ + detector.rounding_
    return [
        Tile("rows", f"{len(scores):,}"),
        Tile("anomalies", f"{odd.sum():,}"),
        Tile("fraction of anomalies", f"{odd.mean():.2%}"),
        Tile("fraction in the training rows", f"{detector.labels_.mean():.2%}"),
        Tile("threshold, nats", f"{detector.threshold_:.4g}"),
        Tile("largest score, nats", f"{scores.max():.4g}"),
    ]


def _sections(detector: AnomalyDetector, scores: np.ndarray, worst: Sequence[AnomalousRow]) -> list[Section]:
    ground = "Distribution of the scores of these rows and of the training rows; beyond the line rows are anomalies."
    found = [picture_section("Scores", _histogram(detector, scores), ground)]
    rows = [[f"{row.row:,}", f"{row.score:.4g}", "; ".join(row.reasons)] for row in worst]
    told = "Rows count from 0. Each reason names a column, its value, and the value expected from the rest of the row."
    found.append(Section("Most anomalous rows", told, table=Table(("row", "score", "why"), rows)))
    if hasattr(detector, "schema_"):
        columns = [[column.name, column.kind, column.note] for column in detector.schema_.columns]
        found.append(Section("Columns", table=Table(("column", "kind", "remark"), columns)))
    return found


def _histogram(detector: AnomalyDetector, scores: np.ndarray) -> Axes:
    ax = axes_or_new(None, width=7.5, height=3.2)
    learned = detector.decision_scores_
    finite = np.concatenate([part[np.isfinite(part)] for part in (scores, learned)])
    edges = np.histogram_bin_edges(finite, HISTOGRAM_BINS)  # has a positive width even if all scores are equal
    for values, name, colour in ((learned, "training rows", CYCLE[6]), (scores, "these rows", CYCLE[0])):
        ax.stairs(np.histogram(values, edges)[0] / len(values), edges, label=name, color=colour)
    if np.isfinite(detector.threshold_):
        ax.axvline(detector.threshold_, color=INK, linestyle=":", label="threshold")
    ax.set_yscale("log")
    ax.legend(frameon=False)
    return label(ax, "anomaly score, nats", "fraction of rows")
