"""Plot functions: they only draw; `isthmus.diagnosis` computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from isthmus.diagnosis import Density, WorstRows, code_densities
from isthmus.estimators import Autoencoder, Layer
from isthmus.plots.points import draw_density, draw_thumbnails
from isthmus.plots.style import (
    ACCENT,
    CYCLE,
    INK,
    QUIET,
    SECOND,
    as_array,
    axes_or_new,
    figure_of,
    flat_image,
    image_shape_of,
    label,
    legend,
    literal,
    plain,
    show_row,
)
from isthmus.training import History
from isthmus.wording import be, counted, these

MOST_CLASSES = 20
"""Maximum number of classes with distinct colours."""
MOST_UPRIGHT = 9
"""Maximum number of layers with horizontal labels; longer networks get vertical ones."""


def plot_reconstructions(
    X: Any,
    X_hat: Any,
    *,
    noisy: Any = None,
    n: int = 10,
    names: Sequence[str] = (),
    image_shape: tuple[int, ...] | None = None,
) -> Figure:
    """Plot originals above their reconstructions, with the noisy input between them if it is given.

    All images share the grey scale of the originals. Channels may be last or first; of two channels the first is drawn
    red and the second green; of a volume the middle slice is drawn.

    Parameters
    ----------
    X, X_hat
        Rows and reconstructions, (k, *feature_shape): arrays, frames or tensors.
    noisy
        The model's input, if it differs from X; same shape as X.
    n
        Number of rows to show, from the first, >= 1.
    names
        Labels of the bands; default: original, reconstruction, or original, noisy, cleaned.
    image_shape
        The shape of the image in a flat row; None: flat rows of a square number of features are images.

    Returns
    -------
    Figure
        A grid of images or lines.

    Raises
    ------
    ValueError, TypeError
        The arrays differ in shape, are empty or not numeric, or the names are too few.
    """
    given = {"X": X, "noisy": noisy, "X_hat": X_hat}
    bands = {name: as_array(rows, name, min_dims=2) for name, rows in given.items() if rows is not None}
    names = names or (["original", "reconstruction"] if noisy is None else ["original", "noisy", "cleaned"])
    _check_bands(bands, n, names, image_shape)
    originals = bands["X"]
    n = min(n, len(originals))
    shape = image_shape or image_shape_of(tuple(originals.shape[1:]))
    figure = Figure(figsize=(0.95 * n + 1.1, 0.95 * len(bands) + 0.2), layout="constrained")
    grid = figure.subplots(len(bands), n, squeeze=False)
    low, high = _limits(originals, shape)
    for band, (rows, name) in enumerate(zip(bands.values(), names, strict=True)):
        for column in range(n):
            show_row(grid[band, column], rows[column], shape, low, high)
        literal(grid[band, 0].set_ylabel(plain(name), rotation=0, ha="right", va="center", color=INK, fontsize=9))
    return figure


def _check_bands(
    bands: Mapping[str, np.ndarray], n: int, names: Sequence[str], image_shape: tuple[int, ...] | None
) -> None:
    X = bands["X"]
    for name, rows in bands.items():
        if rows.shape != X.shape:
            raise ValueError(f"{name} has shape {rows.shape}, but X has {X.shape}; pass the same rows in both.")
    if n < 1:
        raise ValueError(f"n={n} must be >= 1.")
    if len(names) != len(bands):
        raise ValueError(f"names has {len(names)} names, but {len(bands)} are needed, one for each band.")
    if image_shape is not None and int(np.prod(image_shape)) != int(np.prod(X.shape[1:])):
        raise ValueError(
            f"image_shape={image_shape} does not fit rows of shape {X.shape[1:]}; give a shape with as many values."
        )


def _limits(X: np.ndarray, shape: tuple[int, ...] | None) -> tuple[float, float]:
    """The values drawn black and white: the range of the colour type, or of the originals' grey values."""
    seen = X[np.isfinite(X)] if X.dtype.kind == "f" else X
    if not seen.size:
        return 0.0, 1.0
    low, high = float(seen.min()), float(seen.max())
    if shape is not None and flat_image(np.empty(shape, np.uint8)).ndim == 3:
        if X.dtype == np.uint8:
            return 0.0, 255.0
        if low >= 0 and high <= 1:
            return 0.0, 1.0
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def plot_training_curves(
    models: Autoencoder | History | Mapping[str, Autoencoder | History],
    *,
    baseline: float | None = None,
    log: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Plot the loss over epochs of one or several models: training as solid lines, validation dashed.

    Parameters
    ----------
    models
        A fitted estimator, its history, or several by name.
    baseline
        A reference loss, drawn as a horizontal line.
    log
        Whether the loss axis is logarithmic.
    """
    several = models if isinstance(models, Mapping) else {"": models}
    histories = {plain(name): _history_of(model) for name, model in several.items()}
    ax = axes_or_new(ax)
    for (name, history), colour in zip(histories.items(), cycle(CYCLE), strict=False):
        ax.plot(history["epoch"], history["loss"], color=colour, label=f"{name} training".strip())
        if "val_loss" in history.columns:
            second = colour if name else SECOND
            ax.plot(history["epoch"], history["val_loss"], color=second, ls="--", label=f"{name} validation".strip())
    if baseline is not None:
        ax.axhline(baseline, color=QUIET, linewidth=1, ls=":", label="baseline")
    if log:
        ax.set_yscale("log")
    legend(ax)
    return label(ax, "epoch", "loss per feature")


def _history_of(model: Any) -> History:
    history = model if isinstance(model, History) else getattr(model, "history_", None)
    if not isinstance(history, History):
        raise TypeError(f"A {type(model).__name__} has no losses; pass a fitted autoencoder or its history_.")
    if not len(history):
        raise ValueError("The history has no epochs, but at least one is needed to draw a curve; train the model.")
    return history


def plot_code_density(densities: Mapping[str, Density] | Density, *, ax: Axes | None = None) -> Axes:
    """Plot the density of the code values of one or several models, with their means in the legend.

    Parameters
    ----------
    densities
        From `isthmus.diagnosis.code_densities`.
    """
    several = densities if isinstance(densities, Mapping) else {"": densities}
    if not all(isinstance(density, Density) for density in several.values()):
        raise TypeError("Densities are needed; compute them with isthmus.diagnosis.code_densities({name: model}, X).")
    ax = axes_or_new(ax)
    for (name, density), colour in zip(several.items(), cycle(CYCLE), strict=False):
        text = f"{plain(name)} (mean {density.mean:.2f})".strip()
        ax.plot(density.centres, density.density, color=colour, label=text)
        ax.fill_between(density.centres, density.density, color=colour, alpha=0.15, linewidth=0)
    highest = max((float(density.density.max()) for density in several.values()), default=1.0)
    ax.set_ylim(0, 1.2 * highest)  # room for the legend
    legend(ax)
    return label(ax, "code value", "density")


def compare_code_densities(models: Mapping[str, Autoencoder], X: Any, *, ax: Axes | None = None) -> Axes:
    """Plot the code densities of fitted models on rows X; see `plot_code_density`."""
    return plot_code_density(code_densities(models, X), ax=ax)


def plot_code_map(
    plane: Any, labels: Any = None, *, images: Any = None, density: bool = False, ax: Axes | None = None
) -> Axes:
    """Plot codes in two dimensions, coloured by label, with a colour bar.

    Parameters
    ----------
    plane
        (n, 2): the points of `isthmus.map_codes`, or two-dimensional codes. One-dimensional codes, (n, 1), are drawn on
        a line.
    labels
        A class or number for each row, or None. Up to 20 classes have distinct colours; of more text classes, the 19
        most frequent have. Rows with a missing number are grey.
    images
        The rows as images, (n, h, w) or (n, h, w, c), or flat rows of a square number of features: thumbnails of some
        of them are drawn at their points, one in each cell of a grid.
    density
        Whether to draw the density of the points below them: where they lie most densely.
    ax
        The axes; None: new ones.

    Raises
    ------
    ValueError, TypeError
        The plane has more than two columns or is not finite, or the number of labels is wrong.
    """
    plane = _as_plane(plane)
    colours = _as_colours(labels, len(plane))
    ax = axes_or_new(ax, width=6.4, height=5.2)
    size = max(3.0, 22 - len(plane) / 200)
    style: dict[str, Any] = {"s": size, "linewidths": 0, "alpha": 0.85}
    x, y = plane[:, 0], plane[:, 1] if plane.shape[1] > 1 else np.zeros(len(plane))
    if density:
        draw_density(ax, x, y)
    if colours is None:
        ax.scatter(x, y, color=ACCENT, **style)
    else:
        _draw_coloured(ax, x, y, colours, style)
    if images is not None:
        draw_thumbnails(ax, x, y, images)
    ax.grid(visible=False)
    if plane.shape[1] == 1:
        ax.set_yticks([])
    return label(ax, "first coordinate", "second coordinate" if plane.shape[1] > 1 else "(one-dimensional code)")


@dataclass(frozen=True)
class _Colours:
    """A colour value for each row, NaN for grey, and the class names, if there are classes."""

    values: np.ndarray
    names: tuple[str, ...] = ()
    rest: str = "no label"


def _draw_coloured(ax: Axes, x: np.ndarray, y: np.ndarray, colours: _Colours, style: dict[str, Any]) -> None:
    known = np.isfinite(colours.values)
    if not known.all():
        ax.scatter(x[~known], y[~known], color=QUIET, label=colours.rest, **style)
        legend(ax)
    if not known.any():
        return
    n = len(colours.names)
    bar_of = ax.scatter(
        x[known],
        y[known],
        c=colours.values[known],
        cmap=colormaps[("tab10" if n <= 10 else "tab20")].resampled(n) if n else colormaps["viridis"],
        norm=Normalize(-0.5, n - 0.5) if n else None,
        **style,
    )
    bar = figure_of(ax).colorbar(bar_of, ax=ax, ticks=range(n) if n else None, shrink=0.9)
    bar.outline.set_visible(False)
    if n:
        literal(*bar.ax.set_yticklabels([plain(name) for name in colours.names]))


def _as_plane(plane: Any) -> np.ndarray:
    plane = as_array(plane, "plane")
    plane = plane[:, None] if plane.ndim == 1 else plane
    if plane.ndim != 2 or plane.shape[1] > 2:
        raise ValueError(
            f"plane has shape {plane.shape}, but two coordinates per row are needed, (n, 2); project longer codes with "
            "isthmus.diagnosis.code_map(Z), or select two columns."
        )
    bad = ~np.isfinite(plane).all(axis=1)
    if n := int(bad.sum()):
        where = f"the first at row {bad.argmax()}"
        raise ValueError(f"plane has {counted(n, 'row')} that {be(n)} not finite, {where}; drop {these(n, 'row')}.")
    return np.asarray(plane)


def _as_colours(labels: Any, n_rows: int) -> _Colours | None:
    if labels is None:
        return None
    given = np.asarray(labels)
    if given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]
    if given.shape != (n_rows,):
        raise ValueError(f"labels has shape {given.shape}, but ({n_rows},) is needed: one label for each row.")
    numeric = given.dtype.kind in "buif"
    if numeric:
        values = given.astype(float)
        values[~np.isfinite(values)] = np.nan
        different = np.unique(given[np.isfinite(values)])
        if len(different) > MOST_CLASSES:
            return _Colours(values)
        places = np.searchsorted(different, given).astype(float)
        return _Colours(np.where(np.isfinite(values), places, np.nan), tuple(map(str, different)))
    names, places, counts = np.unique(given.astype(str), return_inverse=True, return_counts=True)
    if len(names) <= MOST_CLASSES:
        return _Colours(places.astype(float), tuple(names))
    kept = np.sort(np.argsort(-counts, kind="stable")[: MOST_CLASSES - 1])
    shown = np.where(np.isin(places, kept), np.searchsorted(kept, places), np.nan)
    return _Colours(shown, tuple(names[kept]), f"{len(names) - len(kept)} other labels")


def plot_network(model: Autoencoder, *, ax: Axes | None = None) -> Axes:
    """Plot the network: one bar per layer, with a height proportional to the logarithm of its width."""
    layers = [layer for layer in model.layers() if layer.part != "code" or layer.kind != "Plain"]
    n_encoder = sum(layer.part == "encoder" for layer in layers)
    widths = [model.n_features_in_, *(int(np.prod(layer.output_shape)) for layer in layers)]
    crowded = len(widths) > MOST_UPRIGHT
    ax = axes_or_new(ax, width=max(7.5, 0.42 * len(widths)), height=4.2 if crowded else 3.2)
    ax.set_axis_off()
    heights = np.log2(np.asarray(widths) + 1.0) / np.log2(max(widths) + 1.0)
    angle = 90 if crowded else 0  # horizontal labels of 10 or more layers would overlap
    for place, (width, height) in enumerate(zip(widths, heights, strict=True)):
        _bar(ax, place, height, SECOND if place == n_encoder else ACCENT)
        ax.text(place, height / 2 + 0.04, f"{width:,}", ha="center", va="bottom", fontsize=9, color=INK, rotation=angle)
        under = _under(layers, place)
        under = under.replace("\n", " ").strip() if crowded else under
        literal(
            ax.text(place, -height / 2 - 0.05, under, ha="center", va="top", fontsize=8, color=QUIET, rotation=angle)
        )
        if place:
            _link(ax, place, heights)
    ax.set_xlim(-0.6, len(widths) - 0.4)
    ax.set_ylim(-1.05 if crowded else -0.72, 0.75 if crowded else 0.65)
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


def plot_worst(worst: WorstRows, *, image_shape: tuple[int, ...] | None = None) -> Figure:
    """Plot the rows with the largest reconstruction errors above their reconstructions, with the errors.

    For a model with a corruption, the corrupted rows are between them.

    Parameters
    ----------
    worst
        From `isthmus.diagnosis.worst_rows`.
    image_shape
        The shape of the image in a flat row, as for `plot_reconstructions`.
    """
    figure = plot_reconstructions(
        worst.X, worst.X_hat, noisy=worst.damaged, n=len(worst.index), image_shape=image_shape
    )
    for ax, index, error in zip(figure.axes, worst.index, worst.error, strict=False):
        ax.set_title(f"row {index}\n{error:.3g}", fontsize=8, color=QUIET)
    return figure


def plot_error_histogram(errors: Any, *, ax: Axes | None = None) -> Axes:
    """Plot a histogram of the rows' reconstruction errors, with their median.

    Parameters
    ----------
    errors
        (n,), from `reconstruction_error`.

    Raises
    ------
    ValueError
        The errors are not one value per row, or some are not finite.
    """
    errors = as_array(errors, "errors")
    if errors.ndim != 1:
        raise ValueError(f"errors has shape {errors.shape}, but (n,) is needed: pass one error per row.")
    bad = ~np.isfinite(errors)
    if n := int(bad.sum()):
        where = f"the first in row {bad.argmax()}"
        raise ValueError(f"errors has {counted(n, 'value')} that {be(n)} not finite, {where}; drop {these(n, 'row')}.")
    ax = axes_or_new(ax)
    middle = float(np.median(errors))
    ax.hist(errors.astype(float), bins=60, color=ACCENT, alpha=0.8)
    ax.axvline(middle, color=SECOND, linewidth=1.5, label=f"median {middle:.3g}")
    legend(ax)
    return label(ax, "squared error of a row", "rows")
