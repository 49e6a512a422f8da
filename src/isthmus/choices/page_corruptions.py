"""Corruptions of photographs and scanned pages: scratches, stains, uneven light."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from isthmus.choices.corruptions import CORRUPTIONS, per_row
from isthmus.choices.image_corruptions import IMAGE_RULES, ImageCorruption, draws, highest, whole_numbers
from isthmus.choices.registry import Context
from isthmus.choices.rules import Number, OneOf, Rule, Span, Whole, either

COUNT = Span(Whole(0, 100))
"""The number of marks in an image; it is limited because each takes time."""
SHARE = Span(Number(0.0, 1.0))


@dataclass(frozen=True)
class Plane:
    """The pixels of a batch of images as points, in pixels from the upper left."""

    y: Tensor
    x: Tensor
    """Coordinates, (h, 1) and (1, w)."""

    @classmethod
    def of(cls, images: Tensor) -> Plane:
        """The plane of images, (n, c, h, w)."""
        height, width = (torch.arange(length, device=images.device, dtype=images.dtype) for length in images.shape[2:])
        return cls(height[:, None], width[None])

    @property
    def diagonal(self) -> float:
        """Length of the diagonal."""
        return math.hypot(len(self.y), self.x.shape[1])

    def turned(self, centre: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates along and across a direction, from a centre: shares of the image, (n, 2), and radians, (n,).

        Returns (n, h, w) each.
        """
        y = self.y - (centre[:, :1] * (len(self.y) - 1))[..., None]
        x = self.x - (centre[:, 1:] * (self.x.shape[1] - 1))[..., None]
        sine, cosine = (part[:, None, None] for part in (angle.sin(), angle.cos()))
        return x * cosine + y * sine, y * cosine - x * sine


def spread(span: float | tuple[float, float], draw: Tensor) -> Tensor:
    """Uniform draws from a range (low, high); a number for a number."""
    low, high = span if isinstance(span, list | tuple) else (span, span)
    return low + (high - low) * draw


