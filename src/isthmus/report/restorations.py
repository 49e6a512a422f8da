"""The HTML report of restored images: before, after and clean, side by side."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from isthmus import __version__
from isthmus.atomic import atomic
from isthmus.data.images import read_image
from isthmus.plots.restorations import plot_restorations
from isthmus.report.report import Section, Table, Tile, picture_section, template
from isthmus.tasks import RestoredFile, Restorer

SHOWN = 6
"""Images in a report."""
COLUMNS = ("before", "after", "clean")


def write_restoration_report(
    restorer: Restorer,
    files: Sequence[RestoredFile],
    path: str | Path,
    *,
    clean: str | Path | None = None,
    title: str = "Restored images",
    overwrite: bool = True,
) -> Path:
    """Write a self-contained HTML report of restored images.

    Parameters
    ----------
    restorer
        The restorer that made them.
    files
        What `restore_folder` gave; the first that were restored are shown.
    path, title, overwrite
        Output path, title of the page, and whether to replace an existing file.
    clean
        A folder with the clean images, by the same names, to show beside them.

    Raises
    ------
    OutputError
        The page cannot be written; no partial file is left.
    """
    restored, failed = [file for file in files if file.path], [file for file in files if file.error]
    sections = [_section(file, clean) for file in restored[:SHOWN]]
    if failed:
        sections.append(Section("Not restored", table=Table(("file", "reason"), [[f.name, f.error] for f in failed])))
    shown = f", of which the first {SHOWN} are shown" if len(restored) > SHOWN else ""
    html = template().render(
        title=title,
        summary=f"{len(restored):,} restored images{shown}.",
        tiles=_tiles(restorer, len(failed)),
        sections=sections,
        footer=f"isthmus {__version__}, torch {torch.__version__}, Python {platform.python_version()}.",
    )
    with atomic(path, overwrite=overwrite) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return Path(path)


def _section(file: RestoredFile, clean: str | Path | None) -> Section:
    assert file.path is not None
    shown = [file.damaged, file.path, *([Path(clean) / file.name] if clean is not None else [])]
    images = [read_image(path)[0] for path in shown]
    size = "×".join(map(str, images[0].shape[:2]))
    figure = plot_restorations([images], columns=COLUMNS[: len(images)])
    return picture_section(file.name, figure, f"{size} pixels; large images are shown by the detail in their middle.")


def _tiles(restorer: Restorer, n_failures: int) -> list[Tile]:
    damage: Any = "of pairs" if restorer.damage is None else restorer.damage
    return [
        Tile("damage", str(damage)),
        Tile("steps of training", f"{restorer.max_steps:,}"),
        Tile("files not restored", f"{n_failures:,}"),
    ]
