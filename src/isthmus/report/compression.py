"""The HTML report of a codec: its rate–distortion curve beside common formats, and pictures."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from isthmus import __version__
from isthmus.atomic import atomic
from isthmus.plots.style import CYCLE, axes_or_new, label
from isthmus.report.report import Section, Table, Tile, picture_section, template
from isthmus.tasks import ImageCodec
from isthmus.tasks.compression.curves import FORMATS, Curve, codec_curve, format_curve
from isthmus.tasks.compression.pictures import as_pictures
from isthmus.tasks.compression.transforms import TRANSFORMS

MOST_IMAGES = 4
MOST_SIDE = 768
"""Images of the report, and their longest side; others are cut."""


def write_compression_report(
    codec: ImageCodec, X: object, path: str | Path, *, title: str = "Compression", overwrite: bool = True
) -> Path:
    """Write a self-contained HTML page: the curve of a codec beside JPEG, WebP, AVIF and JPEG 2000, and pictures.

    Parameters
    ----------
    codec
        A fitted codec.
    X
        Images as for `ImageCodec.compress`; up to four, evenly chosen, are measured.
    path, title, overwrite
        Output path, title of the page, and whether to replace an existing file.

    Raises
    ------
    OutputError
        The page cannot be written; no partial file is left.
    """
    most_side = None if TRANSFORMS[codec.transform].for_one_size else MOST_SIDE
    images = _chosen(as_pictures(X).arrays, most_side)
    others = (format_curve(name, images) for name in FORMATS)
    curves = [codec_curve(codec, images), *(curve for curve in others if curve is not None)]
    html = template().render(
        title=title,
        summary=f"{len(images)} images; a codec learned from {codec.n_channels_}-channel images.",
        tiles=[
            Tile("step", f"{codec.code_}"),
            Tile("training rate, bpp", f"{codec.rate_:.3f}"),
            Tile("training PSNR, dB", f"{codec.psnr_:.2f}"),
        ],
        sections=_sections(codec, images, curves),
        footer=f"isthmus {__version__}, torch {torch.__version__}, Python {platform.python_version()}.",
    )
    with atomic(path, overwrite=overwrite) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return Path(path)


def _chosen(arrays: Sequence[np.ndarray], most_side: int | None) -> list[np.ndarray]:
    places = np.unique(np.linspace(0, len(arrays) - 1, MOST_IMAGES).round().astype(int))
    return [arrays[place][:most_side, :most_side] for place in places.tolist()]


def _sections(codec: ImageCodec, images: Sequence[np.ndarray], curves: Sequence[Curve]) -> list[Section]:
    told = "Means over the images: bits per pixel of whole files, and PSNR over all channels. Higher is better."
    if TRANSFORMS[codec.transform].for_one_size:
        told += (
            " Each image is a file of its own here, and most of it is the head of the file: many small images together "
            f"take {codec.rate_:.3f} bits per pixel at {codec.psnr_:.2f} dB."
        )
    rows = [
        [curve.name, f"{bpp:.4f}", f"{psnr:.2f}"]
        for curve in curves
        for bpp, psnr in zip(curve.bpp, curve.psnr, strict=True)
    ]
    return [
        picture_section("Rate and distortion", plot_rate_distortion(curves), told),
        picture_section("Images", _pairs(codec, images), "Above the originals, below as restored from the stream."),
        Section("Points", table=Table(("codec", "bits per pixel", "PSNR, dB"), rows)),
    ]


def plot_rate_distortion(curves: Sequence[Curve], *, ax: Axes | None = None) -> Axes:
    """Draw curves of PSNR over bits per pixel, the first one thick."""
    ax = axes_or_new(ax, width=7.0, height=4.6)
    for place, curve in enumerate(curves):
        order = np.argsort(curve.bpp)
        width = 2.4 if place == 0 else 1.3
        ax.plot(curve.bpp[order], curve.psnr[order], "o-", ms=3, lw=width, color=CYCLE[place], label=curve.name)
    ax.legend(frameon=False, loc="lower right")
    return label(ax, "bits per pixel", "PSNR, dB")


def _pairs(codec: ImageCodec, images: Sequence[np.ndarray]) -> Figure:
    figure = Figure(figsize=(3.2 * len(images), 5.2), layout="constrained")
    axes = figure.subplots(2, len(images), squeeze=False)
    for column, image in enumerate(images):
        blob = codec.compress([image])
        shown = image, codec.decompress(blob)[0]
        names = "", f"{8 * len(blob) / (image.shape[0] * image.shape[1]):.3f} bpp"
        for ax, pixels, name in zip(axes[:, column], shown, names, strict=True):
            ax.imshow(pixels.squeeze(), cmap="gray", vmin=0, vmax=255)
            ax.set_axis_off()
            ax.set_title(name, fontsize=9)
    return figure
