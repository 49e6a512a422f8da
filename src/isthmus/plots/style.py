"""How all pictures look: colours that colour-blind readers tell apart, quiet axes, a size that fits a page."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, QUIET, GRID = "#1f2933", "#7b8794", "#e4e7eb"
ACCENT, SECOND = "#0f6b8f", "#e07a3f"
CYCLE = ("#0f6b8f", "#e07a3f", "#4a9d5b", "#a1467e", "#c9a227", "#5b6abf", "#7b8794", "#8c5a3c")
"""Colours of lines, in order."""


def axes_or_new(ax: Axes | None, *, width: float = 6.0, height: float = 3.8) -> Axes:
    """The axes given, or those of a new figure, made quiet."""
    ax = ax if ax is not None else Figure(figsize=(width, height), layout="constrained").subplots()
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(QUIET)
    ax.tick_params(colors=QUIET, labelsize=9)
    ax.grid(color=GRID, linewidth=0.7)
    ax.set_axisbelow(True)
    return ax


def label(ax: Axes, x: str, y: str, title: str = "") -> Axes:
    """Name both axes, and the picture."""
    ax.set_xlabel(x, color=INK)
    ax.set_ylabel(y, color=INK)
    if title:
        ax.set_title(title, loc="left", color=INK, fontsize=11)
    return ax


def figure_of(drawn: Figure | Axes) -> Figure:
    """The figure that a picture lies on."""
    figure = drawn if isinstance(drawn, Figure) else drawn.get_figure(root=True)
    if not isinstance(figure, Figure):
        raise TypeError(f"A picture must lie on a matplotlib Figure, not on {figure!r}.")
    return figure


def save(drawn: Figure | Axes, path: str | Path | BinaryIO, *, dots_per_inch: int = 150) -> None:
    """Write a picture to a file, whose ending tells the format (PNG for a stream)."""
    kind = Path(path).suffix[1:] if isinstance(path, str | Path) else "png"
    figure_of(drawn).savefig(path, dpi=dots_per_inch, format=kind)


def image_shape_of(feature_shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape in which a row is shown as an image: its own, or a square for flat rows of 64, 784, …; else None."""
    if len(feature_shape) > 1:
        return feature_shape
    side = math.isqrt(feature_shape[0])
    return (side, side) if side >= 5 and side * side == feature_shape[0] else None


def show_row(ax: Axes, row: np.ndarray, shape: tuple[int, ...] | None, **limits: Any) -> None:
    """Draw one row: as an image where it is one, else as a line; without ticks."""
    ax.set_xticks([])
    ax.set_yticks([])
    if shape is None:
        ax.plot(row.ravel(), color=ACCENT, linewidth=0.9)
        ax.spines[["top", "right"]].set_visible(False)
        return
    ax.spines[:].set_visible(False)
    image = row.reshape(shape)
    image = image[..., 0] if len(shape) == 3 and shape[2] == 1 else image
    if image.ndim == 3:
        ax.imshow(np.clip(image.astype(float) / (255 if limits.get("vmax", 1) > 1 else 1), 0, 1))
    else:
        ax.imshow(image, cmap="gray", interpolation="nearest", **limits)
