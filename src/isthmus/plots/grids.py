"""Grids of rows: samples, interpolations, traversals and latent planes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from isthmus.plots.style import INK, as_array, image_shape_of, literal, plain, show_row

MOST_DRAWN = 2_500
"""Maximum number of rows in a grid; more would be smaller than a pixel of a page."""


def plot_rows(
    rows: Any, *, columns: int | None = None, names: Sequence[str] = (), image_shape: tuple[int, ...] | None = None
) -> Figure:
    """Plot rows as a grid of images, or of lines if they are not images.

    Parameters
    ----------
    rows
        (n, *feature_shape), such as the result of ``model.sample(64)`` or ``model.interpolate(a, b)``; or a grid of
        rows as `isthmus.latent_plane` and `isthmus.traversals` return it, (k, m, *feature_shape), with `image_shape`.
    columns
        Images side by side; None: those of the grid, or as many as make a square.
    names
        A label for each line of the grid.
    image_shape
        The shape of one row as an image; None: the shape of a row, and a square for flat rows of a square number of
        features. Give it for a grid of rows.

    Raises
    ------
    ValueError, TypeError
        There are no rows, too many, or the shape does not fit.

    Examples
    --------
    >>> len(plot_rows(np.zeros((5, 8, 8)), columns=3).axes)
    6
    """
    given = as_array(rows, "rows", min_dims=2)
    shape = image_shape or image_shape_of(tuple(given.shape[1:]))
    size = int(np.prod(given.shape[1:] if shape is None else shape))
    if given.size % size or not (columns is None or (isinstance(columns, int) and columns >= 1)):
        raise ValueError(
            f"rows of shape {given.shape} cannot be drawn with image_shape={image_shape} and columns={columns!r}; give "
            "the shape of one row, and a number of columns >= 1."
        )
    flat = given.reshape(-1, size)
    if len(flat) > MOST_DRAWN:
        raise ValueError(
            f"There are {len(flat):,} rows to draw, but at most {MOST_DRAWN:,} fit in a picture; pass fewer."
        )
    is_grid = given.ndim > 2 and image_shape is not None and given.ndim == 2 + len(image_shape)
    width = columns or (given.shape[1] if is_grid else int(np.ceil(np.sqrt(len(flat)))))
    height = -(-len(flat) // width)
    if names and len(names) != height:
        raise ValueError(f"names has {len(names)} names, but the grid has {height} lines; give one name per line.")
    figure = Figure(figsize=(0.62 * width + (1.0 if names else 0.1), 0.62 * height + 0.1), layout="constrained")
    grid = figure.subplots(height, width, squeeze=False, gridspec_kw={"wspace": 0.02, "hspace": 0.02})
    seen = flat[np.isfinite(flat)] if flat.dtype.kind == "f" else flat
    low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 1.0)
    high = high if high > low else low + 1.0
    for place, ax in enumerate(grid.ravel()):
        if place < len(flat):
            show_row(ax, flat[place], shape, low, high)
        else:
            ax.set_axis_off()
    for ax, name in zip(grid[:, 0], names, strict=False):
        literal(ax.set_ylabel(plain(name), rotation=0, ha="right", va="center", color=INK, fontsize=8))
    return figure
