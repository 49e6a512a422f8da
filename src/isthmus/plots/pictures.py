"""The pictures, one function each: they draw numbers and compute none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from isthmus.diagnosis import Density, WorstRows, code_densities
from isthmus.estimators import Autoencoder, Layer
from isthmus.plots.style import (
    ACCENT,
    CYCLE,
    INK,
    QUIET,
    SECOND,
    axes_or_new,
    figure_of,
    image_shape_of,
    label,
    show_row,
)
from isthmus.training import History


def plot_reconstructions(
    X: np.ndarray, X_hat: np.ndarray, *, noisy: np.ndarray | None = None, n: int = 10, names: Sequence[str] = ()
) -> Figure:
    """Originals over their reconstructions, with the noisy input between them if it is given.

    Parameters
    ----------
    X, X_hat
        Rows and reconstructions, (k, *feature_shape); flat rows of a square number of features are shown as images.
    noisy
        What the model was given instead of X, of the same shape.
    n
        How many to show, the first ones.
    names
        Names of the rows of pictures; default original, noisy, reconstruction.

    Returns
    -------
    Figure
        A grid of pictures.
    """
    bands = [X, X_hat] if noisy is None else [X, noisy, X_hat]
    names = names or (["original", "reconstruction"] if noisy is None else ["original", "noisy", "cleaned"])
    n = min(n, len(X))
    shape = image_shape_of(tuple(X.shape[1:]))
    figure = Figure(figsize=(0.95 * n + 1.1, 0.95 * len(bands) + 0.2), layout="constrained")
    grid = figure.subplots(len(bands), n, squeeze=False)
    limits = _limits(X)
    for band, (rows, name) in enumerate(zip(bands, names, strict=True)):
        for column in range(n):
            show_row(grid[band, column], np.asarray(rows[column]), shape, **limits)
        grid[band, 0].set_ylabel(name, rotation=0, ha="right", va="center", color=INK, fontsize=9)
    return figure


def _limits(X: np.ndarray) -> dict[str, float]:
    """The range of grey: that of the originals, so that all pictures share it."""
    return {"vmin": float(np.min(X)), "vmax": float(np.max(X))}


def plot_training_curves(
    models: Autoencoder | History | Mapping[str, Autoencoder | History],
    *,
    baseline: float | None = None,
    log: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Loss over epochs of one or several models: training as a line, validation dashed.

    Parameters
    ----------
    models
        A fitted estimator, its history, or several by name.
    baseline
        A loss to compare with, drawn as a horizontal line.
    log
        Logarithmic loss axis.
    """
    ax = axes_or_new(ax)
    several = models if isinstance(models, Mapping) else {"": models}
    for (name, model), colour in zip(several.items(), CYCLE * (1 + len(several) // len(CYCLE)), strict=False):
        history = model if isinstance(model, History) else model.history_
        ax.plot(history["epoch"], history["loss"], color=colour, label=f"{name} training".strip())
        if "val_loss" in history.columns:
            second = colour if name else SECOND
            ax.plot(history["epoch"], history["val_loss"], color=second, ls="--", label=f"{name} validation".strip())
    if baseline is not None:
        ax.axhline(baseline, color=QUIET, linewidth=1, ls=":", label="baseline")
    if log:
        ax.set_yscale("log")
    ax.legend(frameon=False, fontsize=9)
    return label(ax, "epoch", "loss per feature")


def plot_code_density(densities: Mapping[str, Density] | Density, *, ax: Axes | None = None) -> Axes:
    """The density of the code numbers of one or several models, with their means in the legend.

    Parameters
    ----------
    densities
        From `isthmus.diagnosis.code_densities`.
    """
    ax = axes_or_new(ax)
    several = densities if isinstance(densities, Mapping) else {"": densities}
    for (name, density), colour in zip(several.items(), CYCLE, strict=False):
        ax.plot(density.centres, density.density, color=colour, label=f"{name} (mean {density.mean:.2f})".strip())
        ax.fill_between(density.centres, density.density, color=colour, alpha=0.15, linewidth=0)
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False, fontsize=9)
    return label(ax, "code value", "density")


def compare_code_densities(models: Mapping[str, Autoencoder], X: Any, *, ax: Axes | None = None) -> Axes:
    """`plot_code_density` of fitted models on rows X."""
    return plot_code_density(code_densities(models, X), ax=ax)


def plot_code_map(plane: np.ndarray, labels: np.ndarray | None = None, *, ax: Axes | None = None) -> Axes:
    """Codes on a plane, coloured by label, with a colour bar.

    Parameters
    ----------
    plane
        (n, 2): codes of two numbers, or from `isthmus.diagnosis.code_map`.
    labels
        A class or number for each row, or None.
    """
    ax = axes_or_new(ax, width=6.4, height=5.2)
    values, names = _as_colours(labels)
    norm = None if names is None else Normalize(-0.5, len(names) - 0.5)
    dots = ax.scatter(
        plane[:, 0],
        plane[:, 1],
        c=ACCENT if values is None else values,
        cmap=None if values is None else _colour_map(names),
        s=max(3.0, 22 - len(plane) / 200),
        linewidths=0,
        alpha=0.85,
        norm=norm,
    )
    if values is not None:
        bar = figure_of(ax).colorbar(dots, ax=ax, ticks=None if names is None else range(len(names)), shrink=0.9)
        bar.outline.set_visible(False)
        if names is not None:
            bar.ax.set_yticklabels([str(name) for name in names])
    ax.grid(visible=False)
    return label(ax, "first coordinate", "second coordinate")


def _as_colours(labels: np.ndarray | None) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Numbers to colour by, and the names of the classes where there are few."""
    if labels is None:
        return None, None
    names, values = np.unique(np.asarray(labels), return_inverse=True)
    few = len(names) <= 20
    return (values if few else np.asarray(labels)), (names if few else None)


def _colour_map(names: np.ndarray | None) -> Any:
    from matplotlib import colormaps  # noqa: PLC0415  # registers maps when first used

    return (
        colormaps["viridis"]
        if names is None
        else colormaps["tab10" if len(names) <= 10 else "tab20"].resampled(len(names))
    )


def plot_network(model: Autoencoder, *, ax: Axes | None = None) -> Axes:
    """The network as an hourglass: a bar a layer, as high as the layer is wide (on a logarithmic scale)."""
    ax = axes_or_new(ax, width=7.5, height=3.2)
    ax.set_axis_off()
    layers = [layer for layer in model.layers() if layer.part != "code" or layer.kind != "Plain"]
    n_encoder = sum(layer.part == "encoder" for layer in layers)
    widths = [model.n_features_in_, *(int(np.prod(layer.output_shape)) for layer in layers)]
    heights = np.log2(np.asarray(widths) + 1.0) / np.log2(max(widths) + 1.0)
    for place, (width, height) in enumerate(zip(widths, heights, strict=True)):
        colour = SECOND if place == n_encoder else ACCENT
        _bar(ax, place, height, colour)
        ax.text(place, height / 2 + 0.04, f"{width:,}", ha="center", va="bottom", fontsize=9, color=INK)
        ax.text(place, -height / 2 - 0.05, _under(layers, place), ha="center", va="top", fontsize=8, color=QUIET)
        if place:
            _link(ax, place, heights)
    ax.set_xlim(-0.6, len(widths) - 0.4)
    ax.set_ylim(-0.72, 0.65)
    return ax


def _under(layers: Sequence[Layer], place: int) -> str:
    if place == 0:
        return "input"
    layer = layers[place - 1]
    code = place == sum(part.part == "encoder" for part in layers)
    return f"code\n{layer.activation or ''}" if code else f"{layer.kind}\n{layer.activation or ''}"


def _bar(ax: Axes, place: float, height: float, colour: str) -> None:
    ax.add_patch(Polygon(_corners(place - 0.09, place + 0.09, height, height), color=colour, linewidth=0))


def _link(ax: Axes, place: int, heights: np.ndarray) -> None:
    corners = _corners(place - 0.91, place - 0.09, heights[place - 1], heights[place])
    ax.add_patch(Polygon(corners, color=ACCENT, alpha=0.12, linewidth=0))


def _corners(left: float, right: float, left_height: float, right_height: float) -> list[tuple[float, float]]:
    return [(left, left_height / 2), (right, right_height / 2), (right, -right_height / 2), (left, -left_height / 2)]


def plot_worst(worst: WorstRows) -> Figure:
    """The rows that a model restores worst, over their reconstructions, with their errors.

    Parameters
    ----------
    worst
        From `isthmus.diagnosis.worst_rows`.
    """
    figure = plot_reconstructions(worst.X, worst.X_hat, n=len(worst.index))
    for ax, index, error in zip(figure.axes, worst.index, worst.error, strict=False):
        ax.set_title(f"row {index}\n{error:.3g}", fontsize=8, color=QUIET)
    return figure


def plot_error_histogram(errors: np.ndarray, *, ax: Axes | None = None) -> Axes:
    """How the reconstruction errors of the rows are spread, with their median.

    Parameters
    ----------
    errors
        (n,), from `reconstruction_error`.
    """
    ax = axes_or_new(ax)
    ax.hist(errors, bins=60, color=ACCENT, alpha=0.8)
    ax.axvline(float(np.median(errors)), color=SECOND, linewidth=1.5, label=f"median {np.median(errors):.3g}")
    ax.legend(frameon=False, fontsize=9)
    return label(ax, "squared error of a row", "rows")