@CORRUPTIONS.register("scratches")
@dataclass(eq=False, repr=False)
class Scratches(ImageCorruption):
    """Draws straight lines at random places in random directions over an image, with smooth edges.

    All channels of a pixel are painted together.

    Parameters
    ----------
    n_lines
        Number of lines in an image, 0 to 100; a range (low, high): the number of each row is drawn.
    width
        Width of each line in pixels, > 0, or a range.
    length
        Length of each line as a share of the diagonal, in [0, 1], or a range.
    low, high
        The colours, in units of the scaled data: each line has one of the two, with equal probability. ``"auto"``: the
        minimum and the maximum of the scaled data. For white scratches alone give ``low=1.0, high=1.0``.
    image_shape
        Shape of the image in a row, (h, w) or (h, w, c); None: that of the row. Flat rows need it.

    Examples
    --------
    >>> lines = Scratches(1, width=3.0, length=1.0, low=1.0, high=1.0)
    >>> scratched = lines.corrupt(torch.zeros(1, 9, 9), torch.Generator().manual_seed(0))
    >>> bool(scratched.max() == 1.0), bool(scratched.mean() < 0.5)
    (True, True)
    """

    n_lines: int | tuple[int, int] = (1, 5)
    _: KW_ONLY
    width: float | tuple[float, float] = (1.0, 2.0)
    length: float | tuple[float, float] = (0.3, 1.0)
    low: float | str = "auto"
    high: float | str = "auto"

    rules: ClassVar[Mapping[str, Rule]] = {
        **IMAGE_RULES,
        "n_lines": COUNT,
        "width": Span(Number(0.0, open_low=True)),
        "length": SHARE,
        "low": either(Number(), OneOf(("auto",))),
        "high": either(Number(), OneOf(("auto",))),
    }

    def resolve(self, context: Context) -> Scratches:
        low = context.lower if self.low == "auto" else self.low
        high = context.upper if self.high == "auto" else self.high
        return self._with(low=low, high=high)

    def damage(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        plane, damaged = Plane.of(images), images
        count = whole_numbers(self.n_lines, draws(images, generator=generator))
        for k in range(int(highest(self.n_lines))):
            draw = draws(images, 6, generator=generator)
            along, across = plane.turned(draw[:, :2], draw[:, 2] * math.pi)
            half = spread(self.length, draw[:, 3]) * plane.diagonal / 2
            beyond = (along.abs() - half[:, None, None]).clamp(min=0.0)
            reach = spread(self.width, draw[:, 4])[:, None, None] / 2 + 0.5
            cover = (reach - torch.hypot(across, beyond)).clamp(0.0, 1.0)  # (n, h, w)
            cover = (cover * (k < count)[:, None, None])[:, None]
            colour = torch.where(draw[:, 5] < 0.5, float(self.low), float(self.high))[:, None, None, None]
            damaged = damaged + cover * (colour - damaged)
        return damaged


@CORRUPTIONS.register("stains")
@dataclass(eq=False, repr=False)
class Stains(ImageCorruption):
    """Darkens an image with stains like those of a wet cup: ellipses with a dark rim.

    Pixels are multiplied by 1 where there is no stain, and by ``1 - strength`` on a rim, so values stay between 0 and
    what they were. Black must be 0: the data must not be standardised.

    Parameters
    ----------
    n_stains
        Number of stains of an image, 0 to 100; a range (low, high): each row has a number of its own.
    strength
        Share of the light that a rim takes away, in [0, 1], or a range; the middle takes 40 % of that.
    size
        Radius as a share of the shorter side, in [0, 1], or a range.
    image_shape
        Shape of the image in a row, (h, w) or (h, w, c); None: that of the row. Flat rows need it.

    Examples
    --------
    >>> stained = Stains(2, strength=0.5).corrupt(torch.ones(4, 20, 20), torch.Generator().manual_seed(0))
    >>> bool(stained.min() >= 0.25), bool(stained.max() <= 1.0)
    (True, True)
    """

    n_stains: int | tuple[int, int] = (1, 3)
    _: KW_ONLY
    strength: float | tuple[float, float] = (0.2, 0.6)
    size: float | tuple[float, float] = (0.15, 0.5)

    strength_parameter: ClassVar[str] = "strength"
    rules: ClassVar[Mapping[str, Rule]] = {**IMAGE_RULES, "n_stains": COUNT, "strength": SHARE, "size": SHARE}
    rim: ClassVar[float] = 0.08
    """Width of a rim, and of the edge of the middle, as a share of the radius."""
    middle: ClassVar[float] = 0.4
    flattest: ClassVar[float] = 0.7
    """Least ratio of the axes of an ellipse."""

    def mistakes(self, context: Context | None = None) -> list[str]:
        return super().mistakes(context) or self.needs(context, lambda facts: facts.lower >= 0.0, "be >= 0")

    def damage(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        plane, light = Plane.of(images), torch.ones_like(images[:, 0])
        count = whole_numbers(self.n_stains, draws(images, generator=generator))
        for k in range(int(highest(self.n_stains))):
            draw = draws(images, 6, generator=generator)
            along, across = plane.turned(draw[:, :2], draw[:, 2] * math.pi)
            radius = spread(self.size, draw[:, 3]) * min(images.shape[2:])
            ratio = spread((self.flattest, 1.0), draw[:, 4])
            distance = torch.hypot(along, across / ratio[:, None, None]) / radius.clamp(min=0.5)[:, None, None]
            cover = self._cover(distance) * spread(self.strength, draw[:, 5])[:, None, None]
            light = light * (1.0 - cover * (k < count)[:, None, None])
        return images * light[:, None]

    def _cover(self, distance: Tensor) -> Tensor:
        """How dark a stain is at a distance from its centre, in radii: 1 on the rim, 0 outside."""
        rim = torch.exp(-((distance - 1.0) / self.rim).square())
        return torch.maximum(rim, self.middle * torch.sigmoid((1.0 - distance) / self.rim * 4.0))


@CORRUPTIONS.register("uneven-light")
@dataclass(eq=False, repr=False)
class UnevenLight(ImageCorruption):
    """Changes the illumination of an image, as of a page under a lamp: pixels are multiplied by a smooth field.

    The field is 1 at its brightest pixel and ``1 - strength`` at its darkest, and interpolates random values on a
    coarse grid (bicubic). Values are never increased. Black must be 0, so the data must not be standardised.

    Parameters
    ----------
    strength
        Share of the light that the darkest pixel loses, in [0, 1]; a range (low, high): the share of each row is drawn.
    n_waves
        Values of the coarse grid along each side, 2 to 16: 2 is a gradient, larger numbers give more shadows.
    image_shape
        Shape of the image in a row, (h, w) or (h, w, c); None: that of the row. Flat rows need it.

    Examples
    --------
    >>> light = UnevenLight(0.5).corrupt(torch.ones(1, 20, 30), torch.Generator().manual_seed(0))
    >>> round(light.min().item(), 6), round(light.max().item(), 6)
    (0.5, 1.0)
    """

    strength: float | tuple[float, float] = (0.2, 0.7)
    _: KW_ONLY
    n_waves: int = 3

    rules: ClassVar[Mapping[str, Rule]] = {**IMAGE_RULES, "strength": SHARE, "n_waves": Whole(2, 16)}

    def mistakes(self, context: Context | None = None) -> list[str]:
        return super().mistakes(context) or self.needs(context, lambda facts: facts.lower >= 0.0, "be >= 0")

    def damage(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        strength = per_row(self.strength, images, generator)
        coarse = draws(images, 1, self.n_waves, self.n_waves, generator=generator)
        field = functional.interpolate(coarse, size=images.shape[2:], mode="bicubic", align_corners=True)
        ends = field.amin((2, 3), keepdim=True), field.amax((2, 3), keepdim=True)
        shade = (field - ends[0]) / (ends[1] - ends[0]).clamp(min=1e-12)
        return images * (1.0 - strength * shade)
