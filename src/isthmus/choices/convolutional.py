"""Convolutional networks for signals, images and volumes of any size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import nn

from isthmus.choices.layers import INITIALIZATIONS, Frame, Layers, Stage, ToPicture, ToRow
from isthmus.choices.networks import NETWORKS, Network, Pair, activation_rule
from isthmus.choices.registry import Context
from isthmus.choices.rules import Instance, OneOf, Rule, Sizes, Whole, either

LAYER_SETTINGS = (
    "kernel_size",
    "activation",
    "downsampling",
    "upsampling",
    "n_residual_blocks",
    "initialization",
)
MOST_CHANNELS = 4
"""Most channels of ordinary images; if the last axis is longer, the user must state the layout of the rows."""
FLAT_IMAGE = 25
"""Length from which a flat row may be an image (5×5); shorter rows are signals."""
SERIES_WIDTH, SERIES_RATIO = 32, 3
"""Two-axis rows whose shorter side is at most 32 and at most a third of the longer may be multivariate series."""


@NETWORKS.register("convolutional")
@dataclass(eq=False, repr=False)
class Convolutional(Network):
    """Convolutions that halve the size level by level, and a mirrored decoder that doubles it again.

    Takes signals (l,) or (l, c), images (h, w) or (h, w, c) and volumes (d, h, w) or (d, h, w, c) of any size. They are
    padded with zeros to a multiple of 2^levels, and the output is cropped.

    An ambiguous shape is never guessed: `fit` raises an error that names the possible readings and the parameter for
    each.

    ::

        x ─▶ level 1 ─▶ … ─▶ level L ─▶ head ─▶ h ─▶ z ─▶ head ─▶ level L ─▶ … ─▶ level 1 ─▶ x^
             └─ convolutions, then half the size ─┘              └─ twice the size, then convolutions

    Parameters
    ----------
    channels
        One entry per level: the number of filters of its convolution, or a tuple for several convolutions.
        ``"auto"``: 32, 64, 128, …, with 1 to 4 levels by the size of the image.
    kernel_size
        Kernel width of all convolutions, odd.
    activation
        After every convolution; None for a linear network.
    downsampling
        ``"strided"``: the last convolution of a level has stride 2; ``"pooled"``: max pooling of width 2 after it.
    upsampling
        ``"transposed"`` convolutions, or ``"nearest"``: nearest-neighbour upsampling before an ordinary convolution.
    n_residual_blocks
        Residual blocks (He et al. 2016) at the end of every level, >= 0.
    head
        ``"dense"``: a linear layer between the last level and a code of any size. ``"convolutional"``: the code is a
        small image; its size must be a multiple of the number of positions of the last level.
    hidden_sizes
        Widths of further dense layers before the code, mirrored after it; only with ``head="dense"``.
    dimensions
        1 for signals, 2 for images, 3 for volumes. ``"auto"`` follows the shape of a row: 1 for (l,), 2 for (h, w)
        and (h, w, c) with c <= 4, 3 for (d, h, w, c).
    image_shape
        The shape of the image in a flat row, such as ``(28, 28)`` or ``(32, 32, 3)``.
    channels_first
        Whether rows are (c, l), (c, h, w) or (c, d, h, w), as in PyTorch. ``"auto"``: channels come last, and a shape
        that looks like channels first raises an error. Reconstructions have the layout of the rows.
    initialization
        As for `Dense`.

    Examples
    --------
    >>> import torch
    >>> context = Context((9, 7, 3), code_size=5)
    >>> encoder, decoder = Convolutional((4, 8)).build(context, code_width=5, output_width=9 * 7 * 3)
    >>> decoder(encoder(torch.zeros(2, 9 * 7 * 3))).shape
    torch.Size([2, 189])
    """

    channels: tuple[int | tuple[int, ...], ...] | str = "auto"
    _: KW_ONLY
    kernel_size: int = 3
    activation: str | None = "gelu"
    downsampling: str = "strided"
    upsampling: str = "transposed"
    n_residual_blocks: int = 0
    head: str = "dense"
    hidden_sizes: tuple[int, ...] = ()
    dimensions: int | str = "auto"
    image_shape: tuple[int, ...] | None = None
    channels_first: bool | str = "auto"
    initialization: str = "orthogonal"

    rules: ClassVar[Mapping[str, Rule]] = {
        "channels": Instance((tuple, list, str), "a tuple of integers >= 1 or of tuples of them, or 'auto'"),
        "kernel_size": Whole(1),
        "activation": activation_rule(),
        "downsampling": OneOf(("strided", "pooled")),
        "upsampling": OneOf(("transposed", "nearest")),
        "n_residual_blocks": Whole(0),
        "head": OneOf(("dense", "convolutional")),
        "hidden_sizes": Sizes(),
        "dimensions": OneOf(("auto", 1, 2, 3)),
        "image_shape": either(Sizes(), OneOf((None,))),
        "channels_first": OneOf(("auto", True, False)),
        "initialization": OneOf(tuple(INITIALIZATIONS)),
    }

    def mistakes(self, context: Context | None = None) -> list[str]:
        found = super().mistakes(context)
        if not found and self.kernel_size % 2 == 0:
            found.append(f"Convolutional: kernel_size={self.kernel_size} must be odd, so that the kernel has a centre.")
        if not found and not _are_levels(self.channels):
            found.append(f"Convolutional: channels={self.channels!r} must be {self.rules['channels']}.")
        return found if found or context is None else self._misfits(context)

    def _misfits(self, context: Context) -> list[str]:
        wrong = self._wrong_shape(context) or self._ambiguous(context)
        if wrong:
            return [f"Convolutional: {wrong}"]
        misfit = self._target_misfit(context)
        if misfit:
            return [f"Convolutional: {misfit}"]
        frame = self._frame(context)
        places = frame.places
        if self.head == "convolutional" and context.code_size % places:
            text = f"head='convolutional' gives a code of {places} positions, but code_size={context.code_size} is "
            return [f"Convolutional: {text}not a multiple of {places}; change it, or use head='dense'."]
        coarse = self._output_frame(context).coarse
        if self.head == "convolutional" and coarse != frame.coarse:
            text = f"head='convolutional' needs a target of the size of X, {frame.size}, but its size is "
            return [f"Convolutional: {text}{self._output_frame(context).size}; use head='dense'."]
        return []

    def _wrong_shape(self, context: Context) -> str:
        """The mismatch between the settings and the shape of the rows, or ""."""
        shape, rows = self._shape(context), context.feature_shape
        flat = len(rows) == 1 and math.prod(shape) == context.n_features
        if self.image_shape is not None and not flat and rows != shape:
            return (
                f"image_shape={shape} has {math.prod(shape)} values, but rows have the shape {rows}; give the height "
                "and width (and channels) of the image in a flat row."
            )
        n_dimensions, names = (
            _n_dimensions(self, shape),
            ("(l,) or (l, c)", "(h, w) or (h, w, c)", "(d, h, w) or (d, h, w, c)"),
        )
        if self.channels_first is True and len(shape) != n_dimensions + 1:
            return f"channels_first=True needs rows with channels, not {shape}; leave it out, or give X[:, None]."
        if len(shape) not in (n_dimensions, n_dimensions + 1):
            wanted = names[n_dimensions - 1]
            return (
                f"dimensions={n_dimensions} needs rows of shape {wanted}, not {shape}; reshape X or change dimensions."
            )
        return ""

    def _target_misfit(self, context: Context) -> str:
        """Why targets do not fit images, signals or volumes like those of X, or ""."""
        if context.target is None:
            return ""
        shape, n_dimensions = self.output_row_shape(context), _n_dimensions(self, self._shape(context))
        if len(shape) not in (n_dimensions, n_dimensions + 1):
            kind = ("signals (l,) or (l, c)", "images (h, w) or (h, w, c)", "volumes (d, h, w) or (d, h, w, c)")
            return (
                f"the target has rows of shape {shape}, but rows of X are {kind[n_dimensions - 1]}, and so must be the "
                "target's; reshape it, or use network='dense'."
            )
        if self.channels_first is True and len(shape) > n_dimensions and shape[-1] <= MOST_CHANNELS < shape[0]:
            return (
                f"channels_first=True reads rows of the target, {shape}, as {shape[0]} channels; give them channels "
                "first, as X has them."
            )
        if self.channels_first != "auto" or not _looks_channels_first(shape, n_dimensions):
            return ""
        axes = f"target.transpose(0, {', '.join(map(str, range(2, len(shape) + 1)))}, 1)"
        return f"rows of the target, {shape}, would be read as {_reading(shape)}; if channels go first, give {axes}."

    def _ambiguous(self, context: Context) -> str:
        """The message for a shape that can be read in more than one way, or ""."""
        shape, automatic = self._shape(context), self.dimensions == "auto"
        if len(shape) == 1 and automatic and self.image_shape is None and shape[0] >= FLAT_IMAGE:
            side = math.isqrt(shape[0])
            example = (side, side) if side * side == shape[0] else "(height, width)"
            return (
                f"rows of {shape[0]} values may be images or signals. For images give network=Convolutional("
                f"image_shape={example}), with channels (height, width, channels); for signals "
                "Convolutional(dimensions=1)."
            )
        if (
            self.channels_first == "auto"
            and len(shape) > 1
            and _looks_channels_first(shape, _n_dimensions(self, shape))
        ):
            axes = f"X.transpose(0, {', '.join(map(str, range(2, len(shape) + 1)))}, 1)"
            return (
                f"rows of shape {shape} would be read as {_reading(shape)}. If channels go first, give "
                f"network=Convolutional(channels_first=True), or {axes}; if the reading is right, channels_first=False"
                f"{'; for volumes, dimensions=3' if len(shape) == 3 else ''}."
            )
        if automatic and self.channels_first == "auto" and len(shape) == 3 and shape[-1] > MOST_CHANNELS:
            return (
                f"rows of shape {shape} may be volumes or {_reading(shape)}. Give network=Convolutional(dimensions=3) "
                "for volumes, or Convolutional(dimensions=2) for images of so many channels."
            )
        short, long = min(shape), max(shape)
        narrow = (
            1 < short <= SERIES_WIDTH and long >= SERIES_RATIO * short
        )  # one column gives the same network either way
        stated = self.image_shape is not None or self.channels_first is True
        if automatic and len(shape) == 2 and narrow and not stated:
            first = ", channels_first=True" if shape[0] < shape[1] else ""
            return (
                f"rows of shape {shape} may be images of {shape[0]}×{shape[1]} pixels or series of {long} steps with "
                f"{short} features each. Give network=Convolutional(dimensions=2) for images, or "
                f"Convolutional(dimensions=1{first}) for series."
            )
        return ""

    def row_shape(self, feature_shape: tuple[int, ...]) -> tuple[int, ...]:
        return feature_shape if self.image_shape is None else tuple(map(int, self.image_shape))

    def _shape(self, context: Context) -> tuple[int, ...]:
        """The shape of the signal, image or volume in a row."""
        return self.row_shape(context.feature_shape)

    def conflicts(self, context: Context, *, code_width: int, output_width: int) -> list[str]:
        if output_width % context.output.n_features == 0:
            return []
        return [
            (
                "Convolutional: the loss has more outputs for some features than for others, but a convolution has the "
                "same "
                "number for each; use network='dense'."
            )
        ]

    def resolve(self, context: Context) -> Convolutional:
        if self.channels != "auto":
            return self
        narrowest = min(self._size(context)[0])
        n_levels = min(4, max(1, round(math.log2(narrowest / 5))))
        return self._with(channels=tuple(32 * 2**level for level in range(n_levels)))

    def build(
        self, context: Context, *, code_width: int, output_width: int, generator: torch.Generator | None = None
    ) -> Pair:
        frame, taking, made = self._frame(context), self._output_frame(context), self.resolve(context)
        settings = {name: getattr(made, name) for name in LAYER_SETTINGS}
        layers = Layers(len(frame.size), **settings, generator=generator)
        stages = _stages(made.channels, frame.n_channels + frame.n_conditions)
        first, last = stages[0], stages[-1]
        output = first._replace(inner=taking.n_channels * (output_width // context.output.n_features))
        down = [layer for stage in stages for layer in layers.down(stage)]
        up = [layer for stage in (*stages[:0:-1], output) for layer in layers.up(stage)]
        if self.head == "dense":
            heads = layers.dense_heads(
                last.outer, frame, code_width, context.code_size, self.hidden_sizes, taking=taking
            )
            given, taken = heads
        else:
            given, taken = layers.convolutional_heads(last.outer, frame, code_width, context.code_size)
        open_ended = len(up) if self.activation is None else -1  # the loss applies the output activation
        return nn.Sequential(ToPicture(frame), *down, *given), nn.Sequential(*taken, *up[:open_ended], ToRow(taking))

    def _frame(self, context: Context) -> Frame:
        size, n_channels = self._size(context)
        n_levels = len(self.resolve(context).channels)
        return Frame(size, n_channels, n_levels, context.n_conditions, self.channels_first is True)

    def _output_frame(self, context: Context) -> Frame:
        """The frame of the decoder: that of the target, which may have another size and other channels."""
        frame = self._frame(context)
        if context.target is None:
            return frame
        size, n_channels = self._split(self.output_row_shape(context), len(frame.size))
        return replace(frame, size=size, n_channels=n_channels)

    def output_row_shape(self, context: Context) -> tuple[int, ...]:
        """The shape of the signal, image or volume in a row of the target; `image_shape` is also that of a flat one."""
        shape = context.output.feature_shape
        flat = self.image_shape is not None and len(shape) == 1 and math.prod(self.image_shape) == shape[0]
        return self._shape(context) if flat else shape

    def _size(self, context: Context) -> tuple[tuple[int, ...], int]:
        """Spatial size, (l,), (h, w) or (d, h, w), and the number of channels."""
        shape = self._shape(context)
        return self._split(shape, _n_dimensions(self, shape))

    def _split(self, shape: tuple[int, ...], n_dimensions: int) -> tuple[tuple[int, ...], int]:
        """The spatial size in a shape, and the number of channels, 1 where it has no axis for them."""
        if self.channels_first is True and len(shape) > n_dimensions:
            return shape[1:], shape[0]
        return shape[:n_dimensions], math.prod(shape[n_dimensions:])


def _n_dimensions(network: Convolutional, shape: tuple[int, ...]) -> int:
    if isinstance(network.dimensions, int):
        return network.dimensions
    if network.channels_first is True:
        return max(1, len(shape) - 1)
    return {1: 1, 2: 2, 3: 2}.get(len(shape), 3)


def _looks_channels_first(shape: tuple[int, ...], n_dimensions: int) -> bool:
    """Whether the first axis is short enough to be channels, while the last, longer one would be read as channels."""
    return len(shape) == n_dimensions + 1 and shape[0] <= MOST_CHANNELS < shape[-1]


def _reading(shape: tuple[int, ...]) -> str:
    what = {2: "signals", 3: "images"}.get(len(shape), "volumes")
    return f"{what} of {'×'.join(map(str, shape[:-1]))} with {shape[-1]} channels"


def _are_levels(channels: object) -> bool:
    """Whether the value lists the filters of at least one level."""
    if not isinstance(channels, list | tuple):
        return channels == "auto"
    levels = [level if isinstance(level, list | tuple) else (level,) for level in channels]
    return bool(levels) and all(level and all(Whole(1).admits(width) for width in level) for level in levels)


def _stages(channels: Any, n_channels: int) -> list[Stage]:
    levels = [level if isinstance(level, list | tuple) else (level,) for level in channels]
    widths = [n_channels, *(width for level in levels for width in level)]
    scales = [index == len(level) - 1 for level in levels for index in range(len(level))]
    return [Stage(*pair, scale) for pair, scale in zip(pairwise(widths), scales, strict=True)]
