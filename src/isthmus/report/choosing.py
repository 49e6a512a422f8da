"""The HTML page of a search of hyper-parameters: the curve over code sizes, the reason, and the trials."""

from __future__ import annotations

import platform
from pathlib import Path

import torch
from matplotlib.axes import Axes

from isthmus import __version__
from isthmus.atomic import atomic
from isthmus.plots.style import ACCENT, QUIET, SECOND, axes_or_new, label, legend
from isthmus.report.report import Section, Table, Tile, picture_section, template
from isthmus.tasks import Chosen


def plot_code_sizes(found: Chosen, *, ax: Axes | None = None) -> Axes:
    """Plot the error over the code size, with PCA's beside it and the chosen size.

    Parameters
    ----------
    found
        From `isthmus.choose`.
    ax
        The axes; None: new ones.
    """
    ax = axes_or_new(ax)
    ax.plot(found.curve["code_size"], found.curve["error"], color=ACCENT, marker="o", label="autoencoder")
    if found.curve["pca_error"].notna().any():
        ax.plot(found.curve["code_size"], found.curve["pca_error"], color=SECOND, marker="s", label="PCA")
    ax.axvline(found.code_size, color=QUIET, linestyle=":", label=f"chosen: {found.code_size}")
    ax.set_xscale("log", base=2)
    ax.set_xticks(list(found.curve["code_size"]), [str(size) for size in found.curve["code_size"]])
    ax.set_ylim(bottom=min(0.0, float(found.curve["error"].min())))
    legend(ax)
    return label(ax, "code size", "held-out error")


def write_choice_report(
    found: Chosen, path: str | Path, *, title: str = "Search of settings", overwrite: bool = True
) -> Path:
    """Write a self-contained HTML page of a search.

    Parameters
    ----------
    found
        From `isthmus.choose`.
    path, title, overwrite
        Output path, title of the page, and whether to replace an existing file.

    Raises
    ------
    OutputError
        The page cannot be written; no partial file is left.
    """
    default = float(found.table.loc[found.table["trial"] == "default", "error"].iloc[0])
    names = [str(name) for name in found.table.columns]
    rows = [[_shown(cell) for cell in line] for line in found.table.itertuples(index=False)]
    html = template().render(
        title=title,
        summary=f"{found.reason} Criterion: {found.criterion}.",
        tiles=[
            Tile("code size", str(found.code_size)),
            Tile("error of the default", f"{default:.4g}"),
            Tile("error of the best", f"{float(found.table['error'].iloc[0]):.4g}"),
            Tile("trials", str(len(found.table))),
            Tile("seconds", f"{found.seconds:.0f}"),
        ],
        sections=[
            picture_section(
                "Code sizes", plot_code_sizes(found), "Default models of each size, measured on held-out rows."
            ),
            Section("Trials", "The best first.", table=Table(names, rows)),
            Section("Best settings", repr(found.estimator)),
        ],
        footer=f"isthmus {__version__}, torch {torch.__version__}, Python {platform.python_version()}.",
    )
    with atomic(path, overwrite=overwrite) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return Path(path)


def _shown(cell: object) -> str:
    if isinstance(cell, float):
        return "" if cell != cell else f"{cell:.4g}"  # noqa: PLR0124  # NaN alone
    return str(cell)
