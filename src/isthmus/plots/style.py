"""Common style of all plots: colours that colour-blind readers can distinguish, light axes, sizes for a page."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

INK, QUIET, GRID = "#1f2933", "#7b8794", "#e4e7eb"
ACCENT, SECOND = "#0f6b8f", "#e07a3f"
CYCLE = ("#0f6b8f", "#e07a3f", "#4a9d5b", "#a1467e", "#c9a227", "#5b6abf", "#7b8794", "#8c5a3c")
"""Colours of lines, in order."""
LONGEST_LABEL = 40
COLOURED = (1, 3, 4)
"""Numbers of channels that matplotlib can draw; two channels are drawn as red and green."""


def axes_or_new(ax: Axes | None, *, width: float = 6.0, height: float = 3.8) -> Axes:
    """The given axes, or those of a new figure, in the common style."""
    ax = ax if ax is not None else Figure(figsize=(width, height), layout="constrained").subplots()
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(QUIET)
    ax.tick_params(colors=QUIET, labelsize=9)
    ax.grid(color=GRID, linewidth=0.7)
    ax.set_axisbelow(True)
    return ax


def label(ax: Axes, x: str, y: str, title: str = "") -> Axes:
    """Label both axes, and set the title."""
    ax.set_xlabel(x, color=INK)
    ax.set_ylabel(y, color=INK)
    if title:
        ax.set_title(title, loc="left", color=INK, fontsize=11)
    return ax


def figure_of(drawn: Figure | Axes) -> Figure:
    """The figure of a plot."""
    figure = drawn if isinstance(drawn, Figure) else drawn.get_figure(root=True)
    if not isinstance(figure, Figure):
        raise TypeError(f"A picture must lie on a matplotlib Figure, not on {figure!r}.")
    return figure


def save(drawn: Figure | Axes, path: str | Path | BinaryIO, *, dots_per_inch: int = 150) -> None:
    """Write a plot to a file; the suffix sets the format (PNG for a stream)."""
    kind = Path(path).suffix[1:] if isinstance(path, str | Path) else "png"
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", r"Glyph .* missing from", UserWarning
        )  # characters such as 数 that the font lacks are drawn as boxes
        figure_of(drawn).savefig(path, dpi=dots_per_inch, format=kind)


def plain(text: object) -> str:
    r"""A user's label as one short line: unprintable characters are escaped, long labels are truncated.

    >>> plain("\x1b[31m"), plain("x" * 50)[-2:]
    ('\\x1b[31m', 'x…')
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
    return shown if len(shown) <= LONGEST_LABEL else f"{shown[: LONGEST_LABEL - 1]}…"


def literal(*texts: Text) -> None:
    """Draw dollar signs and backslashes literally; matplotlib would parse them as formulas, and fail on most labels."""
    for text in texts:
        text.set_parse_math(False)


def legend(ax: Axes) -> None:
    """Add a legend without a frame."""
    literal(*ax.legend(frameon=False, fontsize=9).get_texts())


def as_array(X: Any, name: str, *, min_dims: int = 1) -> np.ndarray:
    """Convert data to a numeric array: arrays, frames, tensors and lists.

    Raises
    ------
    TypeError, ValueError
        The data are not numeric, are empty, or have too few axes.
    """
    array = X.detach().cpu().numpy() if isinstance(X, torch.Tensor) else np.asarray(X)
    if array.dtype.kind == "O":
        try:
            array = array.astype(float)
        except (TypeError, ValueError):
            raise TypeError(f"{name} contains values that are not numbers; pass numeric data.") from None
    if array.dtype.kind not in "buif":
        raise TypeError(f"{name} has dtype {array.dtype}, but numbers are needed; convert it with astype(float).")
    if array.ndim < min_dims or array.size == 0:
        wanted = "(n,) with n >= 1" if min_dims == 1 else "(n, features) or (n, height, width) with n >= 1"
        raise ValueError(f"{name} has shape {array.shape}, but {wanted} is needed; reshape it.")
    return array


def image_shape_of(feature_shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The image shape of a row: its own shape, or a square for flat rows of 64, 784, … features; else None."""
    if len(feature_shape) > 1:
        return feature_shape
    side = math.isqrt(feature_shape[0])
    return (side, side) if side >= 5 and side * side == feature_shape[0] else None


def show_row(ax: Axes, row: np.ndarray, shape: tuple[int, ...] | None, low: float, high: float) -> None:
    """Draw one row as an image, or as a line if `shape` is None; without ticks.

    Parameters
    ----------
    ax
        The axes.
    row
        The values of the row.
    shape
        Image shape, or None for a line.
    low, high
        The values that are drawn black and white; NaN and infinity are white.
    """
    ax.set_xticks([])
    ax.set_yticks([])
    if shape is None:
        ax.plot(row.ravel(), color=ACCENT, linewidth=0.9)
        ax.spines[["top", "right"]].set_visible(False)
        return
    ax.spines[:].set_visible(False)
    image = flat_image(row.reshape(shape))
    if image.ndim == 2:
        ax.imshow(image, cmap="gray", interpolation="nearest", vmin=low, vmax=high)
    else:
        scaled = (np.nan_to_num(image.astype(float), nan=high) - low) / (high - low)
        ax.imshow(np.clip(scaled, 0.0, 1.0), interpolation="nearest")


def flat_image(image: np.ndarray) -> np.ndarray:
    """The drawable part of an image or volume, (h, w), (h, w, 3) or (h, w, 4).

    Channels may be last or first; of two channels, the first is red and the second green. Of a volume, and of an image
    with more than four channels, the middle slice is drawn.

    >>> [flat_image(np.zeros(shape)).shape for shape in ((3, 8, 9), (8, 9, 2), (6, 8, 9))]
    [(8, 9, 3), (8, 9, 3), (8, 9)]
    """
    if image.ndim == 2:
        return image
    if image.ndim > 3:
        first = image.shape[0] <= 4 < image.shape[-1]
        return flat_image(image[:, image.shape[1] // 2] if first else image[len(image) // 2])
    if image.shape[-1] > 4 and image.shape[0] <= 4:
        image = np.moveaxis(image, 0, -1)
    if image.shape[-1] == 1:
        return image[..., 0]
    if image.shape[-1] == 2:
        return np.concatenate([image, np.zeros_like(image[..., :1])], axis=-1)
    return image if image.shape[-1] in COLOURED else image[len(image) // 2]
