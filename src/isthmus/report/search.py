"""The HTML page of a search: the rows found, with thumbnails and distances."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from isthmus import __version__
from isthmus.atomic import atomic
from isthmus.plots.style import QUIET, flat_image, literal, plain
from isthmus.report.report import Section, Table, picture_section, template
from isthmus.tasks import Matches

PICTURED = 10
"""Thumbnails in a line."""


def write_search_report(found: Matches, path: str | Path, *, title: str = "Search", overwrite: bool = True) -> Path:
    """Write a self-contained HTML page of the rows that a search found.

    Parameters
    ----------
    found
        From `isthmus.SearchIndex.query`.
    path, title, overwrite
        Output path, title of the page, and whether to replace an existing file.

    Raises
    ------
    OutputError
        The page cannot be written; no partial file is left.
    """
    sections = []
    for query, (names, distances) in enumerate(zip(found.names, found.distances, strict=True)):
        heading = f"Example {query}" if len(found.names) > 1 else "Found"
        if found.thumbnails is not None:
            drawn = _thumbnails(found.thumbnails[query], names, distances)
            sections.append(picture_section(heading, drawn, "The nearest first."))
        rows = [[str(name), f"{away:.4g}"] for name, away in zip(names, distances, strict=True)]
        sections.append(Section(f"{heading}: distances", table=Table(("row", "distance"), rows)))
    html = template().render(
        title=title,
        summary="Rows whose codes are nearest to those of the example.",
        tiles=[],
        sections=sections,
        footer=f"isthmus {__version__}, torch {torch.__version__}, Python {platform.python_version()}.",
    )
    with atomic(path, overwrite=overwrite) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return Path(path)


def _thumbnails(images: np.ndarray, names: np.ndarray, distances: np.ndarray) -> Figure:
    lines = -(-len(images) // PICTURED)
    figure = Figure(figsize=(10.0, 1.35 * lines), layout="constrained")
    grid = figure.subplots(lines, PICTURED, squeeze=False)
    for ax in grid.ravel():
        ax.set_axis_off()
    for ax, image, name, away in zip(grid.ravel(), images, names, distances, strict=False):
        shown = flat_image(image)
        ax.imshow(shown, cmap="gray" if shown.ndim == 2 else None, vmin=0, vmax=255, interpolation="nearest")
        words = plain(name)
        short = words if len(words) <= 14 else f"…{words[-13:]}"
        literal(ax.set_title(f"{short}\n{away:.3g}", fontsize=7, color=QUIET))
    return figure
