"""What is drawn with the points of a map: their density, and thumbnails."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from scipy.ndimage import gaussian_filter

from isthmus.plots.style import as_array, flat_image, image_shape_of

CELLS = 120
SMOOTHED = 0.02
"""Width of the smoothing kernel, as a share of the picture."""
THUMBNAILS = 12
"""Thumbnails side by side at most."""
MOST_PIXELS = 64


def draw_density(ax: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """Draw the smoothed density of points as a light background."""
    wide = [
        [float(part.min()) - 0.08 * (np.ptp(part) or 1.0), float(part.max()) + 0.08 * (np.ptp(part) or 1.0)]
        for part in (x, y)
    ]
    counts, across, up = np.histogram2d(x, y, bins=CELLS, range=wide)
    smooth = gaussian_filter(counts, SMOOTHED * CELLS, mode="constant").T
    ax.imshow(
        np.sqrt(smooth),
        extent=(across[0], across[-1], up[0], up[-1]),
        origin="lower",
        aspect="auto",
        cmap="Greys",
        alpha=0.5,
        zorder=0,
    )


def draw_thumbnails(ax: Axes, x: np.ndarray, y: np.ndarray, images: Any) -> None:
    """Draw one image in each cell of a grid that has points: that of the point nearest to the middle of the cell."""
    rows = as_array(images, "images", min_dims=2)
    shape = image_shape_of(tuple(rows.shape[1:]))
    if len(rows) != len(x) or shape is None:
        raise ValueError(
            f"images has shape {rows.shape}, but ({len(x)}, h, w), ({len(x)}, h, w, c), or flat rows of a square "
            "number of features are needed: one for each point."
        )
    for place in spread_places(x, y):
        image = flat_image(rows[place].reshape(shape))
        step = max(1, int(np.ceil(max(image.shape[:2]) / MOST_PIXELS)))
        small = np.nan_to_num(image[::step, ::step].astype(float))
        low, high = float(small.min()), float(small.max())
        small = (small - low) / (high - low) if high > low else small * 0.0
        zoom = 24.0 / max(small.shape[:2])
        box = OffsetImage(small, zoom=zoom, cmap="gray", interpolation="nearest")
        ax.add_artist(AnnotationBbox(box, (float(x[place]), float(y[place])), frameon=True, pad=0.05))


def spread_places(x: np.ndarray, y: np.ndarray, n: int = THUMBNAILS) -> list[int]:
    """Indices of points that lie far apart: the one nearest to the middle of each cell of an n by n grid.

    >>> spread_places(np.array([0.0, 0.1, 1.0]), np.array([0.0, 0.0, 1.0]), 2)
    [1, 2]
    """
    units = [(part - part.min()) / (float(np.ptp(part)) or 1.0) * n for part in (x, y)]
    cells = [np.minimum(part.astype(int), n - 1) for part in units]
    away = sum(np.square(part - (cell + 0.5)) for part, cell in zip(units, cells, strict=True))
    best: dict[tuple[int, int], int] = {}
    for place in np.argsort(away, kind="stable").tolist():
        best.setdefault((int(cells[0][place]), int(cells[1][place])), place)
    return sorted(best.values())
