"""Convolutional networks for signals and images of any size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise
from typing import Any, ClassVar

from torch import nn

from isthmus.choices.layers import INITIALIZATIONS, Frame, Layers, Stage, ToPicture, ToRow
from isthmus.choices.networks import NETWORKS, Network, Pair, activation_rule
from isthmus.choices.registry import Context
from isthmus.choices.rules import Instance, OneOf, Rule, Sizes, Whole

LAYER_SETTINGS = (
    "kernel_size",
    "activation",
    "downsampling",
    "upsampling",
    "n_residual_blocks",
    "initialization",
)


@NETWORKS.register("convolutional")
@dataclass(eq=False, repr=False)
class Convolutional(Network):
    """Convolutions that halve the picture level by level, and mirrored ones that double it again.

    Signals (d,) and images (h, w) or (h, w, c) of any size: inside, they are padded with zeros to a multiple of
    2^levels, and the result is cropped.

    ::

        x ─▶ level 1 ─▶ … ─▶ level L ─▶ head ─▶ h ─▶ z ─▶ head ─▶ level L ─▶ … ─▶ level 1 ─▶ x^
             └─ convolutions, then half the size ─┘              └─ twice the size, then convolutions

    Parameters
    ----------
    channels
        One entry a level: the number of filters of its convolution, or a tuple of several. ``"auto"``: 32, 64, 128, …,
        by the size of the image.
    kernel_size
        Width of all convolutions, odd.
    activation
        After every convolution; None for a linear network.
    downsampling
        ``"strided"``: the last convolution of a level takes every second place; ``"pooled"``: 2×2 maxima after it.
    upsampling
        ``"transposed"`` convolutions, or ``"nearest"``: repeated pixels before an ordinary convolution.
    n_residual_blocks
        Residual blocks (He et al. 2016) at the end of every level, >= 0.
    head
        ``"dense"``: a linear layer between the last level and a code of any size. ``"convolutional"``: the code is a
        small picture itself; its size must be a multiple of the number of places of the last level.
    hidden_sizes
        Widths of dense layers between the last level and the code, and mirrored after it, with ``head="dense"``.
    dimensions
        1 for signals (l,) or (l, c), 2 for images; ``"auto"``: 1 for (d,), else 2.
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
        "dimensions": OneOf(("auto", 1, 2)),
        "initialization": OneOf(tuple(INITIALIZATIONS)),
    }

    def mistakes(self, context: Context | None = None) -> list[str]:
        found = super().mistakes(context)
        if not found and self.kernel_size % 2 == 0:
            found.append(f"Convolutional: kernel_size={self.kernel_size} must be odd, so that a place has a middle.")
        if not found and not _are_levels(self.channels):
            found.append(f"Convolutional: channels={self.channels!r} must be {self.rules['channels']}.")
        return found if found or context is None else self._misfits(context)

    def _misfits(self, context: Context) -> list[str]:
        if self.dimensions == 1 and len(context.feature_shape) > 2:
            return [f"Convolutional: dimensions=1 is for rows of shape (l,) or (l, c), not {context.feature_shape}."]
        if self.dimensions == 2 and len(context.feature_shape) < 2:
            return [f"Convolutional: dimensions=2 needs rows of shape (h, w) or more, not {context.feature_shape}."]
        places = self._frame(context).places
        if self.head == "convolutional" and context.code_size % places:
            text = f"head='convolutional' gives a code of {places} places, but code_size={context.code_size} is no "
            return [f"Convolutional: {text}multiple of {places}; change it, or use head='dense'."]
        return []

    def conflicts(self, context: Context, *, code_width: int, output_width: int) -> list[str]:
        if output_width % context.n_features == 0:
            return []
        return [
            "Convolutional: needs a loss that takes the same number of outputs for each feature; use network='dense'."
        ]

    def resolve(self, context: Context) -> Convolutional:
        if self.channels != "auto":
            return self
        narrowest = min(_size(context, self.dimensions)[0])
        n_levels = min(4, max(1, round(math.log2(narrowest / 5))))
        return self._with(channels=tuple(32 * 2**level for level in range(n_levels)))

    def build(self, context: Context, *, code_width: int, output_width: int) -> Pair:
        frame, made = self._frame(context), self.resolve(context)
        dimensions = 1 if self.dimensions == 1 or len(context.feature_shape) == 1 else 2
        layers = Layers(dimensions, **{name: getattr(made, name) for name in LAYER_SETTINGS})
        stages = _stages(made.channels, frame.n_channels + frame.n_conditions)
        first, last = stages[0], stages[-1]
        output = first._replace(inner=frame.n_channels * (output_width // context.n_features))
        down = [layer for stage in stages for layer in layers.down(stage)]
        up = [layer for stage in (*stages[:0:-1], output) for layer in layers.up(stage)]
        if self.head == "dense":
            given, taken = layers.dense_heads(last.outer, frame, code_width, context.code_size, self.hidden_sizes)
        else:
            given, taken = layers.convolutional_heads(last.outer, frame, code_width, context.code_size)
        open_ended = len(up) if self.activation is None else -1  # the loss has the activation of the output
        return nn.Sequential(ToPicture(frame), *down, *given), nn.Sequential(*taken, *up[:open_ended], ToRow(frame))

    def _frame(self, context: Context) -> Frame:
        size, n_channels = _size(context, self.dimensions)
        return Frame(size, n_channels, len(self.resolve(context).channels), context.n_conditions)


def _are_levels(channels: object) -> bool:
    """Whether these are filters for one level or more."""
    if not isinstance(channels, list | tuple):
        return channels == "auto"
    levels = [level if isinstance(level, list | tuple) else (level,) for level in channels]
    return bool(levels) and all(level and all(Whole(1).admits(width) for width in level) for level in levels)


def _size(context: Context, dimensions: int | str) -> tuple[tuple[int, ...], int]:
    """Length, or height and width, of a row; and its channels."""
    shape = context.feature_shape
    n_dimensions = dimensions if isinstance(dimensions, int) else min(2, len(shape))
    if len(shape) > n_dimensions:
        return shape[:n_dimensions], math.prod(shape[n_dimensions:])
    return shape, 1


def _stages(channels: Any, n_channels: int) -> list[Stage]:
    levels = [level if isinstance(level, list | tuple) else (level,) for level in channels]
    widths = [n_channels, *(width for level in levels for width in level)]
    scales = [index == len(level) - 1 for level in levels for index in range(len(level))]
    return [Stage(*pair, scale) for pair, scale in zip(pairwise(widths), scales, strict=True)]
