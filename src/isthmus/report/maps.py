"""The HTML page of a map: the points, with labels and thumbnails, and figures of how faithful they are."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

from isthmus import __version__
from isthmus.atomic import atomic
from isthmus.plots import plot_code_map
from isthmus.plots.style import axes_or_new, image_shape_of
from isthmus.report.report import Tile, picture_section, template
from isthmus.tasks import CodeMap, MapFigures, map_figures

NAMES = {
    "code": "the code itself",
    "pca": "principal components of the codes",
    "opentsne": "openTSNE of the codes",
    "umap": "UMAP of the codes",
}


def write_map_report(
    found: CodeMap,
    X: Any,
    path: str | Path,
    *,
    labels: Any = None,
    images: Any = None,
    title: str = "Map of codes",
    overwrite: bool = True,
) -> Path:
    """Write a self-contained HTML page of a map.

    Parameters
    ----------
    found
        From `isthmus.map_codes`.
    X
        The mapped rows, to which the map is compared.
    path, title, overwrite
        Output path, title of the page, and whether to replace an existing file.
    labels
        A class or number for each row.
    images
        The rows as images, which are drawn as thumbnails; None: X, if rows are images.

    Raises
    ------
    OutputError
        The page cannot be written; no partial file is left.
    """
    figures = map_figures(found.points, X, labels)
    if images is None and image_shape_of(tuple(found.model.feature_shape_)) is not None and hasattr(X, "shape"):
        images = X
    big: Any = {"width": 9.5, "height": 7.5}
    sections = [
        picture_section(
            "Map",
            plot_code_map(found.points, labels, density=True, ax=axes_or_new(None, **big)),
            f"Each point is a row: {NAMES[found.method]}. Grey: the density of the points.",
        )
    ]
    if images is not None:
        drawn = plot_code_map(found.points, images=images, ax=axes_or_new(None, **big))
        sections.append(picture_section("Rows at their points", drawn, "One row of each part of the map."))
    html = template().render(
        title=title,
        summary=f"{len(found.points):,} rows by {NAMES[found.method]}. Trustworthiness and continuity say whether "
        "neighbours in the map are neighbours among the rows, and the other way round; chance is 0.5.",
        tiles=_tiles(found, figures),
        sections=sections,
        footer=f"isthmus {__version__}, torch {torch.__version__}, Python {platform.python_version()}.",
    )
    with atomic(path, overwrite=overwrite) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return Path(path)


def _tiles(found: CodeMap, figures: MapFigures) -> list[Tile]:
    tiles = [Tile("rows", f"{len(found.points):,}"), Tile("method", found.method)]
    if found.explained is not None:
        tiles.append(Tile("variance of the codes shown", f"{found.explained:.0%}"))
    tiles.append(Tile("trustworthiness", f"{figures.trustworthiness:.3f}"))
    tiles.append(Tile("continuity", f"{figures.continuity:.3f}"))
    if figures.neighbour_accuracy is not None:
        tiles.append(Tile("accuracy of 5 nearest neighbours", f"{figures.neighbour_accuracy:.1%}"))
    if figures.silhouette is not None:
        tiles.append(Tile("silhouette of the labels", f"{figures.silhouette:+.3f}"))
    return tiles
