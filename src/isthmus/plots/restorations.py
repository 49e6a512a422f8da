"""Pictures of restored images beside the damaged ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from isthmus.plots.style import literal

LARGEST_SHOWN = 256
"""Height and width of the middle of an image that is shown: pixels must be seen to judge a restoration."""
INCHES = 2.6


def plot_restorations(rows: Sequence[Sequence[np.ndarray]], *, columns: Sequence[str]) -> Figure:
    """Plot images side by side, such as before, after and clean; all of a row show the same detail.

    Parameters
    ----------
    rows
        Images of one scene each, (h, w) or (h, w, c): bytes, 16-bit, or floats in [0, 1]. A second or fourth channel
        is transparency, which is not shown. Images of a row may differ in size: the smaller are enlarged to the
        largest without interpolation.
    columns
        The titles of the columns, one for each image of a row.

    Returns
    -------
    The figure.

    Examples
    --------
    >>> plot_restorations([[np.zeros((8, 8)), np.ones((8, 8))]], columns=("before", "after")).axes[1].get_title()
    'after'
    """
    figure = Figure(figsize=(INCHES * len(columns), INCHES * len(rows) + 0.3), layout="constrained")
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for number, (axes, row) in enumerate(zip(grid, rows, strict=True)):
        height, width = (max(image.shape[axis] for image in row) for axis in (0, 1))
        for ax, image, title in zip(axes, row, columns, strict=True):
            ax.imshow(_detail(image, height, width), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            ax.set_axis_off()
            if number == 0:
                literal(ax.set_title(title))
    return figure


def _detail(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle of an image in the size of the largest of its row, in [0, 1], without transparency."""
    if image.ndim == 3:
        image = image[..., 0] if image.shape[2] < 3 else image[..., :3]
    white = {"uint8": 255.0, "uint16": 65_535.0}.get(image.dtype.name, 1.0)
    rows, columns = (
        np.arange(max(0, (length - LARGEST_SHOWN) // 2), min(length, (length + LARGEST_SHOWN) // 2)) * own // length
        for length, own in ((height, image.shape[0]), (width, image.shape[1]))
    )
    shown: np.ndarray = image[rows[:, None], columns] / white
    clipped: np.ndarray = np.clip(shown, 0.0, 1.0)
    return clipped
